#include "contexts.h"

#include <algorithm>
#include <numeric>

namespace tidegate {
namespace {

constexpr int32_t kWordsPerTask = 256;
constexpr long kRowsPerTask = 64;

// Where each word stands: its places are at[starts[w]] to at[starts[w + 1] - 1], ascending.
struct Places {
  std::vector<int64_t> starts;
  std::vector<int64_t> at;
};

Places places_of(const TokenRows& rows, int32_t words) {
  const int64_t total = rows.offsets[rows.count];
  Places places{std::vector<int64_t>(words + 1), std::vector<int64_t>(total)};
  for (int64_t i = 0; i < total; ++i) ++places.starts[rows.ids[i] + 1];
  std::partial_sum(places.starts.begin(), places.starts.end(), places.starts.begin());
  std::vector<int64_t> next(places.starts.begin(), places.starts.end() - 1);
  for (int64_t i = 0; i < total; ++i) places.at[next[rows.ids[i]]++] = i;
  return places;
}

}  // namespace

SparseRows count_contexts(ThreadPool& pool, const TokenRows& rows, int32_t words, int32_t first,
                          int window, int64_t least) {
  const Places places = places_of(rows, words);
  const long tasks = (words + kWordsPerTask - 1) / kWordsPerTask;
  std::vector<SparseRows> parts(tasks);
  pool.run(tasks, [&](long task) {
    SparseRows& part = parts[task];
    std::vector<int64_t> counts(words);
    std::vector<int32_t> met;
    const int32_t begin = static_cast<int32_t>(task) * kWordsPerTask;
    const int32_t end = std::min(begin + kWordsPerTask, words);
    for (int32_t word = begin; word < end; ++word) {
      met.clear();
      // Places ascend, and so do the rows that they lie in.
      const int64_t* row = rows.offsets;
      for (int64_t p = places.starts[word]; word >= first && p < places.starts[word + 1]; ++p) {
        const int64_t at = places.at[p];
        row = std::upper_bound(row, rows.offsets + rows.count + 1, at) - 1;
        const int64_t from = std::max(row[0], at - window);
        const int64_t to = std::min(row[1] - 1, at + window);
        for (int64_t other = from; other <= to; ++other) {
          const int32_t id = rows.ids[other];
          if (other == at || id < first) continue;
          if (counts[id] == 0) met.push_back(id);
          counts[id] += window + 1 - (other < at ? at - other : other - at);
        }
      }
      std::sort(met.begin(), met.end());
      for (const int32_t id : met) {
        if (counts[id] >= least) {
          part.columns.push_back(id);
          part.values.push_back(static_cast<float>(counts[id]));
        }
        counts[id] = 0;
      }
      part.offsets.push_back(static_cast<int64_t>(part.columns.size()));
    }
  });
  SparseRows all;
  all.offsets.reserve(words + 1);
  all.offsets.push_back(0);
  for (SparseRows& part : parts) {
    const int64_t before = static_cast<int64_t>(all.columns.size());
    for (const int64_t end : part.offsets) all.offsets.push_back(before + end);
    all.columns.insert(all.columns.end(), part.columns.begin(), part.columns.end());
    all.values.insert(all.values.end(), part.values.begin(), part.values.end());
    part = {};
  }
  return all;
}

void multiply_sparse(ThreadPool& pool, long rows, const int64_t* offsets, const int32_t* columns,
                     const float* values, const float* dense, long width, float* out) {
  pool.run((rows + kRowsPerTask - 1) / kRowsPerTask, [&](long task) {
    const long end = std::min((task + 1) * kRowsPerTask, rows);
    for (long row = task * kRowsPerTask; row < end; ++row) {
      float* sums = out + row * width;
      std::fill(sums, sums + width, 0.0f);
      for (int64_t i = offsets[row]; i < offsets[row + 1]; ++i) {
        const float value = values[i];
        const float* other = dense + static_cast<long>(columns[i]) * width;
        for (long j = 0; j < width; ++j) sums[j] += value * other[j];
      }
    }
  });
}

}  // namespace tidegate
