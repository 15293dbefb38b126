#include "crop_decoder.h"

#include <algorithm>
#include <cstring>

namespace millstream {

namespace {

constexpr size_t kKeptBytes = 64 << 20;

// Which pass PIL (since version 13) makes first, when it resizes the part. The order shows where a
// bicubic filter overshoots, since bytes are kept between the passes.
bool is_down_first(Rectangle part, Size size) {
  return part.height - size.height > 2 * std::max(part.width - size.width, 0);
}

}  // namespace

Verdict CropDecoder::decode(const uint8_t* data, size_t length, const Crop& crop, Size size,
                            uint8_t* result) {
  // First, since only a size that is the image's own bounds what is computed and kept.
  const Verdict opened = jpeg_.open(data, length, crop.listed);
  if (opened != Verdict::kGood) return opened;
  down_.compute({crop.part.height, crop.start[0], crop.end[0], size.height}, crop.filter);
  across_.compute({crop.part.width, crop.start[1], crop.end[1], size.width}, crop.filter);
  kernels_ = &kernels();
  kernels_->prepare_across(across_, &prepared_across_);
  kernels_->prepare_down(down_, &prepared_down_);
  down_first_ = is_down_first(crop.part, size);
  const Rectangle needed{crop.part.top + down_.input_begin, crop.part.left + across_.input_begin,
                         down_.input_end - down_.input_begin,
                         across_.input_end - across_.input_begin};
  reserve(needed, size);
  const Verdict verdict = jpeg_.read(needed, this);
  if (verdict == Verdict::kGood) finish(size, result);
  if (rows_.size() > kKeptBytes) std::vector<uint8_t>().swap(rows_);
  return verdict;
}

void CropDecoder::reserve(Rectangle needed, Size size) {
  row_bytes_ = down_first_ ? size_t{4} * needed.width : size_t{3} * size.width;
  stride_ = (row_bytes_ + kRowPadding) / kRowPadding * kRowPadding;
  const size_t num_bytes = stride_ * needed.height + kRowPadding;
  if (rows_.size() < num_bytes) rows_.resize(num_bytes);
}

void CropDecoder::take(int row, const uint8_t* rgbx) noexcept {
  uint8_t* kept = &rows_[stride_ * row];
  if (down_first_) {
    std::memcpy(kept, rgbx, row_bytes_);
  } else {
    kernels_->across(rgbx, across_, prepared_across_, kept);
  }
}

// The second pass, or both.
void CropDecoder::finish(Size size, uint8_t* result) {
  const size_t result_bytes = size_t{3} * size.width;
  // `across` reads as many bytes behind a row as the row has, and writes some behind its own.
  row_.resize(down_first_ ? 2 * row_bytes_ + result_bytes + 2 * kRowPadding : 0);
  uint8_t* const rgb = row_.data() + 2 * row_bytes_ + kRowPadding;
  for (int i = 0; i < size.height; ++i, result += result_bytes) {
    const uint8_t* first = &rows_[stride_ * down_.first[i]];
    uint8_t* const made = down_first_ ? row_.data() : result;
    kernels_->down(first, stride_, down_, prepared_down_, i, static_cast<int>(row_bytes_), made);
    if (!down_first_) continue;
    kernels_->across(made, across_, prepared_across_, rgb);
    std::memcpy(result, rgb, result_bytes);
  }
}

}  // namespace millstream
