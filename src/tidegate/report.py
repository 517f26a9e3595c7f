"""All that is to be said of a model's predictions on texts with known labels."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tidegate.checks import check_range
from tidegate.errors import DataError, ShapeError
from tidegate.intervals import RESAMPLES, Interval, bootstrap, wilson
from tidegate.scores import (
    BINS,
    Counts,
    Float64,
    Integers,
    Ranking,
    accuracy,
    brier_score,
    calibration_error,
    confusion_matrix,
    log_loss,
)

MOST_CONFUSED = 100  # classes of a confusion matrix; its size grows with their square


@dataclass(frozen=True)
class ClassReport:
    """One class, or one of several labels that a text may have.

    texts: that are of it. predicted: that are said to be. precision, recall, f1: 0 where they have
    no value. auc: of its probability against all others, None without texts of both kinds.
    """

    label: Any
    texts: int
    predicted: int
    precision: float
    recall: float
    f1: float
    auc: float | None


@dataclass(frozen=True)
class Report:
    """What predictions are worth. The functions of the same names in ``scores`` define it.

    With several labels a text, a text is right if each of its labels is. f1_macro: the mean over
    the classes that occur in labels or predictions. auc: of two classes the second one's, of more
    the mean of one against the rest, over those that have one; None if none has. confusion: rows
    are the true classes, columns the predicted ones; None with several labels a text and beyond
    MOST_CONFUSED classes. Intervals are of 95 %: the accuracy's is Wilson's, the others are
    quantiles of RESAMPLES resamples of the texts, None if they were not asked for.
    """

    texts: int
    loss: float
    accuracy: float
    accuracy_interval: Interval
    f1_macro: float
    f1_macro_interval: Interval | None
    f1_micro: float
    f1_micro_interval: Interval | None
    auc: float | None
    auc_interval: Interval | None
    calibration_error: float
    brier_score: float
    classes: tuple[ClassReport, ...]
    confusion: tuple[tuple[int, ...], ...] | None
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values, with the numbers of bins and of resamples."""
        settings = {"calibration_bins": BINS}
        if self.f1_macro_interval is not None:
            settings["resamples"] = RESAMPLES
        return {**asdict(self), **settings}


def measure(
    probabilities: Float64,
    targets: Integers,
    predicted: Integers,
    labels: list[Any],
    *,
    intervals: bool = True,
    seed: int = 0,
) -> Report:
    """The report on [n, classes] probabilities, whose columns ``labels`` name.

    targets, predicted: [n] class numbers, or [n, classes] of 0 and 1 where a text may have several
    labels. intervals: whether to resample, which takes a second for each 25,000 texts and class.
    The same seed gives the same intervals. DataError for no texts, ShapeError for arrays that do
    not fit.
    """
    _check(probabilities, targets, predicted, labels)
    texts, classes = probabilities.shape
    counts = Counts.of(targets, predicted, classes)
    positives = targets.T == 1 if targets.ndim == 2 else targets == np.arange(classes)[:, None]
    rankings = _rankings(probabilities, positives, several=targets.ndim == 2)
    once = np.ones((1, texts))
    # Of two classes, one's ranking is the other's from behind.
    aucs = [float(ranking.auc(once)[0]) for ranking in rankings] * (classes // len(rankings))
    right = accuracy(targets, predicted)
    f1_macro_interval = f1_micro_interval = auc_interval = None
    if intervals:

        def resampled_scores(weights: Float64) -> list[Float64]:
            drawn = Counts.of(targets, predicted, classes, weights)
            areas = np.stack([ranking.auc(weights) for ranking in rankings])
            return [drawn.f1_macro, drawn.f1_micro, _mean_of_known(areas)]

        f1_macro_interval, f1_micro_interval, auc_interval = bootstrap(
            resampled_scores, texts, seed
        )
    confusion = None
    if targets.ndim == 1 and classes <= MOST_CONFUSED:
        rows = confusion_matrix(targets, predicted, classes).tolist()
        confusion = tuple(tuple(row) for row in rows)
    return Report(
        texts=texts,
        loss=log_loss(probabilities, targets),
        accuracy=right,
        accuracy_interval=wilson(round(right * texts), texts),
        f1_macro=float(counts.f1_macro),
        f1_macro_interval=f1_macro_interval,
        f1_micro=float(counts.f1_micro),
        f1_micro_interval=f1_micro_interval,
        auc=_known(float(_mean_of_known(np.array(aucs)[:, None])[0])),
        auc_interval=auc_interval,
        calibration_error=calibration_error(probabilities, targets),
        brier_score=brier_score(probabilities, targets),
        classes=_class_reports(labels, counts, aucs),
        confusion=confusion,
    )


def _rankings(
    probabilities: Float64, positives: npt.NDArray[np.bool_], *, several: bool
) -> list[Ranking]:
    """Each class's; of two classes the second one's alone."""
    wanted = [1] if probabilities.shape[1] == 2 and not several else range(len(positives))
    return [Ranking.of(probabilities[:, k], positives[k]) for k in wanted]


def _mean_of_known(values: Float64) -> Float64:
    """[rounds] of [classes, rounds]: the mean of what is a number, NaN if nothing is."""
    known = ~np.isnan(values)
    sums, found = np.where(known, values, 0.0).sum(axis=0), known.sum(axis=0)
    means: Float64 = np.full(sums.shape, np.nan)
    np.divide(sums, found, out=means, where=found > 0)
    return means


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _class_reports(labels: list[Any], counts: Counts, aucs: list[float]) -> tuple[ClassReport, ...]:
    return tuple(
        ClassReport(label, int(texts), int(predicted), precision, recall, f1, _known(auc))
        for label, texts, predicted, precision, recall, f1, auc in zip(
            labels,
            counts.actual.tolist(),
            counts.predicted.tolist(),
            counts.precision.tolist(),
            counts.recall.tolist(),
            counts.f1.tolist(),
            aucs,
            strict=True,
        )
    )


def _check(
    probabilities: Float64, targets: Integers, predicted: Integers, labels: list[Any]
) -> None:
    if probabilities.dtype != np.float64 or probabilities.shape[1:] != (len(labels),):
        raise ShapeError(
            f"probabilities is {probabilities.dtype} {list(probabilities.shape)}; float64 "
            f"[texts, {len(labels)}] is needed"
        )
    if not len(probabilities):
        raise DataError("no texts to evaluate on")
    if not (probabilities.min() >= 0.0 and probabilities.max() <= 1.0):
        raise ShapeError(
            f"probabilities run from {probabilities.min()} to {probabilities.max()}; they must "
            "lie in 0 to 1"
        )
    several = np.ndim(targets) == 2
    shape = probabilities.shape if several else probabilities.shape[:1]
    for name, array in (("targets", targets), ("predicted", predicted)):
        if array.shape != shape or array.dtype.kind not in "iu":
            raise ShapeError(
                f"{name} is {array.dtype} {list(array.shape)}; whole numbers {list(shape)} are "
                "needed"
            )
        check_range(name, array, 2 if several else len(labels))
