"""From which probability on a label is predicted, chosen on texts with known labels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from tidegate.errors import ConfigError, DataError, ShapeError, unknown_choice

METRICS = ("f1", "precision")


def check_metric(metric: object, at_least: object) -> None:
    """ConfigError unless metric is one of METRICS and at_least above 0 and not above 1."""
    if not isinstance(metric, str) or metric not in METRICS:
        raise unknown_choice("metric", metric, METRICS)
    number = isinstance(at_least, (int, float, np.integer, np.floating))
    if not number or isinstance(at_least, bool) or not 0.0 < at_least <= 1.0:  # type: ignore[operator]
        raise ConfigError(f"at_least={at_least!r} must be a number above 0 and not above 1")


def check_probabilities(probabilities: object, classes: int) -> None:
    """ShapeError unless they are [any, classes] float64."""
    if not isinstance(probabilities, np.ndarray):
        raise ShapeError(f"probabilities is a {type(probabilities).__name__}; give an array")
    if probabilities.shape[1:] != (classes,) or probabilities.dtype != np.float64:
        raise ShapeError(
            f"probabilities is {probabilities.dtype} {list(probabilities.shape)}; float64 "
            f"[texts, {classes}] is needed"
        )


def chosen(
    probabilities: npt.NDArray[np.float64],
    thresholds: npt.NDArray[np.float64] | None,
    *,
    many: bool,
) -> npt.NDArray[np.int64]:
    """What is predicted: [texts] class numbers, or [texts, labels] of 0 and 1 where many.

    probabilities: [texts, classes]. thresholds: [labels] where many, else [1] of the second of two
    classes; None for the likeliest class, or for what is above 0.5.
    """
    found: npt.NDArray[Any]
    if many:
        found = probabilities > 0.5 if thresholds is None else probabilities >= thresholds
    elif thresholds is None:
        found = probabilities.argmax(axis=1)
    else:
        found = probabilities[:, 1] >= thresholds[0]
    return found.astype(np.int64)


def best_thresholds(
    probabilities: npt.NDArray[np.float64],
    targets: npt.NDArray[np.int32],
    metric: str,
    at_least: float,
    labels: list[Any],
) -> npt.NDArray[np.float64]:
    """``best_threshold`` of the second of two classes, [1], or of each of several labels.

    probabilities: [texts, classes]. targets: [texts] class numbers, or [texts, classes] of 0 and 1.
    """
    held = targets[:, None] == [1] if targets.ndim == 1 else targets == 1
    first = len(labels) - held.shape[1]
    found = [
        best_threshold(probabilities[:, first + k], held[:, k], metric, at_least, label)
        for k, label in enumerate(labels[first:])
    ]
    return np.array(found)


def best_threshold(
    probabilities: npt.NDArray[np.float64],
    positive: npt.NDArray[np.bool_],
    metric: str,
    at_least: float,
    label: Any,
) -> float:
    """The label is predicted where its probability is the threshold or more.

    probabilities, positive: [n]. metric: "f1" for the greatest F1 (of equals the highest
    threshold), "precision" for the lowest threshold with a precision of ``at_least``, and so the
    greatest recall. Thresholds lie halfway between neighbouring probabilities. DataError if no
    text has the label, or no threshold the precision.
    """
    if not positive.any():
        raise DataError(f"no text has the label {label!r}; a threshold needs some that have it")
    order = np.argsort(-probabilities, kind="stable")
    descending = probabilities[order]
    # Texts of one probability are predicted together: cuts come after the last of them.
    last = np.flatnonzero(np.r_[descending[1:] != descending[:-1], True])
    right = np.cumsum(positive[order])[last]
    predicted = last + 1
    precision = right / predicted
    if metric == "f1":
        cut = int(np.argmax(2.0 * right / (predicted + np.count_nonzero(positive))))
    else:
        enough = np.flatnonzero(precision >= at_least)
        if not len(enough):
            raise DataError(
                f"no threshold gives {label!r} a precision of {at_least}: the best on these texts "
                f"is {math.floor(precision.max() * 1e4) / 1e4}; choose a lower at_least"
            )
        cut = int(enough[-1])
    lowest = float(descending[last[cut]])
    below = float(descending[last[cut] + 1]) if cut + 1 < len(last) else 0.0
    middle = (lowest + below) / 2.0
    return middle if middle > below else lowest  # between neighbours of the last bit is nothing
