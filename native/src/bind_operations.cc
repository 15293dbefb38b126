#include "bindings.h"

namespace millstream {

void bind_operations(nanobind::module_&) {}

}  // namespace millstream
