// Compiled once per instruction set, with GETAM_INSTRUCTION_SET naming the namespace.
#include "kernels.h"

#include <algorithm>
#include <vector>

#include "blocks.h"
#include "mean_field.h"
#include "memory.h"
#include "tables.h"
#include "team.h"
#include "vector.h"

namespace getam {
namespace {

// Filters as many channels at once as fit the tables.
void filter_planes(Member& member, Tables<5>& tables, const float* const* values, float* const* filtered, int channels,
                   bool transposed, Vector* block) {
  constexpr int kCorners = Tables<5>::kCorners;
  const Lattice<5>& lattice = tables.lattice;
  const size_t vectors = tables.vectors();
  for_blocks(member, lattice.pixel.size(), [&](size_t p, size_t count) {
    load_block(values, channels, &lattice.pixel[p], count, vectors, block);
    in_pieces(vectors, [&](auto width, size_t piece) {
      for (size_t i = 0; i < count; ++i) {
        const size_t corner = (p + i) * kCorners;
        Vector value[width];
        std::copy_n(block + i * vectors + piece, int(width), value);
        scatter<kCorners>(&lattice.vertex[corner], &lattice.weight[corner], tables.written(member, piece), value);
      }
    });
  });
  tables.publish(member);
  blur<Vector>(member, lattice, tables.read(), vectors, transposed);
  for_blocks(member, lattice.pixel.size(), [&](size_t p, size_t count) {
    in_pieces(vectors, [&](auto width, size_t piece) {
      for (size_t i = 0; i < count; ++i) {
        const size_t corner = (p + i) * kCorners;
        Vector sum[width] = {};
        gather<kCorners>(&lattice.vertex[corner], &lattice.weight[corner], tables.read(piece), sum);
        for (int w = 0; w < width; ++w) block[i * vectors + piece + w] = kSliceScale<5> * sum[w];
      }
    });
    store_block(block, vectors, &lattice.pixel[p], count, channels, filtered);
  });
}

}  // namespace

namespace GETAM_INSTRUCTION_SET {

void run(const BilateralFilter& task) {
  // Wider rows gain nothing here, and the tables stay in the cache.
  constexpr int kChannelsAtOnce = 4 * kLanes;
  const size_t pixels = task.image.pixels();
  const int at_once = std::min(task.channels, kChannelsAtOnce);
  std::vector<const float*> values;
  std::vector<float*> filtered;
  for (int c = 0; c < task.channels; ++c) {
    values.push_back(task.values + c * pixels);
    filtered.push_back(task.filtered + c * pixels);
  }
  Tables<5> tables(task.image, vectors_for(at_once), task.threads);
  Array<Vector> blocks(task.threads * kBlock * tables.vectors());
  run_team(task.threads, [&](Member& member) {
    tables.clear_written(member);
    member.barrier();
    for (int c = 0; c < task.channels; c += at_once) {
      filter_planes(member, tables, &values[c], &filtered[c], std::min(at_once, task.channels - c), task.transposed,
                    &blocks[member.index() * kBlock * tables.vectors()]);
    }
  });
}

void run(const MeanField& task) {
  Inference(task).run();
}

}  // namespace GETAM_INSTRUCTION_SET
}  // namespace getam
