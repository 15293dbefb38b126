// Kernels for x86-64 processors with AVX2 (since 2013).
//
// Weights have 23 significant bits, and multiplying 32-bit numbers is slow. So each weight is split
// into two of 16 bits, weight = high * 2^11 + low, which `madd` multiplies with two pixels' values
// at once; the sums of both are put together at the end, and no bit is lost.

#include "kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include <algorithm>
#include <cstring>

#define MILLSTREAM_AVX2 __attribute__((target("avx2")))

namespace millstream {

namespace {

constexpr int kLowBits = 11;
constexpr int kGroup = 4;   // outputs that `across` makes at once
constexpr int kBlock = 32;  // bytes that `down` makes at once

// The 16-bit parts of two weights, side by side as `madd` takes them.
int32_t high_pair(int first, int second) {
  constexpr int kRound = 1 << (kLowBits - 1);
  const int high0 = (first + kRound) >> kLowBits, high1 = (second + kRound) >> kLowBits;
  return static_cast<int32_t>((high0 & 0xffff) | static_cast<uint32_t>(high1) << 16);
}

int32_t low_pair(int first, int second) {
  constexpr int kRound = 1 << (kLowBits - 1);
  const int low0 = ((first + kRound) & ((1 << kLowBits) - 1)) - kRound;
  const int low1 = ((second + kRound) & ((1 << kLowBits) - 1)) - kRound;
  return static_cast<int32_t>((low0 & 0xffff) | static_cast<uint32_t>(low1) << 16);
}

// Of 8 values that are being made, the two parts.
struct Sums {
  __m256i high;
  __m256i low;
};

// Levels from 0 to 255, or beyond where a filter overshoots.
MILLSTREAM_AVX2 inline __m256i total(const Sums& sums) {
  const __m256i high = _mm256_slli_epi32(sums.high, kLowBits);
  const __m256i half = _mm256_set1_epi32(1 << (kWeightBits - 1));
  return _mm256_srai_epi32(_mm256_add_epi32(_mm256_add_epi32(high, sums.low), half), kWeightBits);
}

// For each output and pair of taps: 4 times the high parts, 4 times the low ones.
void prepare_across(const Taps& taps, PreparedTaps* prepared) {
  const int most = *std::max_element(taps.count.begin(), taps.count.end());
  prepared->pairs = std::max(1, (most + 1) / 2);
  const int padded = (taps.outputs() + kGroup - 1) / kGroup * kGroup;
  prepared->weights.assign(static_cast<size_t>(padded) * prepared->pairs * 8, 0);
  int32_t* weights = prepared->weights.data();
  for (int i = 0; i < taps.outputs(); ++i) {
    const int* of = taps.of(i);
    for (int pair = 0; pair < prepared->pairs; ++pair, weights += 8) {
      std::fill_n(weights, 4, high_pair(of[2 * pair], of[2 * pair + 1]));
      std::fill_n(weights + 4, 4, low_pair(of[2 * pair], of[2 * pair + 1]));
    }
  }
}

// The sums of one output: 4 channels' high parts, then the low ones.
template <int kPairs>
MILLSTREAM_AVX2 inline __m256i sum_pixels(const uint8_t* pixel, const int32_t* weights,
                                          int num_pairs) {
  const __m256i to_pairs =
      _mm256_setr_epi8(0, -1, 4, -1, 1, -1, 5, -1, 2, -1, 6, -1, 3, -1, 7, -1,  //
                       0, -1, 4, -1, 1, -1, 5, -1, 2, -1, 6, -1, 3, -1, 7, -1);
  const int pairs = kPairs ? kPairs : num_pairs;
  __m256i sums = _mm256_setzero_si256();
  for (int pair = 0; pair < pairs; ++pair) {
    int64_t two_pixels;
    std::memcpy(&two_pixels, pixel + 8 * pair, sizeof two_pixels);
    const __m256i values = _mm256_shuffle_epi8(_mm256_set1_epi64x(two_pixels), to_pairs);
    const __m256i pair_weights =
        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(weights + 8 * pair));
    sums = _mm256_add_epi32(sums, _mm256_madd_epi16(values, pair_weights));
  }
  return sums;
}

// Two outputs, 4 channels each.
MILLSTREAM_AVX2 inline __m256i join(__m256i first, __m256i second) {
  return total({_mm256_permute2x128_si256(first, second, 0x20),
                _mm256_permute2x128_si256(first, second, 0x31)});
}

template <int kPairs>
MILLSTREAM_AVX2 void across_pairs(const uint8_t* rgbx, const Taps& taps,
                                  const PreparedTaps& prepared, uint8_t* rgb) {
  const __m128i to_rgb = _mm_setr_epi8(0, 1, 2, 8, 9, 10, 4, 5, 6, 12, 13, 14, -1, -1, -1, -1);
  const int outputs = taps.outputs(), pairs = prepared.pairs;
  const int32_t* weights = prepared.weights.data();
  for (int i = 0; i < outputs; i += kGroup, rgb += 3 * kGroup) {
    __m256i sums[kGroup];
    for (int k = 0; k < kGroup; ++k, weights += 8 * pairs) {
      const size_t first = taps.first[std::min(i + k, outputs - 1)];
      sums[k] = sum_pixels<kPairs>(rgbx + 4 * first, weights, pairs);
    }
    const __m256i words =
        _mm256_packs_epi32(join(sums[0], sums[1]), join(sums[2], sums[3]));  // 0 2 | 1 3
    const __m128i bytes = _mm_packus_epi16(_mm256_castsi256_si128(words),
                                           _mm256_extracti128_si256(words, 1));  // 0 2 1 3
    _mm_storeu_si128(reinterpret_cast<__m128i*>(rgb), _mm_shuffle_epi8(bytes, to_rgb));
  }
}

void across(const uint8_t* rgbx, const Taps& taps, const PreparedTaps& prepared, uint8_t* rgb) {
  switch (prepared.pairs) {  // a known number of them is unrolled
    case 1: return across_pairs<1>(rgbx, taps, prepared, rgb);
    case 2: return across_pairs<2>(rgbx, taps, prepared, rgb);
    case 3: return across_pairs<3>(rgbx, taps, prepared, rgb);
    case 4: return across_pairs<4>(rgbx, taps, prepared, rgb);
    default: return across_pairs<0>(rgbx, taps, prepared, rgb);
  }
}

// For each output and pair of taps: the high parts, the low ones.
void prepare_down(const Taps& taps, PreparedTaps* prepared) {
  prepared->pairs = taps.width / 2;
  prepared->weights.resize(static_cast<size_t>(taps.outputs()) * taps.width);
  for (size_t i = 0; i < prepared->weights.size(); i += 2) {
    prepared->weights[i] = high_pair(taps.weights[i], taps.weights[i + 1]);
    prepared->weights[i + 1] = low_pair(taps.weights[i], taps.weights[i + 1]);
  }
}

// Adds a pair of taps; `pairs` holds 16-bit values of both rows, alternating.
MILLSTREAM_AVX2 inline void add(Sums* sums, __m256i pairs, __m256i high, __m256i low) {
  sums->high = _mm256_add_epi32(sums->high, _mm256_madd_epi16(pairs, high));
  sums->low = _mm256_add_epi32(sums->low, _mm256_madd_epi16(pairs, low));
}

// kBlock bytes of the result.
MILLSTREAM_AVX2 inline __m256i sum_rows(const uint8_t* rows, size_t stride, const int32_t* weights,
                                        int count) {
  const __m256i zero = _mm256_setzero_si256();
  Sums sums[4] = {{zero, zero}, {zero, zero}, {zero, zero}, {zero, zero}};
  for (int t = 0; t < count; t += 2, rows += 2 * stride, weights += 2) {
    // The last tap may stand alone; its partner's weight is zero.
    const uint8_t* next = t + 1 < count ? rows + stride : rows;
    const __m256i row0 = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(rows));
    const __m256i row1 = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(next));
    const __m256i high = _mm256_set1_epi32(weights[0]), low = _mm256_set1_epi32(weights[1]);
    const __m256i front = _mm256_unpacklo_epi8(row0, row1);
    const __m256i back = _mm256_unpackhi_epi8(row0, row1);
    add(&sums[0], _mm256_unpacklo_epi8(front, zero), high, low);
    add(&sums[1], _mm256_unpackhi_epi8(front, zero), high, low);
    add(&sums[2], _mm256_unpacklo_epi8(back, zero), high, low);
    add(&sums[3], _mm256_unpackhi_epi8(back, zero), high, low);
  }
  return _mm256_packus_epi16(_mm256_packs_epi32(total(sums[0]), total(sums[1])),
                             _mm256_packs_epi32(total(sums[2]), total(sums[3])));
}

MILLSTREAM_AVX2 void down(const uint8_t* rows, size_t stride, const Taps& taps,
                          const PreparedTaps& prepared, int output, int num_bytes,
                          uint8_t* result) {
  const int32_t* weights = &prepared.weights[static_cast<size_t>(output) * taps.width];
  const int count = taps.count[output];
  int i = 0;
  for (; i + kBlock <= num_bytes; i += kBlock) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(result + i),
                        sum_rows(rows + i, stride, weights, count));
  }
  if (i < num_bytes) {
    uint8_t last[kBlock];
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(last),
                        sum_rows(rows + i, stride, weights, count));
    std::memcpy(result + i, last, num_bytes - i);
  }
}

}  // namespace

const Kernels& avx2_kernels() {
  static const Kernels avx2{&prepare_across, &prepare_down, &across, &down};
  return avx2;
}

}  // namespace millstream

#endif
