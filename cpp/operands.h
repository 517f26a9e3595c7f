// What the matrix products multiply: float32 itself, bfloat16, or two bfloat16 for one float32.
//
// A bfloat16 table rounds the operands of each product to nearest even and adds in float32. With
// TIDEGATE_BFLOAT16_PAIRS the machine multiplies pairs, so an operand is two neighbours of the
// depth in 32 bits; elsewhere it is the rounded number as a float, which computes the same up to
// the order of the sums. Left operands are rounded where they are used, once for all tiles of a
// block of rows; right ones while they are packed.
//
// A bf16x3 table splits each operand into a high part, which is it rounded, and a low part, which
// is the rest rounded, and computes high * high + high * low + low * high. The depth becomes three
// times as long for it, and the loops stay those of bfloat16: a panel of the depth (in the weights'
// gradient, a pair of rows) stands there three times, by the parts of kLeftParts and kRightParts.
//
// With TIDEGATE_AMX products are computed by tiles (amx.h) of 16 rows and 16 pairs: rows and depths
// are filled up to whole ones, depths with zeros, rows with anything.
#pragma once

#include "kernels.h"
#include "simd.h"

namespace tidegate {
namespace {

#if defined(TIDEGATE_BFLOAT16)
constexpr bool kRounds = true;
#if defined(TIDEGATE_BF16X3)
constexpr int kTerms = 3;  // products that make one
constexpr const char* kPrecision = "bf16x3";
#else
constexpr int kTerms = 1;
constexpr const char* kPrecision = "bfloat16";
#endif

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

TG_INLINE float rounded(float x) {
  const uint32_t bits = bfloat16_bits(x) << 16;
  float number;
  memcpy(&number, &bits, sizeof number);
  return number;
}
#else
constexpr bool kRounds = false;
constexpr int kTerms = 1;
constexpr const char* kPrecision = "float32";

TG_INLINE float rounded(float x) { return x; }
#endif

// What is rounded of a number: itself; itself if that is finite, else 0; the rest, or 0 likewise.
enum Part { kHigh, kFinite, kLow };
// The parts that are multiplied, product by product. Only the first product sees an infinity or
// NaN, so that these go the way they go in bfloat16: infinity times the parts of 1.01 would be
// infinity, and minus infinity.
constexpr Part kLeftParts[3] = {kHigh, kFinite, kLow};
constexpr Part kRightParts[3] = {kHigh, kLow, kFinite};

TG_INLINE float part_of(Part part, float x) {
  if (part == kHigh) return x;
  const float high = rounded(x);
  if (!(high - high == 0.0f)) return 0.0f;
  return part == kFinite ? x : x - high;
}

#if !defined(TIDEGATE_ISA_SCALAR)  // whose vectors are floats
TG_INLINE vec part_of(Part part, vec x) {
  if (part == kHigh) return x;
#if defined(TIDEGATE_BFLOAT16_PAIRS) && defined(TIDEGATE_ISA_AVX512)
  const __m512i bits = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(x));
  const vec high = (vec)_mm512_slli_epi32(bits, 16);
  const __mmask16 finite = _mm512_cmp_ps_mask(sub(high, high), zero(), _CMP_EQ_OQ);
  return _mm512_maskz_mov_ps(finite, part == kFinite ? x : sub(x, high));
#else
  float lanes[kWidth];
  store(lanes, x);
  for (int i = 0; i < kWidth; ++i) lanes[i] = part_of(part, lanes[i]);
  return load(lanes);
#endif
}
#endif

#if defined(TIDEGATE_BFLOAT16_PAIRS)

typedef uint32_t operand;
constexpr int kTogether = 2;  // numbers of the depth in an operand

TG_INLINE operand make_operand(float first, float second) {
  return bfloat16_bits(first) | bfloat16_bits(second) << 16;
}

#if defined(TIDEGATE_ISA_AVX512)

typedef __m512i operands;

TG_INLINE operands load_operands(const operand* p) { return _mm512_loadu_si512(p); }
TG_INLINE void store_operands(operand* p, operands x) { _mm512_storeu_si512(p, x); }
TG_INLINE operands broadcast_operand(operand x) { return _mm512_set1_epi32(static_cast<int>(x)); }
TG_INLINE vec multiply_add(operands a, operands b, vec c) {
  return _mm512_dpbf16_ps(c, (__m512bh)a, (__m512bh)b);
}
// Lane by lane, first and second.
TG_INLINE operands make_operands(vec first, vec second) {
  const __m512i halves = (__m512i)_mm512_cvtne2ps_pbh(second, first);
  alignas(64) static const uint16_t order[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                                 21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                                 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  return _mm512_permutexvar_epi16(_mm512_load_si512(order), halves);
}
// One part of a panel of a row.
TG_INLINE void round_part(Part part, const float* x, operand* out) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out),
                      (__m256i)_mm512_cvtneps_pbh(part_of(part, load(x))));
}

#else  // pairs that only tiles multiply

typedef uint32_t operands __attribute__((vector_size(64)));

TG_INLINE void store_operands(operand* p, operands x) { memcpy(p, &x, sizeof x); }
TG_INLINE operands make_operands(vec first, vec second) {
  operands pairs;
  for (int i = 0; i < kWidth; ++i) pairs[i] = make_operand(first[i], second[i]);
  return pairs;
}
TG_INLINE void round_part(Part part, const float* x, operand* out) {
  for (int i = 0; i < kPanel; i += kTogether)
    out[i / kTogether] = make_operand(part_of(part, x[i]), part_of(part, x[i + 1]));
}

#endif

#else

typedef float operand;
typedef vec operands;
constexpr int kTogether = 1;

TG_INLINE operands load_operands(const operand* p) { return load(p); }
TG_INLINE void store_operands(operand* p, operands x) { store(p, x); }
TG_INLINE operands broadcast_operand(operand x) { return broadcast(x); }
TG_INLINE vec multiply_add(operands a, operands b, vec c) { return fma(a, b, c); }
TG_INLINE operand make_operand(float first, float) { return rounded(first); }
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
TG_INLINE void round_part(Part part, const float* x, operand* out) {
  for (int i = 0; i < kPanel; ++i) out[i] = make_operand(part_of(part, x[i]), 0.0f);
}

#endif

constexpr int kPartSteps = kPanel / kTogether;  // operands of one part of a panel
constexpr int kPanelSteps = kPartSteps * kTerms;

#if defined(TIDEGATE_AMX)
constexpr int kTileSteps = 16;  // of the depth, in a tile
#else
constexpr int kTileSteps = 1;
#endif
constexpr bool kInTiles = kTileSteps > 1;

TG_INLINE long whole_tiles(long count) {
  return (count + kTileSteps - 1) / kTileSteps * kTileSteps;
}

// Operands that a depth takes. Where it has parts, its last panel is filled up with zeros.
TG_INLINE int depth_steps(int depth) {
  if constexpr (kTerms == 1 && !kInTiles) return (depth + kTogether - 1) / kTogether;
  return static_cast<int>(whole_tiles(panel_count(depth) * kPanelSteps));
}
// The same of the gates of all units as a depth.
TG_INLINE int gate_steps(int units, int gates) {
  return static_cast<int>(whole_tiles(panel_count(units) * gates * kPanelSteps));
}
// Of an operand of a depth: its first number, and which of the parts it holds.
TG_INLINE int step_depth(int step) {
  return step / kPanelSteps * kPanel + step % kPartSteps * kTogether;
}
TG_INLINE int step_term(int step) { return step % kPanelSteps / kPartSteps; }

// Operands that rows take as the depth of the weights' gradient.
TG_INLINE long row_steps(long rows) {
  return whole_tiles((rows + kTogether - 1) / kTogether * kTerms);
}

// A panel of a row, part by part.
TG_INLINE void round_panel(const float* x, operand* out) {
  TG_UNROLL for (int term = 0; term < kTerms; ++term)
    round_part(kLeftParts[term], x, out + term * kPartSteps);
}

// Packed weights are operands in an array of floats, which are of the same size.
static_assert(sizeof(operand) == sizeof(float));
TG_INLINE const operand* packed_operands(const float* packed) {
  return reinterpret_cast<const operand*>(packed);
}
TG_INLINE operand* packed_operands(float* packed) { return reinterpret_cast<operand*>(packed); }

// Zeros for what fills up a row of a tile.
TG_INLINE void clear_steps(operand* row, int begin, int end) {
  for (int step = begin; kInTiles && step < end; ++step) row[step] = 0;
}

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
    const long own_stride = whole_tiles(long(panels) * kPanelSteps) + kLinePad;
    operand* own = packed_operands(operand_scratch(0, size_t(whole_tiles(count)) * own_stride));
    for (long r = 0; r < count; ++r) {
      const float* row = rows + r * stride;
      operand* out = own + r * own_stride;
      clear_steps(out, panels * kPanelSteps, depth_steps(depth));
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
