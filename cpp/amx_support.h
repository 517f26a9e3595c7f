#pragma once

#include "kernels.h"

namespace tidegate {

// Whether the processor has AMX for bfloat16 and the system, which is asked for it, lets this
// process use it. Elsewhere tile instructions would end the process.
bool amx_is_there();

// Whether two tables compute the same products, bit for bit, of some whole numbers whose sums are
// exact in any order: a processor may add in another one than the manual says.
bool same_products(const Kernels& a, const Kernels& b);

}  // namespace tidegate
