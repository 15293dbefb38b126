#include "operations_warp.h"

#include <algorithm>
#include <cstring>

#include "operations_sampling.h"
#include "operations_scratch.h"
#include "operations_simd.h"
#include "operations_line_filter.h"

namespace millstream::operations {

Axis::Axis(const double row[3], int width, int limit)
    : width_(width),
      limit_(limit),
      is_rising_(row[0] >= 0),
      slope_(row[1]),
      offset_(row[2]),
      products_(static_cast<size_t>(width) + 3) {  // kernels read them four by four
  for (int x = 0; x < width; ++x) products_[static_cast<size_t>(x)] = row[0] * (x + 0.5);
}

void Axis::move_to_row(int y) { row_ = slope_ * (y + 0.5); }

bool Axis::is_reached(int x, double bound) const {
  return is_rising_ ? (*this)(x) >= bound : (*this)(x) < bound;
}

// Rounding keeps the order, so the coordinates rise, or fall, and reach a bound once.
void Axis::search(int& first, double bound) const {
  while (first < width_ && !is_reached(first, bound)) ++first;
  while (first > 0 && is_reached(first - 1, bound)) --first;
}

Span Axis::inside() {
  search(first_zero_, 0);
  search(first_limit_, limit_);
  return is_rising_ ? Span{first_zero_, first_limit_} : Span{first_limit_, first_zero_};
}

Span intersection(Span a, Span b) {
  const int begin = std::max(a.begin, b.begin);
  return {begin, std::max(begin, std::min(a.end, b.end))};
}

void fill_outside(const Image& image, int y, Span span, const uint8_t fill[3]) {
  uint8_t* const row = image.row(y);
  for (int x = 0; x < span.begin; ++x) std::memcpy(row + 3 * x, fill, 3);
  for (int x = span.end; x < image.width; ++x) std::memcpy(row + 3 * x, fill, 3);
}

namespace {

Source copy_padded(const Image& image) {
  const size_t stride = image.row_bytes() + 6 * kMargin;
  const size_t num_rows = static_cast<size_t>(image.height) + 2 * kMargin;
  uint8_t* const rows = scratch<0>(num_rows * stride + kSlack);
  for (int y = -kMargin; y < image.height + kMargin; ++y) {
    uint8_t* const row = rows + static_cast<size_t>(y + kMargin) * stride;
    const uint8_t* const first = image.row(std::clamp(y, 0, image.height - 1));
    const uint8_t* const last = first + image.row_bytes() - 3;
    std::memcpy(row + 3 * kMargin, first, image.row_bytes());
    for (int i = 0; i < kMargin; ++i) {
      std::memcpy(row + 3 * i, first, 3);
      std::memcpy(row + 3 * (kMargin + image.width + i), last, 3);
    }
  }
  return {rows + kMargin * stride + 3 * kMargin, static_cast<ptrdiff_t>(stride), image.height,
          image.width};
}

template <typename Sample>
void warp_with(const Warp& job, const Sample& sample) {
  const Source& source = job.source;
  Axis axis_x(job.matrix, job.out.width, source.width);
  Axis axis_y(job.matrix + 3, job.out.width, source.height);
  for (int y = 0; y < job.out.height; ++y) {
    axis_x.move_to_row(y);
    axis_y.move_to_row(y);
    const Span span = intersection(axis_x.inside(), axis_y.inside());
    fill_outside(job.out, y, span, job.fill);
    for (int x = span.begin; x < span.end; ++x) {
      const Position at_x(axis_x(x)), at_y(axis_y(x));
      const uint8_t* const p = source.at(at_x.pixel, at_y.pixel);
      uint8_t* const out = job.out.row(y) + 3 * x;
      for (int channel = 0; channel < 3; ++channel) {
        out[channel] = sample(p + channel, source.stride, at_x.part, at_y.part);
      }
    }
  }
}

void copy_nearest(const Warp& job, int x, int y, int64_t from_x, int64_t from_y) {
  const Source& source = job.source;
  const bool is_inside =
      from_x >= 0 && from_x < source.width && from_y >= 0 && from_y < source.height;
  std::memcpy(job.out.row(y) + 3 * x,
              is_inside ? source.at(static_cast<int>(from_x), static_cast<int>(from_y)) : job.fill,
              3);
}

// PIL's truncation, by which all that is negative lies outside. The bounds on a matrix keep the
// coordinates far within 64 bits.
int64_t truncate(double coordinate) {
  return coordinate < 0.0 ? -1 : static_cast<int64_t>(coordinate);
}

int64_t fixed_point(double value) {
  return static_cast<int64_t>(std::floor(value * 65536.0 + 0.5));
}

bool fits_fixed_point(const double m[6], int x, int y) {
  return std::fabs(x * m[0] + y * m[1] + m[2]) < 32768.0 &&
         std::fabs(x * m[3] + y * m[4] + m[5]) < 32768.0;
}

// The nearest pixel. Coordinates are sums, of fixed-point numbers where these suffice, as PIL's
// are, and gather the same errors.
template <typename Number, typename Pixel>
void warp_nearest_with(const Warp& job, const Number m[6], const Pixel& pixel) {
  Number row_x = m[2], row_y = m[5];
  for (int y = 0; y < job.out.height; ++y, row_x += m[1], row_y += m[4]) {
    Number at_x = row_x, at_y = row_y;
    for (int x = 0; x < job.out.width; ++x, at_x += m[0], at_y += m[3]) {
      copy_nearest(job, x, y, pixel(at_x), pixel(at_y));
    }
  }
}

void warp_nearest(const Warp& job) {
  const double* const m = job.matrix;
  const int width = job.out.width, height = job.out.height;
  // The order in which these are added is PIL's too, and differs.
  const double fixed_x = m[2] + m[0] * 0.5 + m[1] * 0.5, fixed_y = m[5] + m[3] * 0.5 + m[4] * 0.5;
  const double exact_x = m[2] + m[1] * 0.5 + m[0] * 0.5, exact_y = m[5] + m[4] * 0.5 + m[3] * 0.5;
  const bool is_scaling = m[1] == 0 && m[3] == 0;
  if (!is_scaling && fits_fixed_point(m, 0, 0) && fits_fixed_point(m, width, height) &&
      fits_fixed_point(m, 0, height) && fits_fixed_point(m, width, 0)) {
    const int64_t fixed[6] = {fixed_point(m[0]), fixed_point(m[1]), fixed_point(fixed_x),
                              fixed_point(m[3]), fixed_point(m[4]), fixed_point(fixed_y)};
    warp_nearest_with(job, fixed, [](int64_t at) { return at >> 16; });
  } else {
    const double exact[6] = {m[0], m[1], exact_x, m[3], m[4], exact_y};
    warp_nearest_with(job, exact, truncate);
  }
}

}  // namespace

void warp(const Image& image, const double matrix[6], Filter filter, const uint8_t fill[3]) {
  const Source source = copy_padded(image);
  const Warp job{image, source, matrix, filter, fill};
  if (filter == Filter::kNearest) {
    warp_nearest(job);
    return;
  }
#if defined(__x86_64__)
  if (may_use_avx2()) {
    warp_avx2(job);
    return;
  }
#endif
  if (filter == Filter::kBilinear) {
    warp_with(job, sample_bilinear);
  } else {
    warp_with(job, sample_bicubic);
  }
}

}  // namespace millstream::operations
