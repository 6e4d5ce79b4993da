// The permutohedral lattice (Adams, Baek and Davis, Fast High-Dimensional Filtering Using the Permutohedral Lattice,
// 2010): where the pixels of one image lie in it and which of its vertices are neighbours.
#pragma once

#include <array>
#include <cstdint>

#include "memory.h"

namespace getam {

// The coordinates of a pixel: (x, y) / sigma_xy and, in five dimensions, (r, g, b) / sigma_rgb.
struct Image {
  int height;
  int width;
  const float* rgb;  // (3, height, width); unused in two dimensions
  float sigma_xy;
  float sigma_rgb;

  size_t pixels() const { return size_t(height) * width; }
};

// The vertices that have a neighbour along one direction of the blur, as chains of neighbours; the first vertex v of
// each chain is written ~v.
struct Chains {
  Array<int32_t> links;
  size_t size = 0;
};

// The lattice of one image in D dimensions, and its interpolation. Pixels are listed tile by tile, in an order that
// depends on the image's size alone, so that lattices of different dimension can be read side by side.
template <int D>
struct Lattice {
  static constexpr int kCorners = D + 1;

  size_t vertices = 0;
  Array<int32_t> pixel;    // (pixels): position in the list -> index in the image
  Array<uint32_t> vertex;  // (pixels, D + 1), in the list's order: the corners of the simplex around the pixel
  Array<float> weight;     // (pixels, D + 1): barycentric coordinates
  std::array<Chains, D + 1> directions;
};

// Builds the lattice with `threads` threads; the result does not depend on their number. Throws std::invalid_argument
// where the image is too large in units of sigma.
template <int D>
Lattice<D> build_lattice(const Image& image, int threads);

extern template Lattice<2> build_lattice<2>(const Image&, int);
extern template Lattice<5> build_lattice<5>(const Image&, int);

}  // namespace getam
