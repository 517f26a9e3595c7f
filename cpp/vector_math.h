// sigmoid and tanh of a vector, within a few units in the last place, never beyond 1, NaN kept.
//
// tests/test_vector_math.py holds them to their stated error against float64 over the whole
// range of float32. Division is a true division: estimates of a reciprocal differ between makers.
#pragma once

#include "simd.h"

namespace tidegate {
namespace {

// x = n ln 2 + r with whole n and |r| <= ln 2 / 2; returns exp(r) - 1 and n.
// The polynomial is a minimax fit of (exp(r) - 1 - r) / r^2, error 1.3e-8 relative to r.
TG_INLINE vec reduced_exp_minus_one(vec x, vec& n) {
  n = round_to_int(mul(x, broadcast(1.44269504f)));
  // ln 2 in two parts, the first short enough that n times it is exact.
  vec r = fnma(n, broadcast(0.693359375f), x);
  r = fnma(n, broadcast(-2.12194440e-4f), r);
  vec q = broadcast(0x1.6d995cp-10f);
  q = fma(q, r, broadcast(0x1.122838p-7f));
  q = fma(q, r, broadcast(0x1.555486p-5f));
  q = fma(q, r, broadcast(0x1.5554b0p-3f));
  q = fma(q, r, broadcast(0.5f));
  return fma(mul(r, r), q, r);
}

TG_INLINE vec clamp(vec x, float limit) {
  return min(broadcast(limit), max(broadcast(-limit), x));
}

// Logistic function. Error below 3 ulp for x > -87; smaller results are flushed towards zero.
TG_INLINE vec sigmoid(vec x) {
  vec n;
  const vec p = reduced_exp_minus_one(clamp(sub(zero(), x), 87.0f), n);
  const vec one = broadcast(1.0f);
  const vec power = scale_by_power(one, n);
  return div(one, add(one, fma(power, p, power)));
}

// Two logistic functions for one division, 1 / a and 1 / b being b / (a b) and a / (a b). Within 3
// ulp for |x| < 43; beyond, where the product would overflow, both stay at what 43 gives (2e-19).
TG_INLINE void sigmoid_pair(vec& x, vec& y) {
  vec n, m;
  const vec one = broadcast(1.0f);
  const vec p = reduced_exp_minus_one(clamp(sub(zero(), x), 43.0f), n);
  const vec q = reduced_exp_minus_one(clamp(sub(zero(), y), 43.0f), m);
  const vec power_x = scale_by_power(one, n), power_y = scale_by_power(one, m);
  const vec a = add(one, fma(power_x, p, power_x));
  const vec b = add(one, fma(power_y, q, power_y));
  const vec inverse = div(one, mul(a, b));
  x = min(one, mul(b, inverse));
  y = min(one, mul(a, inverse));
}

// Hyperbolic tangent as e / (e + 2) with e = exp(2x) - 1, which keeps small x accurate.
TG_INLINE vec tanh(vec x) {
  vec n;
  const vec p = reduced_exp_minus_one(mul(clamp(x, 10.0f), broadcast(2.0f)), n);
  const vec power = scale_by_power(broadcast(1.0f), n);
  const vec e = fma(power, p, sub(power, broadcast(1.0f)));
  return div(e, add(e, broadcast(2.0f)));
}

}  // namespace
}  // namespace tidegate
