#include "operations_simd.h"

#include <atomic>

namespace millstream::operations {

namespace {

std::atomic<bool> wants_portable_code{false};

bool has_avx2() {
#if defined(__x86_64__)
  static const bool has_it = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  return has_it;
#else
  return false;
#endif
}

}  // namespace

bool may_use_avx2() { return has_avx2() && !wants_portable_code.load(std::memory_order_relaxed); }

void use_portable_code(bool is_portable) { wants_portable_code = is_portable; }

}  // namespace millstream::operations
