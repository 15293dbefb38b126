// Thirty-two bytes as they are computed with AVX2: in four vectors of eight lanes of 32 bits.
// Included for x86-64 alone.

#pragma once

#include <cstddef>
#include <cstdint>

#include <immintrin.h>

#include "operations_simd.h"

namespace millstream::operations {

constexpr size_t kLanes = 32;

struct Lanes {
  __m256 groups[4];
};

struct IntegerLanes {
  __m256i groups[4];
};

// Eight bytes as lanes.
MILLSTREAM_AVX2 MILLSTREAM_INLINE __m256i load_group(const uint8_t* p) {
  return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
}

MILLSTREAM_AVX2 MILLSTREAM_INLINE __m256i load_bytes(const uint8_t* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}

MILLSTREAM_AVX2 MILLSTREAM_INLINE void store_bytes(uint8_t* p, __m256i bytes) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), bytes);
}

// The lanes, clipped to 0 and 255.
MILLSTREAM_AVX2 MILLSTREAM_INLINE __m256i pack(const IntegerLanes& lanes) {
  const __m256i packed = _mm256_packus_epi16(_mm256_packs_epi32(lanes.groups[0], lanes.groups[1]),
                                             _mm256_packs_epi32(lanes.groups[2], lanes.groups[3]));
  // The packs interleave the halves.
  return _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

// The lanes plus `offset`, truncated and clipped.
MILLSTREAM_AVX2 MILLSTREAM_INLINE __m256i truncate(const Lanes& lanes, float offset) {
  IntegerLanes whole;
  for (int i = 0; i < 4; ++i) {
    whole.groups[i] = _mm256_cvttps_epi32(_mm256_add_ps(lanes.groups[i], _mm256_set1_ps(offset)));
  }
  return pack(whole);
}

}  // namespace millstream::operations
