"""All states of a batch: turned round, pooled, attended to, normalised, masked."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate import ops, sequence
from tidegate import reference_sequence as reference
from tidegate.batch import PackedBatch, TokenizedTexts
from tidegate.errors import ConfigError, ShapeError
from tidegate.sequence import Float32

WIDTH = 37  # fills no cache line


def make_batch(lengths: list[int], *, masked: bool = True, max_length: int = 9) -> PackedBatch:
    generator = np.random.default_rng(len(lengths))
    texts = TokenizedTexts.from_rows([generator.integers(0, 13, n) for n in lengths])
    return ops.pack(
        texts,
        np.arange(len(lengths)),
        max_length=max_length,
        masked=masked,
        vocabulary_size=13,
    )


def normal(*shape: int, seed: int = 0) -> Float32:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


some_lengths = st.lists(st.integers(0, 9), min_size=1, max_size=8)


@given(some_lengths)
def test_a_reversed_batch_reads_every_text_from_its_end(lengths: list[int]) -> None:
    batch = make_batch(lengths)
    reversed_batch, reversal = sequence.reverse(batch)
    assert reversal.tolist() == reference.reverse(batch).tolist()
    for row in range(batch.batch_size):
        places = reference.positions_of(batch, row)
        words = batch.words[batch.index[places]]
        assert batch.words[reversed_batch.index[places]].tolist() == words[::-1].tolist()
    # As good as one that pack has made: the check that others go through.
    copied = PackedBatch(
        *(getattr(reversed_batch, name) for name in list(batch.__dataclass_fields__)[:-1])
    )
    assert not copied.checked
    weights = ops.RecurrentWeights(normal(3, 5), normal(5, 5, seed=1), normal(5, seed=2))
    inputs = normal(len(batch.words), 3, seed=3)
    ops.recurrent_forward("rnn", copied, inputs, weights)
    dense = sequence.permuted(batch, reversal)
    states = normal(batch.positions, 3, seed=4)
    outputs, _, _ = ops.recurrent_forward("rnn", dense, states, weights, all_outputs=True)
    turned, _, _ = ops.recurrent_forward(
        "rnn", batch, states[reversal], weights, dense=True, all_outputs=True
    )
    np.testing.assert_array_equal(outputs, turned)


def test_a_batch_with_padding_has_no_reversal() -> None:
    padded = make_batch([3, 5], masked=False)
    with pytest.raises(ShapeError, match="4 padding steps can't be reversed"):
        sequence.reverse(make_batch([5, 6], masked=False))
    with pytest.raises(ShapeError, match="has no attention"):
        sequence.attend(padded, normal(14, 2), normal(14))


@given(some_lengths)
def test_position_rows(lengths: list[int]) -> None:
    batch = make_batch(lengths)
    rows = sequence.position_rows(batch)
    assert rows.dtype == np.int32
    assert rows.tolist() == reference.position_rows(batch).tolist()


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("pooling", sequence.POOLINGS)
@pytest.mark.usefixtures("restored_threads")
def test_pooling(pooling: sequence.Pooling, masked: bool, threads: int) -> None:
    ops.set_threads(threads)
    batch = make_batch([4, 0, 9, 7, 1, 12], masked=masked)
    assert bool(batch.padding_steps) != masked
    states = normal(batch.total_positions, WIDTH)
    states[:, 3] = -np.abs(states[:, 3])  # a largest below 0
    states[:, 5] = 2.0  # of equals the first
    pooled, chosen = sequence.pool_states(pooling, batch, states)
    expected, places = reference.pool_states(pooling, batch, states)
    np.testing.assert_allclose(pooled, expected, rtol=2e-6, atol=1e-6)
    assert (chosen is None) == (places is None)
    if chosen is not None and places is not None:
        np.testing.assert_array_equal(chosen, places)

    d_pooled = normal(*pooled.shape, seed=7)
    before = normal(*states.shape, seed=8)
    d_states = before.copy()
    sequence.pool_states_backward(pooling, batch, d_pooled, chosen, d_states)
    expected = before + reference.pool_states_backward(pooling, batch, d_pooled, places)
    np.testing.assert_allclose(d_states, expected, rtol=1e-5, atol=1e-5)


def test_a_state_that_is_no_number_is_the_largest() -> None:
    batch = make_batch([3])
    states = np.array([[1.0, 2.0], [np.nan, 1.0], [5.0, 0.0]], np.float32)
    pooled, chosen = sequence.pool_states("max", batch, states)
    np.testing.assert_array_equal(pooled, [[np.nan, 2.0]])
    assert chosen is not None
    assert chosen.tolist() == [[1, 0]]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.usefixtures("restored_threads")
def test_attention(threads: int) -> None:
    ops.set_threads(threads)
    batch = make_batch([4, 0, 9, 7, 1, 12])
    states, scores = normal(batch.positions, WIDTH), 30 * normal(batch.positions, seed=1)
    pooled, weights = sequence.attend(batch, states, scores)
    expected, shares = reference.attend(batch, states, scores)
    np.testing.assert_allclose(weights, shares, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(pooled, expected, rtol=1e-5, atol=1e-6)
    assert not pooled[batch.lengths == 0].any()

    weights = shares.astype(np.float32)
    d_pooled = normal(*pooled.shape, seed=7)
    before = normal(*states.shape, seed=8)
    d_states = before.copy()
    d_scores = sequence.attend_backward(batch, states, weights, d_pooled, d_states)
    d_scores_expected, d_expected = reference.attend_backward(batch, states, weights, d_pooled)
    np.testing.assert_allclose(d_scores, d_scores_expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(d_states, before + d_expected, rtol=1e-5, atol=1e-5)


def test_attention_gradient_by_finite_differences() -> None:
    batch = make_batch([4, 0, 6, 1])
    generator = np.random.default_rng(3)
    states = generator.standard_normal((batch.positions, 5))
    scores = generator.standard_normal(batch.positions)
    direction = generator.standard_normal((batch.batch_size, 5))

    def total(given_states: Float32, given_scores: Float32) -> float:
        return float((reference.attend(batch, given_states, given_scores)[0] * direction).sum())

    _, weights = reference.attend(batch, states, scores)
    d_scores, d_states = reference.attend_backward(batch, states, weights, direction)
    step = 1e-6
    for n in range(batch.positions):
        moved = scores.copy()
        moved[n] += step
        found = (total(states, moved) - total(states, scores)) / step  # type: ignore[arg-type]
        assert found == pytest.approx(d_scores[n], abs=2e-5)
    moved = states.copy()
    moved[2, 3] += step
    found = (total(moved, scores) - total(states, scores)) / step  # type: ignore[arg-type]
    assert found == pytest.approx(d_states[2, 3], abs=2e-5)


@pytest.mark.parametrize("rows", [1, 150])
def test_layer_norm(rows: int) -> None:
    x = 3 + 2 * normal(rows, WIDTH)
    gain, bias = normal(WIDTH, seed=1), normal(WIDTH, seed=2)
    out, statistics = sequence.layer_norm(x, gain, bias)
    expected = reference.layer_norm(x, gain, bias, sequence.NORM_EPSILON)
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=2e-6)
    d_out = normal(rows, WIDTH, seed=4)
    found = sequence.layer_norm_backward(x, gain, statistics, d_out)
    wanted = reference.layer_norm_backward(x, gain, sequence.NORM_EPSILON, d_out)
    for mine, its in zip(found, wanted, strict=True):
        np.testing.assert_allclose(mine, its, rtol=1e-4, atol=2e-6 * rows**0.5 + 2e-6)


def test_layer_norm_gradient_by_finite_differences() -> None:
    generator = np.random.default_rng(5)
    x, gain, bias = (generator.standard_normal(s) for s in ((2, 4), 4, 4))
    direction = generator.standard_normal((2, 4))
    d_x, d_gain, _ = reference.layer_norm_backward(x, gain, 1e-5, direction)
    step = 1e-6
    for place in np.ndindex(2, 4):
        moved = x.copy()
        moved[place] += step
        change = reference.layer_norm(moved, gain, bias, 1e-5) - reference.layer_norm(
            x, gain, bias, 1e-5
        )
        assert (change * direction).sum() / step == pytest.approx(d_x[place], abs=1e-4)
    change = reference.layer_norm(x, gain + step, bias, 1e-5) - reference.layer_norm(
        x, gain, bias, 1e-5
    )
    np.testing.assert_allclose((change * direction).sum(axis=0) / step, d_gain, atol=1e-6)


def test_columns_are_copied_to_where_they_belong() -> None:
    source = normal(5, 7)
    out = np.zeros((4, 6), np.float32)
    rows = np.array([4, 0, 2, 2], np.int32)
    sequence.copy_columns(source, out, width=3, source_column=2, out_column=1, rows=rows)
    expected = np.zeros((4, 6), np.float32)
    expected[:, 1:4] = source[rows, 2:5]
    np.testing.assert_array_equal(out, expected)


def test_words_are_summed_and_rows_masked() -> None:
    batch = make_batch([4, 9, 7])
    values, masks = normal(batch.positions, WIDTH), normal(3, WIDTH, seed=1)
    rows = sequence.position_rows(batch)
    scaled = values.copy()
    sequence.scale_rows(scaled, rows, masks)
    np.testing.assert_array_equal(scaled, values * masks[rows])
    expected = np.zeros((len(batch.words), WIDTH))
    np.add.at(expected, batch.index, values)
    np.testing.assert_allclose(sequence.sum_words(values, batch), expected, rtol=1e-5, atol=1e-5)


def test_what_does_not_fit_is_refused_before_a_kernel_sees_it() -> None:
    batch = make_batch([4, 2])
    states = normal(6, 3)
    with pytest.raises(ConfigError, match=r"pooling='median' .*max, mean"):
        sequence.pool_states("median", batch, states)  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match=r"states has shape \[5, 3\]; \[6, any\]"):
        sequence.pool_states("max", batch, states[:5])
    with pytest.raises(ShapeError, match="chosen runs from 6 to 6"):
        sequence.pool_states_backward(
            "max", batch, normal(2, 3), np.full((2, 3), 6, np.int32), states.copy()
        )
    with pytest.raises(ShapeError, match="chosen is a NoneType"):
        sequence.pool_states_backward("max", batch, normal(2, 3), None, states.copy())
    with pytest.raises(ShapeError, match="rows runs from 0 to 2"):
        sequence.scale_rows(states.copy(), np.array([0, 1, 2, 0, 1, 0], np.int32), normal(2, 3))
    with pytest.raises(ShapeError, match="its own inverse"):
        sequence.permuted(batch, np.array([1, 2, 0, 3, 4, 5], np.int32))
    with pytest.raises(ShapeError, match="source has no columns 2 to 4"):
        sequence.copy_columns(states, states.copy(), width=2, source_column=2)
    with pytest.raises(ShapeError, match="out has no columns 2 to 4"):
        sequence.copy_columns(states, states.copy(), width=2, out_column=2)
    with pytest.raises(ShapeError, match="scores has shape"):
        sequence.attend(batch, states, normal(5))
    with pytest.raises(ShapeError, match="no columns"):
        sequence.layer_norm(np.zeros((2, 0), np.float32), normal(0), normal(0))
