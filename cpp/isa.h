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

#define TG_CELLS(kernel) \
  {products<kernel<0>>, products<kernel<1>>, products<kernel<2>>, products<kernel<3>>}

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
      TG_CELLS(forward_padding),
      TG_CELLS(forward_rows),
      TG_CELLS(score_rows),
      {score_begin<0>, score_begin<1>, score_begin<2>, score_begin<3>},
      TG_CELLS(score_panels),
      TG_CELLS(backward_rows),
      TG_CELLS(backward_padding),
      adam,
      adam_replay,
      sum_of_squares,
  };
}

}  // namespace
}  // namespace tidegate
