"""From which probability on a label is predicted."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as theirs
from hypothesis import given
from hypothesis import strategies as st

from test_calibration import noisy
from test_estimator import make
from tidegate import TextClassifier, ops, storage
from tidegate.errors import ConfigError, DataError, ModelFileError, NotFittedError
from tidegate.thresholds import best_threshold


@pytest.fixture(autouse=True)
def one_thread(restored_threads: None) -> None:
    ops.set_threads(1)


def threshold(values: list[float], held: list[int], metric: str, at_least: float = 0.9) -> float:
    return best_threshold(np.array(values), np.array(held, bool), metric, at_least, "x")


@pytest.mark.parametrize(
    ("values", "held", "expected"),
    [
        ([0.9, 0.6, 0.4, 0.1], [1, 1, 0, 0], 0.5),
        ([0.1, 0.9, 0.4, 0.6], [0, 1, 1, 1], 0.25),  # in any order
        ([0.9, 0.6, 0.4, 0.1], [1, 0, 0, 0], 0.75),
        ([0.9, 0.6, 0.6, 0.1], [0, 1, 0, 1], 0.05),  # ties are cut together
        ([0.5, 0.5], [1, 0], 0.25),
        ([0.8, 0.4, 0.2], [1, 0, 0], 0.6),
        ([0.9, 0.8, 0.7, 0.6], [1, 0, 0, 1], 0.85),  # 2/3 as at 0.3: of equals the highest
    ],
)
def test_the_greatest_f1_by_hand(values: list[float], held: list[int], expected: float) -> None:
    assert threshold(values, held, "f1") == pytest.approx(expected)


def test_a_precision_by_hand() -> None:
    values = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4]
    held = [1, 0, 1, 1, 0, 1]  # precisions 1, 1/2, 2/3, 3/4, 3/5, 4/6
    assert threshold(values, held, "precision", 1.0) == pytest.approx(0.85)
    assert threshold(values, held, "precision", 0.75) == pytest.approx(0.55)
    assert threshold(values, held, "precision", 0.6) == pytest.approx(0.2)
    with pytest.raises(DataError, match=r"gives 'x' a precision of 0\.8: the best on"):
        threshold(values, [0, *held[1:]], "precision", 0.8)


texts_of = st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=1, max_size=30)


@given(texts_of)
def test_what_must_hold_of_thresholds(rows: list[tuple[int, bool]]) -> None:
    values, held = (np.array(column) for column in zip(*rows, strict=True))
    values = values / 20
    if not held.any():
        with pytest.raises(DataError, match="no text has the label 'x'"):
            best_threshold(values, held, "f1", 0.9, "x")
        return
    cuts = np.unique(values).tolist()
    found = best_threshold(values, held, "f1", 0.9, "x")
    best = max(theirs.f1_score(held, values >= cut, zero_division=0) for cut in cuts)
    assert theirs.f1_score(held, values >= found) == pytest.approx(best)
    for at_least in (0.5, 0.9):
        recalls = [
            theirs.recall_score(held, values >= cut)
            for cut in cuts
            if theirs.precision_score(held, values >= cut, zero_division=0) >= at_least
        ]
        if not recalls:
            continue
        found = best_threshold(values, held, "precision", at_least, "x")
        assert theirs.precision_score(held, values >= found) >= at_least
        assert theirs.recall_score(held, values >= found) == max(recalls)


def test_neighbours_of_the_last_bit_are_told_apart() -> None:
    above = float(np.nextafter(0.5, 1))
    assert threshold([above, 0.5], [1, 0], "f1") == above


# --- the classifier


@pytest.fixture(scope="module")
def fitted() -> TextClassifier:
    """Of texts that are mostly of the first label, so that the second is rarely likeliest."""
    texts, labels = noisy(300, 0)
    kept = [i for i, label in enumerate(labels) if label == "neg" or i % 4 == 1]
    return make(epochs=3, threads=1).fit([texts[i] for i in kept], [labels[i] for i in kept])


HELD, HELD_LABELS = noisy(400, 5)


def test_a_tuned_threshold_is_what_predict_uses(fitted: TextClassifier, tmp_path: Path) -> None:
    classifier = pickle.loads(pickle.dumps(fitted))  # noqa: S301
    probabilities = fitted.predict_proba(HELD)
    truth = np.array(HELD_LABELS) == "pos"
    before = fitted.report(HELD, HELD_LABELS)
    found = classifier.tune_threshold(HELD, HELD_LABELS)
    assert classifier.thresholds_.tolist() == found.tolist()
    assert found[0] == best_threshold(probabilities[:, 1], truth, "f1", 0.9, "pos")
    assert found[0] != 0.5
    np.testing.assert_array_equal(classifier.predict_proba(HELD), probabilities)
    predicted = classifier.predict(HELD)
    assert ((predicted == "pos") == (probabilities[:, 1] >= found[0])).all()
    assert (classifier.decide(probabilities) == predicted).all()
    assert (predicted != fitted.predict(HELD)).any()
    after = classifier.report(HELD, HELD_LABELS)
    assert after.classes[1].f1 > before.classes[1].f1
    assert after.classes[1].f1 == pytest.approx(theirs.f1_score(truth, predicted == "pos"))
    assert (after.auc, after.loss, after.calibration_error) == (
        before.auc,
        before.loss,
        before.calibration_error,
    )
    right = float(np.mean(predicted == np.array(HELD_LABELS)))
    assert classifier.score(HELD, HELD_LABELS) == after.accuracy == right
    assert classifier.evaluate(HELD, HELD_LABELS).loss == fitted.evaluate(HELD, HELD_LABELS).loss

    sha256 = classifier.save(tmp_path / "model")
    assert storage.read_tensors(tmp_path / "model")[1]["thresholds"] == found.tolist()
    again = TextClassifier.load(tmp_path / "model")
    assert (again.predict(HELD) == predicted).all()
    assert again.save(tmp_path / "again") == sha256
    fitted.save(tmp_path / "plain")
    assert "thresholds" not in storage.read_tensors(tmp_path / "plain")[1]


def test_a_precision_is_reached_with_the_greatest_recall(fitted: TextClassifier) -> None:
    classifier = pickle.loads(pickle.dumps(fitted))  # noqa: S301
    classifier.tune_threshold(HELD, HELD_LABELS, metric="precision", at_least=0.75)
    strict = classifier.report(HELD, HELD_LABELS).classes[1]
    assert strict.precision >= 0.75
    classifier.tune_threshold(HELD, HELD_LABELS, "precision", 0.5)
    lax = classifier.report(HELD, HELD_LABELS).classes[1]
    assert strict.precision > lax.precision >= 0.5
    assert strict.recall < lax.recall
    classifier.fit(HELD[:40], HELD_LABELS[:40])
    assert classifier.thresholds_ is None


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"metric": "f2"}, ConfigError, "metric='f2' is not one of f1, precision"),
        ({"metric": None}, ConfigError, "metric=None is not one of f1, precision"),
        ({"at_least": 0}, ConfigError, "at_least=0 must be a number above 0 and not above 1"),
        ({"at_least": 90}, ConfigError, "at_least=90 must be"),
        ({"at_least": True}, ConfigError, "at_least=True must be"),
        ({"at_least": float("nan")}, ConfigError, "at_least=nan must be"),
        ({"labels": ["neg"] * 400}, DataError, "no text has the label 'pos'"),
        ({"labels": ["bad"] * 400}, DataError, "label 'bad' is not one of the model's"),
        ({"texts": [], "labels": []}, DataError, "no text has the label 'pos'"),
    ],
)
def test_what_is_refused(
    fitted: TextClassifier, arguments: dict[str, Any], error: type, message: str
) -> None:
    with pytest.raises(error, match=message):
        fitted.tune_threshold(**{"texts": HELD, "labels": HELD_LABELS, **arguments})
    assert fitted.thresholds_ is None


def test_a_precision_that_no_threshold_gives(fitted: TextClassifier) -> None:
    least = int(fitted.predict_proba(HELD)[:, 1].argmin())
    labels = ["pos" if i == least else "neg" for i in range(400)]
    with pytest.raises(
        DataError, match=r"no threshold gives 'pos' a precision of 0\.9: .* 0\.0025"
    ):
        fitted.tune_threshold(HELD, labels, "precision")
    assert fitted.thresholds_ is None


def test_three_classes_have_no_threshold() -> None:
    classifier = make(epochs=1).fit(["red", "green", "blue"] * 9, ["r", "g", "b"] * 9)
    with pytest.raises(ConfigError, match="a threshold divides two labels, and this model has 3"):
        classifier.tune_threshold(["red"], ["r"])
    with pytest.raises(NotFittedError):
        make().tune_threshold(["red"], ["r"])


@pytest.mark.parametrize("odd", [[], [0.5, 0.5], [1.5], [-0.5], ["0.5"], [1], 0.5, None, {}])
def test_a_file_with_odd_thresholds_is_no_model(
    tmp_path: Path, fitted: TextClassifier, odd: Any
) -> None:
    path = tmp_path / "model"
    fitted.save(path)
    tensors, header = storage.read_tensors(path)
    for key in ("checksum", "format_version"):
        header.pop(key, None)
    header["thresholds"] = odd
    storage.write_tensors(path, tensors, header)
    with pytest.raises(ModelFileError, match=r"is not a usable model \(thresholds is"):
        TextClassifier.load(path)
