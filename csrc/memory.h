// Memory that is neither initialised nor shared between cache lines of two owners.
#pragma once

#include <stdlib.h>
#include <sys/mman.h>

#include <cstddef>
#include <new>
#include <utility>

namespace getam {

// An owning array of trivial elements, aligned for any vector register, with undefined contents.
template <typename T>
class Array {
 public:
  Array() = default;
  explicit Array(size_t size) : size_(size) {
    const size_t bytes = (size * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
    void* data = nullptr;
    const bool large = bytes >= kLargePage;
    if (posix_memalign(&data, large ? kLargePage : kAlignment, bytes > 0 ? bytes : kAlignment) != 0) {
      throw std::bad_alloc();
    }
#if defined(MADV_HUGEPAGE)
    // Large pages need fewer page faults and translations. Where the system has none to give, nothing changes.
    if (large) madvise(data, bytes, MADV_HUGEPAGE);
#endif
    data_ = static_cast<T*>(data);
  }
  Array(Array&& other) noexcept : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Array& operator=(Array&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~Array() { free(data_); }

  T* data() { return data_; }
  const T* data() const { return data_; }
  size_t size() const { return size_; }
  T& operator[](size_t i) { return data_[i]; }
  const T& operator[](size_t i) const { return data_[i]; }

 private:
  static constexpr size_t kAlignment = 64;
  static constexpr size_t kLargePage = size_t(2) << 20;
  T* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace getam
