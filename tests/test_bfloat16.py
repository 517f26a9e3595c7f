"""Products of bfloat16 and of its pairs, bf16x3: what is rounded, what is not, and what does not
depend on chance.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings

from test_ops import MODES, Case, cases, expected_of, make_problem, run_kernels
from tidegate import _kernels, ops, reference
from tidegate.batch import TokenizedTexts
from tidegate.layers import Gradients
from tidegate.model import ModelConfig, TextModel
from tidegate.reference import KINDS, Kind, RecurrentWeights

Float32 = npt.NDArray[np.float32]


def rounded(x: npt.NDArray[Any]) -> Float32:
    """The nearest numbers of 8 significant bits, ties to even; denormals are zero."""
    given = np.asarray(x, np.float32)
    given = np.where(np.abs(given) < np.finfo(np.float32).tiny, np.float32(0), given)
    bits = given.view(np.uint32).astype(np.uint64)
    bits = (bits + np.uint64(0x7FFF) + ((bits >> np.uint64(16)) & np.uint64(1))) >> np.uint64(16)
    result: Float32 = (bits << np.uint64(16)).astype(np.uint32).view(np.float32)
    return result


def low(x: npt.NDArray[Any]) -> Float32:
    """What is left of finite numbers, rounded."""
    given = np.asarray(x, np.float32)
    return rounded(given - rounded(given))


def multiplied(precision: ops.Precision, left: npt.ArrayLike, right: npt.ArrayLike) -> Any:
    """The matrix product that is computed, without the rounding of its sums."""
    a, b = np.asarray(left, np.float32), np.asarray(right, np.float32)
    product = rounded(a).astype(np.float64) @ rounded(b).astype(np.float64)
    if precision == "bf16x3":
        product += rounded(a).astype(np.float64) @ low(b).astype(np.float64)
        product += low(a).astype(np.float64) @ rounded(b).astype(np.float64)
    return product


@pytest.fixture(params=[name for name in ops.PRECISIONS if name != "float32"])
def precision(request: pytest.FixtureRequest) -> ops.Precision:
    name: ops.Precision = request.param
    return name


def test_rounding_by_hand() -> None:
    given = np.array([1, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, -1 - 2**-9], np.float32)
    np.testing.assert_array_equal(rounded(given), [1, 1, 1 + 2**-6, 1 + 2**-7, -1])
    given = np.array([1, 1 + 2**-8, 1 + 2**-8 + 2**-20, 1 + 2**-9 + 2**-18], np.float32)
    np.testing.assert_array_equal(low(given), [0, 2**-8, -(2**-8), 2**-9])


# --- one step, where it is known what is rounded -----------------------------------------------


def one_step(kind: Kind, inputs: int, hidden: int, rows: int) -> dict[str, Any]:
    """A batch of single words with initial states; inputs and states are bfloat16 numbers."""
    generator = np.random.default_rng([inputs, hidden, rows])

    def normal(*shape: int, scale: float) -> Float32:
        return generator.normal(0, scale, shape).astype(np.float32)

    texts = TokenizedTexts.from_rows([[row + 1] for row in range(rows)])
    batch = ops.pack(texts, range(rows), max_length=1, masked=True, vocabulary_size=rows + 1)
    width = len(reference.gates_of(kind)) * hidden
    return {
        "batch": batch,
        "inputs": rounded(normal(rows, inputs, scale=1.0)),
        "initial": rounded(normal(rows, hidden, scale=0.5)),
        "d_last": normal(rows, hidden, scale=1.0),
        "weights": RecurrentWeights(
            normal(inputs, width, scale=inputs**-0.5),
            normal(hidden, width, scale=hidden**-0.5),
            normal(width, scale=0.3),
            normal(width, scale=0.3) if kind == "gru_after" else None,
        ),
    }


SIZES = [(1, 1, 1), (7, 5, 3), (16, 16, 9), (33, 17, 12), (40, 100, 20), (128, 128, 33)]


@pytest.mark.parametrize(("inputs", "hidden", "rows"), SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_step_is_that_of_rounded_weights(
    product_isa: str, precision: ops.Precision, kind: Kind, inputs: int, hidden: int, rows: int
) -> None:
    """Inputs and states have nothing to round; sums, biases and gates are float32's."""
    p = one_step(kind, inputs, hidden, rows)
    w: RecurrentWeights = p["weights"]
    kernel, recurrent_kernel = (
        rounded(kernel) + (low(kernel) if precision == "bf16x3" else np.float32(0))
        for kernel in (w.kernel, w.recurrent_kernel)
    )
    expected = reference.recurrent_forward(
        kind,
        p["batch"],
        p["inputs"],
        RecurrentWeights(kernel, recurrent_kernel, w.bias, w.recurrent_bias),
        initial=p["initial"],
    )[1]
    found = ops.recurrent_forward(
        kind, p["batch"], p["inputs"], w, initial=p["initial"], precision=precision
    )[1]
    # With reset before, the candidate's product is of reset * state, which is rounded too.
    tolerance = 2e-6
    if kind == "gru_before":
        tolerance = 1e-2 if precision == "bfloat16" else 2e-5
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())
    exact = ops.recurrent_forward(kind, p["batch"], p["inputs"], w, initial=p["initial"])[1]
    if precision == "bfloat16":
        assert np.abs(found - exact).max() > 1e-4 * np.abs(exact).max()  # rounded they were
    else:
        assert (found != exact).any()


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_a_step_are_products_of_rounded_factors(
    product_isa: str, precision: ops.Precision, kind: Kind
) -> None:
    """With one text, the gates' gradients stand unrounded in the bias's gradient."""
    p = one_step(kind, 33, 50, 1)
    w: RecurrentWeights = p["weights"]
    _, _, tape = ops.recurrent_forward(
        kind, p["batch"], p["inputs"], w, initial=p["initial"], precision=precision
    )
    reset = tape.gates["reset"][0] if kind == "gru_before" else None
    found = ops.recurrent_backward(tape, p["d_last"])
    gates = found.bias[None]

    def close(given: Any, left: Float32, right: Float32) -> None:
        expected = multiplied(precision, left, right)
        atol = 1e-6 * np.abs(expected).max()
        np.testing.assert_allclose(given, expected, rtol=2e-6, atol=atol)

    close(found.kernel, p["inputs"].T, gates)
    close(found.inputs, gates, w.kernel.T)
    recurrent = gates if found.recurrent_bias is None else found.recurrent_bias[None]
    if reset is None:
        close(found.recurrent_kernel, p["initial"].T, recurrent)
    else:
        close(found.recurrent_kernel[:, : 2 * 50], p["initial"].T, recurrent[:, : 2 * 50])
        candidate = (reset * p["initial"][0])[:, None]
        close(found.recurrent_kernel[:, 2 * 50 :], candidate, recurrent[:, 2 * 50 :])


# --- whole passes ------------------------------------------------------------------------------


def assert_near(given: dict[str, Any], expected: dict[str, Any], share: float) -> None:
    assert given.keys() == expected.keys()
    for name, values in expected.items():
        largest = np.abs(values).max(initial=0.0)
        np.testing.assert_allclose(given[name], values, rtol=0, atol=share * largest, err_msg=name)


# Errors of whole passes, as shares of the largest element: bounds of what was measured, 1.5e-2 and
# 6e-5, the latter where few units are summed.
NEAR: dict[ops.Precision, float] = {"bfloat16": 0.03, "bf16x3": 1e-4}


@pytest.mark.parametrize("case", MODES.values(), ids=MODES)
def test_every_mode_is_near_the_reference(
    product_isa: str, precision: ops.Precision, case: Case
) -> None:
    found = run_kernels(case, make_problem(case), precision)
    assert_near(found, expected_of(case), NEAR[precision])
    exact = run_kernels(case, make_problem(case))
    assert any((found[name] != exact[name]).any() for name in found)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=cases())
def test_any_shape_is_near_the_reference(
    product_isa: str, precision: ops.Precision, case: Case
) -> None:
    found = run_kernels(case, make_problem(case), precision)
    assert_near(found, expected_of(case), 2 * NEAR[precision])


@pytest.mark.parametrize("kind", KINDS)
def test_instruction_sets_agree(product_isa: str, precision: ops.Precision, kind: Kind) -> None:
    """With and without instructions for it: the order of the sums is all that differs."""
    case = Case(kind, masked=False, d_outputs=True, hidden=45, inputs=19)
    found = run_kernels(case, make_problem(case), precision)
    ops.use_isa("scalar")
    # A state on the border of two bfloat16 numbers may be rounded to either.
    share = 5e-3 if precision == "bfloat16" else 2e-5
    assert_near(found, run_kernels(case, make_problem(case), precision), share)


def test_the_instruction_set_of_a_precision_is_named(
    product_isa: str, precision: ops.Precision
) -> None:
    """Bits depend on it: with AVX-512, BF16 is there or the AVX2 table stands in."""
    assert ops.isa() == ops.machine_info()["isa"] == product_isa
    float32s = {"amx": "avx512", "amx-emulated-avx512": "avx512", "amx-emulated": "scalar"}
    assert ops.isa("float32") == float32s.get(product_isa, product_isa)
    instead = {"avx512": ("avx512bf16", "avx2")}
    assert ops.isa(precision) in instead.get(product_isa, (product_isa,))


# --- AMX: its kernels run here on emulated tiles -----------------------------------------------


def test_emulated_tiles_are_never_chosen_unasked() -> None:
    assert not set(ops.emulated_isas()) & set(ops.available_isas())
    if ops.machine_info()["architecture"] == "x86_64":
        assert "amx-emulated" in ops.emulated_isas()
    with_bfloat16 = "avx512" in ops.available_isas() and _kernels_name("avx512") == "avx512bf16"
    assert with_bfloat16 == ("amx-emulated-avx512" in ops.emulated_isas())


def _kernels_name(isa: str) -> str:
    before = ops.isa()
    ops.use_isa(isa)
    try:
        return ops.isa("bfloat16")
    finally:
        ops.use_isa(before)


def test_the_trial_that_amx_has_to_pass(product_isa: str, precision: ops.Precision) -> None:
    assert _kernels.same_products(product_isa, precision, "scalar", precision)
    other = "bfloat16" if precision == "bf16x3" else "float32"
    assert not _kernels.same_products(product_isa, precision, "scalar", other)
    with pytest.raises(ValueError, match="no such instruction set"):
        _kernels.same_products(product_isa, precision, "avx3", precision)


def manual_s_order(left: Float32, right: Float32) -> Float32:
    """Left @ right as Intel's manual defines TDPBF16PS, 32 numbers of the depth at a time."""

    def flushed(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        single = x.astype(np.float32)
        return np.where(np.abs(single) < np.finfo(np.float32).tiny, 0, single).astype(np.float64)

    whole = -len(right) % 32
    a = np.pad(rounded(left).astype(np.float64), ((0, 0), (0, whole)))
    b = np.pad(rounded(right).astype(np.float64), ((0, whole), (0, 0)))
    total = np.zeros((len(a), b.shape[1]))
    for begin in range(0, len(b), 32):
        sums = [np.zeros_like(total), np.zeros_like(total)]
        for k in range(32):
            product = np.outer(a[:, begin + k], b[begin + k])  # exact
            sums[k % 2] = flushed(sums[k % 2] + product)
        total = flushed(total + flushed(sums[0] + sums[1]))
    return total.astype(np.float32)


@pytest.mark.parametrize("scale", [1, 5e-19], ids=["usual", "near denormals"])
@pytest.mark.parametrize("isa", ops.emulated_isas())
def test_emulated_tiles_are_intel_s_manual_s(isa: str, scale: float) -> None:
    """Bit for bit, in a product that starts from zeros and has nothing behind it."""
    hidden, inputs = 83, 45
    p = one_step("rnn", inputs, hidden, 1)
    w: RecurrentWeights = p["weights"]
    w.kernel[:] *= np.float32(scale)
    before = ops.isa()
    ops.use_isa(isa)
    try:
        _, _, tape = ops.recurrent_forward("rnn", p["batch"], p["inputs"], w, precision="bfloat16")
        found = ops.recurrent_backward(tape, p["d_last"] * np.float32(scale))
    finally:
        ops.use_isa(before)
    expected = manual_s_order(found.bias[None], w.kernel.T)
    np.testing.assert_array_equal(found.inputs, expected)
    assert (expected != 0).any()
    if scale != 1:
        exact = rounded(found.bias).astype(np.float64) @ rounded(w.kernel.T).astype(np.float64)
        assert (np.abs(found.inputs[0] - exact) > 1e-39).any()  # some were flushed


# Rows, depths and units around the edges of tiles, which are 16 rows, 32 numbers and 16 units.
TILES = [
    (1, 1, 1),
    (15, 17, 31),
    (16, 32, 16),
    (17, 33, 33),
    (31, 31, 47),
    (33, 65, 48),
    (50, 16, 80),
]


@pytest.mark.parametrize(("rows", "inputs", "hidden"), TILES)
@pytest.mark.parametrize("kind", KINDS)
def test_tiles_with_any_edges(
    product_isa: str, precision: ops.Precision, kind: Kind, rows: int, inputs: int, hidden: int
) -> None:
    case = Case(
        kind,
        lengths=tuple((7 * row + 3) % 5 for row in range(rows)),
        vocabulary=3 * rows,
        max_length=4,
        masked=rows % 2 == 0,
        d_outputs=True,
        inputs=inputs,
        hidden=hidden,
    )
    found = run_kernels(case, make_problem(case), precision)
    assert_near(found, expected_of(case), NEAR[precision])


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_s_bits_do_not_depend_on_its_batch(
    product_isa: str, precision: ops.Precision, kind: Kind
) -> None:
    """Of 40 rows, in two blocks of tiles, each one's last state is what it is alone."""
    p = one_step(kind, 20, 37, 40)
    w: RecurrentWeights = p["weights"]

    def last(rows: slice) -> Float32:
        initial = np.ascontiguousarray(p["initial"][rows])
        inputs = np.ascontiguousarray(p["inputs"][rows])
        texts = TokenizedTexts.from_rows([[row + 1] for row in range(len(inputs))])
        batch = ops.pack(
            texts, range(len(inputs)), max_length=1, masked=True, vocabulary_size=len(inputs) + 1
        )
        return ops.recurrent_forward(kind, batch, inputs, w, initial=initial, precision=precision)[
            1
        ]

    together = last(slice(None))
    for row in (0, 15, 16, 31, 32, 39):
        np.testing.assert_array_equal(last(slice(row, row + 1))[0], together[row])
    np.testing.assert_array_equal(last(slice(5, 38)), together[5:38])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("restored_threads")
def test_threads_change_no_bit(product_isa: str, precision: ops.Precision, kind: Kind) -> None:
    case = Case(kind, masked=False, d_outputs=True, hidden=45, inputs=19)
    ops.set_threads(1)
    expected = run_kernels(case, make_problem(case), precision)
    for threads in (2, 3, 7):
        ops.set_threads(threads)
        found = run_kernels(case, make_problem(case), precision)
        for name, values in expected.items():
            np.testing.assert_array_equal(found[name], values, err_msg=name)


@pytest.mark.parametrize("masked", [True, False], ids=["masked", "unmasked"])
@pytest.mark.parametrize("cell", ["gru", "lstm", "rnn"])
def test_predictions_have_the_bits_of_training_s_passes(
    product_isa: str, precision: ops.Precision, cell: str, masked: bool
) -> None:
    config = ModelConfig(
        cell=cell,
        vocabulary_size=90,
        embedding_size=11,
        hidden_size=21,
        max_length=12,
        masked=masked,
    )
    model = TextModel.initialize(config, 3, precision)
    generator = np.random.default_rng(3)
    texts = TokenizedTexts.from_rows(
        [generator.integers(1, 90, length) for length in generator.integers(0, 15, 70)]
    )
    batch = model.pack(texts, np.arange(70))
    expected = np.empty((70, 1), np.float32)
    expected[batch.rows] = model(batch)[0]
    np.testing.assert_array_equal(model.predict_logits(texts), expected)
    model.freeze()
    for _ in range(2):
        np.testing.assert_array_equal(model.predict_logits(texts), expected)
    exact = TextModel(config, model.parameters).predict_logits(texts)
    assert (exact != expected).any()
    atol = NEAR[precision] * np.abs(exact).max()
    np.testing.assert_allclose(exact, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("cell", ["gru", "lstm", "rnn"])
@pytest.mark.usefixtures("restored_threads")
def test_a_text_whose_units_threads_share_has_the_same_bits(
    product_isa: str, precision: ops.Precision, cell: str
) -> None:
    for reset in ("after", "before") if cell == "gru" else ("after",):
        config = ModelConfig(
            cell=cell,
            reset=reset,
            vocabulary_size=30,
            embedding_size=11,
            hidden_size=133,
            max_length=9,
        )
        model = TextModel.initialize(config, 3, precision)
        text = TokenizedTexts.from_rows([[4, 9, 2, 22, 7]])
        ops.set_threads(1)
        expected = model.predict_logits(text)
        for threads in (2, 4):
            ops.set_threads(threads)
            np.testing.assert_array_equal(model.predict_logits(text), expected)


def test_single_products_of_unusual_numbers(product_isa: str, precision: ops.Precision) -> None:
    """x * w for weights near every border, forward (w packed one way) and backward (the other)."""
    tiny = float(np.finfo(np.float32).tiny)
    values = [0.0, 1.0, 1 + 2**-8, 1 + 3 * 2**-8, tiny, tiny * 1.99, tiny / 2, 1e-45, 1e30, 3e-30]
    weights = np.array([*values, *(-v for v in values)], np.float32)
    count = len(weights)
    texts = TokenizedTexts(np.array([1], np.int32), np.array([0, 1]))
    batch = ops.pack(texts, [0], max_length=1, masked=True, vocabulary_size=2)
    # A plain RNN, whose tanh keeps small numbers, of one input.
    rnn = RecurrentWeights(
        weights[None], np.zeros((count, count), np.float32), np.zeros(count, np.float32), None
    )
    x = np.ones((1, 1), np.float32)
    _, last, tape = ops.recurrent_forward("rnn", batch, x, rnn, precision=precision)
    expected = np.tanh(multiplied(precision, x, weights[None])[0])
    np.testing.assert_allclose(last[0], expected, rtol=1e-6, atol=1e-37)
    for unit in range(count):
        _, _, tape = ops.recurrent_forward("rnn", batch, x, rnn, precision=precision)
        d_last = np.zeros((1, count), np.float32)
        d_last[0, unit] = 1
        slope = np.array([[1 - np.float64(last[0, unit]) ** 2]])
        found = ops.recurrent_backward(tape, d_last).inputs[0, 0]
        wanted = float(multiplied(precision, slope, weights[None, unit : unit + 1])[0, 0])
        assert found == pytest.approx(wanted, rel=1e-6, abs=1e-37)


@pytest.mark.parametrize("x", [np.inf, -np.inf, np.nan, 3.4e38, 1.01, 0.0])
def test_infinities_go_as_in_bfloat16(product_isa: str, precision: ops.Precision, x: float) -> None:
    """1.01 is more than its high part, 1.0078, and 1.005 less: the low parts have both signs."""
    weights = np.array([[1, 1.01, -1.01, 1.005, -1.005, 0, np.inf, -np.inf, np.nan, 3.4e38]])
    weights = weights.astype(np.float32)
    count = weights.shape[1]
    texts = TokenizedTexts(np.array([1], np.int32), np.array([0, 1]))
    batch = ops.pack(texts, [0], max_length=1, masked=True, vocabulary_size=2)
    rnn = RecurrentWeights(
        weights, np.zeros((count, count), np.float32), np.zeros(count, np.float32), None
    )
    inputs = np.full((1, 1), x, np.float32)
    _, last, _ = ops.recurrent_forward("rnn", batch, inputs, rnn, precision=precision)
    with np.errstate(invalid="ignore"):
        expected = np.tanh(rounded(inputs) * rounded(weights))
    # Beyond bfloat16's largest number, 3.39e38, all is infinity.
    np.testing.assert_array_equal(np.isnan(last), np.isnan(expected))
    np.testing.assert_allclose(last, expected, rtol=0.01)
    # Backward: of the sums, which tanh would hide, with one unit.
    for weight in (1.0, 1.01, -1.005):
        one = RecurrentWeights(
            np.full((1, 1), weight, np.float32),
            np.zeros((1, 1), np.float32),
            np.zeros(1, np.float32),
            None,
        )
        inputs = np.full((1, 1), 0.505, np.float32)
        _, _, tape = ops.recurrent_forward("rnn", batch, inputs, one, precision=precision)
        found = ops.recurrent_backward(tape, np.full((1, 1), x, np.float32))
        for name, factor in (("inputs", weight), ("kernel", 0.505)):
            value = getattr(found, name)[0, 0]
            if np.isfinite(x):
                assert np.isfinite(value), name
            else:
                np.testing.assert_equal(value, np.float32(x * factor), name)


@pytest.mark.parametrize("kind", KINDS)
def test_nan_in_any_weight_is_found(product_isa: str, precision: ops.Precision, kind: Kind) -> None:
    p = one_step(kind, 6, 5, 2)
    for name in ("kernel", "recurrent_kernel"):
        weights = copy.deepcopy(p["weights"])
        getattr(weights, name)[3, 2] = np.nan
        last = ops.recurrent_forward(
            kind, p["batch"], p["inputs"], weights, initial=p["initial"], precision=precision
        )[1]
        assert np.isnan(last[:, 2]).all(), name


def test_gradients_of_a_model_are_its_precision_s() -> None:
    config = ModelConfig(vocabulary_size=20, embedding_size=8, hidden_size=9, max_length=6)
    texts = TokenizedTexts.from_rows([[1, 5, 6], [1, 7]])
    found = []
    for precision in ops.PRECISIONS:
        model = TextModel.initialize(config, 0, precision)
        logits, backward = model(model.pack(texts, [0, 1]))
        gradients: Gradients = {}
        backward(np.ones_like(logits), gradients)
        kernel = gradients["recurrent.recurrent_kernel"]
        assert isinstance(kernel, np.ndarray)
        found.append(kernel)
    largest = np.abs(found[0]).max()
    for precision, kernel in zip(ops.PRECISIONS[1:], found[1:], strict=True):
        assert (kernel != found[0]).any()
        np.testing.assert_allclose(kernel, found[0], rtol=0, atol=NEAR[precision] * largest)
