#include "tape.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace tidegate {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;
constexpr long kRowsPerTask = 64;   // of a projection
constexpr long kWordsPerTask = 64;  // of a segment sum

long tasks_of(long items, long per_task) { return (items + per_task - 1) / per_task; }

// Bounds of `parts` contiguous row ranges with nearly equal numbers of tokens. Where they lie
// changes no result, only who computes it.
std::vector<int> share_rows(const int32_t* lengths, int batch, int parts) {
  int64_t total = 0;
  // A row also costs its share of every step's fixed work: count one token more.
  for (int k = 0; k < batch; ++k) total += lengths[k] + 1;
  std::vector<int> bounds{0};
  int64_t sum = 0;
  for (int k = 0; k < batch; ++k) {
    sum += lengths[k] + 1;
    if (sum * parts >= total * static_cast<int64_t>(bounds.size()) &&
        static_cast<int>(bounds.size()) < parts)
      bounds.push_back(k + 1);
  }
  if (bounds.back() != batch) bounds.push_back(batch);
  return bounds;
}

// A weight gradient's result cut into tasks: columns first, then depth when threads are many.
// Each element is summed by one task over all rows in order.
struct GradientTasks {
  int vectors, depth, column_parts, depth_parts;

  GradientTasks(const Kernels& kernels, const WeightGradientArgs& args, int threads) {
    vectors = panel_count(args.units) * args.gate_count * (kPanel / kernels.width);
    depth = args.depth;
    // Multiples of three vectors, the kernels' tile, so that no task ends in a narrow one.
    const int groups = (vectors + 2) / 3;
    column_parts = std::min(threads, groups);
    depth_parts = std::min((threads + column_parts - 1) / column_parts, (depth + 15) / 16);
  }
  int count() const { return column_parts * depth_parts; }
  void run(const Kernels& kernels, const WeightGradientArgs& args, int task) const {
    const int groups = (vectors + 2) / 3;
    const int column = task % column_parts, part = task / column_parts;
    const int begin = std::min(vectors, groups * column / column_parts * 3);
    const int end = std::min(vectors, groups * (column + 1) / column_parts * 3);
    kernels.weight_gradient(args, begin, end, depth * part / depth_parts,
                            depth * (part + 1) / depth_parts);
  }
};

void copy_rows(float* to, long to_stride, const float* from, long from_stride, long rows,
               int width) {
  for (long r = 0; r < rows; ++r)
    std::memcpy(to + r * to_stride, from + r * from_stride, sizeof(float) * width);
}

}  // namespace

Buffer::~Buffer() { std::free(data_); }

float* Buffer::reserve(size_t floats) {
  if (floats > capacity_) {
    // A little more than asked for: batches differ, and new pages cost more than arithmetic.
    floats = std::max(floats, capacity_ + capacity_ / 8);
    const size_t alignment = floats * sizeof(float) >= kHugePage ? kHugePage : 64;
    const size_t bytes = (floats * sizeof(float) + alignment - 1) / alignment * alignment;
    std::free(data_);
    data_ = nullptr;
    capacity_ = 0;
    // Not aligned_alloc: old macOS has none.
    void* memory = nullptr;
    if (posix_memalign(&memory, alignment, bytes) != 0) throw std::bad_alloc();
    data_ = static_cast<float*>(memory);
    capacity_ = bytes / sizeof(float);
#if defined(__linux__)
    if (alignment == kHugePage) madvise(data_, bytes, MADV_HUGEPAGE);
#endif
  }
  return data_;
}

float* operand_scratch(int which, size_t floats) {
  thread_local Buffer scratch[3];
  return scratch[which].reserve(floats);
}

void PackedWeights::pack(const Kernels& kernels, ThreadPool& pool, Cell cell, int input_size,
                         int hidden, const float* kernel, const float* recurrent_kernel,
                         const float* given_bias, const float* recurrent_bias) {
  const int gates = kLayouts[cell].gates, padded_hidden = padded(hidden);
  const bool before = cell == kGruBefore;
  float* biases = bias.reserve(size_t(padded_hidden) * (gates + 1));
  std::memset(biases, 0, sizeof(float) * padded_hidden * (gates + 1));
  for (int unit = 0; unit < hidden; ++unit) {
    float* to = biases + unit / kPanel * gates * kPanel + unit % kPanel;
    for (int g = 0; g < gates; ++g) {
      to[g * kPanel] = given_bias[g * hidden + unit];
      if (recurrent_bias != nullptr && g < 2)
        to[g * kPanel] += recurrent_bias[g * hidden + unit];
    }
    if (recurrent_bias != nullptr)
      biases[padded_hidden * gates + unit] = recurrent_bias[2 * hidden + unit];
  }
  const PackArgs input_args = {kernel, input_size, hidden, gates, 0, gates,
                               input.reserve(kernels.forward_size(input_size, hidden, gates))};
  const int together = before ? 2 : gates;
  const PackArgs recurrent_args = {
      recurrent_kernel, hidden, hidden, gates, 0, together,
      recurrent.reserve(kernels.forward_size(hidden, hidden, together))};
  PackArgs candidate_args = recurrent_args;
  if (before) {
    candidate_args.gate_begin = 2;
    candidate_args.gate_count = 1;
    candidate_args.packed = candidate.reserve(kernels.forward_size(hidden, hidden, 1));
  }
  pool.run(panel_count(hidden), [&](long panel) {
    const int p = static_cast<int>(panel);
    kernels.pack_forward(input_args, p, p + 1);
    kernels.pack_forward(recurrent_args, p, p + 1);
    if (before) kernels.pack_forward(candidate_args, p, p + 1);
  });
}

void PackedWeights::describe(RecurrentArgs& args, Cell cell, int hidden) const {
  args.hidden = hidden;
  args.packed = recurrent.data();
  args.packed_candidate = candidate.data();
  args.recurrent_bias = bias.data() + size_t(padded(hidden)) * kLayouts[cell].gates;
  args.projected_stride = projected_stride(cell, hidden);
  args.state_stride = state_stride(hidden);
  args.gate_stride = gate_stride(cell, hidden);
}

RecurrentArgs RecurrentTape::arguments(const RecurrentCall& call) const {
  RecurrentArgs args{};
  weights_.describe(args, call.cell, call.hidden);
  args.batch = call.batch;
  args.steps = call.steps;
  args.padding_steps = call.padding_steps;
  args.step_offsets = call.step_offsets;
  args.index = call.index;
  args.projected = projected_.data();
  args.initial = call.initial;
  args.initial_cell = call.initial_cell;
  args.states = states_.data();
  args.cells = cells_.data();
  args.gates = gates_.data();
  args.packed_back = weights_.recurrent.data();
  args.packed_candidate_back = weights_.candidate.data();
  args.d_states = d_states_.data();
  args.d_cells = d_cells_.data();
  return args;
}

void RecurrentTape::forward(const Kernels& kernels, ThreadPool& pool, const RecurrentCall& call,
                            const RecurrentOutputs& out) {
  const CellLayout& layout = kLayouts[call.cell];
  const int hidden = call.hidden;
  const long positions = call.step_offsets[call.steps];
  const long total = positions + call.padding_steps;
  const long table_rows = call.index != nullptr ? call.words : total;

  projected_.reserve(size_t(table_rows) * projected_stride(call.cell, hidden));
  states_.reserve(size_t(total + call.batch + 1) * state_stride(hidden));
  gates_.reserve(size_t(total) * gate_stride(call.cell, hidden));
  if (call.cell == kLstm) cells_.reserve(size_t(total + call.batch + 1) * state_stride(hidden));
  if (call.cell == kGruBefore) cells_.reserve(size_t(total) * state_stride(hidden));
  weights_.pack(kernels, pool, call.cell, call.input_size, hidden, call.kernel,
                call.recurrent_kernel, call.bias, call.recurrent_bias);

  const RecurrentArgs args = arguments(call);
  const ProjectArgs project = {call.inputs,  call.input_size, call.input_size, hidden,
                               layout.gates, weights_.input.data(), weights_.bias.data(),
                               projected_.data(), args.projected_stride};
  // The padding row runs beside the projection of the words, so its own inputs come first.
  long own_begin = 0, own_end = 0;
  if (call.padding_steps > 0) {
    own_begin = call.index != nullptr ? call.index[positions] : positions;
    own_end = call.index != nullptr ? own_begin + 1 : total;
    pool.run(tasks_of(own_end - own_begin, kRowsPerTask), [&](long task) {
      const long begin = own_begin + task * kRowsPerTask;
      kernels.project(project, begin, std::min(begin + kRowsPerTask, own_end));
    });
  }
  const long padding_tasks = call.padding_steps > 0 ? 1 : 0;
  const long first_tasks = tasks_of(own_begin, kRowsPerTask);
  const long later_tasks = tasks_of(table_rows - own_end, kRowsPerTask);
  pool.run(padding_tasks + first_tasks + later_tasks, [&](long task) {
    if (task < padding_tasks) return kernels.forward_padding[call.cell](args);
    task -= padding_tasks;
    const bool first = task < first_tasks;
    const long begin = first ? task * kRowsPerTask : own_end + (task - first_tasks) * kRowsPerTask;
    kernels.project(project, begin, std::min(begin + kRowsPerTask, first ? own_begin : table_rows));
  });

  const std::vector<int> bounds = share_rows(call.lengths, call.batch, pool.threads());
  pool.run(static_cast<long>(bounds.size()) - 1, [&](long task) {
    kernels.forward_rows[call.cell](args, bounds[task], bounds[task + 1]);
  });

  copy_rows(out.last, hidden, args.states + args.text_row(call.steps) * args.state_stride,
            args.state_stride, call.batch, hidden);
  if (out.outputs == nullptr) return;
  for (int step = 0; step < call.steps; ++step)
    copy_rows(out.outputs + args.text_row(step) * hidden, hidden,
              args.states + args.text_row(step + 1) * args.state_stride, args.state_stride,
              args.active(step), hidden);
  for (int step = 0; step < call.padding_steps; ++step)
    copy_rows(out.outputs + (positions + step) * hidden, hidden,
              args.states + args.padding_row(step + 1) * args.state_stride, args.state_stride, 1,
              hidden);
}

void RecurrentTape::backward(const Kernels& kernels, ThreadPool& pool, const RecurrentCall& call,
                             const RecurrentGradients& gradients) {
  const CellLayout& layout = kLayouts[call.cell];
  const int hidden = call.hidden, padded_hidden = padded(hidden);
  const long positions = call.step_offsets[call.steps];
  const long total = positions + call.padding_steps;
  const bool before = call.cell == kGruBefore;
  const bool dense = call.index == nullptr;

  const PackArgs input = {
      call.kernel,  call.input_size, hidden, layout.gates, 0, layout.gates,
      weights_.input.reserve(kernels.backward_size(call.input_size, hidden, layout.gates))};
  const int recurrent_gates = before ? 2 : layout.gates;
  const PackArgs recurrent = {
      call.recurrent_kernel, hidden, hidden, layout.gates, 0, recurrent_gates,
      weights_.recurrent.reserve(kernels.backward_size(hidden, hidden, recurrent_gates))};
  PackArgs candidate = recurrent;
  if (before) {
    candidate.gate_begin = 2;
    candidate.gate_count = 1;
    candidate.packed = weights_.candidate.reserve(kernels.backward_size(hidden, hidden, 1));
  }
  const int hidden_panels = panel_count(hidden), input_panels = panel_count(call.input_size);
  pool.run(hidden_panels + input_panels, [&](long task) {
    const int p = static_cast<int>(task);
    if (p >= hidden_panels)
      return kernels.pack_backward(input, p - hidden_panels, p - hidden_panels + 1);
    kernels.pack_backward(recurrent, p, p + 1);
    if (before) kernels.pack_backward(candidate, p, p + 1);
  });

  const size_t state_floats = size_t(call.batch + 1) * (padded_hidden + kLinePad);
  float* d_states = d_states_.reserve(state_floats);
  std::memset(d_states, 0, sizeof(float) * state_floats);
  if (call.cell == kLstm || before)
    std::memset(d_cells_.reserve(state_floats), 0, sizeof(float) * state_floats);
  RecurrentArgs args = arguments(call);
  args.d_outputs = gradients.d_outputs;
  if (gradients.d_last != nullptr)
    copy_rows(d_states, args.state_stride, gradients.d_last, hidden, call.batch, hidden);

  const std::vector<int> bounds = share_rows(call.lengths, call.batch, pool.threads());
  pool.run(static_cast<long>(bounds.size()) - 1, [&](long task) {
    kernels.backward_rows[call.cell](args, bounds[task], bounds[task + 1]);
  });

  // The padding row's backward pass is one thread's; the others sum the words meanwhile.
  const long padding_tasks = call.padding_steps > 0 ? 1 : 0;
  const long padding_word = !dense && padding_tasks ? call.index[positions] : -1;
  SegmentSumArgs segments{};
  if (!dense) {
    segments.gates = args.gates;
    segments.gate_stride = args.gate_stride;
    segments.panel_stride = layout.channels * kPanel;
    segments.gate_count = layout.gates;
    segments.units = hidden;
    segments.occurrences = call.occurrences;
    segments.occurrence_offsets = call.occurrence_offsets;
    segments.sum_stride = long(padded_hidden) * layout.gates + kLinePad;
    segments.sums = sums_.reserve(size_t(call.words) * segments.sum_stride);
  }
  const long word_tasks = dense ? 0 : tasks_of(call.words, kWordsPerTask);
  pool.run(padding_tasks + word_tasks, [&](long task) {
    if (task < padding_tasks) return kernels.backward_padding[call.cell](args);
    const long begin = (task - padding_tasks) * kWordsPerTask;
    const long end = std::min(begin + kWordsPerTask, call.words);
    const bool skip = padding_word >= begin && padding_word < end;
    if (begin < (skip ? padding_word : end))
      kernels.segment_sum(segments, begin, skip ? padding_word : end);
    if (skip && padding_word + 1 < end) kernels.segment_sum(segments, padding_word + 1, end);
  });
  if (padding_word >= 0)
    pool.run(1, [&](long) { kernels.segment_sum(segments, padding_word, padding_word + 1); });

  WeightGradientArgs d_recurrent{};
  d_recurrent.inputs = args.states;
  d_recurrent.input_stride = args.state_stride;
  d_recurrent.depth = hidden;
  d_recurrent.gates = args.gates;
  d_recurrent.gate_stride = args.gate_stride;
  d_recurrent.panel_stride = layout.channels * kPanel;
  std::copy_n(layout.recurrent_channels, kMaxGates, d_recurrent.channels);
  d_recurrent.gate_count = recurrent_gates;
  d_recurrent.gates_total = layout.gates;
  d_recurrent.units = hidden;
  d_recurrent.rows = total;
  d_recurrent.d_weights = gradients.d_recurrent_kernel;
  d_recurrent.d_bias = gradients.d_recurrent_bias;
  WeightGradientArgs d_candidate = d_recurrent;
  if (before) {
    d_candidate.inputs = args.cells;  // reset * hidden
    d_candidate.channels[0] = 2;
    d_candidate.gate_begin = 2;
    d_candidate.gate_count = 1;
  }
  WeightGradientArgs d_input = d_recurrent;
  d_input.inputs = call.inputs;
  d_input.input_stride = d_input.depth = call.input_size;
  d_input.gates = dense ? args.gates : segments.sums;
  d_input.gate_stride = dense ? args.gate_stride : segments.sum_stride;
  d_input.panel_stride = (dense ? layout.channels : layout.gates) * kPanel;
  std::copy_n(layout.input_channels, kMaxGates, d_input.channels);
  d_input.gate_count = layout.gates;
  d_input.rows = dense ? total : call.words;
  d_input.d_weights = gradients.d_kernel;
  d_input.d_bias = gradients.d_bias;

  InputGradientArgs d_inputs{};
  d_inputs.gates = d_input.gates;
  d_inputs.gate_stride = d_input.gate_stride;
  d_inputs.panel_stride = d_input.panel_stride;
  std::copy_n(layout.input_channels, kMaxGates, d_inputs.channels);
  d_inputs.gate_count = layout.gates;
  d_inputs.units = hidden;
  d_inputs.depth = call.input_size;
  d_inputs.packed = weights_.input.data();
  d_inputs.output = gradients.d_inputs;
  d_inputs.output_stride = call.input_size;
  d_inputs.accumulate = false;

  // The longest tasks first: the short ones even out what is left.
  const bool wanted = gradients.d_kernel != nullptr;
  const GradientTasks recurrent_tasks(kernels, d_recurrent, pool.threads());
  const GradientTasks candidate_tasks(kernels, d_candidate, pool.threads());
  const GradientTasks input_tasks(kernels, d_input, pool.threads());
  const long first = wanted ? recurrent_tasks.count() : 0;
  const long second = first + (wanted && before ? candidate_tasks.count() : 0);
  const long third = second + (wanted ? input_tasks.count() : 0);
  pool.run(third + tasks_of(d_input.rows, kRowsPerTask), [&](long task) {
    if (task < first) return recurrent_tasks.run(kernels, d_recurrent, static_cast<int>(task));
    if (task < second)
      return candidate_tasks.run(kernels, d_candidate, static_cast<int>(task - first));
    if (task < third) return input_tasks.run(kernels, d_input, static_cast<int>(task - second));
    const long begin = (task - third) * kRowsPerTask;
    kernels.input_gradient(d_inputs, begin, std::min(begin + kRowsPerTask, d_input.rows));
  });

  if (gradients.d_initial != nullptr)
    copy_rows(gradients.d_initial, hidden, d_states, args.state_stride, call.batch, hidden);
  if (gradients.d_initial_cell != nullptr)
    copy_rows(gradients.d_initial_cell, hidden, args.d_cells, args.state_stride, call.batch,
              hidden);
}

void RecurrentTape::read_channel(const RecurrentCall& call, int channel, float* out) const {
  const RecurrentArgs args = arguments(call);
  const int channels = kLayouts[call.cell].channels;
  const long total = long(args.positions()) + call.padding_steps;
  for (long n = 0; n < total; ++n) {
    const float* row = args.gates + n * args.gate_stride + channel * kPanel;
    for (int unit = 0; unit < call.hidden; ++unit)
      out[n * call.hidden + unit] = row[unit / kPanel * channels * kPanel + unit % kPanel];
  }
}

void LinearScratch::forward(const Kernels& kernels, ThreadPool& pool, const float* inputs,
                            const float* kernel, const float* bias, float* outputs, long rows,
                            int depth, int units) {
  const PackArgs pack = {kernel, depth, units, 1, 0, 1,
                         packed_.reserve(kernels.forward_size(depth, units, 1))};
  const long stride = padded(units);
  float* packed_bias = bias_.reserve(stride);
  std::memset(packed_bias, 0, sizeof(float) * stride);
  std::memcpy(packed_bias, bias, sizeof(float) * units);
  float* out = padded_.reserve(rows * stride);
  const ProjectArgs project = {inputs, depth, depth, units, 1, pack.packed, packed_bias, out,
                               stride};
  pool.run(1, [&](long) { kernels.pack_forward(pack, 0, panel_count(units)); });
  pool.run(tasks_of(rows, kRowsPerTask), [&](long task) {
    const long begin = task * kRowsPerTask;
    kernels.project(project, begin, std::min(begin + kRowsPerTask, rows));
  });
  copy_rows(outputs, units, out, stride, rows, units);
}

void LinearScratch::backward(const Kernels& kernels, ThreadPool& pool, const float* inputs,
                             const float* kernel, const float* d_outputs, float* d_inputs,
                             float* d_kernel, float* d_bias, long rows, int depth, int units) {
  const PackArgs pack = {kernel, depth, units, 1, 0, 1,
                         packed_.reserve(kernels.backward_size(depth, units, 1))};
  const long stride = padded(units);
  float* d_padded = padded_.reserve(rows * stride);
  std::memset(d_padded, 0, sizeof(float) * rows * stride);
  copy_rows(d_padded, stride, d_outputs, units, rows, units);
  WeightGradientArgs weights{};
  weights.inputs = inputs;
  weights.input_stride = weights.depth = depth;
  weights.gates = d_padded;
  weights.gate_stride = stride;
  weights.panel_stride = kPanel;
  weights.gate_count = weights.gates_total = 1;
  weights.units = units;
  weights.rows = rows;
  weights.d_weights = d_kernel;
  weights.d_bias = d_bias;
  InputGradientArgs back{};
  back.gates = d_padded;
  back.gate_stride = stride;
  back.panel_stride = kPanel;
  back.gate_count = 1;
  back.units = units;
  back.depth = depth;
  back.packed = pack.packed;
  back.output = d_inputs;
  back.output_stride = depth;
  pool.run(panel_count(depth),
           [&](long p) { kernels.pack_backward(pack, static_cast<int>(p), static_cast<int>(p) + 1); });
  const GradientTasks tasks(kernels, weights, pool.threads());
  const long blocks = tasks_of(rows, kRowsPerTask);
  pool.run(tasks.count() + blocks, [&](long task) {
    if (task < tasks.count()) return tasks.run(kernels, weights, static_cast<int>(task));
    const long begin = (task - tasks.count()) * kRowsPerTask;
    kernels.input_gradient(back, begin, std::min(begin + kRowsPerTask, rows));
  });
}

}  // namespace tidegate
