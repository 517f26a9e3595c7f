// AMX: registers of 16 rows of 64 bytes each, and the product of two of them, a tile at a time.
//
// A tile of sums has 16 rows of 16 units; a left operand 16 rows of 16 pairs; a right operand 16
// pairs of the depth, each for 16 units, which is how a panel of packed operands lies in memory.
// Tiles 0 to 5 hold sums, 6 and 7 the operands.
//
// Everything but the six functions that touch tiles is the same code for the processor's and for
// the emulated ones, so that tests on any machine run what a machine with AMX runs.
#pragma once

#include "operands.h"

namespace tidegate {
namespace {

constexpr int kTileRows = 16;
constexpr int kTileBytes = 64;  // of a row
constexpr int kTiles = 8;
constexpr int kLeftTile = 6, kRightTile = 7;
static_assert(kWidth == kPanel && kPanel * sizeof(float) == kTileBytes);
static_assert(kTileSteps * sizeof(operand) == kTileBytes);

#if defined(TIDEGATE_AMX_EMULATED)

// Unless they are configured, tiles hold NaN, which a test finds. The functions are not inlined, so
// that they are compiled once.
struct EmulatedTiles {
  uint32_t rows[kTiles][kTileRows][kTileBytes / 4];
  uint32_t configured;
};
constexpr uint32_t kConfigured = 0x5449434Fu;

// Not a thread_local of their own: every thread would pay for it, and without memory for it the
// process would end.
TG_NOINLINE EmulatedTiles& emulated_tiles() {
  return *reinterpret_cast<EmulatedTiles*>(operand_scratch(2, sizeof(EmulatedTiles) / 4));
}

TG_NOINLINE void configure_tiles() { emulated_tiles().configured = kConfigured; }
TG_NOINLINE void release_tiles() { memset(&emulated_tiles(), 0xFF, sizeof(EmulatedTiles)); }

TG_NOINLINE void emulate_load(int tile, const void* from, long stride) {
  EmulatedTiles& emulated = emulated_tiles();
  if (emulated.configured != kConfigured) return release_tiles();
  for (int row = 0; row < kTileRows; ++row)
    memcpy(emulated.rows[tile][row], static_cast<const char*>(from) + row * stride, kTileBytes);
}
template <int Tile>
TG_INLINE void load_tile(const void* from, long stride) {
  emulate_load(Tile, from, stride);
}

TG_NOINLINE void emulate_store(int tile, void* to, long stride) {
  const EmulatedTiles& emulated = emulated_tiles();
  for (int row = 0; row < kTileRows; ++row)
    memcpy(static_cast<char*>(to) + row * stride, emulated.rows[tile][row], kTileBytes);
}
template <int Tile>
TG_INLINE void store_tile(void* to, long stride) {
  emulate_store(Tile, to, stride);
}

TG_INLINE float float_of(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

// What the instruction reads and writes instead of denormals, whatever the thread's settings.
TG_INLINE float flushed(float x) {
  return (bits_of(x) & 0x7F800000u) == 0 ? float_of(bits_of(x) & 0x80000000u) : x;
}

// a * b + c rounded once, for a and b of 8 bits: the product of 16 is exact in float64, and so is
// the sum, unless one of both is too small to bring a float's rounding near its border.
TG_INLINE float fused(float a, float b, float c) {
  return flushed(static_cast<float>(double(flushed(a)) * double(flushed(b)) + double(c)));
}

// As Intel's manual (volume 2, TDPBF16PS) states it: the first and the second numbers of the pairs
// are summed apart, from zero and each by fused steps; then both are added, and that to the tile.
// Denormals count as zeros, and rounding is to nearest even.
TG_NOINLINE void emulate_multiply(int sums) {
  EmulatedTiles& emulated = emulated_tiles();
  for (int row = 0; row < kTileRows; ++row) {
    float first[kPanel] = {}, second[kPanel] = {};
    for (int step = 0; step < kTileSteps; ++step) {
      const uint32_t left = emulated.rows[kLeftTile][row][step];
      const uint32_t* right = emulated.rows[kRightTile][step];
      for (int i = 0; i < kPanel; ++i) {
        first[i] = fused(float_of(left << 16), float_of(right[i] << 16), first[i]);
        second[i] =
            fused(float_of(left & 0xFFFF0000u), float_of(right[i] & 0xFFFF0000u), second[i]);
      }
    }
    for (int i = 0; i < kPanel; ++i) {
      uint32_t& to = emulated.rows[sums][row][i];
      to = bits_of(flushed(flushed(float_of(to)) + flushed(first[i] + second[i])));
    }
  }
}
template <int Sums>
TG_INLINE void multiply_tiles() {
  emulate_multiply(Sums);
}

#else

// In assembly: GCC's intrinsics don't say that they read and write memory, and the compiler then
// moves or drops the stores before and the loads behind them. The tiles themselves it never uses.
TG_INLINE void configure_tiles() {
  struct alignas(64) {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t bytes[16] = {kTileBytes, kTileBytes, kTileBytes, kTileBytes,
                          kTileBytes, kTileBytes, kTileBytes, kTileBytes};
    uint8_t rows[16] = {kTileRows, kTileRows, kTileRows, kTileRows,
                        kTileRows, kTileRows, kTileRows, kTileRows};
  } const configuration;
  static_assert(sizeof configuration == 64);
  asm volatile("ldtilecfg %0" ::"m"(configuration));
}
TG_INLINE void release_tiles() { asm volatile("tilerelease"); }

template <int Tile>
TG_INLINE void load_tile(const void* from, long stride) {
  asm volatile("tileloadd (%1,%2,1), %%tmm%c0" ::"i"(Tile), "r"(from), "r"(stride) : "memory");
}

template <int Tile>
TG_INLINE void store_tile(void* to, long stride) {
  asm volatile("tilestored %%tmm%c0, (%1,%2,1)" ::"i"(Tile), "r"(to), "r"(stride) : "memory");
}

template <int Sums>
TG_INLINE void multiply_tiles() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(Sums), "i"(kLeftTile),
               "i"(kRightTile));
}

#endif

// While it lives, the calling thread can use tiles. Afterwards they are released, whatever they
// held before: by the calling convention nobody keeps tiles across a call.
struct Tiles {
  TG_INLINE_MEMBER Tiles() { configure_tiles(); }
  TG_INLINE_MEMBER ~Tiles() { release_tiles(); }
};

template <auto Kernel>
struct InTiles;
template <class... Args, void (*Kernel)(Args...)>
struct InTiles<Kernel> {
  static void run(Args... args) {
    const Tiles tiles;
    Kernel(args...);
  }
};

template <int N>
struct TileNumber {
  static constexpr int value = N;
};
template <int N, class F>
TG_INLINE void for_tiles(F&& body) {
  if constexpr (N > 0) {
    for_tiles<N - 1>(body);
    body(TileNumber<N - 1>{});
  }
}

// sums[r][v][unit] += sum over k of a[r * row_stride + k] * b[k * depth_stride + offset[v] + unit]
// for R tiles of rows. Each element's order of sums is the same in any tile.
template <int R, int V>
TG_INLINE void multiply_rows(float* sums, const operand* a, long row_stride, const operand* b,
                             long depth_stride, const long (&offset)[V], int steps) {
  static_assert(R * V <= kLeftTile);
  constexpr long kSumsStride = V * kTileBytes;
  for_tiles<R * V>([&](auto tile) TG_LAMBDA {
    constexpr int r = tile.value / V, v = tile.value % V;
    load_tile<tile.value>(sums + (r * kTileRows * V + v) * kPanel, kSumsStride);
  });
  for (int k = 0; k < steps; k += kTileSteps, b += kTileSteps * depth_stride) {
    for_tiles<R * V>([&](auto tile) TG_LAMBDA {
      constexpr int r = tile.value / V, v = tile.value % V;
      if constexpr (v == 0)
        load_tile<kLeftTile>(a + r * kTileRows * row_stride + k, row_stride * sizeof(operand));
      load_tile<kRightTile>(b + offset[v], depth_stride * sizeof(operand));
      multiply_tiles<tile.value>();
    });
  }
  for_tiles<R * V>([&](auto tile) TG_LAMBDA {
    constexpr int r = tile.value / V, v = tile.value % V;
    store_tile<tile.value>(sums + (r * kTileRows * V + v) * kPanel, kSumsStride);
  });
}

// All rows of a product, some tiles at a time: begin(first row, rows, sums) sets their sums
// [rows][V][16], end(...) takes them. The left side has to have whole tiles of rows, the depth of
// both sides whole tiles of steps.
template <int V, class Begin, class End>
TG_INLINE void tile_blocks(long rows, const Left& left, const operand* right, long depth_stride,
                           const long (&offset)[V], int steps, Begin&& begin, End&& end) {
  constexpr int kAtOnce = V > kLeftTile / 2 ? 1 : 2;
  alignas(64) float sums[kAtOnce * kTileRows * V * kPanel];
  for (long row = 0; row < rows; row += kAtOnce * kTileRows) {
    const long there = rows - row;
    const int count = static_cast<int>(there < kAtOnce * kTileRows ? there : kAtOnce * kTileRows);
    begin(row, count, sums);
    const operand* a = left.rows + row * left.stride;
    if (kAtOnce == 1 || count <= kTileRows)
      multiply_rows<1, V>(sums, a, left.stride, right, depth_stride, offset, steps);
    else
      multiply_rows<kAtOnce, V>(sums, a, left.stride, right, depth_stride, offset, steps);
    end(row, count, sums);
  }
}

// Rows become columns.
TG_INLINE void transpose(operands (&block)[kTileSteps]) {
#if defined(TIDEGATE_ISA_AVX512)
  // Exchanges the blocks off the diagonal, of 1, 2, 4 and 8 rows and columns.
  const __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  TG_UNROLL for (int size = 1; size < kTileSteps; size *= 2) {
    const __m512i wide = _mm512_set1_epi32(size), other = _mm512_set1_epi32(kTileSteps - size);
    const __mmask16 upper = _mm512_test_epi32_mask(lane, wide);
    const __m512i from_first = _mm512_mask_add_epi32(lane, upper, lane, other);
    const __m512i from_second =
        _mm512_mask_add_epi32(_mm512_add_epi32(lane, wide), upper, lane, _mm512_set1_epi32(16));
    TG_UNROLL for (int row = 0; row < kTileSteps; ++row) {
      if (row & size) continue;
      const __m512i a = block[row], b = block[row + size];
      block[row] = _mm512_permutex2var_epi32(a, from_first, b);
      block[row + size] = _mm512_permutex2var_epi32(a, from_second, b);
    }
  }
#else
  for (int row = 0; row < kTileSteps; ++row) {
    for (int column = 0; column < row; ++column) {
      const auto kept = block[row][column];
      block[row][column] = block[column][row];
      block[column][row] = kept;
    }
  }
#endif
}

}  // namespace
}  // namespace tidegate
