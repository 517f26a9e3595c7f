#include "scorer.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <vector>

namespace tidegate {
namespace {

constexpr long kGroupRows = 64;         // texts that a thread runs together
constexpr int kPanelsToShare = 2;       // least part of a step that pays for meeting after it
constexpr long kWordsPerTask = 64;      // of a projection
constexpr long kChunkTokens = 1 << 18;  // that share their words' products where there is no table
constexpr int32_t kPaddingId = 0;

// What a thread needs for a group of texts, kept from group to group.
struct GroupScratch {
  Buffer states, cells, gates, gathered, logits;
  std::vector<int32_t> step_offsets, index;
};

GroupScratch& group_scratch() {
  thread_local GroupScratch scratch;
  return scratch;
}

// What a caller needs where there is no table.
struct ChunkScratch {
  IdMap numbers;
  std::vector<int32_t> words;
  Buffer projected;
};

ChunkScratch& chunk_scratch() {
  thread_local ChunkScratch scratch;
  return scratch;
}

}  // namespace

// The texts in falling order of the tokens that count.
struct Scorer::Texts {
  const int32_t* ids;
  const int64_t* offsets;
  float* logits;
  std::vector<long> order;
  std::vector<int32_t> kept;  // tokens, by place in the order
  long tokens = 0;

  Texts(const int32_t* ids_, const int64_t* offsets_, long count, int max_length, float* logits_)
      : ids(ids_), offsets(offsets_), logits(logits_), order(count), kept(count) {
    const auto length = [&](long text) {
      return std::min<int64_t>(offsets[text + 1] - offsets[text], max_length);
    };
    int64_t longest = 0;
    for (long text = 0; text < count; ++text) longest = std::max(longest, length(text));
    // A counting sort: texts are many, lengths few.
    std::vector<long> place(longest + 2, 0);
    for (long text = 0; text < count; ++text) ++place[longest - length(text) + 1];
    for (int64_t i = 1; i <= longest; ++i) place[i] += place[i - 1];
    for (long text = 0; text < count; ++text) {
      const int64_t count_here = length(text);
      const long at = place[longest - count_here]++;
      order[at] = text;
      kept[at] = static_cast<int32_t>(count_here);
      tokens += count_here;
    }
  }

  long count() const { return static_cast<long>(order.size()); }
  const int32_t* end(long at) const { return ids + offsets[order[at] + 1]; }
  const int32_t* begin(long at) const { return end(at) - kept[at]; }
};

Scorer::Scorer(const Kernels& kernels, const Kernels& output_kernels, ThreadPool& pool,
               const ScorerWeights& w, size_t memory)
    : kernels_(kernels),
      output_kernels_(output_kernels),
      cell_(w.cell),
      vocabulary_(w.vocabulary),
      input_size_(w.input_size),
      hidden_(w.hidden),
      logits_(w.logits),
      max_length_(w.max_length),
      masked_(w.masked),
      memory_(memory),
      embedding_(w.embedding) {
  weights_.pack(kernels, pool, w.cell, w.input_size, w.hidden, w.kernel, w.recurrent_kernel,
                w.bias, w.recurrent_bias);
  const PackArgs output = {w.output_kernel, w.hidden, w.logits, 1, 0, 1,
                           output_.reserve(output_kernels.forward_size(w.hidden, w.logits, 1))};
  float* bias = output_bias_.reserve(padded(w.logits));
  std::memset(bias, 0, sizeof(float) * padded(w.logits));
  std::memcpy(bias, w.output_bias, sizeof(float) * w.logits);
  pool.run(1, [&](long) {
    output_kernels.pack_forward(output, 0, panel_count(w.logits));
    if (!masked_) run_padding();
  });
}

// The states that padding alone leads to, from which unmasked texts begin.
void Scorer::run_padding() {
  const std::vector<int32_t> index(max_length_, 0);
  const int32_t no_text[1] = {0};
  Buffer projected, gates, reset_hidden;
  RecurrentArgs args{};
  weights_.describe(args, cell_, hidden_);
  args.padding_steps = max_length_;
  args.step_offsets = no_text;
  args.index = index.data();
  args.projected = projected.reserve(args.projected_stride);
  project_words(&kPaddingId, 1, projected.data());
  args.states = padding_.reserve(size_t(max_length_ + 1) * args.state_stride);
  if (cell_ == kLstm)
    args.cells = padding_cells_.reserve(size_t(max_length_ + 1) * args.state_stride);
  if (cell_ == kGruBefore) {
    args.cells = reset_hidden.reserve(size_t(max_length_) * args.state_stride);
    args.gates = gates.reserve(size_t(max_length_) * args.gate_stride);
  }
  kernels_.forward_padding[cell_](args);
}

// out: [count] rows of projected_stride.
void Scorer::project_words(const int32_t* words, long count, float* out) const {
  float* inputs = group_scratch().gathered.reserve(size_t(count) * input_size_);
  for (long i = 0; i < count; ++i)
    std::memcpy(inputs + i * input_size_, embedding_ + long(words[i]) * input_size_,
                sizeof(float) * input_size_);
  const ProjectArgs args = {inputs,
                            input_size_,
                            input_size_,
                            hidden_,
                            kLayouts[cell_].gates,
                            weights_.input.data(),
                            weights_.bias.data(),
                            out,
                            projected_stride(cell_, hidden_)};
  kernels_.project(args, 0, count);
}

// Every word's input product, or null as long as it costs more than it has saved, or too much
// memory.
const float* Scorer::table(ThreadPool& pool, long tokens) {
  if (table_ready_.load(std::memory_order_acquire)) return table_.data();
  const long stride = projected_stride(cell_, hidden_);
  if (tokens_.fetch_add(tokens) + tokens < vocabulary_ ||
      size_t(vocabulary_) * stride * sizeof(float) > memory_)
    return nullptr;
  const std::unique_lock<std::mutex> lock(building_, std::try_to_lock);
  if (!lock.owns_lock()) return nullptr;  // another caller is at it; wait for nobody
  if (!table_ready_.load(std::memory_order_acquire)) {
    float* rows;
    try {
      rows = table_.reserve(size_t(vocabulary_) * stride);
    } catch (const std::bad_alloc&) {
      return nullptr;  // it can be done without
    }
    pool.run((vocabulary_ + kWordsPerTask - 1) / kWordsPerTask, [&](long task) {
      const int begin = static_cast<int>(task * kWordsPerTask);
      const int count = std::min<int>(kWordsPerTask, vocabulary_ - begin);
      int32_t words[kWordsPerTask];
      for (int i = 0; i < count; ++i) words[i] = begin + i;
      project_words(words, count, rows + begin * stride);
    });
    table_ready_.store(true, std::memory_order_release);
  }
  return table_.data();
}

void Scorer::score(ThreadPool& pool, const int32_t* ids, const int64_t* offsets, long count,
                   float* logits) {
  const Texts texts(ids, offsets, count, max_length_, logits);
  for (long at = 0; at < count; ++at)
    for (const int32_t* id = texts.begin(at); id < texts.end(at); ++id)
      if (*id < 0 || *id >= vocabulary_) throw IdOutOfRange{*id};

  if (const float* products = table(pool, texts.tokens))
    return score_texts(pool, texts, 0, count, products, nullptr);
  ChunkScratch& chunk = chunk_scratch();
  const long stride = projected_stride(cell_, hidden_);
  const size_t most_words = memory_ / 8 / (stride * sizeof(float));
  for (long begin = 0, end = 0; begin < count; begin = end) {
    const long most_tokens = kChunkTokens + texts.kept[begin];  // the longest text that is left
    chunk.numbers.restart(std::min(texts.tokens, most_tokens), vocabulary_);
    chunk.words.clear();
    for (long tokens = 0; end < count && tokens < kChunkTokens &&
                          (end == begin || chunk.words.size() < most_words);
         tokens += texts.kept[end++]) {
      for (const int32_t* id = texts.begin(end); id < texts.end(end); ++id) {
        const int32_t fresh = static_cast<int32_t>(chunk.words.size());
        if (chunk.numbers.number(*id, fresh) == fresh) chunk.words.push_back(*id);
      }
    }
    const long words = static_cast<long>(chunk.words.size());
    float* products = chunk.projected.reserve(size_t(words) * stride);
    pool.run((words + kWordsPerTask - 1) / kWordsPerTask, [&](long task) {
      const long first = task * kWordsPerTask;
      project_words(chunk.words.data() + first, std::min(kWordsPerTask, words - first),
                    products + first * stride);
    });
    score_texts(pool, texts, begin, end, products, &chunk.numbers);
  }
}

void Scorer::score_texts(ThreadPool& pool, const Texts& texts, long begin, long end,
                         const float* projected, const IdMap* numbers) const {
  // Fewer texts than threads: all work on the same ones, if the units are worth sharing.
  if (end - begin < pool.threads() && panel_count(hidden_) >= 2 * kPanelsToShare)
    return score_group(texts, begin, end, projected, numbers, &pool);
  const long share = (end - begin + pool.threads() - 1) / pool.threads();
  const long rows = std::clamp(share, 1L, kGroupRows);
  pool.run((end - begin + rows - 1) / rows, [&](long task) {
    const long first = begin + task * rows;
    score_group(texts, first, std::min(first + rows, end), projected, numbers, nullptr);
  });
}

// Each phase of each step is cut into parts of the units. A thread takes its own part, whose weights
// its cache holds, then those that nobody has taken, and waits for the parts in others' hands. So
// nobody waits for a thread that does not run, and one that comes late finds the early steps done.
void Scorer::score_together(ThreadPool& pool, const RecurrentArgs& args) const {
  const int panels = panel_count(hidden_);
  const int parts = std::min(pool.threads(), panels / kPanelsToShare);
  const int phases = forward_phases(cell_);
  const long count = long(args.steps) * phases;
  std::vector<std::atomic<bool>> taken(count * parts);
  std::vector<std::atomic<int>> done(count);
  std::atomic<bool> failed{false};
  pool.run(1, [&](long) { kernels_.score_begin[cell_](args); });
  pool.run(parts, [&](long own) {
    for (long at = 0; at < count; ++at) {
      for (int i = 0; i < parts; ++i) {
        const int part = static_cast<int>((own + i) % parts);
        if (taken[at * parts + part].exchange(true, std::memory_order_relaxed)) continue;
        try {
          kernels_.score_panels[cell_](args, static_cast<int>(at / phases),
                                       static_cast<int>(at % phases), panels * part / parts,
                                       panels * (part + 1) / parts);
        } catch (...) {  // no memory for rounded operands
          failed.store(true, std::memory_order_relaxed);
          throw;
        }
        done[at].fetch_add(1, std::memory_order_release);
      }
      while (done[at].load(std::memory_order_acquire) < parts) {
        if (failed.load(std::memory_order_relaxed)) return;
        relax();
      }
    }
  });
}

void Scorer::score_group(const Texts& texts, long begin, long end, const float* projected,
                         const IdMap* numbers, ThreadPool* pool) const {
  GroupScratch& own = group_scratch();
  const int batch = static_cast<int>(end - begin);
  const int steps = texts.kept[begin];  // the longest is the first
  own.step_offsets.resize(steps + 1);
  own.index.clear();
  for (int step = 0, active = 0; step < steps; ++step) {
    own.step_offsets[step] = static_cast<int32_t>(own.index.size());
    while (active < batch && texts.kept[begin + active] >= steps - step) ++active;
    for (int row = 0; row < active; ++row) {
      const int32_t id = texts.end(begin + row)[step - steps];
      own.index.push_back(numbers != nullptr ? numbers->number(id) : id);
    }
  }
  own.step_offsets[steps] = static_cast<int32_t>(own.index.size());

  RecurrentArgs args{};
  weights_.describe(args, cell_, hidden_);
  args.batch = batch;
  args.steps = steps;
  args.step_offsets = own.step_offsets.data();
  args.index = own.index.data();
  args.projected = projected;
  args.states = own.states.reserve(size_t(2 * batch) * args.state_stride);
  if (cell_ == kLstm || cell_ == kGruBefore)
    args.cells = own.cells.reserve(size_t(2 * batch) * args.state_stride);
  if (cell_ == kGruBefore) args.gates = own.gates.reserve(size_t(batch) * args.gate_stride);
  if (!masked_) {
    const long padding_steps = max_length_ - steps;  // before the longest text's first token
    args.start = padding_.data() + padding_steps * args.state_stride;
    if (cell_ == kLstm) args.start_cell = padding_cells_.data() + padding_steps * args.state_stride;
  }
  if (pool != nullptr)
    score_together(*pool, args);
  else
    kernels_.score_rows[cell_](args);

  const long stride = padded(logits_);
  const ProjectArgs output = {args.states + steps % 2 * long(batch) * args.state_stride,
                              args.state_stride,
                              hidden_,
                              logits_,
                              1,
                              output_.data(),
                              output_bias_.data(),
                              own.logits.reserve(size_t(batch) * stride),
                              stride};
  output_kernels_.project(output, 0, batch);
  for (int row = 0; row < batch; ++row)
    std::memcpy(texts.logits + texts.order[begin + row] * logits_, output.output + row * stride,
                sizeof(float) * logits_);
}

}  // namespace tidegate
