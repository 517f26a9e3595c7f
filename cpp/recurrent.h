// The time loops: every step of a range of rows, forward and backward, for each cell.
//
// Rows of a range never wait for each other's threads.
#pragma once

#include "cells.h"
#include "gemm.h"

namespace tidegate {
namespace {

constexpr int kSingleVectors = 3;  // vectors of one gate that a tile takes together

// Where the rows of a step find their things. While training everything is kept, and all but `out`
// and `next` are one number. While scoring, states alternate between two places and the tape has
// room for one step.
struct StepAt {
  long in, out;   // first row of the states before and after the step
  long position;  // first row's position, for its inputs
  long next;      // the same of the following step, whose inputs are fetched ahead
  long tape;      // first row of the tape
  int panel_begin, panel_end;  // of the units that are computed
};

TG_INLINE StepAt training_step(const RecurrentArgs& args, long in, long out) {
  return {in, out, in, out, in, 0, panel_count(args.hidden)};
}

TG_INLINE StepAt scoring_step(const RecurrentArgs& args, int step, int panel_begin, int panel_end) {
  const long in = step % 2 * args.batch;
  return {in,         args.batch - in, args.step_offsets[step], args.step_offsets[step + 1], 0,
          panel_begin, panel_end};
}

TG_INLINE const float* projected_row(const RecurrentArgs& args, long position) {
  const long row = args.index != nullptr ? args.index[position] : position;
  return args.projected + row * args.projected_stride;
}

// Hides the next step's table rows' way from memory behind this step's arithmetic. One call a
// panel, each for that panel's part of the rows.
TG_INLINE void prefetch_panel(const RecurrentArgs& args, long position, long rows, int panel,
                              int gates) {
  const long end = long(args.positions()) + args.padding_steps;
  for (long n = position; n < position + rows && n < end; ++n) {
    const float* x = projected_row(args, n) + panel * gates * kPanel;
    for (int g = 0; g < gates; ++g) prefetch(x + g * kPanel);
  }
}

// A tile's way out: its sums, and where its first row is.
struct TileEnd {
  const StepAt& at;
  long row;  // of the step
  int rows;
  int unit;
  const float* sums;  // [rows][vectors][kWidth]
};

TG_NOINLINE void gru_after_end(const RecurrentArgs& args, const TileEnd& tile) {
  const int gate = tile.unit / kPanel * kPanel * 3 + tile.unit % kPanel;
  const int channel = tile.unit / kPanel * kPanel * 4 + tile.unit % kPanel;
  const float* sums = tile.sums;
  const long end = tile.row + tile.rows;
  for (long r = tile.row; r < end; ++r, sums += 3 * kWidth) {
    const vec recurrent = load(sums + 2 * kWidth);
    const vec candidate = load(projected_row(args, tile.at.position + r) + gate + 2 * kPanel);
    const vec hidden = load(args.states + (tile.at.in + r) * args.state_stride + tile.unit);
    const GruStep step = gru_after(load(sums), load(sums + kWidth), candidate, recurrent, hidden);
    store(args.states + (tile.at.out + r) * args.state_stride + tile.unit, step.hidden);
    if (args.gates == nullptr) continue;
    float* tape = args.gates + (tile.at.tape + r) * args.gate_stride + channel;
    store(tape, step.update);
    store(tape + kPanel, step.reset);
    store(tape + 2 * kPanel, step.candidate);
    store(tape + 3 * kPanel, recurrent);
  }
}

TG_NOINLINE void gru_before_gates_end(const RecurrentArgs& args, const TileEnd& tile) {
  const int channel = tile.unit / kPanel * kPanel * 3 + tile.unit % kPanel;
  const float* sums = tile.sums;
  const long end = tile.row + tile.rows;
  for (long r = tile.row; r < end; ++r, sums += 2 * kWidth) {
    vec update = load(sums), reset = load(sums + kWidth);
    sigmoid_pair(update, reset);
    float* tape = args.gates + (tile.at.tape + r) * args.gate_stride + channel;
    store(tape, update);
    store(tape + kPanel, reset);
    const long at = (tile.at.in + r) * args.state_stride + tile.unit;
    store(args.cells + at, mul(reset, load(args.states + at)));
  }
}

TG_NOINLINE void gru_before_candidate_end(const RecurrentArgs& args, const TileEnd& tile,
                                          int vectors) {
  const float* sums = tile.sums;
  const long end = tile.row + tile.rows;
  for (long r = tile.row; r < end; ++r) {
    for (int v = 0; v < vectors; ++v, sums += kWidth) {
      const int unit = tile.unit + v * kWidth;
      float* tape = args.gates + (tile.at.tape + r) * args.gate_stride +
                    unit / kPanel * kPanel * 3 + unit % kPanel;
      const vec hidden = load(args.states + (tile.at.in + r) * args.state_stride + unit);
      const vec candidate = tanh(load(sums));
      store(tape + 2 * kPanel, candidate);
      store(args.states + (tile.at.out + r) * args.state_stride + unit,
            fma(load(tape), sub(candidate, hidden), hidden));
    }
  }
}

TG_NOINLINE void lstm_end(const RecurrentArgs& args, const TileEnd& tile) {
  const int channel = tile.unit / kPanel * kPanel * 4 + tile.unit % kPanel;
  const float* sums = tile.sums;
  const long end = tile.row + tile.rows;
  for (long r = tile.row; r < end; ++r, sums += 4 * kWidth) {
    const long from = (tile.at.in + r) * args.state_stride + tile.unit;
    const long to = (tile.at.out + r) * args.state_stride + tile.unit;
    const LstmStep step = lstm(load(sums), load(sums + kWidth), load(sums + 2 * kWidth),
                               load(sums + 3 * kWidth), load(args.cells + from));
    store(args.states + to, step.hidden);
    store(args.cells + to, step.cell);
    if (args.gates == nullptr) continue;
    float* tape = args.gates + (tile.at.tape + r) * args.gate_stride + channel;
    store(tape, step.input);
    store(tape + kPanel, step.forget);
    store(tape + 2 * kPanel, step.candidate);
    store(tape + 3 * kPanel, step.output);
  }
}

TG_NOINLINE void rnn_end(const RecurrentArgs& args, const TileEnd& tile, int vectors) {
  const float* sums = tile.sums;
  const long end = tile.row + tile.rows;
  for (long r = tile.row; r < end; ++r)
    for (int v = 0; v < vectors; ++v, sums += kWidth)
      store(args.states + (tile.at.out + r) * args.state_stride + tile.unit + v * kWidth,
            tanh(load(sums)));
}

// Sums of G gates of the same units: projected inputs (from gate ProjectedGates on the recurrent
// bias) plus states times packed weights; end(tile) takes each tile's.
template <int G, int ProjectedGates, class F>
TG_INLINE void gate_tiles(const RecurrentArgs& args, int projected_gates, const StepAt& at,
                          long rows, F&& end) {
  const int steps = depth_steps(args.hidden);
  const Left left = left_operands(args.states + at.in * args.state_stride, args.state_stride, rows,
                                  args.hidden);
  long offset[G];
  for (int g = 0; g < G; ++g) offset[g] = g * kPanel;
  for (int panel = at.panel_begin; panel < at.panel_end; ++panel) {
    prefetch_panel(args, at.next, rows, panel, projected_gates);
    for (int part = 0; part < kPanel; part += kWidth) {
      const operand* packed =
          packed_operands(args.packed) + long(panel) * steps * G * kPanel + part;
      const int unit = panel * kPanel + part;
#if defined(TIDEGATE_AMX)
      tile_blocks<G>(
          rows, left, packed, G * kPanel, offset, steps,
          [&](long row, int count, float* sums) TG_LAMBDA {
            for (int r = 0; r < count; ++r) {
              const float* x =
                  projected_row(args, at.position + row + r) + panel * projected_gates * kPanel;
              for (int g = 0; g < G; ++g, sums += kPanel)
                store(sums, load(g < ProjectedGates ? x + g * kPanel : args.recurrent_bias + unit));
            }
          },
          [&](long row, int count, const float* sums) TG_LAMBDA {
            end(TileEnd{at, row, count, unit, sums});
          });
#else
      for_row_blocks<tile_rows<G>()>(rows, [&](auto height, long row) TG_LAMBDA {
        constexpr int R = decltype(height)::value;
        vec tile[R][G];
        TG_UNROLL for (int r = 0; r < R; ++r) {
          const float* x =
              projected_row(args, at.position + row + r) + panel * projected_gates * kPanel + part;
          TG_UNROLL for (int g = 0; g < G; ++g)
            tile[r][g] =
                g < ProjectedGates ? load(x + g * kPanel) : load(args.recurrent_bias + unit);
        }
        multiply<R, G>(tile, left.rows + row * left.stride, left.stride, packed, G * kPanel, offset,
                       steps);
        float sums[kMaxTile];
        put_tile(tile, sums);
        end(TileEnd{at, row, R, unit, sums});
      });
#endif
    }
  }
}

// The same for a single gate, whose tiles take vectors of several panels together.
template <int V, class F>
TG_INLINE void single_gate_tiles(const RecurrentArgs& args, const Left& left, const float* packed,
                                 int gate, int projected_gates, const StepAt& at, long rows,
                                 int vector, F&& end) {
  const int steps = depth_steps(args.hidden);
  long weight[V], input[V];
  for (int v = 0; v < V; ++v) {
    const int panel = (vector + v) / kPartsPerPanel;
    const int part = (vector + v) % kPartsPerPanel * kWidth;
    weight[v] = long(panel) * steps * kPanel + part;
    input[v] = long(panel * projected_gates + gate) * kPanel + part;
  }
#if defined(TIDEGATE_AMX)
  tile_blocks<V>(
      rows, left, packed_operands(packed), kPanel, weight, steps,
      [&](long row, int count, float* sums) TG_LAMBDA {
        for (int r = 0; r < count; ++r) {
          const float* x = projected_row(args, at.position + row + r);
          for (int v = 0; v < V; ++v, sums += kPanel) store(sums, load(x + input[v]));
        }
      },
      [&](long row, int count, const float* sums) TG_LAMBDA {
        end(TileEnd{at, row, count, vector * kWidth, sums}, V);
      });
#else
  for_row_blocks<tile_rows<V>()>(rows, [&](auto height, long row) TG_LAMBDA {
    constexpr int R = decltype(height)::value;
    vec tile[R][V];
    TG_UNROLL for (int r = 0; r < R; ++r) {
      const float* x = projected_row(args, at.position + row + r);
      TG_UNROLL for (int v = 0; v < V; ++v) tile[r][v] = load(x + input[v]);
    }
    multiply<R, V>(tile, left.rows + row * left.stride, left.stride, packed_operands(packed), kPanel,
                   weight, steps);
    float sums[kMaxTile];
    put_tile(tile, sums);
    end(TileEnd{at, row, R, vector * kWidth, sums}, V);
  });
#endif
}

template <class F>
TG_INLINE void all_single_gate_tiles(const RecurrentArgs& args, const float* states,
                                     const float* packed, int gate, int projected_gates,
                                     const StepAt& at, long rows, F&& end) {
  const Left left = left_operands(states + at.in * args.state_stride, args.state_stride, rows,
                                  args.hidden);
  const int vectors = at.panel_end * kPartsPerPanel;
  int vector = at.panel_begin * kPartsPerPanel;
  for (; vector + kSingleVectors <= vectors; vector += kSingleVectors)
    single_gate_tiles<kSingleVectors>(args, left, packed, gate, projected_gates, at, rows,
                                      vector, end);
  if (vectors - vector == 2)
    single_gate_tiles<2>(args, left, packed, gate, projected_gates, at, rows, vector, end);
  if (vectors - vector == 1)
    single_gate_tiles<1>(args, left, packed, gate, projected_gates, at, rows, vector, end);
}

void gru_after_forward_step(const RecurrentArgs& args, const StepAt& at, long rows) {
  gate_tiles<3, 2>(args, 3, at, rows,
                   [&](const TileEnd& tile) TG_LAMBDA { gru_after_end(args, tile); });
}

// In two phases, because the candidate's product needs the reset states of all units.
void gru_before_gates_step(const RecurrentArgs& args, const StepAt& at, long rows) {
  gate_tiles<2, 2>(args, 3, at, rows,
                   [&](const TileEnd& tile) TG_LAMBDA { gru_before_gates_end(args, tile); });
}

void gru_before_candidate_step(const RecurrentArgs& args, const StepAt& at, long rows) {
  all_single_gate_tiles(args, args.cells, args.packed_candidate, 2, 3, at, rows,
                        [&](const TileEnd& tile, int vectors) TG_LAMBDA {
                          gru_before_candidate_end(args, tile, vectors);
                        });
}

void lstm_forward_step(const RecurrentArgs& args, const StepAt& at, long rows) {
  gate_tiles<4, 4>(args, 4, at, rows,
                   [&](const TileEnd& tile) TG_LAMBDA { lstm_end(args, tile); });
}

void rnn_forward_step(const RecurrentArgs& args, const StepAt& at, long rows) {
  for (int panel = at.panel_begin; panel < at.panel_end; ++panel)
    prefetch_panel(args, at.next, rows, panel, 1);
  all_single_gate_tiles(
      args, args.states, args.packed, 0, 1, at, rows,
      [&](const TileEnd& tile, int vectors) TG_LAMBDA { rnn_end(args, tile, vectors); });
}

// --- backward: d and d_cell are the first row's gradients, of the outputs on entry and of the
// states before the step on return; the tape's channels become their own gradients.

// d (+)= the gates' gradients of the step times the transposed recurrent weights.
TG_INLINE void recurrent_product(const RecurrentArgs& args, const float* packed, float* d,
                                 bool accumulate, long in, long rows, int gate_count,
                                 const int (&channels)[kMaxGates], int channel_count) {
  InputGradientArgs product;
  product.gates = args.gates + in * args.gate_stride;
  product.gate_stride = args.gate_stride;
  product.panel_stride = channel_count * kPanel;
  for (int g = 0; g < kMaxGates; ++g) product.channels[g] = channels[g];
  product.gate_count = gate_count;
  product.units = args.hidden;
  product.depth = padded(args.hidden);  // whole vectors: the states' rows are padded
  product.packed = packed;
  product.output = d;
  product.output_stride = args.state_stride;
  product.accumulate = accumulate;
  input_gradient(product, 0, rows);
}

TG_INLINE void gru_after_backward_step(const RecurrentArgs& args, long in, long, long rows,
                                       float* d, float*) {
  const int panels = panel_count(args.hidden);
  for (long r = 0; r < rows; ++r) {
    float* tape = args.gates + (in + r) * args.gate_stride;
    const float* states = args.states + (in + r) * args.state_stride;
    float* d_row = d + r * args.state_stride;
    for (int panel = 0; panel < panels; ++panel, tape += 4 * kPanel) {
      TG_UNROLL for (int part = 0; part < kPanel; part += kWidth) {
        const int unit = panel * kPanel + part;
        const vec reset = load(tape + part + kPanel);
        const vec recurrent = load(tape + part + 3 * kPanel);
        const GruGradient g = gru_backward(load(d_row + unit), load(tape + part),
                                           load(tape + part + 2 * kPanel), load(states + unit));
        const vec d_recurrent = mul(g.candidate, reset);
        store(tape + part, g.update);
        store(tape + part + kPanel,
              mul(mul(g.candidate, recurrent), sigmoid_slope(reset)));
        store(tape + part + 2 * kPanel, g.candidate);
        store(tape + part + 3 * kPanel, d_recurrent);
        store(d_row + unit, g.hidden);
      }
    }
  }
  const CellLayout& layout = kLayouts[kGruAfter];
  recurrent_product(args, args.packed_back, d, true, in, rows, 3, layout.recurrent_channels, 4);
}

TG_INLINE void gru_before_backward_step(const RecurrentArgs& args, long in, long, long rows,
                                        float* d, float* d_reset_hidden) {
  const int panels = panel_count(args.hidden);
  for (long r = 0; r < rows; ++r) {
    float* tape = args.gates + (in + r) * args.gate_stride;
    const float* states = args.states + (in + r) * args.state_stride;
    float* d_row = d + r * args.state_stride;
    for (int panel = 0; panel < panels; ++panel, tape += 3 * kPanel) {
      TG_UNROLL for (int part = 0; part < kPanel; part += kWidth) {
        const int unit = panel * kPanel + part;
        const GruGradient g = gru_backward(load(d_row + unit), load(tape + part),
                                           load(tape + part + 2 * kPanel), load(states + unit));
        store(tape + part, g.update);
        store(tape + part + 2 * kPanel, g.candidate);
        store(d_row + unit, g.hidden);
      }
    }
  }
  const int candidate[kMaxGates] = {2, 0, 0, 0};
  recurrent_product(args, args.packed_candidate_back, d_reset_hidden, false, in, rows, 1,
                    candidate, 3);
  for (long r = 0; r < rows; ++r) {
    float* tape = args.gates + (in + r) * args.gate_stride + kPanel;
    const float* states = args.states + (in + r) * args.state_stride;
    float* d_row = d + r * args.state_stride;
    const float* d_product = d_reset_hidden + r * args.state_stride;
    for (int panel = 0; panel < panels; ++panel, tape += 3 * kPanel) {
      TG_UNROLL for (int part = 0; part < kPanel; part += kWidth) {
        const int unit = panel * kPanel + part;
        const vec reset = load(tape + part);
        const vec d_here = load(d_product + unit);
        store(tape + part, mul(mul(d_here, load(states + unit)), sigmoid_slope(reset)));
        store(d_row + unit, fma(d_here, reset, load(d_row + unit)));
      }
    }
  }
  const int gates[kMaxGates] = {0, 1, 0, 0};
  recurrent_product(args, args.packed_back, d, true, in, rows, 2, gates, 3);
}

TG_INLINE void lstm_backward_step(const RecurrentArgs& args, long in, long out, long rows,
                                  float* d, float* d_cell) {
  const int panels = panel_count(args.hidden);
  for (long r = 0; r < rows; ++r) {
    float* tape = args.gates + (in + r) * args.gate_stride;
    const float* before = args.cells + (in + r) * args.state_stride;
    const float* after = args.cells + (out + r) * args.state_stride;
    for (int panel = 0; panel < panels; ++panel, tape += 4 * kPanel) {
      TG_UNROLL for (int part = 0; part < kPanel; part += kWidth) {
        const int unit = panel * kPanel + part;
        float* d_cell_unit = d_cell + r * args.state_stride + unit;
        const LstmGradient g = lstm_backward(
            load(d + r * args.state_stride + unit), load(d_cell_unit), load(tape + part),
            load(tape + part + kPanel), load(tape + part + 2 * kPanel),
            load(tape + part + 3 * kPanel), load(before + unit), load(after + unit));
        store(tape + part, g.input);
        store(tape + part + kPanel, g.forget);
        store(tape + part + 2 * kPanel, g.candidate);
        store(tape + part + 3 * kPanel, g.output);
        store(d_cell_unit, g.cell);
      }
    }
  }
  recurrent_product(args, args.packed_back, d, false, in, rows, 4,
                    kLayouts[kLstm].recurrent_channels, 4);
}

TG_INLINE void rnn_backward_step(const RecurrentArgs& args, long in, long out, long rows, float* d,
                                 float*) {
  for (long r = 0; r < rows; ++r) {
    float* tape = args.gates + (in + r) * args.gate_stride;
    const float* outputs = args.states + (out + r) * args.state_stride;
    const float* d_row = d + r * args.state_stride;
    for (int unit = 0; unit < padded(args.hidden); unit += kWidth)
      store(tape + unit, mul(load(d_row + unit), tanh_slope(load(outputs + unit))));
  }
  recurrent_product(args, args.packed_back, d, false, in, rows, 1,
                    kLayouts[kRnn].recurrent_channels, 1);
}

template <int C>
TG_INLINE void forward_step(const RecurrentArgs& args, const StepAt& at, long rows) {
  if constexpr (C == kGruAfter) gru_after_forward_step(args, at, rows);
  if constexpr (C == kGruBefore) {
    gru_before_gates_step(args, at, rows);
    gru_before_candidate_step(args, at, rows);
  }
  if constexpr (C == kLstm) lstm_forward_step(args, at, rows);
  if constexpr (C == kRnn) rnn_forward_step(args, at, rows);
}

template <int C>
TG_INLINE void backward_step(const RecurrentArgs& args, long in, long out, long rows, int d_row) {
  float* d = args.d_states + d_row * args.state_stride;
  float* d_cell = args.d_cells != nullptr ? args.d_cells + d_row * args.state_stride : nullptr;
  if (args.d_outputs != nullptr) {
    for (long r = 0; r < rows; ++r) {
      const float* given = args.d_outputs + (in + r) * args.hidden;
      float* row = d + r * args.state_stride;
      for (int unit = 0; unit < args.hidden; unit += kWidth)
        store(row + unit, add(load(row + unit), load_part(given + unit, args.hidden - unit)));
    }
  }
  if constexpr (C == kGruAfter) gru_after_backward_step(args, in, out, rows, d, d_cell);
  if constexpr (C == kGruBefore) gru_before_backward_step(args, in, out, rows, d, d_cell);
  if constexpr (C == kLstm) lstm_backward_step(args, in, out, rows, d, d_cell);
  if constexpr (C == kRnn) rnn_backward_step(args, in, out, rows, d, d_cell);
}

// row = the caller's row, or zeros; lanes behind the last unit are zeroed.
TG_INLINE void set_row(float* row, const float* source, int hidden) {
  for (int unit = 0; unit < padded(hidden); unit += kWidth)
    store(row + unit, source != nullptr ? load_part(source + unit, hidden - unit) : zero());
}

template <int C>
void forward_padding(const RecurrentArgs& args) {
  set_row(args.states + args.padding_row(0) * args.state_stride, nullptr, args.hidden);
  if constexpr (C == kLstm)
    set_row(args.cells + args.padding_row(0) * args.state_stride, nullptr, args.hidden);
  for (int step = 0; step < args.padding_steps; ++step)
    forward_step<C>(args, training_step(args, args.padding_row(step), args.padding_row(step + 1)), 1);
}

// The state that row `row` starts from when it joins before `step`.
template <int C>
TG_INLINE void join_row(const RecurrentArgs& args, int step, int row) {
  const long to = (args.text_row(step) + row) * args.state_stride;
  const long from = args.padding_row(step) * args.state_stride;
  const float* state = args.padding_steps > 0 ? args.states + from
                       : args.initial != nullptr ? args.initial + long(row) * args.hidden
                                                 : nullptr;
  set_row(args.states + to, state, args.hidden);
  if constexpr (C == kLstm) {
    const float* cell = args.padding_steps > 0 ? args.cells + from
                        : args.initial_cell != nullptr
                            ? args.initial_cell + long(row) * args.hidden
                            : nullptr;
    set_row(args.cells + to, cell, args.hidden);
  }
}

template <int C>
void forward_rows(const RecurrentArgs& args, int row_begin, int row_end) {
  int active = row_begin;
  for (int step = 0; step <= args.steps; ++step) {
    const int now = args.active(step) < row_end ? args.active(step) : row_end;
    for (; active < now; ++active) join_row<C>(args, step, active);
    if (step < args.steps && active > row_begin)
      forward_step<C>(
          args,
          training_step(args, args.text_row(step) + row_begin, args.text_row(step + 1) + row_begin),
          active - row_begin);
  }
}

// Scoring keeps nothing: the states are two blocks of `batch` rows, of which each step reads one and
// writes the other; the last one written holds the result. A row's place before it joins is written
// by no step, so all rows' first states are set at the beginning.
template <int C>
void score_begin(const RecurrentArgs& args) {
  int active = 0;
  for (int step = 0; step <= args.steps; ++step) {
    for (const int now = args.active(step); active < now; ++active) {
      const long to = (step % 2 * args.batch + active) * args.state_stride;
      const long from = step * args.state_stride;
      set_row(args.states + to, args.start != nullptr ? args.start + from : nullptr, args.hidden);
      if constexpr (C == kLstm)
        set_row(args.cells + to, args.start_cell != nullptr ? args.start_cell + from : nullptr,
                args.hidden);
    }
  }
}

template <int C>
void score_rows(const RecurrentArgs& args) {
  score_begin<C>(args);
  for (int step = 0; step < args.steps; ++step)
    forward_step<C>(args, scoring_step(args, step, 0, panel_count(args.hidden)),
                    args.active(step));
}

// One phase of a step, for some of the units.
template <int C>
void score_panels(const RecurrentArgs& args, int step, int phase, int panel_begin, int panel_end) {
  const StepAt at = scoring_step(args, step, panel_begin, panel_end);
  if constexpr (C == kGruBefore) {
    if (phase == 0)
      gru_before_gates_step(args, at, args.active(step));
    else
      gru_before_candidate_step(args, at, args.active(step));
  } else {
    (void)phase;
    forward_step<C>(args, at, args.active(step));
  }
}

template <int C>
void backward_rows(const RecurrentArgs& args, int row_begin, int row_end) {
  for (int step = args.steps - 1; step >= 0; --step) {
    const int active = args.active(step) < row_end ? args.active(step) : row_end;
    if (active <= row_begin) break;
    backward_step<C>(args, args.text_row(step) + row_begin, args.text_row(step + 1) + row_begin,
                     active - row_begin, row_begin);
  }
}

template <int C>
void backward_padding(const RecurrentArgs& args) {
  float* d = args.d_states + args.batch * args.state_stride;
  set_row(d, nullptr, args.hidden);
  float* d_cell = nullptr;
  if constexpr (C == kLstm) {
    d_cell = args.d_cells + args.batch * args.state_stride;
    set_row(d_cell, nullptr, args.hidden);
  }
  for (int step = args.padding_steps - 1; step >= 0; --step) {
    // The rows that branched off after this step hand their gradient back.
    for (int row = args.active(step); row < args.active(step + 1); ++row) {
      const long source = row * args.state_stride;
      for (int unit = 0; unit < padded(args.hidden); unit += kWidth) {
        store(d + unit, add(load(d + unit), load(args.d_states + source + unit)));
        if constexpr (C == kLstm)
          store(d_cell + unit, add(load(d_cell + unit), load(args.d_cells + source + unit)));
      }
    }
    backward_step<C>(args, args.padding_row(step), args.padding_row(step + 1), 1, args.batch);
  }
}

}  // namespace
}  // namespace tidegate
