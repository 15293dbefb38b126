// torchvision's adjust_hue on a PIL image.

#pragma once

#include "operations.h"

namespace millstream::operations {

// Turns the hue by `hue_factor` of a circle, by way of PIL's mode HSV with eight bits a channel.
void turn_hue(const Image& image, double hue_factor);

}  // namespace millstream::operations
