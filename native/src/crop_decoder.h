// From a JPEG's bytes to the pixels of a training or evaluation crop.

#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "jpeg_decoder.h"
#include "kernels.h"
#include "taps.h"

namespace millstream {

// The region from `start` to `end` of a part of an image, resampled: the filter sees nothing
// outside of the part. Pairs are (vertical, horizontal), in pixels of the part.
struct Crop {
  Size listed;
  Rectangle part;
  float start[2];
  float end[2];
  Filter filter;
};

// Decodes crops one after the other, and keeps its memory.
class CropDecoder : private RowSink {
 public:
  // Writes `size.height` x `size.width` RGB pixels to `result`, or nothing if the verdict is bad.
  Verdict decode(const uint8_t* data, size_t length, const Crop& crop, Size size, uint8_t* result);

  const std::string& reason() const { return jpeg_.reason(); }

 private:
  void take(int row, const uint8_t* rgbx) noexcept override;
  void reserve(Rectangle needed, Size size);
  void finish(Size size, uint8_t* result);

  JpegDecoder jpeg_;
  const Kernels* kernels_ = nullptr;
  Taps across_, down_;
  PreparedTaps prepared_across_, prepared_down_;
  // Of what is needed of the part: already resampled to the result's width, in RGB, or, if the
  // pass down the columns comes first, as decoded, in RGBX.
  std::vector<uint8_t> rows_;
  size_t stride_ = 0;
  size_t row_bytes_ = 0;
  bool down_first_ = false;
  std::vector<uint8_t> row_;
};

}  // namespace millstream
