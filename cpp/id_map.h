// A map from token ids to small numbers, for one batch after another.
#pragma once

#include <cstdint>
#include <vector>

namespace tidegate {

// Each batch has its stamp, and an entry with another one is none: to clear the table would cost
// more than the batch where the vocabulary is large.
class IdMap {
 public:
  // Forgets everything; ids to come are in [0, vocabulary).
  void restart(int vocabulary) {
    if (++stamp_ == 0) {  // come round: old stamps mean nothing any more
      entries_.clear();
      stamp_ = 1;
    }
    if (entries_.size() < static_cast<size_t>(vocabulary)) entries_.resize(vocabulary, Entry{0, 0});
  }
  // The id's number, which becomes `fresh` where it had none.
  int32_t number(int32_t id, int32_t fresh) {
    Entry& entry = entries_[id];
    if (entry.stamp != stamp_) entry = {stamp_, fresh};
    return entry.number;
  }
  // Of an id that has one.
  int32_t number(int32_t id) const { return entries_[id].number; }

 private:
  struct Entry {
    uint32_t stamp;
    int32_t number;
  };
  std::vector<Entry> entries_;
  uint32_t stamp_ = 0;
};

}  // namespace tidegate
