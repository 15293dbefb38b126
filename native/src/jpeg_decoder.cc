#include "jpeg_decoder.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <optional>
#include <utility>

#include <jerror.h>

#include "jpeg_frame.h"

namespace millstream {

namespace {

constexpr int64_t kMostPixels = 178'956'970;  // where PIL warns of a decompression bomb
// Encoders write about 10. Each costs time, however few bytes it has.
constexpr int kMostScans = 100;
// At the borders of what libjpeg decodes, its smooth upsampling takes colours as it does at the
// image's own; so far from them that does not show.
constexpr int kColorReach = 2;
constexpr int kMostRowsAtOnce = 8;
constexpr size_t kVector = 64;

std::string text(Size size) {
  return std::to_string(size.width) + " x " + std::to_string(size.height);
}

std::string unlike(Size found, Size listed) {
  return "it is " + text(found) + " pixels, but listed with " + text(listed);
}

bool differs(Size one, Size other) {
  return one.height != other.height || one.width != other.width;
}

// Why this decoder does not take such a JPEG; empty if it does.
std::string why_unsupported(const JpegFrame& frame) {
  if (frame.marker > 0xC2) return "a lossless, hierarchical or arithmetic-coded JPEG";
  if (frame.precision != 8) return "a JPEG of " + std::to_string(frame.precision) + " bits";
  if (frame.components != 1 && frame.components != 3) {
    return "a JPEG of " + std::to_string(frame.components) + " channels";
  }
  return "";
}

}  // namespace

JpegDecoder::JpegDecoder() {
  jpeg_std_error(&errors_.manager);
  errors_.manager.error_exit = &JpegDecoder::give_up;
  errors_.manager.emit_message = &JpegDecoder::heed;
  progress_.progress_monitor = &JpegDecoder::watch;
}

JpegDecoder::~JpegDecoder() { close(); }

Verdict JpegDecoder::open(const uint8_t* data, size_t length, Size listed) {
  close();
  if (!is_jpeg(data, length)) return refuse(Verdict::kUnsupported, "not a JPEG");
  if (const std::optional<JpegFrame> frame = find_frame(data, length)) {
    const std::string why = why_unsupported(*frame);
    if (!why.empty()) return refuse(Verdict::kUnsupported, why);
    const Size found{frame->height, frame->width};
    if (differs(found, listed)) return refuse(Verdict::kDamaged, unlike(found, listed));
  }
  if (int64_t{listed.height} * listed.width > kMostPixels) {
    return refuse(Verdict::kUnsupported, text(listed) + " pixels, which take gigabytes");
  }
  if (!run([&] { read_header(data, length); })) return fail();
  const Size found{static_cast<int>(info_.image_height), static_cast<int>(info_.image_width)};
  if (differs(found, listed)) return refuse(Verdict::kDamaged, unlike(found, listed));
  return Verdict::kGood;
}

Verdict JpegDecoder::read(Rectangle part, RowSink* sink) {
  if (!run([this] { jpeg_start_decompress(&info_); })) return fail();
  if (!has_all_scans()) return refuse(Verdict::kUnsupported, "a progressive JPEG, not finished");
  reserve_rows();
  if (!run([&] { read_rows(part, sink); })) return fail();
  if (!has_end()) return refuse(Verdict::kDamaged, "cut off: it has no end-of-image marker");
  close();
  return Verdict::kGood;
}

void JpegDecoder::close() {
  jpeg_destroy_decompress(&info_);
  info_ = {};
}

Verdict JpegDecoder::refuse(Verdict verdict, std::string reason) {
  close();
  reason_ = std::move(reason);
  return verdict;
}

// After a step that failed.
Verdict JpegDecoder::fail() {
  if (errors_.manager.msg_code == JERR_OUT_OF_MEMORY) throw std::bad_alloc();
  return refuse(Verdict::kDamaged, errors_.message);
}

// Runs a step that calls libjpeg; false if it failed. Nothing that has a destructor may live in the
// step: longjmp leaves it.
template <class Step>
bool JpegDecoder::run(const Step& step) {
  if (setjmp(errors_.jump)) return false;
  step();
  return true;
}

void JpegDecoder::give_up(j_common_ptr info) {
  Errors* errors = reinterpret_cast<Errors*>(info->err);
  errors->manager.format_message(info, errors->message);
  std::longjmp(errors->jump, 1);
}

void JpegDecoder::heed(j_common_ptr info, int level) {
  if (level < 0) give_up(info);
}

void JpegDecoder::watch(j_common_ptr info) {
  if (reinterpret_cast<j_decompress_ptr>(info)->input_scan_number <= kMostScans) return;
  Errors* errors = reinterpret_cast<Errors*>(info->err);
  std::snprintf(errors->message, sizeof errors->message, "more than %d scans", kMostScans);
  std::longjmp(errors->jump, 1);
}

void JpegDecoder::read_header(const uint8_t* data, size_t length) {
  // Anew for each image: a decompressor takes tables that an image lacks from the one before.
  info_.err = &errors_.manager;
  jpeg_create_decompress(&info_);
  info_.progress = &progress_;
  jpeg_mem_src(&info_, const_cast<uint8_t*>(data), length);  // libjpeg-turbo 1.5 lacks the const
  jpeg_read_header(&info_, TRUE);
  info_.out_color_space = JCS_EXT_RGBX;
  info_.dct_method = JDCT_ISLOW;
}

// Before its last scan a progressive image is but an approximation, which libjpeg's versions smooth
// in different ways.
bool JpegDecoder::has_all_scans() const {
  if (!info_.progressive_mode) return true;
  for (int component = 0; component < info_.num_components; ++component) {
    const int* missing_bits = info_.coef_bits[component];
    if (std::any_of(missing_bits, missing_bits + DCTSIZE2, [](int bits) { return bits != 0; })) {
      return false;
    }
  }
  return true;
}

void JpegDecoder::reserve_rows() {
  stride_ = (size_t{4} * info_.image_width + kVector) / kVector * kVector;
  // One more than there are, for what may be read behind the last.
  const size_t size = stride_ * (kMostRowsAtOnce + 1) + 2 * kVector;
  if (buffer_.size() < size) buffer_.resize(size);
  // Into rows that are aligned to vectors libjpeg-turbo writes past the cache, which makes reading
  // them at once three times as slow; so these never are.
  const size_t misaligned = reinterpret_cast<uintptr_t>(buffer_.data()) % kVector;
  rows_ = buffer_.data() + kVector - misaligned + sizeof(uint32_t);
}

void JpegDecoder::read_rows(Rectangle part, RowSink* sink) {
  const int right = std::min<int>(part.left + part.width + kColorReach, info_.image_width);
  JDIMENSION left = std::max(part.left - kColorReach, 0), width = right - left;
  if (width < info_.image_width) jpeg_crop_scanline(&info_, &left, &width);  // widens it
  if (part.top > 0) jpeg_skip_scanlines(&info_, part.top);

  JSAMPROW rows[kMostRowsAtOnce];
  for (int i = 0; i < kMostRowsAtOnce; ++i) rows[i] = rows_ + stride_ * i;
  const size_t offset = size_t{4} * (part.left - left);
  for (int row = 0; row < part.height;) {
    const int wanted = std::min(kMostRowsAtOnce, part.height - row);
    const int got = jpeg_read_scanlines(&info_, rows, wanted);
    if (got == 0) ERREXIT(&info_, JERR_CANT_SUSPEND);
    for (int i = 0; i < got; ++i, ++row) sink->take(row, rows[i] + offset);
  }
}

// Whether the data go on to the end of the image. What lies below the part is not decoded, so that
// damage in it is not seen; but data that are cut off are.
bool JpegDecoder::has_end() const {
  if (jpeg_has_multiple_scans(const_cast<j_decompress_ptr>(&info_))) return true;  // all were read
  if (info_.unread_marker == JPEG_EOI) return true;
  const uint8_t* at = info_.src->next_input_byte;
  const uint8_t* end = at + info_.src->bytes_in_buffer;
  while (end - at >= 2 && (at = static_cast<const uint8_t*>(std::memchr(at, 0xFF, end - at - 1)))) {
    if (at[1] == JPEG_EOI) return true;
    ++at;
  }
  return false;
}

}  // namespace millstream
