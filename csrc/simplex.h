// Where a point lies in the lattice: its simplex and its barycentric coordinates. Included by lattice.cpp alone.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "lattice.h"

namespace getam {
namespace {

// The simplices around points: each has a remainder-0 vertex and the permutation that leads to the other corners.
struct Simplices {
  Simplices(size_t points, int dimensions)
      : dimensions(dimensions), origins(points * dimensions), orders(points * (dimensions + 1)) {}

  // The first D coordinates of the remainder-0 vertex; all D + 1 sum to zero.
  int32_t* origin(size_t point) { return &origins[point * dimensions]; }
  // The coordinate with the r-th largest remainder.
  uint8_t* by_rank(size_t point) { return &orders[point * (dimensions + 1)]; }

  bool equal(size_t a, size_t b) {
    // A loop: for so few numbers the standard library's comparison of memory takes longer.
    const int32_t* first = origin(a);
    const int32_t* second = origin(b);
    for (int i = 0; i < dimensions; ++i) {
      if (first[i] != second[i]) return false;
    }
    const uint8_t* first_order = by_rank(a);
    const uint8_t* second_order = by_rank(b);
    for (int i = 0; i <= dimensions; ++i) {
      if (first_order[i] != second_order[i]) return false;
    }
    return true;
  }

  const int dimensions;
  Array<int32_t> origins;
  Array<uint8_t> orders;
};

// kD: the number of dimensions, or 0 if it is known at run time only.
template <int kD>
class Embedding {
 public:
  explicit Embedding(const Features& features) : features_(features), dimensions_(features.dimensions()) {
    // The scale at which a blur with (1/2, 1, 1/2) along every direction is a Gaussian of variance 1 in the features.
    for (int i = 0; i < d(); ++i) {
      scale_[i] = float(std::sqrt(2.0 / 3.0) * (d() + 1) / std::sqrt(double((i + 1) * (i + 2))));
    }
  }

  // Finds the simplex around a pixel and its barycentric coordinates in it (sections 3.1 and 3.2 of the article).
  void locate(int32_t pixel, int32_t* simplex_origin, uint8_t* by_rank, float* weight) const {
    float feature[kSize];
    read(pixel, feature);
    float elevated[kSize + 1];
    float sum = 0;
    for (int i = d() - 1; i >= 0; --i) {
      const float scaled = feature[i] * scale_[i];
      elevated[i + 1] = sum - (i + 1) * scaled;
      sum += scaled;
    }
    elevated[0] = sum;

    // The nearest point whose coordinates are multiples of D + 1; their sum may miss zero, which the ranks correct.
    const float inverse = 1.0f / (d() + 1);
    int32_t origin[kSize + 1];
    int rank[kSize + 1] = {};
    int excess = 0;
    for (int i = 0; i <= d(); ++i) {
      const int rounded = int(std::lrint(elevated[i] * inverse));
      origin[i] = rounded * (d() + 1);
      excess += rounded;
    }
    for (int i = 0; i < d(); ++i) {
      for (int j = i + 1; j <= d(); ++j) {
        const bool less = elevated[i] - origin[i] < elevated[j] - origin[j];
        ++rank[less ? i : j];
      }
    }
    float remainder[kSize + 1];
    for (int i = 0; i <= d(); ++i) {
      rank[i] += excess;
      if (rank[i] < 0) {
        rank[i] += d() + 1;
        origin[i] += d() + 1;
      } else if (rank[i] > d()) {
        rank[i] -= d() + 1;
        origin[i] -= d() + 1;
      }
      by_rank[rank[i]] = uint8_t(i);
      remainder[rank[i]] = (elevated[i] - origin[i]) * inverse;
    }
    std::copy(origin, origin + d(), simplex_origin);
    weight[0] = 1 + remainder[d()] - remainder[0];
    for (int r = 0; r < d(); ++r) weight[d() - r] = remainder[r] - remainder[r + 1];
  }

 private:
  static constexpr int kSize = kD > 0 ? kD : kMostDimensions;
  int d() const { return kD > 0 ? kD : dimensions_; }

  void read(int32_t pixel, float* feature) const {
    int i = 0;
    if (kD != 1 && features_.positions) {
      const int32_t y = pixel / features_.width;
      feature[i++] = float(pixel - y * features_.width) / features_.sigma_x;
      feature[i++] = float(y) / features_.sigma_y;
    }
    const float* value = features_.planes + pixel;
    for (int c = 0; i < d(); ++i, ++c, value += features_.points()) feature[i] = *value / features_.sigmas[c];
  }

  const Features& features_;
  const int dimensions_;
  float scale_[kSize];
};

}  // namespace
}  // namespace getam
