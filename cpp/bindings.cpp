// The seam to Python: types and contiguity are checked here by nanobind, shapes and ranges in
// ops before. Nothing is copied, the interpreter lock is released for all that takes its time,
// then it forwards.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <atomic>
#include <cmath>
#include <cstring>
#include <string>
#include <utility>

#include "amx_support.h"
#include "bind.h"
#include "bind_positions.h"
#include "bind_text.h"
#include "dispatch.h"
#include "pack.h"
#include "parallel.h"
#include "scorer.h"
#include "tape.h"

namespace nb = nanobind;

namespace tidegate {
namespace {

std::atomic<const InstructionSet*> chosen_set{nullptr};

const InstructionSet& active_set() {
  const InstructionSet* set = chosen_set.load(std::memory_order_acquire);
  return set != nullptr ? *set : available_sets().front();
}

// What is computed in float32 whatever the precision.
const Kernels& active() { return *active_set().tables[0]; }

nb::tuple pack(In<int32_t, 1> token_ids, In<int64_t, 1> offsets, In<int64_t, 1> rows,
               int max_length, bool masked, int vocabulary_size) {
  PackedArrays packed;
  {
    nb::gil_scoped_release unlocked;
    packed = pack_batch(token_ids.data(), offsets.data(), rows.data(),
                        static_cast<int>(rows.shape(0)), max_length, masked, vocabulary_size);
  }
  if (!packed.id_in_range)
    throw nb::index_error(("token id " + std::to_string(packed.bad_id)).c_str());
  return nb::make_tuple(to_numpy(std::move(packed.rows)), to_numpy(std::move(packed.lengths)),
                        packed.steps, to_numpy(std::move(packed.step_offsets)),
                        packed.padding_steps, to_numpy(std::move(packed.words)),
                        to_numpy(std::move(packed.index)), to_numpy(std::move(packed.occurrences)),
                        to_numpy(std::move(packed.occurrence_offsets)));
}

// One recurrent pass: the arrays of its forward call, kept alive until the backward pass, and the
// tape, whose memory serves one batch after another.
class Recurrent {
 public:
  void forward(int cell, const std::string& precision, In<int32_t, 1> lengths, In<int32_t, 1> step_offsets, int padding_steps,
               MaybeIn<int32_t, 1> index, MaybeIn<int32_t, 1> occurrences,
               MaybeIn<int32_t, 1> occurrence_offsets, In<float, 2> inputs, In<float, 2> kernel,
               In<float, 2> recurrent_kernel, In<float, 1> bias, MaybeIn<float, 1> recurrent_bias,
               MaybeIn<float, 2> initial, MaybeIn<float, 2> initial_cell, Out<float, 2> last,
               MaybeOut<float, 2> outputs) {
    cell_ = cell;
    lengths_ = lengths;
    step_offsets_ = step_offsets;
    padding_steps_ = padding_steps;
    index_ = index;
    occurrences_ = occurrences;
    occurrence_offsets_ = occurrence_offsets;
    inputs_ = inputs;
    kernel_ = kernel;
    recurrent_kernel_ = recurrent_kernel;
    bias_ = bias;
    recurrent_bias_ = recurrent_bias;
    initial_ = initial;
    initial_cell_ = initial_cell;
    kernels_ = &active_set().table(precision.c_str());
    nb::gil_scoped_release unlocked;
    tape_.forward(*kernels_, ThreadPool::instance(), call(), {last.data(), data_or_null(outputs)});
  }

  void backward(MaybeIn<float, 2> d_last, MaybeIn<float, 2> d_outputs, Out<float, 2> d_inputs,
                MaybeOut<float, 2> d_kernel, MaybeOut<float, 2> d_recurrent_kernel,
                MaybeOut<float, 1> d_bias, MaybeOut<float, 1> d_recurrent_bias,
                MaybeOut<float, 2> d_initial, MaybeOut<float, 2> d_initial_cell) {
    nb::gil_scoped_release unlocked;
    RecurrentGradients g{};
    g.d_last = data_or_null(d_last);
    g.d_outputs = data_or_null(d_outputs);
    g.d_inputs = d_inputs.data();
    g.d_kernel = data_or_null(d_kernel);
    g.d_recurrent_kernel = data_or_null(d_recurrent_kernel);
    g.d_bias = data_or_null(d_bias);
    g.d_recurrent_bias = data_or_null(d_recurrent_bias);
    g.d_initial = data_or_null(d_initial);
    g.d_initial_cell = data_or_null(d_initial_cell);
    tape_.backward(*kernels_, ThreadPool::instance(), call(), g);
  }

  void read_channel(int channel, Out<float, 2> out) const {
    nb::gil_scoped_release unlocked;
    tape_.read_channel(call(), channel, out.data());
  }

 private:
  RecurrentCall call() const {
    RecurrentCall c{};
    c.cell = static_cast<Cell>(cell_);
    c.input_size = static_cast<int>(kernel_.shape(0));
    c.hidden = static_cast<int>(recurrent_kernel_.shape(0));
    c.batch = static_cast<int>(lengths_.shape(0));
    c.steps = static_cast<int>(step_offsets_.shape(0)) - 1;
    c.padding_steps = padding_steps_;
    c.words = static_cast<long>(inputs_.shape(0));
    c.step_offsets = step_offsets_.data();
    c.lengths = lengths_.data();
    c.index = data_or_null(index_);
    c.occurrences = data_or_null(occurrences_);
    c.occurrence_offsets = data_or_null(occurrence_offsets_);
    c.inputs = inputs_.data();
    c.kernel = kernel_.data();
    c.recurrent_kernel = recurrent_kernel_.data();
    c.bias = bias_.data();
    c.recurrent_bias = data_or_null(recurrent_bias_);
    c.initial = data_or_null(initial_);
    c.initial_cell = data_or_null(initial_cell_);
    return c;
  }

  int cell_ = 0, padding_steps_ = 0;
  In<int32_t, 1> lengths_, step_offsets_;
  MaybeIn<int32_t, 1> index_, occurrences_, occurrence_offsets_;
  In<float, 2> inputs_, kernel_, recurrent_kernel_;
  In<float, 1> bias_;
  MaybeIn<float, 1> recurrent_bias_;
  MaybeIn<float, 2> initial_, initial_cell_;
  const Kernels* kernels_ = nullptr;
  RecurrentTape tape_;
};

// A model's snapshot for prediction; keeps the embedding alive, which it reads in place.
class NativeScorer {
 public:
  NativeScorer(int cell, const std::string& precision, int max_length, bool masked,
               In<float, 2> embedding, In<float, 2> kernel, In<float, 2> recurrent_kernel,
               In<float, 1> bias, MaybeIn<float, 1> recurrent_bias, In<float, 2> output_kernel,
               In<float, 1> output_bias, size_t memory)
      : embedding_(embedding) {
    const ScorerWeights weights = {static_cast<Cell>(cell),
                                   static_cast<int>(embedding.shape(0)),
                                   static_cast<int>(kernel.shape(0)),
                                   static_cast<int>(recurrent_kernel.shape(0)),
                                   static_cast<int>(output_kernel.shape(1)),
                                   max_length,
                                   masked,
                                   embedding.data(),
                                   kernel.data(),
                                   recurrent_kernel.data(),
                                   bias.data(),
                                   data_or_null(recurrent_bias),
                                   output_kernel.data(),
                                   output_bias.data()};
    nb::gil_scoped_release unlocked;  // it runs the padding
    const InstructionSet& set = active_set();
    scorer_.emplace(set.table(precision.c_str()), *set.tables[0], ThreadPool::instance(), weights,
                    memory);
  }

  void score(In<int32_t, 1> token_ids, In<int64_t, 1> offsets, Out<float, 2> logits) {
    try {
      nb::gil_scoped_release unlocked;
      scorer_->score(ThreadPool::instance(), token_ids.data(), offsets.data(),
                    static_cast<long>(logits.shape(0)), logits.data());
    } catch (const IdOutOfRange& bad) {
      throw nb::index_error(("token id " + std::to_string(bad.id)).c_str());
    }
  }

 private:
  In<float, 2> embedding_;
  std::optional<Scorer> scorer_;
};

// Scratch for the small dense layer; one a thread, since calls may come from several.
LinearScratch& linear_scratch() {
  thread_local LinearScratch scratch;
  return scratch;
}

void linear_forward(In<float, 2> inputs, In<float, 2> kernel, In<float, 1> bias,
                    Out<float, 2> outputs) {
  nb::gil_scoped_release unlocked;
  linear_scratch().forward(active(), ThreadPool::instance(), inputs.data(), kernel.data(),
                           bias.data(), outputs.data(), static_cast<long>(inputs.shape(0)),
                           static_cast<int>(kernel.shape(0)), static_cast<int>(kernel.shape(1)));
}

void linear_backward(In<float, 2> inputs, In<float, 2> kernel, In<float, 2> d_outputs,
                     Out<float, 2> d_inputs, Out<float, 2> d_kernel, Out<float, 1> d_bias) {
  nb::gil_scoped_release unlocked;
  linear_scratch().backward(active(), ThreadPool::instance(), inputs.data(), kernel.data(),
                            d_outputs.data(), d_inputs.data(), d_kernel.data(), d_bias.data(),
                            static_cast<long>(inputs.shape(0)), static_cast<int>(kernel.shape(0)),
                            static_cast<int>(kernel.shape(1)));
}

// Mean cross-entropy of one logit a row. In float64: rows are few, and the mean keeps its digits.
std::pair<double, int> logistic_loss(In<float, 1> logits, In<int32_t, 1> targets,
                                     Out<float, 1> d_logits) {
  nb::gil_scoped_release unlocked;
  const size_t rows = logits.shape(0);
  double total = 0.0;
  int correct = 0;
  for (size_t i = 0; i < rows; ++i) {
    const double logit = logits.data()[i], target = targets.data()[i];
    const double small = std::exp(-std::fabs(logit));
    total += (logit > 0 ? logit : 0.0) - logit * target + std::log1p(small);
    const double probability = logit >= 0 ? 1.0 / (1.0 + small) : small / (1.0 + small);
    d_logits.data()[i] = static_cast<float>((probability - target) / static_cast<double>(rows));
    correct += (logit > 0) == (target > 0.5);
  }
  return {total / static_cast<double>(rows), correct};
}

std::pair<double, int> softmax_loss(In<float, 2> logits, In<int32_t, 1> targets,
                                    Out<float, 2> d_logits) {
  nb::gil_scoped_release unlocked;
  const size_t rows = logits.shape(0), classes = logits.shape(1);
  double total = 0.0;
  int correct = 0;
  for (size_t i = 0; i < rows; ++i) {
    const float* row = logits.data() + i * classes;
    float* d_row = d_logits.data() + i * classes;
    const size_t target = static_cast<size_t>(targets.data()[i]);
    size_t best = 0;
    bool number = true;
    for (size_t c = 0; c < classes; ++c) {
      number = number && row[c] == row[c];
      if (row[c] > row[best]) best = c;
    }
    double sum = 0.0;
    for (size_t c = 0; c < classes; ++c) sum += std::exp(double(row[c]) - row[best]);
    for (size_t c = 0; c < classes; ++c)
      d_row[c] = static_cast<float>((std::exp(double(row[c]) - row[best]) / sum - (c == target)) /
                                    static_cast<double>(rows));
    total += number ? std::log(sum) - (double(row[target]) - row[best]) : std::nan("");
    correct += best == target;
  }
  return {total / static_cast<double>(rows), correct};
}

constexpr long kElementsPerTask = 16384;
constexpr long kRowsPerTask = 64;

AdamArgs adam_args(double beta_1, double beta_2, double epsilon, double gradient_scale,
                   const In<float, 1>& rates) {
  return {static_cast<float>(1.0 - beta_1), static_cast<float>(1.0 - beta_2),
          static_cast<float>(epsilon), static_cast<float>(gradient_scale), rates.data()};
}

void adam_dense(Out<float, 1> parameter, In<float, 1> gradient, Out<float, 1> first,
                Out<float, 1> second, In<float, 1> rates, long step, double beta_1, double beta_2,
                double epsilon, double gradient_scale) {
  const Kernels& kernels = active();
  nb::gil_scoped_release unlocked;
  const AdamArgs args = adam_args(beta_1, beta_2, epsilon, gradient_scale, rates);
  const long count = static_cast<long>(parameter.shape(0));
  ThreadPool::instance().run((count + kElementsPerTask - 1) / kElementsPerTask, [&](long task) {
    const long at = task * kElementsPerTask;
    const long size = count - at < kElementsPerTask ? count - at : kElementsPerTask;
    kernels.adam(args, parameter.data() + at, gradient.data() + at, first.data() + at,
                 second.data() + at, size, step);
  });
}

// Rows of a table lie far apart: those of a few words ahead are fetched while one is worked on.
constexpr long kRowsAhead = 3;

void fetch_row(const Out<float, 2>& table, long row) {
  const long width = static_cast<long>(table.shape(1));
  for (long i = 0; i < width; i += kPanel) __builtin_prefetch(table.data() + row * width + i);
}

// Brings the given rows (all when null) up to date with `step`.
void adam_catch_up(Out<float, 2> parameter, Out<float, 2> first, Out<float, 2> second,
                   Out<int64_t, 1> last_step, MaybeIn<int32_t, 1> words, In<float, 1> rates,
                   long step, double beta_1, double beta_2, double epsilon) {
  const Kernels& kernels = active();
  nb::gil_scoped_release unlocked;
  const AdamArgs args = adam_args(beta_1, beta_2, epsilon, 1.0, rates);
  const long rows = static_cast<long>(words ? words->shape(0) : parameter.shape(0));
  const long width = static_cast<long>(parameter.shape(1));
  ThreadPool::instance().run((rows + kRowsPerTask - 1) / kRowsPerTask, [&](long task) {
    const long end = (task + 1) * kRowsPerTask < rows ? (task + 1) * kRowsPerTask : rows;
    for (long i = task * kRowsPerTask; i < end; ++i) {
      const long row = words ? words->data()[i] : i;
      if (words && i + kRowsAhead < end) {
        const long ahead = words->data()[i + kRowsAhead];
        for (const auto* table : {&parameter, &first, &second}) fetch_row(*table, ahead);
      }
      if (last_step.data()[row] < step) {
        kernels.adam_replay(args, parameter.data() + row * width, first.data() + row * width,
                            second.data() + row * width, width, last_step.data()[row], step);
        last_step.data()[row] = step;
      }
    }
  });
}

// One step for the given distinct rows, which must be up to date with step - 1.
void adam_rows(Out<float, 2> parameter, Out<float, 2> first, Out<float, 2> second,
               Out<int64_t, 1> last_step, In<int32_t, 1> words, In<float, 2> gradients,
               In<float, 1> rates, long step, double beta_1, double beta_2, double epsilon,
               double gradient_scale) {
  const Kernels& kernels = active();
  nb::gil_scoped_release unlocked;
  const AdamArgs args = adam_args(beta_1, beta_2, epsilon, gradient_scale, rates);
  const long rows = static_cast<long>(words.shape(0));
  const long width = static_cast<long>(parameter.shape(1));
  ThreadPool::instance().run((rows + kRowsPerTask - 1) / kRowsPerTask, [&](long task) {
    const long end = (task + 1) * kRowsPerTask < rows ? (task + 1) * kRowsPerTask : rows;
    for (long i = task * kRowsPerTask; i < end; ++i) {
      const long row = words.data()[i];
      if (i + kRowsAhead < end) {
        const long ahead = words.data()[i + kRowsAhead];
        for (const auto* table : {&parameter, &first, &second}) fetch_row(*table, ahead);
      }
      kernels.adam(args, parameter.data() + row * width, gradients.data() + i * width,
                   first.data() + row * width, second.data() + row * width, width, step);
      last_step.data()[row] = step;
    }
  });
}

void gather_rows(In<float, 2> table, In<int32_t, 1> rows, Out<float, 2> out) {
  nb::gil_scoped_release unlocked;
  const long count = static_cast<long>(rows.shape(0)), width = static_cast<long>(table.shape(1));
  ThreadPool::instance().run((count + kRowsPerTask - 1) / kRowsPerTask, [&](long task) {
    const long end = (task + 1) * kRowsPerTask < count ? (task + 1) * kRowsPerTask : count;
    for (long i = task * kRowsPerTask; i < end; ++i)
      std::memcpy(out.data() + i * width, table.data() + rows.data()[i] * width,
                  sizeof(float) * width);
  });
}

// Summed in fixed chunks, added in order: the same bits for any number of threads.
double sum_of_squares(In<float, 1> x) {
  const Kernels& kernels = active();
  nb::gil_scoped_release unlocked;
  const long count = static_cast<long>(x.shape(0));
  std::vector<double> parts((count + kElementsPerTask - 1) / kElementsPerTask);
  ThreadPool::instance().run(static_cast<long>(parts.size()), [&](long task) {
    const long at = task * kElementsPerTask;
    const long size = count - at < kElementsPerTask ? count - at : kElementsPerTask;
    parts[task] = kernels.sum_of_squares(x.data() + at, size);
  });
  double total = 0.0;
  for (const double part : parts) total += part;
  return total;
}

}  // namespace
}  // namespace tidegate

NB_MODULE(_kernels, module) {
  using namespace tidegate;
  // Objects that threads still hold as the process ends are no leaks to tell the user of.
  nb::set_leak_warnings(false);
  module.def("available", [] {
    std::vector<std::string> names;
    for (const InstructionSet& set : available_sets()) names.emplace_back(set.name);
    return names;
  });
  module.def("emulated", [] {
    std::vector<std::string> names;
    for (const InstructionSet& set : emulated_sets()) names.emplace_back(set.name);
    return names;
  });
  module.def(
      "same_products",
      [](const std::string& isa, const std::string& precision, const std::string& other_isa,
         const std::string& other_precision) {
        const InstructionSet *set = find_set(isa.c_str()), *other = find_set(other_isa.c_str());
        if (set == nullptr || other == nullptr) throw nb::value_error("no such instruction set");
        return same_products(set->table(precision.c_str()), other->table(other_precision.c_str()));
      },
      nb::arg("isa"), nb::arg("precision"), nb::arg("other_isa"), nb::arg("other_precision"));
  module.def("active", [] { return std::string(active_set().name); });
  module.def(
      "table_for",
      [](const std::string& precision) {
        return std::string(active_set().table(precision.c_str()).name);
      },
      nb::arg("precision"));
  module.def("use", [](const std::string& name) {
    const InstructionSet* set = find_set(name.c_str());
    if (set != nullptr) chosen_set.store(set, std::memory_order_release);
    return set != nullptr;
  });
  module.attr("MAX_THREADS") = kMaxThreads;
  module.def("threads", [] { return ThreadPool::instance().threads(); });
  module.def("set_threads", [](int threads) { ThreadPool::instance().set_threads(threads); });
  // Never converted: a result written into a converted copy would be lost.
  const auto array = [](const char* name) { return nb::arg(name).noconvert(); };
  const auto optional = [&](const char* name) { return array(name).none(); };
  module.def(
      "sigmoid",
      [](In<float, 1> x, Out<float, 1> y) {
        active().sigmoid(x.data(), y.data(), static_cast<long>(x.shape(0)));
      },
      array("x"), array("y"));
  module.def(
      "tanh",
      [](In<float, 1> x, Out<float, 1> y) {
        active().tanh(x.data(), y.data(), static_cast<long>(x.shape(0)));
      },
      array("x"), array("y"));
  module.def("pack", &pack, array("token_ids"), array("offsets"), array("rows"),
             nb::arg("max_length"), nb::arg("masked"), nb::arg("vocabulary_size"));
  nb::class_<Recurrent>(module, "Recurrent")
      .def(nb::init<>())
      .def("forward", &Recurrent::forward, nb::arg("cell"), nb::arg("precision"),
           array("lengths"), array("step_offsets"), nb::arg("padding_steps"), optional("index"),
           optional("occurrences"), optional("occurrence_offsets"), array("inputs"),
           array("kernel"), array("recurrent_kernel"), array("bias"), optional("recurrent_bias"),
           optional("initial"), optional("initial_cell"), array("last"), optional("outputs"))
      .def("backward", &Recurrent::backward, optional("d_last"), optional("d_outputs"),
           array("d_inputs"), optional("d_kernel"), optional("d_recurrent_kernel"),
           optional("d_bias"), optional("d_recurrent_bias"), optional("d_initial"), optional("d_initial_cell"))
      .def("read_channel", &Recurrent::read_channel, nb::arg("channel"), array("out"));
  nb::class_<NativeScorer>(module, "Scorer")
      .def(nb::init<int, const std::string&, int, bool, In<float, 2>, In<float, 2>, In<float, 2>, In<float, 1>,
                    MaybeIn<float, 1>, In<float, 2>, In<float, 1>, size_t>(),
           nb::arg("cell"), nb::arg("precision"), nb::arg("max_length"), nb::arg("masked"), array("embedding"),
           array("kernel"), array("recurrent_kernel"), array("bias"), optional("recurrent_bias"),
           array("output_kernel"), array("output_bias"), nb::arg("memory"))
      .def("score", &NativeScorer::score, array("token_ids"), array("offsets"), array("logits"));
  module.def("linear_forward", &linear_forward, array("inputs"), array("kernel"), array("bias"),
             array("outputs"));
  module.def("linear_backward", &linear_backward, array("inputs"), array("kernel"),
             array("d_outputs"), array("d_inputs"), array("d_kernel"), array("d_bias"));
  module.def("logistic_loss", &logistic_loss, array("logits"), array("targets"),
             array("d_logits"));
  module.def("softmax_loss", &softmax_loss, array("logits"), array("targets"), array("d_logits"));
  module.def("adam_dense", &adam_dense, array("parameter"), array("gradient"), array("first"),
             array("second"), array("rates"), nb::arg("step"), nb::arg("beta_1"),
             nb::arg("beta_2"), nb::arg("epsilon"), nb::arg("gradient_scale"));
  module.def("adam_catch_up", &adam_catch_up, array("parameter"), array("first"),
             array("second"), array("last_step"), optional("words"), array("rates"),
             nb::arg("step"), nb::arg("beta_1"), nb::arg("beta_2"), nb::arg("epsilon"));
  module.def("adam_rows", &adam_rows, array("parameter"), array("first"), array("second"),
             array("last_step"), array("words"), array("gradients"), array("rates"),
             nb::arg("step"), nb::arg("beta_1"), nb::arg("beta_2"), nb::arg("epsilon"),
             nb::arg("gradient_scale"));
  module.def("gather_rows", &gather_rows, array("table"), array("rows"), array("out"));
  module.def("sum_of_squares", &sum_of_squares, array("x"));
  bind_positions(module);
  bind_text(module);
}
