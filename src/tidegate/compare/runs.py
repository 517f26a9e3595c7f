"""What one run of one model with one seed gives, as it is kept until all are there."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tidegate.compare.forgetting import Fading
from tidegate.records import EpochResult

Right = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Answers:
    """What a model's answers to some texts are worth. See ``scores`` for the figures.

    right: [texts] which are right, with several labels in each of them. seconds: for all texts.
    """

    right: Right
    loss: float
    calibration_error: float
    seconds: float

    @property
    def accuracy(self) -> float:
        """The share of texts that are right."""
        return float(self.right.mean())

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values, a bit for each answer."""
        bits = base64.b64encode(np.packbits(self.right).tobytes()).decode()
        fields: dict[str, Any] = {"texts": len(self.right), "right": bits}
        fields |= {"loss": self.loss, "calibration_error": self.calibration_error}
        return fields | {"seconds": self.seconds}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Answers:
        """What ``to_json`` gave."""
        packed = np.frombuffer(base64.b64decode(fields["right"]), np.uint8)
        right = np.unpackbits(packed, count=fields["texts"]).astype(np.bool_)
        rest = {name: fields[name] for name in ("loss", "calibration_error", "seconds")}
        return cls(right, **rest)


@dataclass(frozen=True)
class Distances:
    """Accuracy on probes, see ``distance``: at each distance, and with all words in front.

    guessing: that of always saying the probes' most frequent label.
    """

    distances: tuple[int, ...]
    accuracy: tuple[float, ...]
    in_front: float
    texts: int
    guessing: float


@dataclass(frozen=True)
class RunResult:
    """One model trained with one seed.

    epochs: of a network. train_seconds: of all its epochs with their validations, or of the linear
    model's fit. parameters: how many numbers were trained. gates, state: of a network, how many
    gates a cell has and how many numbers it hands from step to step, 0 of the linear model.
    file_bytes: of the model file. text_milliseconds: median for one text alone, warm.
    memory_before, memory_peak: bytes of the process that trained it, when it had read the texts and
    at most until it had scored the test texts. initial, trained: how gradients fade, of a network.
    failure: why there is nothing else, None if there is.
    """

    model: str
    seed: int
    failure: str | None = None
    epochs: tuple[EpochResult, ...] = ()
    train_seconds: float = 0.0
    validation: Answers | None = None
    test: Answers | None = None
    parameters: int = 0
    gates: int = 0
    state: int = 0
    file_bytes: int = 0
    text_milliseconds: float = 0.0
    memory_before: int = 0
    memory_peak: int = 0
    precision: str = "float32"
    initial: Fading | None = None
    trained: Fading | None = None
    distances: Distances | None = None

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        fields["epochs"] = [asdict(epoch) for epoch in self.epochs]
        for name in ("validation", "test"):
            fields[name] = None if fields[name] is None else fields[name].to_json()
        for name in ("initial", "trained", "distances"):
            fields[name] = None if fields[name] is None else asdict(fields[name])
        return fields

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> RunResult:
        """What ``to_json`` gave."""
        given = dict(fields)
        given["epochs"] = tuple(EpochResult.from_json(epoch) for epoch in given["epochs"])
        kinds: dict[str, Any] = {"initial": Fading, "trained": Fading, "distances": Distances}
        for name, kind in kinds.items():
            if given[name] is not None:
                given[name] = kind(**{key: _frozen(value) for key, value in given[name].items()})
        for name in ("validation", "test"):
            if given[name] is not None:
                given[name] = Answers.from_json(given[name])
        return cls(**given)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
