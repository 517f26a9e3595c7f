// One vector of floats, per instruction set, behind the same few functions.
//
// Included only by isa_*.cpp, each of which is compiled with its own flags. Everything is in an
// unnamed namespace and nothing of the standard library's templates is used: a linker keeps one
// copy of a template for the whole program, and that copy could hold instructions that the
// machine lacks.
//
// Of operands one of which is not a number, min and max return the SECOND on x86 and NaN on ARM. So
// clamps are written min(limit, x): a NaN in x passes through and is found by the caller.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(TIDEGATE_ISA_AVX512) || defined(TIDEGATE_ISA_AVX2)
#include <immintrin.h>
#elif defined(TIDEGATE_ISA_NEON)
#include <arm_neon.h>
#else
#include <cmath>
#endif

#define TG_INLINE static inline __attribute__((always_inline))
#define TG_NOINLINE __attribute__((noinline))
#define TG_INLINE_MEMBER inline __attribute__((always_inline))
#define TG_LAMBDA __attribute__((always_inline))
#define TG_UNROLL _Pragma("GCC unroll 32")

namespace tidegate {
namespace {

#if defined(TIDEGATE_ISA_AVX512)

typedef __m512 vec;
constexpr int kWidth = 16;

TG_INLINE vec load(const float* p) { return _mm512_loadu_ps(p); }
TG_INLINE void store(float* p, vec x) { _mm512_storeu_ps(p, x); }
TG_INLINE vec broadcast(float x) { return _mm512_set1_ps(x); }
TG_INLINE vec zero() { return _mm512_setzero_ps(); }
TG_INLINE vec add(vec a, vec b) { return _mm512_add_ps(a, b); }
TG_INLINE vec sub(vec a, vec b) { return _mm512_sub_ps(a, b); }
TG_INLINE vec mul(vec a, vec b) { return _mm512_mul_ps(a, b); }
TG_INLINE vec div(vec a, vec b) { return _mm512_div_ps(a, b); }
TG_INLINE vec root(vec a) { return _mm512_sqrt_ps(a); }
TG_INLINE vec fma(vec a, vec b, vec c) { return _mm512_fmadd_ps(a, b, c); }    // a * b + c
TG_INLINE vec fnma(vec a, vec b, vec c) { return _mm512_fnmadd_ps(a, b, c); }  // c - a * b
TG_INLINE vec min(vec a, vec b) { return _mm512_min_ps(a, b); }
TG_INLINE vec max(vec a, vec b) { return _mm512_max_ps(a, b); }
TG_INLINE vec round_to_int(vec a) {
  return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
// a * 2^n for whole n with |n| <= 126
TG_INLINE vec scale_by_power(vec a, vec n) { return _mm512_scalef_ps(a, n); }
// 1 where every lane is zero
TG_INLINE bool all_zero(vec a) {
  return _mm512_cmp_ps_mask(a, _mm512_setzero_ps(), _CMP_NEQ_UQ) == 0;
}
TG_INLINE void prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }

#elif defined(TIDEGATE_ISA_AVX2)

typedef __m256 vec;
constexpr int kWidth = 8;

TG_INLINE vec load(const float* p) { return _mm256_loadu_ps(p); }
TG_INLINE void store(float* p, vec x) { _mm256_storeu_ps(p, x); }
TG_INLINE vec broadcast(float x) { return _mm256_set1_ps(x); }
TG_INLINE vec zero() { return _mm256_setzero_ps(); }
TG_INLINE vec add(vec a, vec b) { return _mm256_add_ps(a, b); }
TG_INLINE vec sub(vec a, vec b) { return _mm256_sub_ps(a, b); }
TG_INLINE vec mul(vec a, vec b) { return _mm256_mul_ps(a, b); }
TG_INLINE vec div(vec a, vec b) { return _mm256_div_ps(a, b); }
TG_INLINE vec root(vec a) { return _mm256_sqrt_ps(a); }
TG_INLINE vec fma(vec a, vec b, vec c) { return _mm256_fmadd_ps(a, b, c); }
TG_INLINE vec fnma(vec a, vec b, vec c) { return _mm256_fnmadd_ps(a, b, c); }
TG_INLINE vec min(vec a, vec b) { return _mm256_min_ps(a, b); }
TG_INLINE vec max(vec a, vec b) { return _mm256_max_ps(a, b); }
TG_INLINE vec round_to_int(vec a) {
  return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
TG_INLINE vec scale_by_power(vec a, vec n) {
  const __m256i bits = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
  return _mm256_mul_ps(a, _mm256_castsi256_ps(_mm256_slli_epi32(bits, 23)));
}
TG_INLINE bool all_zero(vec a) {
  return _mm256_movemask_ps(_mm256_cmp_ps(a, _mm256_setzero_ps(), _CMP_NEQ_UQ)) == 0;
}
TG_INLINE void prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }

#elif defined(TIDEGATE_ISA_NEON)

typedef float32x4_t vec;
constexpr int kWidth = 4;

TG_INLINE vec load(const float* p) { return vld1q_f32(p); }
TG_INLINE void store(float* p, vec x) { vst1q_f32(p, x); }
TG_INLINE vec broadcast(float x) { return vdupq_n_f32(x); }
TG_INLINE vec zero() { return vdupq_n_f32(0.0f); }
TG_INLINE vec add(vec a, vec b) { return vaddq_f32(a, b); }
TG_INLINE vec sub(vec a, vec b) { return vsubq_f32(a, b); }
TG_INLINE vec mul(vec a, vec b) { return vmulq_f32(a, b); }
TG_INLINE vec div(vec a, vec b) { return vdivq_f32(a, b); }
TG_INLINE vec root(vec a) { return vsqrtq_f32(a); }
TG_INLINE vec fma(vec a, vec b, vec c) { return vfmaq_f32(c, a, b); }
TG_INLINE vec fnma(vec a, vec b, vec c) { return vfmsq_f32(c, a, b); }
TG_INLINE vec min(vec a, vec b) { return vminq_f32(a, b); }
TG_INLINE vec max(vec a, vec b) { return vmaxq_f32(a, b); }
TG_INLINE vec round_to_int(vec a) { return vrndnq_f32(a); }
TG_INLINE vec scale_by_power(vec a, vec n) {
  const int32x4_t bits = vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127));
  return vmulq_f32(a, vreinterpretq_f32_s32(vshlq_n_s32(bits, 23)));
}
TG_INLINE bool all_zero(vec a) { return vminvq_u32(vceqzq_f32(a)) != 0; }
TG_INLINE void prefetch(const void* p) { __builtin_prefetch(p); }

#elif defined(TIDEGATE_ISA_PLAIN)  // as wide as AVX-512, for any processor: to try kernels with

typedef float vec __attribute__((vector_size(64)));
constexpr int kWidth = 16;

TG_INLINE vec load(const float* p) {
  vec x;
  memcpy(&x, p, sizeof x);
  return x;
}
TG_INLINE void store(float* p, vec x) { memcpy(p, &x, sizeof x); }
TG_INLINE vec broadcast(float x) { return x - vec{}; }
TG_INLINE vec zero() { return vec{}; }
TG_INLINE vec add(vec a, vec b) { return a + b; }
TG_INLINE vec sub(vec a, vec b) { return a - b; }
TG_INLINE vec mul(vec a, vec b) { return a * b; }
TG_INLINE vec div(vec a, vec b) { return a / b; }
TG_INLINE vec root(vec a) {
  for (int i = 0; i < kWidth; ++i) a[i] = __builtin_sqrtf(a[i]);
  return a;
}
TG_INLINE vec fma(vec a, vec b, vec c) { return a * b + c; }  // rounds twice
TG_INLINE vec fnma(vec a, vec b, vec c) { return c - a * b; }
TG_INLINE vec min(vec a, vec b) { return a < b ? a : b; }
TG_INLINE vec max(vec a, vec b) { return a > b ? a : b; }
TG_INLINE vec round_to_int(vec a) {
  for (int i = 0; i < kWidth; ++i) a[i] = __builtin_rintf(a[i]);
  return a;
}
TG_INLINE vec scale_by_power(vec a, vec n) {
  for (int i = 0; i < kWidth; ++i) a[i] = __builtin_ldexpf(a[i], n[i] == n[i] ? int(n[i]) : 0);
  return a;
}
TG_INLINE bool all_zero(vec a) {
  for (int i = 0; i < kWidth; ++i)
    if (a[i] != 0.0f) return false;
  return true;
}
TG_INLINE void prefetch(const void*) {}

#else

typedef float vec;
constexpr int kWidth = 1;

TG_INLINE vec load(const float* p) { return *p; }
TG_INLINE void store(float* p, vec x) { *p = x; }
TG_INLINE vec broadcast(float x) { return x; }
TG_INLINE vec zero() { return 0.0f; }
TG_INLINE vec add(vec a, vec b) { return a + b; }
TG_INLINE vec sub(vec a, vec b) { return a - b; }
TG_INLINE vec mul(vec a, vec b) { return a * b; }
TG_INLINE vec div(vec a, vec b) { return a / b; }
TG_INLINE vec root(vec a) { return __builtin_sqrtf(a); }
TG_INLINE vec fma(vec a, vec b, vec c) { return a * b + c; }   // rounds twice: no fused unit assumed
TG_INLINE vec fnma(vec a, vec b, vec c) { return c - a * b; }
TG_INLINE vec min(vec a, vec b) { return a < b ? a : b; }
TG_INLINE vec max(vec a, vec b) { return a > b ? a : b; }
TG_INLINE vec round_to_int(vec a) { return __builtin_rintf(a); }
TG_INLINE vec scale_by_power(vec a, vec n) {
  // A NaN in n may become any int: the product with a, which is then NaN too, hides it.
  const int32_t whole = n == n ? static_cast<int32_t>(n) : 0;
  const uint32_t bits = static_cast<uint32_t>(whole + 127) << 23;
  float power;
  memcpy(&power, &bits, sizeof power);
  return a * power;
}
TG_INLINE bool all_zero(vec a) { return a == 0.0f; }
TG_INLINE void prefetch(const void*) {}

#endif

// The first `count` lanes of memory, zeros behind them; whole vectors when count >= kWidth.
TG_INLINE vec load_part(const float* p, long count) {
  if (count >= kWidth) return load(p);
  float lanes[kWidth] = {};
  for (long i = 0; i < count; ++i) lanes[i] = p[i];
  return load(lanes);
}

TG_INLINE void store_part(float* p, vec x, long count) {
  if (count >= kWidth) {
    store(p, x);
    return;
  }
  float lanes[kWidth];
  store(lanes, x);
  for (long i = 0; i < count; ++i) p[i] = lanes[i];
}

}  // namespace
}  // namespace tidegate
