#include "taps.h"

#include <algorithm>
#include <cmath>

namespace millstream {

namespace {

double bilinear(double x) {
  x = std::fabs(x);
  return x < 1.0 ? 1.0 - x : 0.0;
}

double bicubic(double x) {  // Keys' cubic convolution with a = -1/2
  constexpr double a = -0.5;
  x = std::fabs(x);
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
  if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
  return 0.0;
}

int to_fixed(double weight) {
  const double scaled = weight * (1 << kWeightBits);
  return static_cast<int>(scaled < 0 ? scaled - 0.5 : scaled + 0.5);
}

}  // namespace

void Taps::compute(const Axis& axis, Filter filter) {
  const bool mirrored = axis.end < axis.start;
  const float low = mirrored ? axis.end : axis.start;
  const float extent = mirrored ? axis.start - axis.end : axis.end - axis.start;
  const double scale = static_cast<double>(extent) / axis.out_size;
  const double filter_scale = std::max(scale, 1.0);  // wider where the image shrinks
  const double support = (filter == Filter::kBicubic ? 2.0 : 1.0) * filter_scale;
  const double inverse = 1.0 / filter_scale;

  width = (static_cast<int>(std::ceil(support)) * 2 + 2) & ~1;
  first.resize(axis.out_size);
  count.resize(axis.out_size);
  weights.assign(static_cast<size_t>(axis.out_size) * width, 0);
  exact_.resize(width);
  input_begin = axis.in_size;
  input_end = 0;

  for (int i = 0; i < axis.out_size; ++i) {
    const double center = low + (i + 0.5) * scale;
    const int begin = std::max(static_cast<int>(center - support + 0.5), 0);
    const int end = std::min(static_cast<int>(center + support + 0.5), axis.in_size);
    double sum = 0.0;
    for (int t = 0; t < end - begin; ++t) {
      const double x = (t + begin - center + 0.5) * inverse;
      exact_[t] = filter == Filter::kBicubic ? bicubic(x) : bilinear(x);
      sum += exact_[t];
    }
    const int output = mirrored ? axis.out_size - 1 - i : i;
    int* fixed = &weights[static_cast<size_t>(output) * width];
    for (int t = 0; t < end - begin; ++t) {
      fixed[t] = to_fixed(sum != 0.0 ? exact_[t] / sum : exact_[t]);
    }
    first[output] = begin;
    count[output] = end - begin;
    input_begin = std::min(input_begin, begin);
    input_end = std::max(input_end, end);
  }
  for (int& begin : first) begin -= input_begin;
}

}  // namespace millstream
