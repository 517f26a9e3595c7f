"""The kernels, on every instruction set, against the reference; and what ops refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from golden.keras_runs import KINDS as KERAS_KINDS
from golden.keras_runs import KerasRun, read_keras_runs
from tidegate import _kernels, ops, reference
from tidegate.batch import PackedBatch, TokenizedTexts
from tidegate.errors import ConfigError, ShapeError
from tidegate.layers import Gradients
from tidegate.model import ModelConfig, TextModel
from tidegate.optim import Adam
from tidegate.reference import KINDS, Kind, RecurrentGradients, RecurrentWeights

Float32 = npt.NDArray[np.float32]

DATA = Path(__file__).parent / "data"


@dataclass(frozen=True)
class Case:
    """One recurrent pass. lengths: tokens of each text; ids are below ``vocabulary``."""

    kind: Kind
    lengths: tuple[int, ...] = (5, 0, 11, 3, 11, 7, 1, 2, 9, 4)
    vocabulary: int = 13
    max_length: int = 11
    masked: bool = False
    dense: bool = False
    initial: bool = False
    initial_cell: bool = False
    d_last: bool = True
    d_outputs: bool = False
    inputs: int = 6
    hidden: int = 19


@dataclass(frozen=True)
class Problem:
    """A case's arrays, float32."""

    batch: PackedBatch
    inputs: Float32
    weights: RecurrentWeights
    initial: Float32 | None
    initial_cell: Float32 | None
    d_last: Float32 | None
    d_outputs: Float32 | None


def make_problem(case: Case) -> Problem:
    generator = np.random.default_rng([case.hidden, case.inputs, len(case.lengths)])

    def normal(*shape: int, scale: float = 1.0) -> Float32:
        return generator.normal(0, scale, shape).astype(np.float32)

    texts = TokenizedTexts.from_rows(
        [generator.integers(0, case.vocabulary, length) for length in case.lengths]
    )
    batch = reference.pack(texts, range(len(texts)), max_length=case.max_length, masked=case.masked)
    width = len(reference.gates_of(case.kind)) * case.hidden
    rows = batch.total_positions if case.dense else len(batch.words)
    states = (batch.batch_size, case.hidden)
    return Problem(
        batch=batch,
        inputs=normal(rows, case.inputs),
        weights=RecurrentWeights(
            kernel=normal(case.inputs, width, scale=case.inputs**-0.5),
            recurrent_kernel=normal(case.hidden, width, scale=0.8 * case.hidden**-0.5),
            bias=normal(width, scale=0.3),
            recurrent_bias=normal(width, scale=0.3) if case.kind == "gru_after" else None,
        ),
        initial=normal(*states, scale=0.5) if case.initial else None,
        initial_cell=normal(*states) if case.initial_cell else None,
        d_last=normal(*states) if case.d_last else None,
        d_outputs=normal(batch.total_positions, case.hidden) if case.d_outputs else None,
    )


def run_kernels(
    case: Case, problem: Problem, precision: ops.Precision = "float32"
) -> dict[str, Any]:
    """Outputs, last states and every gradient by name."""
    outputs, last, tape = ops.recurrent_forward(
        case.kind,
        problem.batch,
        problem.inputs,
        problem.weights,
        dense=case.dense,
        initial=problem.initial,
        initial_cell=problem.initial_cell,
        all_outputs=True,
        precision=precision,
    )
    gates = {} if case.kind == "rnn" else tape.gates
    gradients = ops.recurrent_backward(tape, problem.d_last, problem.d_outputs)
    return {
        "outputs": outputs,
        "last": last,
        **{f"gate {name}": values for name, values in gates.items()},
        **named_gradients(gradients),
    }


@cache
def expected_of(case: Case) -> dict[str, Any]:
    """The same from the reference, computed once for all instruction sets."""
    problem = make_problem(case)
    outputs, last, tape = reference.recurrent_forward(
        case.kind,
        problem.batch,
        problem.inputs,
        problem.weights,
        dense=case.dense,
        initial=problem.initial,
        initial_cell=problem.initial_cell,
    )
    d_last = np.zeros_like(last) if problem.d_last is None else problem.d_last
    gradients = reference.recurrent_backward(case.kind, tape, d_last, problem.d_outputs)
    gates = {} if case.kind == "rnn" else tape.gates
    return {
        "outputs": outputs,
        "last": last,
        **{f"gate {name}": values for name, values in gates.items()},
        **named_gradients(gradients),
    }


def named_gradients(gradients: RecurrentGradients) -> dict[str, Any]:
    return {f"d_{name}": array for name, array in vars(gradients).items() if array is not None}


def assert_close(given: Any, expected: Any, name: str) -> None:
    """float32 within 1e-5 of the expected array's largest element."""
    assert given.dtype == np.float32, name
    scale = np.abs(expected).max(initial=0.0)
    np.testing.assert_allclose(given, expected, rtol=0, atol=1e-5 * scale, err_msg=name)


def assert_all_close(given: dict[str, Any], expected: dict[str, Any]) -> None:
    assert given.keys() == expected.keys()
    for name, values in expected.items():
        assert_close(given[name], values, name)


def assert_same_bits(given: dict[str, Any], expected: dict[str, Any], note: str = "") -> None:
    assert given.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(given[name], values, err_msg=f"{name} {note}")


# --- the recurrent kernels against the reference -----------------------------------------------

STATES: dict[str, dict[str, Any]] = {
    "zero states": {},
    "initial": {"initial": True},
    "initial cell": {"initial_cell": True},
    "both initial": {"initial": True, "initial_cell": True},
}
D_OUTPUTS: dict[str, dict[str, Any]] = {
    "d_last": {},
    "d_outputs": {"d_last": False, "d_outputs": True},
    "both d": {"d_outputs": True},
    "no d": {"d_last": False},
}


def all_modes() -> dict[str, Case]:
    cases = {}
    for kind in KINDS:
        for masked in (True, False):
            for dense in (True, False):
                for states, given_states in STATES.items():
                    if given_states and not masked:
                        continue
                    if "initial_cell" in given_states and kind != "lstm":
                        continue
                    for gradients, given_gradients in D_OUTPUTS.items():
                        name = (
                            f"{kind}, {'masked' if masked else 'unmasked'}, "
                            f"{'dense' if dense else 'per word'}, {states}, {gradients}"
                        )
                        cases[name] = Case(
                            kind, masked=masked, dense=dense, **given_states, **given_gradients
                        )
    return cases


MODES = all_modes()


@pytest.mark.parametrize("case", MODES.values(), ids=MODES)
def test_every_mode_equals_the_reference(isa: str, case: Case) -> None:
    expected = expected_of(case)
    assert ("d_initial" in expected, "d_initial_cell" in expected) == (
        case.initial,
        case.initial_cell,
    )
    assert_all_close(run_kernels(case, make_problem(case)), expected)


# Hidden sizes that fill no vector, one, and several; batches around the kernels' tiles.
SIZES = [
    # hidden, inputs, batch
    (1, 2, 4),
    (3, 1, 70),
    (15, 17, 1),
    (16, 33, 2),
    (17, 5, 8),
    (31, 16, 9),
    (33, 40, 23),
    (100, 7, 65),
    (128, 12, 33),
]


@pytest.mark.parametrize("masked", [True, False], ids=["masked", "unmasked"])
@pytest.mark.parametrize(
    ("hidden", "inputs", "batch"), SIZES, ids=[f"hidden {hidden}" for hidden, _, _ in SIZES]
)
@pytest.mark.parametrize("kind", KINDS)
def test_every_size_equals_the_reference(
    isa: str, kind: Kind, hidden: int, inputs: int, batch: int, masked: bool
) -> None:
    lengths = tuple((7 * row + 3) % 10 for row in range(batch))  # 0 to 9
    case = Case(
        kind,
        lengths=lengths,
        vocabulary=5 * batch,
        max_length=8,
        masked=masked,
        dense=hidden == 31,
        initial=masked and hidden in (16, 33),
        d_outputs=True,
        hidden=hidden,
        inputs=inputs,
    )
    assert_all_close(run_kernels(case, make_problem(case)), expected_of(case))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("masked", [True, False], ids=["masked", "unmasked"])
@pytest.mark.parametrize(
    ("lengths", "vocabulary", "max_length"),
    [
        pytest.param((0, 0, 0), 4, 6, id="all rows empty"),
        pytest.param((), 4, 6, id="no rows"),
        pytest.param((1,), 9, 1, id="one token"),
        pytest.param((4, 0, 2, 3), 9, 1, id="max_length 1"),
        pytest.param((6,) * 9, 9, 6, id="all rows full"),
        pytest.param((3, 5, 1, 5), 1, 6, id="one word, the padding's"),
        pytest.param((2, 5, 0, 30, 11), 2, 40, id="two words often"),
        pytest.param((2,) * 17, 60, 21, id="all rows late"),
        pytest.param(tuple(range(70)), 900, 70, id="every length and many words"),
    ],
)
def test_unusual_batches_equal_the_reference(
    isa: str, kind: Kind, masked: bool, lengths: tuple[int, ...], vocabulary: int, max_length: int
) -> None:
    case = Case(
        kind,
        lengths=lengths,
        vocabulary=vocabulary,
        max_length=max_length,
        masked=masked,
        d_outputs=True,
        hidden=5,
        inputs=3,
    )
    assert_all_close(run_kernels(case, make_problem(case)), expected_of(case))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    kind = draw(st.sampled_from(KINDS))
    masked = draw(st.booleans())
    return Case(
        kind,
        lengths=tuple(draw(st.lists(st.integers(0, 9), max_size=20))),
        vocabulary=draw(st.integers(1, 30)),
        max_length=draw(st.integers(1, 8)),
        masked=masked,
        dense=draw(st.booleans()),
        initial=masked and draw(st.booleans()),
        initial_cell=masked and kind == "lstm" and draw(st.booleans()),
        d_last=draw(st.booleans()),
        d_outputs=draw(st.booleans()),
        hidden=draw(st.integers(1, 50)),
        inputs=draw(st.integers(1, 50)),
    )


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=cases())
def test_any_shape_equals_the_reference(isa: str, case: Case) -> None:
    assert_all_close(run_kernels(case, make_problem(case)), expected_of(case))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("masked", [True, False], ids=["masked", "unmasked"])
def test_saturated_gates_equal_the_reference(isa: str, kind: Kind, masked: bool) -> None:
    """Sums up to 10,000 in all combinations: nothing overflows, and no slope changes its sign."""
    case = Case(kind, masked=masked, d_outputs=True, hidden=81, inputs=4)
    problem = make_problem(case)
    levels = np.array([-1e4, -100, -87.5, -60, -44, -20, 0, 20, 44, 60, 87.5, 100, 1e4])
    generator = np.random.default_rng(9)
    bias = generator.choice(levels, problem.weights.bias.shape).astype(np.float32)
    problem = replace(problem, weights=replace(problem.weights, bias=bias))
    outputs, last, tape = reference.recurrent_forward(
        kind, problem.batch, problem.inputs, problem.weights
    )
    d_last, d_outputs = problem.d_last, problem.d_outputs
    assert d_last is not None
    expected = named_gradients(reference.recurrent_backward(kind, tape, d_last, d_outputs))
    found = run_kernels(case, problem)
    for name, values in {"outputs": outputs, "last": last, **expected}.items():
        assert_close(found[name], values, name)
    for name, values in tape.gates.items():
        if kind != "rnn":
            assert_close(found[f"gate {name}"], values, name)
            assert np.abs(found[f"gate {name}"]).max() <= 1


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_the_inputs_gradient_alone_is_the_one_beside_the_weights(
    isa: str, kind: ops.Kind, dense: bool, masked: bool
) -> None:
    cell = masked and kind == "lstm"
    case = Case(kind, masked=masked, d_outputs=True, dense=dense, initial=masked, initial_cell=cell)
    problem = make_problem(case)

    def forward() -> ops.RecurrentTape:
        return ops.recurrent_forward(
            kind,
            problem.batch,
            problem.inputs,
            problem.weights,
            dense=dense,
            initial=problem.initial,
            initial_cell=problem.initial_cell,
        )[2]

    whole = ops.recurrent_backward(forward(), problem.d_last, problem.d_outputs).inputs
    tape = forward()
    alone = ops.recurrent_input_gradient(tape, problem.d_last, problem.d_outputs)
    np.testing.assert_array_equal(alone, whole)
    with pytest.raises(ShapeError, match="has run"):
        ops.recurrent_input_gradient(tape, problem.d_last)


def test_a_used_tape_gives_the_same_as_a_new_one(isa: str) -> None:
    """Its memory is larger than needed and full of another pass."""
    large = Case("lstm", lengths=(30, 2, 17) * 5, max_length=30, hidden=40)
    problem = make_problem(large)
    _, _, tape = ops.recurrent_forward("lstm", problem.batch, problem.inputs, problem.weights)
    ops.recurrent_backward(tape, problem.d_last)
    for kind in KINDS:
        case = Case(kind, d_outputs=True)
        problem = make_problem(case)
        outputs, last, used = ops.recurrent_forward(
            kind, problem.batch, problem.inputs, problem.weights, all_outputs=True, tape=tape
        )
        assert used is tape
        given = named_gradients(ops.recurrent_backward(tape, problem.d_last, problem.d_outputs))
        expected = run_kernels(case, problem)
        assert_same_bits(
            {"outputs": outputs, "last": last, **given},
            {name: values for name, values in expected.items() if not name.startswith("gate")},
        )


def test_outputs_are_left_out_unless_asked_for(isa: str) -> None:
    case = Case("gru_after")
    problem = make_problem(case)
    outputs, last, _ = ops.recurrent_forward(
        "gru_after", problem.batch, problem.inputs, problem.weights
    )
    assert outputs is None
    np.testing.assert_array_equal(last, run_kernels(case, problem)["last"])


# --- the same bits -----------------------------------------------------------------------------

LARGE = (37, 0, 5, 40, 40, 12, 1, 29, 8, 33) * 7


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("masked", [True, False], ids=["masked", "unmasked"])
@pytest.mark.parametrize("dense", [True, False], ids=["dense", "per word"])
@pytest.mark.usefixtures("restored_threads")
def test_threads_change_no_bit(isa: str, kind: Kind, masked: bool, dense: bool) -> None:
    case = Case(
        kind,
        lengths=LARGE,
        vocabulary=700,
        max_length=40,
        masked=masked,
        dense=dense,
        initial=masked,
        d_outputs=True,
        inputs=50,
        hidden=33,
    )
    problem = make_problem(case)
    ops.set_threads(1)
    expected = run_kernels(case, problem)
    assert min(np.abs(values).max() for values in expected.values()) > 0
    for threads in (2, 3, 5, 8):
        ops.set_threads(threads)
        assert_same_bits(run_kernels(case, problem), expected, f"with {threads} threads")


@pytest.mark.usefixtures("restored_threads")
def test_threads_change_no_bit_of_the_small_operations(isa: str) -> None:
    generator = np.random.default_rng(1)

    def normal(*shape: int) -> Float32:
        return generator.normal(0, 1, shape).astype(np.float32)

    inputs, kernel, bias = normal(333, 45), normal(45, 21), normal(21)
    d_outputs, flat = normal(333, 21), normal(100_003)
    rows = generator.integers(0, 333, 700).astype(np.int32)

    def run() -> dict[str, Any]:
        d_inputs, d_kernel, d_bias = ops.linear_backward(inputs, kernel, d_outputs)
        return {
            "outputs": ops.linear_forward(inputs, kernel, bias),
            "d_inputs": d_inputs,
            "d_kernel": d_kernel,
            "d_bias": d_bias,
            "gathered": ops.gather_rows(inputs, rows),
            "squares": ops.sum_of_squares(flat),
        }

    ops.set_threads(1)
    expected = run()
    for threads in (2, 3, 5, 8):
        ops.set_threads(threads)
        assert_same_bits(run(), expected, f"with {threads} threads")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("masked", [True, False], ids=["masked", "unmasked"])
def test_a_row_s_bits_do_not_depend_on_its_batch(isa: str, kind: Kind, masked: bool) -> None:
    generator = np.random.default_rng(2)
    lengths = generator.integers(0, 13, 21)
    texts = TokenizedTexts.from_rows([generator.integers(1, 40, length) for length in lengths])
    table = generator.normal(0, 1, (40, 9)).astype(np.float32)
    weights = make_problem(Case(kind, inputs=9, hidden=21)).weights

    def states_of(rows: list[int]) -> Float32:
        """[len(rows), H] in the order of rows."""
        batch = ops.pack(texts, rows, max_length=12, masked=masked, vocabulary_size=40)
        _, last, _ = ops.recurrent_forward(kind, batch, table[batch.words], weights)
        ordered = np.empty_like(last)
        ordered[batch.rows] = last
        return ordered

    together = states_of(list(range(21)))
    assert np.unique(together[lengths > 0], axis=0).shape[0] == np.count_nonzero(lengths)
    for row in range(21):
        np.testing.assert_array_equal(states_of([row])[0], together[row])
    for size in (2, 3, 7, 8, 9, 16, 20):
        rows = generator.permutation(21)[:size].tolist()
        np.testing.assert_array_equal(states_of(rows), together[rows])


# --- against PyTorch and Keras -----------------------------------------------------------------


@pytest.fixture(scope="module")
def torch_golden() -> dict[str, Any]:
    with np.load(DATA / "torch_recurrent.npz", allow_pickle=False) as file:
        return dict(file)


def positions_in_text_order(batch: PackedBatch, offsets: Any) -> npt.NDArray[np.int64]:
    """[N]: the position of each token of the texts, text after text."""
    positions = np.empty(batch.positions, np.int64)
    for packed in range(batch.batch_size):
        start, length = offsets[batch.rows[packed]], batch.lengths[packed]
        first = batch.steps - length
        positions[start : start + length] = batch.step_offsets[first : batch.steps] + packed
    return positions


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("run", ["packed", "padded"])
def test_values_and_gradients_equal_pytorch(
    isa: str, kind: Kind, run: str, torch_golden: dict[str, Any]
) -> None:
    golden = {
        name: values.astype(np.float32) if values.dtype == np.float64 else values
        for name, values in torch_golden.items()
    }
    offsets, empty = golden["offsets"], int(golden["empty_row"])
    texts = TokenizedTexts(golden["token_ids"], offsets)
    table = golden["table"]
    batch = ops.pack(
        texts,
        np.arange(len(texts)),
        max_length=int(texts.lengths.max()),
        masked=run == "packed",
        vocabulary_size=len(table),
    )
    weights = RecurrentWeights(
        golden[f"{kind}/kernel"],
        golden[f"{kind}/recurrent_kernel"],
        golden[f"{kind}/bias"],
        golden.get(f"{kind}/recurrent_bias"),
    )
    d_last = golden["d_last"].copy()
    states: dict[str, Any] = {}
    if run == "packed":  # PyTorch left the empty row out
        d_last[empty] = 0
        initial = golden["initial"].copy()
        initial[empty] = 0
        states["initial"] = initial[batch.rows]
        if kind == "lstm":
            states["initial_cell"] = golden["initial_cell"][batch.rows]
    outputs, last, tape = ops.recurrent_forward(
        kind, batch, table[batch.words], weights, all_outputs=True, **states
    )
    assert outputs is not None
    at = positions_in_text_order(batch, offsets)
    d_outputs = np.zeros_like(outputs)
    d_outputs[at] = golden["d_outputs"]
    if run == "padded":
        d_outputs[batch.positions :] = golden["d_padding"]
    gradients = ops.recurrent_backward(tape, d_last[batch.rows], d_outputs)

    given: dict[str, Any] = {"outputs": outputs[at], "last": np.empty_like(last)}
    given["last"][batch.rows] = last
    given["d_table"] = np.zeros_like(table)
    given["d_table"][batch.words] = gradients.inputs
    if run == "padded":
        given["padding"] = outputs[batch.positions :]
    for name, array in named_gradients(gradients).items():
        if name in ("d_initial", "d_initial_cell"):
            given[name] = np.empty_like(array)
            given[name][batch.rows] = array
        elif name != "d_inputs":
            given[name] = array
    prefix = f"{kind}/{run}/"
    expected = {
        name.removeprefix(prefix): values
        for name, values in torch_golden.items()
        if name.startswith(prefix)
    }
    assert_all_close(given, expected)


KERAS_RUNS = [run for kind in KERAS_KINDS for run in read_keras_runs(kind) if not run.stock]


def losses_like_keras(run: KerasRun, losses: int) -> tuple[list[float], dict[str, Float32]]:
    cell, _, reset = run.kind.partition("_")
    vocabulary_size, embedding_size = run.initial["embedding.weight"].shape
    config = ModelConfig(
        cell=cell,
        reset=reset or "after",
        vocabulary_size=vocabulary_size,
        embedding_size=embedding_size,
        hidden_size=len(run.initial["output.kernel"]),
        classes=run.classes,
        max_length=run.length,
        masked=run.masked,
    )
    model = TextModel(config, {name: values.copy() for name, values in run.initial.items()})
    adam = Adam(
        model.parameters,
        row_parameters=("embedding.weight",),
        learning_rate=run.learning_rate,
        **run.adam,
    )
    found = []
    for step in range(losses):
        rows = np.arange(step * run.batch, (step + 1) * run.batch)
        batch = model.pack(run.texts, rows)
        adam.prepare(batch.words)
        logits, backward = model(batch)
        loss, d_logits, _ = model.loss(logits, run.targets[rows[batch.rows]])
        gradients: Gradients = {}
        backward(d_logits, gradients)
        adam.step(gradients)
        found.append(loss)
    adam.finish()
    return found, dict(model.parameters)


@pytest.mark.parametrize("run", KERAS_RUNS, ids=[f"{run.kind}-{run.name}" for run in KERAS_RUNS])
@pytest.mark.usefixtures("restored_threads")
def test_fifty_adam_steps_give_keras_s_losses_with_summed_embedding_gradients(
    isa: str, run: KerasRun
) -> None:
    ops.set_threads(1)  # the batches are so small that more would only wait for each other
    losses, parameters = losses_like_keras(run, 50)
    assert len(run.losses) == 50
    np.testing.assert_allclose(losses, run.losses, rtol=1e-4)
    for name, values in run.final.items():
        moved = np.abs(values - run.initial[name]).max()
        np.testing.assert_allclose(
            parameters[name], values, rtol=0, atol=1e-2 * moved, err_msg=name
        )


@pytest.mark.parametrize("kind", KERAS_KINDS)
def test_stock_keras_on_tensorflow_has_other_losses(kind: str) -> None:
    """What the README and docs/equations.md say of Keras as it comes."""
    runs = {run.name: run for run in read_keras_runs(kind)}
    stock = [run for run in runs.values() if run.stock]
    assert stock
    for run in stock:
        summed = runs[run.name.replace("stock", "summed")]
        apart = np.abs(run.losses / summed.losses - 1.0)
        assert 2 <= 1 + np.argmax(apart > 1e-4) <= 6, run.name
        assert 0.0045 < apart.max() < 0.3, run.name


# --- not a number ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("masked", [True, False], ids=["masked", "unmasked"])
@pytest.mark.parametrize("classes", [2, 3])
def test_nan_in_any_weight_is_a_nan_loss(isa: str, kind: Kind, masked: bool, classes: int) -> None:
    cell, _, reset = kind.partition("_")
    config = ModelConfig(
        cell=cell,
        reset=reset or "after",
        vocabulary_size=9,
        embedding_size=5,
        hidden_size=18,
        classes=classes,
        max_length=4,
        masked=masked,
    )
    texts = TokenizedTexts.from_rows([[5, 6, 7], [6, 7, 8, 5]])
    targets = np.array([1, 0], np.int32)
    model = TextModel.initialize(config, 0)
    batch = model.pack(texts, [0, 1])
    assert np.isfinite(model.loss(model(batch)[0], targets)[0])
    for name, parameter in model.parameters.items():
        place = (6, 2) if name == "embedding.weight" else (-1,) * parameter.ndim
        kept = parameter[place]
        parameter[place] = np.nan
        loss, _, _ = model.loss(model(batch)[0], targets)
        assert np.isnan(loss), name
        parameter[place] = kept


# --- the output layer and losses ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "depth", "units"), [(1, 1, 1), (64, 128, 1), (70, 33, 5), (3, 17, 40), (200, 7, 16)]
)
def test_linear_equals_the_reference(isa: str, rows: int, depth: int, units: int) -> None:
    generator = np.random.default_rng(3)

    def normal(*shape: int) -> Float32:
        return generator.normal(0, 1, shape).astype(np.float32)

    inputs, kernel, bias = normal(rows, depth), normal(depth, units), normal(units)
    d_outputs = normal(rows, units)
    assert_close(
        ops.linear_forward(inputs, kernel, bias),
        reference.linear_forward(inputs, kernel, bias),
        "outputs",
    )
    for name, given_array, expected in zip(
        ("d_inputs", "d_kernel", "d_bias"),
        ops.linear_backward(inputs, kernel, d_outputs),
        reference.linear_backward(inputs, kernel, d_outputs),
        strict=True,
    ):
        assert_close(given_array, expected, name)


def test_linear_of_no_rows(isa: str) -> None:
    nothing, kernel = np.zeros((0, 3), np.float32), np.ones((3, 2), np.float32)
    assert ops.linear_forward(nothing, kernel, np.ones(2, np.float32)).shape == (0, 2)
    _, d_kernel, d_bias = ops.linear_backward(nothing, kernel, np.zeros((0, 2), np.float32))
    np.testing.assert_array_equal(d_kernel, np.zeros((3, 2)))
    np.testing.assert_array_equal(d_bias, np.zeros(2))


def test_logistic_loss_equals_the_reference() -> None:
    logits = np.array([0.0, 2.0, -3.0, 1e4, -1e4, 1e4, -1e4, 88.0, -1e-6, 1e-30], np.float32)
    targets = np.array([0, 1, 1, 1, 1, 0, 0, 0, 1, 1], np.int32)
    loss, d_logits, correct = ops.logistic_loss(logits, targets)
    expected, d_expected, expected_correct = reference.logistic_loss(logits, targets)
    assert loss == pytest.approx(expected, rel=1e-12)
    assert 2000 < loss < 2100  # the two that are wrong by ten thousand, of ten
    np.testing.assert_allclose(d_logits, d_expected, rtol=1e-6, atol=0)
    assert correct == expected_correct == 5  # a logit of exactly 0 says 0


def test_softmax_loss_equals_the_reference() -> None:
    logits = np.array(
        [[1, 2, 3], [2, 2, 1], [2, 2, 1], [1e4, -1e4, 0], [1e4, -1e4, 0], [-1e4, -1e4, -1e4]],
        np.float32,
    )
    targets = np.array([2, 0, 1, 0, 1, 2], np.int32)
    loss, d_logits, correct = ops.softmax_loss(logits, targets)
    expected, d_expected, expected_correct = reference.softmax_loss(logits, targets)
    assert loss == pytest.approx(expected, rel=1e-12)
    assert loss > 2e4 / 6
    np.testing.assert_allclose(d_logits, d_expected, rtol=1e-6, atol=0)
    assert correct == expected_correct == 3  # of equals the first


@given(
    logits=st.lists(
        st.lists(st.floats(-50, 50, width=32), min_size=4, max_size=4), min_size=1, max_size=9
    ),
    seed=st.integers(0, 99),
)
def test_any_loss_equals_the_reference(logits: list[list[float]], seed: int) -> None:
    array = np.array(logits, np.float32)
    generator = np.random.default_rng(seed)
    classes = generator.integers(0, 4, len(array)).astype(np.int32)
    labels = generator.integers(0, 2, len(array)).astype(np.int32)
    one = np.ascontiguousarray(array[:, 0])
    for given_loss, expected in (
        (ops.softmax_loss(array, classes), reference.softmax_loss(array, classes)),
        (ops.logistic_loss(one, labels), reference.logistic_loss(one, labels)),
    ):
        assert given_loss[0] == pytest.approx(expected[0], rel=1e-12, abs=1e-15)
        np.testing.assert_allclose(given_loss[1], expected[1], rtol=1e-6, atol=1e-16)
        assert given_loss[2] == expected[2]


def test_nan_logits_are_a_nan_loss_and_never_right() -> None:
    nan = float("nan")
    for place in range(3):
        logits = np.array([[1, 2, 3]], np.float32)
        logits[0, place] = nan
        assert np.isnan(ops.softmax_loss(logits, np.array([1], np.int32))[0])
    loss, _, _ = ops.logistic_loss(np.array([1, nan], np.float32), np.array([1, 0], np.int32))
    assert np.isnan(loss)


# --- sums and gathers --------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 1023, 1025, 16_384, 16_385, 300_001])
def test_sum_of_squares_keeps_its_digits(isa: str, count: int) -> None:
    values = np.random.default_rng(4).normal(3, 1, count).astype(np.float32)
    expected = float((values.astype(np.float64) ** 2).sum())
    assert ops.sum_of_squares(values) == pytest.approx(expected, rel=2e-6)
    assert ops.sum_of_squares(values.reshape(1, -1)) == ops.sum_of_squares(values)


def test_gather_rows_copies_rows(isa: str) -> None:
    table = np.random.default_rng(5).normal(0, 1, (30, 7)).astype(np.float32)
    rows = np.array([29, 0, 0, 7] * 40, np.int32)
    found = ops.gather_rows(table, rows)
    np.testing.assert_array_equal(found, table[rows])
    found[:] = 0
    assert np.abs(table[0]).max() > 0
    assert ops.gather_rows(table, rows[:0]).shape == (0, 7)


# --- what is refused ---------------------------------------------------------------------------


def float32(*shape: int) -> Float32:
    return np.zeros(shape, np.float32)


GOOD = Case("gru_after", lengths=(2, 0, 4, 1), max_length=5, hidden=7, inputs=3)


def forward_with(case: Case = GOOD, **changed: Any) -> Any:
    """recurrent_forward of a sound problem, but for the given arguments."""
    problem = make_problem(case)
    arguments: dict[str, Any] = {
        "kind": case.kind,
        "batch": problem.batch,
        "inputs": problem.inputs,
        "weights": problem.weights,
    }
    for name in ("kernel", "recurrent_kernel", "bias", "recurrent_bias"):
        if name in changed:
            arguments["weights"] = replace(arguments["weights"], **{name: changed.pop(name)})
    return ops.recurrent_forward(**{**arguments, **changed})


def strided(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The same values, not contiguous."""
    return np.repeat(array, 2, axis=-1)[..., ::2]


ROWS, PLACES, WORDS = 4, 7, len(make_problem(GOOD).batch.words)
PADDING = 5

BAD_FORWARD: dict[str, tuple[dict[str, Any], str]] = {
    "list": ({"inputs": [[0.0] * 3]}, "inputs is a list; give a NumPy array"),
    "float64": (
        {"inputs": np.zeros((WORDS, 3))},
        "inputs has dtype float64; give float32",
    ),
    "too few words": (
        {"inputs": float32(WORDS - 1, 3)},
        rf"inputs has shape \[{WORDS - 1}, 3\]; \[{WORDS}, 3\] is needed",
    ),
    "too wide": ({"inputs": float32(WORDS, 4)}, rf"inputs has shape \[{WORDS}, 4\]"),
    "flat": ({"inputs": float32(WORDS * 3)}, rf"inputs has shape \[{WORDS * 3}\]"),
    "words where positions are needed": (
        {"dense": True},
        rf"inputs has shape \[{WORDS}, 3\]; \[{PLACES + PADDING}, 3\] is needed",
    ),
    "strided": (
        {"inputs": strided(float32(WORDS, 3))},
        r"inputs is not contiguous; pass np.ascontiguousarray\(inputs\)",
    ),
    "transposed kernel": ({"kernel": float32(21, 3).T}, "kernel is not contiguous"),
    "narrow kernel": (
        {"kernel": float32(3, 20)},
        r"kernel has shape \[3, 20\]; \[any, 21\] is needed",
    ),
    "kernel of no inputs": ({"kernel": float32(0, 21)}, "must have at least one row"),
    "flat recurrent kernel": (
        {"recurrent_kernel": float32(7 * 21)},
        r"recurrent_kernel has shape \[147\]; \[any, any\] is needed",
    ),
    "recurrent kernel of other gates": (
        {"recurrent_kernel": float32(7, 28)},
        r"recurrent_kernel has shape \[7, 28\]; \[7, 21\] is needed",
    ),
    "bias": ({"bias": float32(20)}, r"bias has shape \[20\]; \[21\] is needed"),
    "recurrent bias": (
        {"recurrent_bias": float32(7)},
        r"recurrent_bias has shape \[7\]; \[21\] is needed",
    ),
    "no recurrent bias": (
        {"recurrent_bias": None},
        "recurrent_bias belongs to kind='gru_after', and to no other",
    ),
    "initial with padding": (
        {"initial": float32(ROWS, 7)},
        "initial does not go with a padded batch; pack with masked=True",
    ),
}


@pytest.mark.parametrize(("changed", "message"), BAD_FORWARD.values(), ids=BAD_FORWARD)
def test_bad_arguments_of_a_forward_pass(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        forward_with(**changed)


def test_bad_states_and_kinds_of_a_forward_pass() -> None:
    masked = replace(GOOD, masked=True)
    with pytest.raises(ShapeError, match=r"initial has shape \[4, 8\]; \[4, 7\] is needed"):
        forward_with(masked, initial=float32(4, 8))
    with pytest.raises(ShapeError, match="initial_cell belongs to kind='lstm', not 'gru_after'"):
        forward_with(masked, initial_cell=float32(4, 7))
    with pytest.raises(ShapeError, match="initial_cell has dtype float64"):
        forward_with(
            replace(masked, kind="lstm"), initial_cell=np.zeros((4, 7)), initial=float32(4, 7)
        )
    for kind in ("gru_before", "lstm", "rnn"):
        width = 7 * len(reference.gates_of(kind))
        with pytest.raises(ShapeError, match="recurrent_bias belongs to kind='gru_after'"):
            forward_with(replace(GOOD, kind=kind), recurrent_bias=float32(width))
    with pytest.raises(ShapeError, match="must have at least one row"):
        forward_with(
            recurrent_kernel=float32(0, 0),
            kernel=float32(3, 0),
            bias=float32(0),
            recurrent_bias=float32(0),
        )
    with pytest.raises(ConfigError, match="kind='gru' is not one of gru_after, gru_before, lstm"):
        forward_with(kind="gru")


def changed_batch(**changed: Any) -> PackedBatch:
    return replace(make_problem(GOOD).batch, **changed)


def int32(*values: int) -> npt.NDArray[np.int32]:
    return np.array(values, np.int32)


def with_element(name: str, place: int, value: int) -> PackedBatch:
    array = getattr(make_problem(GOOD).batch, name).copy()
    array[place] = value
    return changed_batch(**{name: array})


BAD_BATCHES: dict[str, tuple[Callable[[], PackedBatch], str]] = {
    "int64 lengths": (
        lambda: changed_batch(lengths=np.array([4, 2, 1, 0])),
        "batch.lengths has dtype int64; give int32",
    ),
    "a length too few": (
        lambda: changed_batch(lengths=int32(4, 2, 1)),
        r"batch.lengths has shape \[3\]; \[4\] is needed",
    ),
    "rising lengths": (
        lambda: changed_batch(lengths=int32(4, 1, 2, 0)),
        "batch.lengths must fall from at most steps=5 to at least 0",
    ),
    "a length beyond the steps": (lambda: with_element("lengths", 0, 6), "must fall from at most"),
    "a negative length": (lambda: with_element("lengths", 3, -1), "must fall .* to at least 0"),
    "another length": (
        lambda: with_element("lengths", 0, 5),
        "batch.step_offsets does not fit batch.lengths",
    ),
    "more steps": (
        lambda: changed_batch(steps=6),
        r"batch.step_offsets has shape \[6\]; \[7\] is needed",
    ),
    "negative steps": (lambda: changed_batch(steps=-1), "batch.step"),
    "no step offsets": (lambda: changed_batch(step_offsets=int32()), "batch.step_offsets"),
    "another step offset": (
        lambda: with_element("step_offsets", 2, 0),
        "batch.step_offsets does not fit batch.lengths",
    ),
    "step offsets from -1": (
        lambda: with_element("step_offsets", 0, -1),
        "batch.step_offsets does not fit batch.lengths",
    ),
    "a step offset beyond the index": (
        lambda: with_element("step_offsets", -1, 8),
        "batch.step_offsets does not fit",
    ),
    "fewer padding steps": (
        lambda: changed_batch(
            padding_steps=4,
            index=make_problem(GOOD).batch.index[:-1],
            occurrences=int32(*range(11)),
            occurrence_offsets=int32(*[0] * WORDS, 11),
        ),
        "batch.padding_steps=4 is neither 0 nor the last join step, 5",
    ),
    "negative padding steps": (
        lambda: changed_batch(padding_steps=-1),
        "neither 0 nor the last join step",
    ),
    "flat words": (
        lambda: changed_batch(words=np.zeros((2, 2), np.int32)),
        r"batch.words has shape \[2, 2\]; \[any\] is needed",
    ),
    "a word too few": (
        lambda: changed_batch(words=make_problem(GOOD).batch.words[:-1].copy()),
        "batch.occurrence_offsets has shape",
    ),
    "strided index": (
        lambda: changed_batch(index=strided(make_problem(GOOD).batch.index)),
        "batch.index is not contiguous",
    ),
    "index beyond the words": (
        lambda: with_element("index", 3, WORDS),
        rf"batch.index runs from 0 to {WORDS}; it must lie in 0..{WORDS - 1}",
    ),
    "negative index": (lambda: with_element("index", 3, -1), "batch.index runs from -1"),
    "occurrence beyond the positions": (
        lambda: with_element("occurrences", 0, 12),
        "do not fit batch.index",
    ),
    "negative occurrence": (
        lambda: with_element("occurrences", 0, -7),
        "do not fit batch.index",
    ),
    "occurrence offsets from 1": (
        lambda: with_element("occurrence_offsets", 0, 1),
        "do not fit batch.index",
    ),
    "occurrence offsets to 11": (
        lambda: with_element("occurrence_offsets", -1, 11),
        "do not fit batch.index",
    ),
    "falling occurrence offsets": (
        lambda: with_element("occurrence_offsets", 1, 12),
        "do not fit batch.index",
    ),
}


@pytest.mark.parametrize(("make", "message"), BAD_BATCHES.values(), ids=BAD_BATCHES)
def test_inconsistent_batches(make: Callable[[], PackedBatch], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        forward_with(batch=make())


def test_occurrence_offsets_whose_differences_overflow() -> None:
    """2147483647 to -5 is a rise of 2147483644 in 32 bits, and far outside the memory."""
    rows = make_problem(GOOD).batch
    bad = replace(
        rows,
        words=int32(1, 2, 3),
        index=np.zeros_like(rows.index),
        occurrence_offsets=int32(0, 2**31 - 1, -5, 12),
    )
    with pytest.raises(ShapeError, match=r"do not fit batch\.index"):
        # Wrong also in what is checked later, so that no kernel is reached either way.
        forward_with(batch=bad, inputs=float32(1, 1))


def test_padding_steps_of_several_words() -> None:
    """The kernels read one word for all padding steps."""
    bad = with_element("index", -1, 0)
    assert bad.index[-1] != bad.index[-2]
    with pytest.raises(ShapeError, match="batch"):
        forward_with(batch=bad)


def test_occurrences_that_do_not_belong_to_their_word() -> None:
    rows = make_problem(GOOD).batch
    assert rows.index[rows.occurrences[0]] != rows.index[rows.occurrences[-1]]
    swapped = rows.occurrences.copy()
    swapped[[0, -1]] = swapped[[-1, 0]]
    with pytest.raises(ShapeError, match=r"batch\.occurrences"):
        forward_with(batch=replace(rows, occurrences=swapped))


def test_a_tape_has_one_backward_pass() -> None:
    problem = make_problem(GOOD)
    _, _, tape = forward_with()
    with pytest.raises(ShapeError, match=r"d_last has shape \[4, 8\]; \[4, 7\] is needed"):
        ops.recurrent_backward(tape, float32(4, 8))
    with pytest.raises(ShapeError, match=r"d_outputs has shape \[11, 7\]; \[12, 7\] is needed"):
        ops.recurrent_backward(tape, None, float32(11, 7))
    ops.recurrent_backward(tape, problem.d_last)  # what was refused took nothing away
    with pytest.raises(ShapeError, match="its backward pass has run already"):
        ops.recurrent_backward(tape, problem.d_last)
    with pytest.raises(ShapeError, match="its backward pass has run"):
        _ = tape.gates
    with pytest.raises(ShapeError, match="the tape holds no forward pass"):
        ops.recurrent_backward(ops.RecurrentTape(), None)
    with pytest.raises(ShapeError, match="the tape holds no forward pass"):
        _ = ops.RecurrentTape().gates
    _, _, tape = forward_with(replace(GOOD, kind="rnn"))
    with pytest.raises(ShapeError, match="a plain RNN has no gates"):
        _ = tape.gates


def two_texts() -> TokenizedTexts:
    return TokenizedTexts.from_rows([[1, 2, 9], [3]])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"rows": [[0]]}, r"rows has shape \(1, 1\) and dtype int64; give one-dimensional whole"),
        ({"rows": [0, 2]}, "rows runs from 0 to 2; it must lie in 0..1"),
        ({"rows": [-1]}, "rows runs from -1 to -1"),
        ({"rows": [0.7]}, "rows"),
        ({"max_length": 0}, "max_length=0 do not fit a batch"),
        ({"max_length": 2**31 - 1}, "1 rows of max_length=2147483647 do not fit a batch"),
        ({"vocabulary_size": 9}, r"token id 9 is outside the vocabulary, 0..8"),
        ({"vocabulary_size": -1}, "vocabulary"),
        ({"rows": [], "max_length": 2**31}, "max_length=2147483648"),
    ],
)
def test_packs_that_are_refused(changed: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {
        "texts": two_texts(),
        "rows": [0],
        "max_length": 5,
        "masked": True,
        "vocabulary_size": 10,
    }
    with pytest.raises(ShapeError, match=message):
        ops.pack(**{**arguments, **changed})


def test_pack_refuses_negative_ids() -> None:
    texts = TokenizedTexts.from_rows([[1, -3]])
    with pytest.raises(ShapeError, match=r"token id -3 is outside the vocabulary, 0..9"):
        ops.pack(texts, [0], max_length=5, masked=True, vocabulary_size=10)
    with pytest.raises(ShapeError, match="vocabulary_size=0 is not between 1"):
        ops.pack(texts, [0], max_length=5, masked=False, vocabulary_size=0)


SETTINGS = ops.AdamSettings()


def adam_dense_with(**changed: Any) -> None:
    arguments: dict[str, Any] = {
        "parameter": float32(3, 4),
        "gradient": float32(3, 4),
        "first": float32(3, 4),
        "second": float32(3, 4),
        "rates": float32(5),
        "step": 1,
        "settings": SETTINGS,
    }
    ops.adam_dense(**{**arguments, **changed})


def adam_rows_with(**changed: Any) -> None:
    arguments: dict[str, Any] = {
        "parameter": float32(6, 4),
        "first": float32(6, 4),
        "second": float32(6, 4),
        "last_step": np.zeros(6, np.int64),
        "words": int32(2, 5),
        "gradients": float32(2, 4),
        "rates": float32(5),
        "step": 1,
        "settings": SETTINGS,
    }
    ops.adam_rows(**{**arguments, **changed})


def adam_catch_up_with(**changed: Any) -> None:
    arguments: dict[str, Any] = {
        "parameter": float32(6, 4),
        "first": float32(6, 4),
        "second": float32(6, 4),
        "last_step": np.zeros(6, np.int64),
        "words": int32(2, 5),
        "rates": float32(5),
        "step": 3,
        "settings": SETTINGS,
    }
    ops.adam_catch_up(**{**arguments, **changed})


BAD_CALLS: dict[str, tuple[Callable[[], Any], str]] = {
    "gather: table": (lambda: ops.gather_rows(float32(3), int32(0)), r"table has shape \[3\]"),
    "gather: int64 rows": (
        lambda: ops.gather_rows(float32(3, 2), np.array([0])),
        "rows has dtype int64; give int32",
    ),
    "gather: row 3 of 3": (
        lambda: ops.gather_rows(float32(3, 2), int32(0, 3)),
        "rows runs from 0 to 3; it must lie in 0..2",
    ),
    "linear: depth": (
        lambda: ops.linear_forward(float32(2, 3), float32(4, 1), float32(1)),
        r"inputs has shape \[2, 3\]; \[any, 4\] is needed",
    ),
    "linear: bias": (
        lambda: ops.linear_forward(float32(2, 3), float32(3, 1), float32(2)),
        r"bias has shape \[2\]; \[1\] is needed",
    ),
    "linear: kernel": (
        lambda: ops.linear_forward(float32(2, 3), strided(float32(3, 2)), float32(2)),
        "kernel is not contiguous",
    ),
    "linear: gradient": (
        lambda: ops.linear_backward(float32(2, 3), float32(3, 1), float32(3, 1)),
        r"d_outputs has shape \[3, 1\]; \[2, 1\] is needed",
    ),
    "logistic: two-dimensional": (
        lambda: ops.logistic_loss(float32(2, 1), int32(0, 1)),
        r"logits has shape \[2, 1\]; \[any\] is needed",
    ),
    "logistic: int64": (
        lambda: ops.logistic_loss(float32(2), np.array([0, 1])),
        "targets has dtype int64",
    ),
    "logistic: target 2": (
        lambda: ops.logistic_loss(float32(2), int32(0, 2)),
        "targets runs from 0 to 2; it must lie in 0..1",
    ),
    "logistic: empty": (
        lambda: ops.logistic_loss(float32(0), int32()),
        "targets is empty; a mean loss needs at least one row",
    ),
    "softmax: rows": (
        lambda: ops.softmax_loss(float32(2, 3), int32(0)),
        r"targets has shape \[1\]; \[2\] is needed",
    ),
    "softmax: target -1": (
        lambda: ops.softmax_loss(float32(2, 3), int32(0, -1)),
        "targets runs from -1 to 0; it must lie in 0..2",
    ),
    "softmax: empty": (lambda: ops.softmax_loss(float32(0, 3), int32()), "targets is empty"),
    "softmax: no classes": (lambda: ops.softmax_loss(float32(1, 0), int32(0)), "targets runs from"),
    "squares: dtype": (lambda: ops.sum_of_squares(np.zeros(3)), "array has dtype float64"),  # type: ignore[arg-type]
    "squares: strided": (
        lambda: ops.sum_of_squares(strided(float32(3))),
        "array is not contiguous",
    ),
    "squares: list": (lambda: ops.sum_of_squares([1.0]), "array is a list"),  # type: ignore[arg-type]
    "sigmoid: shape": (lambda: ops.sigmoid(float32(2, 2)), r"x has shape \[2, 2\]"),
    "tanh: strided": (lambda: ops.tanh(strided(float32(2))), "x is not contiguous"),
    "adam: gradient": (
        lambda: adam_dense_with(gradient=float32(4, 3)),
        r"gradient has shape \[4, 3\]; \[3, 4\] is needed",
    ),
    "adam: parameter": (
        lambda: adam_dense_with(parameter=np.zeros((3, 4))),
        "parameter has dtype float64",
    ),
    "adam: first": (lambda: adam_dense_with(first=float32(3)), r"first has shape \[3\]"),
    "adam: second": (
        lambda: adam_dense_with(second=strided(float32(3, 4))),
        "second is not contiguous",
    ),
    "adam: rates": (lambda: adam_dense_with(rates=np.zeros(5)), "rates has dtype float64"),
    "adam: step": (lambda: adam_dense_with(step=5), "step=5 has no rate; rates ends before 5"),
    "adam: step -1": (lambda: adam_dense_with(step=-1), "step=-1 has no rate"),
    "adam rows: table": (
        lambda: adam_rows_with(parameter=float32(24)),
        r"parameter has shape \[24\]; \[any, any\] is needed",
    ),
    "adam rows: last_step": (
        lambda: adam_rows_with(last_step=np.zeros(5, np.int64)),
        r"last_step has shape \[5\]; \[6\] is needed",
    ),
    "adam rows: last_step's dtype": (
        lambda: adam_rows_with(last_step=np.zeros(6, np.int32)),
        "last_step has dtype int32; give int64",
    ),
    "adam rows: word 6 of 6": (
        lambda: adam_rows_with(words=int32(2, 6)),
        "words runs from 2 to 6; it must lie in 0..5",
    ),
    "adam rows: gradients": (
        lambda: adam_rows_with(gradients=float32(3, 4)),
        r"gradients has shape \[3, 4\]; \[2, 4\] is needed",
    ),
    "adam rows: step": (lambda: adam_rows_with(step=9), "step=9 has no rate"),
    "adam rows: behind": (
        lambda: adam_rows_with(step=2),
        "some rows do not stand at step 1; call adam_catch_up first",
    ),
    "adam rows: ahead": (
        lambda: adam_rows_with(step=2, last_step=np.array([0, 0, 1, 0, 0, 2])),
        "step 1",
    ),
    "linear: no units": (
        lambda: ops.linear_forward(float32(2, 3), float32(3, 0), float32(0)),
        r"kernel is \[3, 0\]; it needs a row and a column",
    ),
    "linear backward: no inputs": (
        lambda: ops.linear_backward(float32(2, 0), float32(0, 3), float32(2, 3)),
        r"kernel is \[0, 3\]; it needs a row and a column",
    ),
    "adam rows: a word twice": (lambda: adam_rows_with(words=int32(2, 2)), "words"),
    "catch up: words": (
        lambda: adam_catch_up_with(words=int32(-1)),
        "words runs from -1 to -1; it must lie in 0..5",
    ),
    "catch up: moments": (
        lambda: adam_catch_up_with(second=float32(6, 5)),
        r"second has shape \[6, 5\]; \[6, 4\] is needed",
    ),
    "catch up: step": (lambda: adam_catch_up_with(step=5), "step=5 has no rate"),
    "catch up: a step before the first": (
        lambda: adam_catch_up_with(last_step=np.array([0, 0, -2, 0, 0, 0])),
        "last_step",
    ),
}


@pytest.mark.parametrize(("call", "message"), BAD_CALLS.values(), ids=BAD_CALLS)
def test_bad_arguments(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        call()


def test_arrays_that_can_t_be_written_are_refused_by_name() -> None:
    fixed = float32(3, 4)
    fixed.flags.writeable = False
    with pytest.raises(ShapeError, match="first"):
        adam_dense_with(first=fixed)


def test_the_compiled_module_converts_no_array() -> None:
    """It would write its result into the converted copy."""
    x = float32(4)
    others: list[Any] = [x.astype(np.float64), x[::2], x.reshape(2, 2), x.tolist()]
    for other in others:
        with pytest.raises(TypeError, match="incompatible function arguments"):
            _kernels.sigmoid(x, other)
        with pytest.raises(TypeError, match="incompatible function arguments"):
            _kernels.sum_of_squares(other)


def test_refused_steps_change_nothing() -> None:
    parameter, last_step = np.ones((6, 4), np.float32), np.zeros(6, np.int64)
    with pytest.raises(ShapeError, match="do not stand at step"):
        adam_rows_with(parameter=parameter, last_step=last_step, step=2)
    np.testing.assert_array_equal(parameter, np.ones((6, 4)))
    np.testing.assert_array_equal(last_step, np.zeros(6))


# --- the machine -------------------------------------------------------------------------------


def test_unknown_instruction_sets_are_refused_and_change_nothing() -> None:
    before = ops.isa()
    with pytest.raises(ConfigError, match=r"TIDEGATE_ISA='avx3' is not one of .*scalar"):
        ops.use_isa("avx3")
    with pytest.raises(ConfigError, match="did you mean 'scalar'"):
        ops.use_isa("scaler")
    assert ops.isa() == before


def test_every_instruction_set_can_be_chosen(isa: str) -> None:
    assert ops.isa() == isa
    assert ops.machine_info()["isa"] == isa
    assert ops.available_isas()[-1] == "scalar"
    assert len(set(ops.available_isas())) == len(ops.available_isas())


@pytest.mark.usefixtures("restored_threads")
def test_machine_info_says_what_computes() -> None:
    ops.set_threads(3)
    info = ops.machine_info()
    assert info["threads"] == 3
    assert info["architecture"]
