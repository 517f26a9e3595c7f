"""Scores of predictions, in float64: shares that are right, ranks, losses and calibration.

Classes are numbers: targets and predicted are [n]. Where a text may have several labels, they are
indicators [n, labels] of 0 and 1, and each label is a question of its own. Nothing here is asked
of no texts at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]
Integers = npt.NDArray[np.integer[Any]]

BINS = 15  # of calibration errors, equally wide. Source: Guo et al. 2017.


@dataclass(frozen=True)
class Counts:
    """How many texts each class has: right, predicted and actual, each [..., classes].

    They are weights where texts weigh something.
    """

    right: Float64
    predicted: Float64
    actual: Float64

    @classmethod
    def of(
        cls, targets: Integers, predicted: Integers, classes: int, weights: Float64 | None = None
    ) -> Counts:
        """Count them. weights: [rounds, n], for counts of [rounds, classes]; None for 1 each."""
        rounds = np.ones((1, len(targets))) if weights is None else weights
        if targets.ndim == 2:
            # Sums of whole numbers: exact in any order, so that no thread changes a bit.
            hits = targets * predicted
            sums = [rounds @ part.astype(np.float64) for part in (hits, predicted, targets)]
        else:
            hits = rounds * (targets == predicted)
            sums = [
                _class_sums(hits, targets, classes),
                _class_sums(rounds, predicted, classes),
                _class_sums(rounds, targets, classes),
            ]
        return cls(*(part[0] if weights is None else part for part in sums))

    @property
    def precision(self) -> Float64:
        """Of what was predicted to be of the class, the share that is; 0 where nothing was."""
        return _share(self.right, self.predicted)

    @property
    def recall(self) -> Float64:
        """Of what is of the class, the share that was predicted; 0 where nothing is."""
        return _share(self.right, self.actual)

    @property
    def f1(self) -> Float64:
        """The harmonic mean of precision and recall; 0 for a class that never occurs."""
        return _share(2.0 * self.right, self.predicted + self.actual)

    @property
    def f1_macro(self) -> Float64:
        """[...] the mean of f1 over the classes that are actual or predicted of any text."""
        occurs = (self.predicted + self.actual) > 0.0
        return _share(self.f1.sum(axis=-1), occurs.sum(axis=-1).astype(np.float64))

    @property
    def f1_micro(self) -> Float64:
        """[...] f1 of all classes' counts added up; with one class a text, the accuracy."""
        both = (self.predicted + self.actual).sum(axis=-1)
        return _share(2.0 * self.right.sum(axis=-1), both)


def _class_sums(weights: Float64, numbers: Integers, classes: int) -> Float64:
    """[rounds, classes] the weights [rounds, n] added up by class."""
    order = np.argsort(numbers, kind="stable")
    present, starts = np.unique(numbers[order], return_index=True)
    sums = np.zeros((len(weights), classes))
    sums[:, present] = np.add.reduceat(weights[:, order], starts, axis=1)
    return sums


def _share(part: Float64, whole: Float64) -> Float64:
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    return np.divide(part, whole, out=np.zeros(np.shape(whole)), where=whole > 0.0)


def accuracy(targets: Integers, predicted: Integers) -> float:
    """The share of texts that are right; with several labels a text, in each of them."""
    same = targets == predicted
    return float(np.mean(same.all(axis=1) if same.ndim == 2 else same))


def confusion_matrix(targets: Integers, predicted: Integers, classes: int) -> npt.NDArray[np.int64]:
    """[classes, classes]: in row i and column j, the texts of class i that were said to be of j."""
    pairs = targets.astype(np.int64) * classes + predicted
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def roc_auc(scores: Float64, positive: npt.NDArray[np.bool_]) -> float:
    """How probably a positive's score is above a negative's, equal ones counting half.

    scores, positive: [n]. NaN without a positive or without a negative.
    """
    return float(Ranking.of(scores, positive).auc(np.ones((1, len(scores))))[0])


@dataclass(frozen=True)
class Ranking:
    """Scores in ascending order, sorted once for many weightings.

    order: [n] texts. starts: where each run of equal scores begins. positive: [n], in that order.
    """

    order: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    positive: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, scores: Float64, positive: npt.NDArray[np.bool_]) -> Ranking:
        """Sort them."""
        order = np.argsort(scores, kind="stable")
        ascending = scores[order]
        starts = np.flatnonzero(np.r_[True, ascending[1:] != ascending[:-1]])
        return cls(order, starts, positive[order])

    def auc(self, weights: Float64) -> Float64:
        """[rounds] the area under the ROC curve where texts have the weights [rounds, n]."""
        ordered = weights[:, self.order]
        positives, negatives = ordered * self.positive, ordered * ~self.positive
        if len(self.starts) < len(self.order):
            positives = np.add.reduceat(positives, self.starts, axis=1)
            negatives = np.add.reduceat(negatives, self.starts, axis=1)
        below = np.cumsum(negatives, axis=1) - negatives
        wins = (positives * (below + 0.5 * negatives)).sum(axis=1)
        pairs = positives.sum(axis=1) * negatives.sum(axis=1)
        areas: Float64 = np.full(len(wins), np.nan)
        np.divide(wins, pairs, out=areas, where=pairs > 0.0)
        return areas


def log_loss(probabilities: Float64, targets: Integers) -> float:
    """Mean cross-entropy in nats; with several labels a text, the mean over the labels, too.

    A probability of 0 counts as the smallest one above it, about 708 nats.
    """
    if targets.ndim == 2:
        right = np.where(targets == 1, probabilities, 1.0 - probabilities)
    else:
        right = probabilities[np.arange(len(targets)), targets]
    return float(-np.log(np.maximum(right, np.finfo(np.float64).tiny)).mean())


def brier_score(probabilities: Float64, targets: Integers) -> float:
    """Mean squared distance of the probabilities from what is so.

    Of two classes that of the second one, from 0 to 1; of more the sum over all, from 0 to 2. With
    several labels a text, the mean over the labels, from 0 to 1. Source: Brier 1950.
    """
    if targets.ndim == 2:
        return float(np.square(probabilities - targets).mean())
    if probabilities.shape[1] == 2:
        return float(np.square(probabilities[:, 1] - targets).mean())
    distance = probabilities.copy()
    distance[np.arange(len(targets)), targets] -= 1.0
    return float(np.square(distance).sum(axis=1).mean())


def calibration_error(probabilities: Float64, targets: Integers) -> float:
    """The expected calibration error: how far what is said lies from what comes true.

    Of each text, the likeliest class's probability and whether it is right, whatever a threshold
    says; of several labels, each one's probability and whether the text has it. They go to BINS
    bins of equal width, (0, 1/15] to (14/15, 1]; the error is the mean over the texts of the
    distance between the bin's mean probability and the share that came true.
    """
    if targets.ndim == 2:
        said, true = probabilities.ravel(), targets.ravel().astype(np.float64)
    else:
        said = probabilities.max(axis=1)
        true = (probabilities.argmax(axis=1) == targets).astype(np.float64)
    bins = np.clip(np.ceil(said * BINS).astype(np.int64) - 1, 0, BINS - 1)
    gaps = np.bincount(bins, weights=said - true, minlength=BINS)
    return float(np.abs(gaps).sum() / len(said))
