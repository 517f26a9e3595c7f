"""What is left out at random while a model trains: words, vectors, states, weights."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from tidegate.errors import ConfigError
from tidegate.initializers import uniform01

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Dropout:
    """Rates of dropout, each from 0 (none) to below 1. ConfigError for a bad value.

    words: a token becomes the unknown word. vocabulary: a word's vector is left out wherever the
    word stands in the batch. embedding: numbers of the words' vectors, the same ones at all steps
    of a text. layers: numbers of the states between recurrent layers, likewise. recurrent: weights
    of the recurrent products, the same ones in a whole batch. output: of what the output layer
    reads. Sources: Gal & Ghahramani 2016 (the same at all steps); Merity, Keskar & Socher 2018
    (vocabulary, recurrent weights).
    """

    words: float = 0.0
    vocabulary: float = 0.0
    embedding: float = 0.0
    layers: float = 0.0
    recurrent: float = 0.0
    output: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            rate = check_rate(f"dropout: {field.name}", getattr(self, field.name))
            object.__setattr__(self, field.name, rate)


def check_rate(name: str, rate: object) -> float:
    """A rate of dropout, from 0 to below 1. ConfigError for anything else."""
    if isinstance(rate, bool) or not isinstance(rate, (int, float, np.integer, np.floating)):
        raise ConfigError(f"{name}={rate!r} is not a number")
    if not 0.0 <= rate < 1.0:
        raise ConfigError(f"{name}={rate!r} must be at least 0 and below 1")
    return float(rate)


class Noise:
    """One training step's dropout.

    Every mask has a random stream of its own, which the seed, the step and the mask's name fix:
    so a run that goes on from a checkpoint draws what it would have drawn.
    """

    def __init__(self, rates: Dropout, seed: int, step: str) -> None:
        self.rates = rates
        self._seed = seed
        self._step = step

    def drops(self, name: str, shape: tuple[int, ...], rate: float) -> npt.NDArray[np.bool_]:
        """Which of an array's numbers are left out."""
        drawn = uniform01(self._seed, f"dropout {name} {self._step}", int(np.prod(shape)))
        dropped: npt.NDArray[np.bool_] = (drawn < rate).reshape(shape)
        return dropped

    def mask(self, name: str, shape: tuple[int, ...], rate: float) -> Float32 | None:
        """0 where a number is left out, else 1 / (1 - rate), so that the mean stays; or None."""
        if not rate:
            return None
        kept = np.float32(1.0 / (1.0 - rate))
        return np.where(self.drops(name, shape, rate), np.float32(0.0), kept)


SILENT = Noise(Dropout(), 0, "")
