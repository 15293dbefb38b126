#include "operations_lut.h"

#include <algorithm>
#include <cstring>

#include "operations_blend.h"
#include "operations_simd.h"

#if defined(__x86_64__)
#include "operations_lanes_avx2.h"
#endif

namespace millstream::operations {

namespace {

struct Histogram {
  uint32_t counts[3][256] = {};
};

Histogram count_values(const Image& image) {
  // Neighbours are often equal. Two sets of counters keep one sum from waiting for the last.
  Histogram even, odd;
  const uint8_t* p = image.pixels;
  const uint8_t* const end = p + image.bytes();
  for (; end - p >= 6; p += 6) {
    for (int channel = 0; channel < 3; ++channel) {
      ++even.counts[channel][p[channel]];
      ++odd.counts[channel][p[3 + channel]];
    }
  }
  for (int channel = 0; p != end && channel < 3; ++channel) ++even.counts[channel][p[channel]];
  for (int channel = 0; channel < 3; ++channel) {
    for (int value = 0; value < 256; ++value) {
      even.counts[channel][value] += odd.counts[channel][value];
    }
  }
  return even;
}

// Of each channel, the lowest and the highest value.
struct Range {
  uint8_t lowest[3];
  uint8_t highest[3];
};

constexpr int kRangeBlock = 96;  // bytes: a multiple of a pixel's and of a vector's

MILLSTREAM_INLINE void measure_range_body(const Image& image, Range* range) {
  uint8_t lowest[kRangeBlock], highest[kRangeBlock];
  std::memset(lowest, 255, sizeof lowest);
  std::memset(highest, 0, sizeof highest);
  const size_t bytes = image.bytes();
  size_t begin = 0;
  for (; begin + kRangeBlock <= bytes; begin += kRangeBlock) {
    for (int i = 0; i < kRangeBlock; ++i) {
      const uint8_t value = image.pixels[begin + static_cast<size_t>(i)];
      lowest[i] = std::min(lowest[i], value);
      highest[i] = std::max(highest[i], value);
    }
  }
  for (int i = 0; begin < bytes; ++begin, ++i) {
    lowest[i] = std::min(lowest[i], image.pixels[begin]);
    highest[i] = std::max(highest[i], image.pixels[begin]);
  }
  for (int channel = 0; channel < 3; ++channel) {
    range->lowest[channel] = 255;
    range->highest[channel] = 0;
    for (int i = channel; i < kRangeBlock; i += 3) {
      range->lowest[channel] = std::min(range->lowest[channel], lowest[i]);
      range->highest[channel] = std::max(range->highest[channel], highest[i]);
    }
  }
}

MILLSTREAM_MULTIVERSION(measure_range, (const Image& image, Range* range), (image, range))

#if defined(__x86_64__)

// The table's sixteen rows of sixteen are looked up with the low half of each value, and of the
// sixteen answers the bits of the high half choose one.
MILLSTREAM_AVX2 size_t map_bytes_avx2(uint8_t* bytes, size_t count, const uint8_t table[256]) {
  __m256i rows[16];
  for (int i = 0; i < 16; ++i) {
    rows[i] = _mm256_broadcastsi128_si256(
        _mm_loadu_si128(reinterpret_cast<const __m128i*>(table + 16 * i)));
  }
  const __m256i low_half = _mm256_set1_epi8(15);
  size_t done = 0;
  for (; done + kLanes <= count; done += kLanes) {
    const __m256i values = load_bytes(bytes + done);
    const __m256i low = _mm256_and_si256(values, low_half);
    __m256i answers[16];
    for (int i = 0; i < 16; ++i) answers[i] = _mm256_shuffle_epi8(rows[i], low);
    // blendv reads the highest bit of a byte.
    const __m256i bits[4] = {_mm256_slli_epi16(values, 3), _mm256_slli_epi16(values, 2),
                             _mm256_slli_epi16(values, 1), values};
    for (int level = 0; level < 4; ++level) {
      for (int i = 0; i < 8 >> level; ++i) {
        answers[i] = _mm256_blendv_epi8(answers[2 * i], answers[2 * i + 1], bits[level]);
      }
    }
    store_bytes(bytes + done, answers[0]);
  }
  return done;
}

#endif

void map_bytes(uint8_t* bytes, size_t count, const uint8_t table[256]) {
  size_t done = 0;
#if defined(__x86_64__)
  if (may_use_avx2()) done = map_bytes_avx2(bytes, count, table);
#endif
  for (; done < count; ++done) bytes[done] = table[bytes[done]];
}

void map_pixels(const Image& image, const uint8_t tables[3][256]) {
  uint8_t* const end = image.pixels + image.bytes();
  for (uint8_t* p = image.pixels; p != end; p += 3) {
    p[0] = tables[0][p[0]];
    p[1] = tables[1][p[1]];
    p[2] = tables[2][p[2]];
  }
}

}  // namespace

Tables::Tables() {
  for (auto& table : values_) {
    for (int value = 0; value < 256; ++value) table[value] = static_cast<uint8_t>(value);
  }
}

void Tables::then_in(int channel, const uint8_t table[256]) {
  for (uint8_t& value : values_[channel]) value = table[value];
  is_neutral_ = false;
}

void Tables::flush(const Image& image) {
  if (is_neutral_) return;
  const bool is_uniform = std::memcmp(values_[0], values_[1], 256) == 0 &&
                          std::memcmp(values_[0], values_[2], 256) == 0;
  const Tables neutral;
  if (!is_uniform) {
    map_pixels(image, values_);
  } else if (std::memcmp(values_[0], neutral.values_[0], 256) != 0) {
    map_bytes(image.pixels, image.bytes(), values_[0]);
  }
  *this = neutral;
}

// ImageOps.autocontrast without a cutoff.
void add_auto_contrast(const Image& image, Tables& tables) {
  Range range;
  measure_range(image, &range);
  for (int channel = 0; channel < 3; ++channel) {
    const int lowest = range.lowest[channel], highest = range.highest[channel];
    if (highest <= lowest) continue;
    const double scale = 255.0 / (highest - lowest);
    const double offset = -lowest * scale;
    uint8_t table[256];
    for (int value = 0; value < 256; ++value) {
      table[value] =
          static_cast<uint8_t>(std::clamp(static_cast<int>(value * scale + offset), 0, 255));
    }
    tables.then_in(channel, table);
  }
}

// ImageOps.equalize.
void add_equalize(const Image& image, Tables& tables) {
  const Histogram histogram = count_values(image);
  const uint64_t num_pixels = image.bytes() / 3;
  for (int channel = 0; channel < 3; ++channel) {
    const uint32_t* const counts = histogram.counts[channel];
    int highest = 255;
    while (highest > 0 && counts[highest] == 0) --highest;
    const uint64_t step = (num_pixels - counts[highest]) / 255;
    if (step == 0) continue;  // so it is where all values are one
    uint8_t table[256];
    uint64_t sum = step / 2;
    for (int value = 0; value < 256; ++value) {
      table[value] = static_cast<uint8_t>(std::min<uint64_t>(sum / step, 255));
      sum += counts[value];
    }
    tables.then_in(channel, table);
  }
}

// ImageEnhance.Contrast: blends with the mean, rounded, of the image's luma.
void add_contrast(const Image& image, float factor, Tables& tables) {
  const double mean = static_cast<double>(sum_luma(image)) / static_cast<double>(image.bytes() / 3);
  const int gray = static_cast<int>(mean + 0.5);
  tables.then([&](int value) { return blend(gray, value, factor); });
}

}  // namespace millstream::operations
