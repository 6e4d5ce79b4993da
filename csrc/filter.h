// Splatting blocks of points onto a kernel's lattice and slicing them from it, with the one-sided normalisations.
// Included by kernels.cpp alone.
#pragma once

#include <algorithm>

#include "kernels.h"
#include "tables.h"
#include "team.h"
#include "vector.h"

namespace getam {
namespace {

// The factors that values are multiplied by before they are splatted, or after they are sliced; null: none.
inline const float* factor_before(const Kernel& kernel, bool transposed) {
  const Normalisation side = transposed ? Normalisation::kAfter : Normalisation::kBefore;
  return kernel.normalisation == side ? kernel.factor.data() : nullptr;
}
inline const float* factor_after(const Kernel& kernel, bool transposed) { return factor_before(kernel, !transposed); }

// Adds the rows of a block of points, which this member has, to the table.
inline void splat_rows(Tables& tables, const float* factor, size_t p, size_t count, const Vector* block) {
  const Lattice& lattice = tables.lattice;
  const size_t row = tables.vectors();
  const bool far = tables.exceeds_cache();
  with_corners(lattice.corners(), [&](auto corners) {
    in_pieces(row, [&](auto width, size_t piece) {
      Vector* table = tables.written(piece);
      const uint32_t* vertex = tables.rows.corners();
      const float* weight = lattice.weight.data();
      const Vector* values = block + piece;
      for (size_t i = 0; i < count; ++i) {
        const size_t at = p + i;
        if (far) {
          const size_t soon = std::min(at + kAhead, lattice.points() - 1);
          prefetch_corners<width>(corners, &vertex[soon * corners], table);
        }
        Vector value[width];
        for (int w = 0; w < width; ++w) value[w] = values[i * row + w];
        if (factor != nullptr) {
          for (int w = 0; w < width; ++w) value[w] *= splat(factor[at]);
        }
        scatter(corners, &vertex[at * corners], &weight[at * corners], table, value);
      }
    });
  });
}

// Calls use(i, piece, values) with the rows of a block of points, without the lattice's scale, piece by piece.
template <typename F>
GETAM_INLINE void slice_rows(Tables& tables, const float* factor, size_t p, size_t count, F use) {
  const Lattice& lattice = tables.lattice;
  const bool far = tables.exceeds_cache();
  with_corners(lattice.corners(), [&](auto corners) {
    in_pieces(tables.vectors(), [&](auto width, size_t piece) {
      const Vector* table = tables.read(piece);
      const uint32_t* vertex = tables.rows.corners();
      const float* weight = lattice.weight.data();
      for (size_t i = 0; i < count; ++i) {
        const size_t at = p + i;
        if (far) {
          const size_t soon = std::min(at + kAhead, lattice.points() - 1);
          prefetch_corners<width>(corners, &vertex[soon * corners], table);
        }
        Vector sum[width] = {};
        gather(corners, &vertex[at * corners], &weight[at * corners], table, sum);
        if (factor != nullptr) {
          for (int w = 0; w < width; ++w) sum[w] *= splat(factor[at]);
        }
        use(i, piece, sum);
      }
    });
  });
}

}  // namespace
}  // namespace getam
