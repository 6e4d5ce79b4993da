// The functions that Python calls: plain C, so that the build needs no headers of Python or torch. Functions return a
// Status.
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <exception>
#include <memory>
#include <new>
#include <stdexcept>

#include <vector>

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

std::unique_ptr<getam::Kernel> build_kernel(const getam::Features& features, getam::Normalisation normalisation,
                                           int threads, bool portable) {
  auto kernel = std::make_unique<getam::Kernel>();
  kernel->lattice = getam::build_lattice(features, threads);
  kernel->normalisation = normalisation;
  run(getam::Normalise{*kernel, threads}, portable);
  return kernel;
}

// Threads share an image's points, and each keeps copies of rows that others write, too, which have to be summed.
int threads_for(int threads, size_t pixels) {
  constexpr size_t kMost = 8;
  constexpr size_t kFewestPixels = 32;
  return int(std::max<size_t>(1, std::min({size_t(threads), kMost, pixels / kFewestPixels})));
}

}  // namespace

#define GETAM_EXPORT extern "C" __attribute__((visibility("default")))

// To be raised with every change of an argument list below: a library that was built before it must not be called.
GETAM_EXPORT int getam_interface_version() { return 2; }

GETAM_EXPORT int getam_has_avx2() { return has_avx2(); }

// Builds the kernel between the pixels of an image, or between a list of points, which is an image of one row. With
// `positions` the first two features are x / sigma_x and y / sigma_y; the others are planes (channels, height, width)
// over sigmas (channels). The kernel is given back to getam_kernel_delete.
GETAM_EXPORT int getam_kernel_new(void** kernel, int height, int width, int positions, float sigma_x, float sigma_y,
                                  int channels, const float* planes, const float* sigmas, int normalisation,
                                  int threads, int portable, char* error, int error_size) {
  return guarded(error, error_size, [&] {
    const getam::Features features{height, width, positions != 0, sigma_x, sigma_y, channels, planes, sigmas};
    *kernel = build_kernel(features, getam::Normalisation(normalisation), threads_for(threads, features.points()),
                           portable != 0)
                  .release();
  });
}

GETAM_EXPORT void getam_kernel_delete(void* kernel) { delete static_cast<getam::Kernel*>(kernel); }

// values and filtered (channels, points), in the points' own order.
GETAM_EXPORT int getam_kernel_filter(const void* kernel, const float* values, float* filtered, int channels,
                                     int transposed, int threads, int portable, char* error, int error_size) {
  return guarded(error, error_size, [&] {
    const auto* task_kernel = static_cast<const getam::Kernel*>(kernel);
    const int team = threads_for(threads, task_kernel->lattice.points());
    run(getam::Filter{task_kernel, channels, transposed != 0, team, values, filtered}, portable != 0);
  });
}

// images (batch, 3, height, width); values and filtered (batch, channels, height, width). The threads are spread over
// the images, and over the pixels of each if there are fewer images than threads.
GETAM_EXPORT int getam_bilateral_filter(const float* images, const float* values, float* filtered, int batch,
                                        int channels, int height, int width, float sigma_rgb, float sigma_xy,
                                        int transposed, int threads, int portable, char* error, int error_size) {
  const float sigmas[3] = {sigma_rgb, sigma_rgb, sigma_rgb};
  const auto filter = [&](int b, int threads_each) {
    const size_t pixels = size_t(height) * width;
    const int team = threads_for(threads_each, pixels);
    const getam::Features features{height, width, true, sigma_xy, sigma_xy, 3, images + 3 * b * pixels, sigmas};
    const auto kernel = build_kernel(features, getam::Normalisation::kNone, team, portable != 0);
    const size_t first = size_t(b) * channels * pixels;
    run(getam::Filter{kernel.get(), channels, transposed != 0, team, values + first, filtered + first}, portable != 0);
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

// `terms` kernels of the same points, each with the kind of its compatibility and its numbers. unary, start (or null)
// and marginals (labels, points).
GETAM_EXPORT int getam_mean_field(int terms, const void* const* kernels, const int* kinds,
                                  const float* const* compatibilities, int points, int labels, int iterations,
                                  float negligible, const float* unary, int energies, const float* start,
                                  float* marginals, int threads, int portable, char* error, int error_size) {
  return guarded(error, error_size, [&] {
    getam::MeanField task;
    for (int t = 0; t < terms; ++t) {
      task.pairwise.push_back(
          {static_cast<const getam::Kernel*>(kernels[t]), getam::Compatibility(kinds[t]), compatibilities[t]});
    }
    task.points = points;
    task.labels = labels;
    task.iterations = iterations;
    task.negligible = negligible;
    task.threads = threads_for(threads, points);
    task.unary = unary;
    task.energies = energies != 0;
    task.start = start;
    task.marginals = marginals;
    run(task, portable != 0);
  });
}
