#define TIDEGATE_ISA_AVX2
#include "isa.h"

namespace tidegate {
extern const Kernels kernels_avx2;
constinit const Kernels kernels_avx2 = make_kernels("avx2");
}  // namespace tidegate
