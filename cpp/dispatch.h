#pragma once

#include <vector>

#include "kernels.h"

namespace tidegate {

// The tables that this machine can run, best first; scalar, the last, always.
const std::vector<const Kernels*>& available_kernels();

// Null when the machine or the build lacks it.
const Kernels* find_kernels(const char* name);

// The table for the same instruction set whose products have operands of this precision: "float32"
// or "bfloat16". Where the set has no bfloat16 instructions, one that computes the same without.
const Kernels& with_precision(const Kernels& table, const char* precision);

}  // namespace tidegate
