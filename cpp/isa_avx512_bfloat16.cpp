#define TIDEGATE_ISA_AVX512
#define TIDEGATE_BFLOAT16
#define TIDEGATE_BFLOAT16_PAIRS
#include "isa.h"

namespace tidegate {
extern const Kernels kernels_avx512_bfloat16;
constinit const Kernels kernels_avx512_bfloat16 = make_kernels("avx512bf16");
}  // namespace tidegate
