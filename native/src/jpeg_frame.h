// What a JPEG's frame header says, read before libjpeg allocates for it.

#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

namespace millstream {

struct JpegFrame {
  int marker;  // 0xC0 baseline, 0xC1 extended, 0xC2 progressive, others: lossless, arithmetic, ...
  int precision;
  int height;
  int width;
  int components;
};

// Whether the data begin as a JPEG does.
bool is_jpeg(const uint8_t* data, size_t length);

// The first frame of a JPEG; nothing where the segments before it are damaged.
std::optional<JpegFrame> find_frame(const uint8_t* data, size_t length);

}  // namespace millstream
