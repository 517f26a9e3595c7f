// Logistic regression over sets of buckets (see NgramRows), and its scores.
#pragma once

#include <cstdint>

#include "parallel.h"

namespace tidegate {

struct BucketRows {
  long count;
  const int32_t* buckets;
  const int64_t* offsets;  // [count + 1]
};

// For each class l: weights w and bias b that minimise |w|^2 / 2 + b^2 / 2 + cost * sum over rows
// of counts * log(1 + exp(-y (w . x + b))), where y is 1 for rows of the class and -1 for others,
// and x has scales[bucket] where the row has the bucket and 0 elsewhere. A row that counts 2 is as
// two rows are, in `scales`, too, which follow from the rows: see fit_linear. At most `rounds`
// visits of every row, fewer where no gradient is above `tolerance` of the row's cost.
struct LinearFit {
  BucketRows rows;
  const int32_t* classes;  // [count]
  const double* counts;    // [count] how much each row counts, above 0; null where all count 1
  int outputs;             // 1: class 1 against class 0; else one for each class
  long buckets;
  double cost;
  int rounds;
  double tolerance;
  uint64_t seed;   // of the order of visits
  bool goes_on;    // from what weights and bias hold: the squares are then of what is added to it
  float* weights;  // [buckets, outputs] out: scales included
  float* bias;     // [outputs] out
};
// The scale of a bucket is |log((c + 2) / (o + 2))|, how much likelier texts of the class have it
// than others (Wang & Manning 2012), plus a fifth of log((n + 1) / (d + 1)) + 1, how rare it is: of
// n rows, d have it, and c or o would if all were like those of the class or of the others. So a
// small class does not make all that is frequent seem to speak against it, and words that few texts
// can't tell apart yet are not shut out.
//
// Dual coordinate descent (Yu, Huang & Lin 2011). Classes are shared out between threads.
void fit_linear(ThreadPool& pool, const LinearFit& fit);

// scores [count, outputs] = sum of the weights of each row's buckets, plus bias.
void score_linear(ThreadPool& pool, const BucketRows& rows, const float* weights,
                  const float* bias, int outputs, float* scores);

}  // namespace tidegate
