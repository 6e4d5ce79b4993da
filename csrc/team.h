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
  };

  Member(Shared& shared, int index) : shared_(shared), index_(index) {}

  int index() const { return index_; }
  int size() const { return shared_.size; }

  // Returns when every member has called it. Members busy-wait: the steps between barriers take microseconds.
  void barrier() {
    const unsigned generation = shared_.generation.load();
    if (shared_.waiting.fetch_add(1) + 1 == shared_.size) {
      shared_.waiting.store(0);
      shared_.generation.fetch_add(1);
      return;
    }
    while (shared_.generation.load() == generation) std::this_thread::yield();
  }

  // This member's share of 0 .. count - 1, in consecutive pieces.
  std::pair<size_t, size_t> share(size_t count) const {
    return {count * index_ / shared_.size, count * (index_ + 1) / shared_.size};
  }

 private:
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
