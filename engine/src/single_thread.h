// What threads.h has, where there are no threads: a job's only one is the caller's.
#pragma once

#include <functional>
#include <mutex>

namespace bcdzoo {

struct Barrier {
  explicit Barrier(int) {}
  void wait() {}
};

struct NoMutex {
  void lock() {}
  void unlock() {}
};
inline NoMutex& fork_safe() {
  static NoMutex nobody;
  return nobody;
}

struct Failure {
  template <class Job>
  void guard(const Job& job) {
    job();
  }
  void rethrow() const {}
};

struct Pool {
  static constexpr int kMost = 1;
  static int processors() { return 1; }
  static Pool& instance() {
    static Pool pool;
    return pool;
  }
  void run(int, const std::function<void(int)>& job) { job(0); }
};

}  // namespace bcdzoo
