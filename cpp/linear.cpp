#include "linear.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>
#include <vector>

namespace tidegate {
namespace {

constexpr long kRowsPerTask = 64;
constexpr double kRarity = 0.2;  // what a bucket's rarity adds to its scale

uint64_t next_random(uint64_t& state) {  // splitmix64
  uint64_t x = state += 0x9E3779B97F4A7C15;
  x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9;
  x = (x ^ x >> 27) * 0x94D049BB133111EB;
  return x ^ x >> 31;
}

double count_of(const LinearFit& fit, long row) {
  return fit.counts == nullptr ? 1.0 : fit.counts[row];
}

// See linear.h. Where no row is of the class, or none of the others, nothing is divided by 0.
std::vector<float> scales_of(const LinearFit& fit, const std::vector<float>& sign) {
  std::vector<double> with(fit.buckets), without(fit.buckets);
  double texts_with = 0.0, texts_without = 0.0;
  for (long row = 0; row < fit.rows.count; ++row) {
    const double count = count_of(fit, row);
    (sign[row] > 0 ? texts_with : texts_without) += count;
    std::vector<double>& counts = sign[row] > 0 ? with : without;
    for (int64_t i = fit.rows.offsets[row]; i < fit.rows.offsets[row + 1]; ++i)
      counts[fit.rows.buckets[i]] += count;
  }
  const double all = texts_with + texts_without;
  const double of_class = all / (texts_with > 0.0 ? texts_with : 1.0);
  const double of_others = all / (texts_without > 0.0 ? texts_without : 1.0);
  std::vector<float> scales(fit.buckets);
  for (long b = 0; b < fit.buckets; ++b) {
    const double ratio = std::log(with[b] * of_class + 2) - std::log(without[b] * of_others + 2);
    const double rarity = std::log((all + 1) / (with[b] + without[b] + 1.0)) + 1;
    scales[b] = static_cast<float>(std::fabs(ratio) + kRarity * rarity);
  }
  return scales;
}

// The root s of s + margin + square * (cost * sigmoid(s) - old). The left side rises with a slope
// of 1 or more, so that the root is fenced in from the start. Newton's steps are taken only while
// each is at most half of the one before: they can also circle inside the fence for ever, and one
// row's dual at the wrong place would spoil every weight.
double solve(double margin, double square, double cost, double old) {
  const double reach = margin - square * old;  // s + reach + square * cost * sigmoid(s) = 0
  double low = -reach - square * cost, high = -reach;
  double s = std::clamp(-margin, low, high);
  double moved = high - low;
  for (int i = 0; i < 200; ++i) {
    const double share = 1.0 / (1.0 + std::exp(-s));
    const double value = s + reach + square * cost * share;
    (value > 0 ? high : low) = s;
    const double step = s - value / (1.0 + square * cost * share * (1.0 - share));
    const bool trusted = step > low && step < high && std::fabs(step - s) <= 0.5 * moved;
    const double next = trusted ? step : 0.5 * (low + high);
    moved = std::fabs(next - s);
    s = next;
    if (moved <= 1e-12 * (1.0 + std::fabs(s))) break;
  }
  return s;
}

void fit_class(const LinearFit& fit, int output) {
  const BucketRows& rows = fit.rows;
  const int target = fit.outputs == 1 ? 1 : output;
  std::vector<float> sign(rows.count);
  for (long row = 0; row < rows.count; ++row) sign[row] = fit.classes[row] == target ? 1.f : -1.f;
  const std::vector<float> scales = scales_of(fit, sign);

  std::vector<double> square(rows.count, 1.0);  // of x, the bias's 1 included
  for (long row = 0; row < rows.count; ++row)
    for (int64_t i = rows.offsets[row]; i < rows.offsets[row + 1]; ++i)
      square[row] += double(scales[rows.buckets[i]]) * scales[rows.buckets[i]];

  // w = sum of y * dual * x; a row's dual lies in (0, its cost), and at the optimum
  // is cost * sigmoid(-margin). It begins near 0 and not at it, where no gradient is.
  std::vector<float> weights(fit.buckets, 0.0f);
  double bias = 0.0;
  if (fit.goes_on) {
    for (long b = 0; b < fit.buckets; ++b)
      weights[b] = fit.weights[b * fit.outputs + output] / scales[b];
    bias = fit.bias[output];
  }
  std::vector<double> dual(rows.count, 0.0);
  std::vector<long> order(rows.count);
  std::iota(order.begin(), order.end(), 0L);
  uint64_t random = fit.seed + static_cast<uint64_t>(output);
  for (int round = 0; round < fit.rounds; ++round) {
    for (long i = rows.count - 1; i > 0; --i)
      std::swap(order[i], order[next_random(random) % static_cast<uint64_t>(i + 1)]);
    bool settled = true;
    for (const long row : order) {
      double sum = bias;
      for (int64_t i = rows.offsets[row]; i < rows.offsets[row + 1]; ++i) {
        const int32_t bucket = rows.buckets[i];
        sum += double(weights[bucket]) * scales[bucket];
      }
      const double margin = sign[row] * sum, cost = fit.cost * count_of(fit, row);
      const double wanted = cost / (1.0 + std::exp(margin));
      settled = settled && std::fabs(wanted - dual[row]) <= fit.tolerance * cost;
      const double now = cost / (1.0 + std::exp(-solve(margin, square[row], cost, dual[row])));
      const double change = sign[row] * (now - dual[row]);
      dual[row] = now;
      bias += change;
      for (int64_t i = rows.offsets[row]; i < rows.offsets[row + 1]; ++i) {
        const int32_t bucket = rows.buckets[i];
        weights[bucket] += static_cast<float>(change * scales[bucket]);
      }
    }
    if (settled) break;
  }
  for (long b = 0; b < fit.buckets; ++b) fit.weights[b * fit.outputs + output] = weights[b] * scales[b];
  fit.bias[output] = static_cast<float>(bias);
}

}  // namespace

void fit_linear(ThreadPool& pool, const LinearFit& fit) {
  pool.run(fit.outputs, [&](long output) { fit_class(fit, static_cast<int>(output)); });
}

void score_linear(ThreadPool& pool, const BucketRows& rows, const float* weights,
                  const float* bias, int outputs, float* scores) {
  pool.run((rows.count + kRowsPerTask - 1) / kRowsPerTask, [&](long task) {
    const long end = std::min((task + 1) * kRowsPerTask, rows.count);
    std::vector<double> sums(outputs);
    for (long row = task * kRowsPerTask; row < end; ++row) {
      std::copy(bias, bias + outputs, sums.begin());
      for (int64_t i = rows.offsets[row]; i < rows.offsets[row + 1]; ++i)
        for (int l = 0; l < outputs; ++l) sums[l] += weights[long(rows.buckets[i]) * outputs + l];
      for (int l = 0; l < outputs; ++l) scores[row * outputs + l] = static_cast<float>(sums[l]);
    }
  });
}

}  // namespace tidegate
