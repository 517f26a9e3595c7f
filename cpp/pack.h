// Sorting, aligning and counting of a batch: see src/tidegate/batch.py for what comes out.
#pragma once

#include <cstdint>
#include <vector>

namespace tidegate {

struct PackedArrays {
  std::vector<int32_t> rows, lengths, step_offsets, words, index, occurrences, occurrence_offsets;
  int steps = 0;
  int padding_steps = 0;
  bool id_in_range = true;  // when false, bad_id is the id that is not, and the arrays are unusable
  int32_t bad_id = 0;
};

// token_ids, offsets: ragged texts; rows [batch]: which of them. Texts longer than max_length keep
// their last tokens. Ids must lie in [0, vocabulary_size).
PackedArrays pack_batch(const int32_t* token_ids, const int64_t* offsets, const int64_t* rows,
                        int batch, int max_length, bool masked, int vocabulary_size);

}  // namespace tidegate
