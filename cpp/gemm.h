// The matrix products: one micro-kernel, and the loops that feed it.
//
// A tile keeps R rows x V vectors of the result in registers over the whole depth. Each element
// is one chain of fused multiply-adds in the order of the depth, whatever tile it falls into, so
// results do not depend on how rows are shared out.
#pragma once

#include "operands.h"
#if defined(TIDEGATE_AMX)
#include "amx.h"
#endif
#include "vector_math.h"

namespace tidegate {
namespace {

template <int N>
struct Int {
  static constexpr int value = N;
};

// Rows of a tile that leave room in the register file for V operands and a broadcast.
template <int V>
constexpr int tile_rows() {
#if defined(TIDEGATE_ISA_AVX512) || defined(TIDEGATE_ISA_NEON)
  return V == 4 ? 6 : 8;
#elif defined(TIDEGATE_ISA_AVX2)
  return V == 4 ? 2 : V == 3 ? 4 : V == 2 ? 6 : 8;
#else
  return 4;
#endif
}

constexpr int kPartsPerPanel = kPanel / kWidth;

template <int Max, class F>
TG_INLINE void dispatch_rows(int rows, F&& body) {
  if constexpr (Max == 1) {
    body(Int<1>{});
  } else {
    if (rows == Max) {
      body(Int<Max>{});
    } else {
      dispatch_rows<Max - 1>(rows, body);
    }
  }
}

// Calls body(Int<R>, first row) for blocks of nearly equal height: 25 rows are 7, 6, 6 and 6.
template <int Max, class F>
TG_INLINE void for_row_blocks(long rows, F&& body) {
  const long blocks = (rows + Max - 1) / Max;
  long row = 0;
  for (long left = blocks; left > 0; --left) {
    const int take = static_cast<int>((rows - row + left - 1) / left);
    dispatch_rows<Max>(take, [&](auto height) TG_LAMBDA { body(height, row); });
    row += take;
  }
}

// A tile on its way to or from code that must not share the product's registers: whatever is
// constant there (a polynomial's coefficients) the compiler would keep in registers across the
// product's loop too, and put the tile itself on the stack.
template <int R, int V>
TG_INLINE void put_tile(const vec (&tile)[R][V], float* sums) {
  TG_UNROLL for (int r = 0; r < R; ++r)
    TG_UNROLL for (int v = 0; v < V; ++v) store(sums + (r * V + v) * kWidth, tile[r][v]);
}

template <int R, int V>
TG_INLINE void get_tile(vec (&tile)[R][V], const float* sums) {
  TG_UNROLL for (int r = 0; r < R; ++r)
    TG_UNROLL for (int v = 0; v < V; ++v) tile[r][v] = load(sums + (r * V + v) * kWidth);
}

constexpr int kMaxTile = 8 * 4 * kWidth;  // floats of the largest tile

// Copies between a tile's sums and rows of an array whose vectors may be cut short at the edge.
template <bool ToArray>
TG_NOINLINE void copy_edge(float* array, long row_stride, const long* column, const long* count,
                           float* sums, int rows, int vectors) {
  for (int r = 0; r < rows; ++r) {
    for (int v = 0; v < vectors; ++v, sums += kWidth) {
      float* part = array + r * row_stride + column[v];
      if constexpr (ToArray)
        store_part(part, load(sums), count[v]);
      else
        store(sums, count[v] > 0 ? load_part(part, count[v]) : zero());
    }
  }
}

TG_INLINE void clear_sums(float* sums, int rows, int vectors) {
  for (int i = 0; i < rows * vectors; ++i) store(sums + i * kWidth, zero());
}

#if !defined(TIDEGATE_AMX)
// tile[r][v] += sum over k of a[r * row_stride + k] * b[k * depth_stride + offset[v] + lanes], k
// being a step of the depth: a number, or a pair of them.
template <int R, int V>
TG_INLINE void multiply(vec (&tile)[R][V], const operand* a, long row_stride, const operand* b,
                        long depth_stride, const long (&offset)[V], int steps) {
  // Three rows to a base: an address is a base plus 0, 1 or 2 strides, so that eight rows need
  // four registers and not eight.
  const operand* base[3] = {a, a + 3 * row_stride, a + 6 * row_stride};
#pragma GCC unroll 2
  for (int k = 0; k < steps; ++k) {
    operands column[V];
    TG_UNROLL for (int v = 0; v < V; ++v) column[v] = load_operands(b + offset[v]);
    b += depth_stride;
    TG_UNROLL for (int r = 0; r < R; ++r) {
      const operands x = broadcast_operand(base[r / 3][r % 3 * row_stride + k]);
      TG_UNROLL for (int v = 0; v < V; ++v) tile[r][v] = multiply_add(x, column[v], tile[r][v]);
    }
  }
}

// The same where the left operand is transposed: tile[r][v] += sum over n of
// a[n * a_stride + r] * b[n * b_stride + offset[v] + lanes]
template <int R, int V>
TG_INLINE void multiply_transposed(vec (&tile)[R][V], const operand* a, long a_stride,
                                   const operand* b, long b_stride, const long (&offset)[V],
                                   long steps) {
#pragma GCC unroll 2
  for (long n = 0; n < steps; ++n) {
    operands column[V];
    TG_UNROLL for (int v = 0; v < V; ++v) column[v] = load_operands(b + offset[v]);
    TG_UNROLL for (int r = 0; r < R; ++r) {
      const operands x = broadcast_operand(a[r]);
      TG_UNROLL for (int v = 0; v < V; ++v) tile[r][v] = multiply_add(x, column[v], tile[r][v]);
    }
    a += a_stride;
    b += b_stride;
  }
}
#endif

size_t forward_size(int depth, int units, int gates) {
  return size_t(panel_count(units)) * depth_steps(depth) * gates * kPanel;
}

size_t backward_size(int depth, int units, int gates) {
  return size_t(panel_count(depth)) * gate_steps(units, gates) * kPanel;
}

void pack_forward(const PackArgs& args, int panel_begin, int panel_end) {
  const long width = long(args.gates_total) * args.units;
  for (int panel = panel_begin; panel < panel_end; ++panel) {
    const long count = args.units - panel * kPanel;  // units left, may exceed the panel
    operand* out = packed_operands(args.packed) +
                   long(panel) * depth_steps(args.depth) * args.gate_count * kPanel;
    for (int step = 0; step < depth_steps(args.depth); ++step) {
      const int k = step_depth(step);
      const Part which = kRightParts[step_term(step)];
      const bool there = k < args.depth, paired = kTogether == 2 && k + 1 < args.depth;
      for (int g = 0; g < args.gate_count; ++g) {
        const float* row =
            args.weights + k * width + long(args.gate_begin + g) * args.units + panel * kPanel;
        for (int part = 0; part < kPanel; part += kWidth) {
          const vec first = there ? load_part(row + part, count - part) : zero();
          const vec second = paired ? load_part(row + width + part, count - part) : zero();
          store_operands(out + part,
                         make_operands(part_of(which, first), part_of(which, second)));
        }
        out += kPanel;
      }
    }
  }
}

void pack_backward(const PackArgs& args, int panel_begin, int panel_end) {
  const long width = long(args.gates_total) * args.units;
  const int panels = panel_count(args.units);
  for (int depth_panel = panel_begin; depth_panel < panel_end; ++depth_panel) {
    const long stride = long(gate_steps(args.units, args.gate_count)) * kPanel;
    operand* out = packed_operands(args.packed) + depth_panel * stride;
    clear_steps(out, panels * args.gate_count * kPanelSteps * kPanel, static_cast<int>(stride));
    for (int panel = 0; panel < panels; ++panel) {
      for (int g = 0; g < args.gate_count; ++g) {
        for (int column = 0; column < kPanel; ++column) {
          const int k = depth_panel * kPanel + column;
          const float* row =
              args.weights + k * width + long(args.gate_begin + g) * args.units + panel * kPanel;
          const int units = k < args.depth ? args.units - panel * kPanel : 0;
          for (int step = 0; step < kPanelSteps; ++step) {
            const int unit = step_depth(step);
            const Part which = kRightParts[step_term(step)];
            const bool paired = kTogether == 2 && unit + 1 < units;
            out[step * kPanel + column] =
                make_operand(unit < units ? part_of(which, row[unit]) : 0.0f,
                             paired ? part_of(which, row[unit + 1]) : 0.0f);
          }
        }
        out += kPanelSteps * kPanel;
      }
    }
  }
}

// Rows whose operands are kept in the first-level cache while a panel passes over them.
constexpr long kRowBlock = 32;

template <int G>
void project_rows(const ProjectArgs& args, long row_begin, long row_end) {
  const int panels = panel_count(args.units), steps = depth_steps(args.depth);
  long offset[G];
  for (int g = 0; g < G; ++g) offset[g] = g * kPanel;
  for (long block = row_begin; block < row_end; block += kRowBlock) {
    const long rows = block + kRowBlock < row_end ? kRowBlock : row_end - block;
    const Left left = left_operands(args.inputs + block * args.input_stride, args.input_stride,
                                    rows, args.depth);
    for (int panel = 0; panel < panels; ++panel) {
      for (int part = 0; part < kPanel; part += kWidth) {
        const operand* packed = packed_operands(args.packed) + long(panel) * steps * G * kPanel + part;
        const float* bias = args.bias + panel * G * kPanel + part;
#if defined(TIDEGATE_AMX)
        tile_blocks<G>(
            rows, left, packed, G * kPanel, offset, steps,
            [&](long, int count, float* sums) TG_LAMBDA {
              for (int r = 0; r < count; ++r)
                for (int g = 0; g < G; ++g, sums += kPanel) store(sums, load(bias + g * kPanel));
            },
            [&](long row, int count, const float* sums) TG_LAMBDA {
              float* out = args.output + (block + row) * args.output_stride + panel * G * kPanel;
              for (int r = 0; r < count; ++r, out += args.output_stride)
                for (int g = 0; g < G; ++g, sums += kPanel) store(out + g * kPanel, load(sums));
            });
#else
        for_row_blocks<tile_rows<G>()>(rows, [&](auto height, long row) TG_LAMBDA {
          constexpr int R = decltype(height)::value;
          vec tile[R][G];
          TG_UNROLL for (int r = 0; r < R; ++r)
            TG_UNROLL for (int g = 0; g < G; ++g) tile[r][g] = load(bias + g * kPanel);
          multiply<R, G>(tile, left.rows + row * left.stride, left.stride, packed, G * kPanel,
                         offset, steps);
          float* out = args.output + (block + row) * args.output_stride + panel * G * kPanel + part;
          TG_UNROLL for (int r = 0; r < R; ++r)
            TG_UNROLL for (int g = 0; g < G; ++g)
              store(out + r * args.output_stride + g * kPanel, tile[r][g]);
        });
#endif
      }
    }
  }
}

void project(const ProjectArgs& args, long row_begin, long row_end) {
  switch (args.gates) {
    case 1: return project_rows<1>(args, row_begin, row_end);
    case 3: return project_rows<3>(args, row_begin, row_end);
    default: return project_rows<4>(args, row_begin, row_end);
  }
}

// Vectors of the result in a tile of the products below.
constexpr int kBackVectors = 2;

// The gates' gradients of some rows as a left side: panel by panel, channel by channel.
struct GateOperands {
  const operand* rows;
  long stride, panel_stride;
  int channels[kMaxGates];  // where each begins in a panel
};

template <int G>
TG_INLINE GateOperands gate_operands(const InputGradientArgs& args, long row_begin, long count) {
  GateOperands gates;
  const float* rows = args.gates + row_begin * args.gate_stride;
  if constexpr (!kRounds) {
    gates.rows = packed_operands(rows);
    gates.stride = args.gate_stride;
    gates.panel_stride = args.panel_stride;
    for (int g = 0; g < G; ++g) gates.channels[g] = args.channels[g] * kPanel;
  } else {
    const int panels = panel_count(args.units), steps = gate_steps(args.units, G);
    gates.panel_stride = G * kPanelSteps;
    gates.stride = steps + kLinePad;
    for (int g = 0; g < G; ++g) gates.channels[g] = g * kPanelSteps;
    operand* own = packed_operands(operand_scratch(0, size_t(whole_tiles(count)) * gates.stride));
    for (long r = 0; r < count; ++r) {
      clear_steps(own + r * gates.stride, panels * G * kPanelSteps, steps);
      for (int panel = 0; panel < panels; ++panel)
        for (int g = 0; g < G; ++g)
          round_panel(
              rows + r * args.gate_stride + panel * args.panel_stride + args.channels[g] * kPanel,
              own + r * gates.stride + panel * gates.panel_stride + gates.channels[g]);
    }
    gates.rows = own;
  }
  return gates;
}

// output[row, depth] (+)= sum over panels and gates of gates[row] * packed, by tiles of
// kBackVectors vectors of the depth. The sum is cut into blocks of panels whose weights fit the
// first-level cache beside the rows; partial sums pass through `output` exactly.
//
// Whole: every vector of the depth is full, so that no element needs care at the edge.
template <int G, bool Whole>
void gates_times_weights(const InputGradientArgs& args, const GateOperands& gates, long row_begin,
                         long row_end) {
  const int panels = panel_count(args.units);
  const int panels_per_block = kInTiles ? panels : G >= 3 ? 2 : 4;
  const int vectors = panel_count(args.depth) * kPartsPerPanel;
  const operand* packed = packed_operands(args.packed);
  const int steps = gate_steps(args.units, G);
  const long depth_panel_stride = long(steps) * kPanel;
  for (int first = 0; first < panels; first += panels_per_block) {
    [[maybe_unused]] const int last =
        first + panels_per_block < panels ? first + panels_per_block : panels;
    const bool load_output = args.accumulate || first > 0;
    for (int vector = 0; vector < vectors; vector += kBackVectors) {
      long offset[kBackVectors];
      long column[kBackVectors];
      long count[kBackVectors];
      for (int v = 0; v < kBackVectors; ++v) {
        // A tile past the end computes its last vector twice and stores it once.
        const int j = vector + v < vectors ? vector + v : vectors - 1;
        offset[v] = j / kPartsPerPanel * depth_panel_stride + j % kPartsPerPanel * kWidth;
        column[v] = long(v) * kWidth;
        count[v] = vector + v < vectors ? args.depth - long(j) * kWidth : 0;
      }
#if defined(TIDEGATE_AMX)
      constexpr int V = kBackVectors;
      float* out = args.output + row_begin * args.output_stride + long(vector) * kWidth;
      const long stride = args.output_stride;
      tile_blocks<V>(
          row_end - row_begin, Left{gates.rows, gates.stride}, packed, kPanel, offset, steps,
          [&](long row, int rows, float* sums) TG_LAMBDA {
            if (load_output)
              copy_edge<false>(out + row * stride, stride, column, count, sums, rows, V);
            else
              clear_sums(sums, rows, V);
          },
          [&](long row, int rows, float* sums) TG_LAMBDA {
            copy_edge<true>(out + row * stride, stride, column, count, sums, rows, V);
          });
#else
      for_row_blocks<tile_rows<kBackVectors>()>(
          row_end - row_begin, [&](auto height, long row) TG_LAMBDA {
            constexpr int R = decltype(height)::value;
            float* out = args.output + (row_begin + row) * args.output_stride + long(vector) * kWidth;
            const operand* a = gates.rows + row * gates.stride;
            vec tile[R][kBackVectors];
            float sums[kMaxTile];
            if (!load_output) {
              TG_UNROLL for (int r = 0; r < R; ++r)
                TG_UNROLL for (int v = 0; v < kBackVectors; ++v) tile[r][v] = zero();
            } else if constexpr (Whole) {
              TG_UNROLL for (int r = 0; r < R; ++r) TG_UNROLL for (int v = 0; v < kBackVectors; ++v)
                  tile[r][v] = load(out + r * args.output_stride + v * kWidth);
            } else {
              copy_edge<false>(out, args.output_stride, column, count, sums, R, kBackVectors);
              get_tile(tile, sums);
            }
            for (int panel = first; panel < last; ++panel) {
              TG_UNROLL for (int g = 0; g < G; ++g)
                multiply<R, kBackVectors>(tile, a + panel * gates.panel_stride + gates.channels[g],
                                          gates.stride,
                                          packed + long(panel * G + g) * kPanelSteps * kPanel,
                                          kPanel, offset, kPanelSteps);
            }
            if constexpr (Whole) {
              TG_UNROLL for (int r = 0; r < R; ++r) TG_UNROLL for (int v = 0; v < kBackVectors; ++v)
                  store(out + r * args.output_stride + v * kWidth, tile[r][v]);
            } else {
              put_tile(tile, sums);
              copy_edge<true>(out, args.output_stride, column, count, sums, R, kBackVectors);
            }
          });
#endif
    }
  }
}

template <int G>
void input_gradient_of(const InputGradientArgs& args, long row_begin, long row_end) {
  const bool whole = args.depth % kPanel == 0 && args.depth % (kBackVectors * kWidth) == 0;
  for (long block = row_begin; block < row_end; block += kRowBlock) {
    const long end = block + kRowBlock < row_end ? block + kRowBlock : row_end;
    const GateOperands gates = gate_operands<G>(args, block, end - block);
    if (whole)
      gates_times_weights<G, true>(args, gates, block, end);
    else
      gates_times_weights<G, false>(args, gates, block, end);
  }
}

void input_gradient(const InputGradientArgs& args, long row_begin, long row_end) {
  switch (args.gate_count) {
    case 1: return input_gradient_of<1>(args, row_begin, row_end);
    case 2: return input_gradient_of<2>(args, row_begin, row_end);
    case 3: return input_gradient_of<3>(args, row_begin, row_end);
    default: return input_gradient_of<4>(args, row_begin, row_end);
  }
}

// Rows whose gate gradients stay in cache while all of the depth passes over them.
constexpr long kGradientBlock = kTerms > 1 ? 64 : 128;
constexpr int kGradientVectors = 3;

// Whole: the units fill their panels, so that no element needs care at the edge.
template <int V, bool Whole>
TG_INLINE void weight_gradient_columns(const WeightGradientArgs& args, const Left& left, int vector,
                                       long row, long rows, int depth_begin, int depth_end) {
  const long width = long(args.gates_total) * args.units;
  long offset[V];  // in a row of gates
  long column[V];  // in a row of d_weights
  long count[V];
  for (int v = 0; v < V; ++v) {
    const int part = (vector + v) % kPartsPerPanel;
    const int gate = (vector + v) / kPartsPerPanel % args.gate_count;
    const int panel = (vector + v) / kPartsPerPanel / args.gate_count;
    const long unit = panel * kPanel + part * kWidth;
    offset[v] = long(panel) * args.panel_stride + args.channels[gate] * kPanel + part * kWidth;
    column[v] = long(args.gate_begin + gate) * args.units + unit;
    count[v] = unit < args.units ? args.units - unit : 0;
  }
  const float* gates = args.gates + row * args.gate_stride;
  const operand* right = packed_operands(gates);
  long right_stride = args.gate_stride;
  long right_offset[V];
  for (int v = 0; v < V; ++v) right_offset[v] = kRounds ? v * kWidth : offset[v];
  if constexpr (kRounds) {
    operand* own = packed_operands(operand_scratch(1, size_t(row_steps(rows)) * V * kWidth));
    right = own;
    right_stride = V * kWidth;
    for (long n = 0; n < rows; n += kTogether) {
      const float* first = gates + n * args.gate_stride;
      const bool paired = kTogether == 2 && n + 1 < rows;
      TG_UNROLL for (int term = 0; term < kTerms; ++term) {
        const Part which = kRightParts[term];
        for (int v = 0; v < V; ++v, own += kWidth)
          store_operands(
              own, make_operands(part_of(which, load(first + offset[v])),
                                 paired ? part_of(which, load(first + args.gate_stride + offset[v]))
                                        : zero()));
      }
    }
    for (; own < right + row_steps(rows) * right_stride; own += kWidth)
      store_operands(own, make_operands(zero(), zero()));
  }
#if defined(TIDEGATE_AMX)
  tile_blocks<V>(
      depth_end - depth_begin, left, right, right_stride, right_offset,
      static_cast<int>(row_steps(rows)),
      [&](long first, int height, float* sums) TG_LAMBDA {
        float* out = args.d_weights + (depth_begin + first) * width;
        if (row == 0)
          clear_sums(sums, height, V);
        else
          copy_edge<false>(out, width, column, count, sums, height, V);
      },
      [&](long first, int height, float* sums) TG_LAMBDA {
        copy_edge<true>(args.d_weights + (depth_begin + first) * width, width, column, count, sums,
                        height, V);
      });
#else
  // While this block is summed from cache, the next one's rows come from memory, a few a tile.
  const long coming = row + rows < args.rows ? row + rows : args.rows;
  const long coming_end = coming + kGradientBlock < args.rows ? coming + kGradientBlock : args.rows;
  const long tiles = (depth_end - depth_begin + tile_rows<V>() - 1) / tile_rows<V>();
  const long rows_per_tile = (coming_end - coming + tiles - 1) / tiles;
  long fetched = coming;
  for_row_blocks<tile_rows<V>()>(depth_end - depth_begin, [&](auto height, long first) TG_LAMBDA {
    constexpr int R = decltype(height)::value;
    const long k = depth_begin + first;
    for (long end = fetched + rows_per_tile < coming_end ? fetched + rows_per_tile : coming_end;
         fetched < end; ++fetched) {
      for (int v = 0; v < V; ++v) prefetch(args.gates + fetched * args.gate_stride + offset[v]);
      // The left operand's row, a line of it for each group of columns.
      prefetch(args.inputs + fetched * args.input_stride + vector * kWidth % args.depth);
    }
    float* out = args.d_weights + k * width;
    vec tile[R][V];
    float sums[kMaxTile];
    if (row == 0) {
      TG_UNROLL for (int r = 0; r < R; ++r)
        TG_UNROLL for (int v = 0; v < V; ++v) tile[r][v] = zero();
    } else if constexpr (Whole) {
      TG_UNROLL for (int r = 0; r < R; ++r)
        TG_UNROLL for (int v = 0; v < V; ++v) tile[r][v] = load(out + r * width + column[v]);
    } else {
      copy_edge<false>(out, width, column, count, sums, R, V);
      get_tile(tile, sums);
    }
    multiply_transposed<R, V>(tile, left.rows + first, left.stride, right, right_stride,
                              right_offset, row_steps(rows));
    if constexpr (Whole) {
      TG_UNROLL for (int r = 0; r < R; ++r)
        TG_UNROLL for (int v = 0; v < V; ++v) store(out + r * width + column[v], tile[r][v]);
    } else {
      put_tile(tile, sums);
      copy_edge<true>(out, width, column, count, sums, R, V);
    }
  });
#endif
  if (args.d_bias == nullptr || depth_begin > 0) return;
  for (int v = 0; v < V; ++v) {
    if (count[v] <= 0) continue;
    float* out = args.d_bias + column[v];
    vec sum = row > 0 ? load_part(out, count[v]) : zero();
    const float* gate = gates + offset[v];
    for (long n = 0; n < rows; ++n) sum = add(sum, load(gate + n * args.gate_stride));
    store_part(out, sum, count[v]);
  }
}

// Columns [depth_begin, depth_end) of some rows of the inputs, to be read down the rows; for tiles,
// with a row for each column.
TG_INLINE Left transposed_operands(const WeightGradientArgs& args, long row, long rows,
                                   int depth_begin, int depth_end) {
  const float* inputs = args.inputs + row * args.input_stride + depth_begin;
  if constexpr (!kRounds) {
    return {packed_operands(inputs), args.input_stride};
  } else {
    const int depth = depth_end - depth_begin;
    const long steps = row_steps(rows);
    const auto of_rows = [&](long n, int term, int k) TG_LAMBDA {
      const float* first = inputs + n * args.input_stride + k;
      const bool paired = kTogether == 2 && n + 1 < rows;
      const Part which = kLeftParts[term];
      return make_operands(
          n < rows ? part_of(which, load_part(first, depth - k)) : zero(),
          paired ? part_of(which, load_part(first + args.input_stride, depth - k)) : zero());
    };
#if defined(TIDEGATE_AMX)
    const long stride = steps + kLinePad;
    operand* own = packed_operands(operand_scratch(0, size_t(padded(depth)) * stride));
    for (int k = 0; k < depth; k += kPanel) {
      for (long step = 0; step < steps; step += kTileSteps) {
        operands block[kTileSteps];
        for (int i = 0; i < kTileSteps; ++i)
          block[i] = of_rows((step + i) / kTerms * kTogether, (step + i) % kTerms, k);
        transpose(block);
        for (int i = 0; i < kPanel; ++i) store_operands(own + (k + i) * stride + step, block[i]);
      }
    }
#else
    const long stride = padded(depth) + kLinePad;
    operand* own = packed_operands(operand_scratch(0, size_t(steps) * stride));
    operand* out = own;
    for (long n = 0; n < rows; n += kTogether)
      TG_UNROLL for (int term = 0; term < kTerms; ++term, out += stride)
        for (int k = 0; k < depth; k += kWidth) store_operands(out + k, of_rows(n, term, k));
#endif
    return {own, stride};
  }
}

template <bool Whole>
void weight_gradient_of(const WeightGradientArgs& args, int vector_begin, int vector_end,
                        int depth_begin, int depth_end) {
  long row = 0;
  do {  // once at least, so that no rows give zeros
    const long rows = row + kGradientBlock < args.rows ? kGradientBlock : args.rows - row;
    const Left left = transposed_operands(args, row, rows, depth_begin, depth_end);
    int vector = vector_begin;
    for (; vector + kGradientVectors <= vector_end; vector += kGradientVectors)
      weight_gradient_columns<kGradientVectors, Whole>(args, left, vector, row, rows, depth_begin,
                                                       depth_end);
    if (vector_end - vector == 2)
      weight_gradient_columns<2, Whole>(args, left, vector, row, rows, depth_begin, depth_end);
    else if (vector_end - vector == 1)
      weight_gradient_columns<1, Whole>(args, left, vector, row, rows, depth_begin, depth_end);
    row += kGradientBlock;
  } while (row < args.rows);
}

void weight_gradient(const WeightGradientArgs& args, int vector_begin, int vector_end,
                     int depth_begin, int depth_end) {
  if (args.units % kPanel == 0)
    weight_gradient_of<true>(args, vector_begin, vector_end, depth_begin, depth_end);
  else
    weight_gradient_of<false>(args, vector_begin, vector_end, depth_begin, depth_end);
}

}  // namespace
}  // namespace tidegate
