// Memory that a thread keeps from one image to the next.

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace millstream::operations {

// At least `count` values, of any content. Each `Slot` is a memory of its own; what it held is lost
// by the next call for it on this thread.
template <int Slot, typename Value = uint8_t>
Value* scratch(size_t count) {
  static thread_local std::vector<Value> memory;
  if (memory.size() < count) memory.resize(count);
  return memory.data();
}

}  // namespace millstream::operations
