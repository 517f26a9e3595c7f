"""Scores, against scikit-learn's, by hand on small cases, and by what must hold of all."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as theirs
from hypothesis import given
from hypothesis import strategies as st

from tidegate import scores
from tidegate.scores import Counts, Ranking


def draw(classes: int, texts: int = 200, seed: int = 0) -> tuple[Any, Any, Any]:
    """Probabilities with ties among them, targets, and what is likeliest."""
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, classes, texts)
    logits = generator.standard_normal((texts, classes)).round(1)
    logits[np.arange(texts), targets] += 1.0
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return probabilities, targets, probabilities.argmax(axis=1)


def draw_several(labels: int = 4, texts: int = 150, seed: int = 0) -> tuple[Any, Any, Any]:
    generator = np.random.default_rng(seed)
    targets = (generator.random((texts, labels)) < np.linspace(0.1, 0.6, labels)).astype(int)
    logits = generator.standard_normal((texts, labels)).round(1) + 2.0 * targets - 1.0
    probabilities = 1.0 / (1.0 + np.exp(-logits))
    return probabilities, targets, (probabilities > 0.5).astype(int)


def assert_counts(targets: Any, predicted: Any, classes: int) -> None:
    """Precision, recall, F1 and accuracy are scikit-learn's."""
    counts = Counts.of(targets, predicted, classes)
    expected = theirs.precision_recall_fscore_support(targets, predicted, zero_division=0)
    for found, wanted in zip(
        (counts.precision, counts.recall, counts.f1, counts.actual), expected, strict=True
    ):
        np.testing.assert_allclose(found, wanted, rtol=1e-14)
    for name in ("macro", "micro"):
        wanted = theirs.f1_score(targets, predicted, average=name)
        assert float(getattr(counts, f"f1_{name}")) == pytest.approx(wanted, rel=1e-14)
    assert scores.accuracy(targets, predicted) == theirs.accuracy_score(targets, predicted)


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_one_class_a_text_as_scikit_learn_has_it(classes: int) -> None:
    probabilities, targets, predicted = draw(classes)
    assert_counts(targets, predicted, classes)
    assert scores.log_loss(probabilities, targets) == pytest.approx(
        theirs.log_loss(targets, probabilities), rel=1e-12
    )
    np.testing.assert_array_equal(
        scores.confusion_matrix(targets, predicted, classes),
        theirs.confusion_matrix(targets, predicted),
    )
    for k in range(classes):
        assert scores.roc_auc(probabilities[:, k], targets == k) == pytest.approx(
            theirs.roc_auc_score(targets == k, probabilities[:, k]), rel=1e-12
        )
    if classes == 2:
        brier = theirs.brier_score_loss(targets, probabilities[:, 1])
    else:
        brier = np.square(probabilities - np.eye(classes)[targets]).sum(axis=1).mean()
    assert scores.brier_score(probabilities, targets) == pytest.approx(brier, rel=1e-12)


def test_several_labels_a_text_as_scikit_learn_has_them() -> None:
    probabilities, targets, predicted = draw_several()
    assert_counts(targets, predicted, 4)
    columns = range(4)
    losses = [theirs.log_loss(targets[:, k], probabilities[:, k]) for k in columns]
    assert scores.log_loss(probabilities, targets) == pytest.approx(np.mean(losses), rel=1e-12)
    briers = [theirs.brier_score_loss(targets[:, k], probabilities[:, k]) for k in columns]
    assert scores.brier_score(probabilities, targets) == pytest.approx(np.mean(briers), rel=1e-12)


def test_counts_by_hand() -> None:
    targets, predicted = np.array([0, 0, 1, 1, 1, 2]), np.array([0, 1, 1, 1, 0, 1])
    counts = Counts.of(targets, predicted, 4)  # class 2 is never said, class 3 never occurs
    assert counts.right.tolist() == [1, 2, 0, 0]
    assert counts.precision.tolist() == [1 / 2, 2 / 4, 0, 0]
    assert counts.recall.tolist() == [1 / 2, 2 / 3, 0, 0]
    assert counts.f1.tolist() == [2 / 4, 4 / 7, 0, 0]
    assert counts.f1_macro == pytest.approx((2 / 4 + 4 / 7 + 0) / 3)  # of those that occur
    assert counts.f1_micro == 0.5
    weights = np.array([[1, 1, 1, 1, 1, 1], [0, 2, 0, 0, 3, 1]], float)
    weighted = Counts.of(targets, predicted, 4, weights)
    assert weighted.right.tolist() == [[1, 2, 0, 0], [0, 0, 0, 0]]
    assert weighted.predicted.tolist() == [[2, 4, 0, 0], [3, 3, 0, 0]]
    assert weighted.actual.tolist() == [[2, 3, 1, 0], [2, 3, 1, 0]]
    assert weighted.f1_macro.tolist() == [counts.f1_macro, 0.0]


@pytest.mark.parametrize(
    ("values", "positive", "expected"),
    [
        ([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1], 0.75),
        ([0.5, 0.5, 0.5, 0.5], [0, 1, 0, 1], 0.5),  # ties count half
        ([0.2, 0.5, 0.5, 0.9], [0, 0, 1, 1], 0.875),
        ([0.9, 0.1], [0, 1], 0.0),
        ([0.3, 0.6], [1, 1], math.nan),
        ([0.3, 0.6], [0, 0], math.nan),
    ],
)
def test_auc_by_hand(values: list[float], positive: list[int], expected: float) -> None:
    found = scores.roc_auc(np.array(values), np.array(positive, bool))
    assert found == pytest.approx(expected, nan_ok=True)


def test_calibration_error_by_hand() -> None:
    # Of two classes what is said of the likelier one: 0.9 and 0.92 fall into (13/15, 14/15], 0.6
    # into (8/15, 9/15].
    ones = np.array([0.9, 0.92, 0.6, 0.4])
    probabilities = np.stack([1 - ones, ones], axis=1)
    targets = np.array([1, 0, 1, 1])
    expected = abs(0.9 + 0.92 - 1) / 4 + abs(0.6 + 0.6 - 1) / 4
    assert scores.calibration_error(probabilities, targets) == pytest.approx(expected)
    sure = np.array([[0.0, 1.0], [1.0, 0.0]])
    assert scores.calibration_error(sure, np.array([1, 0])) == 0.0
    assert scores.calibration_error(sure, np.array([0, 1])) == 1.0
    # Of several labels, what is said of each: 0 lies in the first bin, 1 in the last.
    several = np.array([[0.0, 0.5], [1.0, 0.5]])
    held = np.array([[0, 1], [1, 0]])
    assert scores.calibration_error(several, held) == 0.0
    assert scores.calibration_error(several, 1 - held) == 0.5
    assert scores.calibration_error(several, np.ones((2, 2), int)) == 0.5


def test_what_was_held_to_be_impossible_has_a_finite_loss() -> None:
    assert scores.log_loss(np.array([[1.0, 0.0]]), np.array([1])) == pytest.approx(708.4, abs=0.1)


pairs = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 6)), min_size=1, max_size=40
)


@given(pairs)
def test_what_must_hold_of_counts(rows: list[tuple[int, int, int]]) -> None:
    targets, predicted, weight = (np.array(column) for column in zip(*rows, strict=True))
    counts = Counts.of(targets, predicted, 4)
    for name in ("precision", "recall", "f1"):
        values = getattr(counts, name)
        assert values.min() >= 0 <= values.max() <= 1
    assert float(counts.f1_micro) == pytest.approx(scores.accuracy(targets, predicted))
    assert (counts.right <= np.minimum(counts.predicted, counts.actual)).all()
    matrix = scores.confusion_matrix(targets, predicted, 4)
    np.testing.assert_array_equal(matrix.diagonal(), counts.right)
    np.testing.assert_array_equal(matrix.sum(axis=0), counts.predicted)
    np.testing.assert_array_equal(matrix.sum(axis=1), counts.actual)
    # A text of weight k is k texts.
    weighted = Counts.of(targets, predicted, 4, weight[None].astype(float))
    repeated = Counts.of(np.repeat(targets, weight), np.repeat(predicted, weight), 4)
    if weight.sum():
        np.testing.assert_allclose(weighted.f1[0], repeated.f1)
        assert weighted.f1_macro[0] == pytest.approx(float(repeated.f1_macro))


ranked = st.lists(
    st.tuples(st.integers(0, 8), st.booleans(), st.integers(0, 4)), min_size=2, max_size=30
)


@given(ranked)
def test_what_must_hold_of_the_auc(rows: list[tuple[int, bool, int]]) -> None:
    values, positive, weight = (np.array(column) for column in zip(*rows, strict=True))
    values = values / 8
    found = scores.roc_auc(values, positive)
    above = [(p > n) + 0.5 * (p == n) for p in values[positive] for n in values[~positive]]
    assert found == pytest.approx(float(np.mean(above)) if above else math.nan, nan_ok=True)
    assert scores.roc_auc(-values, positive) == pytest.approx(1 - found, nan_ok=True)
    assert scores.roc_auc(np.exp(5 * values), positive) == pytest.approx(found, nan_ok=True)
    weighted = Ranking.of(values, positive).auc(weight[None].astype(float))[0]
    repeated = scores.roc_auc(np.repeat(values, weight), np.repeat(positive, weight))
    assert weighted == pytest.approx(repeated, nan_ok=True)
