#include "operations.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "operations_blend.h"
#include "operations_blur.h"
#include "operations_hue.h"
#include "operations_lut.h"
#include "operations_warp.h"

namespace millstream::operations {

namespace {

// Which numbers an operation takes.
struct Rule {
  const char* name;
  int num_args = 0;
  double lowest = 0;
  double highest = 0;
  bool is_whole = false;
};

constexpr double kLargestFactor = 1e6;
constexpr double kLargestCoefficient = 1e9;

constexpr Rule kRules[] = {
    {"NOTHING"},
    {"AUTO_CONTRAST"},
    {"EQUALIZE"},
    {"INVERT"},
    {"POSTERIZE", 1, 0, 8, true},
    {"SOLARIZE", 1, -kLargestFactor, kLargestFactor},
    {"SOLARIZE_ADD", 1, 0, 255, true},
    {"BRIGHTNESS", 1, -kLargestFactor, kLargestFactor},
    {"CONTRAST", 1, -kLargestFactor, kLargestFactor},
    {"COLOR", 1, -kLargestFactor, kLargestFactor},
    {"SHARPNESS", 1, -kLargestFactor, kLargestFactor},
    {"AFFINE", kNumArgs, -kLargestCoefficient, kLargestCoefficient},
    {"GRAYSCALE"},
    {"GAUSSIAN_BLUR", 1, 0, kLargestRadius},
    {"HUE", 1, -0.5, 0.5},
};
static_assert(sizeof kRules / sizeof *kRules == kNumOperations);

std::string text_of(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%g", value);
  return text;
}

std::string find_fault(int code, const double* args, int filter) {
  if (code >= kNumOperations) {
    return "operation " + std::to_string(code) + " is unknown; the last is " +
           std::to_string(kNumOperations - 1) + ", " + kRules[kNumOperations - 1].name;
  }
  const Rule& rule = kRules[code];
  for (int i = 0; i < rule.num_args; ++i) {
    const bool is_within = args[i] >= rule.lowest && args[i] <= rule.highest;  // false for NaN
    if (!is_within || (rule.is_whole && args[i] != std::floor(args[i]))) {
      return std::string(rule.name) + " takes " + (rule.is_whole ? "whole numbers" : "numbers") +
             " from " + text_of(rule.lowest) + " to " + text_of(rule.highest) + ", got " +
             text_of(args[i]);
    }
  }
  if (code == static_cast<int>(Operation::kAffine) && filter >= kNumFilters) {
    return "filter " + std::to_string(filter) + " is unknown; they are 0 (nearest), 1 (bilinear)" +
           " and 2 (bicubic)";
  }
  return "";
}

// Adds an operation of which the table is known from its number alone; false for others.
bool add_point_operation(Operation operation, double arg, Tables& tables) {
  const int whole = static_cast<int>(arg);
  const auto factor = static_cast<float>(arg);
  switch (operation) {
    case Operation::kInvert:
      tables.then([](int value) { return 255 - value; });
      return true;
    case Operation::kPosterize:
      tables.then([&](int value) { return value & ~((1 << (8 - whole)) - 1); });
      return true;
    case Operation::kSolarize:
      tables.then([&](int value) { return value < arg ? value : 255 - value; });
      return true;
    case Operation::kSolarizeAdd:
      tables.then([&](int value) { return value < 128 ? std::min(255, value + whole) : value; });
      return true;
    case Operation::kBrightness:
      tables.then([&](int value) { return blend(0, value, factor); });
      return true;
    default:
      return false;
  }
}

void apply_to_pixels(const Image& image, Operation operation, const double* args, Filter filter,
                     const uint8_t fill[3], Tables& tables) {
  const auto factor = static_cast<float>(args[0]);
  switch (operation) {
    case Operation::kAutoContrast:
      return add_auto_contrast(image, tables);
    case Operation::kEqualize:
      return add_equalize(image, tables);
    case Operation::kContrast:
      return add_contrast(image, factor, tables);
    case Operation::kColor:
      return set_color(image, factor);
    case Operation::kSharpness:
      return set_sharpness(image, factor);
    case Operation::kAffine:
      return warp(image, args, filter, fill);
    case Operation::kGrayscale:
      return make_gray(image);
    case Operation::kGaussianBlur:
      return blur(image, factor);
    case Operation::kHue:
      return turn_hue(image, args[0]);
    default:
      return;
  }
}

}  // namespace

std::string find_fault(const Chain& chain) {
  for (int step = 0; step < chain.num_steps; ++step) {
    const std::string fault =
        find_fault(chain.codes[step], chain.args + step * kNumArgs, chain.filters[step]);
    if (!fault.empty()) return "step " + std::to_string(step) + ": " + fault;
  }
  return "";
}

void apply_chain(const Image& image, const Chain& chain, const uint8_t fill[3]) {
  Tables tables;
  for (int step = 0; step < chain.num_steps; ++step) {
    const auto operation = static_cast<Operation>(chain.codes[step]);
    const double* const args = chain.args + step * kNumArgs;
    if (operation == Operation::kNothing || add_point_operation(operation, args[0], tables)) {
      continue;
    }
    tables.flush(image);
    const auto filter = static_cast<Filter>(chain.filters[step]);
    apply_to_pixels(image, operation, args, filter, fill, tables);
  }
  tables.flush(image);
}

}  // namespace millstream::operations
