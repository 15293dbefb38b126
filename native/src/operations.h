// What timm's augmentation language does to one uint8 RGB image: its operations, in order, in as
// few passes as possible, and equal to PIL to the bit.

#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace millstream::operations {

// The numbers are the interface to Python: they stay. `args` below are a step's six numbers.
enum class Operation : uint8_t {
  kNothing = 0,
  kAutoContrast = 1,
  kEqualize = 2,
  kInvert = 3,
  kPosterize = 4,    // args[0]: bits to keep, 0 to 8
  kSolarize = 5,     // args[0]: threshold
  kSolarizeAdd = 6,  // args[0]: what is added below 128, 0 to 255
  kBrightness = 7,   // args[0]: ImageEnhance's factor; the same for the next three
  kContrast = 8,
  kColor = 9,
  kSharpness = 10,
  kAffine = 11,  // args: the coefficients of Image.transform(size, AFFINE, ...)
  kGrayscale = 12,
  kGaussianBlur = 13,  // args[0]: ImageFilter.GaussianBlur's radius, 0 to 100
  kHue = 14,           // args[0]: torchvision's hue_factor, -0.5 to 0.5
};
constexpr int kNumOperations = 15;

enum class Filter : uint8_t { kNearest = 0, kBilinear = 1, kBicubic = 2 };
constexpr int kNumFilters = 3;

constexpr int kNumArgs = 6;

// Rows without gaps, three bytes a pixel.
struct Image {
  uint8_t* pixels;
  int height;
  int width;

  size_t row_bytes() const { return 3 * static_cast<size_t>(width); }
  size_t bytes() const { return row_bytes() * static_cast<size_t>(height); }
  uint8_t* row(int y) const { return pixels + row_bytes() * static_cast<size_t>(y); }
};

// The steps of one image.
struct Chain {
  const uint8_t* codes;    // num_steps
  const double* args;      // num_steps x kNumArgs
  const uint8_t* filters;  // num_steps; read for kAffine alone
  int num_steps;
};

// Why the chain cannot be applied ("step 1: ..."), or nothing.
std::string find_fault(const Chain& chain);

// Applies a chain without fault, in place. `fill` is the colour of what lies outside the image.
void apply_chain(const Image& image, const Chain& chain, const uint8_t fill[3]);

}  // namespace millstream::operations
