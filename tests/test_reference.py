"""The reference against the lecture's equations, finite differences, PyTorch and Keras."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golden.keras_runs import KINDS as KERAS_KINDS
from golden.keras_runs import KerasRun, read_keras_runs
from tidegate import reference
from tidegate.batch import PackedBatch, TokenizedTexts
from tidegate.errors import ConfigError, ShapeError
from tidegate.reference import KINDS, Kind, RecurrentWeights

Array = npt.NDArray[np.float64]

DATA = Path(__file__).parent / "data"
T, B, I, H = 5, 4, 3, 7  # noqa: E741  all different: a swapped axis must fail


def random_weights(kind: Kind, generator: np.random.Generator) -> RecurrentWeights:
    width = len(reference.gates_of(kind)) * H
    return RecurrentWeights(
        kernel=generator.normal(0, 0.7, (I, width)),
        recurrent_kernel=generator.normal(0, 0.5, (H, width)),
        bias=generator.normal(0, 0.5, width),
        recurrent_bias=generator.normal(0, 0.5, width) if kind == "gru_after" else None,
    )


def pack_rows(
    rows: list[list[int]], *, masked: bool, max_length: int = T, order: list[int] | None = None
) -> PackedBatch:
    texts = TokenizedTexts.from_rows([np.array(row, np.int32) for row in rows])
    chosen = list(range(len(rows))) if order is None else order
    return reference.pack(texts, chosen, max_length=max_length, masked=masked)


# --- pack --------------------------------------------------------------------------------------

FIVE_TEXTS = [[7], [5, 6, 7], [], [9, 8, 7, 6], [6, 5, 5]]


def test_pack_masked_by_hand() -> None:
    batch = pack_rows(FIVE_TEXTS, masked=True, max_length=3, order=[0, 1, 2, 3, 4])
    # Packed rows: 5 6 7 | 8 7 6 (its last three) | 6 5 5 | 7 | nothing
    assert batch.rows.tolist() == [1, 3, 4, 0, 2]
    assert batch.lengths.tolist() == [3, 3, 3, 1, 0]
    assert (batch.steps, batch.padding_steps) == (3, 0)
    assert batch.step_offsets.tolist() == [0, 3, 6, 10]
    assert batch.words.tolist() == [5, 8, 6, 7]
    assert batch.index.tolist() == [0, 1, 2, 2, 3, 0, 3, 2, 0, 3]
    assert batch.occurrence_offsets.tolist() == [0, 3, 4, 7, 10]
    assert batch.occurrences.tolist() == [0, 5, 8, 1, 2, 3, 7, 4, 6, 9]


def test_pack_unmasked_by_hand() -> None:
    batch = pack_rows(FIVE_TEXTS, masked=False, max_length=5, order=[4, 3, 0])
    # Packed rows: 9 8 7 6 from step 1 | 6 5 5 from step 2 | 7 from step 4, where padding ends
    assert batch.rows.tolist() == [1, 0, 2]
    assert batch.lengths.tolist() == [4, 3, 1]
    assert (batch.steps, batch.padding_steps) == (5, 4)
    assert batch.step_offsets.tolist() == [0, 0, 1, 3, 5, 8]
    assert batch.words.tolist() == [9, 8, 6, 7, 5, 0]
    assert batch.index.tolist() == [0, 1, 2, 3, 4, 2, 4, 3, 5, 5, 5, 5]
    assert batch.occurrence_offsets.tolist() == [0, 1, 2, 4, 6, 8, 12]
    assert batch.occurrences.tolist() == [0, 1, 2, 5, 3, 7, 4, 6, 8, 9, 10, 11]


def test_pack_integers_are_int32() -> None:
    batch = pack_rows(FIVE_TEXTS, masked=False)
    for name in ("rows", "lengths", "step_offsets", "words", "index", "occurrences"):
        assert getattr(batch, name).dtype == np.int32, name
    assert batch.occurrence_offsets.dtype == np.int32


def test_pack_of_empty_texts_and_of_no_texts() -> None:
    masked = pack_rows([[], []], masked=True)
    assert (masked.steps, masked.positions, masked.padding_steps) == (0, 0, 0)
    unmasked = pack_rows([[], []], masked=False)
    assert (unmasked.steps, unmasked.positions, unmasked.padding_steps) == (T, 0, T)
    assert unmasked.words.tolist() == [0]
    nothing = pack_rows([[1, 2]], masked=False, order=[])
    assert (nothing.batch_size, nothing.positions, nothing.padding_steps) == (0, 0, 0)


@settings(deadline=None)
@given(
    rows=st.lists(st.lists(st.integers(0, 6), max_size=7), max_size=6),
    max_length=st.integers(1, 6),
    masked=st.booleans(),
)
def test_every_packed_position_reads_its_row_s_token(
    rows: list[list[int]], max_length: int, masked: bool
) -> None:
    batch = pack_rows(rows, masked=masked, max_length=max_length)
    assert sorted(batch.rows.tolist()) == list(range(len(rows)))
    keys = [(-int(n), int(row)) for n, row in zip(batch.lengths, batch.rows, strict=True)]
    assert keys == sorted(keys)  # longest first, ties in the order given
    read = batch.words[batch.index]
    seen = np.zeros(batch.positions, bool)
    for packed, row in enumerate(batch.rows):
        tokens = rows[row][-max_length:]
        assert batch.lengths[packed] == len(tokens)
        for place, token in enumerate(tokens):
            step = batch.steps - len(tokens) + place
            position = batch.step_offsets[step] + packed
            assert position < batch.step_offsets[step + 1]
            assert read[position] == token
            seen[position] = True
    assert seen.all()
    assert (read[batch.positions :] == 0).all()
    assert len(set(batch.words.tolist())) == len(batch.words)
    for word in range(len(batch.words)):
        start, stop = batch.occurrence_offsets[word : word + 2]
        expected = np.flatnonzero(batch.index == word)
        assert batch.occurrences[start:stop].tolist() == expected.tolist()


# --- Forward against a plain loop over padded rows ---------------------------------------------


def lecture_step(
    kind: Kind, x: Array, hidden: Array, cell: Array, weights: RecurrentWeights
) -> tuple[Array, Array]:
    """One row, one step, written apart from the reference: [I], [H], [H] -> [H], [H]."""

    def logistic(values: Array) -> Array:
        return 1 / (1 + np.exp(-values))

    def part(gate: int) -> slice:
        return slice(gate * H, (gate + 1) * H)

    def gate(number: int, state: Array) -> Array:
        both = np.vstack([weights.kernel, weights.recurrent_kernel])[:, part(number)]
        second = 0 if weights.recurrent_bias is None else weights.recurrent_bias[part(number)]
        total: Array = np.concatenate([x, state]) @ both + weights.bias[part(number)] + second
        return total

    if kind == "rnn":
        return np.tanh(gate(0, hidden)), cell
    if kind == "lstm":
        cell = logistic(gate(1, hidden)) * cell + logistic(gate(0, hidden)) * np.tanh(
            gate(2, hidden)
        )
        return logistic(gate(3, hidden)) * np.tanh(cell), cell
    z, r = logistic(gate(0, hidden)), logistic(gate(1, hidden))
    if kind == "gru_before":
        c = np.tanh(gate(2, r * hidden))
    else:
        assert weights.recurrent_bias is not None
        recurrent = hidden @ weights.recurrent_kernel[:, part(2)] + weights.recurrent_bias[part(2)]
        c = np.tanh(x @ weights.kernel[:, part(2)] + weights.bias[part(2)] + r * recurrent)
    return (1 - z) * hidden + z * c, cell


RAGGED: dict[str, list[list[int]]] = {
    "with an empty row": [[3, 1], [], [2, 2, 4, 1, 3], [4, 3]],
    "no row at the first step": [[3, 1], [5], [2, 2, 4, 1], [4, 3]],
    "all full": [[3, 1, 1, 2, 5], [5, 4, 3, 2, 1], [2, 2, 4, 1, 2], [4, 3, 3, 5, 5]],
    "all empty": [[], [], [], []],
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("masked", [True, False], ids=["masked", "unmasked"])
@pytest.mark.parametrize("rows", RAGGED.values(), ids=RAGGED)
def test_forward_equals_a_plain_loop(kind: Kind, masked: bool, rows: list[list[int]]) -> None:
    generator = np.random.default_rng(1)
    weights = random_weights(kind, generator)
    table = generator.normal(0, 1, (6, I))
    batch = pack_rows(rows, masked=masked)
    outputs, last, _ = reference.recurrent_forward(kind, batch, table[batch.words], weights)
    assert outputs.shape == (batch.total_positions, H)
    assert last.shape == (B, H)
    compared = 0
    for packed, row in enumerate(batch.rows):
        padding = T - len(rows[row])
        hidden, cell = np.zeros(H), np.zeros(H)
        for step, token in enumerate([0] * padding + rows[row]):
            if masked and step < padding:
                continue
            hidden, cell = lecture_step(kind, table[token], hidden, cell, weights)
            at = batch.step_offsets[step + batch.steps - T] + packed
            if step < padding:
                at = batch.positions + step
            np.testing.assert_allclose(outputs[at], hidden, rtol=0, atol=1e-14)
            compared += 1
        np.testing.assert_allclose(last[packed], hidden, rtol=0, atol=1e-14)
    assert compared >= batch.total_positions


@pytest.mark.parametrize("kind", KINDS)
def test_dense_inputs_equal_gathered_words(kind: Kind) -> None:
    generator = np.random.default_rng(2)
    weights = random_weights(kind, generator)
    batch = pack_rows(RAGGED["with an empty row"], masked=False)
    words = generator.normal(0, 1, (len(batch.words), I))
    by_word = reference.recurrent_forward(kind, batch, words, weights)
    by_position = reference.recurrent_forward(kind, batch, words[batch.index], weights, dense=True)
    np.testing.assert_array_equal(by_word[0], by_position[0])
    np.testing.assert_array_equal(by_word[1], by_position[1])


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_of_length_0_ends_in_its_initial_state(kind: Kind) -> None:
    generator = np.random.default_rng(3)
    batch = pack_rows(RAGGED["with an empty row"], masked=True)
    initial = generator.uniform(-1, 1, (B, H))
    inputs = generator.normal(0, 1, (len(batch.words), I))
    weights = random_weights(kind, generator)
    _, last, _ = reference.recurrent_forward(kind, batch, inputs, weights, initial=initial)
    assert batch.lengths[-1] == 0
    np.testing.assert_array_equal(last[-1], initial[-1])
    assert np.abs(last[:-1] - initial[:-1]).min() > 0


def test_tape_names_the_gates_of_each_position() -> None:
    generator = np.random.default_rng(4)
    batch = pack_rows(RAGGED["with an empty row"], masked=False)
    inputs = generator.normal(0, 1, (len(batch.words), I))
    for kind in ("gru_after", "gru_before"):
        weights = random_weights(kind, generator)
        outputs, _, tape = reference.recurrent_forward(kind, batch, inputs, weights)
        assert tuple(tape.gates) == ("update", "reset", "candidate")
        update, candidate = tape.gates["update"], tape.gates["candidate"]
        mixed = (1 - update) * tape.hidden_before + update * candidate
        np.testing.assert_allclose(outputs, mixed, atol=1e-15)
    outputs, _, tape = reference.recurrent_forward(
        "lstm", batch, inputs, random_weights("lstm", generator)
    )
    assert tuple(tape.gates) == ("input", "forget", "candidate", "output")
    cell = tape.gates["forget"] * tape.cell_before + tape.gates["input"] * tape.gates["candidate"]
    np.testing.assert_allclose(outputs, tape.gates["output"] * np.tanh(cell), atol=1e-15)
    outputs, _, tape = reference.recurrent_forward(
        "rnn", batch, inputs, random_weights("rnn", generator)
    )
    np.testing.assert_array_equal(tape.gates["hidden"], outputs)


@pytest.mark.parametrize("kind", KINDS)
def test_float32_arguments_are_computed_in_float64(kind: Kind) -> None:
    generator = np.random.default_rng(5)
    wide = random_weights(kind, generator)
    narrow = RecurrentWeights(
        wide.kernel.astype(np.float32),
        wide.recurrent_kernel.astype(np.float32),
        wide.bias.astype(np.float32),
        None if wide.recurrent_bias is None else wide.recurrent_bias.astype(np.float32),
    )
    same = RecurrentWeights(
        narrow.kernel.astype(np.float64),
        narrow.recurrent_kernel.astype(np.float64),
        narrow.bias.astype(np.float64),
        None if narrow.recurrent_bias is None else narrow.recurrent_bias.astype(np.float64),
    )
    batch = pack_rows(RAGGED["with an empty row"], masked=False)
    inputs = generator.normal(0, 1, (len(batch.words), I)).astype(np.float32)
    _, last, _ = reference.recurrent_forward(kind, batch, inputs, narrow)
    _, expected, _ = reference.recurrent_forward(kind, batch, inputs.astype(np.float64), same)
    assert last.dtype == np.float64
    np.testing.assert_array_equal(last, expected)


def test_arguments_that_would_give_wrong_numbers_are_refused() -> None:
    generator = np.random.default_rng(6)
    batch = pack_rows(RAGGED["with an empty row"], masked=False)
    masked = pack_rows(RAGGED["with an empty row"], masked=True)
    inputs = np.zeros((len(batch.words), I))
    weights = random_weights("gru_before", generator)
    state = np.zeros((B, H))
    with pytest.raises(ShapeError, match="5 padding steps"):
        reference.recurrent_forward("gru_before", batch, inputs, weights, initial=state)
    with pytest.raises(ShapeError, match="'gru_after' needs one"):
        reference.recurrent_forward("gru_after", batch, inputs, weights)
    with pytest.raises(ConfigError, match="only 'lstm' has a cell state"):
        reference.recurrent_forward("gru_before", masked, inputs[:-1], weights, initial_cell=state)
    with pytest.raises(ConfigError, match="did you mean 'lstm'"):
        reference.recurrent_forward("lstn", batch, inputs, weights)  # type: ignore[arg-type]


# --- Gradients against finite differences ------------------------------------------------------


def numeric_gradient(objective: Callable[[], float], values: Array) -> Array:
    """Central differences of fourth order by every element of ``values``, changed in place."""
    width = 1e-3
    gradient = np.empty_like(values)
    for place in np.ndindex(values.shape):
        kept = values[place]
        found = {}
        for shift in (-2, -1, 1, 2):
            values[place] = kept + shift * width
            found[shift] = objective()
        values[place] = kept
        gradient[place] = (8 * (found[1] - found[-1]) - (found[2] - found[-2])) / (12 * width)
    return gradient


def assert_same_gradient(given: Array, expected: Array, name: str) -> None:
    """Each element within 1e-6 of itself, or of a thousandth of the largest where it is small."""
    assert given.shape == expected.shape, name
    scale = np.abs(expected).max()
    np.testing.assert_allclose(given, expected, rtol=1e-6, atol=1e-9 * scale, err_msg=name)


@dataclass
class Case:
    rows: list[list[int]]
    masked: bool
    dense: bool
    initial: bool


EMPTY, LATE = RAGGED["with an empty row"], RAGGED["no row at the first step"]
GRADIENT_CASES = {
    "masked, per word, given state": Case(EMPTY, masked=True, dense=False, initial=True),
    "masked, dense, zero state": Case(LATE, masked=True, dense=True, initial=False),
    "unmasked, per word": Case(EMPTY, masked=False, dense=False, initial=False),
    "unmasked, dense, late rows": Case(LATE, masked=False, dense=True, initial=False),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", GRADIENT_CASES.values(), ids=GRADIENT_CASES)
def test_gradients_equal_finite_differences(kind: Kind, case: Case) -> None:
    generator = np.random.default_rng(7)
    batch = pack_rows(case.rows, masked=case.masked)
    # All as the arrays that the objective reads, so that they can be changed in place
    values: dict[str, Any] = {
        "inputs": generator.normal(
            0, 1, (batch.total_positions if case.dense else len(batch.words), I)
        )
    }
    values.update(
        (name, array)
        for name, array in vars(random_weights(kind, generator)).items()
        if array is not None
    )
    if case.initial:
        values["initial"] = generator.uniform(-1, 1, (B, H))
        if kind == "lstm":
            values["initial_cell"] = generator.uniform(-1, 1, (B, H))
    d_last = generator.normal(0, 1, (B, H))
    d_outputs = generator.normal(0, 1, (batch.total_positions, H))

    def forward() -> tuple[Array, Array, reference.RecurrentTape]:
        weights = RecurrentWeights(
            values["kernel"],
            values["recurrent_kernel"],
            values["bias"],
            values.get("recurrent_bias"),
        )
        return reference.recurrent_forward(
            kind,
            batch,
            values["inputs"],
            weights,
            dense=case.dense,
            initial=values.get("initial"),
            initial_cell=values.get("initial_cell"),
        )

    def objective() -> float:
        outputs, last, _ = forward()
        return float((outputs * d_outputs).sum() + (last * d_last).sum())

    gradients = reference.recurrent_backward(kind, forward()[2], d_last, d_outputs)
    for name, array in vars(gradients).items():
        assert (array is not None) == (name in values), name
        if array is not None:
            assert_same_gradient(array, numeric_gradient(objective, values[name]), name)


@pytest.mark.parametrize("kind", KINDS)
def test_no_output_gradient_is_a_zero_one(kind: Kind) -> None:
    generator = np.random.default_rng(8)
    batch = pack_rows(EMPTY, masked=False)
    inputs = generator.normal(0, 1, (len(batch.words), I))
    _, _, tape = reference.recurrent_forward(kind, batch, inputs, random_weights(kind, generator))
    d_last = generator.normal(0, 1, (B, H))
    without = reference.recurrent_backward(kind, tape, d_last)
    zero = reference.recurrent_backward(kind, tape, d_last, np.zeros((batch.total_positions, H)))
    assert np.abs(without.inputs).max() > 0
    for name, array in vars(without).items():
        np.testing.assert_array_equal(array, getattr(zero, name), err_msg=name)


def test_linear_gradients_equal_finite_differences() -> None:
    generator = np.random.default_rng(9)
    inputs, kernel = generator.normal(0, 1, (B, I)), generator.normal(0, 1, (I, 2))
    bias, d_logits = generator.normal(0, 1, 2), generator.normal(0, 1, (B, 2))
    by_hand = sum(inputs[2, i] * kernel[i, 1] for i in range(I)) + bias[1]
    np.testing.assert_allclose(
        reference.linear_forward(inputs, kernel, bias)[2, 1], by_hand, rtol=1e-15
    )

    def objective() -> float:
        return float((reference.linear_forward(inputs, kernel, bias) * d_logits).sum())

    gradients = reference.linear_backward(inputs, kernel, d_logits)
    for name, gradient, array in zip(
        ("inputs", "kernel", "bias"), gradients, (inputs, kernel, bias), strict=True
    ):
        assert_same_gradient(gradient, numeric_gradient(objective, array), name)


# --- Losses ------------------------------------------------------------------------------------


def test_sigmoid_keeps_relative_accuracy_and_extremes() -> None:
    x = np.array([-1000.0, -600.0, -40.0, -1.0, 0.0, 1.0, 40.0, 1000.0, np.nan])
    middle = [1 / (1 + np.e), 0.5, np.e / (1 + np.e)]
    expected = [0.0, np.exp(-600.0), np.exp(-40.0), *middle, 1.0, 1.0]
    np.testing.assert_allclose(reference.sigmoid(x), [*expected, np.nan], rtol=1e-15)


def test_logistic_loss_by_hand() -> None:
    logits = np.array([0.0, 2.0, -3.0, 800.0, -800.0])
    targets = np.array([1, 0, 1, 1, 1])
    loss, d_logits, correct = reference.logistic_loss(logits, targets)
    each = [np.log(2), np.log(1 + np.exp(2)), np.log(1 + np.exp(3)), 0.0, 800.0]
    assert loss == pytest.approx(np.mean(each), rel=1e-14)
    assert correct == 1  # a logit of 0 does not say 1
    slopes = [-0.5, 1 / (1 + np.exp(-2)), -1 / (1 + np.exp(-3)), 0.0, -1.0]
    np.testing.assert_allclose(d_logits, np.array(slopes) / 5, rtol=1e-14)


def test_softmax_loss_by_hand() -> None:
    shares = np.array([[1.0, 2.0, 5.0], [6.0, 1.0, 1.0], [1.0, 2.0, 1.0]])
    logits = np.log(shares) + np.array([[900.0], [-900.0], [0.0]])  # a shift changes nothing
    loss, d_logits, correct = reference.softmax_loss(logits, np.array([2, 1, 1]))
    assert loss == pytest.approx(-np.log(5 / 8 * 1 / 8 * 2 / 4) / 3, rel=1e-12)
    assert correct == 2
    slopes = np.array([[1 / 8, 2 / 8, -3 / 8], [6 / 8, -7 / 8, 1 / 8], [1 / 4, -2 / 4, 1 / 4]])
    np.testing.assert_allclose(d_logits, slopes / 3, rtol=1e-12)


def test_loss_gradients_equal_finite_differences() -> None:
    generator = np.random.default_rng(10)
    one, many = generator.normal(0, 3, B), generator.normal(0, 3, (B, 5))
    labels, classes = np.array([1, 0, 0, 1]), np.array([4, 0, 2, 2])
    assert_same_gradient(
        reference.logistic_loss(one, labels)[1],
        numeric_gradient(lambda: reference.logistic_loss(one, labels)[0], one),
        "logistic",
    )
    assert_same_gradient(
        reference.softmax_loss(many, classes)[1],
        numeric_gradient(lambda: reference.softmax_loss(many, classes)[0], many),
        "softmax",
    )


# --- Against PyTorch ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def torch_golden() -> dict[str, Any]:
    with np.load(DATA / "torch_recurrent.npz", allow_pickle=False) as file:
        return dict(file)


def text_positions(batch: PackedBatch, offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """[N]: where in the packed batch each id of the texts, in their order, stands."""
    at = np.empty(batch.positions, np.int64)
    for packed, (row, length) in enumerate(zip(batch.rows, batch.lengths, strict=True)):
        steps = np.arange(batch.steps - length, batch.steps)
        at[offsets[row] : offsets[row] + length] = batch.step_offsets[steps] + packed
    return at


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("run", ["packed", "padded"])
def test_values_and_gradients_equal_pytorch(
    kind: Kind, run: str, torch_golden: dict[str, Any]
) -> None:
    golden = torch_golden
    prefix = f"{kind}/{run}/"
    expected = {
        name.removeprefix(prefix): values
        for name, values in golden.items()
        if name.startswith(prefix)
    }
    texts = TokenizedTexts(golden["token_ids"], golden["offsets"])
    batch = reference.pack(
        texts, range(len(texts)), max_length=int(texts.lengths.max()), masked=run == "packed"
    )
    weights = RecurrentWeights(
        golden[f"{kind}/kernel"],
        golden[f"{kind}/recurrent_kernel"],
        golden[f"{kind}/bias"],
        golden.get(f"{kind}/recurrent_bias"),
    )
    initial = golden["initial"].copy()
    initial[golden["empty_row"]] = 0  # PyTorch leaves that row out
    states: dict[str, Any] = {}
    if run == "packed":
        states["initial"] = initial[batch.rows]
        if kind == "lstm":
            states["initial_cell"] = golden["initial_cell"][batch.rows]

    outputs, last, tape = reference.recurrent_forward(
        kind, batch, golden["table"][batch.words], weights, **states
    )
    at = text_positions(batch, golden["offsets"])
    d_outputs = np.zeros_like(outputs)
    d_outputs[at] = golden["d_outputs"]
    if run == "padded":
        assert batch.padding_steps == batch.steps
        d_outputs[batch.positions :] = golden["d_padding"]
    d_last = golden["d_last"][batch.rows]
    if run == "packed":
        d_last[batch.rows == golden["empty_row"]] = 0
    gradients = reference.recurrent_backward(kind, tape, d_last, d_outputs)

    def in_text_order(values: Array) -> Array:
        ordered = np.empty_like(values)
        ordered[batch.rows] = values
        return ordered

    d_table = np.zeros_like(golden["table"])
    d_table[batch.words] = gradients.inputs
    given: dict[str, Any] = {
        "outputs": outputs[at],
        "last": in_text_order(last),
        "d_table": d_table,
        "d_kernel": gradients.kernel,
        "d_recurrent_kernel": gradients.recurrent_kernel,
        "d_bias": gradients.bias,
    }
    if run == "padded":
        given["padding"] = outputs[batch.positions :]
    for name in ("initial", "initial_cell"):
        gradient = getattr(gradients, name)
        if gradient is not None:
            given[f"d_{name}"] = in_text_order(gradient)
    if gradients.recurrent_bias is not None:
        given["d_recurrent_bias"] = gradients.recurrent_bias

    assert given.keys() == expected.keys()
    for name, values in expected.items():
        scale = max(1.0, np.abs(values).max())
        np.testing.assert_allclose(
            given[name], values, rtol=1e-10, atol=1e-12 * scale, err_msg=name
        )


# --- Against Keras -----------------------------------------------------------------------------


def as_kind(name: str) -> Kind:
    return next(kind for kind in KINDS if kind == name)


def train_like_keras(run: KerasRun) -> tuple[Array, dict[str, Array]]:
    """The losses [steps] and final weights of the run's training, with reference functions.

    For a stock run, every padded position is a position of its own, for Keras squares the
    gradients of a word's occurrences (see make_keras_golden.py) one by one, padding's too.
    """
    texts = run.texts
    if run.stock and not run.masked:
        texts = TokenizedTexts.from_rows(
            [
                np.pad(texts.row(row), (run.length - len(texts.row(row)), 0))
                for row in range(len(texts))
            ]
        )
    kind = as_kind(run.kind)
    parameters = {name: values.astype(np.float64) for name, values in run.initial.items()}
    moments = {
        name: (np.zeros_like(values), np.zeros_like(values)) for name, values in parameters.items()
    }
    losses = np.empty(len(run.losses))
    for step in range(len(losses)):
        rows = np.arange(step * run.batch, (step + 1) * run.batch)
        batch = reference.pack(texts, rows, max_length=run.length, masked=run.masked)
        targets = run.targets[rows[batch.rows]]
        weights = RecurrentWeights(
            parameters["recurrent.kernel"],
            parameters["recurrent.recurrent_kernel"],
            parameters["recurrent.bias"],
            parameters.get("recurrent.recurrent_bias"),
        )
        words = batch.words[batch.index] if run.stock else batch.words
        inputs = parameters["embedding.weight"][words]
        _, last, tape = reference.recurrent_forward(kind, batch, inputs, weights, dense=run.stock)
        output_kernel = parameters["output.kernel"]
        logits = reference.linear_forward(last, output_kernel, parameters["output.bias"])
        if run.classes == 2:
            losses[step], d_logits, _ = reference.logistic_loss(logits[:, 0], targets)
            d_logits = d_logits[:, None]
        else:
            losses[step], d_logits, _ = reference.softmax_loss(logits, targets)
        d_last, d_kernel, d_bias = reference.linear_backward(last, output_kernel, d_logits)
        recurrent = reference.recurrent_backward(kind, tape, d_last)
        d_embedding = np.zeros_like(parameters["embedding.weight"])
        np.add.at(d_embedding, words, recurrent.inputs)
        gradients: dict[str, Any] = {
            "embedding.weight": d_embedding,
            "recurrent.kernel": recurrent.kernel,
            "recurrent.recurrent_kernel": recurrent.recurrent_kernel,
            "recurrent.bias": recurrent.bias,
            "recurrent.recurrent_bias": recurrent.recurrent_bias,
            "output.kernel": d_kernel,
            "output.bias": d_bias,
        }
        if run.stock:
            # The second moment gets the sum of squares: make up for what the update will add
            squares = np.zeros_like(d_embedding)
            np.add.at(squares, words, recurrent.inputs**2)
            surplus = (squares - d_embedding**2) * (1 - run.adam["beta_2"]) / run.adam["beta_2"]
            moments["embedding.weight"][1][...] += surplus
        for name, parameter in parameters.items():
            reference.adam_update(
                parameter,
                gradients[name],
                moments[name][0],
                moments[name][1],
                step=step + 1,
                learning_rate=run.learning_rate,
                beta_1=run.adam["beta_1"],
                beta_2=run.adam["beta_2"],
                epsilon=run.adam["epsilon"],
            )
    return losses, parameters


KERAS_RUNS = [run for kind in KERAS_KINDS for run in read_keras_runs(kind)]


@pytest.mark.parametrize("run", KERAS_RUNS, ids=[f"{run.kind}-{run.name}" for run in KERAS_RUNS])
def test_fifty_adam_steps_give_keras_s_losses(run: KerasRun) -> None:
    losses, final = train_like_keras(run)
    np.testing.assert_allclose(losses, run.losses, rtol=1e-4)
    assert run.stock or final.keys() == run.final.keys()
    for name, values in run.final.items():
        moved = np.abs(values - run.initial[name]).max()
        assert moved > run.learning_rate / 2, name  # else this would show nothing
        np.testing.assert_allclose(final[name], values, rtol=0, atol=1e-3 * moved, err_msg=name)


def test_keras_runs_can_tell_conventions_apart() -> None:
    """The comparison would notice the other sense of the update gate or swapped biases."""
    run = next(run for run in KERAS_RUNS if run.kind == "gru_after" and run.masked)
    size = run.final["recurrent.recurrent_kernel"].shape[0]
    negated = {name: values.copy() for name, values in run.initial.items()}
    for name in ("kernel", "recurrent_kernel", "bias", "recurrent_bias"):
        negated[f"recurrent.{name}"][..., :size] *= -1
    swapped = dict(run.initial)
    swapped["recurrent.bias"] = run.initial["recurrent.recurrent_bias"]
    swapped["recurrent.recurrent_bias"] = run.initial["recurrent.bias"]
    for wrong in (negated, swapped):
        losses, _ = train_like_keras(replace(run, initial=wrong))
        assert np.abs(losses / run.losses - 1).max() > 1e-3


# --- Adam --------------------------------------------------------------------------------------


def test_adam_update_by_hand() -> None:
    parameter, first, second = np.array([1.0, -2.0]), np.array([0.1, 0.0]), np.array([0.04, 0.0])
    reference.adam_update(
        parameter,
        np.array([0.5, 0.0]),
        first,
        second,
        step=3,
        learning_rate=0.01,
        beta_1=0.9,
        beta_2=0.99,
        epsilon=1e-3,
    )
    new_first, new_second = 0.9 * 0.1 + 0.1 * 0.5, 0.99 * 0.04 + 0.01 * 0.25
    alpha = 0.01 * np.sqrt(1 - 0.99**3) / (1 - 0.9**3)
    np.testing.assert_allclose(first, [new_first, 0.0], rtol=1e-14)
    np.testing.assert_allclose(second, [new_second, 0.0], rtol=1e-14)
    moved = alpha * new_first / (np.sqrt(new_second) + 1e-3)
    np.testing.assert_allclose(parameter, [1 - moved, -2.0], rtol=1e-14)
