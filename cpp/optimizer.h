// Adam as Keras states it, and its exact replay for rows that had no gradient for a while.
//
//   m += (g - m) (1 - beta_1)      v += (g^2 - v) (1 - beta_2)
//   p -= m * rate / (sqrt(v) + epsilon),   rate = lr * sqrt(1 - beta_2^t) / (1 - beta_1^t)
//
// epsilon stands outside the bias correction, unlike PyTorch's.
#pragma once

#include "simd.h"

namespace tidegate {
namespace {

struct AdamLanes {
  vec parameter, first, second;
};

TG_INLINE void adam_step(AdamLanes& x, vec gradient, vec rate, vec keep_1, vec keep_2,
                         vec epsilon) {
  x.first = fma(sub(gradient, x.first), keep_1, x.first);
  x.second = fma(sub(mul(gradient, gradient), x.second), keep_2, x.second);
  x.parameter = sub(x.parameter, div(mul(x.first, rate), add(root(x.second), epsilon)));
}

void adam(const AdamArgs& args, float* parameter, const float* gradient, float* first,
          float* second, long count, long step) {
  const vec rate = broadcast(args.rates[step]);
  const vec keep_1 = broadcast(args.keep_1);
  const vec keep_2 = broadcast(args.keep_2);
  const vec epsilon = broadcast(args.epsilon);
  const vec scale = broadcast(args.gradient_scale);
  for (long i = 0; i < count; i += kWidth) {
    const long left = count - i;
    AdamLanes x = {load_part(parameter + i, left), load_part(first + i, left),
                   load_part(second + i, left)};
    adam_step(x, mul(load_part(gradient + i, left), scale), rate, keep_1, keep_2, epsilon);
    store_part(parameter + i, x.parameter, left);
    store_part(first + i, x.first, left);
    store_part(second + i, x.second, left);
  }
}

void adam_replay(const AdamArgs& args, float* parameter, float* first, float* second, long count,
                 long from_step, long to_step) {
  constexpr int kTogether = 4;  // independent chains hide the latency of root and division
  const vec keep_1 = broadcast(args.keep_1);
  const vec keep_2 = broadcast(args.keep_2);
  const vec epsilon = broadcast(args.epsilon);
  for (long i = 0; i < count; i += kTogether * kWidth) {
    AdamLanes x[kTogether];
    for (int j = 0; j < kTogether; ++j) {
      const long at = i + j * kWidth;
      x[j] = {load_part(parameter + at, count - at), load_part(first + at, count - at),
              load_part(second + at, count - at)};
    }
    for (long step = from_step + 1; step <= to_step; ++step) {
      bool still = true;  // once every first moment is zero, only the second still moves
      for (int j = 0; j < kTogether; ++j) still = still && all_zero(x[j].first);
      if (still) {
        // A last negative moment was flushed to -0, which a step without gradient makes +0.
        TG_UNROLL for (int j = 0; j < kTogether; ++j) x[j].first = zero();
        bool done = true;
        for (int j = 0; j < kTogether; ++j) done = done && all_zero(x[j].second);
        if (done) break;
        TG_UNROLL for (int j = 0; j < kTogether; ++j)
          x[j].second = fma(sub(zero(), x[j].second), keep_2, x[j].second);
        continue;
      }
      const vec rate = broadcast(args.rates[step]);
      TG_UNROLL for (int j = 0; j < kTogether; ++j)
        adam_step(x[j], zero(), rate, keep_1, keep_2, epsilon);
    }
    for (int j = 0; j < kTogether; ++j) {
      const long at = i + j * kWidth;
      store_part(parameter + at, x[j].parameter, count - at);
      store_part(first + at, x[j].first, count - at);
      store_part(second + at, x[j].second, count - at);
    }
  }
}

double sum_of_squares(const float* x, long count) {
  vec lanes[4] = {zero(), zero(), zero(), zero()};
  double total = 0.0;
  for (long i = 0; i < count;) {
    // float32 lanes over a short run, float64 between runs: long sums keep their digits.
    const long end = i + 1024 < count ? i + 1024 : count;
    for (int j = 0; i < end; i += kWidth, j = (j + 1) % 4) {
      const vec part = load_part(x + i, end - i);
      lanes[j] = fma(part, part, lanes[j]);
    }
    for (int j = 0; j < 4; ++j) {
      float values[kWidth];
      store(values, lanes[j]);
      for (int lane = 0; lane < kWidth; ++lane) total += values[lane];
      lanes[j] = zero();
    }
  }
  return total;
}

}  // namespace
}  // namespace tidegate
