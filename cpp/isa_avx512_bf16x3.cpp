#define TIDEGATE_ISA_AVX512
#define TIDEGATE_BFLOAT16
#define TIDEGATE_BF16X3
#define TIDEGATE_BFLOAT16_PAIRS
#include "isa.h"

namespace tidegate {
extern const Kernels kernels_avx512_bf16x3;
constinit const Kernels kernels_avx512_bf16x3 = make_kernels("avx512bf16");
}  // namespace tidegate
