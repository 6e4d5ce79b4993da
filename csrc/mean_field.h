// Mean-field inference of a dense CRF. Included by kernels.cpp alone.
//
// One pass over the points slices every kernel's messages, takes the softmax and splats the marginals for the next
// iteration. Labels live in the lanes of vectors; when enough of them have become negligible, the rows get shorter.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "blocks.h"
#include "kernels.h"
#include "memory.h"
#include "pair.h"
#include "team.h"
#include "term.h"
#include "vector.h"

namespace getam {
namespace {

class Inference {
 public:
  explicit Inference(const MeanField& task);
  void run();

 private:
  void iterate(Member& member);
  void load_unary(Member& member);
  void load_start(size_t p, size_t count, Vector* block);
  void add_messages(size_t p, size_t count, bool first, Vector* block, Vector* scratch);
  void normalise(const Member& member, size_t p, size_t count, Vector* block);
  template <int kVectors>
  void softmax(const Member& member, size_t p, size_t count, Vector* block);
  void store_marginals(size_t p, size_t count, const Vector* block);
  void leave_out_labels(Member& member);

  const MeanField& task_;
  const size_t pixels_;
  const Array<int32_t> order_;  // without pairwise terms
  const int32_t* pixel_;        // the order of the points: position -> index
  std::vector<int> kept_;      // lane -> label
  std::vector<int> left_out_;  // labels
  size_t vectors_;
  std::vector<Term> terms_;
  Pair pair_;
  Array<Vector> unary_;        // (pixels, vectors): log2 of the probabilities
  Array<Vector> spare_;        // the same, narrower
  Array<float> others_;        // (pixels): sum of the probabilities of the labels left out
  Array<float> others_scale_;  // (pixels): their marginals over their probabilities
  Array<Vector> blocks_;       // two per thread, never uninitialised: softmax takes whole vectors of pixels
  Array<Vector> largest_;      // per thread: the largest marginal of each lane
  std::vector<const float*> probabilities_;  // lane -> plane, before any lane goes
  std::vector<const float*> start_;          // the same, of the marginals to begin with
  std::vector<float*> marginals_;            // lane -> plane
  std::vector<int> lanes_;                   // the lanes that stay, when some go
  Array<Vector> leaving_;                    // 1 in the lanes that go
};

std::vector<int> labels_above(const MeanField& task, float negligible) {
  std::vector<int> all;
  std::vector<int> above;
  for (int c = 0; c < task.labels; ++c) {
    const float* plane = task.unary + c * task.points;
    all.push_back(c);
    if (task.energies || *std::max_element(plane, plane + task.points) >= negligible) above.push_back(c);
  }
  return above.empty() ? all : above;
}

Array<int32_t> in_order(size_t count) {
  Array<int32_t> order(count);
  for (size_t i = 0; i < count; ++i) order[i] = int32_t(i);
  return order;
}

std::vector<Term> make_terms(const MeanField& task, size_t vectors) {
  std::vector<Term> terms;
  terms.reserve(task.pairwise.size());
  for (const Pairwise& pairwise : task.pairwise) terms.emplace_back(pairwise, task.labels, vectors, task.threads);
  return terms;
}

Inference::Inference(const MeanField& task)
    : task_(task),
      pixels_(task.points),
      order_(in_order(task.pairwise.empty() ? task.points : 0)),
      pixel_(task.pairwise.empty() ? order_.data() : task.pairwise[0].kernel->lattice.pixel.data()),
      kept_(labels_above(task, task.negligible)),
      vectors_(vectors_for(int(kept_.size()))),
      terms_(make_terms(task, vectors_)),
      pair_(terms_),
      unary_(pixels_ * vectors_),
      spare_(task.negligible > 0 ? pixels_ * vectors_ : 0),
      others_(pixels_),
      others_scale_(pixels_),
      blocks_(task.threads * 2 * kBlock * vectors_),
      largest_(task.threads * vectors_),
      leaving_(vectors_) {
  for (int c = 0; c < task.labels; ++c) {
    if (!std::binary_search(kept_.begin(), kept_.end(), c)) left_out_.push_back(c);
  }
  for (int label : kept_) {
    probabilities_.push_back(task.unary + label * pixels_);
    if (task.start != nullptr) start_.push_back(task.start + label * pixels_);
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
  const size_t scratch_size = kBlock * vectors_;
  Vector* block = &blocks_[member.index() * 2 * scratch_size];
  std::fill_n(block, 2 * scratch_size, Vector{});
  for (Term& term : terms_) term.tables.clear_written(member);
  load_unary(member);
  for (int i = 0;; ++i) {
    std::fill_n(&largest_[member.index() * vectors_], vectors_, Vector{});
    for_blocks(member, pixels_, [&](size_t p, size_t count) {
      if (i == 0 && task_.start != nullptr) {
        load_start(p, count, block);
      } else {
        add_messages(p, count, i == 0, block, block + scratch_size);
        normalise(member, p, count, block);
      }
      if (i == task_.iterations) return store_marginals(p, count, block);
      if (pair_) return pair_.splat(p, count, block);
      for (Term& term : terms_) term.splat(p, count, block);
    });
    if (i == task_.iterations) return;
    for (Term& term : terms_) term.tables.publish(member);
    if (task_.negligible > 0) leave_out_labels(member);
    for (Term& term : terms_) term.tables.blur(member);
  }
}

// Rows of scores in base 2: logarithms of probabilities, or energies below zero.
void Inference::load_unary(Member& member) {
  // Keeps the logarithm of 0 finite. The same number is in getam/lattice/crf_on_cpu.py and getam/lattice/torch_lattice.py.
  constexpr float kSmallest = 1e-20f;
  // Scores of lanes without a label, and bounds of the others: far from the largest float, with which sums overflow.
  constexpr float kLargest = 1e30f;
  const size_t labels = kept_.size();
  for_blocks(member, pixels_, [&](size_t p, size_t count) {
    Vector* rows = &unary_[p * vectors_];
    load_block(probabilities_.data(), labels, &pixel_[p], count, vectors_, rows);
    for (size_t i = 0; i < count * vectors_; ++i) {
      rows[i] = task_.energies ? larger(smaller(rows[i], splat(kLargest)), splat(-kLargest)) * -kLog2E
                               : log2(larger(rows[i], splat(kSmallest)));
    }
    for (size_t i = 0; i < count; ++i) {
      float* row = reinterpret_cast<float*>(rows + i * vectors_);
      std::fill(row + labels, row + vectors_ * kLanes, 2 * -kLargest);
      float others = 0;
      for (int label : left_out_) others += task_.unary[label * pixels_ + pixel_[p + i]];
      others_[p + i] = others;
    }
  });
  member.barrier();
}

void Inference::load_start(size_t p, size_t count, Vector* block) {
  load_block(start_.data(), start_.size(), &pixel_[p], count, vectors_, block);
}

void Inference::add_messages(size_t p, size_t count, bool first, Vector* block, Vector* scratch) {
  if (pair_ && !first) return pair_.add_messages(p, count, &unary_[p * vectors_], block);
  std::copy_n(&unary_[p * vectors_], count * vectors_, block);
  if (first) return;
  for (Term& term : terms_) term.add_messages(p, count, int(kept_.size()), block, scratch);
}

void Inference::normalise(const Member& member, size_t p, size_t count, Vector* block) {
  switch (vectors_) {
    case 1: return softmax<1>(member, p, count, block);
    case 2: return softmax<2>(member, p, count, block);
    case 3: return softmax<3>(member, p, count, block);
    default: return softmax<0>(member, p, count, block);
  }
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

void Inference::store_marginals(size_t p, size_t count, const Vector* block) {
  const int32_t* pixel = &pixel_[p];
  store_block(block, vectors_, pixel, count, kept_.size(), marginals_.data());
  for (int label : left_out_) {
    const float* probability = task_.unary + label * pixels_;
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
  for (Term& term : terms_) term.tables.narrow(member, lanes_, vectors);
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
