#include "pack.h"

#include <algorithm>
#include <numeric>

#include "id_map.h"

namespace tidegate {

namespace {
constexpr int32_t kPaddingId = 0;
}

PackedArrays pack_batch(const int32_t* token_ids, const int64_t* offsets, const int64_t* rows,
                        int batch, int max_length, bool masked, int vocabulary_size) {
  PackedArrays out;
  std::vector<int32_t> kept(batch), order(batch);
  for (int i = 0; i < batch; ++i) {
    const int64_t length = offsets[rows[i] + 1] - offsets[rows[i]];
    kept[i] = static_cast<int32_t>(std::min<int64_t>(length, max_length));
  }
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return kept[a] > kept[b]; });

  // ends[k] is where packed row k's tokens end, so its token at `step` is ends[k][step - steps].
  std::vector<const int32_t*> ends(batch);
  out.rows.resize(batch);
  out.lengths.resize(batch);
  for (int k = 0; k < batch; ++k) {
    out.rows[k] = order[k];
    out.lengths[k] = kept[order[k]];
    ends[k] = token_ids + offsets[rows[order[k]] + 1];
  }
  out.steps = masked ? (batch > 0 ? out.lengths.front() : 0) : max_length;
  out.padding_steps = masked || batch == 0 ? 0 : out.steps - out.lengths.back();

  const int64_t positions = std::accumulate(out.lengths.begin(), out.lengths.end(), int64_t{0});
  const int64_t total = positions + out.padding_steps;
  out.index.resize(total);
  thread_local IdMap places;  // of ids among the batch's words
  places.restart(total, vocabulary_size);
  out.step_offsets.resize(out.steps + 1);
  std::vector<int32_t> counts;
  auto place = [&](int32_t id, int64_t position) {
    if (id < 0 || id >= vocabulary_size) {
      out.id_in_range = false;
      out.bad_id = id;
      return;
    }
    const int32_t fresh = static_cast<int32_t>(out.words.size());
    const int32_t word = places.number(id, fresh);
    if (word == fresh) {
      out.words.push_back(id);
      counts.push_back(0);
    }
    ++counts[word];
    out.index[position] = word;
  };
  int64_t position = 0;
  int active = 0;
  for (int step = 0; step < out.steps; ++step) {
    out.step_offsets[step] = static_cast<int32_t>(position);
    while (active < batch && out.lengths[active] >= out.steps - step) ++active;
    for (int k = 0; k < active; ++k) place(ends[k][step - out.steps], position++);
  }
  out.step_offsets[out.steps] = static_cast<int32_t>(position);
  for (int step = 0; step < out.padding_steps; ++step) place(kPaddingId, position++);
  if (!out.id_in_range) return out;

  out.occurrence_offsets.resize(out.words.size() + 1);
  std::vector<int32_t> next(out.words.size());
  int32_t sum = 0;
  for (size_t word = 0; word < out.words.size(); ++word) {
    out.occurrence_offsets[word] = next[word] = sum;
    sum += counts[word];
  }
  out.occurrence_offsets.back() = sum;
  out.occurrences.resize(total);
  for (int64_t n = 0; n < total; ++n)
    out.occurrences[next[out.index[n]]++] = static_cast<int32_t>(n);
  return out;
}

}  // namespace tidegate
