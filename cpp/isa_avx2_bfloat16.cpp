#define TIDEGATE_ISA_AVX2
#define TIDEGATE_BFLOAT16
#include "isa.h"

namespace tidegate {
extern const Kernels kernels_avx2_bfloat16;
constinit const Kernels kernels_avx2_bfloat16 = make_kernels("avx2");
}  // namespace tidegate
