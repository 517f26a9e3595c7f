// A map from token ids to small numbers, for one batch after another.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <vector>

namespace tidegate {

// Open addressing by the id itself: where the table is as large as the vocabulary there are no
// collisions. It is never larger than the batch needs, and never cleared: each batch has its stamp,
// and an entry with another one is none.
class IdMap {
 public:
  // Forgets everything. At most `ids` of them will come, all in [0, vocabulary).
  void restart(int64_t ids, int vocabulary) {
    const uint64_t wanted = std::min<uint64_t>(2 * static_cast<uint64_t>(ids), vocabulary);
    const uint64_t size = std::bit_ceil(std::max<uint64_t>(wanted, 16));
    if (++stamp_ == 0) {  // come round: old stamps mean nothing any more
      entries_.clear();
      stamp_ = 1;
    }
    if (entries_.size() < size) entries_.resize(size, Entry{0, 0, 0});
    mask_ = size - 1;
  }
  // The id's number, which becomes `fresh` where it had none.
  int32_t number(int32_t id, int32_t fresh) {
    Entry& entry = entries_[slot(id)];
    if (entry.stamp != stamp_) entry = {stamp_, id, fresh};
    return entry.number;
  }
  // Of an id that has one.
  int32_t number(int32_t id) const { return entries_[slot(id)].number; }

 private:
  struct Entry {
    uint32_t stamp;
    int32_t id;
    int32_t number;
  };
  // Where the id stands, or the free place that it will take.
  uint64_t slot(int32_t id) const {
    uint64_t at = static_cast<uint32_t>(id) & mask_;
    while (entries_[at].stamp == stamp_ && entries_[at].id != id) at = (at + 1) & mask_;
    return at;
  }

  std::vector<Entry> entries_;
  uint64_t mask_ = 0;
  uint32_t stamp_ = 0;
};

}  // namespace tidegate
