#include "operations_blend.h"

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "operations_scratch.h"
#include "operations_simd.h"

#if defined(__x86_64__)
#include "operations_lanes_avx2.h"
#endif

namespace millstream::operations {

namespace {

MILLSTREAM_INLINE uint32_t luma(uint32_t red, uint32_t green, uint32_t blue) {
  return (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16;
}

MILLSTREAM_INLINE void sum_luma_loop_body(const uint8_t* pixels, size_t num_pixels, uint64_t* sum) {
  constexpr size_t kBlock = 1 << 14;  // of which the sum fits into 32 bits
  *sum = 0;
  for (size_t begin = 0; begin < num_pixels; begin += kBlock) {
    const uint8_t* const p = pixels + 3 * begin;
    const size_t count = std::min(kBlock, num_pixels - begin);
    uint32_t block_sum = 0;
    for (size_t i = 0; i < count; ++i) block_sum += luma(p[3 * i], p[3 * i + 1], p[3 * i + 2]);
    *sum += block_sum;
  }
}

MILLSTREAM_MULTIVERSION(sum_luma_loop, (const uint8_t* pixels, size_t num_pixels, uint64_t* sum),
                        (pixels, num_pixels, sum))

// The lumas of pixels, each three times.
MILLSTREAM_INLINE void expand_luma_body(const uint8_t* pixels, size_t num_pixels, uint8_t* out) {
  for (size_t i = 0; i < 3 * num_pixels; i += 3) {
    const auto gray = static_cast<uint8_t>(luma(pixels[i], pixels[i + 1], pixels[i + 2]));
    out[i] = out[i + 1] = out[i + 2] = gray;
  }
}

MILLSTREAM_MULTIVERSION(expand_luma, (const uint8_t* pixels, size_t num_pixels, uint8_t* out),
                        (pixels, num_pixels, out))

#if defined(__x86_64__)

// `blend` of whole vectors of bytes. Returns how many.
MILLSTREAM_AVX2 size_t blend_into_avx2(const uint8_t* first, size_t count, float factor,
                                       uint8_t* second) {
  const __m256 factors = _mm256_set1_ps(factor);
  size_t done = 0;
  for (; done + kLanes <= count; done += kLanes) {
    IntegerLanes mixed;
    for (size_t i = 0; i < 4; ++i) {
      const __m256i from = load_group(first + done + 8 * i);
      const __m256i step = _mm256_sub_epi32(load_group(second + done + 8 * i), from);
      const __m256 scaled = _mm256_mul_ps(factors, _mm256_cvtepi32_ps(step));
      mixed.groups[i] = _mm256_cvttps_epi32(_mm256_add_ps(_mm256_cvtepi32_ps(from), scaled));
    }
    store_bytes(second + done, pack(mixed));
  }
  return done;
}

#endif

// second = blend(first, second, factor).
void blend_into(const uint8_t* first, size_t count, float factor, uint8_t* second) {
  size_t done = 0;
#if defined(__x86_64__)
  if (may_use_avx2()) done = blend_into_avx2(first, count, factor, second);
#endif
  for (; done < count; ++done) second[done] = blend(first[done], second[done], factor);
}

constexpr size_t kBlockPixels = 256;

// Calls use(lumas, pixels, bytes) for blocks of the image's pixels.
template <typename Use>
void for_lumas(const Image& image, const Use& use) {
  uint8_t lumas[3 * kBlockPixels];
  const size_t num_pixels = image.bytes() / 3;
  for (size_t begin = 0; begin < num_pixels; begin += kBlockPixels) {
    const size_t count = std::min(kBlockPixels, num_pixels - begin);
    uint8_t* const pixels = image.pixels + 3 * begin;
    expand_luma(pixels, count, lumas);
    use(lumas, pixels, 3 * count);
  }
}

// ImageFilter.SMOOTH's mean with weight 1 for the neighbours and 5 for the pixel, from their
// weighted sum. PIL rounds sum / 13 + 0.5 from a float32, whose errors are far below the 1 / 26 by
// which such a number misses the next integer.
constexpr uint32_t smooth(uint32_t weighted_sum) { return (weighted_sum + 6) * 5042 >> 16; }

constexpr bool smooth_is_exact() {
  for (uint32_t sum = 0; sum <= 13 * 255; ++sum) {
    if (smooth(sum) != (2 * sum + 13) / 26) return false;
  }
  return true;
}
static_assert(smooth_is_exact());

struct ThreeRows {
  const uint8_t* above;
  const uint8_t* here;
  const uint8_t* below;
};

// `columns` is memory for as many sums. The first and the last pixel are not written.
MILLSTREAM_INLINE void smooth_row_body(const ThreeRows& rows, size_t bytes, uint16_t* columns,
                                       uint8_t* out) {
  const uint8_t *above = rows.above, *here = rows.here, *below = rows.below;
  for (size_t i = 0; i < bytes; ++i) {
    columns[i] = static_cast<uint16_t>(above[i] + here[i] + below[i]);
  }
  for (size_t i = 3; i < bytes - 3; ++i) {
    const auto sum =
        static_cast<uint16_t>(columns[i - 3] + columns[i] + columns[i + 3] + 4 * here[i]);
    out[i] = static_cast<uint8_t>(smooth(sum));
  }
}

MILLSTREAM_MULTIVERSION(smooth_row,
                        (const ThreeRows& rows, size_t bytes, uint16_t* columns, uint8_t* out),
                        (rows, bytes, columns, out))

}  // namespace

uint64_t sum_luma(const Image& image) {
  uint64_t sum;
  sum_luma_loop(image.pixels, image.bytes() / 3, &sum);
  return sum;
}

void set_color(const Image& image, float factor) {
  for_lumas(image, [&](const uint8_t* lumas, uint8_t* pixels, size_t bytes) {
    blend_into(lumas, bytes, factor, pixels);
  });
}

void make_gray(const Image& image) {
  for_lumas(image, [](const uint8_t* lumas, uint8_t* pixels, size_t bytes) {
    std::memcpy(pixels, lumas, bytes);
  });
}

// ImageEnhance.Sharpness, which blends with the smoothed image and leaves the border as it is.
void set_sharpness(const Image& image, float factor) {
  if (image.height < 3 || image.width < 3) return;
  const size_t bytes = image.row_bytes();
  uint8_t* const copies = scratch<0>(2 * bytes);
  uint8_t* const smoothed = scratch<1>(bytes);
  uint16_t* const columns = scratch<1, uint16_t>(bytes);
  std::memcpy(copies, image.row(0), bytes);
  for (int y = 1; y + 1 < image.height; ++y) {
    uint8_t* const above = copies + (y % 2 == 0 ? bytes : 0);
    uint8_t* const here = copies + (y % 2 == 0 ? 0 : bytes);
    std::memcpy(here, image.row(y), bytes);
    smooth_row({above, here, image.row(y + 1)}, bytes, columns, smoothed);
    blend_into(smoothed + 3, bytes - 6, factor, image.row(y) + 3);
  }
}

}  // namespace millstream::operations
