#pragma once

#include <vector>

#include "kernels.h"

namespace tidegate {

// An instruction set's tables, one for each precision.
struct InstructionSet {
  const char* name;
  const Kernels* tables[kPrecisions];  // float32 first

  // The table whose products have operands of this precision; float32's for one that there isn't.
  // Where the set has no instructions for it, one that computes the same without.
  const Kernels& table(const char* precision) const;
};

// Those that this machine can run, best first; scalar, the last, always.
const std::vector<InstructionSet>& available_sets();

// AMX with emulated tiles: slow, and chosen only by name, for tests. One has all else as the real
// one has it and needs AVX-512 BF16; the other runs on any x86 machine.
const std::vector<InstructionSet>& emulated_sets();

// Of both. Null when the machine or the build lacks it.
const InstructionSet* find_set(const char* name);

}  // namespace tidegate
