// The module `millstream_native._native`.

#include "bindings.h"

NB_MODULE(_native, module) {
  millstream::bind_pool(module);
  millstream::bind_decode(module);
  millstream::bind_operations(module);
}
