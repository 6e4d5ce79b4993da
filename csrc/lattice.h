// The permutohedral lattice (Adams, Baek and Davis, Fast High-Dimensional Filtering Using the Permutohedral Lattice,
// 2010): where points lie in it and which of its vertices are neighbours.
#pragma once

#include <cstdint>
#include <vector>

#include "memory.h"

namespace getam {

// The coordinates of points in units of the standard deviation. The points are the pixels of an image, or a list, which
// is an image of one row.
struct Features {
  int height;
  int width;
  bool positions;  // the first two coordinates are x / sigma_x and y / sigma_y
  float sigma_x;
  float sigma_y;
  int channels;         // the other coordinates
  const float* planes;  // (channels, height, width)
  const float* sigmas;  // (channels): what each plane is divided by

  size_t points() const { return size_t(height) * width; }
  int dimensions() const { return 2 * positions + channels; }
};

// The vertices that have a neighbour along one direction of the blur, as chains of neighbours; the first vertex v of
// each chain is written ~v.
struct Chains {
  Array<int32_t> links;
  size_t size = 0;
};

// A lattice and its interpolation. Points are listed tile by tile, in an order that depends on the image's size alone,
// so that lattices of different dimension can be read side by side.
struct Lattice {
  int dimensions = 0;
  size_t vertices = 0;
  Array<int32_t> pixel;    // (points): position in the list -> index in the image
  Array<uint32_t> vertex;  // (points, corners), in the list's order: the corners of the simplex around the point
  Array<float> weight;     // (points, corners): barycentric coordinates
  std::vector<Chains> directions;

  size_t points() const { return pixel.size(); }
  int corners() const { return dimensions + 1; }
};

// The most coordinates of a point.
constexpr int kMostDimensions = 128;

// Builds the lattice with `threads` threads; the result does not depend on their number. Throws std::invalid_argument
// where the points are too many, or spread too far in units of sigma.
Lattice build_lattice(const Features& features, int threads);

}  // namespace getam
