#include "operations_line_filter.h"

#if defined(__x86_64__)

#include "operations_lanes_avx2.h"

namespace millstream::operations {

namespace {

template <int NumTaps, bool IsVarying>
MILLSTREAM_FMA MILLSTREAM_INLINE Lanes filtered(const LineFilter& filter, const uint8_t* p,
                                                int begin) {
  Lanes sum;
  for (int group = 0; group < 4; ++group) {
    for (int tap = 0; tap < NumTaps; ++tap) {
      const uint8_t* const bytes = p + tap * filter.stride + 8 * group;
      const __m256 values = _mm256_cvtepi32_ps(load_group(bytes));
      const __m256 weights = IsVarying ? _mm256_loadu_ps(filter.weights[tap] + begin + 8 * group)
                                       : _mm256_broadcast_ss(filter.weights[tap]);
      sum.groups[group] = tap == 0 ? _mm256_mul_ps(values, weights)
                                   : _mm256_fmadd_ps(values, weights, sum.groups[group]);
    }
  }
  return sum;
}

// Where all taps are equal, PIL's filters give that value, without an error.
MILLSTREAM_FMA MILLSTREAM_INLINE __m256i where_flat(const LineFilter& filter, const uint8_t* p,
                                                    int num_taps) {
  const __m256i first = load_bytes(p);
  const int extra_taps = filter.is_near_pixel ? 1 : 0;
  __m256i is_flat = _mm256_cmpeq_epi8(first, first);
  for (int tap = -extra_taps; tap < num_taps + extra_taps; ++tap) {
    const __m256i other = load_bytes(p + tap * filter.stride);
    is_flat = _mm256_and_si256(is_flat, _mm256_cmpeq_epi8(first, other));
  }
  return is_flat;
}

// Fills `out`, in whole vectors, and `open` with the bytes of which it does not know the value.
// Returns their number.
template <int NumTaps, bool IsVarying>
MILLSTREAM_FMA int filter_row(const LineFilter& filter, int bytes, uint8_t* out, int32_t* open) {
  int num_open = 0;
  for (int begin = 0; begin < bytes; begin += static_cast<int>(kLanes)) {
    const uint8_t* const p = filter.first + begin;
    const Lanes sum = filtered<NumTaps, IsVarying>(filter, p, begin);
    __m256i low = truncate(sum, -filter.error_bound);
    const __m256i high = truncate(sum, filter.error_bound);
    const __m256i is_known = _mm256_cmpeq_epi8(low, high);
    auto unknown = ~static_cast<uint32_t>(_mm256_movemask_epi8(is_known));
    if (bytes - begin < static_cast<int>(kLanes)) unknown &= (1u << (bytes - begin)) - 1;
    if (unknown != 0) {
      const __m256i is_flat = where_flat(filter, p, NumTaps);
      low = _mm256_blendv_epi8(low, load_bytes(p), is_flat);
      unknown &= ~static_cast<uint32_t>(_mm256_movemask_epi8(is_flat));
      for (; unknown != 0; unknown &= unknown - 1) {
        open[num_open++] = begin + __builtin_ctz(unknown);
      }
    }
    store_bytes(out + begin, low);
  }
  return num_open;
}

}  // namespace

void weigh(double part, int num_taps, float* weights) {
  const double square = part * part, cube = square * part;
  if (num_taps == 2) {
    weights[0] = static_cast<float>(1 - part);
    weights[1] = static_cast<float>(part);
  } else {
    weights[0] = static_cast<float>(-part + 2 * square - cube);
    weights[1] = static_cast<float>(1 - 2 * square + cube);
    weights[2] = static_cast<float>(part + square - cube);
    weights[3] = static_cast<float>(cube - square);
  }
}

FilterRow choose_filter(Filter filter, bool is_varying) {
  if (filter == Filter::kBicubic) return is_varying ? filter_row<4, true> : filter_row<4, false>;
  return is_varying ? filter_row<2, true> : filter_row<2, false>;
}

}  // namespace millstream::operations

#endif
