#include "positions.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

namespace tidegate {

namespace {

constexpr long kRowsPerTask = 64;
// Threads share the columns and not the texts where texts have positions in common. A cache line.
constexpr int kColumnsPerTask = 16;

long tasks_of(long count, long size) { return (count + size - 1) / size; }

template <class F>
void for_rows(ThreadPool& pool, long count, F&& body) {
  pool.run(tasks_of(count, kRowsPerTask), [&](long task) {
    const long end = std::min((task + 1) * kRowsPerTask, count);
    for (long row = task * kRowsPerTask; row < end; ++row) body(row);
  });
}

template <class F>
void for_columns(ThreadPool& pool, int width, F&& body) {
  pool.run(tasks_of(width, kColumnsPerTask), [&](long task) {
    const int begin = static_cast<int>(task) * kColumnsPerTask;
    body(begin, std::min(begin + kColumnsPerTask, width));
  });
}

}  // namespace

void find_reversal(const Positions& positions, int32_t* reversal) {
  for (int row = 0; row < positions.batch; ++row) {
    int last = positions.steps - 1;
    for (int step = positions.joins(row); step < positions.steps; ++step, --last)
      reversal[positions.step_offsets[step] + row] = positions.step_offsets[last] + row;
  }
}

void reverse_words(const int32_t* index, const int32_t* occurrence_offsets, long words,
                   const int32_t* reversal, long count, int32_t* reversed_index,
                   int32_t* reversed_occurrences) {
  std::vector<int32_t> next(occurrence_offsets, occurrence_offsets + words);
  for (long n = 0; n < count; ++n) {
    const int32_t word = index[reversal[n]];
    reversed_index[n] = word;
    reversed_occurrences[next[word]++] = static_cast<int32_t>(n);
  }
}

void copy_columns(ThreadPool& pool, const ColumnBlock& block) {
  for_rows(pool, block.count, [&](long n) {
    const long row = block.rows != nullptr ? block.rows[n] : n;
    std::memcpy(block.out + n * block.out_stride + block.out_column,
                block.source + row * block.source_stride + block.source_column,
                sizeof(float) * block.width);
  });
}

void scale_rows(ThreadPool& pool, float* values, const int32_t* rows, const float* masks,
                long count, long width) {
  for_rows(pool, count, [&](long n) {
    float* row = values + n * width;
    const float* mask = masks + rows[n] * width;
    for (long i = 0; i < width; ++i) row[i] *= mask[i];
  });
}

void sum_rows(ThreadPool& pool, const float* values, const int32_t* occurrences,
              const int32_t* occurrence_offsets, long words, long width, float* sums) {
  for_rows(pool, words, [&](long word) {
    float* sum = sums + word * width;
    std::fill(sum, sum + width, 0.0f);
    for (long i = occurrence_offsets[word]; i < occurrence_offsets[word + 1]; ++i) {
      const float* row = values + occurrences[i] * width;
      for (long column = 0; column < width; ++column) sum[column] += row[column];
    }
  });
}

void pool_states(ThreadPool& pool, Pooling pooling, const PoolArgs& args) {
  const Positions& positions = args.positions;
  for_columns(pool, args.width, [&](int begin, int end) {
    for (int row = 0; row < positions.batch; ++row) {
      float* pooled = args.pooled + long(row) * args.width;
      std::fill(pooled + begin, pooled + end, 0.0f);
      if (pooling == kMax) {
        int32_t* chosen = args.chosen + long(row) * args.width;
        std::fill(chosen + begin, chosen + end, -1);
        positions.each(row, [&](long n) {
          const float* state = args.states + n * args.width;
          for (int i = begin; i < end; ++i) {
            // NaN, once met, stays.
            if (chosen[i] < 0 || state[i] > pooled[i] || (state[i] != state[i] && pooled[i] == pooled[i])) {
              pooled[i] = state[i];
              chosen[i] = static_cast<int32_t>(n);
            }
          }
        });
      } else {
        int count = 0;
        positions.each(row, [&](long n) {
          const float* state = args.states + n * args.width;
          const float weight = pooling == kWeighted ? args.weights[n] : 1.0f;
          for (int i = begin; i < end; ++i) pooled[i] += weight * state[i];
          ++count;
        });
        if (pooling == kMean && count > 0)
          for (int i = begin; i < end; ++i) pooled[i] /= static_cast<float>(count);
      }
    }
  });
}

void pool_states_backward(ThreadPool& pool, Pooling pooling, const PoolBackwardArgs& args) {
  const Positions& positions = args.positions;
  for_columns(pool, args.width, [&](int begin, int end) {
    for (int row = 0; row < positions.batch; ++row) {
      const float* d_pooled = args.d_pooled + long(row) * args.width;
      if (pooling == kMax) {
        const int32_t* chosen = args.chosen + long(row) * args.width;
        for (int i = begin; i < end; ++i)
          if (chosen[i] >= 0) args.d_states[long(chosen[i]) * args.width + i] += d_pooled[i];
        continue;
      }
      const int count = positions.padding_steps > 0 ? positions.steps : positions.lengths[row];
      const float share = 1.0f / static_cast<float>(std::max(count, 1));
      positions.each(row, [&](long n) {
        float* d_state = args.d_states + n * args.width;
        const float weight = pooling == kWeighted ? args.weights[n] : share;
        for (int i = begin; i < end; ++i) d_state[i] += weight * d_pooled[i];
      });
    }
  });
  if (pooling != kWeighted) return;
  for_rows(pool, positions.batch, [&](long row) {
    const float* d_pooled = args.d_pooled + row * args.width;
    positions.each(static_cast<int>(row), [&](long n) {
      const float* state = args.states + n * args.width;
      double sum = 0.0;
      for (int i = 0; i < args.width; ++i) sum += double(state[i]) * d_pooled[i];
      args.d_weights[n] = static_cast<float>(sum);
    });
  });
}

void softmax_texts(const Positions& positions, const float* scores, float* shares) {
  for (int row = 0; row < positions.batch; ++row) {
    float largest = -INFINITY;
    positions.each(row, [&](long n) { largest = std::max(largest, scores[n]); });
    double sum = 0.0;
    positions.each(row, [&](long n) { sum += std::exp(double(scores[n]) - largest); });
    positions.each(row, [&](long n) {
      shares[n] = static_cast<float>(std::exp(double(scores[n]) - largest) / sum);
    });
  }
}

void softmax_texts_backward(const Positions& positions, const float* shares,
                            const float* d_shares, float* d_scores) {
  for (int row = 0; row < positions.batch; ++row) {
    double mean = 0.0;
    positions.each(row, [&](long n) { mean += double(shares[n]) * d_shares[n]; });
    positions.each(row, [&](long n) {
      d_scores[n] = static_cast<float>(shares[n] * (d_shares[n] - mean));
    });
  }
}

void layer_norm(ThreadPool& pool, const NormArgs& args) {
  for_rows(pool, args.count, [&](long n) {
    const float* x = args.x + n * args.width;
    double sum = 0.0, squares = 0.0;
    for (int i = 0; i < args.width; ++i) sum += x[i];
    const double mean = sum / args.width;
    for (int i = 0; i < args.width; ++i) squares += (x[i] - mean) * (x[i] - mean);
    args.mean[n] = static_cast<float>(mean);
    args.inverse[n] = static_cast<float>(1.0 / std::sqrt(squares / args.width + args.epsilon));
    float* out = args.out + n * args.width;
    for (int i = 0; i < args.width; ++i)
      out[i] = (x[i] - args.mean[n]) * args.inverse[n] * args.gain[i] + args.bias[i];
  });
}

void layer_norm_backward(ThreadPool& pool, const NormBackwardArgs& args) {
  for_rows(pool, args.count, [&](long n) {
    const float* x = args.x + n * args.width;
    const float* d_out = args.d_out + n * args.width;
    const float mean = args.mean[n], inverse = args.inverse[n];
    double sum = 0.0, product = 0.0;
    for (int i = 0; i < args.width; ++i) {
      const double d = double(d_out[i]) * args.gain[i];
      sum += d;
      product += d * ((x[i] - mean) * inverse);
    }
    const double mean_d = sum / args.width, mean_product = product / args.width;
    float* d_x = args.d_x + n * args.width;
    for (int i = 0; i < args.width; ++i) {
      const double normal = (x[i] - mean) * inverse;
      d_x[i] = static_cast<float>(
          inverse * (double(d_out[i]) * args.gain[i] - mean_d - normal * mean_product));
    }
  });
  for_columns(pool, args.width, [&](int begin, int end) {
    std::vector<double> gain(end - begin), bias(end - begin);
    for (long n = 0; n < args.count; ++n) {
      const float* x = args.x + n * args.width;
      const float* d_out = args.d_out + n * args.width;
      for (int i = begin; i < end; ++i) {
        gain[i - begin] += double(d_out[i]) * ((x[i] - args.mean[n]) * args.inverse[n]);
        bias[i - begin] += d_out[i];
      }
    }
    for (int i = begin; i < end; ++i) {
      args.d_gain[i] = static_cast<float>(gain[i - begin]);
      args.d_bias[i] = static_cast<float>(bias[i - begin]);
    }
  });
}

}  // namespace tidegate
