// What each part of the module adds to it.

#pragma once

#include <functional>

#include <nanobind/nanobind.h>

#include "pool.h"

namespace millstream {

// Pool::run with the interpreter's lock released meanwhile.
void run_unlocked(Pool& pool, int count, const std::function<void(int)>& work);

void bind_pool(nanobind::module_& module);
void bind_decode(nanobind::module_& module);
void bind_operations(nanobind::module_& module);

}  // namespace millstream
