#define TIDEGATE_ISA_AVX512
#define TIDEGATE_BFLOAT16
#define TIDEGATE_BFLOAT16_PAIRS
#define TIDEGATE_AMX
#include "isa.h"

namespace tidegate {
extern const Kernels kernels_amx_bfloat16;
constinit const Kernels kernels_amx_bfloat16 = make_kernels("amx");
}  // namespace tidegate
