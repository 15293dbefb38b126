#include "operations_blend.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <vector>

#include "operations_scratch.h"
#include "operations_simd.h"

namespace millstream::operations {

namespace {

MILLSTREAM_INLINE uint32_t luma(uint32_t red, uint32_t green, uint32_t blue) {
  return (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16;
}

// What `blend` gives, in a form that compilers vectorise.
MILLSTREAM_INLINE uint8_t blend_lane(int first, int second, float factor) {
  const float mixed = static_cast<float>(first) + factor * static_cast<float>(second - first);
  return static_cast<uint8_t>(static_cast<int>(std::min(std::max(mixed, 0.0f), 255.0f)));
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

MILLSTREAM_INLINE void set_color_loop_body(uint8_t* pixels, size_t num_pixels, float factor) {
  for (size_t i = 0; i < num_pixels; ++i) {
    uint8_t* const p = pixels + 3 * i;
    const int red = p[0], green = p[1], blue = p[2];
    const int gray = static_cast<int>(luma(p[0], p[1], p[2]));
    p[0] = blend_lane(gray, red, factor);
    p[1] = blend_lane(gray, green, factor);
    p[2] = blend_lane(gray, blue, factor);
  }
}

MILLSTREAM_MULTIVERSION(set_color_loop, (uint8_t* pixels, size_t num_pixels, float factor),
                        (pixels, num_pixels, factor))

MILLSTREAM_INLINE void make_gray_loop_body(uint8_t* pixels, size_t num_pixels) {
  for (size_t i = 0; i < num_pixels; ++i) {
    uint8_t* const p = pixels + 3 * i;
    p[0] = p[1] = p[2] = static_cast<uint8_t>(luma(p[0], p[1], p[2]));
  }
}

MILLSTREAM_MULTIVERSION(make_gray_loop, (uint8_t* pixels, size_t num_pixels), (pixels, num_pixels))

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

MILLSTREAM_INLINE void sharpen_row_body(const ThreeRows& rows, size_t bytes, float factor,
                                        uint16_t* columns, uint8_t* out) {
  const uint8_t *above = rows.above, *here = rows.here, *below = rows.below;
  for (size_t i = 0; i < bytes; ++i) {
    columns[i] = static_cast<uint16_t>(above[i] + here[i] + below[i]);
  }
  for (size_t i = 3; i < bytes - 3; ++i) {
    const auto sum = static_cast<uint16_t>(columns[i - 3] + columns[i] + columns[i + 3] +
                                           4 * here[i]);
    out[i] = blend_lane(static_cast<int>(smooth(sum)), here[i], factor);
  }
}

MILLSTREAM_MULTIVERSION(sharpen_row,
                        (const ThreeRows& rows, size_t bytes, float factor, uint16_t* columns,
                         uint8_t* out),
                        (rows, bytes, factor, columns, out))

}  // namespace

uint64_t sum_luma(const Image& image) {
  uint64_t sum;
  sum_luma_loop(image.pixels, image.bytes() / 3, &sum);
  return sum;
}

void set_color(const Image& image, float factor) {
  set_color_loop(image.pixels, image.bytes() / 3, factor);
}

void make_gray(const Image& image) { make_gray_loop(image.pixels, image.bytes() / 3); }

// ImageEnhance.Sharpness, which blends with the smoothed image and leaves the border as it is.
void set_sharpness(const Image& image, float factor) {
  if (image.height < 3 || image.width < 3) return;
  const size_t bytes = image.row_bytes();
  uint8_t* const copies = scratch<0>(2 * bytes);
  uint16_t* const columns = scratch<1, uint16_t>(bytes);
  std::memcpy(copies, image.row(0), bytes);
  for (int y = 1; y + 1 < image.height; ++y) {
    uint8_t* const above = copies + (y % 2 == 0 ? bytes : 0);
    uint8_t* const here = copies + (y % 2 == 0 ? 0 : bytes);
    std::memcpy(here, image.row(y), bytes);
    sharpen_row({above, here, image.row(y + 1)}, bytes, factor, columns, image.row(y));
  }
}

}  // namespace millstream::operations
