// The computations on lattices, compiled once per instruction set. interface.cpp picks one.
#pragma once

#include <vector>

#include "lattice.h"

namespace getam {

// What W, the lattice's filter, is multiplied by; n = W 1. The numbers are those of getam_lattice/kernels.py.
enum class Normalisation {
  kNone = 0,
  kBefore = 1,     // W / n: the values are divided before they are filtered
  kAfter = 2,      // (1 / n) W: they are divided afterwards
  kSymmetric = 3,  // n^-1/2 W n^-1/2
};

// A Gaussian kernel between the points: a lattice and its normalisation.
struct Kernel {
  Lattice lattice;  // of the symmetric normalisation, the weights are multiplied by n^-1/2
  Normalisation normalisation = Normalisation::kNone;
  Array<float> factor;  // (points), in the list's order, of the one-sided normalisations: 1 / n
};

// Fills in the normalisation of a kernel that has its lattice.
struct Normalise {
  Kernel& kernel;
  int threads;
};

// Filters `channels` planes of one image with a kernel, or with its transpose.
struct Filter {
  const Kernel* kernel;
  int channels;
  bool transposed;
  int threads;
  const float* values;  // (channels, height, width)
  float* filtered;      // (channels, height, width)
};

// The numbers are those of getam_lattice/kernels.py.
enum class Compatibility { kPotts = 0, kDiagonal = 1, kMatrix = 2 };

// One pairwise term of a dense CRF: the filtered marginals times the compatibility are added to the scores.
struct Pairwise {
  const Kernel* kernel;
  Compatibility kind;
  const float* compatibility;  // one number, (labels) or (labels, labels)
};

// Mean-field inference of a dense CRF.
struct MeanField {
  std::vector<Pairwise> pairwise;
  size_t points;
  int labels;
  int iterations;
  float negligible;  // labels below this probability everywhere may be left out; only with probabilities and Potts
  int threads;
  const float* unary;  // (labels, points): probabilities, of which less than 1e-20 counts as 1e-20, or energies
  bool energies;
  const float* start;  // (labels, points): the marginals to begin with; null: those of the unary scores alone
  float* marginals;    // (labels, points)
};

// All throw std::bad_alloc and std::system_error.
#define GETAM_DECLARE_KERNELS(instruction_set)  \
  namespace instruction_set {                   \
  void run(const Normalise& task);              \
  void run(const Filter& task);                 \
  void run(const MeanField& task);              \
  }

GETAM_DECLARE_KERNELS(portable)
GETAM_DECLARE_KERNELS(avx2)

}  // namespace getam
