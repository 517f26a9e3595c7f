#define TIDEGATE_ISA_NEON
#include "isa.h"

namespace tidegate {
extern const Kernels kernels_neon;
constinit const Kernels kernels_neon = make_kernels("neon");
}  // namespace tidegate
