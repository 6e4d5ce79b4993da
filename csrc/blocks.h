// Pixels in small blocks, and their values between planes and rows of vectors. Included by kernels.cpp alone.
#pragma once

#include <algorithm>

#include "team.h"
#include "vector.h"

namespace getam {
namespace {

// Pixels that pass through all steps while they are in the first-level cache.
constexpr size_t kBlock = 32;

size_t vectors_for(int channels) { return (channels + kLanes - 1) / kLanes; }

// planes[lane] at some pixels -> rows of vectors, 0 in the lanes beyond the last plane.
inline void load_block(const float* const* planes, size_t lanes, const int32_t* pixel, size_t count, size_t vectors,
                       Vector* block) {
  float* row = reinterpret_cast<float*>(block);
  const size_t stride = vectors * kLanes;
  for (size_t lane = 0; lane < stride; ++lane) {
    for (size_t p = 0; p < count; ++p) row[p * stride + lane] = lane < lanes ? planes[lane][pixel[p]] : 0;
  }
}

// The way back, for the lanes that have a plane.
inline void store_block(const Vector* block, size_t vectors, const int32_t* pixel, size_t count, size_t lanes,
                        float* const* planes) {
  const float* row = reinterpret_cast<const float*>(block);
  for (size_t lane = 0; lane < lanes; ++lane) {
    for (size_t p = 0; p < count; ++p) planes[lane][pixel[p]] = row[p * vectors * kLanes + lane];
  }
}

// Calls f(p, count) for blocks of this member's share of the pixels.
template <typename F>
void for_blocks(const Member& member, size_t pixels, F f) {
  const auto [first, last] = member.share(pixels);
  for (size_t p = first; p < last; p += kBlock) f(p, std::min(kBlock, last - p));
}

}  // namespace
}  // namespace getam
