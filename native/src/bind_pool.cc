#include <string>

#include "bindings.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace millstream {

namespace {

constexpr int kMostThreads = 1024;

void make_pool(Pool* self, int threads) {
  if (threads < 1 || threads > kMostThreads) {
    throw nb::value_error(("threads must be from 1 to " + std::to_string(kMostThreads) + ", got " +
                           std::to_string(threads))
                              .c_str());
  }
  new (self) Pool(threads);
}

}  // namespace

void run_unlocked(Pool& pool, int count, const std::function<void(int)>& work) {
  Pool::Call call(pool);
  nb::gil_scoped_release unlocked;
  pool.run(count, work);
}

void bind_pool(nb::module_& module) {
  nb::class_<Pool>(module, "Pool", nb::is_weak_referenceable())
      .def("__init__", &make_pool, "threads"_a)
      .def_prop_ro("threads", &Pool::num_threads)
      .def("close", &Pool::close, nb::call_guard<nb::gil_scoped_release>());
}

}  // namespace millstream
