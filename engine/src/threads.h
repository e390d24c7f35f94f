// Threads that wait for work; one job at a time, with a barrier inside it.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace bcdzoo {

// All threads of a job meet here; short waits spin, long ones sleep.
class Barrier {
 public:
  explicit Barrier(int threads) : threads_(threads) {}
  void wait();

 private:
  const int threads_;
  std::atomic<int> waiting_{0}, round_{0}, sleeping_{0};
  std::mutex mutex_;
  std::condition_variable all_here_;
};

class Pool {
 public:
  // The process's pool; a forked process gets one of its own, for threads do not survive a fork.
  static Pool& instance();
  // Calls job(0) here and job(1) … job(threads - 1) in other threads, and waits for all; a thread may call it at a time.
  void run(int threads, const std::function<void(int)>& job);

 private:
  void grow(int threads);
  void serve(int number);
  std::mutex one_job_, mutex_;
  std::condition_variable work_, done_;
  std::vector<std::thread> threads_;
  const std::function<void(int)>* job_ = nullptr;
  int wanted_ = 0, running_ = 0;
  uint64_t generation_ = 0;
};

}  // namespace bcdzoo
