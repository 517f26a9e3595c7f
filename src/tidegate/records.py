"""What fixes a training run, and what comes out of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from tidegate.errors import ConfigError, DataError, unknown_choice
from tidegate.model import check_whole
from tidegate.noise import Dropout
from tidegate.optim import SCHEDULES

# As Python's floats: NumPy would round what is compared with its own to float32.
_SMALLEST = float(np.finfo(np.float32).tiny)
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class TrainConfig:
    """Everything that fixes a training run besides model and data. ConfigError for a bad value.

    The defaults are Keras's Adam and the lecture's job. clip_norm: the largest common norm of a
    step's gradients, or None. seed: of the initial weights, the split, the shuffling and dropout.
    weight_decay, schedule, warmup: see ``optim.Adam`` and ``optim.learning_rates``. average: the
    decay of the averaged weights, which are validated and kept in place of the last ones; 0 for
    none. label_smoothing: see ``losses.weighted_loss``. patience: training ends after so many
    epochs in a row that did not better the validation's accuracy (of equals: its loss), and the
    best epoch's weights are kept; None for the last epoch's. dropout: see ``noise.Dropout``.

    Kernels compute in float32 and flush denormal numbers to zero, so numbers lie between 1.2e-38
    and 3.4e+38. They are kept as Python's int and float, whichever kind of number was given.
    """

    epochs: int = 3
    batch_size: int = 64
    learning_rate: float = 1e-3
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-7
    clip_norm: float | None = None
    seed: int = 0
    weight_decay: float = 0.0
    schedule: str = "constant"
    warmup: float = 0.0
    average: float = 0.0
    label_smoothing: float = 0.0
    patience: int | None = None
    dropout: Dropout = field(default_factory=Dropout)

    def __post_init__(self) -> None:
        # A model file keeps a line of results for each epoch.
        for name, least, most in (
            ("epochs", 1, 10_000),
            ("batch_size", 1, 65_536),
            ("seed", 0, 2**63 - 1),
        ):
            check_whole(name, getattr(self, name), least, most)
            object.__setattr__(self, name, int(getattr(self, name)))
        for name in ("beta_1", "beta_2"):
            given = getattr(self, name)
            beta = _number(name, given)
            if not (beta >= 0.0 and np.float32(min(beta, 1.0)) < 1.0):
                raise ConfigError(f"{name}={given!r} must be not negative and below 1 in float32")
            object.__setattr__(self, name, beta)
        for name in ("learning_rate", "epsilon", "clip_norm"):
            given = getattr(self, name)
            if name == "clip_norm" and given is None:
                continue
            object.__setattr__(self, name, check_positive(name, given))
        if not isinstance(self.schedule, str) or self.schedule not in SCHEDULES:
            raise unknown_choice("schedule", self.schedule, SCHEDULES)
        for name in ("weight_decay", "warmup", "average", "label_smoothing"):
            given = getattr(self, name)
            value = _number(name, given)
            if not 0.0 <= value < 1.0:
                raise ConfigError(f"{name}={given!r} must be at least 0 and below 1")
            object.__setattr__(self, name, value)
        if self.patience is not None:
            check_whole("patience", self.patience, 1, 10_000)
            object.__setattr__(self, "patience", int(self.patience))
        # What a step of Adam's multiplies with is at most this and, at first, at least that.
        largest = self.learning_rate / (1.0 - self.beta_1)
        least_rate = self.learning_rate * math.sqrt(1.0 - self.beta_2)
        if not (least_rate >= _SMALLEST and largest <= _LARGEST):
            raise ConfigError(
                f"learning_rate={self.learning_rate!r} leaves float32 with beta_1={self.beta_1} "
                f"and beta_2={self.beta_2}; choose one nearer to 0.001"
            )


def check_positive(name: str, given: object) -> float:
    """The number. ConfigError unless it is positive and finite in float32."""
    value = _number(name, given)
    if not _SMALLEST <= value <= _LARGEST:
        raise ConfigError(
            f"{name}={given!r} must be positive and finite in float32: 1.2e-38 to 3.4e+38"
        )
    return value


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.floating, np.integer)):
        raise ConfigError(f"{name}={value!r} is not a number")
    try:
        return float(value)
    except OverflowError:
        return math.inf


@dataclass(frozen=True)
class StepResult:
    """One step done. loss and accuracy are means over this epoch's texts so far."""

    epoch: int
    step: int
    steps: int
    texts: int
    total_texts: int
    loss: float
    accuracy: float
    seconds: float


@dataclass(frozen=True)
class EpochResult:
    """One epoch done.

    loss and accuracy: means over the epoch, as the weights changed. val_loss and val_accuracy: on
    the validation texts after it, None without any. seconds include the validation, as Keras
    counts them.
    """

    epoch: int
    seconds: float
    loss: float
    accuracy: float
    val_loss: float | None
    val_accuracy: float | None

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> EpochResult:
        """The result of fields that a file gave. DataError if they are no result."""
        result = from_fields(cls, fields)
        if (result.val_loss is None) != (result.val_accuracy is None):
            raise DataError("an epoch has only one of val_loss and val_accuracy")
        return result


def kept_weights(config: TrainConfig) -> tuple[str, ...]:
    """Which copies of the weights a run keeps beside those that it trains."""
    wanted = {"average": config.average > 0.0, "best": config.patience is not None}
    return tuple(name for name, kept in wanted.items() if kept)


def best_epoch(history: Sequence[EpochResult]) -> int:
    """The number, from 1, of the epoch with the best validation; 0 for no validated epoch."""
    validated = [
        (result.val_accuracy, -result.val_loss, -result.epoch)
        for result in history
        if result.val_accuracy is not None and result.val_loss is not None
    ]
    return -max(validated)[2] if validated else 0


def is_ended(history: Sequence[EpochResult], epochs: int, patience: int | None) -> bool:
    """Whether a run with this history has nothing left to do."""
    best = best_epoch(history)
    waited = len(history) - best if best and patience is not None else 0
    return len(history) >= epochs or waited >= (patience or math.inf)


@dataclass
class Progress:
    """Where a run stands; with the arrays, all that continuing it needs."""

    epoch: int = 1
    step: int = 0  # steps done in this epoch
    texts: int = 0
    loss_sum: float = 0.0
    correct: int = 0
    seconds: float = 0.0  # spent in this epoch; the one field that is not the same every time


_Record = TypeVar("_Record")


def from_fields(record: type[_Record], fields: Mapping[str, Any]) -> _Record:
    """A dataclass of int, float and optional float from what a file gave; DataError if it isn't."""
    types = {name: str(field.type) for name, field in record.__dataclass_fields__.items()}  # type: ignore[attr-defined]
    if not isinstance(fields, Mapping) or set(fields) != set(types):
        raise DataError(f"{record.__name__} does not have the fields {', '.join(types)}")
    for name, value in fields.items():
        allowed: tuple[type, ...] = (int,) if types[name] == "int" else (int, float)
        optional = "None" in types[name] and value is None
        if not optional and (isinstance(value, bool) or not isinstance(value, allowed)):
            raise DataError(f"{name}={value!r} is not a number of type {types[name]}")
        if isinstance(value, int) and not -1 < value < 2**53:
            raise DataError(f"{name}={value} is out of range")
    return record(**fields)
