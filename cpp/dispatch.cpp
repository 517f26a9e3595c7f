// Which instruction sets this build and this machine have.
#include "dispatch.h"

#include <cstring>

namespace tidegate {

extern const Kernels kernels_scalar;
extern const Kernels kernels_scalar_bfloat16;
#if defined(TIDEGATE_X86)
extern const Kernels kernels_avx2;
extern const Kernels kernels_avx2_bfloat16;
extern const Kernels kernels_avx512;
extern const Kernels kernels_avx512_bfloat16;
#endif
#if defined(TIDEGATE_ARM)
extern const Kernels kernels_neon;
extern const Kernels kernels_neon_bfloat16;
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

const Kernels& with_precision(const Kernels& table, const char* precision) {
  if (std::strcmp(precision, "bfloat16") != 0) return table;
#if defined(TIDEGATE_X86)
  if (&table == &kernels_avx512 && __builtin_cpu_supports("avx512bf16"))
    return kernels_avx512_bfloat16;
  if (&table == &kernels_avx512 || &table == &kernels_avx2) return kernels_avx2_bfloat16;
#endif
#if defined(TIDEGATE_ARM)
  if (&table == &kernels_neon) return kernels_neon_bfloat16;
#endif
  return kernels_scalar_bfloat16;
}

}  // namespace tidegate
