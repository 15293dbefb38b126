// How the kernels choose their instructions: each is compiled for any processor, and those that
// gain by it once more for AVX2; which one runs is decided at run time. Both give the same bytes.

#pragma once

#if defined(__x86_64__)
#define MILLSTREAM_AVX2 [[gnu::target("avx2")]]
// For what need not round as PIL does.
#define MILLSTREAM_FMA [[gnu::target("avx2,fma")]]
#endif
#define MILLSTREAM_INLINE [[gnu::always_inline]] inline

namespace millstream::operations {

// Whether the processor has AVX2 (and FMA) and nobody has asked for the portable code.
bool may_use_avx2();

// For tests: leaves AVX2 unused from now on, in all threads, or uses it again.
void use_portable_code(bool is_portable);

}  // namespace millstream::operations

// Defines `name` from `name##_body`, which is MILLSTREAM_INLINE and a loop that compilers
// vectorise.
#if defined(__x86_64__)
#define MILLSTREAM_MULTIVERSION(name, parameters, arguments)                    \
  static void name##_portable parameters { name##_body arguments; }             \
  MILLSTREAM_AVX2 static void name##_avx2 parameters { name##_body arguments; } \
  void name parameters {                                                        \
    if (may_use_avx2()) {                                                       \
      name##_avx2 arguments;                                                    \
    } else {                                                                    \
      name##_portable arguments;                                                \
    }                                                                           \
  }
#else
#define MILLSTREAM_MULTIVERSION(name, parameters, arguments) \
  void name parameters { name##_body arguments; }
#endif
