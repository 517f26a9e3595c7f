#define TIDEGATE_ISA_AVX2
#define TIDEGATE_BFLOAT16
#define TIDEGATE_BF16X3
#include "isa.h"

namespace tidegate {
extern const Kernels kernels_avx2_bf16x3;
constinit const Kernels kernels_avx2_bf16x3 = make_kernels("avx2");
}  // namespace tidegate
