// The bicubic filter at any place with AVX2: in float32, two taps of a pixel at a time, and where
// the error leaves two answers open (three pixels in a thousand) anew as PIL does.

#include "operations_sampling.h"

#if defined(__x86_64__)

#include <cstring>

#include "operations_lanes_avx2.h"
#include "operations_scratch.h"

namespace millstream::operations {

namespace {

// Bounds |sampled - PIL's value| as kErrorBound does, for two filters, one after the other: the
// columns' errors of 1.2e-4, weighed by the rows' filter, 1.8e-4; the latter's own 1.9e-4,
// and 1.5e-5.
constexpr float kSampleErrorBound = 1.0f / 2048;

// For each pixel of a row four weights along each axis, each in an array of its own.
struct Weights {
  const float* x[4];
  const float* y[4];
};

// `weigh` for a span, and for up to three pixels beyond it.
MILLSTREAM_FMA void weigh_span(const double* parts, Span span, float* const weights[4]) {
  for (int x = span.begin; x < span.end; x += 4) {
    const __m256d part = _mm256_loadu_pd(parts + x);
    const __m256d square = _mm256_mul_pd(part, part);
    const __m256d cube = _mm256_mul_pd(square, part);
    const __m256d inner = _mm256_sub_pd(square, cube);
    const __m256d second = _mm256_sub_pd(_mm256_sub_pd(_mm256_set1_pd(1), square), inner);
    _mm_storeu_ps(weights[0] + x,
                  _mm256_cvtpd_ps(_mm256_add_pd(_mm256_sub_pd(square, part), inner)));
    _mm_storeu_ps(weights[1] + x, _mm256_cvtpd_ps(second));
    _mm_storeu_ps(weights[2] + x, _mm256_cvtpd_ps(_mm256_add_pd(part, inner)));
    _mm_storeu_ps(weights[3] + x, _mm256_cvtpd_ps(_mm256_sub_pd(cube, square)));
  }
}

Weights weigh_row(const Positions& positions, Span span) {
  const size_t size = static_cast<size_t>(span.end) + 7;
  float* const memory = scratch<1, float>(8 * size);
  float* const x[4] = {memory, memory + size, memory + 2 * size, memory + 3 * size};
  float* const y[4] = {memory + 4 * size, memory + 5 * size, memory + 6 * size, memory + 7 * size};
  weigh_span(positions.parts_x, span, x);
  weigh_span(positions.parts_y, span, y);
  return {{x[0], x[1], x[2], x[3]}, {y[0], y[1], y[2], y[3]}};
}

// Two weights, each for the four lanes of its tap.
MILLSTREAM_FMA MILLSTREAM_INLINE __m256 both(const float* left, const float* right) {
  return _mm256_blend_ps(_mm256_broadcast_ss(left), _mm256_broadcast_ss(right), 0xf0);
}

// Three channels, and nothing in the fourth lane, of pixel x, which lies at `p`.
MILLSTREAM_FMA MILLSTREAM_INLINE __m128 sample(const uint8_t* p, ptrdiff_t stride,
                                               const Weights& weights, int x) {
  // Out of four taps of three bytes, to two taps of four lanes of 32 bits each.
  const __m256i first_two =
      _mm256_setr_epi8(0, -1, -1, -1, 1, -1, -1, -1, 2, -1, -1, -1, -1, -1, -1, -1, 3, -1, -1, -1,
                       4, -1, -1, -1, 5, -1, -1, -1, -1, -1, -1, -1);
  const __m256i last_two =
      _mm256_setr_epi8(6, -1, -1, -1, 7, -1, -1, -1, 8, -1, -1, -1, -1, -1, -1, -1, 9, -1, -1, -1,
                       10, -1, -1, -1, 11, -1, -1, -1, -1, -1, -1, -1);
  __m256 left = _mm256_setzero_ps(), right = _mm256_setzero_ps();
  for (int row = 0; row < 4; ++row) {
    const auto* const taps = reinterpret_cast<const __m128i*>(p + (row - 1) * stride - 3);
    const __m256i bytes = _mm256_broadcastsi128_si256(_mm_loadu_si128(taps));
    const __m256 weight = _mm256_broadcast_ss(weights.y[row] + x);
    const __m256i ab = _mm256_shuffle_epi8(bytes, first_two);
    const __m256i cd = _mm256_shuffle_epi8(bytes, last_two);
    left = _mm256_fmadd_ps(_mm256_cvtepi32_ps(ab), weight, left);
    right = _mm256_fmadd_ps(_mm256_cvtepi32_ps(cd), weight, right);
  }
  const __m256 sum =
      _mm256_fmadd_ps(left, both(weights.x[0] + x, weights.x[1] + x),
                      _mm256_mul_ps(right, both(weights.x[2] + x, weights.x[3] + x)));
  return _mm_add_ps(_mm256_castps256_ps128(sum), _mm256_extractf128_ps(sum, 1));
}

// Whether all sixteen taps around `p` are one colour, which PIL's filter then gives without an
// error.
bool is_flat(const uint8_t* p, ptrdiff_t stride) {
  const uint8_t* const first = p - stride - 3;
  return std::memcmp(first, first + 3, 9) == 0 && std::memcmp(first, first + stride, 12) == 0 &&
         std::memcmp(first, first + 2 * stride, 12) == 0 &&
         std::memcmp(first, first + 3 * stride, 12) == 0;
}

uint8_t sample_open(const Source& source, const Positions& positions, int x, int channel) {
  const uint8_t* const p = source.origin + positions.offsets[x];
  if (is_flat(p, source.stride)) return p[channel];
  return sample_bicubic(p + channel, source.stride, positions.parts_x[x], positions.parts_y[x]);
}

constexpr int kPixels = static_cast<int>(kLanes) / 4;

// The bytes of the lanes without each fourth.
MILLSTREAM_FMA MILLSTREAM_INLINE void store_pixels(uint8_t* out, __m256i lanes) {
  const __m256i packed = _mm256_shuffle_epi8(
      lanes, _mm256_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1, 0, 1, 2, 4, 5,
                              6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm256_castsi256_si128(packed));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 12), _mm256_extracti128_si256(packed, 1));
}

}  // namespace

MILLSTREAM_FMA void sample_bicubic_row(const Source& source, const Positions& positions, Span span,
                                       uint8_t* row) {
  const Weights weights = weigh_row(positions, span);
  for (int begin = span.begin; begin < span.end; begin += kPixels) {
    Lanes lanes;
    for (int group = 0; group < 4; ++group) {
      const int x = begin + 2 * group;
      const uint8_t* const p = source.origin + positions.offsets[x];
      const uint8_t* const next = source.origin + positions.offsets[x + 1];
      lanes.groups[group] = _mm256_set_m128(sample(next, source.stride, weights, x + 1),
                                            sample(p, source.stride, weights, x));
    }
    const __m256i low = truncate(lanes, -kSampleErrorBound);
    const __m256i is_known = _mm256_cmpeq_epi8(low, truncate(lanes, kSampleErrorBound));
    store_pixels(row + 3 * begin, low);
    uint32_t open = ~static_cast<uint32_t>(_mm256_movemask_epi8(is_known)) & 0x77777777;
    if (span.end - begin < kPixels) open &= (1u << (4 * (span.end - begin))) - 1;
    for (; open != 0; open &= open - 1) {
      const int lane = __builtin_ctz(open);
      const int x = begin + lane / 4;
      row[3 * x + lane % 4] = sample_open(source, positions, x, lane % 4);
    }
  }
}

}  // namespace millstream::operations

#endif
