// Rows of values at the vertices of a lattice: splat, blur and slice. Included by kernels.cpp alone, as vector.h.
#pragma once

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <vector>

#include "lattice.h"
#include "team.h"
#include "vector.h"

namespace getam {
namespace {

// Rows of values are kept in pieces of at most this many vectors: one table of all first pieces, one of all second
// ones. Work piece by piece then has its rows close together.
constexpr size_t kPiece = 4;

// Calls f(width, first) for the pieces of rows of so many vectors, the piece's width a compile-time constant.
template <typename F>
GETAM_INLINE void in_pieces(size_t vectors, F f) {
  size_t first = 0;
  for (; first + kPiece <= vectors; first += kPiece) f(std::integral_constant<int, kPiece>{}, first);
  switch (vectors - first) {
    case 1: return f(std::integral_constant<int, 1>{}, first);
    case 2: return f(std::integral_constant<int, 2>{}, first);
    case 3: return f(std::integral_constant<int, 3>{}, first);
  }
}

// Calls f(corners) with the number of corners of a simplex: a compile-time constant where it is common.
template <typename F>
GETAM_INLINE void with_corners(int corners, F f) {
  switch (corners) {
    case 3: return f(std::integral_constant<int, 3>{});
    case 4: return f(std::integral_constant<int, 4>{});
    case 6: return f(std::integral_constant<int, 6>{});
    default: return f(corners);
  }
}

// sum += the rows at the corners of one pixel, weighted.
template <typename Corners, int kWidth>
GETAM_INLINE void gather(Corners corners, const uint32_t* corner, const float* weight, const Vector* table,
                         Vector (&sum)[kWidth]) {
  for (int k = 0; k < corners; ++k) {
    const Vector* at = table + size_t(corner[k]) * kWidth;
    const Vector w = splat(weight[k]);
    for (int i = 0; i < kWidth; ++i) sum[i] += w * at[i];
  }
}

// The rows at the corners += value, weighted.
template <typename Corners, int kWidth>
GETAM_INLINE void scatter(Corners corners, const uint32_t* corner, const float* weight, Vector* table,
                          const Vector (&value)[kWidth]) {
  for (int k = 0; k < corners; ++k) {
    Vector* at = table + size_t(corner[k]) * kWidth;
    const Vector w = splat(weight[k]);
    for (int i = 0; i < kWidth; ++i) at[i] += w * value[i];
  }
}

// How many pixels or links ahead a row is asked for before it is needed.
constexpr size_t kAhead = 8;

GETAM_INLINE void prefetch(const void* row, size_t bytes) {
  const char* at = static_cast<const char*>(row);
  __builtin_prefetch(at, 1);
  if (bytes > 64) __builtin_prefetch(at + 64, 1);
}

template <int kWidth, typename Corners>
GETAM_INLINE void prefetch_corners(Corners corners, const uint32_t* corner, const Vector* table) {
  for (int k = 0; k < corners; ++k) prefetch(table + size_t(corner[k]) * kWidth, kWidth * sizeof(Vector));
}

// Blurs the chains links[first .. last) in place with (1/2, 1, 1/2); values beyond the ends of a chain are 0.
template <typename T, int kWidth>
void blur_chains(T* table, const int32_t* links, size_t first, size_t last) {
  size_t i = first;
  while (i < last) {
    T* at = table + size_t(~links[i]) * kWidth;
    T previous[kWidth] = {};
    T current[kWidth];
    for (int w = 0; w < kWidth; ++w) current[w] = at[w];
    for (++i; i < last && links[i] >= 0; ++i) {
      const int32_t soon = links[std::min(i + kAhead, last - 1)];
      prefetch(table + size_t(soon < 0 ? ~soon : soon) * kWidth, kWidth * sizeof(T));
      T* next = table + size_t(links[i]) * kWidth;
      for (int w = 0; w < kWidth; ++w) {
        const T value = next[w];
        at[w] = current[w] + 0.5f * (previous[w] + value);
        previous[w] = current[w];
        current[w] = value;
      }
      at = next;
    }
    for (int w = 0; w < kWidth; ++w) at[w] = current[w] + 0.5f * previous[w];
  }
}

// This member's share of a list of chains: whole chains.
inline std::pair<size_t, size_t> share_chains(const Member& member, const Chains& chains) {
  auto [first, last] = member.share(chains.size);
  const auto to_start = [&](size_t i) {
    while (i < chains.size && chains.links[i] >= 0) ++i;
    return i;
  };
  return {to_start(first), to_start(last)};
}

// Blurs along every direction in turn, or in the reverse order, which is the transpose. The table has rows of so many
// vectors, or of single floats; rows: how many a piece of the table has. Ends at a barrier.
template <typename T>
void blur(Member& member, const Lattice& lattice, T* table, size_t vectors, size_t rows, bool reversed = false) {
  for (int j = 0; j < lattice.corners(); ++j) {
    const Chains& chains = lattice.directions[reversed ? lattice.dimensions - j : j];
    const auto [first, last] = share_chains(member, chains);
    if constexpr (std::is_same_v<T, Vector>) {
      in_pieces(vectors, [&, first = first, last = last](auto width, size_t piece) {
        blur_chains<Vector, width>(table + piece * rows, chains.links.data(), first, last);
      });
    } else {
      blur_chains<T, 1>(table, chains.links.data(), first, last);
    }
    member.barrier();
  }
}

// Slicing multiplies by this, so that constant values on a fully occupied lattice are kept in scale.
inline float slice_scale(const Lattice& lattice) { return 1 / (1 + std::ldexp(1.0f, -lattice.dimensions)); }

// The rows that the members of a team write. A vertex belongs to the first member whose points touch it; every other one
// that touches it has a row of its own for it, a copy, after the rows of all vertices. So members write at once, and
// only the copies have to be summed.
class Rows {
 public:
  Rows(const Lattice& lattice, int threads) : lattice_(lattice), first_copy_(threads + 1, 0), count_(lattice.vertices) {
    if (threads == 1) return;
    const size_t corners = lattice.corners();
    vertex_ = Array<uint32_t>(lattice.points() * corners);
    std::vector<uint32_t> last(threads, 0);
    std::vector<Array<int32_t>> copies;
    std::vector<Array<uint32_t>> copied;
    for (int t = 0; t < threads; ++t) {
      copies.emplace_back(t == 0 ? 0 : lattice.vertices);
      copied.emplace_back(t == 0 ? 0 : lattice.vertices);
    }
    std::vector<size_t> copied_count(threads, 0);
    run_team(threads, [&](Member& member) {
      const int t = member.index();
      const auto [first_point, last_point] = member.share(lattice.points());
      const uint32_t* from = lattice.vertex.data();
      const size_t first = first_point * corners;
      const size_t end = last_point * corners;
      for (size_t i = first; i < end; ++i) last[t] = std::max(last[t], from[i]);
      member.barrier();
      // Vertices are numbered as points first touch them: those below are of members before.
      uint32_t below = 0;
      for (int before = 0; before < t; ++before) below = std::max(below, last[before] + 1);
      std::fill_n(copies[t].data(), below, -1);
      for (size_t i = first; i < end; ++i) {
        if (from[i] >= below || copies[t][from[i]] >= 0) continue;
        copies[t][from[i]] = int32_t(copied_count[t]);
        copied[t][copied_count[t]++] = from[i];
      }
      member.barrier();
      size_t offset = lattice.vertices;
      for (int before = 0; before < t; ++before) offset += copied_count[before];
      for (size_t i = first; i < end; ++i) {
        vertex_[i] = from[i] >= below ? from[i] : uint32_t(offset + copies[t][from[i]]);
      }
    });
    for (int t = 0; t < threads; ++t) first_copy_[t + 1] = first_copy_[t] + copied_count[t];
    copied_ = Array<uint32_t>(first_copy_[threads]);
    for (int t = 0; t < threads; ++t) std::copy_n(copied[t].data(), copied_count[t], &copied_[first_copy_[t]]);
    count_ += first_copy_[threads];
  }

  size_t count() const { return count_; }
  // (points, corners): the rows of the corners, for the member whose share has the point.
  const uint32_t* corners() const { return vertex_.size() > 0 ? vertex_.data() : lattice_.vertex.data(); }

  // Calls f(row, copy) for all copies. No two members have the same row at once. Begins at a barrier, and ends at one
  // if there are copies.
  template <typename F>
  void for_copies(Member& member, F f) const {
    for (size_t t = 1; t + 1 < first_copy_.size(); ++t) {
      const auto [first, last] = member.share(first_copy_[t + 1] - first_copy_[t]);
      for (size_t i = first_copy_[t] + first; i < first_copy_[t] + last; ++i) f(copied_[i], lattice_.vertices + i);
      member.barrier();
    }
  }

 private:
  const Lattice& lattice_;
  std::vector<size_t> first_copy_;  // of each member
  Array<uint32_t> copied_;          // the vertex of each copy
  Array<uint32_t> vertex_;
  size_t count_;
};

// The values of a lattice: one table that is read, and one that is written.
class Tables {
 public:
  Tables(const Lattice& lattice, size_t vectors, int threads)
      : lattice(lattice), rows(lattice, threads), vectors_(vectors), read_(rows.count() * vectors),
        written_(rows.count() * vectors) {}

  const Lattice& lattice;
  Rows rows;

  size_t vectors() const { return vectors_; }
  // Prefetching pays for rows in main memory, and costs time for rows in the cache.
  bool exceeds_cache() const { return lattice.vertices * vectors_ * sizeof(Vector) > kNearBytes; }
  // The tables, from the piece that begins at this vector of the rows.
  Vector* read(size_t piece = 0) { return read_.data() + piece * rows.count(); }
  Vector* written(size_t piece = 0) { return written_.data() + piece * rows.count(); }

  void clear_written(const Member& member) {
    const auto [first, last] = member.share(rows.count() * vectors_);
    std::fill(written_.data() + first, written_.data() + last, Vector{});
  }

  // The written table becomes the table that is read, with its copies summed; clears the other. Begins and ends at a
  // barrier.
  void publish(Member& member) {
    member.barrier();
    if (member.index() == 0) std::swap(read_, written_);
    member.barrier();
    for_rows_of_copies(member, [](Vector* row, Vector* copy, int width) {
      for (int w = 0; w < width; ++w) row[w] += copy[w];
    });
    clear_written(member);
    member.barrier();
  }

  // Blurs the table that is read and brings its copies up to date. Ends at a barrier.
  void blur(Member& member, bool reversed = false) {
    getam::blur<Vector>(member, lattice, read_.data(), vectors_, rows.count(), reversed);
    for_rows_of_copies(member, [](Vector* row, Vector* copy, int width) { std::copy_n(row, width, copy); });
  }

  // Keeps only these lanes of the table that is read, in rows of fewer vectors. Begins and ends at a barrier.
  void narrow(Member& member, const std::vector<int>& lanes, size_t vectors) {
    member.barrier();
    const auto [first, last] = member.share(lattice.vertices);
    Vector* narrowed = written_.data();
    for (size_t lane = 0; lane < vectors * kLanes; ++lane) {
      for (size_t v = first; v < last; ++v) {
        at(narrowed, vectors, v, lane) = lane < lanes.size() ? at(read_.data(), vectors_, v, lanes[lane]) : 0;
      }
    }
    member.barrier();
    if (member.index() == 0) {
      std::swap(read_, written_);
      vectors_ = vectors;
    }
    member.barrier();
    clear_written(member);
    member.barrier();
  }

 private:
  static constexpr size_t kNearBytes = size_t(6) << 20;

  // Calls f(row, copy, width) for every piece of every copy in the table that is read.
  template <typename F>
  void for_rows_of_copies(Member& member, F f) {
    rows.for_copies(member, [&](size_t row, size_t copy) {
      in_pieces(vectors_, [&](auto width, size_t piece) {
        f(read(piece) + row * width, read(piece) + copy * width, int(width));
      });
    });
  }

  // One number of a table with rows of so many vectors.
  float& at(Vector* table, size_t vectors, size_t vertex, size_t lane) const {
    const size_t vector = lane / kLanes;
    const size_t piece = vector / kPiece * kPiece;
    const size_t width = std::min(kPiece, vectors - piece);
    Vector* row = table + piece * rows.count() + vertex * width;
    return reinterpret_cast<float*>(row + vector - piece)[lane % kLanes];
  }

  size_t vectors_;
  Array<Vector> read_;
  Array<Vector> written_;
};

}  // namespace
}  // namespace getam
