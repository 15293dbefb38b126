#include "kernels.h"

#include <algorithm>
#include <atomic>

namespace millstream {

namespace {

constexpr int32_t kHalf = 1 << (kWeightBits - 1);

uint8_t to_byte(int32_t sum) {
  return static_cast<uint8_t>(std::clamp(sum >> kWeightBits, 0, 255));
}

void prepare(const Taps&, PreparedTaps*) {}

void across(const uint8_t* rgbx, const Taps& taps, const PreparedTaps&, uint8_t* rgb) {
  for (int i = 0; i < taps.outputs(); ++i) {
    const uint8_t* pixel = rgbx + 4 * static_cast<size_t>(taps.first[i]);
    const int* weights = taps.of(i);
    int32_t sums[4] = {kHalf, kHalf, kHalf, kHalf};
    for (int t = 0; t < taps.count[i]; ++t, pixel += 4) {
      for (int channel = 0; channel < 4; ++channel) sums[channel] += pixel[channel] * weights[t];
    }
    for (int channel = 0; channel < 3; ++channel) rgb[3 * i + channel] = to_byte(sums[channel]);
  }
}

void down(const uint8_t* rows, size_t stride, const Taps& taps, const PreparedTaps&, int output,
          int num_bytes, uint8_t* result) {
  const int* weights = taps.of(output);
  constexpr int kBlock = 256;
  for (int begin = 0; begin < num_bytes; begin += kBlock) {
    const int size = std::min(kBlock, num_bytes - begin);
    int32_t sums[kBlock];
    std::fill_n(sums, size, kHalf);
    for (int t = 0; t < taps.count[output]; ++t) {
      const uint8_t* row = rows + stride * t + begin;
      for (int i = 0; i < size; ++i) sums[i] += row[i] * weights[t];
    }
    for (int i = 0; i < size; ++i) result[begin + i] = to_byte(sums[i]);
  }
}

std::atomic<bool> must_be_portable{false};

const Kernels& fastest_kernels() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) return avx2_kernels();
#endif
  return portable_kernels();
}

}  // namespace

const Kernels& portable_kernels() {
  static const Kernels portable{&prepare, &prepare, &across, &down};
  return portable;
}

const Kernels& kernels() {
  static const Kernels& fastest = fastest_kernels();
  return must_be_portable.load(std::memory_order_relaxed) ? portable_kernels() : fastest;
}

void use_portable_kernels(bool is_portable) { must_be_portable = is_portable; }

}  // namespace millstream
