// What stands between a processor with AMX and its kernels: permission, and a trial.
#include "amx_support.h"

#include <cstring>
#include <vector>

#if defined(TIDEGATE_AMX_TABLES)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace tidegate {

bool amx_is_there() {
#if defined(TIDEGATE_AMX_TABLES)
  constexpr unsigned kBf16 = 1u << 22, kTile = 1u << 24;  // leaf 7, edx
  constexpr unsigned kSystemSaves = 1u << 27;             // leaf 1, ecx: xgetbv may be asked
  constexpr unsigned kTileState = 3u << 17;               // xcr0: configuration and data
  unsigned eax, ebx, ecx, edx;
  if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !(ecx & kSystemSaves)) return false;
  if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) return false;
  if ((edx & (kBf16 | kTile)) != (kBf16 | kTile)) return false;
  asm volatile("xgetbv" : "=a"(eax), "=d"(edx) : "c"(0));
  if ((eax & kTileState) != kTileState) return false;
  // Linux enlarges the threads' saved state by 8 KB, but only for a process that asks (5.16 and
  // later; before, there is no such call). All its threads may then use tiles, and its children.
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

namespace {

// Forward, backward and the weights' gradient of one layer with every edge ragged.
std::vector<float> trial(const Kernels& kernels) {
  constexpr int kDepth = 45, kUnits = 37, kGates = 3, kRows = 53;
  const int width = padded(kUnits) * kGates;
  // Numbers such as 513 and -1023, which have low parts; all products that count are multiples of
  // 512.
  unsigned state = 1;
  const auto draw = [&](size_t count) {
    std::vector<float> numbers(count);
    for (float& x : numbers) {
      state = state * 1664525u + 1013904223u;
      const int large = 512 << (state >> 31), small = static_cast<int>(state >> 24 & 15) % 3 - 1;
      x = static_cast<float>((state >> 30 & 1) ? small + large : small - large);
    }
    return numbers;
  };
  const std::vector<float> inputs = draw(kRows * kDepth), gates = draw(size_t(kRows) * width);
  const std::vector<float> weights = draw(kDepth * kGates * kUnits), bias = draw(width);

  std::vector<float> packed(kernels.forward_size(kDepth, kUnits, kGates));
  PackArgs pack = {weights.data(), kDepth, kUnits, kGates, 0, kGates, packed.data()};
  kernels.pack_forward(pack, 0, panel_count(kUnits));
  std::vector<float> found(size_t(kRows) * width);
  kernels.project({inputs.data(), kDepth, kDepth, kUnits, kGates, packed.data(), bias.data(),
                   found.data(), width},
                  0, kRows);

  packed.resize(kernels.backward_size(kDepth, kUnits, kGates));
  pack.packed = packed.data();
  kernels.pack_backward(pack, 0, panel_count(kDepth));
  std::vector<float> d_inputs(kRows * kDepth);
  kernels.input_gradient({gates.data(), width, kGates * kPanel, {0, 1, 2, 0}, kGates, kUnits,
                          kDepth, packed.data(), d_inputs.data(), kDepth, false},
                         0, kRows);
  found.insert(found.end(), d_inputs.begin(), d_inputs.end());

  std::vector<float> d_weights(weights.size());
  const int vectors = panel_count(kUnits) * kGates * (kPanel / kernels.width);
  kernels.weight_gradient({inputs.data(), kDepth, kDepth, gates.data(), width, kGates * kPanel,
                           {0, 1, 2, 0}, 0, kGates, kGates, kUnits, kRows, d_weights.data(),
                           nullptr},
                          0, vectors, 0, kDepth);
  found.insert(found.end(), d_weights.begin(), d_weights.end());
  return found;
}

}  // namespace

bool same_products(const Kernels& a, const Kernels& b) {
  const std::vector<float> first = trial(a), second = trial(b);
  return first.size() == second.size() &&
         std::memcmp(first.data(), second.data(), first.size() * sizeof(float)) == 0;
}

}  // namespace tidegate
