// Compiled once, without contraction of a * b + c: points often lie exactly on a face of the lattice, where the last
// bit decides which vertices exist, and every machine has to decide the same.
#include "lattice.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <exception>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "simplex.h"
#include "team.h"
#include "vertices.h"

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

// Throws where the geometry would not be exact enough in single precision, or the vertices too many for 32 bits.
void check_range(const Features& features) {
  const int dimensions = features.dimensions();
  if (dimensions < 1 || dimensions > kMostDimensions) {
    throw std::invalid_argument("expected 1 to " + std::to_string(kMostDimensions) + " features, got " +
                                std::to_string(dimensions));
  }
  if (features.points() > size_t(std::numeric_limits<int32_t>::max()) / (dimensions + 1)) {
    throw std::invalid_argument("the image has too many pixels");
  }
  const auto check = [](float feature) {
    if (!(std::fabs(feature) < float(1 << 17))) {
      throw std::invalid_argument("sigma is too small for an image of this range");
    }
  };
  if (features.positions) {
    check(float(features.width) / features.sigma_x);
    check(float(features.height) / features.sigma_y);
  }
  const float* value = features.planes;
  for (int c = 0; c < features.channels; ++c) {
    for (size_t i = 0; i < features.points(); ++i) check(*value++ / features.sigmas[c]);
  }
}

template <int kD>
void locate_points(const Features& features, int threads, Lattice& lattice, Simplices& simplices) {
  const Embedding<kD> embedding(features);
  run_team(threads, [&](Member& member) {
    const auto [first, last] = member.share(lattice.points());
    for (size_t p = first; p < last; ++p) {
      embedding.locate(lattice.pixel[p], simplices.origin(p), simplices.by_rank(p),
                       &lattice.weight[p * lattice.corners()]);
    }
  });
}

void locate_points(const Features& features, int threads, Lattice& lattice, Simplices& simplices) {
  switch (features.dimensions()) {
    case 1: return locate_points<1>(features, threads, lattice, simplices);
    case 2: return locate_points<2>(features, threads, lattice, simplices);
    case 3: return locate_points<3>(features, threads, lattice, simplices);
    case 4: return locate_points<4>(features, threads, lattice, simplices);
    case 5: return locate_points<5>(features, threads, lattice, simplices);
    case 6: return locate_points<6>(features, threads, lattice, simplices);
    default: return locate_points<0>(features, threads, lattice, simplices);
  }
}

Layout layout_of(Simplices& simplices, size_t points) {
  const int dimensions = simplices.dimensions;
  std::vector<int32_t> lowest(dimensions);
  std::vector<int32_t> highest(dimensions);
  for (size_t p = 0; p < points; ++p) {
    const int32_t* origin = simplices.origin(p);
    for (int i = 0; i < dimensions; ++i) {
      lowest[i] = std::min(lowest[i], origin[i]);
      highest[i] = std::max(highest[i], origin[i]);
    }
  }
  return Layout(lowest, highest);
}

// Writes the chains of one direction; `next` and `has_previous` are scratch for all vertices.
template <int kWords>
void link(const VertexTable<kWords>& table, const Key<kWords>& step, int32_t* next, uint8_t* has_previous,
          Chains& chains) {
  const std::vector<Key<kWords>>& keys = table.keys();
  const int32_t vertices = int32_t(keys.size());
  std::fill_n(has_previous, vertices, uint8_t(0));
  for (int32_t v = 0; v < vertices; ++v) {
    Key<kWords> neighbour = keys[v];
    neighbour += step;
    next[v] = table.find(neighbour);
    if (next[v] >= 0) has_previous[next[v]] = 1;
  }
  for (int32_t v = 0; v < vertices; ++v) {
    if (has_previous[v] || next[v] < 0) continue;
    chains.links[chains.size++] = ~v;
    for (int32_t w = next[v]; w >= 0; w = next[w]) chains.links[chains.size++] = w;
  }
}

// Numbers the corners of the points first .. last - 1.
template <int kWords>
void number_corners(Simplices& simplices, const Packing<kWords>& packing, size_t first, size_t last,
                    VertexTable<kWords>& table, Lattice& lattice) {
  const int corners = lattice.corners();
  for (size_t p = first; p < last; ++p) {
    uint32_t* corner = &lattice.vertex[p * corners];
    if (p > first && simplices.equal(p, p - 1)) {
      std::copy(corner - corners, corner, corner);
      continue;
    }
    Key<kWords> key = packing.pack(simplices.origin(p));
    corner[0] = table.find_or_add(key);
    for (int k = 1; k < corners; ++k) {
      key += packing.step(simplices.by_rank(p)[corners - k]);
      corner[k] = table.find_or_add(key);
    }
  }
}

// Numbers all corners and returns the table of the vertices. Every member numbers its share of the points in a table of
// its own. The first table then takes in the others in turn, so that vertices are numbered as they are first met,
// whatever the number of threads.
template <int kWords>
VertexTable<kWords> number_corners(Simplices& simplices, const Packing<kWords>& packing, int threads,
                                   Lattice& lattice) {
  std::vector<VertexTable<kWords>> tables;
  for (int t = 0; t < threads; ++t) tables.emplace_back(lattice.points() / threads / 2);
  std::vector<std::exception_ptr> failures(threads);
  run_team(threads, [&](Member& member) {
    try {
      const auto [first, last] = member.share(lattice.points());
      number_corners(simplices, packing, first, last, tables[member.index()], lattice);
    } catch (...) {
      failures[member.index()] = std::current_exception();
    }
  });
  for (const std::exception_ptr& failure : failures) {
    if (failure) std::rethrow_exception(failure);
  }
  VertexTable<kWords>& table = tables[0];
  std::vector<std::vector<uint32_t>> numbers(threads);
  for (int t = 1; t < threads; ++t) {
    for (const Key<kWords>& key : tables[t].keys()) numbers[t].push_back(table.find_or_add(key));
  }
  run_team(threads, [&](Member& member) {
    if (member.index() == 0) return;
    const auto [first, last] = member.share(lattice.points());
    const std::vector<uint32_t>& number = numbers[member.index()];
    uint32_t* vertex = lattice.vertex.data();
    for (size_t i = first * lattice.corners(); i < last * lattice.corners(); ++i) vertex[i] = number[vertex[i]];
  });
  return std::move(table);
}

template <int kWords>
void number_vertices(Simplices& simplices, const Layout& layout, int threads, Lattice& lattice) {
  const int corners = lattice.corners();
  const Packing<kWords> packing(layout);
  const VertexTable<kWords> table = number_corners(simplices, packing, threads, lattice);
  lattice.vertices = table.keys().size();

  for (int j = 0; j < corners; ++j) lattice.directions.push_back({Array<int32_t>(lattice.vertices), 0});
  const size_t linking = std::min<size_t>(threads, corners);
  Array<int32_t> next(linking * lattice.vertices);
  Array<uint8_t> has_previous(linking * lattice.vertices);
  run_team(int(linking), [&](Member& member) {
    const size_t scratch = member.index() * lattice.vertices;
    for (int j = member.index(); j < corners; j += member.size()) {
      link(table, packing.step(j), &next[scratch], &has_previous[scratch], lattice.directions[j]);
    }
  });
}

}  // namespace

Lattice build_lattice(const Features& features, int threads) {
  check_range(features);
  Lattice lattice;
  lattice.dimensions = features.dimensions();
  lattice.pixel = visiting_order(features.height, features.width);
  lattice.vertex = Array<uint32_t>(features.points() * lattice.corners());
  lattice.weight = Array<float>(features.points() * lattice.corners());
  Simplices simplices(features.points(), lattice.dimensions);
  locate_points(features, threads, lattice, simplices);
  const Layout layout = layout_of(simplices, features.points());
  // Keys of few words are faster; points of so many dimensions are rare that two longer kinds are enough.
  if (layout.words == 1) {
    number_vertices<1>(simplices, layout, threads, lattice);
  } else if (layout.words <= 3) {
    number_vertices<3>(simplices, layout, threads, lattice);
  } else if (layout.words <= 32) {
    number_vertices<32>(simplices, layout, threads, lattice);
  } else {
    throw std::invalid_argument("sigma is too small: the vertices have too many coordinates to be numbered");
  }
  return lattice;
}

}  // namespace getam
