// Which instruction sets this build and this machine have.
#include "dispatch.h"

#include <cstring>

namespace tidegate {

extern const Kernels kernels_scalar;
#if defined(TIDEGATE_X86)
extern const Kernels kernels_avx2;
extern const Kernels kernels_avx512;
#endif
#if defined(TIDEGATE_ARM)
extern const Kernels kernels_neon;
#endif

const std::vector<const Kernels*>& available_kernels() {
  static const std::vector<const Kernels*> found = [] {
    std::vector<const Kernels*> tables;
#if defined(TIDEGATE_X86)
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
      tables.push_back(&kernels_avx512);
    if (avx2) tables.push_back(&kernels_avx2);
#endif
#if defined(TIDEGATE_ARM)
    tables.push_back(&kernels_neon);  // part of every 64-bit ARM
#endif
    tables.push_back(&kernels_scalar);
    return tables;
  }();
  return found;
}

const Kernels* find_kernels(const char* name) {
  for (const Kernels* table : available_kernels())
    if (std::strcmp(table->name, name) == 0) return table;
  return nullptr;
}

}  // namespace tidegate
