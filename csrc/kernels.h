// The computations on a lattice, compiled once per instruction set. interface.cpp picks one.
#pragma once

#include "lattice.h"

namespace getam {

// Filters `channels` planes of one image with the unnormalised bilateral kernel W, or with its transpose.
struct BilateralFilter {
  Image image;
  int channels;
  bool transposed;
  int threads;
  const float* values;  // (channels, height, width)
  float* filtered;      // (channels, height, width)
};

// Mean-field inference of a dense CRF with Potts compatibility on one image.
struct MeanField {
  Image bilateral;
  Image gaussian;
  float bilateral_compatibility;
  float gaussian_compatibility;
  int labels;
  int iterations;
  float negligible;  // labels below this probability everywhere may be left out
  int threads;
  const float* probabilities;  // (labels, height, width); less than 1e-20 counts as 1e-20
  float* marginals;            // (labels, height, width)
};

// Both throw std::invalid_argument as build_lattice does, std::bad_alloc and std::system_error.
#define GETAM_DECLARE_KERNELS(instruction_set)  \
  namespace instruction_set {                   \
  void run(const BilateralFilter& task);        \
  void run(const MeanField& task);              \
  }

GETAM_DECLARE_KERNELS(portable)
GETAM_DECLARE_KERNELS(avx2)

}  // namespace getam
