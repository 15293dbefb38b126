// The two passes of a resampling, as PIL makes them: across each row first, then down the columns,
// with 8 bits between the two.

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "taps.h"

namespace millstream {

// Rows of samples are followed by as many bytes that may be read, and of results by as many that
// may be written: kernels work in whole vectors.
constexpr int kRowPadding = 64;

// Taps in the form that a kernel multiplies with.
struct PreparedTaps {
  int pairs = 0;                 // of taps, for each output
  std::vector<int32_t> weights;  // in an order of the kernel's own
};

// One processor's way. All give the same bits.
struct Kernels {
  void (*prepare_across)(const Taps& taps, PreparedTaps* prepared);
  void (*prepare_down)(const Taps& taps, PreparedTaps* prepared);
  // Makes a row of RGB pixels, an output each, of a row of RGBX pixels.
  void (*across)(const uint8_t* rgbx, const Taps& taps, const PreparedTaps& prepared,
                 uint8_t* rgb);
  // Makes output number `output`, a row of `num_bytes`, of the rows that `rows`, the output's first
  // tap, begins; they lie `stride` bytes apart.
  void (*down)(const uint8_t* rows, size_t stride, const Taps& taps, const PreparedTaps& prepared,
               int output, int num_bytes, uint8_t* result);
};

// The fastest that this processor can run.
const Kernels& kernels();

// Lets tests compare the portable ones.
void use_portable_kernels(bool is_portable);

const Kernels& portable_kernels();
#if defined(__x86_64__)
const Kernels& avx2_kernels();
#endif

}  // namespace millstream
