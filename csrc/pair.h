// The usual pair of terms, a kernel in five dimensions beside one in two, in one loop: each point's rows of both are on
// their way from memory at the same time. Included by kernels.cpp alone.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "tables.h"
#include "team.h"
#include "term.h"
#include "vector.h"

namespace getam {
namespace {

class Pair {
 public:
  // Whether these terms are such a pair, in either order, with nothing but weights in the way.
  explicit Pair(std::vector<Term>& terms) {
    if (terms.size() != 2 || !terms[0].plain() || !terms[1].plain()) return;
    for (int first = 0; first < 2; ++first) {
      if (terms[first].tables.lattice.dimensions == 5 && terms[1 - first].tables.lattice.dimensions == 2) {
        five_ = &terms[first];
        two_ = &terms[1 - first];
      }
    }
  }

  explicit operator bool() const { return five_ != nullptr; }

  // scores = unary + the messages of both.
  void add_messages(size_t p, size_t count, const Vector* unary, Vector* scores) {
    const size_t row = five_->tables.vectors();
    const bool far = five_->tables.exceeds_cache();
    const Corners corners(*five_, *two_);
    in_pieces(row, [&](auto width, size_t piece) {
      const Vector* five = five_->tables.read(piece);
      const Vector* two = two_->tables.read(piece);
      Vector five_scale[width];
      Vector two_scale[width];
      std::copy_n(five_->scale() + piece, int(width), five_scale);
      std::copy_n(two_->scale() + piece, int(width), two_scale);
      for (size_t i = 0; i < count; ++i) {
        const size_t at = p + i;
        if (far) prefetch_corners<width>(kSix, corners.soon(at), five);
        // Rows of the unary scores come from main memory once an iteration. The last ones ask for what is behind the
        // array, which a processor ignores.
        prefetch_far(unary + i * row + piece, row * sizeof(Vector));
        Vector x[width] = {};
        Vector y[width] = {};
        gather(kSix, corners.five + at * 6, corners.five_weight + at * 6, five, x);
        gather(kThree, corners.two + at * 3, corners.two_weight + at * 3, two, y);
        for (int w = 0; w < width; ++w) {
          scores[i * row + piece + w] = unary[i * row + piece + w] + five_scale[w] * x[w] + two_scale[w] * y[w];
        }
      }
    });
  }

  void splat(size_t p, size_t count, const Vector* block) {
    const size_t row = five_->tables.vectors();
    const bool far = five_->tables.exceeds_cache();
    const Corners corners(*five_, *two_);
    in_pieces(row, [&](auto width, size_t piece) {
      Vector* five = five_->tables.written(piece);
      Vector* two = two_->tables.written(piece);
      for (size_t i = 0; i < count; ++i) {
        const size_t at = p + i;
        if (far) prefetch_corners<width>(kSix, corners.soon(at), five);
        Vector value[width];
        std::copy_n(block + i * row + piece, int(width), value);
        scatter(kSix, corners.five + at * 6, corners.five_weight + at * 6, five, value);
        scatter(kThree, corners.two + at * 3, corners.two_weight + at * 3, two, value);
      }
    });
  }

 private:
  // Asks for the row that is as many points ahead as it takes to arrive.
  GETAM_INLINE static void prefetch_far(const void* row, size_t bytes) {
    constexpr uintptr_t kPoints = 64;
    const uintptr_t at = reinterpret_cast<uintptr_t>(row) + kPoints * bytes;
    __builtin_prefetch(reinterpret_cast<const void*>(at), 0);
    if (bytes > 64) __builtin_prefetch(reinterpret_cast<const void*>(at + 64), 0);
  }

  static constexpr std::integral_constant<int, 6> kSix{};
  static constexpr std::integral_constant<int, 3> kThree{};

  struct Corners {
    Corners(const Term& a, const Term& b)
        : five(a.tables.rows.corners()),
          two(b.tables.rows.corners()),
          five_weight(a.tables.lattice.weight.data()),
          two_weight(b.tables.lattice.weight.data()),
          last(a.tables.lattice.points() - 1) {}

    const uint32_t* soon(size_t at) const { return five + std::min(at + kAhead, last) * 6; }

    const uint32_t* five;
    const uint32_t* two;
    const float* five_weight;
    const float* two_weight;
    size_t last;
  };

  Term* five_ = nullptr;
  Term* two_ = nullptr;
};

}  // namespace
}  // namespace getam
