#include "operations_blur.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "operations_scratch.h"
#include "operations_simd.h"

namespace millstream::operations {

namespace {

constexpr int kPasses = 3;

// A box filter of 2 * reach + 1 pixels and a share of one more on either side (Gwosdek et al.
// 2011).
struct Box {
  int reach;
  uint32_t weight;      // of a pixel within reach, in units of 2^-24
  uint32_t far_weight;  // of the two beyond

  int num_taps() const { return 2 * reach + 3; }
};

// The box that, applied three times, comes near to a Gaussian; step by step in PIL's float32.
Box box_of(float radius) {
  const float variance = radius * radius / kPasses;
  const auto length = static_cast<float>(std::sqrt(12.0 * variance + 1.0));
  const auto whole = static_cast<float>(std::floor((length - 1.0) / 2.0));
  float part = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance);
  part /= 6 * (variance - (whole + 1) * (whole + 1));
  const float reach = whole + part;
  Box box;
  box.reach = static_cast<int>(reach);
  box.weight = static_cast<uint32_t>(static_cast<float>(1 << 24) / (reach * 2 + 1));
  box.far_weight = ((1u << 24) - static_cast<uint32_t>(2 * box.reach + 1) * box.weight) / 2;
  return box;
}

constexpr size_t kBlock = 512;

// out[i] from taps[0][i] ... taps[num_taps - 1][i], of which the first and the last are far.
MILLSTREAM_INLINE void filter_line_body(const uint8_t* const* taps, const Box& box, size_t bytes,
                                        uint8_t* out) {
  const int last = box.num_taps() - 1;
  uint16_t sums[kBlock];
  for (size_t begin = 0; begin < bytes; begin += kBlock) {
    const size_t count = std::min(kBlock, bytes - begin);
    std::memset(sums, 0, sizeof sums);
    for (int tap = 1; tap < last; ++tap) {
      const uint8_t* const line = taps[tap] + begin;
      for (size_t i = 0; i < count; ++i) sums[i] = static_cast<uint16_t>(sums[i] + line[i]);
    }
    const uint8_t* const left = taps[0] + begin;
    const uint8_t* const right = taps[last] + begin;
    for (size_t i = 0; i < count; ++i) {
      const uint32_t sum =
          sums[i] * box.weight + static_cast<uint32_t>(left[i] + right[i]) * box.far_weight;
      out[begin + i] = static_cast<uint8_t>((sum + (1u << 23)) >> 24);
    }
  }
}

MILLSTREAM_MULTIVERSION(filter_line,
                        (const uint8_t* const* taps, const Box& box, size_t bytes, uint8_t* out),
                        (taps, box, bytes, out))

// Repeats the first and the last of `width` pixels `margin` times before and after them.
void repeat_edges(uint8_t* first, int width, int margin) {
  const uint8_t* const last = first + 3 * (width - 1);
  for (int i = 1; i <= margin; ++i) {
    std::memcpy(first - 3 * i, first, 3);
    std::memcpy(first + 3 * (width - 1 + i), last, 3);
  }
}

// All passes along a row, in place.
void blur_row(const Image& image, int y, const Box& box, const uint8_t** taps) {
  const int margin = box.reach + 1;
  const size_t padded_bytes = image.row_bytes() + 6 * static_cast<size_t>(margin);
  uint8_t* const lines = scratch<0>(2 * padded_bytes);
  std::memcpy(lines + 3 * margin, image.row(y), image.row_bytes());
  for (int pass = 0; pass < kPasses; ++pass) {
    uint8_t* const from = lines + (pass % 2 == 0 ? 0 : padded_bytes);
    uint8_t* const to = lines + (pass % 2 == 0 ? padded_bytes : 0) + 3 * margin;
    repeat_edges(from + 3 * margin, image.width, margin);
    for (int tap = 0; tap < box.num_taps(); ++tap) taps[tap] = from + 3 * tap;
    filter_line(taps, box, image.row_bytes(), pass + 1 < kPasses ? to : image.row(y));
  }
}

// One pass along the columns.
void blur_columns(const Image& from, const Image& to, const Box& box, const uint8_t** taps) {
  for (int y = 0; y < from.height; ++y) {
    for (int tap = 0; tap < box.num_taps(); ++tap) {
      taps[tap] = from.row(std::clamp(y - box.reach - 1 + tap, 0, from.height - 1));
    }
    filter_line(taps, box, from.row_bytes(), to.row(y));
  }
}

}  // namespace

void blur(const Image& image, float radius) {
  if (radius == 0) return;
  const Box box = box_of(radius);
  const uint8_t** const taps = scratch<0, const uint8_t*>(static_cast<size_t>(box.num_taps()));
  for (int y = 0; y < image.height; ++y) blur_row(image, y, box, taps);
  const Image other{scratch<1>(2 * image.bytes()), image.height, image.width};
  const Image another{other.pixels + image.bytes(), image.height, image.width};
  blur_columns(image, other, box, taps);
  blur_columns(other, another, box, taps);
  blur_columns(another, image, box, taps);
}

}  // namespace millstream::operations
