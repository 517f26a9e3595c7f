// Makes one instruction set's table. An isa_*.cpp defines TIDEGATE_ISA_..., and includes this.
#pragma once

#include "embedding.h"
#include "optimizer.h"
#include "recurrent.h"

namespace tidegate {
namespace {

void sigmoid_array(const float* x, float* y, long count) {
  for (long i = 0; i < count; i += kWidth)
    store_part(y + i, sigmoid(load_part(x + i, count - i)), count - i);
}

void tanh_array(const float* x, float* y, long count) {
  for (long i = 0; i < count; i += kWidth)
    store_part(y + i, tanh(load_part(x + i, count - i)), count - i);
}

constexpr Kernels make_kernels(const char* name) {
  return Kernels{
      name,
      kPrecision,
      kWidth,
      sigmoid_array,
      tanh_array,
      forward_size,
      backward_size,
      pack_forward,
      pack_backward,
      project,
      input_gradient,
      weight_gradient,
      segment_sum,
      {forward_padding<0>, forward_padding<1>, forward_padding<2>, forward_padding<3>},
      {forward_rows<0>, forward_rows<1>, forward_rows<2>, forward_rows<3>},
      {score_rows<0>, score_rows<1>, score_rows<2>, score_rows<3>},
      {score_begin<0>, score_begin<1>, score_begin<2>, score_begin<3>},
      {score_panels<0>, score_panels<1>, score_panels<2>, score_panels<3>},
      {backward_rows<0>, backward_rows<1>, backward_rows<2>, backward_rows<3>},
      {backward_padding<0>, backward_padding<1>, backward_padding<2>, backward_padding<3>},
      adam,
      adam_replay,
      sum_of_squares,
  };
}

}  // namespace
}  // namespace tidegate
