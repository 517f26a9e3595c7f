// Sums over the positions of each distinct word.
#pragma once

#include "gemm.h"

namespace tidegate {
namespace {

constexpr int kSegmentVectors = 12;    // running sums kept in registers
constexpr int kSegmentLookahead = 8;  // positions fetched ahead: they lie far apart

void segment_sum(const SegmentSumArgs& args, long word_begin, long word_end) {
  const int panels = panel_count(args.units);
  const int vectors_per_panel = args.gate_count * kPartsPerPanel;
  const int vectors = panels * vectors_per_panel;
  const long last = args.occurrence_offsets[word_end];
  for (int first = 0; first < vectors; first += kSegmentVectors) {
    const int count = first + kSegmentVectors < vectors ? kSegmentVectors : vectors - first;
    long offset[kSegmentVectors];
    for (int v = 0; v < kSegmentVectors; ++v) {
      const int j = v < count ? first + v : first;
      offset[v] = long(j / vectors_per_panel) * args.panel_stride +
                  long(j % vectors_per_panel) * kWidth;
    }
    for (long word = word_begin; word < word_end; ++word) {
      vec sum[kSegmentVectors];
      TG_UNROLL for (int v = 0; v < kSegmentVectors; ++v) sum[v] = zero();
      for (long i = args.occurrence_offsets[word]; i < args.occurrence_offsets[word + 1]; ++i) {
        const float* row = args.gates + args.occurrences[i] * args.gate_stride;
        const long ahead = i + kSegmentLookahead < last ? i + kSegmentLookahead : last - 1;
        const float* later = args.gates + args.occurrences[ahead] * args.gate_stride;
        TG_UNROLL for (int v = 0; v < kSegmentVectors; ++v) {
          if (kWidth == kPanel || v % kPartsPerPanel == 0) prefetch(later + offset[v]);
          sum[v] = add(sum[v], load(row + offset[v]));
        }
      }
      float* out = args.sums + word * args.sum_stride + long(first) * kWidth;
      TG_UNROLL for (int v = 0; v < kSegmentVectors; ++v)
        if (v < count) store(out + v * kWidth, sum[v]);
    }
  }
}

}  // namespace
}  // namespace tidegate
