#include "text.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <exception>
#include <limits>
#include <numeric>
#include <stdexcept>

#include "parallel.h"

namespace tidegate {
namespace {

// --- words of a text

constexpr std::string_view kSeparators = "!\"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n ";

using Bytes = std::array<char, 256>;  // what becomes of each byte

constexpr Bytes kLowered = [] {
  Bytes table{};
  for (int byte = 0; byte < 256; ++byte)
    table[byte] = static_cast<char>('A' <= byte && byte <= 'Z' ? byte - 'A' + 'a' : byte);
  return table;
}();

constexpr Bytes kLectureBytes = [] {
  Bytes table = kLowered;
  for (const char separator : kSeparators) table[static_cast<unsigned char>(separator)] = ' ';
  return table;
}();

// What is part of a word by kWords: the rest of ASCII ends one.
constexpr std::array<bool, 256> kInWords = [] {
  std::array<bool, 256> table{};
  for (int byte = 0; byte < 256; ++byte)
    table[byte] = byte >= 0x80 || ('0' <= byte && byte <= '9') || ('A' <= byte && byte <= 'Z') ||
                  ('a' <= byte && byte <= 'z');
  return table;
}();

bool in_word(char c) { return kInWords[static_cast<unsigned char>(c)]; }

// The bytes from `at` on that break a line, or 0: a line's end, or <br>, which <br /> is too.
size_t break_size(std::string_view text, size_t at) {
  if (text[at] == '\n' || text[at] == '\r') return 1;
  if (text.size() - at < 4 || text[at] != '<' || kLowered[static_cast<unsigned char>(text[at + 1])] != 'b' ||
      kLowered[static_cast<unsigned char>(text[at + 2])] != 'r')
    return 0;
  size_t end = at + 3;
  while (end < text.size() && (text[end] == ' ' || text[end] == '\t')) ++end;
  if (end < text.size() && text[end] == '/') ++end;
  return end < text.size() && text[end] == '>' ? end + 1 - at : 0;
}

constexpr std::string_view kBreak = " <br> ";

// The text with a space between any two of kWords' words; lower case where it is ASCII. A break
// counts only between two words.
void space_words(std::string_view text, std::string& out) {
  out.clear();
  bool broken = false;  // since the last word
  const auto begin_word = [&] {
    if (broken && !out.empty()) out += kBreak;
    broken = false;
  };
  for (size_t i = 0; i < text.size();) {
    const char c = text[i];
    if (in_word(c)) {
      begin_word();
      out += kLowered[static_cast<unsigned char>(c)];
      ++i;
    } else if (c == '\'' && i > 0 && i + 1 < text.size() && in_word(text[i - 1]) &&
               in_word(text[i + 1])) {
      out += c;
      ++i;
    } else if (const size_t size = break_size(text, i)) {
      broken = true;
      i += size;
    } else {
      const bool blank = static_cast<unsigned char>(c) <= ' ' || c == 0x7F;
      if (!blank) {
        begin_word();
        out += ' ';
        out += c;
      }
      if (!out.empty()) out += ' ';
      ++i;
    }
  }
}

// At most so many bytes come of one.
constexpr size_t kSpacedBytes = kBreak.size();

constexpr size_t kBlock = 64;

constexpr Bytes kSame = [] {
  Bytes table{};
  for (int byte = 0; byte < 256; ++byte) table[byte] = static_cast<char>(byte);
  return table;
}();

// Turns kBlock bytes into what `bytes` says. Bit i of the result: byte i is no space then.
uint64_t turn_block(const Bytes& bytes, const char* in, char* out) {
  uint64_t letters = 0;
  for (size_t i = 0; i < kBlock; ++i) {
    out[i] = bytes[static_cast<unsigned char>(in[i])];
    letters |= static_cast<uint64_t>(out[i] != ' ') << i;
  }
  return letters;
}

// Finds the words of one text after another, in memory that they share.
class Scanner {
 public:
  explicit Scanner(Rules rules) : rules_(rules) {}

  // Calls take(word, begin) for each word, the last one first, until it returns false. `begin` is
  // where the word stands in the text, or in what kWords makes of it first; the word is valid until
  // the next text, and a WordTable may read behind it.
  //
  // From behind, because of a long text only the last words are wanted: the rest is not read.
  // Words are found by the edges between them, 64 bytes at a time; one branch for each byte, which
  // no processor foresees, takes 1.7 times as long.
  template <class F>
  void words_from_behind(std::string_view text, F&& take) {
    if (rules_ == kWords) {
      space_words(text, spaced_);
      text = spaced_;
    }
    const Bytes& bytes = rules_ == kWords ? kSame : kLectureBytes;
    const size_t padding = kBlock - text.size() % kBlock;  // 1 or more: a separator in front
    const size_t size = padding + text.size();
    reserve(size + WordTable::kReadable);
    char* const lowered = lowered_.get();
    std::memset(lowered + size, ' ', WordTable::kReadable);
    uint64_t next_letter = 0;  // 1 if the byte behind the block belongs to a word
    size_t end = 0;            // of the word that has been entered, or 0
    for (size_t block = size; block > 0;) {
      block -= kBlock;
      uint64_t letters;
      if (block > 0) {
        letters = turn_block(bytes, text.data() + block - padding, lowered + block);
      } else {
        char first[kBlock];
        std::memset(first, ' ', padding);
        std::memcpy(first + padding, text.data(), kBlock - padding);
        letters = turn_block(bytes, first, lowered);
      }
      // Bit i: of the bytes i and i + 1, one belongs to a word.
      uint64_t edges = letters ^ (letters >> 1 | next_letter << 63);
      next_letter = letters & 1;
      while (edges != 0) {
        const int i = 63 - std::countl_zero(edges);
        edges ^= uint64_t{1} << i;
        const size_t edge = block + i + 1;
        if (end == 0) {
          end = edge;
        } else {
          if (!take(std::string_view(lowered + edge, end - edge), edge - padding)) return;
          end = 0;
        }
      }
    }
  }

 private:
  void reserve(size_t size) {
    if (size <= capacity_) return;
    lowered_.reset(new char[size]);  // not cleared: a long text's beginning may never be touched
    capacity_ = size;
  }

  const Rules rules_;
  std::string spaced_;
  std::unique_ptr<char[]> lowered_;
  size_t capacity_ = 0;
};

// --- many texts

constexpr size_t kBytesPerTask = 1 << 15;

// Calls body(begin, end) for ranges of texts, from several threads.
template <class F>
void over_ranges(const std::vector<std::string_view>& texts, F&& body) {
  std::vector<size_t> begins;
  size_t bytes = kBytesPerTask;
  for (size_t i = 0; i < texts.size(); ++i) {
    if (bytes >= kBytesPerTask) {
      begins.push_back(i);
      bytes = 0;
    }
    bytes += texts[i].size() + 64;  // an empty text is some work, too
  }
  begins.push_back(texts.size());
  ThreadPool::instance().run(static_cast<long>(begins.size()) - 1,
                             [&](long task) { body(begins[task], begins[task + 1]); });
}

// --- hashing

uint64_t read_8(const char* bytes) {
  uint64_t value;
  std::memcpy(&value, bytes, 8);
  return value;
}

// Every bit of x bears on the upper bits of the result.
uint64_t mix(uint64_t x) {
  x *= 0x9E3779B97F4A7C15;
  x ^= x >> 32;
  return x * 0xD6E8FEB86659FD93;
}

uint64_t hash(std::string_view word) {
  uint64_t state = word.size();
  for (size_t i = 0; i + 8 < word.size(); i += 8) state = mix(state ^ read_8(word.data() + i));
  return mix(state ^ read_8(word.data() + word.size() - 8));
}

}  // namespace

WordTable::Slot WordTable::slot_for(std::string_view word) {
  if (word.size() > 8) return {hash(word), 9, kNone};
  const size_t behind = 8 * (8 - word.size());  // bits that do not belong to the word
  const uint64_t bytes = read_8(word.data());
  constexpr bool kLittle = std::endian::native == std::endian::little;
  const uint64_t key = kLittle ? bytes << behind : bytes >> behind;
  return {key, static_cast<uint32_t>(word.size()), kNone};
}

size_t WordTable::home(const Slot& slot) const { return mix(slot.key ^ slot.length) >> shift_; }

// The index of the slot that has the word, or of the empty one where it belongs.
size_t WordTable::locate(const Slot& wanted, std::string_view word) const {
  for (size_t i = home(wanted);; i = (i + 1) & (slots_.size() - 1)) {
    const Slot& slot = slots_[i];
    if (slot.length == 0) return i;
    if (slot.key == wanted.key && slot.length == wanted.length &&
        (slot.length <= 8 || this->word(slot.number) == word))
      return i;
  }
}

uint32_t WordTable::find(std::string_view word) const {
  return slots_[locate(slot_for(word), word)].number;
}

uint32_t WordTable::insert(std::string_view word) {
  Slot slot = slot_for(word);
  size_t i = locate(slot, word);
  if (slots_[i].length != 0) return slots_[i].number;
  if (2 * static_cast<size_t>(size() + 1) > slots_.size()) {
    grow();
    i = locate(slot, word);
  }
  if (size() == kNone - 1) throw std::length_error("more distinct words than can be numbered");
  slot.number = size();
  text_.insert(text_.size() - kReadable, word);
  ends_.push_back(text_.size() - kReadable);
  slots_[i] = slot;
  return slot.number;
}

void WordTable::grow() {
  std::vector<Slot> smaller(2 * slots_.size());
  smaller.swap(slots_);
  --shift_;
  for (const Slot& slot : smaller) {
    if (slot.length == 0) continue;
    size_t i = home(slot);
    while (slots_[i].length != 0) i = (i + 1) & (slots_.size() - 1);
    slots_[i] = slot;
  }
}

WordIds::WordIds(Rules rules, std::string_view lines, int32_t start, int32_t unknown,
                 int32_t first)
    : rules_(rules), start_(start), unknown_(unknown), first_(first) {
  std::string padded(lines);
  if (!padded.empty()) padded += '\n';
  const size_t size = padded.size();
  padded.append(WordTable::kReadable, ' ');
  for (size_t begin = 0; begin < size;) {
    const size_t end = padded.find('\n', begin);
    words_.insert(std::string_view(padded).substr(begin, end - begin));
    begin = end + 1;
  }
}

int32_t WordIds::id_of(std::string_view word) const {
  if (word.empty()) return unknown_;
  std::string padded(word);
  padded.append(WordTable::kReadable, ' ');
  return id_of_padded(std::string_view(padded).substr(0, word.size()));
}

WordIds::Rows WordIds::encode(const std::vector<std::string_view>& texts,
                              int64_t max_length) const {
  // Each row is written backwards from the end of a room that is surely large enough, and the
  // rooms are not cleared.
  std::vector<size_t> ends(texts.size());
  size_t room = 0;
  for (size_t i = 0; i < texts.size(); ++i) {
    // A word takes two bytes with its separator by the lecture's rules, and one by kWords.
    const size_t most = (rules_ == kWords ? texts[i].size() : texts[i].size() / 2) + 2;
    room += std::min(most, static_cast<size_t>(max_length));
    ends[i] = room;
  }
  const std::unique_ptr<int32_t[]> ids(new int32_t[room]);
  Rows rows;
  rows.lengths.resize(texts.size());
  over_ranges(texts, [&](size_t begin, size_t end) {
    Scanner scanner(rules_);
    for (size_t i = begin; i < end; ++i) {
      int32_t* const row_end = ids.get() + ends[i];
      int32_t* row = row_end;
      int64_t left = max_length;
      scanner.words_from_behind(texts[i], [&](std::string_view word, size_t) {
        *--row = id_of_padded(word);
        return --left > 0;
      });
      if (left > 0) *--row = start_;
      rows.lengths[i] = row_end - row;
    }
  });
  rows.ids.reserve(std::accumulate(rows.lengths.begin(), rows.lengths.end(), size_t{0}));
  for (size_t i = 0; i < texts.size(); ++i) {
    const int32_t* const row_end = ids.get() + ends[i];
    rows.ids.insert(rows.ids.end(), row_end - rows.lengths[i], row_end);
  }
  return rows;
}

void WordCounts::Part::add(std::string_view word, Count count) {
  const uint32_t number = words.insert(word);
  if (number == counts.size()) counts.push_back({0, std::numeric_limits<uint64_t>::max()});
  counts[number].occurrences += count.occurrences;
  counts[number].first = std::min(counts[number].first, count.first);
}

std::unique_ptr<WordCounts::Part> WordCounts::borrow() {
  const std::lock_guard<std::mutex> hold(lock_);
  if (parts_.empty()) return std::make_unique<Part>();
  std::unique_ptr<Part> part = std::move(parts_.back());
  parts_.pop_back();
  return part;
}

void WordCounts::give_back(std::unique_ptr<Part> part) {
  const std::lock_guard<std::mutex> hold(lock_);
  parts_.push_back(std::move(part));
}

void WordCounts::add(const std::vector<std::string_view>& texts) {
  std::vector<uint64_t> places;
  places.reserve(texts.size());
  for (const std::string_view text : texts) {
    places.push_back(place_);
    place_ += rules_ == kWords ? kSpacedBytes * text.size() : text.size();
  }
  over_ranges(texts, [&](size_t begin, size_t end) {
    std::unique_ptr<Part> part = borrow();
    Scanner scanner(rules_);
    for (size_t i = begin; i < end; ++i) {
      scanner.words_from_behind(texts[i], [&](std::string_view word, size_t at) {
        part->add(word, {1, places[i] + at});
        return true;
      });
    }
    give_back(std::move(part));
  });
}

std::vector<std::string_view> WordCounts::most_frequent(size_t limit) {
  if (parts_.empty()) parts_.push_back(std::make_unique<Part>());
  Part& all = *parts_.front();
  for (; parts_.size() > 1; parts_.pop_back()) {
    const Part& part = *parts_.back();
    for (uint32_t number = 0; number < part.words.size(); ++number)
      all.add(part.words.word(number), part.counts[number]);
  }
  std::vector<uint32_t> ranked(all.words.size());
  std::iota(ranked.begin(), ranked.end(), uint32_t{0});
  const auto end = ranked.begin() + static_cast<ptrdiff_t>(std::min(limit, ranked.size()));
  std::partial_sort(ranked.begin(), end, ranked.end(), [&](uint32_t a, uint32_t b) {
    const Count &one = all.counts[a], &other = all.counts[b];
    return one.occurrences != other.occurrences ? one.occurrences > other.occurrences
                                                : one.first < other.first;
  });
  std::vector<std::string_view> words;
  words.reserve(end - ranked.begin());
  for (auto it = ranked.begin(); it != end; ++it) words.push_back(all.words.word(*it));
  return words;
}

namespace {

// As a word table sees the word, so that up to 8 bytes are told apart for certain.
uint64_t word_hash(std::string_view word) {
  if (word.size() > 8) return hash(word);
  uint64_t bytes = 0;
  for (const char c : word) bytes = bytes << 8 | static_cast<unsigned char>(c);
  return mix(bytes ^ word.size() << 56 ^ 0x9E3779B97F4A7C15);
}

}  // namespace

NgramRows hash_ngrams(Rules rules, const std::vector<std::string_view>& texts, int longest,
                      int bits) {
  std::vector<std::vector<int32_t>> rows(texts.size());
  over_ranges(texts, [&](size_t begin, size_t end) {
    Scanner scanner(rules);
    std::vector<uint64_t> words;  // hashes, the last word's first
    for (size_t i = begin; i < end; ++i) {
      words.clear();
      scanner.words_from_behind(texts[i], [&](std::string_view word, size_t) {
        words.push_back(word_hash(word));
        return true;
      });
      std::vector<int32_t>& row = rows[i];
      row.reserve(words.size() * static_cast<size_t>(longest));
      for (size_t first = 0; first < words.size(); ++first) {
        uint64_t state = 0;
        for (size_t n = 0; n < static_cast<size_t>(longest) && first + n < words.size(); ++n) {
          state = mix(state ^ words[first + n]) + n + 1;
          row.push_back(static_cast<int32_t>(mix(state) >> (64 - bits)));
        }
      }
      std::sort(row.begin(), row.end());
      row.erase(std::unique(row.begin(), row.end()), row.end());
    }
  });
  NgramRows result;
  result.offsets.push_back(0);
  for (const std::vector<int32_t>& row : rows)
    result.offsets.push_back(result.offsets.back() + static_cast<int64_t>(row.size()));
  result.buckets.reserve(result.offsets.back());
  for (const std::vector<int32_t>& row : rows)
    result.buckets.insert(result.buckets.end(), row.begin(), row.end());
  return result;
}

}  // namespace tidegate
