// One pairwise term of the mean field: its messages. Included by kernels.cpp alone.
#pragma once

#include <algorithm>

#include "filter.h"
#include "kernels.h"
#include "tables.h"
#include "team.h"
#include "vector.h"

namespace getam {
namespace {

constexpr float kLog2E = 1.442695041f;

class Term {
 public:
  // The rows begin with `vectors` vectors, one lane per label.
  Term(const Pairwise& pairwise, int labels, size_t vectors, int threads)
      : tables(pairwise.kernel->lattice, vectors, threads),
        kind_(pairwise.kind),
        before_(factor_before(*pairwise.kernel, false)),
        after_(factor_after(*pairwise.kernel, false)),
        scale_((kind_ == Compatibility::kMatrix ? labels : 1) * vectors) {
    const float* compatibility = pairwise.compatibility;
    const float to_base_2 = slice_scale(tables.lattice);
    float* scale = reinterpret_cast<float*>(scale_.data());
    std::fill_n(scale, scale_.size() * kLanes, 0.0f);
    if (kind_ == Compatibility::kPotts) {
      std::fill_n(scale, vectors * kLanes, kLog2E * *compatibility * to_base_2);
    } else if (kind_ == Compatibility::kDiagonal) {
      for (int l = 0; l < labels; ++l) scale[l] = kLog2E * compatibility[l] * to_base_2;
    } else {
      for (int from = 0; from < labels; ++from) {
        for (int to = 0; to < labels; ++to) {
          scale[from * vectors * kLanes + to] = kLog2E * compatibility[to * labels + from] * to_base_2;
        }
      }
    }
  }

  Tables tables;

  // Whether messages are rows of the table times `scale`, vector by vector.
  bool plain() const { return kind_ != Compatibility::kMatrix && before_ == nullptr && after_ == nullptr; }
  const Vector* scale() const { return scale_.data(); }

  void splat(size_t p, size_t count, const Vector* block) {
    splat_rows(tables, before_, p, count, block);
  }

  // Adds this term's messages to the scores of a block of points.
  void add_messages(size_t p, size_t count, int labels, Vector* scores, Vector* scratch) {
    const size_t row = tables.vectors();
    if (kind_ != Compatibility::kMatrix) {
      slice_rows(tables, after_, p, count, [&](size_t i, size_t piece, const auto& sum) {
        for (size_t w = 0; w < std::size(sum); ++w) {
          scores[i * row + piece + w] += scale_[piece + w] * sum[w];
        }
      });
      return;
    }
    slice_rows(tables, after_, p, count, [&](size_t i, size_t piece, const auto& sum) {
      std::copy(std::begin(sum), std::end(sum), scratch + i * row + piece);
    });
    for (size_t i = 0; i < count; ++i) {
      const float* filtered = reinterpret_cast<const float*>(scratch + i * row);
      for (int from = 0; from < labels; ++from) {
        const Vector value = getam::splat(filtered[from]);
        for (size_t v = 0; v < row; ++v) scores[i * row + v] += scale_[from * row + v] * value;
      }
    }
  }

 private:
  const Compatibility kind_;
  const float* before_;
  const float* after_;
  Array<Vector> scale_;  // (vectors), or of a matrix (labels from, vectors)
};

}  // namespace
}  // namespace getam
