// Sampling with AVX2: the three channels of a pixel in four lanes of float64, PIL's arithmetic.

#include "operations_sampling.h"

#if defined(__x86_64__)

#include <cstring>

#include <immintrin.h>

#include "operations_line_filter.h"
#include "operations_scratch.h"
#include "operations_simd.h"

namespace millstream::operations {

namespace {

// Position(axis(x)) of the pixels of a span, and of up to three beyond it.
MILLSTREAM_AVX2 void split(const Axis& axis, Span span, int32_t* pixels, double* parts) {
  const double* const products = axis.products();
  const __m256d row = _mm256_set1_pd(axis.row()), offset = _mm256_set1_pd(axis.offset());
  for (int x = span.begin; x < span.end; x += 4) {
    const __m256d sum = _mm256_add_pd(_mm256_loadu_pd(products + x), row);
    const __m256d from_centre = _mm256_sub_pd(_mm256_add_pd(sum, offset), _mm256_set1_pd(0.5));
    const __m256d pixel = _mm256_floor_pd(from_centre);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(pixels + x), _mm256_cvttpd_epi32(pixel));
    _mm256_storeu_pd(parts + x, _mm256_sub_pd(from_centre, pixel));
  }
}

MILLSTREAM_AVX2 Positions find_positions(const Axis& axis_x, const Axis& axis_y, Span span,
                                         ptrdiff_t stride) {
  const size_t size = static_cast<size_t>(span.end) + 7;
  int32_t* const offsets = scratch<0, int32_t>(size);
  int32_t* const rows = scratch<1, int32_t>(size);
  double* const parts_x = scratch<0, double>(size);
  double* const parts_y = scratch<1, double>(size);
  split(axis_x, span, offsets, parts_x);
  split(axis_y, span, rows, parts_y);
  const auto row_bytes = static_cast<int32_t>(stride);
  for (int x = span.begin; x < span.end; ++x) offsets[x] = rows[x] * row_bytes + 3 * offsets[x];
  for (int x = span.end; x < span.end + 7; ++x) offsets[x] = 0;
  return {offsets, parts_x, parts_y};
}

MILLSTREAM_AVX2 MILLSTREAM_INLINE __m128i load_pixel(const uint8_t* p) {
  return _mm_cvtepu8_epi32(_mm_loadu_si32(p));
}

// Writes a fourth byte.
MILLSTREAM_AVX2 MILLSTREAM_INLINE void store_pixel(uint8_t* out, __m256d value) {
  __m128i lanes = _mm256_cvttpd_epi32(value);
  lanes = _mm_packs_epi32(lanes, lanes);
  _mm_storeu_si32(out, _mm_packus_epi16(lanes, lanes));
}

// Between a pixel and the next; their difference is exact in int32.
MILLSTREAM_AVX2 MILLSTREAM_INLINE __m256d linear(const uint8_t* p, __m256d part) {
  const __m128i a = load_pixel(p), b = load_pixel(p + 3);
  const __m256d difference = _mm256_cvtepi32_pd(_mm_sub_epi32(b, a));
  return _mm256_add_pd(_mm256_cvtepi32_pd(a), _mm256_mul_pd(difference, part));
}

MILLSTREAM_AVX2 void sample_bilinear_row(const Source& source, const Positions& positions,
                                         Span span, uint8_t* row) {
  for (int x = span.begin; x < span.end; ++x) {
    const uint8_t* const p = source.origin + positions.offsets[x];
    const __m256d part_x = _mm256_broadcast_sd(positions.parts_x + x);
    const __m256d upper = linear(p, part_x), lower = linear(p + source.stride, part_x);
    const __m256d part_y = _mm256_broadcast_sd(positions.parts_y + x);
    const __m256d step = _mm256_mul_pd(_mm256_sub_pd(lower, upper), part_y);
    store_pixel(row + 3 * x, _mm256_add_pd(upper, step));
  }
}

}  // namespace

void warp_avx2(const Warp& job) {
  if (shift_avx2(job)) return;
  const Source& source = job.source;
  const int width = job.out.width;
  Axis axis_x(job.matrix, width, source.width);
  Axis axis_y(job.matrix + 3, width, source.height);
  uint8_t* const line = scratch<1>(job.out.row_bytes() + kSlack);
  for (int y = 0; y < job.out.height; ++y) {
    axis_x.move_to_row(y);
    axis_y.move_to_row(y);
    const Span span = intersection(axis_x.inside(), axis_y.inside());
    const Positions positions = find_positions(axis_x, axis_y, span, source.stride);
    if (job.filter == Filter::kBicubic) {
      sample_bicubic_row(source, positions, span, line);
    } else {
      sample_bilinear_row(source, positions, span, line);
    }
    std::memcpy(job.out.row(y) + 3 * span.begin, line + 3 * span.begin,
                3 * static_cast<size_t>(span.end - span.begin));
    fill_outside(job.out, y, span, job.fill);
  }
}

}  // namespace millstream::operations

#endif
