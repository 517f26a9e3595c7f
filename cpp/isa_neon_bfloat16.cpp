#define TIDEGATE_ISA_NEON
#define TIDEGATE_BFLOAT16
#include "isa.h"

namespace tidegate {
extern const Kernels kernels_neon_bfloat16;
constinit const Kernels kernels_neon_bfloat16 = make_kernels("neon");
}  // namespace tidegate
