// Eight floats at a time, in the vector extension that GCC and Clang share. Included by kernels.cpp alone, which is
// compiled once per instruction set: everything here is internal to that file.
#pragma once

#include <cstdint>

namespace getam {
namespace {

constexpr int kLanes = 8;

typedef float Vector __attribute__((vector_size(4 * kLanes)));
typedef int32_t Integers __attribute__((vector_size(4 * kLanes)));

#define GETAM_INLINE inline __attribute__((always_inline))

GETAM_INLINE Vector splat(float x) { return Vector{x, x, x, x, x, x, x, x}; }

GETAM_INLINE Vector larger(Vector a, Vector b) { return a > b ? a : b; }

GETAM_INLINE Vector smaller(Vector a, Vector b) { return a < b ? a : b; }

#if defined(__clang__)
#define GETAM_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define GETAM_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, Integers{__VA_ARGS__})
#endif

// Lane i of the result is row i's lanes, taken together by `combine` (their sum, or the largest).
template <typename F>
GETAM_INLINE Vector reduce_rows(const Vector (&rows)[kLanes], F combine) {
  Vector pairs[kLanes / 2];
  for (int i = 0; i < kLanes / 2; ++i) {
    const Vector a = rows[2 * i];
    const Vector b = rows[2 * i + 1];
    pairs[i] = combine(GETAM_SHUFFLE(a, b, 0, 8, 2, 10, 4, 12, 6, 14), GETAM_SHUFFLE(a, b, 1, 9, 3, 11, 5, 13, 7, 15));
  }
  Vector fours[2];
  for (int i = 0; i < 2; ++i) {
    const Vector a = pairs[2 * i];
    const Vector b = pairs[2 * i + 1];
    fours[i] = combine(GETAM_SHUFFLE(a, b, 0, 1, 8, 9, 4, 5, 12, 13), GETAM_SHUFFLE(a, b, 2, 3, 10, 11, 6, 7, 14, 15));
  }
  return combine(GETAM_SHUFFLE(fours[0], fours[1], 0, 1, 2, 3, 8, 9, 10, 11),
                 GETAM_SHUFFLE(fours[0], fours[1], 4, 5, 6, 7, 12, 13, 14, 15));
}

#undef GETAM_SHUFFLE

// The smallest exponent of exp2 below. Far above float's smallest: products with interpolation weights must not become
// denormal numbers, with which processors calculate many times slower.
constexpr float kLowestExponent = -72;

// 2^max(x, kLowestExponent) for x < 127, to 2e-7 relative.
GETAM_INLINE Vector exp2(Vector x) {
  x = larger(x, splat(kLowestExponent));
  // Adding 1.5 * 2^23 rounds to the nearest integer, which then stands in the lowest bits.
  constexpr float kRound = 12582912.0f;
  const Vector rounded = x + kRound;
  const Vector f = x - (rounded - kRound);  // in [-1/2, 1/2]
  // Minimax polynomial of 2^f for the relative error.
  Vector p = splat(1.327647129e-3f);
  p = p * f + 9.675541893e-3f;
  p = p * f + 5.550713465e-2f;
  p = p * f + 2.402212024e-1f;
  p = p * f + 6.931469440e-1f;
  p = p * f + 1.000000119f;
  return (Vector)((Integers)p + ((Integers)rounded << 23));
}

// log2(x) for normal x > 0, to 2e-7 of max(1, |log2(x)|).
GETAM_INLINE Vector log2(Vector x) {
  constexpr int32_t kSqrtHalf = 0x3F3504F3;
  const Integers bits = (Integers)x - kSqrtHalf;
  const Integers exponent = bits >> 23;
  const Vector mantissa = (Vector)((bits & 0x7FFFFF) + kSqrtHalf);  // in [sqrt(1/2), sqrt(2))
  // log2(m) = 2 / ln(2) * artanh((m - 1) / (m + 1)), by its series.
  const Vector s = (mantissa - 1.0f) / (mantissa + 1.0f);
  const Vector s2 = s * s;
  Vector series = splat(2.885390082f / 9);
  series = series * s2 + 2.885390082f / 7;
  series = series * s2 + 2.885390082f / 5;
  series = series * s2 + 2.885390082f / 3;
  series = series * s2 + 2.885390082f;
  return __builtin_convertvector(exponent, Vector) + s * series;
}

}  // namespace
}  // namespace getam
