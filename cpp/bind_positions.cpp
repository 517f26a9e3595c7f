// The seam to Python for positions.h. sequence.py checks shapes and ranges before.
#include "bind_positions.h"

#include "bind.h"
#include "positions.h"

namespace nb = nanobind;

namespace tidegate {
namespace {

Positions positions_of(const In<int32_t, 1>& lengths, const In<int32_t, 1>& step_offsets,
                       int padding_steps) {
  return {static_cast<int>(lengths.shape(0)), static_cast<int>(step_offsets.shape(0)) - 1,
          padding_steps, lengths.data(), step_offsets.data()};
}

void reverse_batch(In<int32_t, 1> lengths, In<int32_t, 1> step_offsets, In<int32_t, 1> index,
                   In<int32_t, 1> occurrence_offsets, Out<int32_t, 1> reversal,
                   Out<int32_t, 1> reversed_index, Out<int32_t, 1> reversed_occurrences) {
  nb::gil_scoped_release unlocked;
  const Positions positions = positions_of(lengths, step_offsets, 0);
  find_reversal(positions, reversal.data());
  reverse_words(index.data(), occurrence_offsets.data(),
                static_cast<long>(occurrence_offsets.shape(0)) - 1, reversal.data(),
                positions.text(), reversed_index.data(), reversed_occurrences.data());
}

void copy_block(In<float, 2> source, long source_column, MaybeIn<int32_t, 1> rows,
                Out<float, 2> out, long out_column, long width) {
  nb::gil_scoped_release unlocked;
  copy_columns(ThreadPool::instance(),
               {source.data(), static_cast<long>(source.shape(1)), source_column,
                data_or_null(rows), out.data(), static_cast<long>(out.shape(1)), out_column,
                static_cast<long>(out.shape(0)), width});
}

void scale(Out<float, 2> values, In<int32_t, 1> rows, In<float, 2> masks) {
  nb::gil_scoped_release unlocked;
  scale_rows(ThreadPool::instance(), values.data(), rows.data(), masks.data(),
             static_cast<long>(values.shape(0)), static_cast<long>(values.shape(1)));
}

void sum(In<float, 2> values, In<int32_t, 1> occurrences, In<int32_t, 1> occurrence_offsets,
         Out<float, 2> sums) {
  nb::gil_scoped_release unlocked;
  sum_rows(ThreadPool::instance(), values.data(), occurrences.data(), occurrence_offsets.data(),
           static_cast<long>(sums.shape(0)), static_cast<long>(sums.shape(1)), sums.data());
}

void pool(int pooling, In<int32_t, 1> lengths, In<int32_t, 1> step_offsets, int padding_steps,
          In<float, 2> states, MaybeIn<float, 1> weights, Out<float, 2> pooled,
          MaybeOut<int32_t, 2> chosen) {
  nb::gil_scoped_release unlocked;
  pool_states(ThreadPool::instance(), static_cast<Pooling>(pooling),
              {positions_of(lengths, step_offsets, padding_steps),
               static_cast<int>(states.shape(1)), states.data(), data_or_null(weights),
               pooled.data(), data_or_null(chosen)});
}

void pool_backward(int pooling, In<int32_t, 1> lengths, In<int32_t, 1> step_offsets,
                   int padding_steps, In<float, 2> d_pooled, MaybeIn<float, 2> states,
                   MaybeIn<float, 1> weights, MaybeIn<int32_t, 2> chosen, Out<float, 2> d_states,
                   MaybeOut<float, 1> d_weights) {
  nb::gil_scoped_release unlocked;
  pool_states_backward(
      ThreadPool::instance(), static_cast<Pooling>(pooling),
      {positions_of(lengths, step_offsets, padding_steps), static_cast<int>(d_states.shape(1)),
       d_pooled.data(), data_or_null(states), data_or_null(weights), data_or_null(chosen),
       d_states.data(), data_or_null(d_weights)});
}

void softmax(In<int32_t, 1> lengths, In<int32_t, 1> step_offsets, In<float, 1> scores,
             Out<float, 1> shares) {
  nb::gil_scoped_release unlocked;
  softmax_texts(positions_of(lengths, step_offsets, 0), scores.data(), shares.data());
}

void softmax_backward(In<int32_t, 1> lengths, In<int32_t, 1> step_offsets, In<float, 1> shares,
                      In<float, 1> d_shares, Out<float, 1> d_scores) {
  nb::gil_scoped_release unlocked;
  softmax_texts_backward(positions_of(lengths, step_offsets, 0), shares.data(), d_shares.data(),
                         d_scores.data());
}

void norm(In<float, 2> x, In<float, 1> gain, In<float, 1> bias, float epsilon,
          Out<float, 2> out, Out<float, 1> mean, Out<float, 1> inverse) {
  nb::gil_scoped_release unlocked;
  layer_norm(ThreadPool::instance(),
             {static_cast<long>(x.shape(0)), static_cast<int>(x.shape(1)), x.data(), gain.data(),
              bias.data(), epsilon, out.data(), mean.data(), inverse.data()});
}

void norm_backward(In<float, 2> x, In<float, 1> gain, In<float, 1> mean, In<float, 1> inverse,
                   In<float, 2> d_out, Out<float, 2> d_x, Out<float, 1> d_gain,
                   Out<float, 1> d_bias) {
  nb::gil_scoped_release unlocked;
  layer_norm_backward(ThreadPool::instance(),
                      {static_cast<long>(x.shape(0)), static_cast<int>(x.shape(1)), x.data(),
                       gain.data(), mean.data(), inverse.data(), d_out.data(), d_x.data(),
                       d_gain.data(), d_bias.data()});
}

}  // namespace

void bind_positions(nb::module_& module) {
  const auto array = [](const char* name) { return nb::arg(name).noconvert(); };
  const auto optional = [&](const char* name) { return array(name).none(); };
  module.def("reverse_batch", &reverse_batch, array("lengths"), array("step_offsets"),
             array("index"), array("occurrence_offsets"), array("reversal"),
             array("reversed_index"), array("reversed_occurrences"));
  module.def("copy_columns", &copy_block, array("source"), nb::arg("source_column"),
             optional("rows"), array("out"), nb::arg("out_column"), nb::arg("width"));
  module.def("scale_rows", &scale, array("values"), array("rows"), array("masks"));
  module.def("sum_rows", &sum, array("values"), array("occurrences"),
             array("occurrence_offsets"), array("sums"));
  module.def("pool_states", &pool, nb::arg("pooling"), array("lengths"), array("step_offsets"),
             nb::arg("padding_steps"), array("states"), optional("weights"), array("pooled"),
             optional("chosen"));
  module.def("pool_states_backward", &pool_backward, nb::arg("pooling"), array("lengths"),
             array("step_offsets"), nb::arg("padding_steps"), array("d_pooled"),
             optional("states"), optional("weights"), optional("chosen"), array("d_states"),
             optional("d_weights"));
  module.def("softmax_texts", &softmax, array("lengths"), array("step_offsets"), array("scores"),
             array("shares"));
  module.def("softmax_texts_backward", &softmax_backward, array("lengths"),
             array("step_offsets"), array("shares"), array("d_shares"), array("d_scores"));
  module.def("layer_norm", &norm, array("x"), array("gain"), array("bias"),
             nb::arg("epsilon"), array("out"), array("mean"), array("inverse"));
  module.def("layer_norm_backward", &norm_backward, array("x"), array("gain"), array("mean"),
             array("inverse"), array("d_out"), array("d_x"), array("d_gain"), array("d_bias"));
}

}  // namespace tidegate
