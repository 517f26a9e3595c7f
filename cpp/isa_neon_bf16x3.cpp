#define TIDEGATE_ISA_NEON
#define TIDEGATE_BFLOAT16
#define TIDEGATE_BF16X3
#include "isa.h"

namespace tidegate {
extern const Kernels kernels_neon_bf16x3;
constinit const Kernels kernels_neon_bf16x3 = make_kernels("neon");
}  // namespace tidegate
