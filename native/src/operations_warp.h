// Image.transform(size, AFFINE, ...) of PIL, by which timm shears, translates and rotates.

#pragma once

#include "operations.h"

namespace millstream::operations {

// An output pixel (x, y) shows the source at (a, b, c; d, e, f) (x + 1/2, y + 1/2, 1), and `fill`
// where that is outside the image.
void warp(const Image& image, const double matrix[6], Filter filter, const uint8_t fill[3]);

}  // namespace millstream::operations
