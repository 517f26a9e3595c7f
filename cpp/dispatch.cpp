// Which instruction sets this build and this machine have.
#include "dispatch.h"

#include <cstring>

#include "amx_support.h"

namespace tidegate {

extern const Kernels kernels_scalar, kernels_scalar_bf16x3, kernels_scalar_bfloat16;
#if defined(TIDEGATE_X86)
extern const Kernels kernels_avx2, kernels_avx2_bf16x3, kernels_avx2_bfloat16;
extern const Kernels kernels_avx512, kernels_avx512_bf16x3, kernels_avx512_bfloat16;
extern const Kernels kernels_amx_emulated_bf16x3, kernels_amx_emulated_bfloat16;
extern const Kernels kernels_amx_emulated_avx512_bf16x3, kernels_amx_emulated_avx512_bfloat16;
#endif
#if defined(TIDEGATE_AMX_TABLES)
extern const Kernels kernels_amx_bf16x3, kernels_amx_bfloat16;
#endif
#if defined(TIDEGATE_ARM)
extern const Kernels kernels_neon, kernels_neon_bf16x3, kernels_neon_bfloat16;
#endif

const Kernels& InstructionSet::table(const char* precision) const {
  for (const Kernels* table : tables)
    if (std::strcmp(table->precision, precision) == 0) return *table;
  return *tables[0];
}

namespace {

#if defined(TIDEGATE_X86)
bool has_avx2() {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
}

bool has_avx512_bfloat16() { return has_avx512() && __builtin_cpu_supports("avx512bf16"); }
#endif

#if defined(TIDEGATE_AMX_TABLES)
// Offered only if it computes what the emulation does that the tests have tried.
bool has_amx() {
  return has_avx512_bfloat16() && amx_is_there() &&
         same_products(kernels_amx_bf16x3, kernels_amx_emulated_avx512_bf16x3) &&
         same_products(kernels_amx_bfloat16, kernels_amx_emulated_avx512_bfloat16);
}
#endif

}  // namespace

const std::vector<InstructionSet>& available_sets() {
  static const std::vector<InstructionSet> found = [] {
    std::vector<InstructionSet> sets;
#if defined(TIDEGATE_AMX_TABLES)
    if (has_amx())
      sets.push_back({"amx", {&kernels_avx512, &kernels_amx_bf16x3, &kernels_amx_bfloat16}});
#endif
#if defined(TIDEGATE_X86)
    if (has_avx512()) {
      if (has_avx512_bfloat16())
        sets.push_back(
            {"avx512", {&kernels_avx512, &kernels_avx512_bf16x3, &kernels_avx512_bfloat16}});
      else
        sets.push_back({"avx512", {&kernels_avx512, &kernels_avx2_bf16x3, &kernels_avx2_bfloat16}});
    }
    if (has_avx2())
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

const std::vector<InstructionSet>& emulated_sets() {
  static const std::vector<InstructionSet> found = [] {
    std::vector<InstructionSet> sets;
#if defined(TIDEGATE_X86)
    if (has_avx512_bfloat16())
      sets.push_back({"amx-emulated-avx512",
                      {&kernels_avx512, &kernels_amx_emulated_avx512_bf16x3,
                       &kernels_amx_emulated_avx512_bfloat16}});
    sets.push_back(
        {"amx-emulated",
         {&kernels_scalar, &kernels_amx_emulated_bf16x3, &kernels_amx_emulated_bfloat16}});
#endif
    return sets;
  }();
  return found;
}

const InstructionSet* find_set(const char* name) {
  for (const auto* sets : {&available_sets(), &emulated_sets()})
    for (const InstructionSet& set : *sets)
      if (std::strcmp(set.name, name) == 0) return &set;
  return nullptr;
}

}  // namespace tidegate
