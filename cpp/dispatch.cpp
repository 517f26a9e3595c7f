// Which instruction sets this build and this machine have.
#include "dispatch.h"

#include <cstring>

namespace tidegate {

extern const Kernels kernels_scalar, kernels_scalar_bf16x3, kernels_scalar_bfloat16;
#if defined(TIDEGATE_X86)
extern const Kernels kernels_avx2, kernels_avx2_bf16x3, kernels_avx2_bfloat16;
extern const Kernels kernels_avx512, kernels_avx512_bf16x3, kernels_avx512_bfloat16;
#endif
#if defined(TIDEGATE_ARM)
extern const Kernels kernels_neon, kernels_neon_bf16x3, kernels_neon_bfloat16;
#endif

const Kernels& InstructionSet::table(const char* precision) const {
  for (const Kernels* table : tables)
    if (std::strcmp(table->precision, precision) == 0) return *table;
  return *tables[0];
}

const std::vector<InstructionSet>& available_sets() {
  static const std::vector<InstructionSet> found = [] {
    std::vector<InstructionSet> sets;
#if defined(TIDEGATE_X86)
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")) {
      if (__builtin_cpu_supports("avx512bf16"))
        sets.push_back(
            {"avx512", {&kernels_avx512, &kernels_avx512_bf16x3, &kernels_avx512_bfloat16}});
      else
        sets.push_back({"avx512", {&kernels_avx512, &kernels_avx2_bf16x3, &kernels_avx2_bfloat16}});
    }
    if (avx2)
      sets.push_back({"avx2", {&kernels_avx2, &kernels_avx2_bf16x3, &kernels_avx2_bfloat16}});
#endif
#if defined(TIDEGATE_ARM)
    // Part of every 64-bit ARM.
    sets.push_back({"neon", {&kernels_neon, &kernels_neon_bf16x3, &kernels_neon_bfloat16}});
#endif
    sets.push_back({"scalar", {&kernels_scalar, &kernels_scalar_bf16x3, &kernels_scalar_bfloat16}});
    return sets;
  }();
  return found;
}

const InstructionSet* find_set(const char* name) {
  for (const InstructionSet& set : available_sets())
    if (std::strcmp(set.name, name) == 0) return &set;
  return nullptr;
}

}  // namespace tidegate
