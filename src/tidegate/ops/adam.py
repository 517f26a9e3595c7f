"""Adam: dense, and over the rows of a table that were used; and the norm that clipping needs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tidegate import _kernels
from tidegate.checks import check_array, check_range
from tidegate.errors import ShapeError

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class AdamSettings:
    """Adam's constants. ``gradient_scale`` multiplies every gradient first (clipping)."""

    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-7
    gradient_scale: float = 1.0


def _check_rates(rates: Float32, step: int) -> None:
    check_array("rates", rates, (None,))
    if not 0 <= step < len(rates):
        raise ShapeError(f"step={step} has no rate; rates ends before {len(rates)}")


def adam_dense(
    parameter: Float32,
    gradient: Float32,
    first: Float32,
    second: Float32,
    rates: Float32,
    step: int,
    settings: AdamSettings,
) -> None:
    """One Adam step in place, any shape.

    rates: [more than step]; rates[t] = learning rate * sqrt(1 - beta_2^t) / (1 - beta_1^t).
    """
    check_array("parameter", parameter, None, written=True)
    check_array("gradient", gradient, parameter.shape)
    check_array("first", first, parameter.shape, written=True)
    check_array("second", second, parameter.shape, written=True)
    _check_rates(rates, step)
    _kernels.adam_dense(
        parameter.reshape(-1),
        gradient.reshape(-1),
        first.reshape(-1),
        second.reshape(-1),
        rates,
        step,
        settings.beta_1,
        settings.beta_2,
        settings.epsilon,
        settings.gradient_scale,
    )


def _check_rowwise(
    parameter: Float32, first: Float32, second: Float32, last_step: npt.NDArray[np.int64]
) -> None:
    check_array("parameter", parameter, (None, None), written=True)
    check_array("first", first, parameter.shape, written=True)
    check_array("second", second, parameter.shape, written=True)
    check_array("last_step", last_step, (len(parameter),), np.int64, written=True)


def _check_distinct(words: npt.NDArray[np.int32], rows: int) -> None:
    seen = np.zeros(rows, np.bool_)
    seen[words] = True
    if np.count_nonzero(seen) != len(words):
        raise ShapeError("words holds a word twice; give each row once")


def adam_catch_up(
    parameter: Float32,
    first: Float32,
    second: Float32,
    last_step: npt.NDArray[np.int64],
    words: npt.NDArray[np.int32] | None,
    rates: Float32,
    step: int,
    settings: AdamSettings,
) -> None:
    """Give rows the steps without gradient that they missed, up to and with ``step``.

    parameter, first, second: [V, E]. last_step: [V] int64, the last step each row has had; updated.
    words: distinct rows, or None for all. Bit for bit what ``adam_dense`` with zero gradients does.
    """
    _check_rowwise(parameter, first, second, last_step)
    _check_rates(rates, step)
    if words is not None:
        check_array("words", words, (None,), np.int32)
        check_range("words", words, len(parameter))
        _check_distinct(words, len(parameter))
    behind = last_step if words is None else last_step[words]
    if behind.size and int(behind.min()) < 0:
        raise ShapeError(f"last_step holds {behind.min()}; the first step is 1, none is 0")
    _kernels.adam_catch_up(
        parameter,
        first,
        second,
        last_step,
        words,
        rates,
        step,
        settings.beta_1,
        settings.beta_2,
        settings.epsilon,
    )


def adam_rows(
    parameter: Float32,
    first: Float32,
    second: Float32,
    last_step: npt.NDArray[np.int64],
    words: npt.NDArray[np.int32],
    gradients: Float32,
    rates: Float32,
    step: int,
    settings: AdamSettings,
) -> None:
    """One Adam step for the given distinct rows, which have caught up with ``step - 1``.

    gradients: [len(words), E].
    """
    _check_rowwise(parameter, first, second, last_step)
    _check_rates(rates, step)
    check_array("words", words, (None,), np.int32)
    check_range("words", words, len(parameter))
    check_array("gradients", gradients, (len(words), parameter.shape[1]))
    _check_distinct(words, len(parameter))
    if (last_step[words] != step - 1).any():
        raise ShapeError(f"some rows do not stand at step {step - 1}; call adam_catch_up first")
    _kernels.adam_rows(
        parameter,
        first,
        second,
        last_step,
        words,
        gradients,
        rates,
        step,
        settings.beta_1,
        settings.beta_2,
        settings.epsilon,
        settings.gradient_scale,
    )


def sum_of_squares(array: Float32) -> float:
    """Sum of the squares of all elements, in float64 over short float32 runs."""
    check_array("array", array, None)
    return float(_kernels.sum_of_squares(array.reshape(-1)))
