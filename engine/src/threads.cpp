#include "threads.h"

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>

namespace bcdzoo {
namespace {

std::mutex everybodys;
void lock() { everybodys.lock(); }
void unlock() { everybodys.unlock(); }
[[maybe_unused]] const int registered = pthread_atfork(lock, unlock, unlock);

}  // namespace

std::mutex& fork_safe() { return everybodys; }

void Barrier::wait() {
  if (threads_ == 1) return;
  const int round = round_.load(std::memory_order_relaxed);
  if (waiting_.fetch_add(1, std::memory_order_acq_rel) == threads_ - 1) {
    waiting_.store(0, std::memory_order_relaxed);
    {
      const std::lock_guard<std::mutex> lock(mutex_);  // nobody is between looking and sleeping
      round_.store(round + 1, std::memory_order_release);
    }
    if (sleeping_.load(std::memory_order_acquire)) all_here_.notify_all();
    return;
  }
  constexpr auto kSpin = std::chrono::microseconds(100);  // beyond that another thread does not run at all
  const auto start = std::chrono::steady_clock::now();
  do {
    for (int look = 0; look < 100; ++look)
      if (round_.load(std::memory_order_acquire) != round) return;
  } while (std::chrono::steady_clock::now() - start < kSpin);
  std::unique_lock<std::mutex> lock(mutex_);
  ++sleeping_;
  all_here_.wait(lock, [&] { return round_.load(std::memory_order_acquire) != round; });
  --sleeping_;
}

Pool& Pool::instance() {
  static Pool* pool = nullptr;  // never destroyed: its threads wait until the process ends
  static pid_t owner = 0;
  const std::lock_guard<std::mutex> lock(fork_safe());
  if (owner != getpid()) {
    pool = new Pool;
    owner = getpid();
  }
  return *pool;
}

int Pool::processors() { return std::clamp(static_cast<int>(std::thread::hardware_concurrency()), 1, kMost); }

void Pool::grow(int threads) {
  while (static_cast<int>(threads_.size()) < threads - 1) {
    const int number = static_cast<int>(threads_.size()) + 1;
    threads_.emplace_back([this, number] { serve(number); });
    threads_.back().detach();
  }
}

void Pool::run(int threads, const std::function<void(int)>& job) {
  if (threads <= 1) {
    job(0);
    return;
  }
  const std::lock_guard<std::mutex> one(one_job_);
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    grow(threads);
    job_ = &job;
    wanted_ = threads;
    running_ = threads - 1;
    ++generation_;
  }
  work_.notify_all();
  job(0);
  std::unique_lock<std::mutex> lock(mutex_);
  done_.wait(lock, [this] { return running_ == 0; });
  job_ = nullptr;
}

void Pool::serve(int number) {
  try {  // a thread's first exception needs memory, and where there is none glibc ends the process: so it is thrown now
    throw 0;
  } catch (int) {
  }
  uint64_t seen = 0;
  for (;;) {
    const std::function<void(int)>* job;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      work_.wait(lock, [&] { return generation_ != seen && job_ && number < wanted_; });
      seen = generation_;
      job = job_;
    }
    (*job)(number);
    const std::lock_guard<std::mutex> lock(mutex_);
    if (--running_ == 0) done_.notify_one();
  }
}

}  // namespace bcdzoo
