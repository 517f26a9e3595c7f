#define TIDEGATE_ISA_AVX512
#define TIDEGATE_BFLOAT16
#define TIDEGATE_BF16X3
#define TIDEGATE_BFLOAT16_PAIRS
#define TIDEGATE_AMX
#include "isa.h"

namespace tidegate {
extern const Kernels kernels_amx_bf16x3;
constinit const Kernels kernels_amx_bf16x3 = make_kernels("amx");
}  // namespace tidegate
