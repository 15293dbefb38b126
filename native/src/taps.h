// The weights with which PIL's resampling filters make an output pixel of input pixels.

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace millstream {

// Weights are fixed-point numbers with as many bits behind the point, as in Pillow's Resample.c.
constexpr int kWeightBits = 22;

enum class Filter { kBilinear, kBicubic };

// One axis of an image, resampled: the interval from `start` to `end` of `in_size` pixels becomes
// `out_size` pixels. `end` before `start` mirrors it.
struct Axis {
  int in_size;
  float start;
  float end;
  int out_size;
};

// The taps of one axis: output i is the sum over t < count[i] of of(i)[t] times the input
// input_begin + first[i] + t.
struct Taps {
  int width = 0;             // weights stored for each output, an even number
  std::vector<int> first;    // (outputs)
  std::vector<int> count;    // (outputs)
  std::vector<int> weights;  // (outputs, width), zero from count[i] on
  int input_begin = 0;       // of the inputs that any output is made of
  int input_end = 0;

  // Computes them in PIL's way, so that they are PIL's to the last bit.
  void compute(const Axis& axis, Filter filter);

  int outputs() const { return static_cast<int>(first.size()); }
  const int* of(int output) const { return &weights[static_cast<size_t>(output) * width]; }

 private:
  std::vector<double> exact_;
};

}  // namespace millstream
