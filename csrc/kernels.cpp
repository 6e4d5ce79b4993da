// Compiled once per instruction set, with GETAM_INSTRUCTION_SET naming the namespace.
#include "kernels.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "blocks.h"
#include "filter.h"
#include "mean_field.h"
#include "memory.h"
#include "tables.h"
#include "team.h"
#include "vector.h"

namespace getam {
namespace {

// Filters as many channels at once as fit the tables.
void filter_planes(Member& member, const Filter& task, Tables& tables, const float* const* values,
                   float* const* filtered, int channels, Vector* block) {
  const Lattice& lattice = tables.lattice;
  const size_t vectors = tables.vectors();
  for_blocks(member, lattice.points(), [&](size_t p, size_t count) {
    load_block(values, channels, &lattice.pixel[p], count, vectors, block);
    splat_rows(tables, factor_before(*task.kernel, task.transposed), p, count, block);
  });
  tables.publish(member);
  tables.blur(member, task.transposed);
  const Vector scale = splat(slice_scale(lattice));
  for_blocks(member, lattice.points(), [&](size_t p, size_t count) {
    slice_rows(tables, factor_after(*task.kernel, task.transposed), p, count,
               [&](size_t i, size_t piece, const auto& sum) {
                 for (size_t w = 0; w < std::size(sum); ++w) block[i * vectors + piece + w] = scale * sum[w];
               });
    store_block(block, vectors, &lattice.pixel[p], count, channels, filtered);
  });
}

}  // namespace

namespace GETAM_INSTRUCTION_SET {

void run(const Normalise& task) {
  Kernel& kernel = task.kernel;
  Lattice& lattice = kernel.lattice;
  const int corners = lattice.corners();
  const bool symmetric = kernel.normalisation == Normalisation::kSymmetric;
  if (kernel.normalisation == Normalisation::kNone) return;
  if (!symmetric) kernel.factor = Array<float>(lattice.points());
  Array<float> tables(task.threads * lattice.vertices);
  const float slice = slice_scale(lattice);
  run_team(task.threads, [&](Member& member) {
    // Every member splats into its own table; the first one then takes their sum.
    float* mine = &tables[member.index() * lattice.vertices];
    std::fill_n(mine, lattice.vertices, 0.0f);
    const auto [first, last] = member.share(lattice.points());
    for (size_t i = first * corners; i < last * corners; ++i) mine[lattice.vertex[i]] += lattice.weight[i];
    member.barrier();
    const auto [first_vertex, last_vertex] = member.share(lattice.vertices);
    for (int t = 1; t < member.size(); ++t) {
      for (size_t v = first_vertex; v < last_vertex; ++v) tables[v] += tables[t * lattice.vertices + v];
    }
    member.barrier();
    blur<float>(member, lattice, tables.data(), 1, lattice.vertices);
    for (size_t p = first; p < last; ++p) {
      float* weight = &lattice.weight[p * corners];
      float sum = 0;
      for (int k = 0; k < corners; ++k) sum += weight[k] * tables[lattice.vertex[p * corners + k]];
      const float n = slice * sum + 1e-20f;
      if (symmetric) {
        // Multiplied into the weights, the normalisation costs nothing afterwards.
        const float scale = 1 / std::sqrt(n);
        for (int k = 0; k < corners; ++k) weight[k] *= scale;
      } else {
        kernel.factor[p] = 1 / n;
      }
    }
  });
}

void run(const Filter& task) {
  // Wider rows gain nothing here, and the tables stay in the cache.
  constexpr int kChannelsAtOnce = 4 * kLanes;
  const int at_once = std::min(task.channels, kChannelsAtOnce);
  const size_t points = task.kernel->lattice.points();
  std::vector<const float*> values;
  std::vector<float*> filtered;
  for (int c = 0; c < task.channels; ++c) {
    values.push_back(task.values + c * points);
    filtered.push_back(task.filtered + c * points);
  }
  Tables tables(task.kernel->lattice, vectors_for(at_once), task.threads);
  Array<Vector> blocks(task.threads * kBlock * tables.vectors());
  run_team(task.threads, [&](Member& member) {
    tables.clear_written(member);
    member.barrier();
    for (int c = 0; c < task.channels; c += at_once) {
      filter_planes(member, task, tables, &values[c], &filtered[c], std::min(at_once, task.channels - c),
                    &blocks[member.index() * kBlock * tables.vectors()]);
    }
  });
}

void run(const MeanField& task) {
  Inference(task).run();
}

}  // namespace GETAM_INSTRUCTION_SET
}  // namespace getam
