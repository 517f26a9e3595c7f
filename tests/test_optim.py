"""Adam: deferred rows against dense updates, bit for bit, and both against the reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tidegate import reference
from tidegate.errors import ShapeError, TrainingError
from tidegate.layers import RowGradients
from tidegate.optim import Adam

Float32 = npt.NDArray[np.float32]

ROWS, WIDTH = 37, 21
Step = tuple[npt.NDArray[np.int32], Float32, Float32]  # rows, their gradients, the bias's


def random_steps(count: int, generator: np.random.Generator, rows: int = ROWS - 4) -> list[Step]:
    """Sparse steps, of which the last four rows of the table never get one."""
    steps = []
    for step in range(count):
        used = generator.permutation(rows)[: generator.integers(0, 9)].astype(np.int32)
        scale = 10.0 ** generator.integers(-4, 2)
        values = generator.normal(0, scale, (len(used), WIDTH)).astype(np.float32)
        if step % 7 == 0:
            values[:, ::3] = 0
        steps.append((used, values, generator.normal(0, 1, 5).astype(np.float32)))
    return steps


def make_parameters(width: int = WIDTH) -> dict[str, Float32]:
    generator = np.random.default_rng(1)
    return {
        "table": generator.normal(0, 1, (ROWS, width)).astype(np.float32),
        "bias": generator.normal(0, 1, 5).astype(np.float32),
    }


def run_deferred(steps: list[Step], **settings: Any) -> Adam:
    adam = Adam(make_parameters(), row_parameters=("table",), **settings)
    for rows, values, bias in steps:
        adam.prepare(rows)
        adam.step({"table": RowGradients(rows, values), "bias": bias})
    adam.finish()
    return adam


def dense_gradient(rows: npt.NDArray[np.int32], values: Float32) -> Float32:
    gradient = np.zeros((ROWS, values.shape[1]), np.float32)
    gradient[rows] = values
    return gradient


def run_dense(steps: list[Step], **settings: Any) -> Adam:
    adam = Adam(make_parameters(), **settings)
    for rows, values, bias in steps:
        adam.step({"table": dense_gradient(rows, values), "bias": bias})
    return adam


def assert_same_bits(deferred: Adam, dense: Adam) -> None:
    for name in ("table", "bias"):
        for what in ("parameters", "first", "second"):
            given, expected = getattr(deferred, what)[name], getattr(dense, what)[name]
            np.testing.assert_array_equal(given, expected, err_msg=f"{what} of {name}")
            # Down to the sign of zero, which the comparison above does not see.
            np.testing.assert_array_equal(given.view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize(
    "settings",
    [{}, {"learning_rate": 0.1, "beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-3}],
    ids=["Keras's defaults", "others"],
)
def test_deferred_rows_are_dense_adam_bit_for_bit(isa: str, settings: dict[str, float]) -> None:
    steps = random_steps(230, np.random.default_rng(2))
    deferred, dense = run_deferred(steps, **settings), run_dense(steps, **settings)
    assert_same_bits(deferred, dense)
    assert deferred.last_step["table"].tolist() == [230] * ROWS
    untouched = make_parameters()["table"][-4:]
    np.testing.assert_array_equal(deferred.parameters["table"][-4:], untouched)
    assert (deferred.parameters["table"][:-4] != make_parameters()["table"][:-4]).all()


@pytest.mark.parametrize("width", [1, 16, 70])
def test_gaps_of_thousands_of_steps_change_no_bit(isa: str, width: int) -> None:
    """Long enough that the moments fade into denormals and are flushed to zero."""
    generator = np.random.default_rng(3)
    touched = {1: [0, 1, 2], 5: [1, 7], 1_400: [0, 7], 2_600: [2]}
    deferred = Adam(make_parameters(width), row_parameters=("table",))
    dense = Adam(make_parameters(width))
    nothing = np.zeros(5, np.float32)
    for step in range(1, 2_701):
        rows = np.array(touched.get(step, []), np.int32)
        values = generator.normal(0, 1e-3, (len(rows), width)).astype(np.float32)
        deferred.prepare(rows)
        deferred.step({"table": RowGradients(rows, values), "bias": nothing})
        dense.step({"table": dense_gradient(rows, values), "bias": nothing})
    assert deferred.last_step["table"][[0, 1, 2, 7, 9]].tolist() == [1_400, 5, 2_600, 1_400, 0]
    deferred.finish()
    assert_same_bits(deferred, dense)
    # It did fade, to the smallest numbers that a product with 0.1 does not flush.
    assert np.abs(dense.first["table"][1]).max() < 2e-37


def test_when_rows_catch_up_changes_no_bit(isa: str) -> None:
    steps = random_steps(120, np.random.default_rng(4))
    expected = run_deferred(steps)
    adam = Adam(make_parameters(), row_parameters=("table",))
    for number, (rows, values, bias) in enumerate(steps):
        if number % 17 == 5:
            adam.finish()
        adam.prepare(np.union1d(rows, [3, 30]).astype(np.int32))
        adam.step({"table": RowGradients(rows, values), "bias": bias})
    adam.finish()
    assert_same_bits(adam, expected)


def test_adam_equals_the_reference(isa: str) -> None:
    settings = {"learning_rate": 0.01, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7}
    steps = random_steps(60, np.random.default_rng(5))
    adam = run_deferred(steps, **settings)
    for name, parameter in make_parameters().items():
        expected = parameter.astype(np.float64)
        first, second = np.zeros_like(expected), np.zeros_like(expected)
        for number, (rows, values, bias) in enumerate(steps, start=1):
            gradient = bias if name == "bias" else dense_gradient(rows, values)
            reference.adam_update(expected, gradient, first, second, step=number, **settings)
        for given, wanted in (
            (adam.parameters[name], expected),
            (adam.first[name], first),
            (adam.second[name], second),
        ):
            scale = np.abs(wanted).max()
            np.testing.assert_allclose(given, wanted, rtol=0, atol=1e-5 * scale, err_msg=name)


def test_first_step_by_hand(isa: str) -> None:
    parameter = np.array([1.0, -2.0, 3.0], np.float32)
    adam = Adam({"p": parameter}, learning_rate=0.5, epsilon=1e-3)
    adam.step({"p": np.array([4.0, -1e-3, 0.0], np.float32)})
    # rate * m / (sqrt(v) + epsilon) with m = 0.1 g, v = 0.001 g^2, rate = 0.5 sqrt(0.001) / 0.1
    root = np.sqrt(0.001)
    moved = [
        0.5 * root * 4 / (root * 4 + 1e-3),
        -0.5 * root * 1e-3 / (root * 1e-3 + 1e-3),
        0,
    ]
    np.testing.assert_allclose(parameter, np.array([1, -2, 3]) - moved, rtol=1e-6)


# --- clipping ----------------------------------------------------------------------------------


def test_clipping_scales_all_gradients_by_their_common_norm(isa: str) -> None:
    rows = np.array([4, 9], np.int32)
    values = np.full((2, WIDTH), 3.0, np.float32)
    bias = np.array([0, 1, 2, 3, 4], np.float32)
    norm = np.sqrt(9.0 * 2 * WIDTH + 30)
    clipped = Adam(make_parameters(), row_parameters=("table",), clip_norm=2.0)
    clipped.step({"table": RowGradients(rows, values), "bias": bias})
    scaled = Adam(make_parameters(), row_parameters=("table",))
    share = np.float32(2.0 / norm)
    scaled.step({"table": RowGradients(rows, values * share), "bias": bias * share})
    for name in ("table", "bias"):
        np.testing.assert_allclose(clipped.first[name], scaled.first[name], rtol=1e-6)
        np.testing.assert_allclose(clipped.second[name], scaled.second[name], rtol=1e-6)
    assert clipped.first["bias"][4] == pytest.approx(0.1 * 4 * 2.0 / norm, rel=1e-6)
    assert clipped.first["table"][9, 2] == pytest.approx(0.1 * 3 * 2.0 / norm, rel=1e-6)


def test_a_norm_within_the_limit_is_left_alone(isa: str) -> None:
    steps = random_steps(20, np.random.default_rng(6))
    assert_same_bits(run_deferred(steps, clip_norm=1e9), run_deferred(steps))


def test_clipping_bounds_a_huge_gradient(isa: str) -> None:
    adam = Adam({"p": np.zeros(3, np.float32)}, clip_norm=1.0)
    adam.step({"p": np.array([3e18, 0, 4e18], np.float32)})
    np.testing.assert_allclose(adam.first["p"], [0.06, 0, 0.08], rtol=1e-6)


@pytest.mark.parametrize("factor", [1e0, 1e18])
def test_clipping_does_not_depend_on_what_float32_can_square(isa: str, factor: float) -> None:
    """Squares of 3e19 are infinite in float32. The direction is 3, 4 and 12 of 13."""
    rows = np.array([2, 5], np.int32)
    values = np.zeros((2, WIDTH), np.float32)
    values[0, 1], values[1, 20] = 30 * factor, -120 * factor
    adam = Adam(make_parameters(), row_parameters=("table",), clip_norm=13.0)
    bias = np.array([0, 0, 40 * factor, 0, 0], np.float32)
    adam.step({"table": RowGradients(rows, values), "bias": bias})
    np.testing.assert_allclose(adam.first["table"][[2, 5], [1, 20]], [0.3, -1.2], rtol=1e-6)
    np.testing.assert_allclose(adam.first["bias"], [0, 0, 0.4, 0, 0], rtol=1e-6)


def test_clipping_takes_all_that_float32_has_a_factor_for(isa: str) -> None:
    adam = Adam({"p": np.zeros(5000, np.float32)}, clip_norm=1.0)
    adam.step({"p": np.full(5000, 1e36, np.float32)})
    np.testing.assert_allclose(adam.first["p"], 0.1 / np.sqrt(5000), rtol=1e-5)


@pytest.mark.parametrize(
    ("gradient", "clip_norm", "message"),
    [
        (np.inf, 1.0, "the gradients' norm is inf, which can't be clipped to clip_norm=1; lower"),
        (np.nan, 1.0, "the gradients' norm is nan, which can't be clipped to clip_norm=1; lower"),
        (3e38, 1e-3, r"norm is 3e\+38, which can't be clipped to clip_norm=0\.001; lower learning"),
    ],
)
def test_gradients_that_can_not_be_clipped_are_refused_untouched(
    gradient: float, clip_norm: float, message: str
) -> None:
    adam = Adam(make_parameters(), clip_norm=clip_norm)
    before = run_dense([])
    bias = np.array([0, 0, gradient, 0, 0], np.float32)
    with pytest.raises(TrainingError, match=message):
        adam.step({"table": np.zeros((ROWS, WIDTH), np.float32), "bias": bias})
    assert adam.step_count == 0
    assert_same_bits(adam, before)


# --- state -------------------------------------------------------------------------------------


def test_a_restored_state_goes_on_bit_for_bit(isa: str) -> None:
    steps = random_steps(90, np.random.default_rng(7))
    expected = run_deferred(steps)
    begun = Adam(make_parameters(), row_parameters=("table",))
    for rows, values, bias in steps[:41]:
        begun.prepare(rows)
        begun.step({"table": RowGradients(rows, values), "bias": bias})
    assert len(set(begun.last_step["table"].tolist())) > 5  # in the middle of things
    kept = {name: array.copy() for name, array in begun.state().items()}
    resumed = Adam(
        {name: value.copy() for name, value in begun.parameters.items()},
        row_parameters=("table",),
    )
    resumed.restore(begun.step_count, kept)
    for rows, values, bias in steps[41:]:
        resumed.prepare(rows)
        resumed.step({"table": RowGradients(rows, values), "bias": bias})
    resumed.finish()
    assert_same_bits(resumed, expected)
    assert resumed.step_count == 90


def test_state_has_every_array_by_name() -> None:
    adam = Adam(make_parameters(), row_parameters=("table",))
    assert {name: (array.dtype.name, array.shape) for name, array in adam.state().items()} == {
        "adam.first.table": ("float32", (ROWS, WIDTH)),
        "adam.second.table": ("float32", (ROWS, WIDTH)),
        "adam.last_step.table": ("int64", (ROWS,)),
        "adam.first.bias": ("float32", (5,)),
        "adam.second.bias": ("float32", (5,)),
    }


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("adam.first.bias", None, "adam.first.bias is missing or does not fit the model"),
        ("adam.second.table", np.zeros((ROWS, 3), np.float32), "adam.second.table is missing or"),
        ("adam.first.table", np.zeros((ROWS, WIDTH)), "adam.first.table is missing or"),
        ("adam.last_step.table", np.full(ROWS, 8), r"adam.last_step.table lies outside 0\.\.7"),
        ("adam.last_step.table", np.full(ROWS, -1), r"adam.last_step.table lies outside 0\.\.7"),
    ],
)
def test_states_that_do_not_fit(name: str, change: Any, message: str) -> None:
    adam = Adam(make_parameters(), row_parameters=("table",))
    state: dict[str, Any] = {key: array.copy() for key, array in adam.state().items()}
    if change is None:
        del state[name]
    else:
        state[name] = change
    with pytest.raises(ShapeError, match=message):
        adam.restore(7, state)
    assert_same_bits(adam, run_dense([]))
    assert adam.last_step["table"].tolist() == [0] * ROWS


def test_gradients_of_other_parameters_are_refused() -> None:
    adam = Adam(make_parameters(), row_parameters=("table",))
    with pytest.raises(ShapeError, match="gradients and parameters differ: other, table"):
        adam.step({"bias": np.zeros(5, np.float32), "other": np.zeros(1, np.float32)})
    assert adam.step_count == 0


def test_rows_that_were_not_prepared_are_refused() -> None:
    adam = Adam(make_parameters(), row_parameters=("table",))
    rows, values = np.array([3], np.int32), np.ones((1, WIDTH), np.float32)
    bias = np.zeros(5, np.float32)
    adam.step({"table": RowGradients(rows, values), "bias": bias})
    with pytest.raises(ShapeError, match="do not stand at step 1; call adam_catch_up first"):
        adam.step({"table": RowGradients(rows + 1, values), "bias": bias})
