// ImageFilter.GaussianBlur.

#pragma once

#include "operations.h"

namespace millstream::operations {

// The largest radius that is taken; three box filters of it still sum in 16 bits.
constexpr double kLargestRadius = 100;

void blur(const Image& image, float radius);

}  // namespace millstream::operations
