// The cells' equations on vectors of units, forward and backward, as the lecture writes them.
//
// The update gate is the share of the NEW: hidden + update * (candidate - hidden).
// Each backward form takes the gradient of the step's output and gives the gradients of the
// values BEFORE the gates' nonlinearities, which is what the weight products need.
#pragma once

#include "vector_math.h"

namespace tidegate {
namespace {

TG_INLINE vec sigmoid_slope(vec y) { return fnma(y, y, y); }               // y (1 - y)
TG_INLINE vec tanh_slope(vec y) { return fnma(y, y, broadcast(1.0f)); }  // 1 - y^2

struct GruStep {
  vec update, reset, candidate, hidden;
};

// recurrent: the candidate's recurrent product with its bias, which the reset gate scales.
TG_INLINE GruStep gru_after(vec update_sum, vec reset_sum, vec candidate_input, vec recurrent,
                            vec hidden) {
  GruStep step;
  step.update = update_sum;
  step.reset = reset_sum;
  sigmoid_pair(step.update, step.reset);
  step.candidate = tanh(fma(step.reset, recurrent, candidate_input));
  step.hidden = fma(step.update, sub(step.candidate, hidden), hidden);
  return step;
}

struct GruGradient {
  vec update, candidate, hidden;  // hidden: the part that reaches h directly
};

// What both forms of the GRU share.
TG_INLINE GruGradient gru_backward(vec d_output, vec update, vec candidate, vec hidden) {
  GruGradient d;
  const vec through_update = mul(d_output, update);
  d.update = mul(mul(d_output, sub(candidate, hidden)), sigmoid_slope(update));
  d.candidate = mul(through_update, tanh_slope(candidate));
  d.hidden = sub(d_output, through_update);
  return d;
}

struct LstmStep {
  vec input, forget, candidate, output, cell, hidden;
};

TG_INLINE LstmStep lstm(vec input_sum, vec forget_sum, vec candidate_sum, vec output_sum,
                        vec cell) {
  LstmStep step;
  step.input = input_sum;
  step.forget = forget_sum;
  sigmoid_pair(step.input, step.forget);
  step.candidate = tanh(candidate_sum);
  step.output = sigmoid(output_sum);
  step.cell = fma(step.forget, cell, mul(step.input, step.candidate));
  step.hidden = mul(step.output, tanh(step.cell));
  return step;
}

struct LstmGradient {
  vec input, forget, candidate, output, cell;  // cell: of the state before the step
};

TG_INLINE LstmGradient lstm_backward(vec d_output, vec d_cell, vec input, vec forget,
                                     vec candidate, vec output, vec cell_before, vec cell_after) {
  LstmGradient d;
  const vec squashed = tanh(cell_after);
  const vec d_after = fma(mul(d_output, output), tanh_slope(squashed), d_cell);
  d.output = mul(mul(d_output, squashed), sigmoid_slope(output));
  d.input = mul(mul(d_after, candidate), sigmoid_slope(input));
  d.forget = mul(mul(d_after, cell_before), sigmoid_slope(forget));
  d.candidate = mul(mul(d_after, input), tanh_slope(candidate));
  d.cell = mul(d_after, forget);
  return d;
}

}  // namespace
}  // namespace tidegate
