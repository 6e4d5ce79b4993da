// Mean-field inference of a dense CRF. Included by kernels.cpp alone.
//
// One pass over the pixels slices both kernels' messages, takes the softmax and splats the marginals for the next
// iteration. Labels live in the lanes of vectors; when enough of them have become negligible, the rows get shorter.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "blocks.h"
#include "kernels.h"
#include "memory.h"
#include "tables.h"
#include "team.h"
#include "vector.h"

namespace getam {
namespace {

constexpr float kLog2E = 1.442695041f;

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
  Array<Vector> blocks_;       // scratch per thread, never uninitialised: softmax takes whole vectors of pixels
  Array<Vector> largest_;      // per thread: the largest marginal of each lane
  std::vector<const float*> probabilities_;  // lane -> plane, before any lane goes
  std::vector<float*> marginals_;            // lane -> plane
  std::vector<int> lanes_;                   // the lanes that stay, when some go
  Array<Vector> leaving_;                    // 1 in the lanes that go
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
      largest_(task.threads * vectors_),
      leaving_(vectors_) {
  for (int c = 0; c < task.labels; ++c) {
    if (!std::binary_search(kept_.begin(), kept_.end(), c)) left_out_.push_back(c);
  }
  for (int label : kept_) {
    probabilities_.push_back(task.probabilities + label * pixels_);
    marginals_.push_back(task.marginals + label * pixels_);
  }
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
  std::fill_n(&blocks_[member.index() * kBlock * vectors_], kBlock * vectors_, Vector{});
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
  // Keeps the logarithm of 0 finite, and the lanes without a label negligible. The same number is in
  // getam/lattice/crf.py and getam/lattice/torch_lattice.py.
  constexpr float kSmallest = 1e-20f;
  for_blocks(member, pixels_, [&](size_t p, size_t count) {
    Vector* rows = &unary_[p * vectors_];
    load_block(probabilities_.data(), kept_.size(), &bilateral_.lattice.pixel[p], count, vectors_, rows);
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
    const Vector* bilateral = bilateral_.read(piece);
    const Vector* gaussian = gaussian_.read(piece);
    for (size_t i = 0; i < count; ++i) {
      const size_t at = p + i;
      Vector x[width] = {};
      Vector y[width] = {};
      if (!kFirst) {
        if (far) prefetch_corners<width, 6>(&five.vertex[std::min(at + kAhead, pixels_ - 1) * 6], bilateral);
        gather<6>(&five.vertex[at * 6], &five.weight[at * 6], bilateral, x);
        gather<3>(&two.vertex[at * 3], &two.weight[at * 3], gaussian, y);
      }
      for (int w = 0; w < width; ++w) {
        block[i * row + piece + w] = unary_[at * row + piece + w] + bilateral_scale * x[w] + gaussian_scale * y[w];
      }
    }
  });
}

// Scores in base 2 -> marginals, in place. A label that was left out has its probability as its score. Quantities with
// one number per pixel are computed for as many pixels at once as a vector has lanes.
template <int kVectors>
void Inference::softmax(const Member& member, size_t p, size_t count, Vector* block) {
  const size_t vectors = kVectors > 0 ? kVectors : vectors_;
  Vector* largest = &largest_[member.index() * vectors];
  for (size_t first = 0; first < count; first += kLanes) {
    Vector* scores = block + first * vectors;
    Vector rows[kLanes];
    for (size_t i = 0; i < kLanes; ++i) {
      rows[i] = scores[i * vectors];
      for (size_t v = 1; v < vectors; ++v) rows[i] = larger(rows[i], scores[i * vectors + v]);
    }
    const Vector top = reduce_rows(rows, larger);
    for (size_t i = 0; i < kLanes; ++i) {
      const Vector shift = splat(top[i]);
      rows[i] = Vector{};
      for (size_t v = 0; v < vectors; ++v) {
        Vector& score = scores[i * vectors + v];
        score = exp2(score - shift);
        rows[i] += score;
      }
    }
    Vector sum = reduce_rows(rows, [](Vector a, Vector b) { return a + b; });
    const size_t here = std::min<size_t>(kLanes, count - first);
    Vector scale_of_others = exp2(-top);
    if (!left_out_.empty()) {
      Vector others = {};
      std::copy_n(&others_[p + first], here, reinterpret_cast<float*>(&others));
      sum += scale_of_others * others;
    }
    const Vector scale = 1.0f / sum;
    if (!left_out_.empty()) {
      scale_of_others *= scale;
      std::copy_n(reinterpret_cast<const float*>(&scale_of_others), here, &others_scale_[p + first]);
    }
    for (size_t i = 0; i < here; ++i) {
      for (size_t v = 0; v < vectors; ++v) {
        Vector& score = scores[i * vectors + v];
        score *= splat(scale[i]);
        largest[v] = larger(largest[v], score);
      }
    }
  }
}

void Inference::splat_block(const Member& member, size_t p, size_t count, const Vector* block) {
  const size_t row = vectors_;
  const bool far = bilateral_.exceeds_cache();
  const Lattice<5>& five = bilateral_.lattice;
  const Lattice<2>& two = gaussian_.lattice;
  in_pieces(row, [&](auto width, size_t piece) {
    Vector* bilateral = bilateral_.written(member, piece);
    Vector* gaussian = gaussian_.written(member, piece);
    for (size_t i = 0; i < count; ++i) {
      const size_t at = p + i;
      if (far) prefetch_corners<width, 6>(&five.vertex[std::min(at + kAhead, pixels_ - 1) * 6], bilateral);
      Vector value[width];
      std::copy_n(block + i * row + piece, int(width), value);
      scatter<6>(&five.vertex[at * 6], &five.weight[at * 6], bilateral, value);
      scatter<3>(&two.vertex[at * 3], &two.weight[at * 3], gaussian, value);
    }
  });
}

void Inference::store_marginals(size_t p, size_t count, const Vector* block) {
  const int32_t* pixel = &bilateral_.lattice.pixel[p];
  store_block(block, vectors_, pixel, count, kept_.size(), marginals_.data());
  for (int label : left_out_) {
    const float* probability = task_.probabilities + label * pixels_;
    float* plane = task_.marginals + label * pixels_;
    for (size_t i = 0; i < count; ++i) plane[pixel[i]] = probability[pixel[i]] * others_scale_[p + i];
  }
}

// Leaves out the labels whose marginals are negligible everywhere, if that makes the rows shorter. Every member's
// `largest_` must be complete, which the barriers of `publish` ensure. Ends at a barrier.
void Inference::leave_out_labels(Member& member) {
  if (member.index() == 0) {
    float* leaving = reinterpret_cast<float*>(leaving_.data());
    std::fill_n(leaving, vectors_ * kLanes, 0.0f);
    lanes_.clear();
    for (size_t lane = 0; lane < kept_.size(); ++lane) {
      float largest = 0;
      for (int t = 0; t < member.size(); ++t) {
        largest = std::max(largest, reinterpret_cast<const float*>(&largest_[t * vectors_])[lane]);
      }
      if (largest >= task_.negligible) {
        lanes_.push_back(int(lane));
      } else {
        leaving[lane] = 1;
      }
    }
  }
  member.barrier();
  const size_t vectors = vectors_for(int(lanes_.size()));
  if (vectors == 0 || vectors == vectors_) return;
  bilateral_.narrow(member, lanes_, vectors);
  gaussian_.narrow(member, lanes_, vectors);
  const auto [first, last] = member.share(pixels_);
  for (size_t p = first; p < last; ++p) {
    Vector leaving = {};
    for (size_t v = 0; v < vectors_; ++v) leaving += leaving_[v] * exp2(unary_[p * vectors_ + v]);
    for (int lane = 0; lane < kLanes; ++lane) others_[p] += leaving[lane];
    const float* old = reinterpret_cast<const float*>(&unary_[p * vectors_]);
    float* narrowed = reinterpret_cast<float*>(&spare_[p * vectors]);
    for (size_t i = 0; i < lanes_.size(); ++i) narrowed[i] = old[lanes_[i]];
    std::fill(narrowed + lanes_.size(), narrowed + vectors * kLanes, kLowestExponent);
  }
  member.barrier();
  if (member.index() == 0) {
    std::swap(unary_, spare_);
    vectors_ = vectors;
    const float* leaving = reinterpret_cast<const float*>(leaving_.data());
    for (size_t lane = 0; lane < kept_.size(); ++lane) {
      if (leaving[lane] > 0) left_out_.push_back(kept_[lane]);
    }
    for (size_t i = 0; i < lanes_.size(); ++i) {
      kept_[i] = kept_[lanes_[i]];
      marginals_[i] = marginals_[lanes_[i]];
    }
    kept_.resize(lanes_.size());
  }
  member.barrier();
}

}  // namespace
}  // namespace getam
