// What a model does with all states of a packed batch: turn it round, join directions, pool over
// each text, normalise, mask. Rows of an array are positions (src/tidegate/batch.py).
//
// Loops here move far more memory than they compute with, so they are compiled once and not for
// every instruction set. No result depends on the number of threads.
#pragma once

#include <cstddef>
#include <cstdint>

#include "parallel.h"

namespace tidegate {

// Where the texts of a packed batch stand.
struct Positions {
  int batch, steps, padding_steps;
  const int32_t* lengths;       // [batch]
  const int32_t* step_offsets;  // [steps + 1]

  long text() const { return step_offsets[steps]; }
  int joins(int row) const { return steps - lengths[row]; }
  // Calls body(position) for each step that the row is run or stands in for, in order: before it
  // joins it is the padding row, where there is one.
  template <class F>
  void each(int row, F&& body) const {
    const int begin = joins(row);
    if (padding_steps > 0)
      for (int step = 0; step < begin; ++step) body(text() + step);
    for (int step = begin; step < steps; ++step) body(long(step_offsets[step]) + row);
  }
};

// reversal [N] out: where each position's word stands when every text is read backwards. It is its
// own inverse. Without padding.
void find_reversal(const Positions& positions, int32_t* reversal);

// The words of a batch that is read backwards. index [N]; occurrences [N], ascending in each word.
void reverse_words(const int32_t* index, const int32_t* occurrence_offsets, long words,
                   const int32_t* reversal, long count, int32_t* reversed_index,
                   int32_t* reversed_occurrences);

// out[n, out_column + i] = source[rows[n] or n, source_column + i] for i in [0, width).
struct ColumnBlock {
  const float* source;
  long source_stride, source_column;
  const int32_t* rows;  // [count] or null
  float* out;
  long out_stride, out_column;
  long count, width;
};
void copy_columns(ThreadPool& pool, const ColumnBlock& block);

// values[n] *= masks[rows[n]], both of `width` numbers.
void scale_rows(ThreadPool& pool, float* values, const int32_t* rows, const float* masks,
                long count, long width);

// sums[word] = sum of values at the word's occurrences, in their order.
void sum_rows(ThreadPool& pool, const float* values, const int32_t* occurrences,
              const int32_t* occurrence_offsets, long words, long width, float* sums);

enum Pooling : int { kMax = 0, kMean = 1, kWeighted = 2 };

struct PoolArgs {
  Positions positions;
  int width;
  const float* states;   // [N + P, width]
  const float* weights;  // kWeighted: [N + P], else null
  float* pooled;         // [batch, width] out; a text without a position gets zeros
  int32_t* chosen;       // kMax: [batch, width] out, position of the largest (the first of equals)
};
void pool_states(ThreadPool& pool, Pooling pooling, const PoolArgs& args);

struct PoolBackwardArgs {
  Positions positions;
  int width;
  const float* d_pooled;  // [batch, width]
  const float* states;    // kWeighted: as forward
  const float* weights;   // kWeighted: as forward
  const int32_t* chosen;  // kMax: as forward
  float* d_states;        // [N + P, width] in and out: added to
  float* d_weights;       // kWeighted: [N + P] out
};
void pool_states_backward(ThreadPool& pool, Pooling pooling, const PoolBackwardArgs& args);

// Softmax of each text's scores [N], and its backward. Without padding.
void softmax_texts(const Positions& positions, const float* scores, float* shares);
void softmax_texts_backward(const Positions& positions, const float* shares,
                            const float* d_shares, float* d_scores);

// out = (x - mean) / sqrt(variance + epsilon) * gain + bias over each row of `width` numbers.
struct NormArgs {
  long count;
  int width;
  const float* x;
  const float* gain;
  const float* bias;
  float epsilon;
  float* out;
  float* mean;     // [count] out
  float* inverse;  // [count] out: 1 / sqrt(variance + epsilon)
};
void layer_norm(ThreadPool& pool, const NormArgs& args);

struct NormBackwardArgs {
  long count;
  int width;
  const float* x;
  const float* gain;
  const float* mean;
  const float* inverse;
  const float* d_out;
  float* d_x;
  float* d_gain;
  float* d_bias;
};
void layer_norm_backward(ThreadPool& pool, const NormBackwardArgs& args);

}  // namespace tidegate
