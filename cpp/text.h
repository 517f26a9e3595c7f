// Words: found by a tokeniser's rules, looked up and counted, in many texts at once.
//
// The rules stand in src/tidegate/text.py, in plain Python, and what is done here equals them word
// for word. A text is UTF-8, a lone surrogate being encoded by itself. Where it is not ASCII it is
// prepared already (lower-case, and for kWords with spaces around what is a word by itself),
// because Python decides what its characters are; ASCII is treated here, where all that ends a
// word is ASCII, whose bytes stand for nothing else in UTF-8. So texts are split byte by byte.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace tidegate {

// Distinct words, numbered in the order of insertion. Every word that is handed in must have one
// byte or more, and kReadable bytes behind it that may be read; it doesn't matter what they are.
class WordTable {
 public:
  static constexpr size_t kReadable = 8;
  static constexpr uint32_t kNone = UINT32_MAX;

  uint32_t size() const { return static_cast<uint32_t>(ends_.size() - 1); }
  std::string_view word(uint32_t number) const {  // valid until the next insertion
    return std::string_view(text_).substr(ends_[number], ends_[number + 1] - ends_[number]);
  }
  uint32_t find(std::string_view word) const;  // its number, or kNone
  uint32_t insert(std::string_view word);      // its number, old or new

 private:
  // Nearly all words are up to 8 bytes long, so that the slot says all of them. The key of a longer
  // one is a hash.
  struct Slot {
    uint64_t key = 0;
    uint32_t length = 0;  // 1 to 8, 9 for all that are longer, 0 for an empty slot
    uint32_t number = kNone;
  };
  static Slot slot_for(std::string_view word);
  size_t home(const Slot& slot) const;
  size_t locate(const Slot& wanted, std::string_view word) const;
  void grow();

  // Open addressing, at most half full; each word lies at or behind the place its hash asks for.
  std::vector<Slot> slots_ = std::vector<Slot>(16);
  int shift_ = 60;  // 64 - log2(slots)
  std::string text_ = std::string(kReadable, ' ');  // all words, and what may be read behind them
  std::vector<size_t> ends_ = {0};
};

enum Rules : int { kLecture = 0, kWords = 1 };

// A vocabulary's ids: `first` and upwards for its words, `unknown` for all others.
class WordIds {
 public:
  // lines: distinct words, newlines between them; empty for no word.
  WordIds(Rules rules, std::string_view lines, int32_t start, int32_t unknown, int32_t first);

  int32_t id_of(std::string_view word) const;

  struct Rows {
    std::vector<int32_t> ids;      // one row after another
    std::vector<int64_t> lengths;  // [texts]
  };
  // The last max_length (1 or more) of each text's ids, `start` standing in front of them all.
  Rows encode(const std::vector<std::string_view>& texts, int64_t max_length) const;

 private:
  int32_t id_of_padded(std::string_view word) const {
    const uint32_t number = words_.find(word);
    return number == WordTable::kNone ? unknown_ : first_ + static_cast<int32_t>(number);
  }

  Rules rules_;
  WordTable words_;
  int32_t start_, unknown_, first_;
};

// How often each word occurs. The result depends on the texts alone, not on the number of threads.
class WordCounts {
 public:
  explicit WordCounts(Rules rules) : rules_(rules) {}

  // Not from two threads at once.
  void add(const std::vector<std::string_view>& texts);

  // The most frequent words, up to `limit`; of equally frequent ones, that which was seen first.
  // They are valid until the next call.
  std::vector<std::string_view> most_frequent(size_t limit);

 private:
  struct Count {
    uint64_t occurrences;
    uint64_t first;  // the place of the first one: it grows from text to text, and in a text
  };
  // One thread's counts.
  struct Part {
    WordTable words;
    std::vector<Count> counts;  // [words]

    void add(std::string_view word, Count count);
  };
  std::unique_ptr<Part> borrow();
  void give_back(std::unique_ptr<Part> part);

  const Rules rules_;
  std::mutex lock_;  // of parts_
  std::vector<std::unique_ptr<Part>> parts_;
  uint64_t place_ = 0;  // where the next text begins
};

// The distinct n-grams of each text's words, n from 1 to `longest`, each hashed to a number below
// 2^bits: buckets [offsets.back()] ascending in each row, offsets [texts + 1].
struct NgramRows {
  std::vector<int32_t> buckets;
  std::vector<int64_t> offsets;
};
NgramRows hash_ngrams(Rules rules, const std::vector<std::string_view>& texts, int longest,
                      int bits);

}  // namespace tidegate
