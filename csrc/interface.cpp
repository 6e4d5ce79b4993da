// The functions that Python calls: plain C, so that the build needs no headers of Python or torch. Functions return a
// Status.
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <exception>
#include <new>
#include <stdexcept>

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

enum Status { kDone = 0, kBadInput = 1, kNoMemory = 2, kFailed = 3 };

// Runs a function that may throw; the reason is left in `error`.
template <typename F>
Status guarded(char* error, int error_size, F f) {
  const auto failed = [&](Status status, const std::exception& exception) {
    std::snprintf(error, error_size, "%s", exception.what());
    return status;
  };
  try {
    f();
    return kDone;
  } catch (const std::invalid_argument& exception) {
    return failed(kBadInput, exception);
  } catch (const std::bad_alloc& exception) {
    return failed(kNoMemory, exception);
  } catch (const std::exception& exception) {
    return failed(kFailed, exception);
  }
}

// Every thread of an image writes to its own tables, which cost memory, and time to sum them.
int threads_for(int threads, size_t pixels) {
  constexpr size_t kMost = 8;
  constexpr size_t kFewestPixels = 32;
  return int(std::max<size_t>(1, std::min({size_t(threads), kMost, pixels / kFewestPixels})));
}

}  // namespace

#define GETAM_EXPORT extern "C" __attribute__((visibility("default")))

// To be raised with every change of an argument list below: a library that was built before it must not be called.
GETAM_EXPORT int getam_interface_version() { return 1; }

GETAM_EXPORT int getam_has_avx2() { return has_avx2(); }

// images (batch, 3, height, width); values and filtered (batch, channels, height, width). The threads are spread over
// the images, and over the pixels of each if there are fewer images than threads.
GETAM_EXPORT int getam_bilateral_filter(const float* images, const float* values, float* filtered, int batch,
                                        int channels, int height, int width, float sigma_rgb, float sigma_xy,
                                        int transposed, int threads, int portable, char* error, int error_size) {
  const auto filter = [&](int b, int threads_each) {
    const size_t pixels = size_t(height) * width;
    getam::BilateralFilter task;
    task.image = {height, width, images + 3 * b * pixels, sigma_xy, sigma_rgb};
    task.channels = channels;
    task.transposed = transposed != 0;
    task.threads = threads_for(threads_each, pixels);
    task.values = values + b * channels * pixels;
    task.filtered = filtered + b * channels * pixels;
    run(task, portable != 0);
  };
  const int at_once = std::min(batch, threads);
  std::atomic<int> next{0};
  std::atomic<int> first_failure{kDone};
  const Status status = guarded(error, error_size, [&] {
    getam::run_team(at_once, [&](getam::Member&) {
      for (int b = next++; b < batch && first_failure == kDone; b = next++) {
        char reason[256];
        const int failure = guarded(reason, sizeof(reason), [&] { filter(b, threads / at_once); });
        int none = kDone;
        if (failure != kDone && first_failure.compare_exchange_strong(none, failure)) {
          std::snprintf(error, error_size, "image %d: %s", b, reason);
        }
      }
    });
  });
  return status != kDone ? int(status) : first_failure.load();
}

// rgb (3, height, width); probabilities and marginals (labels, height, width).
GETAM_EXPORT int getam_mean_field(const float* rgb, const float* probabilities, float* marginals, int labels,
                                  int height, int width, int iterations, float gaussian_sigma_xy,
                                  float gaussian_compatibility, float bilateral_sigma_xy, float bilateral_sigma_rgb,
                                  float bilateral_compatibility, float negligible, int threads, int portable,
                                  char* error, int error_size) {
  return guarded(error, error_size, [&] {
    getam::MeanField task;
    task.bilateral = {height, width, rgb, bilateral_sigma_xy, bilateral_sigma_rgb};
    task.gaussian = {height, width, nullptr, gaussian_sigma_xy, 1};
    task.bilateral_compatibility = bilateral_compatibility;
    task.gaussian_compatibility = gaussian_compatibility;
    task.labels = labels;
    task.iterations = iterations;
    task.negligible = negligible;
    task.threads = threads_for(threads, task.bilateral.pixels());
    task.probabilities = probabilities;
    task.marginals = marginals;
    run(task, portable != 0);
  });
}
