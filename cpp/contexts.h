// Which words stand near which others, and products with what was counted.
#pragma once

#include <cstdint>
#include <vector>

#include "parallel.h"

namespace tidegate {

// Rows of token ids: row i is ids[offsets[i]] to ids[offsets[i + 1] - 1].
struct TokenRows {
  long count;
  const int32_t* ids;
  const int64_t* offsets;  // [count + 1]
};

// A sparse matrix by rows: row r's values stand at offsets[r] to offsets[r + 1] - 1.
struct SparseRows {
  std::vector<int64_t> offsets;  // [rows + 1]
  std::vector<int32_t> columns;  // ascending in each row
  std::vector<float> values;
};

// [words, words]: for each two words how often they stand at most `window` places apart in a row;
// a pair at distance d counts window + 1 - d times, and pairs that reach less than `least` are left
// out. Ids below `first` are no words. The matrix is symmetric. Threads own words, and counts are
// whole numbers: the same for any number of threads.
SparseRows count_contexts(ThreadPool& pool, const TokenRows& rows, int32_t words, int32_t first,
                          int window, int64_t least);

// out [rows, width] = the matrix times dense [*, width]. Each row is one thread's, and its sum runs
// in the order of its columns.
void multiply_sparse(ThreadPool& pool, long rows, const int64_t* offsets, const int32_t* columns,
                     const float* values, const float* dense, long width, float* out);

}  // namespace tidegate
