// Compiled once, without contraction of a * b + c: pixels often lie exactly on a face of the lattice, where the last
// bit decides which vertices exist, and every machine has to decide the same.
#include "lattice.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <stdexcept>
#include <vector>

#include "team.h"

namespace getam {
namespace {

// Side of the square tiles in which pixels are visited: what lies close in the image is close in the lattice.
constexpr int kTile = 32;

Array<int32_t> visiting_order(int height, int width) {
  Array<int32_t> order(size_t(height) * width);
  size_t n = 0;
  for (int top = 0; top < height; top += kTile) {
    for (int left = 0; left < width; left += kTile) {
      for (int y = top; y < std::min(height, top + kTile); ++y) {
        for (int x = left; x < std::min(width, left + kTile); ++x) order[n++] = y * width + x;
      }
    }
  }
  return order;
}

// The simplex around a pixel: its remainder-0 vertex and the permutation that leads to the others.
template <int D>
struct Simplex {
  int32_t origin[D];     // the first D coordinates; all D + 1 sum to zero
  uint8_t by_rank[D + 1];  // coordinate with the r-th largest remainder

  bool operator==(const Simplex& other) const {
    return std::equal(origin, origin + D, other.origin) && std::equal(by_rank, by_rank + D + 1, other.by_rank);
  }
};

// A vertex as one number: its first D coordinates, each in as many bits as this image needs.
template <int D>
class Packing {
 public:
  Packing(const std::array<int32_t, D>& lowest, const std::array<int32_t, D>& highest) {
    int bits = 0;
    for (int i = 0; i < D; ++i) {
      // Corners lie up to D + 1 beyond the origins, and their neighbours as far again.
      offset_[i] = lowest[i] - 2 * (D + 1);
      const int64_t values = int64_t(highest[i]) - lowest[i] + 4 * (D + 1) + 1;
      unit_[i] = uint64_t(1) << bits;
      for (int64_t most = 1; most < values; most *= 2) ++bits;
      if (bits > 63) throw std::invalid_argument("sigma is too small: the lattice would need more than 2^63 vertices");
    }
    uint64_t ones = 0;
    for (int i = 0; i < D; ++i) ones += unit_[i];
    for (int i = 0; i < D; ++i) step_[i] = ones - (D + 1) * unit_[i];
    step_[D] = ones;
  }

  uint64_t pack(const int32_t* coordinates) const {
    uint64_t key = 0;
    for (int i = 0; i < D; ++i) key += uint64_t(int64_t(coordinates[i]) - offset_[i]) * unit_[i];
    return key;
  }

  // The increment of a key for one step along direction i: +1 everywhere, and -(D + 1) at coordinate i.
  uint64_t step(int i) const { return step_[i]; }

 private:
  std::array<int64_t, D> offset_;
  std::array<uint64_t, D> unit_;
  std::array<uint64_t, D + 1> step_;
};

// Numbers the vertices in the order in which they are first met.
class VertexTable {
 public:
  explicit VertexTable(size_t expected) {
    int bits = 10;
    while ((size_t(1) << bits) < 2 * expected) ++bits;
    resize(bits);
  }

  uint32_t find_or_add(uint64_t key) {
    size_t slot = first_slot(key);
    for (; numbers_[slot] >= 0; slot = (slot + 1) & mask_) {
      if (slots_[slot] == key) return numbers_[slot];
    }
    slots_[slot] = key;
    numbers_[slot] = int32_t(keys_.size());
    keys_.push_back(key);
    if (2 * keys_.size() > mask_) grow();
    return uint32_t(keys_.size() - 1);
  }

  // -1 where there is no such vertex.
  int32_t find(uint64_t key) const {
    size_t slot = first_slot(key);
    for (; numbers_[slot] >= 0; slot = (slot + 1) & mask_) {
      if (slots_[slot] == key) break;
    }
    return numbers_[slot];
  }

  const std::vector<uint64_t>& keys() const { return keys_; }

 private:
  size_t first_slot(uint64_t key) const { return ((key ^ (key >> 29)) * 0x9E3779B97F4A7C15u) >> shift_; }

  void resize(int bits) {
    slots_.assign(size_t(1) << bits, 0);
    numbers_.assign(size_t(1) << bits, -1);
    mask_ = (size_t(1) << bits) - 1;
    shift_ = 64 - bits;
  }

  void grow() {
    resize(64 - shift_ + 1);
    for (size_t i = 0; i < keys_.size(); ++i) {
      size_t slot = first_slot(keys_[i]);
      while (numbers_[slot] >= 0) slot = (slot + 1) & mask_;
      slots_[slot] = keys_[i];
      numbers_[slot] = int32_t(i);
    }
  }

  std::vector<uint64_t> slots_;
  std::vector<int32_t> numbers_;
  std::vector<uint64_t> keys_;
  size_t mask_ = 0;
  int shift_ = 0;
};

template <int D>
struct Embedding {
  explicit Embedding(const Image& image) : image(image) {
    // The scale at which a blur with (1/2, 1, 1/2) along every direction is a Gaussian of variance 1 in the features.
    for (int i = 0; i < D; ++i) {
      scale[i] = float(std::sqrt(2.0 / 3.0) * (D + 1) / std::sqrt(double((i + 1) * (i + 2))));
    }
  }

  // Finds the simplex around a pixel and its barycentric coordinates in it (sections 3.1 and 3.2 of the article).
  void locate(int32_t pixel, Simplex<D>& simplex, float* weight) const {
    const int32_t y = pixel / image.width;
    float feature[D] = {float(pixel - y * image.width) / image.sigma_xy, float(y) / image.sigma_xy};
    for (int i = 2; i < D; ++i) feature[i] = image.rgb[(i - 2) * image.pixels() + pixel] / image.sigma_rgb;

    float elevated[D + 1];
    float sum = 0;
    for (int i = D - 1; i >= 0; --i) {
      const float scaled = feature[i] * scale[i];
      elevated[i + 1] = sum - (i + 1) * scaled;
      sum += scaled;
    }
    elevated[0] = sum;

    // The nearest point whose coordinates are multiples of D + 1; their sum may miss zero, which the ranks correct.
    int32_t origin[D + 1];
    int rank[D + 1] = {};
    int excess = 0;
    for (int i = 0; i <= D; ++i) {
      const int rounded = int(std::lrint(elevated[i] * (1.0f / (D + 1))));
      origin[i] = rounded * (D + 1);
      excess += rounded;
    }
    for (int i = 0; i < D; ++i) {
      for (int j = i + 1; j <= D; ++j) {
        const bool less = elevated[i] - origin[i] < elevated[j] - origin[j];
        ++rank[less ? i : j];
      }
    }
    float remainder[D + 1];
    for (int i = 0; i <= D; ++i) {
      rank[i] += excess;
      if (rank[i] < 0) {
        rank[i] += D + 1;
        origin[i] += D + 1;
      } else if (rank[i] > D) {
        rank[i] -= D + 1;
        origin[i] -= D + 1;
      }
      simplex.by_rank[rank[i]] = uint8_t(i);
      remainder[rank[i]] = (elevated[i] - origin[i]) * (1.0f / (D + 1));
    }
    std::copy(origin, origin + D, simplex.origin);
    weight[0] = 1 + remainder[D] - remainder[0];
    for (int r = 0; r < D; ++r) weight[D - r] = remainder[r] - remainder[r + 1];
  }

  const Image& image;
  float scale[D];
};

// Throws where the geometry would not be exact enough in single precision, or the vertices too many for 32 bits.
void check_range(const Image& image, int dimensions) {
  if (image.pixels() > size_t(std::numeric_limits<int32_t>::max()) / (dimensions + 1)) {
    throw std::invalid_argument("the image has too many pixels");
  }
  const auto check = [](float feature) {
    if (!(std::fabs(feature) < float(1 << 17))) {
      throw std::invalid_argument("sigma is too small for an image of this range");
    }
  };
  check(float(std::max(image.height, image.width)) / image.sigma_xy);
  if (dimensions == 2) return;
  for (size_t i = 0; i < 3 * image.pixels(); ++i) check(image.rgb[i] / image.sigma_rgb);
}

// Writes the chains of one direction; `next` and `has_previous` are scratch for all vertices.
void link(const VertexTable& table, uint64_t step, int32_t* next, uint8_t* has_previous, Chains& chains) {
  const std::vector<uint64_t>& keys = table.keys();
  const int32_t vertices = int32_t(keys.size());
  std::fill_n(has_previous, vertices, uint8_t(0));
  for (int32_t v = 0; v < vertices; ++v) {
    next[v] = table.find(keys[v] + step);
    if (next[v] >= 0) has_previous[next[v]] = 1;
  }
  for (int32_t v = 0; v < vertices; ++v) {
    if (has_previous[v] || next[v] < 0) continue;
    chains.links[chains.size++] = ~v;
    for (int32_t w = next[v]; w >= 0; w = next[w]) chains.links[chains.size++] = w;
  }
}

}  // namespace

template <int D>
Lattice<D> build_lattice(const Image& image, int threads) {
  check_range(image, D);
  const size_t pixels = image.pixels();
  const Embedding<D> embedding(image);
  Lattice<D> lattice;
  lattice.pixel = visiting_order(image.height, image.width);
  lattice.vertex = Array<uint32_t>(pixels * (D + 1));
  lattice.weight = Array<float>(pixels * (D + 1));

  Array<Simplex<D>> simplices(pixels);
  run_team(threads, [&](Member& member) {
    const auto [first, last] = member.share(pixels);
    for (size_t p = first; p < last; ++p) {
      embedding.locate(lattice.pixel[p], simplices[p], &lattice.weight[p * (D + 1)]);
    }
  });

  std::array<int32_t, D> lowest = {};
  std::array<int32_t, D> highest = {};
  for (size_t p = 0; p < pixels; ++p) {
    for (int i = 0; i < D; ++i) {
      lowest[i] = std::min(lowest[i], simplices[p].origin[i]);
      highest[i] = std::max(highest[i], simplices[p].origin[i]);
    }
  }
  const Packing<D> packing(lowest, highest);
  VertexTable table(pixels / 2);
  for (size_t p = 0; p < pixels; ++p) {
    uint32_t* corner = &lattice.vertex[p * (D + 1)];
    if (p > 0 && simplices[p] == simplices[p - 1]) {
      std::copy(corner - (D + 1), corner, corner);
      continue;
    }
    uint64_t key = packing.pack(simplices[p].origin);
    corner[0] = table.find_or_add(key);
    for (int k = 1; k <= D; ++k) {
      key += packing.step(simplices[p].by_rank[D - k + 1]);
      corner[k] = table.find_or_add(key);
    }
  }
  lattice.vertices = table.keys().size();

  for (Chains& chains : lattice.directions) chains.links = Array<int32_t>(lattice.vertices);
  const size_t linking = std::min<size_t>(threads, D + 1);
  Array<int32_t> next(linking * lattice.vertices);
  Array<uint8_t> has_previous(linking * lattice.vertices);
  run_team(int(linking), [&](Member& member) {
    const size_t scratch = member.index() * lattice.vertices;
    for (int j = member.index(); j <= D; j += member.size()) {
      link(table, packing.step(j), &next[scratch], &has_previous[scratch], lattice.directions[j]);
    }
  });
  return lattice;
}

template Lattice<2> build_lattice<2>(const Image&, int);
template Lattice<5> build_lattice<5>(const Image&, int);

}  // namespace getam
