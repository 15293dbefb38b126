// Shears and translations with AVX2. All pixels of a row, or of a column, lie in the same way
// between their neighbours, so a filter of two or four taps runs along the bytes, in float32. Where
// its error leaves two answers open (one value in two thousand) the value is computed anew as PIL
// does.

#include "operations_sampling.h"

#if defined(__x86_64__)

#include <algorithm>
#include <cmath>
#include <cstring>

#include "operations_line_filter.h"
#include "operations_scratch.h"

namespace millstream::operations {

namespace {

// With larger terms the coordinates' rounding in float64 would weigh.
constexpr double kLargestTerm = 1 << 20;
// Far above that rounding.
constexpr double kNear = 1e-6;

// The rows of one job, filtered one after the other.
class Shift {
 public:
  explicit Shift(const Warp& job)
      : job_(job),
        axis_x_(job.matrix, job.out.width, job.source.width),
        axis_y_(job.matrix + 3, job.out.width, job.source.height),
        line_(scratch<1>(job.out.row_bytes() + kSlack)),
        open_(scratch<0, int32_t>(job.out.row_bytes())) {}

  int num_taps() const { return job_.filter == Filter::kBicubic ? 4 : 2; }
  // Of the first tap, counted from the pixel that a coordinate lies in.
  int first_tap() const { return job_.filter == Filter::kBicubic ? -1 : 0; }
  const Axis& axis_y() const { return axis_y_; }

  Span move_to_row(int y) {
    axis_x_.move_to_row(y);
    axis_y_.move_to_row(y);
    const Span span = intersection(axis_x_.inside(), axis_y_.inside());
    fill_outside(job_.out, y, span, job_.fill);
    return span;
  }

  void filter(const LineFilter& taps, bool is_varying, int y, Span span) const {
    const int bytes = 3 * (span.end - span.begin);
    const int num_open = choose_filter(job_.filter, is_varying)(taps, bytes, line_, open_);
    for (const int32_t* open = open_; open != open_ + num_open; ++open) {
      line_[*open] = exact(span.begin + *open / 3, *open % 3);
    }
    std::memcpy(job_.out.row(y) + 3 * span.begin, line_, static_cast<size_t>(bytes));
  }

 private:
  uint8_t exact(int x, int channel) const {
    const Position at_x(axis_x_(x)), at_y(axis_y_(x));
    const uint8_t* const p = job_.source.at(at_x.pixel, at_y.pixel) + channel;
    const auto sample = job_.filter == Filter::kBicubic ? sample_bicubic : sample_bilinear;
    return sample(p, job_.source.stride, at_x.part, at_y.part);
  }

  const Warp& job_;
  Axis axis_x_;
  Axis axis_y_;
  uint8_t* const line_;
  int32_t* const open_;
};

bool is_whole(double value) { return value == std::floor(value); }

// With a part of sixteenths float32 is exact, and so is PIL. Most values that float32 leaves open
// would be of this kind: exactly whole.
float error_bound(double part) { return is_whole(16 * part) ? 0 : kErrorBound; }

bool is_near_pixel(double part) { return part < kNear || part > 1 - kNear; }

// Rows that move as a whole: either across, or down by as much as all others.
void shift_rows(const Warp& job) {
  const double* const m = job.matrix;
  const Source& source = job.source;
  Shift shift(job);
  float weights[4];
  LineFilter taps{nullptr, 0, {weights, weights + 1, weights + 2, weights + 3}, 0, false};
  for (int y = 0; y < job.out.height; ++y) {
    const Span span = shift.move_to_row(y);
    if (span.begin == span.end) continue;
    const double across = m[1] * (y + 0.5);
    const Position at_x(across + m[2] + span.begin + 0.5), at_y(shift.axis_y()(span.begin));
    const bool is_whole_x = is_whole(across) && is_whole(m[2]);
    if (is_whole_x && at_y.part == 0) {
      std::memcpy(job.out.row(y) + 3 * span.begin, source.at(at_x.pixel, at_y.pixel),
                  3 * static_cast<size_t>(span.end - span.begin));
    } else if (is_whole_x) {
      weigh(at_y.part, shift.num_taps(), weights);
      taps.first = source.at(at_x.pixel, at_y.pixel + shift.first_tap());
      taps.stride = source.stride;
      taps.error_bound = error_bound(at_y.part);
      taps.is_near_pixel = false;
      shift.filter(taps, false, y, span);
    } else {
      weigh(at_x.part, shift.num_taps(), weights);
      taps.first = source.at(at_x.pixel + shift.first_tap(), at_y.pixel);
      taps.stride = 3;
      // The parts of a row are all alike if nothing was rounded.
      taps.error_bound = is_whole(16 * across) ? error_bound(m[2]) : kErrorBound;
      taps.is_near_pixel = is_near_pixel(at_x.part);
      shift.filter(taps, false, y, span);
    }
  }
}

// Columns that move as a whole: first by whole pixels, then by the filter.
class Columns {
 public:
  Columns(const Warp& job, const Shift& shift);

  LineFilter taps(int y, int begin) const;

 private:
  // Neighbours that move equally far.
  struct Run {
    int begin;
    int end;
    int down;
  };
  std::vector<Run> measure_runs(const Axis& axis_y, int width, int num_taps);
  void move(const Source& source, const std::vector<Run>& runs);

  const int first_row_;  // of the moved image
  const int num_rows_;
  const size_t stride_;
  uint8_t* const rows_;
  const size_t num_weights_;
  float* const weights_;
  bool is_near_pixel_ = false;
};

Columns::Columns(const Warp& job, const Shift& shift)
    : first_row_(shift.first_tap() - 1),
      num_rows_(job.out.height + shift.num_taps() + 1),
      stride_(job.out.row_bytes()),
      rows_(scratch<2>(static_cast<size_t>(num_rows_) * stride_ + kSlack)),
      num_weights_(job.out.row_bytes() + kSlack),
      weights_(scratch<0, float>(4 * num_weights_)) {
  move(job.source, measure_runs(shift.axis_y(), job.out.width, shift.num_taps()));
}

// In row 0, which stands for all: the others' parts differ by float64's rounding at most.
std::vector<Columns::Run> Columns::measure_runs(const Axis& axis_y, int width, int num_taps) {
  std::vector<Run> runs;
  for (int x = 0; x < width; ++x) {
    const Position at_y(axis_y(x));
    float weights[4];
    weigh(at_y.part, num_taps, weights);
    is_near_pixel_ |= is_near_pixel(at_y.part);
    for (int tap = 0; tap < num_taps; ++tap) {
      float* const place = weights_ + static_cast<size_t>(tap) * num_weights_ + 3 * x;
      std::fill_n(place, 3, weights[tap]);
    }
    if (runs.empty() || runs.back().down != at_y.pixel) runs.push_back({x, x, at_y.pixel});
    runs.back().end = x + 1;
  }
  return runs;
}

void Columns::move(const Source& source, const std::vector<Run>& runs) {
  for (int i = 0; i < num_rows_; ++i) {
    uint8_t* const row = rows_ + static_cast<size_t>(i) * stride_;
    for (const Run& run : runs) {
      const int from = std::clamp(first_row_ + i + run.down, 0, source.height - 1);
      const uint8_t* const bytes = source.at(run.begin, from);
      // What this writes too much, the next run or row overwrites.
      for (int done = 0; done < 3 * (run.end - run.begin); done += 16) {
        std::memcpy(row + 3 * run.begin + done, bytes + done, 16);
      }
    }
  }
}

LineFilter Columns::taps(int y, int begin) const {
  const size_t byte = 3 * static_cast<size_t>(begin);
  LineFilter taps;
  taps.first = rows_ + static_cast<size_t>(y + 1) * stride_ + byte;
  taps.stride = static_cast<ptrdiff_t>(stride_);
  for (size_t tap = 0; tap < 4; ++tap) taps.weights[tap] = weights_ + tap * num_weights_ + byte;
  taps.error_bound = kErrorBound;
  taps.is_near_pixel = is_near_pixel_;
  return taps;
}

void shift_columns(const Warp& job) {
  Shift shift(job);
  shift.move_to_row(0);
  const Columns columns(job, shift);
  for (int y = 0; y < job.out.height; ++y) {
    const Span span = shift.move_to_row(y);
    if (span.begin != span.end) shift.filter(columns.taps(y, span.begin), true, y, span);
  }
}

bool are_terms_small(const Warp& job) {
  const double* const m = job.matrix;
  const int width = job.out.width, height = job.out.height;
  return std::fabs(m[1]) * height < kLargestTerm && std::fabs(m[2]) < kLargestTerm &&
         std::fabs(m[3]) * width < kLargestTerm && std::fabs(m[4]) * height < kLargestTerm &&
         std::fabs(m[5]) < kLargestTerm;
}

}  // namespace

bool shift_avx2(const Warp& job) {
  const double* const m = job.matrix;
  if (m[0] != 1 || !are_terms_small(job)) return false;
  const bool keeps_rows_whole = m[4] == 1 && is_whole(m[5]);
  const bool keeps_columns_whole = m[1] == 0 && is_whole(m[2]);
  if (m[3] == 0 && (keeps_rows_whole || keeps_columns_whole)) {
    shift_rows(job);
    return true;
  }
  if (m[1] == 0 && m[2] == 0 && m[4] == 1) {
    shift_columns(job);
    return true;
  }
  return false;
}

}  // namespace millstream::operations

#endif
