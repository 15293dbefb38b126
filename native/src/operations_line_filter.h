// Filters along the bytes of a row with AVX2, in float32, and knows where that is not exact enough.

#pragma once

#include <cstddef>
#include <cstdint>

#include "operations.h"

namespace millstream::operations {

// The taps of a filter, and with which weight each adds to the bytes of a row.
struct LineFilter {
  const uint8_t* first;     // the first tap of the first byte
  ptrdiff_t stride;         // from one tap to the next
  const float* weights[4];  // of each tap: one for all bytes, or one for each
  float error_bound;
  // Whether some lie so near to a pixel that PIL's coordinates, rounded otherwise, may be beyond
  // it.
  bool is_near_pixel;
};

// What a kernel may read and write past its last byte.
constexpr size_t kSlack = 64;

// Bounds |filtered - PIL's value|. With values to 255 and weights whose absolute values sum to at
// most 1.5: rounding the weights to float32 adds 3e-5, the four products 2.3e-5, the three sums
// 7e-5, the sum or difference with this bound 1.5e-5, a coordinate rounded below 2^20 1e-6.
constexpr float kErrorBound = 1.0f / 4096;

// The weights of PIL's filters at `part` of the way, 0 to 1, from the second of four taps to the
// third or from the first of two to the second.
void weigh(double part, int num_taps, float* weights);

// Filters `bytes` bytes into `out`, in whole vectors, and writes to `open` those for which the
// error bound leaves two answers. Returns their number.
using FilterRow = int (*)(const LineFilter& taps, int bytes, uint8_t* out, int32_t* open);

// `is_varying`: with a weight for each byte.
FilterRow choose_filter(Filter filter, bool is_varying);

}  // namespace millstream::operations
