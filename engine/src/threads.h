// Threads that wait for work; one job at a time, with a barrier inside it.
#pragma once

#ifdef BCDZOO_SINGLE_THREAD
#include "single_thread.h"
#else

#include <atomic>
#include <condition_variable>
#include <exception>
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

// A lock that is free in a forked process, whatever other threads did: held briefly, and by everybody.
std::mutex& fork_safe();

// The first that is thrown by any of several threads.
class Failure {
 public:
  template <class Job>
  void guard(const Job& job) noexcept {
    try {
      job();
    } catch (...) {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (!first_) first_ = std::current_exception();
    }
  }
  void rethrow() const {
    if (first_) std::rethrow_exception(first_);
  }

 private:
  std::mutex mutex_;
  std::exception_ptr first_;
};

class Pool {
 public:
  static constexpr int kMost = 1024;  // threads
  // How many can run at the same time.
  static int processors();
  // The process's pool; a forked process gets one of its own, because threads do not survive a fork.
  static Pool& instance();
  // Calls job(0) here and job(1) … job(threads - 1) in other threads, and waits for all; a thread may call it at a
  // time. A job throws nothing. Throws std::system_error if there are no more threads.
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

#endif
