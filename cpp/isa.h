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

// A kernel that computes products.
#if defined(TIDEGATE_AMX)
template <auto Kernel>
constexpr auto products = InTiles<Kernel>::run;
#else
template <auto Kernel>
constexpr auto products = Kernel;
#endif

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
      products<project>,
      products<input_gradient>,
      products<weight_gradient>,
      segment_sum,
      {products<forward_padding<0>>, products<forward_padding<1>>, products<forward_padding<2>>, products<forward_padding<3>>},
      {products<forward_rows<0>>, products<forward_rows<1>>, products<forward_rows<2>>, products<forward_rows<3>>},
      {products<score_rows<0>>, products<score_rows<1>>, products<score_rows<2>>, products<score_rows<3>>},
      {score_begin<0>, score_begin<1>, score_begin<2>, score_begin<3>},
      {products<score_panels<0>>, products<score_panels<1>>, products<score_panels<2>>, products<score_panels<3>>},
      {products<backward_rows<0>>, products<backward_rows<1>>, products<backward_rows<2>>, products<backward_rows<3>>},
      {products<backward_padding<0>>, products<backward_padding<1>>, products<backward_padding<2>>, products<backward_padding<3>>},
      adam,
      adam_replay,
      sum_of_squares,
  };
}

}  // namespace
}  // namespace tidegate
