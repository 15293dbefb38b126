#include "jpeg_frame.h"

namespace millstream {

namespace {

int big_endian(const uint8_t* bytes) { return bytes[0] << 8 | bytes[1]; }

bool begins_frame(int marker) {
  const bool is_table = marker == 0xC4 || marker == 0xC8 || marker == 0xCC;
  return marker >= 0xC0 && marker <= 0xCF && !is_table;
}

}  // namespace

bool is_jpeg(const uint8_t* data, size_t length) {
  return length >= 3 && data[0] == 0xFF && data[1] == 0xD8 && data[2] == 0xFF;
}

std::optional<JpegFrame> find_frame(const uint8_t* data, size_t length) {
  // A segment is a marker, two bytes with the length of what follows from themselves on, and that.
  for (size_t at = 2; at + 4 <= length;) {
    if (data[at] != 0xFF) return std::nullopt;
    const int marker = data[at + 1];
    if (marker == 0xFF) {  // filling
      ++at;
      continue;
    }
    const bool has_length = marker >= 0xC0 && !(marker >= 0xD0 && marker <= 0xDA);
    if (!has_length) return std::nullopt;
    const uint8_t* segment = data + at + 2;
    if (begins_frame(marker)) {
      if (at + 10 > length) return std::nullopt;
      return JpegFrame{marker, segment[2], big_endian(segment + 3), big_endian(segment + 5),
                       segment[7]};
    }
    at += 2 + big_endian(segment);
  }
  return std::nullopt;
}

}  // namespace millstream
