"""Adam as Keras defines it, with the embedding's untouched rows brought up to date late."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from tidegate import ops
from tidegate.errors import ShapeError, TrainingError
from tidegate.layers import Gradients, RowGradients

Float32 = npt.NDArray[np.float32]

SCHEDULES = ("constant", "linear", "cosine")


def learning_rates(schedule: str, warmup: float, steps: int) -> npt.NDArray[np.float64]:
    """[steps + 1] what the learning rate is multiplied by at each step, from step 1 on.

    schedule: "constant", or falling from 1 to nearly 0 as a line or half a cosine. warmup: the
    share of the steps, at the beginning, in which it rises from 0 to 1.
    """
    rising = round(warmup * steps)
    t = np.arange(steps + 1, dtype=np.float64)
    done = np.maximum(t - 1 - rising, 0.0) / max(1, steps - rising)
    if schedule == "linear":
        scale = 1.0 - done
    elif schedule == "cosine":
        scale = 0.5 * (1.0 + np.cos(np.pi * done))
    else:
        scale = np.ones(steps + 1)
    return np.where(t < rising, t / max(1, rising), scale)


class Adam:
    """Exact Adam for dense parameters and for tables of which each step uses a few rows.

    A row without a gradient still moves: its moments decay. Such steps are put off until the row
    is next needed and are then done one by one with the same arithmetic, so that the result is
    dense Adam's, bit for bit. ``prepare`` does it for the rows that a batch is about to read,
    ``finish`` for all of them.

    parameters: float32 arrays, changed in place. row_parameters: which of them are such tables.
    weight_decay: before each step, every matrix but these tables shrinks by the step's learning
    rate times this. schedule: [steps + 1], what the learning rate is multiplied by at each step
    from 1 on, and the last one after that; None for 1.
    Sources: Kingma & Ba 2015, with epsilon outside the bias correction as in Keras; Loshchilov &
    Hutter 2019 (the decay).
    """

    def __init__(
        self,
        parameters: Mapping[str, Float32],
        *,
        row_parameters: tuple[str, ...] = (),
        learning_rate: float = 1e-3,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        clip_norm: float | None = None,
        weight_decay: float = 0.0,
        schedule: npt.NDArray[np.float64] | None = None,
    ) -> None:
        self.parameters = parameters
        self.row_parameters = row_parameters
        self.learning_rate = learning_rate
        self.clip_norm = clip_norm
        self.weight_decay = weight_decay
        self._schedule = np.ones(1) if schedule is None else schedule
        self._settings = ops.AdamSettings(beta_1, beta_2, epsilon)
        self.step_count = 0
        self.first = {name: np.zeros_like(value) for name, value in parameters.items()}
        self.second = {name: np.zeros_like(value) for name, value in parameters.items()}
        self.last_step = {
            name: np.zeros(len(parameters[name]), np.int64) for name in row_parameters
        }
        self._rates = np.zeros(1, np.float32)

    def prepare(self, words: npt.NDArray[np.int32] | None) -> None:
        """Bring the given rows of every table (all with None) up to date."""
        self._extend_rates(self.step_count)
        for name in self.row_parameters:
            ops.adam_catch_up(
                self.parameters[name],
                self.first[name],
                self.second[name],
                self.last_step[name],
                words,
                self._rates,
                self.step_count,
                self._settings,
            )

    def finish(self) -> None:
        """Bring every row up to date: after it, the parameters are dense Adam's."""
        self.prepare(None)

    def step(self, gradients: Gradients) -> None:
        """One update. Rows with a gradient must have been prepared."""
        if set(gradients) != set(self.parameters):
            different = ", ".join(sorted(set(gradients) ^ set(self.parameters)))
            raise ShapeError(f"gradients and parameters differ: {different}")
        # Before anything changes: it may refuse the gradients.
        settings = replace(self._settings, gradient_scale=self._clip_scale(gradients))
        self.step_count += 1
        self._extend_rates(self.step_count)
        self._decay()
        for name, parameter in self.parameters.items():
            gradient = gradients[name]
            first, second = self.first[name], self.second[name]
            if isinstance(gradient, RowGradients):
                ops.adam_rows(
                    parameter,
                    first,
                    second,
                    self.last_step[name],
                    gradient.rows,
                    gradient.values,
                    self._rates,
                    self.step_count,
                    settings,
                )
            else:
                ops.adam_dense(
                    parameter, gradient, first, second, self._rates, self.step_count, settings
                )

    def _decay(self) -> None:
        if not self.weight_decay:
            return
        rate = self.learning_rate * float(self._schedule[min(self.step_count, self._last)])
        kept = np.float32(1.0 - rate * self.weight_decay)
        for name, parameter in self.parameters.items():
            if parameter.ndim == 2 and name not in self.row_parameters:
                np.multiply(parameter, kept, out=parameter)

    @property
    def _last(self) -> int:
        return len(self._schedule) - 1

    def _clip_scale(self, gradients: Gradients) -> float:
        """What every gradient is multiplied by so that their common norm is at most clip_norm.

        TrainingError if there is no such number: for a norm that is not finite, or is so large
        that float32 has no factor for it.
        """
        if self.clip_norm is None:
            return 1.0
        total = 0.0
        for name in sorted(gradients):
            gradient = gradients[name]
            values = gradient.values if isinstance(gradient, RowGradients) else gradient
            squares = ops.sum_of_squares(values)
            if not math.isfinite(squares):
                # float32 has no square of 2e19; NumPy adds float64 in an order of its own, which
                # does not depend on the number of threads either.
                squares = float(np.square(values, dtype=np.float64).sum())
            total += squares
        norm = math.sqrt(total)
        if norm <= self.clip_norm:
            return 1.0
        scale = self.clip_norm / norm
        if not scale >= float(np.finfo(np.float32).tiny):  # nor for NaN
            raise TrainingError(
                f"the gradients' norm is {norm:g}, which can't be clipped to "
                f"clip_norm={self.clip_norm:g}; lower learning_rate={self.learning_rate:g}"
            )
        return scale

    def _extend_rates(self, step: int) -> None:
        """rates[t], the learning rate with both bias corrections, computed in float64."""
        if step < len(self._rates):
            return
        size = max(1024, 2 * (step + 1))
        t = np.arange(1, size, dtype=np.float64)
        beta_1, beta_2 = self._settings.beta_1, self._settings.beta_2
        corrected = self.learning_rate * np.sqrt(1.0 - beta_2**t) / (1.0 - beta_1**t)
        corrected *= self._schedule[np.minimum(np.arange(1, size), self._last)]
        self._rates = np.concatenate([np.zeros(1), corrected]).astype(np.float32)

    def state(self) -> dict[str, npt.NDArray[np.float32] | npt.NDArray[np.int64]]:
        """Every array that continuing needs, by name."""
        arrays: dict[str, npt.NDArray[np.float32] | npt.NDArray[np.int64]] = {}
        for name in self.parameters:
            arrays[f"adam.first.{name}"] = self.first[name]
            arrays[f"adam.second.{name}"] = self.second[name]
        for name, steps in self.last_step.items():
            arrays[f"adam.last_step.{name}"] = steps
        return arrays

    def restore(self, step_count: int, arrays: Mapping[str, npt.NDArray[np.generic]]) -> None:
        """Continue from ``state()``.

        ShapeError if an array is missing or does not fit; then nothing is changed.
        """
        for name, own in self.state().items():
            given = arrays.get(name)
            if given is None or given.shape != own.shape or given.dtype != own.dtype:
                raise ShapeError(f"{name} is missing or does not fit the model")
        for name in self.last_step:
            steps = arrays[f"adam.last_step.{name}"]
            if steps.size and not 0 <= int(steps.min()) <= int(steps.max()) <= step_count:
                raise ShapeError(f"adam.last_step.{name} lies outside 0..{step_count}")
        for name, own in self.state().items():
            own[...] = arrays[name]
        self.step_count = step_count
