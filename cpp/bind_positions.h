// The functions over a packed batch's positions: their part of the compiled module.
#pragma once

#include <nanobind/nanobind.h>

namespace tidegate {

void bind_positions(nanobind::module_& module);

}  // namespace tidegate
