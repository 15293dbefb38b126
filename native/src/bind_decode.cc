#include "bindings.h"

namespace millstream {

void bind_decode(nanobind::module_&) {}

}  // namespace millstream
