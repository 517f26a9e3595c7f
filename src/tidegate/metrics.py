"""What a set of predictions is worth."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tidegate.batch import Reading, check_counts, pooled
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
    every text once. counts: [texts] int64, how many rows of ``texts`` each one has, if they are
    windows; see ``Reading``. Training takes ``by_rows``.
    """

    texts: Texts
    targets: npt.NDArray[np.int32]
    weights: npt.NDArray[np.float32] | None = None
    counts: npt.NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        check_counts(self.counts, len(self.texts))
        texts = len(self.texts if self.counts is None else self.counts)
        if texts != len(self.targets):
            raise DataError(f"{texts} texts have {len(self.targets)} labels")
        if self.weights is not None:
            check_array("weights", self.weights, (texts,))

    def __len__(self) -> int:
        return len(self.targets)

    def pooled(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """[texts, n] the means of each text's rows of [rows, n]."""
        return pooled(values, self.counts)

    def by_rows(self) -> LabeledSet:
        """Each window as an example of its text's target, all of a text's as heavy as one row.

        Weights have the same mean over rows that the texts' have over texts, so that losses stay
        comparable.
        """
        if self.counts is None or len(self.texts) == len(self):
            return LabeledSet(self.texts, self.targets, self.weights)
        weights = np.ones(len(self), np.float32) if self.weights is None else self.weights
        shares = weights / self.counts * (len(self.texts) / len(self))
        rows = np.repeat(shares, self.counts).astype(np.float32)
        return LabeledSet(self.texts, np.repeat(self.targets, self.counts, axis=0), rows)


def labeled(
    reading: Reading, targets: npt.NDArray[np.int32], weights: npt.NDArray[np.float32] | None = None
) -> LabeledSet:
    """The labelled set of what is read of some texts."""
    return LabeledSet(reading.rows, targets, weights, reading.counts)


def evaluate(model: TextModel, examples: LabeledSet) -> Evaluation:
    """Loss and accuracy over all examples. DataError if there are none."""
    begun = time.perf_counter()
    logits = examples.pooled(model.predict_logits(examples.texts))
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
