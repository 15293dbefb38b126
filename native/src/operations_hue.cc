#include "operations_hue.h"

#include <algorithm>
#include <cmath>

namespace millstream::operations {

namespace {

// PIL computes in a mixture of float32 and float64. So do these, step by step.
struct Hsv {
  uint8_t hue, saturation, value;
};

uint8_t round_half_up(double positive) {
  const int whole = static_cast<int>(positive);
  return static_cast<uint8_t>(whole + (positive - whole >= 0.5));
}

Hsv hsv_of(const uint8_t rgb[3]) {
  const int red = rgb[0], green = rgb[1], blue = rgb[2];
  const int highest = std::max({red, green, blue}), lowest = std::min({red, green, blue});
  if (highest == lowest) return {0, 0, static_cast<uint8_t>(highest)};
  const auto range = static_cast<float>(highest - lowest);
  const float saturation = range / static_cast<float>(highest);
  const float to_red = static_cast<float>(highest - red) / range;
  const float to_green = static_cast<float>(highest - green) / range;
  const float to_blue = static_cast<float>(highest - blue) / range;
  float sixths;
  if (red == highest) {
    sixths = to_blue - to_green;
  } else if (green == highest) {
    sixths = static_cast<float>(2.0 + to_red - to_blue);
  } else {
    sixths = static_cast<float>(4.0 + to_green - to_red);
  }
  const double turns = sixths / 6.0 + 1.0;  // from 5/6 to 11/6
  const auto hue = static_cast<float>(turns >= 1.0 ? turns - 1.0 : turns);
  return {static_cast<uint8_t>(hue * 255.0), static_cast<uint8_t>(saturation * 255.0),
          static_cast<uint8_t>(highest)};
}

void store_rgb(const Hsv& hsv, uint8_t rgb[3]) {
  const uint8_t value = hsv.value;
  if (hsv.saturation == 0) {
    rgb[0] = rgb[1] = rgb[2] = value;
    return;
  }
  const double position = static_cast<float>(hsv.hue) * 6.0 / 255.0;
  const int sector = static_cast<int>(position);  // 0 to 6
  const auto part = static_cast<float>(position - static_cast<float>(sector));
  const auto saturation = static_cast<float>(static_cast<float>(hsv.saturation) / 255.0);
  const uint8_t low = round_half_up(value * (1.0 - saturation));
  const uint8_t falling = round_half_up(value * (1.0 - saturation * part));
  const uint8_t rising = round_half_up(value * (1.0 - saturation * (1.0 - part)));
  const uint8_t sectors[6][3] = {{value, rising, low}, {falling, value, low},
                                 {low, value, rising}, {low, falling, value},
                                 {rising, low, value}, {value, low, falling}};
  std::copy_n(sectors[sector % 6], 3, rgb);
}

}  // namespace

void turn_hue(const Image& image, double hue_factor) {
  const int shift = static_cast<int>(hue_factor * 255.0);
  uint8_t* const end = image.pixels + image.bytes();
  for (uint8_t* p = image.pixels; p != end; p += 3) {
    Hsv hsv = hsv_of(p);
    hsv.hue = static_cast<uint8_t>(hsv.hue + shift);
    store_rgb(hsv, p);
  }
}

}  // namespace millstream::operations
