// Threads that work on one task in step: every member runs the same function and meets the others at barriers.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace getam {

// One member's view of its team.
class Member {
 public:
  struct Shared {
    explicit Shared(int size) : size(size) {}
    const int size;
    std::atomic<int> waiting{0};
    std::atomic<unsigned> generation{0};
    std::atomic<int> asleep{0};
    std::mutex mutex;
    std::condition_variable next_generation;
  };

  Member(Shared& shared, int index) : shared_(shared), index_(index) {}

  int index() const { return index_; }
  int size() const { return shared_.size; }

  // Returns when every member has called it. Members busy-wait for a moment, as the steps between barriers take
  // microseconds, and then sleep: the member that they wait for may need their processor.
  void barrier() {
    const unsigned generation = shared_.generation.load();
    if (shared_.waiting.fetch_add(1) + 1 == shared_.size) {
      shared_.waiting.store(0);
      shared_.generation.fetch_add(1);
      if (shared_.asleep.load() > 0) {
        // A member that has seen the old generation with the mutex held is asleep once the mutex is free.
        { const std::lock_guard<std::mutex> lock(shared_.mutex); }
        shared_.next_generation.notify_all();
      }
      return;
    }
    for (int i = 0; i < kSpins; ++i) {
      if (shared_.generation.load() != generation) return;
      pause();
    }
    std::unique_lock<std::mutex> lock(shared_.mutex);
    shared_.asleep.fetch_add(1);
    shared_.next_generation.wait(lock, [&] { return shared_.generation.load() != generation; });
    shared_.asleep.fetch_sub(1);
  }

  // This member's share of 0 .. count - 1, in consecutive pieces.
  std::pair<size_t, size_t> share(size_t count) const {
    return {count * index_ / shared_.size, count * (index_ + 1) / shared_.size};
  }

 private:
  // Some tens of microseconds.
  static constexpr int kSpins = 1000;

  // Tells the processor that this is a loop that waits.
  static void pause() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("isb" ::: "memory");
#else
    std::this_thread::yield();
#endif
  }

  Shared& shared_;
  const int index_;
};

// Runs work(member) in `size` threads, including the caller's, and returns when all have finished. The work must not
// throw: its memory is allocated before. Throws std::system_error, without running anything, if threads cannot start.
inline void run_team(int size, const std::function<void(Member&)>& work) {
  Member::Shared shared(size);
  enum { kUndecided, kGo, kGiveUp } decision = kUndecided;
  std::mutex mutex;
  std::condition_variable decided;
  const auto decide = [&](auto value) {
    {
      const std::lock_guard<std::mutex> lock(mutex);
      decision = value;
    }
    decided.notify_all();
  };
  std::vector<std::thread> threads;
  const auto join = [&] {
    for (std::thread& thread : threads) thread.join();
  };
  try {
    for (int i = 1; i < size; ++i) {
      threads.emplace_back([&, i] {
        {
          std::unique_lock<std::mutex> lock(mutex);
          decided.wait(lock, [&] { return decision != kUndecided; });
        }
        if (decision == kGiveUp) return;
        Member member(shared, i);
        work(member);
      });
    }
  } catch (...) {
    decide(kGiveUp);
    join();
    throw;
  }
  decide(kGo);
  Member member(shared, 0);
  work(member);
  join();
}

}  // namespace getam
