// Operations on single values: tables, composed as long as nothing else happens to the image.

#pragma once

#include <cstddef>
#include <cstdint>

#include "operations.h"

namespace millstream::operations {

// A table for each of the three channels.
class Tables {
 public:
  Tables();  // changes nothing

  // Has `next(value)` done after what the tables do already, in all channels.
  template <typename Function>
  void then(const Function& next) {
    uint8_t table[256];
    for (int value = 0; value < 256; ++value) table[value] = static_cast<uint8_t>(next(value));
    for (int channel = 0; channel < 3; ++channel) then_in(channel, table);
  }
  void then_in(int channel, const uint8_t table[256]);

  // Applies them, and begins anew with tables that change nothing.
  void flush(const Image& image);

 private:
  bool is_neutral_ = true;
  uint8_t values_[3][256];
};

// The operations' tables for an image, made of what it is now.
void add_auto_contrast(const Image& image, Tables& tables);
void add_equalize(const Image& image, Tables& tables);
void add_contrast(const Image& image, float factor, Tables& tables);

}  // namespace millstream::operations
