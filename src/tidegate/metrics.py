"""What a set of predictions is worth."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tidegate.checks import check_array
from tidegate.errors import DataError
from tidegate.model import TextModel
from tidegate.stored import Texts


@dataclass(frozen=True)
class Evaluation:
    """loss: mean cross-entropy in nats. accuracy: share of texts predicted right, with several
    labels in each of them. texts: count. seconds: how long it took.
    """

    loss: float
    accuracy: float
    texts: int
    seconds: float


@dataclass(frozen=True)
class LabeledSet:
    """Texts as ids with their targets: [texts] int32 class numbers, or [texts, labels] of 0 and 1.

    weights: [texts] float32, how much each counts in training, or None for 1. Evaluation counts
    every text once.
    """

    texts: Texts
    targets: npt.NDArray[np.int32]
    weights: npt.NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        if len(self.texts) != len(self.targets):
            raise DataError(f"{len(self.texts)} texts have {len(self.targets)} labels")
        if self.weights is not None:
            check_array("weights", self.weights, (len(self.texts),))

    def __len__(self) -> int:
        return len(self.targets)


def evaluate(model: TextModel, examples: LabeledSet) -> Evaluation:
    """Loss and accuracy over all examples. DataError if there are none."""
    begun = time.perf_counter()
    logits = model.predict_logits(examples.texts)
    return evaluate_logits(model, logits, examples.targets, begun)


def evaluate_logits(
    model: TextModel,
    logits: npt.NDArray[np.float32],
    targets: npt.NDArray[np.int32],
    begun: float,
) -> Evaluation:
    """What the logits [texts, L] are worth. begun: on the clock ``time.perf_counter``."""
    if not len(targets):
        raise DataError("no texts to evaluate on")
    loss, _, correct = model.loss(logits, targets)
    return Evaluation(loss, correct / len(targets), len(targets), time.perf_counter() - begun)
