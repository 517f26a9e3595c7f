#pragma once

#include <vector>

#include "kernels.h"

namespace tidegate {

// The tables that this machine can run, best first; scalar, the last, always.
const std::vector<const Kernels*>& available_kernels();

// Null when the machine or the build lacks it.
const Kernels* find_kernels(const char* name);

}  // namespace tidegate
