#define TIDEGATE_ISA_AVX512
#define TIDEGATE_BFLOAT16
#define TIDEGATE_BFLOAT16_PAIRS
#define TIDEGATE_AMX
#define TIDEGATE_AMX_EMULATED
#include "isa.h"

namespace tidegate {
extern const Kernels kernels_amx_emulated_avx512_bfloat16;
constinit const Kernels kernels_amx_emulated_avx512_bfloat16 = make_kernels("amx-emulated-avx512");
}  // namespace tidegate
