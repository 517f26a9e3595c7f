"""What fixes a training run, and what comes out of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from tidegate.errors import ConfigError, DataError
from tidegate.model import check_whole

# As Python's floats: NumPy would round what is compared with its own to float32.
_SMALLEST = float(np.finfo(np.float32).tiny)
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class TrainConfig:
    """Everything that fixes a training run besides model and data. ConfigError for a bad value.

    The defaults are Keras's Adam and the lecture's job. clip_norm: the largest common norm of a
    step's gradients, or None. seed: of the initial weights, the split and the shuffling.

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
            value = _number(name, given)
            if not _SMALLEST <= value <= _LARGEST:
                raise ConfigError(
                    f"{name}={given!r} must be positive and finite in float32: 1.2e-38 to 3.4e+38"
                )
            object.__setattr__(self, name, value)
        # What a step of Adam's multiplies with is at most this and, at first, at least that.
        largest = self.learning_rate / (1.0 - self.beta_1)
        least_rate = self.learning_rate * math.sqrt(1.0 - self.beta_2)
        if not (least_rate >= _SMALLEST and largest <= _LARGEST):
            raise ConfigError(
                f"learning_rate={self.learning_rate!r} leaves float32 with beta_1={self.beta_1} "
                f"and beta_2={self.beta_2}; choose one nearer to 0.001"
            )


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
