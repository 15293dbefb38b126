// PIL's luma and blend, and the operations made of them: colour, grayscale and sharpness.

#pragma once

#include <cstdint>

#include "operations.h"

namespace millstream::operations {

// Image.blend of two values, the first of which has weight 1 - factor; as PIL, in float32.
inline uint8_t blend(int first, int second, float factor) {
  const float mixed = static_cast<float>(first) + factor * static_cast<float>(second - first);
  if (mixed <= 0.0f) return 0;
  return mixed >= 255.0f ? 255 : static_cast<uint8_t>(mixed);
}

// The sum of the pixels' values in PIL's mode L.
uint64_t sum_luma(const Image& image);

void set_color(const Image& image, float factor);
void make_gray(const Image& image);
void set_sharpness(const Image& image, float factor);

}  // namespace millstream::operations
