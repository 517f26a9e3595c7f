// The contract between the instruction-set kernels (isa_*.cpp) and everything above them.
//
// Kernels check nothing: ops and bindings.cpp check every shape, type and range first.
// They run on ranges (of rows, words, panels) and never start threads; what a range computes
// does not depend on where other ranges begin, which is why results are the same bits for any
// number of threads.
//
// Units are kept in panels of 16, a multiple of every vector width. A panel holds the gates of
// the same 16 units side by side, so that one tile of a product ends with all that a cell needs:
//
//   packed weights    [panel][depth][gate][16]; where operands are rounded, see operands.h
//   projected inputs  [row][panel][gate][16]      row stride padded by a cache line, so that the
//   gates (the tape)  [position][panel][channel][16]  rows of a column do not share cache sets
//
// Lanes beyond the last unit hold zero weights and zero biases, stay harmless and are never
// written to the caller's arrays.
//
// Positions: see src/tidegate/batch.py. With N text positions, P padding steps and B rows, the
// states array has N + P + B + 1 rows: row n < N + P holds the state BEFORE position n's step,
// row N + P + k the final state of packed row k, the last row the padding row's final state. So
// the recurrent weight gradient is one long product of states and gate gradients, row by row.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tidegate {

constexpr int kPanel = 16;
constexpr int kLinePad = 16;  // floats added to strides
constexpr int kMaxGates = 4;

// Always inlined: of a function that is not, the linker keeps one copy for the whole program, and
// that could be one compiled for instructions that the machine lacks.
#define TG_ALWAYS_INLINE inline __attribute__((always_inline))

TG_ALWAYS_INLINE int panel_count(int units) { return (units + kPanel - 1) / kPanel; }
TG_ALWAYS_INLINE int padded(int units) { return panel_count(units) * kPanel; }

enum Cell : int { kGruAfter = 0, kGruBefore = 1, kLstm = 2, kRnn = 3 };
constexpr int kCells = 4;

// What the loops need to know of a cell. A gate is a column block of the caller's weights; a
// channel is a block of the tape. In the backward pass each channel is overwritten by its
// gradient.
struct CellLayout {
  int gates;
  int channels;
  int input_channels[kMaxGates];      // channel with the gradient of each gate's input product
  int recurrent_channels[kMaxGates];  // ... and of its recurrent product
};

// GRU, reset after: update, reset, candidate, recurrent part of the candidate.
constexpr CellLayout kLayouts[kCells] = {
    {3, 4, {0, 1, 2, 0}, {0, 1, 3, 0}},
    {3, 3, {0, 1, 2, 0}, {0, 1, 2, 0}},  // update, reset, candidate
    {4, 4, {0, 1, 2, 3}, {0, 1, 2, 3}},  // input, forget, candidate, output
    {1, 1, {0, 0, 0, 0}, {0, 0, 0, 0}},  // hidden
};

// Products that follow one another in a forward step.
constexpr int forward_phases(Cell cell) { return cell == kGruBefore ? 2 : 1; }

struct PackArgs {
  const float* weights;  // [depth, gates_total * units] in, row-major
  int depth;
  int units;
  int gates_total;
  int gate_begin;  // the gates that are packed: [gate_begin, gate_begin + gate_count)
  int gate_count;
  float* packed;  // out; forward: [panel of units][depth][gate_count][16]
                  //      backward: [panel of depth][panel of units][gate_count][16 units][16]
};

struct ProjectArgs {
  const float* inputs;  // [rows, depth] in, row stride input_stride
  long input_stride;
  int depth;
  int units;
  int gates;
  const float* packed;  // [panel][depth][gates][16] in
  const float* bias;    // [panel][gates][16] in
  float* output;        // [rows][panel][gates][16] out, row stride output_stride
  long output_stride;
};

// d_inputs[row, depth] = gradients of the channels times the transposed weights.
struct InputGradientArgs {
  const float* gates;  // [rows][panel][panel_stride] in, row stride gate_stride
  long gate_stride;
  int panel_stride;  // floats from one panel to the next: channels * 16
  int channels[kMaxGates];
  int gate_count;
  int units;
  int depth;
  const float* packed;  // backward-packed weights in
  float* output;        // [rows, depth] out (or in and out), row stride output_stride
  long output_stride;
  bool accumulate;
};

// d_weights[depth, gate columns] = sum over rows of inputs[row, depth] * gates[row, column].
struct WeightGradientArgs {
  const float* inputs;  // [rows, depth] in
  long input_stride;
  int depth;
  const float* gates;  // [rows][panel][panel_stride] in
  long gate_stride;
  int panel_stride;
  int channels[kMaxGates];
  int gate_begin;  // first gate's column block in d_weights
  int gate_count;
  int gates_total;
  int units;
  long rows;
  float* d_weights;  // [depth, gates_total * units] out, overwritten
  float* d_bias;     // [gates_total * units] out or null: column sums
};

// sums[word] = sum of the gate gradients at the word's positions, in ascending order.
struct SegmentSumArgs {
  const float* gates;
  long gate_stride;
  int panel_stride;
  int gate_count;  // the first gate_count channels of each panel
  int units;
  const int32_t* occurrences;
  const int32_t* occurrence_offsets;
  float* sums;  // [words][panel][gate_count][16] out
  long sum_stride;
};

struct RecurrentArgs {
  int hidden;
  int batch;                    // B
  int steps;                    // T
  int padding_steps;            // P
  const int32_t* step_offsets;  // [T + 1]
  const int32_t* index;         // [N + P] row of `projected`, or null: the position itself
  const float* projected;       // [rows][panel][gates][16] in
  long projected_stride;
  const float* packed;            // forward-packed recurrent weights in (GRU before: update, reset)
  const float* packed_candidate;  // GRU before: the candidate's
  const float* recurrent_bias;    // GRU after: [padded hidden], the candidate's
  const float* initial;           // [B, hidden] or null (zeros); null when P > 0
  const float* initial_cell;      // LSTM: the same for the cell state
  // Scoring only: the state of a row that joins before each step, as padding leaves it; or null.
  const float* start;       // [T + 1] rows in, stride state_stride
  const float* start_cell;  // LSTM
  float* states;            // [N + P + B + 1] rows out; scoring: [2 * B]
  long state_stride;
  float* cells;  // LSTM: cell states, laid out as states. GRU before: reset * hidden [N + P], or [2B]
  float* gates;  // [N + P][panel][channel][16] out; scoring: GRU before: [B], else null
  long gate_stride;
  // Backward only.
  const float* packed_back;            // backward-packed recurrent weights
  const float* packed_candidate_back;  // GRU before
  const float* d_outputs;              // [N + P, hidden] gradient of each position's output, or null
  float* d_states;  // [B + 1] rows in and out, stride state_stride: gradient of the final states,
                    // then of the states that the rows joined with; row B is the padding row's
  float* d_cells;   // the same for LSTM's cell; GRU before: scratch

  TG_ALWAYS_INLINE int positions() const { return step_offsets[steps]; }
  TG_ALWAYS_INLINE long text_row(int step) const {  // row of `states` that holds row 0 before `step`
    return step < steps ? step_offsets[step] : long(positions()) + padding_steps;
  }
  TG_ALWAYS_INLINE long padding_row(int step) const {
    const long end = long(positions()) + padding_steps;
    return step < padding_steps ? positions() + step : end + batch;
  }
  TG_ALWAYS_INLINE int active(int step) const {  // rows that run at `step`; all of them after the last
    return step < steps ? step_offsets[step + 1] - step_offsets[step] : batch;
  }
};

struct AdamArgs {
  float keep_1, keep_2;  // 1 - beta, taken in float64: 1 - 0.999f is 1e-5 off
  float epsilon;
  float gradient_scale;  // clipping
  const float* rates;    // [step]: learning rate with both bias corrections, for steps 1, 2, ...
};

constexpr int kPrecisions = 3;  // float32, bf16x3, bfloat16

// Memory of the calling thread's own: 0 and 1 for arrays of rounded operands, 2 for emulated tiles.
// Keeps its contents while it need not grow. Throws std::bad_alloc.
float* operand_scratch(int which, size_t floats);

struct Kernels {
  const char* name;
  const char* precision;  // of the operands of the matrix products
  int width;
  void (*sigmoid)(const float* x, float* y, long count);
  void (*tanh)(const float* x, float* y, long count);
  // Floats that packed weights take.
  size_t (*forward_size)(int depth, int units, int gates);
  size_t (*backward_size)(int depth, int units, int gates);
  void (*pack_forward)(const PackArgs&, int panel_begin, int panel_end);   // panels of units
  void (*pack_backward)(const PackArgs&, int panel_begin, int panel_end);  // panels of depth
  void (*project)(const ProjectArgs&, long row_begin, long row_end);
  void (*input_gradient)(const InputGradientArgs&, long row_begin, long row_end);
  // Columns are counted in vectors: panel, gate, part of the panel.
  void (*weight_gradient)(const WeightGradientArgs&, int vector_begin, int vector_end,
                          int depth_begin, int depth_end);
  void (*segment_sum)(const SegmentSumArgs&, long word_begin, long word_end);
  // Indexed by Cell. The rows form needs the padding row's states, the padding form runs it.
  void (*forward_padding[kCells])(const RecurrentArgs&);
  void (*forward_rows[kCells])(const RecurrentArgs&, int row_begin, int row_end);
  // Forward only: a whole batch by one thread, or by several that each take some panels of a phase
  // and wait for the others after it.
  void (*score_rows[kCells])(const RecurrentArgs&);
  void (*score_begin[kCells])(const RecurrentArgs&);
  void (*score_panels[kCells])(const RecurrentArgs&, int step, int phase, int panel_begin,
                               int panel_end);
  void (*backward_rows[kCells])(const RecurrentArgs&, int row_begin, int row_end);
  void (*backward_padding[kCells])(const RecurrentArgs&);  // after all rows
  void (*adam)(const AdamArgs&, float* parameter, const float* gradient, float* first_moment,
               float* second_moment, long count, long step);
  // Apply the steps from_step + 1 .. to_step that had no gradient, exactly as adam would.
  void (*adam_replay)(const AdamArgs&, float* parameter, float* first_moment, float* second_moment,
                      long count, long from_step, long to_step);
  double (*sum_of_squares)(const float* x, long count);
};

}  // namespace tidegate
