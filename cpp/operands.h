// What the matrix products multiply: float32 itself, or bfloat16.
//
// A bfloat16 table rounds the operands of each product to nearest even and adds in float32. With
// TIDEGATE_BFLOAT16_PAIRS the machine multiplies pairs, so an operand is two neighbours of the
// depth in 32 bits; elsewhere it is the rounded number as a float, which computes the same up to
// the order of the sums. Left operands are rounded where they are used, once for all tiles of a
// block of rows; right ones while they are packed.
#pragma once

#include "kernels.h"
#include "simd.h"

namespace tidegate {
namespace {

#if defined(TIDEGATE_BFLOAT16)
constexpr bool kRounds = true;

TG_INLINE uint32_t bits_of(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

// The upper half of a float's bits, rounded to nearest even.
TG_INLINE uint32_t bfloat16_bits(float x) {
  const uint32_t bits = bits_of(x);
  if ((bits & 0x7F800000u) == 0) return bits >> 16 & 0x8000u;  // denormal: flushed
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return bits >> 16 | 0x40u;  // NaN stays one
  return (bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16;
}
#else
constexpr bool kRounds = false;
#endif

#if defined(TIDEGATE_BFLOAT16_PAIRS)

typedef uint32_t operand;
typedef __m512i operands;
constexpr int kTogether = 2;  // numbers of the depth in an operand

TG_INLINE operands load_operands(const operand* p) { return _mm512_loadu_si512(p); }
TG_INLINE void store_operands(operand* p, operands x) { _mm512_storeu_si512(p, x); }
TG_INLINE operands broadcast_operand(operand x) { return _mm512_set1_epi32(static_cast<int>(x)); }
TG_INLINE vec multiply_add(operands a, operands b, vec c) {
  return _mm512_dpbf16_ps(c, (__m512bh)a, (__m512bh)b);
}
TG_INLINE operand make_operand(float first, float second) {
  return bfloat16_bits(first) | bfloat16_bits(second) << 16;
}
// Lane by lane, first and second.
TG_INLINE operands make_operands(vec first, vec second) {
  const __m512i halves = (__m512i)_mm512_cvtne2ps_pbh(second, first);
  alignas(64) static const uint16_t order[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                                 21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                                 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  return _mm512_permutexvar_epi16(_mm512_load_si512(order), halves);
}
// One panel of a row.
TG_INLINE void round_panel(const float* x, operand* out) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), (__m256i)_mm512_cvtneps_pbh(load(x)));
}

#else

typedef float operand;
typedef vec operands;
constexpr int kTogether = 1;

TG_INLINE operands load_operands(const operand* p) { return load(p); }
TG_INLINE void store_operands(operand* p, operands x) { store(p, x); }
TG_INLINE operands broadcast_operand(operand x) { return broadcast(x); }
TG_INLINE vec multiply_add(operands a, operands b, vec c) { return fma(a, b, c); }
TG_INLINE operand make_operand(float first, float) {
#if defined(TIDEGATE_BFLOAT16)
  const uint32_t bits = bfloat16_bits(first) << 16;
  float rounded;
  memcpy(&rounded, &bits, sizeof rounded);
  return rounded;
#else
  return first;
#endif
}
TG_INLINE operands make_operands(vec first, vec second) {
  if constexpr (kRounds) {
    float lanes[kWidth], others[kWidth];
    store(lanes, first);
    store(others, second);
    for (int i = 0; i < kWidth; ++i) lanes[i] = make_operand(lanes[i], others[i]);
    return load(lanes);
  }
  return first;
}
TG_INLINE void round_panel(const float* x, operand* out) {
  for (int i = 0; i < kPanel; ++i) out[i] = make_operand(x[i], 0.0f);
}

#endif

constexpr int kPanelSteps = kPanel / kTogether;

// Operands that a depth takes.
TG_INLINE int depth_steps(int depth) { return (depth + kTogether - 1) / kTogether; }

// Packed weights are operands in an array of floats, which are of the same size.
static_assert(sizeof(operand) == sizeof(float));
TG_INLINE const operand* packed_operands(const float* packed) {
  return reinterpret_cast<const operand*>(packed);
}
TG_INLINE operand* packed_operands(float* packed) { return reinterpret_cast<operand*>(packed); }

// A product's left side, row by row.
struct Left {
  const operand* rows;
  long stride;  // operands
};

// rows: [rows, depth] float32. As it is where nothing is rounded; else in the thread's own memory,
// until the next call.
TG_INLINE Left left_operands(const float* rows, long stride, long count, int depth) {
  if constexpr (!kRounds) {
    return {packed_operands(rows), stride};
  } else {
    const int panels = panel_count(depth);
    const long own_stride = long(panels) * kPanelSteps + kLinePad;
    operand* own = packed_operands(operand_scratch(0, size_t(count) * own_stride));
    for (long r = 0; r < count; ++r) {
      const float* row = rows + r * stride;
      operand* out = own + r * own_stride;
      for (int panel = 0; panel < panels; ++panel, row += kPanel, out += kPanelSteps) {
        if (depth - panel * kPanel >= kPanel) {
          round_panel(row, out);
        } else {
          float part[kPanel] = {};
          for (int i = 0; i < depth - panel * kPanel; ++i) part[i] = row[i];
          round_panel(part, out);
        }
      }
    }
    return {own, own_stride};
  }
}

}  // namespace
}  // namespace tidegate
