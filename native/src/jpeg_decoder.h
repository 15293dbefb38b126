// Part of a JPEG, row by row, as libjpeg's full decoding would have it.

#pragma once

#include <csetjmp>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include <jpeglib.h>

namespace millstream {

struct Size {
  int height;
  int width;
};

// A rectangle of pixels.
struct Rectangle {
  int top;
  int left;
  int height;
  int width;
};

enum class Verdict {
  kGood,
  kUnsupported,  // no JPEG, or one of a kind that is left to other decoders
  kDamaged,      // also where libjpeg would go on after a warning, with wrong pixels
};

// Takes rows of RGBX pixels.
class RowSink {
 public:
  virtual ~RowSink() = default;
  // `row` counts from the rectangle's first; `rgbx` is that of its left edge, and as many bytes
  // again may be read behind it.
  virtual void take(int row, const uint8_t* rgbx) noexcept = 0;
};

// Decodes one image at a time, and keeps its memory for the next. libjpeg's slow integer DCT and
// smooth upsampling of colours are used, as by PIL.
class JpegDecoder {
 public:
  JpegDecoder();
  ~JpegDecoder();
  JpegDecoder(const JpegDecoder&) = delete;
  JpegDecoder& operator=(const JpegDecoder&) = delete;

  // Reads the headers; `listed` is the size that the image must have. The data must outlive `read`.
  Verdict open(const uint8_t* data, size_t length, Size listed);

  // Hands the rows of a part of the image that was opened well to `sink`. Some may have been handed
  // over when the verdict is bad. Gray images have three equal channels.
  Verdict read(Rectangle part, RowSink* sink);

  // Why the last verdict was bad.
  const std::string& reason() const { return reason_; }

 private:
  struct Errors {
    jpeg_error_mgr manager;  // first, so that libjpeg's pointer to it is one to this
    std::jmp_buf jump;
    char message[JMSG_LENGTH_MAX];
  };
  static void give_up(j_common_ptr info);
  static void heed(j_common_ptr info, int level);
  static void watch(j_common_ptr info);

  void close();
  Verdict refuse(Verdict verdict, std::string reason);
  Verdict fail();
  template <class Step>
  bool run(const Step& step);
  void read_header(const uint8_t* data, size_t length);
  bool has_all_scans() const;
  void reserve_rows();
  void read_rows(Rectangle part, RowSink* sink);
  bool has_end() const;

  jpeg_decompress_struct info_{};
  Errors errors_{};
  jpeg_progress_mgr progress_{};
  std::vector<uint8_t> buffer_;
  uint8_t* rows_ = nullptr;  // within the buffer
  size_t stride_ = 0;
  std::string reason_;
};

}  // namespace millstream
