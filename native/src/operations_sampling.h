// Where an affine map takes the pixels of a row, and what PIL finds there: what the kernels of
// operations_warp*.cc share. All arithmetic is PIL's, in float64, operation by operation.

#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "operations.h"

namespace millstream::operations {

// How far the bicubic filter reaches beyond the image.
constexpr int kMargin = 2;

// A copy of an image with its edges repeated, so that kernels need not look where they read.
struct Source {
  const uint8_t* origin;  // of pixel (0, 0)
  ptrdiff_t stride;
  int height;
  int width;

  const uint8_t* at(int x, int y) const { return origin + y * stride + 3 * x; }
};

// One call's work.
struct Warp {
  const Image& out;
  const Source& source;
  const double* matrix;  // 6
  Filter filter;
  const uint8_t* fill;
};

// A coordinate of the source, half a pixel less, as a pixel and what remains.
struct Position {
  int pixel;
  double part;  // 0 to 1, 1 excluded

  explicit Position(double coordinate) {
    const double from_centre = coordinate - 0.5;
    pixel = static_cast<int>(from_centre);
    pixel -= from_centre < pixel;
    part = from_centre - pixel;
  }
};

// The pixels of an output row that show the image: begin <= x < end.
struct Span {
  int begin;
  int end;
};

Span intersection(Span a, Span b);
void fill_outside(const Image& image, int y, Span span, const uint8_t fill[3]);

// One of the two rows of the matrix: a coordinate of the source along the rows of the output.
class Axis {
 public:
  // `limit`: the source's size along this axis.
  Axis(const double row[3], int width, int limit);

  void move_to_row(int y);
  // The pixels of the row for which 0 <= coordinate < limit. Neighbouring rows' are near to each
  // other, so the search begins at the last.
  Span inside();

  // The coordinate of pixel x: (products()[x] + row()) + offset().
  double operator()(int x) const { return products_[static_cast<size_t>(x)] + row_ + offset_; }
  const double* products() const { return products_.data(); }
  double row() const { return row_; }
  double offset() const { return offset_; }

 private:
  bool is_reached(int x, double bound) const;
  void search(int& first, double bound) const;

  int width_;
  double limit_;
  bool is_rising_;
  double slope_;  // from one row to the next
  double offset_;
  double row_ = 0;
  std::vector<double> products_;
  int first_zero_ = 0;
  int first_limit_ = 0;
};

inline double cubic(double a, double b, double c, double d, double part) {
  const double p3 = 2 * (a - b) + c - d;
  const double p4 = -a + b - c + d;
  return b + part * ((-a + c) + part * (p3 + part * p4));
}

inline double linear(double a, double b, double part) { return a + (b - a) * part; }

// A channel of the source between the pixel at `p` and its neighbours.
inline uint8_t sample_bilinear(const uint8_t* p, ptrdiff_t stride, double part_x, double part_y) {
  const double upper = linear(p[0], p[3], part_x);
  const double value = linear(upper, linear(p[stride], p[stride + 3], part_x), part_y);
  return static_cast<uint8_t>(value);
}

inline uint8_t sample_bicubic(const uint8_t* p, ptrdiff_t stride, double part_x, double part_y) {
  double rows[4];
  for (int i = 0; i < 4; ++i) {
    const uint8_t* const row = p + (i - 1) * stride;
    rows[i] = cubic(row[-3], row[0], row[3], row[6], part_x);
  }
  const double value = cubic(rows[0], rows[1], rows[2], rows[3], part_y);
  if (value <= 0.0) return 0;
  return value >= 255.0 ? 255 : static_cast<uint8_t>(value);
}

// Where the pixels of a row are in the source.
struct Positions {
  const int32_t* offsets;  // 0 for seven pixels after the last
  const double* parts_x;
  const double* parts_y;
};

// PIL's bicubic filter at the pixels of a span; writes up to kSlack bytes too much.
void sample_bicubic_row(const Source& source, const Positions& positions, Span span, uint8_t* row);

// The whole of the work for the two filters that interpolate; only where may_use_avx2().
void warp_avx2(const Warp& job);

// Does it where rows or columns are moved and nothing else; false, and nothing done, elsewhere.
bool shift_avx2(const Warp& job);

}  // namespace millstream::operations
