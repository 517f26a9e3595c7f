// Prediction: a snapshot of a model that only scores, for any number of texts and callers.
//
// Against the training's forward pass it keeps nothing for a backward one, reads the input
// product of a word from a table, starts texts from the padding's states computed once, and lets
// each thread take groups of texts of like length. A text's logits are the same bits in both.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>

#include "id_map.h"
#include "tape.h"

namespace tidegate {

// Row-major and dense. All but the embedding are copied.
struct ScorerWeights {
  Cell cell;
  int vocabulary;  // V
  int input_size;  // I
  int hidden;      // H
  int logits;      // L
  int max_length;
  bool masked;
  const float* embedding;         // [V, I], borrowed for the scorer's life
  const float* kernel;            // [I, G * H]
  const float* recurrent_kernel;  // [H, G * H]
  const float* bias;              // [G * H]
  const float* recurrent_bias;    // GRU after: [3 * H], else null
  const float* output_kernel;     // [H, L]
  const float* output_bias;       // [L]
};

struct IdOutOfRange {
  int32_t id;
};

class Scorer {
 public:
  // kernels: of the recurrent layer; the output layer's products are float32's. memory: bytes that
  // the input products may take, about: all of them in the table, or an eighth in each caller.
  Scorer(const Kernels& kernels, const Kernels& output_kernels, ThreadPool& pool,
         const ScorerWeights& weights, size_t memory);

  // logits [texts, L]. Text i is ids[offsets[i]..offsets[i + 1]), of which the last max_length
  // count. Safe from several threads. Throws IdOutOfRange, and std::bad_alloc.
  void score(ThreadPool& pool, const int32_t* ids, const int64_t* offsets, long texts,
             float* logits);

 private:
  struct Texts;
  void run_padding();
  void project_words(const int32_t* words, long count, float* out) const;
  const float* table(ThreadPool& pool, long tokens);
  // Texts [begin, end) of the order. The input product of word w is in row numbers->number(w) of
  // `projected`, in row w where numbers is null.
  void score_texts(ThreadPool& pool, const Texts& texts, long begin, long end,
                   const float* projected, const IdMap* numbers) const;
  // One group of texts, on the calling thread or, where `pool` is given, with its help.
  void score_group(const Texts& texts, long begin, long end, const float* projected,
                   const IdMap* numbers, ThreadPool* pool) const;
  void score_together(ThreadPool& pool, const RecurrentArgs& args) const;

  const Kernels& kernels_;
  const Kernels& output_kernels_;
  Cell cell_;
  int vocabulary_, input_size_, hidden_, logits_, max_length_;
  bool masked_;
  size_t memory_;
  const float* embedding_;
  PackedWeights weights_;
  Buffer output_, output_bias_;
  Buffer padding_, padding_cells_;  // [max_length + 1] states after that many padding steps

  Buffer table_;  // [V] rows of input products, made once they pay
  std::atomic<bool> table_ready_{false};
  std::atomic<long> tokens_{0};  // scored so far
  std::mutex building_;
};

}  // namespace tidegate
