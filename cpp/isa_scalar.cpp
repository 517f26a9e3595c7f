#define TIDEGATE_ISA_SCALAR
#include "isa.h"

namespace tidegate {
extern const Kernels kernels_scalar;
constinit const Kernels kernels_scalar = make_kernels("scalar");
}  // namespace tidegate
