"""What a trained classifier is worth on texts with known labels; thresholds are chosen there, too.

Each function is the method of TextClassifier of the same name.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tidegate.checks import check_flag
from tidegate.errors import ConfigError, DataError
from tidegate.labels import label_array
from tidegate.metrics import Evaluation, evaluate_logits
from tidegate.model import check_whole
from tidegate.preparing import listed_texts
from tidegate.report import Report, measure
from tidegate.scores import accuracy
from tidegate.targets import targets_of
from tidegate.thresholds import best_thresholds, check_metric

if TYPE_CHECKING:
    from tidegate.estimator import TextClassifier


def score(classifier: TextClassifier, texts: Iterable[str], labels: Iterable[Any]) -> float:
    """The share of texts of which ``predict`` says the given label, or labels."""
    classifier._fitted()
    listed = listed_texts(texts)
    if classifier._many:
        return classifier.evaluate(listed, labels).accuracy
    given = label_array(labels, len(listed)).tolist()
    if not given:
        raise DataError("no texts to evaluate on")
    right = [a == b for a, b in zip(classifier.predict(listed).tolist(), given, strict=True)]
    return right.count(True) / len(right)


def evaluate(classifier: TextClassifier, texts: Iterable[str], labels: Iterable[Any]) -> Evaluation:
    """Loss and accuracy."""
    model = classifier._fitted()
    begun = time.perf_counter()
    listed = listed_texts(texts)
    targets = _targets(classifier, labels, len(listed))
    with classifier._own_threads():
        logits = classifier._logits(listed)
        result = evaluate_logits(model, logits, targets, begun)
    if classifier.thresholds_ is None and not classifier._many:
        return result
    predicted = classifier._chosen(model.probabilities(logits))
    return replace(result, accuracy=accuracy(targets, predicted))


def report(
    classifier: TextClassifier,
    texts: Iterable[str],
    labels: Iterable[Any],
    *,
    intervals: bool,
    seed: int,
) -> Report:
    """All that is to be said of the predictions."""
    check_whole("seed", seed, 0, 2**63 - 1)
    check_flag("intervals", intervals)
    begun = time.perf_counter()
    classifier._fitted()
    listed = listed_texts(texts)
    targets = _targets(classifier, labels, len(listed))
    probabilities = classifier.predict_proba(listed)
    predicted, seconds = classifier._chosen(probabilities), time.perf_counter() - begun
    found = measure(
        probabilities,
        targets,
        predicted,
        classifier.classes_.tolist(),
        intervals=intervals,
        seed=int(seed),
    )
    return replace(found, seconds=seconds)


def tune_threshold(
    classifier: TextClassifier,
    texts: Iterable[str],
    labels: Iterable[Any],
    metric: str,
    at_least: float,
) -> npt.NDArray[np.float64]:
    """The thresholds, which are not given to the classifier here."""
    check_metric(metric, at_least)
    classifier._fitted()
    if len(classifier.classes_) != 2 and not classifier._many:
        raise ConfigError(
            f"a threshold divides two labels, and this model has {len(classifier.classes_)}; it "
            "predicts the likeliest one"
        )
    listed = listed_texts(texts)
    targets = _targets(classifier, labels, len(listed))
    probabilities = classifier.predict_proba(listed)
    classes = classifier.classes_.tolist()
    return best_thresholds(probabilities, targets, metric, at_least, classes)


def _targets(
    classifier: TextClassifier, labels: Iterable[Any], texts: int
) -> npt.NDArray[np.int32]:
    """What the labels are in the classifier's classes. DataError for one that is none of them."""
    return targets_of(classifier.classes_, labels, texts, many=classifier._many)
