// The module `millstream_native._native`.

#include "bindings.h"

NB_MODULE(_native, module) {
  // A daemon thread keeps what it holds when the interpreter ends; that is no leak to speak of.
  nanobind::set_leak_warnings(false);
  millstream::bind_pool(module);
  millstream::bind_decode(module);
  millstream::bind_operations(module);
}
