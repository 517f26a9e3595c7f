#define TIDEGATE_ISA_AVX512
#include "isa.h"

namespace tidegate {
extern const Kernels kernels_avx512;
constinit const Kernels kernels_avx512 = make_kernels("avx512");
}  // namespace tidegate
