// What Python calls: plain C, so that neither Python's headers nor torch's are needed to build it.
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <exception>
#include <stdexcept>
#include <string>

#include "kernels.h"
#include "team.h"

namespace {

bool has_avx2() {
#if defined(GETAM_WITH_AVX2)
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
  return false;
#endif
}

template <typename Task>
void run(const Task& task, bool portable) {
#if defined(GETAM_WITH_AVX2)
  if (has_avx2() && !portable) return getam::avx2::run(task);
#endif
  (void)portable;
  getam::portable::run(task);
}

// Runs a function that may throw: 0, or 1 with the reason in `error`.
template <typename F>
int guarded(char* error, int error_size, F f) {
  try {
    f();
    return 0;
  } catch (const std::exception& exception) {
    std::snprintf(error, error_size, "%s", exception.what());
    return 1;
  }
}

}  // namespace

#define GETAM_EXPORT extern "C" __attribute__((visibility("default")))

GETAM_EXPORT int getam_has_avx2() { return has_avx2(); }

// images (batch, 3, height, width); values and filtered (batch, channels, height, width). The threads are spread over the
// images, and over the pixels of each where there are fewer images than threads.
GETAM_EXPORT int getam_bilateral_filter(const float* images, const float* values, float* filtered, int batch,
                                        int channels, int height, int width, float sigma_rgb, float sigma_xy,
                                        int transposed, int threads, int portable, char* error, int error_size) {
  const auto filter = [&](int b, int threads_each) {
    const size_t pixels = size_t(height) * width;
    getam::BilateralFilter task;
    task.image = {height, width, images + 3 * b * pixels, sigma_xy, sigma_rgb};
    task.channels = channels;
    task.transposed = transposed != 0;
    task.threads = threads_each;
    task.values = values + b * channels * pixels;
    task.filtered = filtered + b * channels * pixels;
    run(task, portable != 0);
  };
  return guarded(error, error_size, [&] {
    const int at_once = std::min(batch, threads);
    std::atomic<int> next{0};
    std::atomic<int> failed{0};
    getam::run_team(at_once, [&](getam::Member&) {
      for (int b = next++; b < batch && failed == 0; b = next++) {
        char reason[256];
        if (guarded(reason, sizeof(reason), [&] { filter(b, std::max(1, threads / at_once)); }) == 0) continue;
        if (failed++ == 0) std::snprintf(error, error_size, "image %d: %s", b, reason);
      }
    });
    if (failed > 0) throw std::runtime_error(std::string(error));
  });
}

// rgb (3, height, width); probabilities and marginals (labels, height, width).
GETAM_EXPORT int getam_mean_field(const float* rgb, const float* probabilities, float* marginals, int labels, int height,
                                  int width, int iterations, float gaussian_sigma_xy, float gaussian_compatibility,
                                  float bilateral_sigma_xy, float bilateral_sigma_rgb, float bilateral_compatibility,
                                  float negligible, int threads, int portable, char* error, int error_size) {
  return guarded(error, error_size, [&] {
    getam::MeanField task;
    task.bilateral = {height, width, rgb, bilateral_sigma_xy, bilateral_sigma_rgb};
    task.gaussian = {height, width, nullptr, gaussian_sigma_xy, 1};
    task.bilateral_compatibility = bilateral_compatibility;
    task.gaussian_compatibility = gaussian_compatibility;
    task.labels = labels;
    task.iterations = iterations;
    task.negligible = negligible;
    task.threads = threads;
    task.probabilities = probabilities;
    task.marginals = marginals;
    run(task, portable != 0);
  });
}
