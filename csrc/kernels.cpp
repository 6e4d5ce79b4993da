// Compiled once per instruction set, with GETAM_INSTRUCTION_SET naming the namespace.
#include "kernels.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "memory.h"
#include "tables.h"
#include "team.h"
#include "vector.h"

namespace getam {
namespace {

// Pixels that pass through one step after another while they lie in the first-level cache.
constexpr size_t kBlock = 32;

constexpr float kLog2E = 1.442695041f;

size_t vectors_for(int channels) { return (channels + kLanes - 1) / kLanes; }

// planes[lane] at some pixels -> rows of vectors, the lanes beyond the last plane filled with `padding`.
inline void load_block(const float* const* planes, size_t lanes, const int32_t* pixel, size_t count, size_t vectors,
                       float padding, Vector* block) {
  float* row = reinterpret_cast<float*>(block);
  const size_t stride = vectors * kLanes;
  for (size_t lane = 0; lane < stride; ++lane) {
    for (size_t p = 0; p < count; ++p) row[p * stride + lane] = lane < lanes ? planes[lane][pixel[p]] : padding;
  }
}

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

// Filters as many channels at once as fit the tables.
void filter_planes(Member& member, Tables<5>& tables, const float* const* values, float* const* filtered, int channels,
                   bool transposed, Vector* block) {
  constexpr int kCorners = Tables<5>::kCorners;
  const Lattice<5>& lattice = tables.lattice;
  const size_t vectors = tables.vectors();
  for_blocks(member, lattice.pixel.size(), [&](size_t p, size_t count) {
    load_block(values, channels, &lattice.pixel[p], count, vectors, 0, block);
    in_pieces(vectors, [&](auto width, size_t piece) {
      for (size_t i = 0; i < count; ++i) {
        const size_t corner = (p + i) * kCorners;
        Vector value[width];
        std::copy_n(block + i * vectors + piece, int(width), value);
        scatter<width, kCorners>(&lattice.vertex[corner], &lattice.weight[corner], tables.written(member) + piece,
                                 vectors, value);
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
        gather<width, kCorners>(&lattice.vertex[corner], &lattice.weight[corner], tables.read() + piece, vectors, sum);
        for (int w = 0; w < width; ++w) block[i * vectors + piece + w] = kSliceScale<5> * sum[w];
      }
    });
    store_block(block, vectors, &lattice.pixel[p], count, channels, filtered);
  });
}

class Inference {
 public:
  explicit Inference(const MeanField& task);
  void run();

 private:
  void iterate(Member& member);
  template <int D>
  void normalise(Member& member, Tables<D>& tables);
  void load_unary(Member& member);
  template <bool kFirst>
  void add_messages(size_t p, size_t count, Vector* block);
  template <int kVectors>
  void softmax(const Member& member, size_t p, size_t count, Vector* block);
  void splat_block(const Member& member, size_t p, size_t count, const Vector* block);
  void store_marginals(size_t p, size_t count, const Vector* block);
  void choose_labels();
  void leave_out_labels(Member& member);

  const MeanField& task_;
  const size_t pixels_;
  std::vector<int> kept_;      // lane -> label
  std::vector<int> left_out_;  // labels
  size_t vectors_;
  Tables<5> bilateral_;
  Tables<2> gaussian_;
  Array<Vector> unary_;        // (pixels, vectors): log2 of the probabilities
  Array<Vector> spare_;        // the same, narrower
  Array<float> others_;        // (pixels): sum of the probabilities of the labels left out
  Array<float> others_scale_;  // (pixels): their marginals over their probabilities
  Array<Vector> blocks_;       // scratch per thread
  Array<Vector> largest_;      // per thread: the largest marginal of each lane
  std::vector<const float*> planes_;  // lane -> plane of the probabilities
  std::vector<int> lanes_;     // the lanes that stay, when some go
};

std::vector<int> labels_above(const MeanField& task, float negligible) {
  std::vector<int> all;
  std::vector<int> above;
  for (int c = 0; c < task.labels; ++c) {
    const float* plane = task.probabilities + c * task.bilateral.pixels();
    all.push_back(c);
    if (*std::max_element(plane, plane + task.bilateral.pixels()) >= negligible) above.push_back(c);
  }
  return above.empty() ? all : above;
}

Inference::Inference(const MeanField& task)
    : task_(task),
      pixels_(task.bilateral.pixels()),
      kept_(labels_above(task, task.negligible)),
      vectors_(vectors_for(int(kept_.size()))),
      bilateral_(task.bilateral, vectors_, task.threads),
      gaussian_(task.gaussian, vectors_, task.threads),
      unary_(pixels_ * vectors_),
      spare_(task.negligible > 0 ? pixels_ * vectors_ : 0),
      others_(pixels_),
      others_scale_(pixels_),
      blocks_(task.threads * kBlock * vectors_),
      largest_(task.threads * vectors_) {
  for (int c = 0; c < task.labels; ++c) {
    if (!std::binary_search(kept_.begin(), kept_.end(), c)) left_out_.push_back(c);
  }
  for (int label : kept_) planes_.push_back(task.probabilities + label * pixels_);
  // Later steps run in threads, where nothing may throw.
  lanes_.reserve(kept_.size());
  left_out_.reserve(task.labels);
}

void Inference::run() {
  run_team(task_.threads, [this](Member& member) { iterate(member); });
}

void Inference::iterate(Member& member) {
  bilateral_.clear_written(member);
  gaussian_.clear_written(member);
  member.barrier();
  normalise(member, bilateral_);
  normalise(member, gaussian_);
  load_unary(member);
  for (int i = 0;; ++i) {
    Vector* block = &blocks_[member.index() * kBlock * vectors_];
    std::fill_n(&largest_[member.index() * vectors_], vectors_, Vector{});
    for_blocks(member, pixels_, [&](size_t p, size_t count) {
      i == 0 ? add_messages<true>(p, count, block) : add_messages<false>(p, count, block);
      switch (vectors_) {
        case 1: softmax<1>(member, p, count, block); break;
        case 2: softmax<2>(member, p, count, block); break;
        case 3: softmax<3>(member, p, count, block); break;
        default: softmax<0>(member, p, count, block);
      }
      i < task_.iterations ? splat_block(member, p, count, block) : store_marginals(p, count, block);
    });
    if (i == task_.iterations) return;
    bilateral_.publish(member);
    gaussian_.publish(member);
    if (task_.negligible > 0) leave_out_labels(member);
    blur<Vector>(member, bilateral_.lattice, bilateral_.read(), vectors_);
    blur<Vector>(member, gaussian_.lattice, gaussian_.read(), vectors_);
  }
}

// Multiplies the interpolation weights by n^-1/2, n = K 1: the symmetric normalisation costs nothing afterwards.
template <int D>
void Inference::normalise(Member& member, Tables<D>& tables) {
  constexpr int kCorners = D + 1;
  Lattice<D>& lattice = tables.lattice;
  // The tables serve as tables of single floats. Every member splats into its own.
  float* mine = reinterpret_cast<float*>(tables.written(member));
  const auto [first, last] = member.share(pixels_);
  for (size_t i = first * kCorners; i < last * kCorners; ++i) mine[lattice.vertex[i]] += lattice.weight[i];
  tables.publish(member);
  float* table = reinterpret_cast<float*>(tables.read());
  blur<float>(member, lattice, table, 1);
  for (size_t p = first; p < last; ++p) {
    float* weight = &lattice.weight[p * kCorners];
    float sum = 0;
    for (int k = 0; k < kCorners; ++k) sum += weight[k] * table[lattice.vertex[p * kCorners + k]];
    const float scale = 1 / std::sqrt(kSliceScale<D> * sum + 1e-20f);
    for (int k = 0; k < kCorners; ++k) weight[k] *= scale;
  }
  member.barrier();
}

void Inference::load_unary(Member& member) {
  // Lanes without a label come out as 0; the smallest probability keeps the logarithm of 0 finite.
  constexpr float kSmallest = 1e-20f;
  for_blocks(member, pixels_, [&](size_t p, size_t count) {
    Vector* rows = &unary_[p * vectors_];
    load_block(planes_.data(), planes_.size(), &bilateral_.lattice.pixel[p], count, vectors_, 0, rows);
    for (size_t i = 0; i < count * vectors_; ++i) rows[i] = log2(larger(rows[i], splat(kSmallest)));
    for (size_t i = 0; i < count; ++i) {
      float others = 0;
      for (int label : left_out_) others += task_.probabilities[label * pixels_ + bilateral_.lattice.pixel[p + i]];
      others_[p + i] = others;
    }
  });
  member.barrier();
}

template <bool kFirst>
void Inference::add_messages(size_t p, size_t count, Vector* block) {
  const float bilateral_scale = kLog2E * task_.bilateral_compatibility * kSliceScale<5>;
  const float gaussian_scale = kLog2E * task_.gaussian_compatibility * kSliceScale<2>;
  const size_t row = vectors_;
  const bool far = bilateral_.exceeds_cache();
  const Lattice<5>& five = bilateral_.lattice;
  const Lattice<2>& two = gaussian_.lattice;
  in_pieces(row, [&](auto width, size_t piece) {
    const Vector* bilateral = bilateral_.read() + piece;
    const Vector* gaussian = gaussian_.read() + piece;
    for (size_t i = 0; i < count; ++i) {
      const size_t at = p + i;
      Vector x[width] = {};
      Vector y[width] = {};
      if (!kFirst) {
        if (far) prefetch_corners<width, 6>(&five.vertex[std::min(at + kAhead, pixels_ - 1) * 6], bilateral, row);
        gather<width, 6>(&five.vertex[at * 6], &five.weight[at * 6], bilateral, row, x);
        gather<width, 3>(&two.vertex[at * 3], &two.weight[at * 3], gaussian, row, y);
      }
      for (int w = 0; w < width; ++w) {
        block[i * row + piece + w] = unary_[at * row + piece + w] + bilateral_scale * x[w] + gaussian_scale * y[w];
      }
    }
  });
}

// Scores in base 2 -> marginals, in place. A label that was left out has its probability as its score.
template <int kVectors>
void Inference::softmax(const Member& member, size_t p, size_t count, Vector* block) {
  const size_t vectors = kVectors > 0 ? kVectors : vectors_;
  Vector* largest = &largest_[member.index() * vectors];
  for (size_t i = 0; i < count; ++i) {
    Vector* score = block + i * vectors;
    Vector top = score[0];
    for (size_t v = 1; v < vectors; ++v) top = larger(top, score[v]);
    top = largest_lane(top);
    Vector sum = {};
    for (size_t v = 0; v < vectors; ++v) {
      score[v] = exp2(score[v] - top);
      sum += score[v];
    }
    sum = sum_of_lanes(sum);
    Vector scale = 1.0f / sum;
    if (!left_out_.empty()) {
      const Vector others = exp2(-top);
      scale = 1.0f / (sum + others * others_[p + i]);
      others_scale_[p + i] = others[0] * scale[0];
    }
    for (size_t v = 0; v < vectors; ++v) {
      score[v] *= scale;
      largest[v] = larger(largest[v], score[v]);
    }
  }
}

void Inference::splat_block(const Member& member, size_t p, size_t count, const Vector* block) {
  const size_t row = vectors_;
  const bool far = bilateral_.exceeds_cache();
  const Lattice<5>& five = bilateral_.lattice;
  const Lattice<2>& two = gaussian_.lattice;
  in_pieces(row, [&](auto width, size_t piece) {
    Vector* bilateral = bilateral_.written(member) + piece;
    Vector* gaussian = gaussian_.written(member) + piece;
    for (size_t i = 0; i < count; ++i) {
      const size_t at = p + i;
      if (far) prefetch_corners<width, 6>(&five.vertex[std::min(at + kAhead, pixels_ - 1) * 6], bilateral, row);
      Vector value[width];
      std::copy_n(block + i * row + piece, int(width), value);
      scatter<width, 6>(&five.vertex[at * 6], &five.weight[at * 6], bilateral, row, value);
      scatter<width, 3>(&two.vertex[at * 3], &two.weight[at * 3], gaussian, row, value);
    }
  });
}

void Inference::store_marginals(size_t p, size_t count, const Vector* block) {
  const int32_t* pixel = &bilateral_.lattice.pixel[p];
  const float* row = reinterpret_cast<const float*>(block);
  for (size_t lane = 0; lane < kept_.size(); ++lane) {
    float* plane = task_.marginals + kept_[lane] * pixels_;
    for (size_t i = 0; i < count; ++i) plane[pixel[i]] = row[i * vectors_ * kLanes + lane];
  }
  for (int label : left_out_) {
    const float* probability = task_.probabilities + label * pixels_;
    float* plane = task_.marginals + label * pixels_;
    for (size_t i = 0; i < count; ++i) plane[pixel[i]] = probability[pixel[i]] * others_scale_[p + i];
  }
}

// Leaves out the labels whose marginals are negligible everywhere, where that makes the rows shorter. Begins and ends at
// a barrier.
void Inference::leave_out_labels(Member& member) {
  if (member.index() == 0) {
    lanes_.clear();
    for (size_t lane = 0; lane < kept_.size(); ++lane) {
      float largest = 0;
      for (int t = 0; t < member.size(); ++t) {
        largest = std::max(largest, reinterpret_cast<const float*>(&largest_[t * vectors_])[lane]);
      }
      if (largest >= task_.negligible) lanes_.push_back(int(lane));
    }
  }
  member.barrier();
  const size_t vectors = vectors_for(int(lanes_.size()));
  if (vectors == 0 || vectors == vectors_) return;
  bilateral_.narrow(member, lanes_, vectors);
  gaussian_.narrow(member, lanes_, vectors);
  const auto [first, last] = member.share(pixels_);
  for (size_t p = first; p < last; ++p) {
    const float* old = reinterpret_cast<const float*>(&unary_[p * vectors_]);
    size_t next = 0;
    for (size_t lane = 0; lane < kept_.size(); ++lane) {
      if (next < lanes_.size() && size_t(lanes_[next]) == lane) {
        ++next;
      } else {
        others_[p] += std::exp2(old[lane]);
      }
    }
    select_lanes(&unary_[p * vectors_], lanes_, &spare_[p * vectors], vectors, kLowestExponent);
  }
  member.barrier();
  if (member.index() == 0) {
    std::swap(unary_, spare_);
    vectors_ = vectors;
    for (size_t lane = 0, next = 0; lane < kept_.size(); ++lane) {
      if (next < lanes_.size() && size_t(lanes_[next]) == lane) {
        kept_[next++] = kept_[lane];
      } else {
        left_out_.push_back(kept_[lane]);
      }
    }
    kept_.resize(lanes_.size());
  }
  member.barrier();
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
