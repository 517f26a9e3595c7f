#define TIDEGATE_ISA_SCALAR
#define TIDEGATE_BFLOAT16
#include "isa.h"

namespace tidegate {
extern const Kernels kernels_scalar_bfloat16;
constinit const Kernels kernels_scalar_bfloat16 = make_kernels("scalar");
}  // namespace tidegate
