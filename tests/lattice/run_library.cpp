// Runs the lattice's C interface without Python: reads a case from stdin and writes the marginals to stdout, so that
// builds for other processors can be compared under an emulator (tests/lattice/test_other_processors.py).
#include <cstdint>
#include <cstdio>
#include <vector>

extern "C" {
int getam_has_avx2();
int getam_kernel_new(void** kernel, int height, int width, int positions, float sigma_x, float sigma_y, int channels,
                     const float* planes, const float* sigmas, int normalisation, int threads, int portable,
                     char* error, int error_size);
int getam_mean_field(int terms, const void* const* kernels, const int* kinds, const float* const* compatibilities,
                     int points, int labels, int iterations, float negligible, const float* unary, int energies,
                     const float* start, float* marginals, int threads, int portable, char* error, int error_size);
}

int main() {
  int32_t sizes[4];  // height, width, labels, threads
  if (fread(sizes, sizeof(sizes), 1, stdin) != 1) return 1;
  const auto [height, width, labels, threads] = sizes;
  const size_t pixels = size_t(height) * width;
  std::vector<float> planes(3 * pixels);
  std::vector<float> probabilities(labels * pixels);
  std::vector<float> marginals(labels * pixels);
  if (fread(planes.data(), sizeof(float), planes.size(), stdin) != planes.size()) return 1;
  if (fread(probabilities.data(), sizeof(float), probabilities.size(), stdin) != probabilities.size()) return 1;

  char error[512];
  void* kernels[2];
  const float sigmas[3] = {13, 13, 13};
  const float weights[2] = {4, 3};
  const float* compatibilities[2] = {&weights[0], &weights[1]};
  const int kinds[2] = {0, 0};
  const int symmetric = 3;
  if (getam_kernel_new(&kernels[0], height, width, 1, 30, 30, 3, planes.data(), sigmas, symmetric, threads, 0, error,
                       sizeof(error)) != 0 ||
      getam_kernel_new(&kernels[1], height, width, 1, 3, 3, 0, nullptr, nullptr, symmetric, threads, 0, error,
                       sizeof(error)) != 0 ||
      getam_mean_field(2, kernels, kinds, compatibilities, int(pixels), labels, 10, 0, probabilities.data(), 0, nullptr,
                       marginals.data(), threads, 0, error, sizeof(error)) != 0) {
    fprintf(stderr, "%s\n", error);
    return 1;
  }
  fprintf(stderr, "%s\n", getam_has_avx2() ? "avx2" : "portable");
  return fwrite(marginals.data(), sizeof(float), marginals.size(), stdout) == marginals.size() ? 0 : 1;
}
