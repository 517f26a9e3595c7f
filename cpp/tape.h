// One recurrent layer's pass over one packed batch, forward and backward, on all threads.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels.h"
#include "parallel.h"

namespace tidegate {

// Aligned memory that only grows: pages are touched once, not once a batch.
class Buffer {
 public:
  Buffer() = default;
  ~Buffer();
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  float* reserve(size_t floats);  // contents are lost when it grows; throws std::bad_alloc
  float* data() const { return data_; }

 private:
  float* data_ = nullptr;
  size_t capacity_ = 0;
};

// A cell's weights and biases in the layout of the forward kernels.
struct PackedWeights {
  Buffer input, recurrent, candidate;  // candidate: GRU before, whose `recurrent` lacks it
  // By panel: the input product's, then the candidate's recurrent one. Where the gates add both
  // products, both biases stand in the first.
  Buffer bias;

  // kernel [I, G * H], recurrent_kernel [H, G * H], biases [G * H] or null, row-major.
  void pack(const Kernels& kernels, ThreadPool& pool, Cell cell, int input_size, int hidden,
            const float* kernel, const float* recurrent_kernel, const float* given_bias,
            const float* recurrent_bias);
  // Sets what they are, and the cell's sizes and strides.
  void describe(RecurrentArgs& args, Cell cell, int hidden) const;
};

inline long projected_stride(Cell cell, int hidden) {
  return long(padded(hidden)) * kLayouts[cell].gates + kLinePad;
}
inline long state_stride(int hidden) { return padded(hidden) + kLinePad; }
inline long gate_stride(Cell cell, int hidden) {
  return long(padded(hidden)) * kLayouts[cell].channels + kLinePad;
}

// What the caller gives. Pointers are borrowed for the call; all arrays are row-major and dense.
struct RecurrentCall {
  Cell cell;
  int input_size;  // I
  int hidden;      // H
  // The packed batch (src/tidegate/batch.py).
  int batch, steps, padding_steps;
  long words;  // W
  const int32_t* step_offsets;
  const int32_t* lengths;
  const int32_t* index;               // null when `inputs` has one row a position
  const int32_t* occurrences;         // likewise
  const int32_t* occurrence_offsets;  // likewise
  const float* inputs;                // [W or N + P, I]
  const float* kernel;                // [I, G * H]
  const float* recurrent_kernel;      // [H, G * H]
  const float* bias;                  // [G * H]
  const float* recurrent_bias;        // GRU after: [3 * H], else null
  const float* initial;               // [B, H] or null
  const float* initial_cell;          // LSTM: [B, H] or null
};

struct RecurrentOutputs {
  float* last;     // [B, H]
  float* outputs;  // [N + P, H] the state after each position's step, or null
};

struct RecurrentGradients {
  const float* d_last;     // [B, H] in, or null
  const float* d_outputs;  // [N + P, H] in, or null
  float* d_inputs;         // all below: out, shaped as their counterparts; null where that is
  float* d_kernel;         // null: no gradient of a weight or bias is wanted
  float* d_recurrent_kernel;
  float* d_bias;
  float* d_recurrent_bias;
  float* d_initial;       // [B, H] or null
  float* d_initial_cell;  // [B, H] or null
};

// Holds what the backward pass needs between forward and backward.
class RecurrentTape {
 public:
  void forward(const Kernels& kernels, ThreadPool& pool, const RecurrentCall& call,
               const RecurrentOutputs& out);
  // Once after each forward, with the same call: the tape's gates become their gradients.
  void backward(const Kernels& kernels, ThreadPool& pool, const RecurrentCall& call,
                const RecurrentGradients& gradients);
  // Values of gate channel `channel` after forward: [N + P, H].
  void read_channel(const RecurrentCall& call, int channel, float* out) const;

 private:
  RecurrentArgs arguments(const RecurrentCall& call) const;

  PackedWeights weights_;  // the backward pass packs its own layout into the same memory
  Buffer states_, cells_, gates_, projected_;
  Buffer d_states_, d_cells_, sums_;
};

// outputs [rows, units] = inputs [rows, depth] * kernel [depth, units] + bias, and its backward.
class LinearScratch {
 public:
  void forward(const Kernels& kernels, ThreadPool& pool, const float* inputs, const float* kernel,
               const float* bias, float* outputs, long rows, int depth, int units);
  void backward(const Kernels& kernels, ThreadPool& pool, const float* inputs, const float* kernel,
                const float* d_outputs, float* d_inputs, float* d_kernel, float* d_bias, long rows,
                int depth, int units);

 private:
  Buffer packed_, bias_, padded_;
};

}  // namespace tidegate
