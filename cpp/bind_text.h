// The text classes' part of the compiled module.
#pragma once

#include <nanobind/nanobind.h>

namespace tidegate {

void bind_text(nanobind::module_& module);

}  // namespace tidegate
