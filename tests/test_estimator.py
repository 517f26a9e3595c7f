"""TextClassifier: labels, predictions, the model file and scikit-learn's contract."""

from __future__ import annotations

import copy
import enum
import inspect
import math
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import sklearn.metrics

import tidegate
from tidegate import TextClassifier, initializers, ops, storage
from tidegate.cli import main
from tidegate.errors import (
    ConfigError,
    DataError,
    ModelFileError,
    NotFittedError,
    ShapeError,
    TrainingError,
)
from tidegate.estimator import PRESETS
from tidegate.model import TextModel
from tidegate.training import EpochResult, StepResult

GOOD = ["lovely", "great", "charming", "fine"]
BAD = ["awful", "dull", "boring", "bad"]
NOISE = ["the", "film", "was", "a", "plot", "and", "actors", "of", "it", "scene"]

OPTIONS: dict[str, Any] = {
    "embedding_size": 7,
    "hidden_size": 9,
    "max_length": 12,
    "epochs": 6,
    "batch_size": 16,
    "learning_rate": 0.02,
}


def reviews(count: int, seed: int = 0) -> tuple[list[str], list[str]]:
    generator = np.random.default_rng(seed)
    texts, labels = [], []
    for _ in range(count):
        good = bool(generator.integers(2))
        words = generator.choice(NOISE, generator.integers(2, 9)).tolist()
        words.insert(
            int(generator.integers(len(words))), str(generator.choice(GOOD if good else BAD))
        )
        texts.append(" ".join(words))
        labels.append("pos" if good else "neg")
    return texts, labels


TEXTS, LABELS = reviews(200)
HELD_OUT, HELD_OUT_LABELS = reviews(60, seed=1)


def make(**changed: Any) -> TextClassifier:
    return TextClassifier(**{**OPTIONS, **changed})


@pytest.fixture(autouse=True)
def one_thread(restored_threads: None) -> None:
    """Models so small that more threads would only wait for each other."""
    ops.set_threads(1)


@pytest.fixture(scope="module")
def fitted() -> TextClassifier:
    """For tests that change nothing of it."""
    return make().fit(TEXTS, LABELS)


@pytest.fixture(scope="module")
def three() -> TextClassifier:
    texts = [
        f"{word} film {number % 7}" for number in range(90) for word in ("red", "green", "blue")
    ]
    labels = ["r", "g", "b"] * 90
    return make(epochs=5, validation_fraction=0.1).fit(texts, labels)


# --- fitting and labels ------------------------------------------------------------------------


def test_it_learns_and_says_so(fitted: TextClassifier) -> None:
    assert fitted.score(HELD_OUT, HELD_OUT_LABELS) > 0.95
    assert fitted.predict(["a lovely film", "the plot was awful"]).tolist() == ["pos", "neg"]
    assert len(fitted.history_) == 6
    last = fitted.history_[-1]
    assert last.epoch == 6
    assert last.accuracy > 0.95
    assert last.val_accuracy is not None
    assert last.val_accuracy > 0.95


def test_fit_returns_the_classifier() -> None:
    classifier = make(epochs=1)
    assert classifier.fit(TEXTS, LABELS) is classifier


def test_fit_steps_yields_every_step_and_epoch(fitted: TextClassifier) -> None:
    classifier = make()
    events = list(classifier.fit_steps(TEXTS, LABELS))
    kinds = [type(event) for event in events]
    assert kinds == ([StepResult] * 10 + [EpochResult]) * 6  # 160 texts by 16
    assert [event for event in events if isinstance(event, EpochResult)] == classifier.history_
    np.testing.assert_array_equal(
        classifier.predict_proba(HELD_OUT), fitted.predict_proba(HELD_OUT)
    )


def test_a_run_that_was_not_exhausted_leaves_it_unfitted() -> None:
    classifier = make()
    steps = classifier.fit_steps(TEXTS, LABELS)
    next(steps)
    with pytest.raises(NotFittedError):
        classifier.predict(TEXTS)


def as_labels(kind: Callable[[bool], Any]) -> list[Any]:
    return [kind(label == "pos") for label in LABELS]


class Verdict(str, enum.Enum):
    """Whose str() is its name."""

    GOOD = "1"
    BAD = "0"


class Stars(enum.IntEnum):
    ONE = 1
    FIVE = 5


class Share(float):
    def __float__(self) -> float:
        return 7.0


LABEL_TYPES: dict[str, tuple[Callable[[], Any], list[Any]]] = {
    "str": (lambda: LABELS, ["neg", "pos"]),
    "int": (lambda: as_labels(lambda pos: -3 if pos else 12), [-3, 12]),
    "bool": (lambda: as_labels(bool), [False, True]),
    "float": (lambda: as_labels(lambda pos: 0.5 if pos else 4.25), [0.5, 4.25]),
    "array of str": (lambda: np.array(LABELS), ["neg", "pos"]),
    "array of objects": (lambda: np.array(LABELS, object), ["neg", "pos"]),
    "array of int8": (lambda: np.array(as_labels(int), np.int8), [0, 1]),
    "array of uint64": (
        lambda: np.array(as_labels(lambda pos: 2**63 - 1 if pos else 5), np.uint64),
        [5, 2**63 - 1],
    ),
    "array of bool": (lambda: np.array(as_labels(bool)), [False, True]),
    "array of float32": (lambda: np.array(as_labels(float), np.float32), [0.0, 1.0]),
    "NumPy scalars": (lambda: [np.int32(value) for value in as_labels(int)], [0, 1]),
    "tuple": (lambda: tuple(LABELS), ["neg", "pos"]),
    "generator": (lambda: (label for label in LABELS), ["neg", "pos"]),
    "enum of str": (
        lambda: as_labels(lambda pos: Verdict.GOOD if pos else Verdict.BAD),
        ["0", "1"],
    ),
    "enum of int": (lambda: as_labels(lambda pos: Stars.ONE if pos else Stars.FIVE), [1, 5]),
    "float of one's own": (lambda: as_labels(lambda pos: Share(0.5) if pos else 2.0), [0.5, 2.0]),
    "object array of NumPy's": (
        lambda: np.array(as_labels(lambda pos: np.str_("p" if pos else "n")), object),
        ["n", "p"],
    ),
    "not ASCII": (lambda: as_labels(lambda pos: "süß" if pos else "😡"), ["süß", "😡"]),
    "empty str": (lambda: as_labels(lambda pos: "pos" if pos else ""), ["", "pos"]),
    "lone surrogate": (lambda: as_labels(lambda pos: "p" if pos else "\ud800"), ["p", "\ud800"]),
}


@pytest.mark.parametrize(("labels", "classes"), LABEL_TYPES.values(), ids=LABEL_TYPES)
def test_labels_keep_their_type_and_order(
    tmp_path: Path, labels: Callable[[], Any], classes: list[Any]
) -> None:
    classifier = make(epochs=4).fit(TEXTS, labels())
    loaded_path = tmp_path / "model"
    classifier.save(loaded_path)
    for found in (classifier, TextClassifier.load(loaded_path)):
        assert found.classes_.tolist() == classes
        assert [type(label) for label in found.classes_.tolist()] == [type(c) for c in classes]
        predicted = found.predict(HELD_OUT)
        assert predicted.dtype == found.classes_.dtype
        assert set(predicted.tolist()) == set(classes)
        assert found.score(TEXTS, labels()) > 0.9


def test_texts_may_be_any_iterable(fitted: TextClassifier) -> None:
    expected = fitted.predict_proba(HELD_OUT)
    given: list[Any] = [
        tuple(HELD_OUT),
        iter(HELD_OUT),
        np.array(HELD_OUT),
        np.array(HELD_OUT, object),
    ]
    for texts in given:
        np.testing.assert_array_equal(fitted.predict_proba(texts), expected)
    classifier = make().fit((text for text in TEXTS), np.array(LABELS))
    np.testing.assert_array_equal(classifier.predict_proba(HELD_OUT), expected)


def test_several_classes(three: TextClassifier) -> None:
    assert three.classes_.tolist() == ["b", "g", "r"]
    assert three.predict(["blue film", "red film", "green film"]).tolist() == ["b", "r", "g"]
    probabilities = three.predict_proba(["blue film", "red film"])
    assert probabilities.shape == (2, 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-15)
    assert probabilities[0, 0] > 0.8
    assert probabilities[1, 2] > 0.8


@pytest.mark.parametrize("cell", ["lstm", "rnn"])
@pytest.mark.parametrize("masked", [True, False], ids=["masked", "unmasked"])
def test_other_cells(tmp_path: Path, cell: str, masked: bool) -> None:
    classifier = make(cell=cell, masked=masked).fit(TEXTS, LABELS)
    assert classifier.score(HELD_OUT, HELD_OUT_LABELS) > 0.9
    classifier.save(tmp_path / "model")
    np.testing.assert_array_equal(
        TextClassifier.load(tmp_path / "model").predict_proba(HELD_OUT),
        classifier.predict_proba(HELD_OUT),
    )


def test_the_split_never_changes() -> None:
    train, validation = TextClassifier().split(10)
    assert train.tolist() == [6, 0, 8, 5, 2, 3, 4, 1]
    assert validation.tolist() == [7, 9]
    assert [len(part) for part in TextClassifier(validation_fraction=0).split(10)] == [10, 0]
    assert [len(part) for part in TextClassifier(validation_fraction=0.99).split(10)] == [1, 9]
    assert [len(part) for part in TextClassifier(validation_fraction=0.2).split(25_000)] == [
        20_000,
        5_000,
    ]


def test_epochs_follow_the_number_of_texts_unless_given() -> None:
    classifier = TextClassifier()
    # 400 steps of 64, rounded up, between 3 and 20: 800 texts are 13 steps, 4,000 are 63
    found = [classifier.epochs_for(texts) for texts in (2, 1_000, 5_000, 25_000, 1_000_000)]
    assert found == [20, 20, 7, 3, 3]
    assert TextClassifier(epochs=5).epochs_for(2) == 5
    assert TextClassifier.from_preset("lecture").epochs_for(2) == 3
    falling = TextClassifier(schedule="linear")
    assert [falling.epochs_for(texts) for texts in (2, 5_000, 25_000)] == [40, 14, 6]
    small = make(epochs=None, batch_size=1).fit(TEXTS, LABELS)
    assert len(small.history_) == 3  # 160 texts one by one


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"batch_size": 0}, "batch_size=0 is not between 1 and"),
        ({"batch_size": "a"}, "batch_size='a' is not a whole number"),
        ({"epochs": "a"}, "epochs='a' is not a whole number"),
        ({"random_state": -1}, "random_state=-1 is not between 0 and"),
    ],
)
def test_epochs_of_bad_options_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TextClassifier(**changed).epochs_for(100)


@pytest.mark.parametrize("texts", [-3, 2.0, "3", None])
def test_a_split_of_no_number_of_texts_is_refused(texts: Any) -> None:
    for use in (TextClassifier().split, TextClassifier().epochs_for):
        with pytest.raises(ConfigError, match="texts="):
            use(texts)


def test_without_validation(tmp_path: Path) -> None:
    classifier = make(epochs=1, validation_fraction=0).fit(TEXTS, LABELS)
    assert classifier.history_[0].val_loss is None
    classifier.save(tmp_path / "model")
    assert TextClassifier.load(tmp_path / "model").history_[0].val_accuracy is None


def test_two_texts_are_enough() -> None:
    classifier = make(epochs=60, validation_fraction=0).fit(["good", "bad"], [1, 0])
    assert classifier.predict(["good", "bad"]).tolist() == [1, 0]


# --- predictions -------------------------------------------------------------------------------


def test_predictions_agree_with_each_other(fitted: TextClassifier) -> None:
    probabilities = fitted.predict_proba(HELD_OUT)
    assert probabilities.shape == (60, 2)
    assert probabilities.dtype == np.float64
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-15)
    predicted = fitted.predict(HELD_OUT)
    assert predicted.tolist() == [fitted.classes_[row.argmax()] for row in probabilities]
    right = float(np.mean(predicted == np.array(HELD_OUT_LABELS)))
    assert fitted.score(HELD_OUT, HELD_OUT_LABELS) == right
    result = fitted.evaluate(HELD_OUT, HELD_OUT_LABELS)
    assert (result.accuracy, result.texts) == (right, 60)
    truth = [fitted.classes_.tolist().index(label) for label in HELD_OUT_LABELS]
    losses = -np.log(probabilities[np.arange(60), truth])
    assert result.loss == pytest.approx(losses.mean(), rel=1e-6)
    assert result.seconds > 0


def test_evaluation_of_several_classes(three: TextClassifier) -> None:
    texts, labels = ["red film", "blue film", "green film", "red film"], ["r", "b", "b", "r"]
    result = three.evaluate(texts, labels)
    assert result.accuracy == 0.75
    probabilities = three.predict_proba(texts)
    losses = -np.log(probabilities[np.arange(4), [2, 0, 0, 2]])
    assert result.loss == pytest.approx(losses.mean(), rel=1e-6)


def test_the_report_is_of_what_is_predicted(fitted: TextClassifier, three: TextClassifier) -> None:
    evaluated = fitted.evaluate(HELD_OUT, HELD_OUT_LABELS)
    report = fitted.report(iter(HELD_OUT), HELD_OUT_LABELS)
    assert (report.accuracy, report.texts) == (evaluated.accuracy, 60)
    assert report.loss == pytest.approx(evaluated.loss, rel=1e-6)
    truth = np.array(HELD_OUT_LABELS) == fitted.classes_[1]
    auc = sklearn.metrics.roc_auc_score(truth, fitted.predict_proba(HELD_OUT)[:, 1])
    assert report.auc == pytest.approx(auc)
    assert report.auc_interval is not None
    assert fitted.report(HELD_OUT, HELD_OUT_LABELS, intervals=False).auc_interval is None
    assert report.seconds > 0
    texts, labels = ["red film", "blue film", "green film", "red film"], ["r", "b", "b", "r"]
    several = three.report(texts, labels)
    assert [(one.label, one.texts, one.predicted) for one in several.classes] == [
        ("b", 2, 1),
        ("g", 0, 1),
        ("r", 2, 2),
    ]
    assert several.f1_macro == pytest.approx((2 / 3 + 0 + 1) / 3)
    with pytest.raises(DataError, match="label 'x' is not one of the model's: b, g, r"):
        three.report(["red"], ["x"])
    with pytest.raises(DataError, match="no texts to evaluate on"):
        three.report([], [])
    with pytest.raises(ConfigError, match="seed=-1 is not between 0"):
        three.report(["red"], ["r"], seed=-1)


def test_decisions_are_of_probabilities(fitted: TextClassifier) -> None:
    sure = np.array([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]])
    assert fitted.decide(sure).tolist() == ["neg", "pos", "neg"]
    assert fitted.predict_labels(["lovely", "awful"]) == [("pos",), ("neg",)]
    for odd, message in (
        (sure[:, :1], r"probabilities is float64 \[3, 1\]; float64 \[texts, 2\] is needed"),
        (sure[0], r"probabilities is float64 \[2\]"),
        (sure.astype(np.float32), "probabilities is float32"),
        ([[0.5, 0.5]], "probabilities is a list; give an array"),
    ):
        with pytest.raises(ShapeError, match=message):
            fitted.decide(odd)  # type: ignore[arg-type]


def test_validation_values_are_those_of_evaluate() -> None:
    classifier = make(epochs=2, calibrate=False).fit(TEXTS, LABELS)
    _, rows = classifier.split(len(TEXTS))
    result = classifier.evaluate([TEXTS[i] for i in rows], [LABELS[i] for i in rows])
    last = classifier.history_[-1]
    assert (last.val_loss, last.val_accuracy) == (result.loss, result.accuracy)


def test_no_texts_have_no_predictions(fitted: TextClassifier) -> None:
    assert fitted.predict([]).tolist() == []
    assert fitted.predict_proba([]).shape == (0, 2)
    with pytest.raises(DataError, match="no texts to evaluate on"):
        fitted.score([], [])


def test_unusual_texts_have_sound_predictions(fitted: TextClassifier) -> None:
    texts = ["", " \n\t", "zyzzyva quux", "!?...", "\ud800 lovely \udfff", "a\x00b", "😀" * 50]
    probabilities = fitted.predict_proba(texts)
    assert np.isfinite(probabilities).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-15)
    # No words at all is one and the same text, and unknown words are one and the same word.
    np.testing.assert_array_equal(probabilities[1], probabilities[0])
    np.testing.assert_array_equal(fitted.predict_proba(["some other"])[0], probabilities[2])


def test_a_text_of_5_mb_is_its_last_words(fitted: TextClassifier) -> None:
    end = " ".join(["the film was a lovely", "plot and", "actors of it the scene"])
    assert len(end.split()) == OPTIONS["max_length"]
    long = "awful " * 900_000 + end
    assert len(long) > 5_000_000
    np.testing.assert_array_equal(
        fitted.predict_proba([long])[0], fitted.predict_proba(["dull " + end])[0]
    )


def test_it_trains_on_unusual_texts(tmp_path: Path) -> None:
    texts = [*TEXTS, "", "\ud800 \udfff", "lovely " * 10_000, "\x00"]
    classifier = make(epochs=1).fit(texts, [*LABELS, "neg", "pos", "pos", "neg"])
    classifier.save(tmp_path / "model")
    loaded = TextClassifier.load(tmp_path / "model")
    assert "\ud800" in loaded.tokenizer_.vocabulary.words
    np.testing.assert_array_equal(loaded.predict_proba(texts), classifier.predict_proba(texts))


# --- what is refused ---------------------------------------------------------------------------

BAD_FITS: dict[str, tuple[Any, Any, str]] = {
    "one str": (
        "a film",
        ["pos"],
        r"texts is a str \('a film'\); give a list of str, even for a single",
    ),
    "labels as one str": (
        ["a", "b"],
        "ab",
        r"labels is a str \('ab'\); give a list with one label for",
    ),
    "more texts": (["a", "b", "c"], [0, 1], "3 texts have 2 labels; give one label for each text"),
    "more labels": (["a"], [0, 1], "1 texts have 2 labels"),
    "no texts": ([], [], "there are no texts to train on; give at least two, of two classes"),
    "one class": (["a", "b"], ["x", "x"], "every label is 'x', one class; a classifier needs"),
    "None": (["a", "b"], [None, 1], "label 0 is None; labels are str, int, bool or float"),
    "a list": (
        ["a", "b"],
        [1, [2]],
        "label 0 is 1 and others are lists; give a list of labels for each",
    ),
    "NaN": (
        ["a", "b"],
        [1.0, float("nan")],
        "label 1 is nan; drop the text, or give it a finite label",
    ),
    "infinity": (["a", "b"], [1.0, float("inf")], "label 1 is inf"),
    "mixed": (["a", "b"], [1, "1"], "labels mix int, str; make them all of one type, such as str"),
    "bool and int": (["a", "b"], [True, 0], "labels mix bool, int"),
    "beyond 64 bits": (["a", "b"], [2**64, 1], "too large for 64 bits; use str labels"),
    "64 bits with and without sign": (["a", "b", "c"], [2**63, 2**63 + 1, -1], "64 bits"),
    "trailing NUL": (["a", "b"], ["x\x00", "y"], "a label ends with a NUL character; strip it"),
    "not str": (["a", 5], [0, 1], r"text 1 is a int \(5\), not a str"),
    "bytes": ([b"a", "b"], [0, 1], "text 0 is a bytes .* decode it first"),
    "None among texts": (["a", None], [0, 1], "text 1 is a NoneType .* drop it or fill it in"),
    "no words": (["", " \n"], [0, 1], "the texts have no words; give at least one text with a"),
    "texts is None": (None, [0, 1], "texts is"),
    "labels is None": (["a", "b"], None, "labels is"),
    "labels in a column": (
        ["a", "b"],
        np.array([[0], [1]]),
        r"labels is a ndarray of shape \[2, 1\]; give one column of it",
    ),
    "texts in a column": (
        np.array([["a"], ["b"]]),
        [0, 1],
        r"texts is a ndarray of shape \[2, 1\]",
    ),
    "bytes for texts": (b"abc", [0, 1, 0], r"texts is a bytes \(b'abc'\); give a list of str"),
    "bytes for labels": (["a", "b"], b"ab", r"labels is a bytes \(b'ab'\); give a list with one"),
    "a set of texts": ({"a", "b"}, [0, 1], "texts is a set, whose order is another in every proc"),
    "a frozenset of labels": (["a", "b"], frozenset([0, 1]), "labels is a frozenset, whose order"),
    "no dimension": (np.array("a"), [0], r"texts is a ndarray of shape \[\]"),
    "texts as a dict": ({"a": 0, "b": 1}, [0, 1], "texts is a dict; give one column of it"),
    "labels as a dict": (["a", "b"], {0: "a", 1: "b"}, "labels is a dict; give one column of it"),
}


@pytest.mark.parametrize(("texts", "labels", "message"), BAD_FITS.values(), ids=BAD_FITS)
def test_texts_and_labels_that_are_refused(texts: Any, labels: Any, message: str) -> None:
    classifier = make(epochs=1)
    with pytest.raises(DataError, match=message) as caught:
        classifier.fit(texts, labels)
    assert "\n" not in str(caught.value)
    assert not hasattr(classifier, "model_")


BAD_OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "cell": ({"cell": "grv"}, "cell='grv' is not one of gru, lstm, rnn; did you mean 'gru'"),
    "reset": ({"reset": "never"}, "reset='never' is not one of after, before"),
    "vocabulary_size": ({"vocabulary_size": 4}, "vocabulary_size=4 is not between 5 and"),
    "embedding_size": ({"embedding_size": 0}, "embedding_size=0 is not between 1 and"),
    "hidden_size": ({"hidden_size": -5}, "hidden_size=-5 is not between 1 and"),
    "max_length": ({"max_length": 0}, "max_length=0 is not between 1 and"),
    "masked": ({"masked": "yes"}, "masked='yes' is neither True nor False"),
    "epochs": ({"epochs": 0}, "epochs=0 is not between 1 and"),
    "batch_size": ({"batch_size": 0}, "batch_size=0 is not between 1 and"),
    "batch_size as text, epochs open": (
        {"batch_size": "9", "epochs": None},
        "batch_size='9' is not a whole number",
    ),
    "learning_rate": ({"learning_rate": -1}, "learning_rate=-1 must be positive and finite"),
    "clip_norm": ({"clip_norm": 0}, "clip_norm=0 must be positive and finite"),
    "validation_fraction": (
        {"validation_fraction": 1},
        "validation_fraction=1 must be at least 0 .no validation. and below 1",
    ),
    "negative fraction": ({"validation_fraction": -0.1}, r"validation_fraction=-0\.1 must be"),
    "NaN fraction": ({"validation_fraction": float("nan")}, "validation_fraction=nan must be"),
    "fraction as text": (
        {"validation_fraction": "0.2"},
        r"validation_fraction='0\.2' is not a number",
    ),
    "fraction as bool": ({"validation_fraction": True}, "validation_fraction=True is not a number"),
    "random_state": ({"random_state": -1}, "random_state=-1 is not between 0 and|seed=-1"),
    "no random_state": ({"random_state": None}, "random_state=None is not a whole|seed=None"),
    "threads": ({"threads": 0}, "threads=0 is not between 1 and 256"),
    "an array as cell": ({"cell": np.array(["gru", "lstm"])}, "cell=array.* is not one of gru,"),
    "an array as precision": ({"precision": np.zeros(2)}, "precision=array.* is not one of auto,"),
    "complex fraction": ({"validation_fraction": np.complex64(0.5)}, "is not a number"),
    "threads as text": ({"threads": "2"}, "threads='2' is not a whole number"),
}


@pytest.mark.parametrize(("changed", "message"), BAD_OPTIONS.values(), ids=BAD_OPTIONS)
def test_options_that_are_refused_when_they_are_used(changed: dict[str, Any], message: str) -> None:
    classifier = make(**changed)  # scikit-learn wants no check here
    with pytest.raises(ConfigError, match=message) as caught:
        classifier.fit(TEXTS, LABELS)
    assert "\n" not in str(caught.value)
    assert not hasattr(classifier, "model_")


def test_a_bad_random_state_is_named() -> None:
    with pytest.raises(ConfigError, match="random_state=-1"):
        make(random_state=-1).fit(TEXTS, LABELS)


def test_numpy_s_numbers_are_numbers(fitted: TextClassifier) -> None:
    """As they come out of a search over parameters."""
    classifier = make(
        hidden_size=np.int64(9),
        epochs=np.int32(6),
        learning_rate=np.float64(0.02),
        validation_fraction=np.float32(0.2),
        random_state=np.int64(0),
        threads=np.int64(2),
    )
    classifier.fit(TEXTS, LABELS)
    assert len(classifier.history_) == 6


def test_unknown_labels_are_refused_in_evaluation(fitted: TextClassifier) -> None:
    with pytest.raises(DataError, match="label 'so-so' is not one of the model's: neg, pos"):
        fitted.evaluate(["a film", "it"], ["neg", "so-so"])
    with pytest.raises(DataError, match="2 texts have 1 labels"):
        fitted.evaluate(["a film", "it"], ["neg"])
    with pytest.raises(DataError, match="texts is a str"):
        fitted.predict("a film")
    with pytest.raises(DataError, match="text 0 is a int"):
        fitted.predict_proba([7])  # type: ignore[list-item]


def test_unknown_labels_are_wrong_in_the_score(fitted: TextClassifier) -> None:
    texts = ["a lovely film", "an awful film", "a great plot", "a dull plot"]
    assert fitted.predict(texts).tolist() == ["pos", "neg", "pos", "neg"]
    assert fitted.score(texts, ["pos", "neg", "pos", "neg"]) == 1.0
    assert fitted.score(texts, ["pos", "so-so", "neg", "neg"]) == 0.5
    assert fitted.score(texts, [1, 2, 3, 4]) == 0.0
    with pytest.raises(DataError, match="no texts to evaluate on"):
        fitted.score([], [])
    with pytest.raises(DataError, match="2 texts have 1 labels"):
        fitted.score(["a film", "it"], ["neg"])


USES: list[Callable[[TextClassifier, Path], Any]] = [
    lambda classifier, path: classifier.predict(["a"]),
    lambda classifier, path: classifier.predict_proba(["a"]),
    lambda classifier, path: classifier.score(["a"], ["neg"]),
    lambda classifier, path: classifier.evaluate(["a"], ["neg"]),
    lambda classifier, path: classifier.report(["a"], ["neg"]),
    lambda classifier, path: classifier.predict_labels(["a"]),
    lambda classifier, path: classifier.decide(np.array([[0.5, 0.5]])),
    lambda classifier, path: classifier.tune_threshold(["a"], ["neg"]),
    lambda classifier, path: classifier.save(path / "model"),
]


@pytest.mark.parametrize("use", USES)
def test_a_classifier_must_be_fitted_first(
    tmp_path: Path, use: Callable[[TextClassifier, Path], Any]
) -> None:
    with pytest.raises(NotFittedError, match="not trained yet; call fit or load first") as caught:
        use(TextClassifier(), tmp_path)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, AttributeError)
    assert os.listdir(tmp_path) == []


# --- parameters --------------------------------------------------------------------------------

DEFAULTS: dict[str, Any] = {
    "cell": "gru",
    "reset": "after",
    "tokenizer": "words",
    "vocabulary_size": 10_000,
    "embedding_size": None,
    "hidden_size": 128,
    "max_length": 200,
    "keep": "end",
    "masked": True,
    "layers": 1,
    "bidirectional": False,
    "pooling": "last",
    "layer_norm": False,
    "epochs": None,
    "batch_size": 64,
    "learning_rate": 1e-3,
    "beta_2": 0.999,
    "weight_decay": 0.0,
    "schedule": "constant",
    "warmup": 0.0,
    "clip_norm": None,
    "average": 0.0,
    "label_smoothing": 0.0,
    "patience": None,
    "class_weight": None,
    "word_dropout": 0.0,
    "vocabulary_dropout": 0.0,
    "embedding_dropout": 0.0,
    "layer_dropout": 0.0,
    "recurrent_dropout": 0.0,
    "dropout": 0.0,
    "ngrams": 0,
    "ngram_cost": 1.0,
    "calibrate": True,
    "validation_fraction": 0.2,
    "random_state": 0,
    "threads": None,
    "precision": "auto",
    "vectors": None,
    "freeze_vectors": False,
    "context_vectors": False,
}


def test_get_params_names_every_argument() -> None:
    assert TextClassifier().get_params() == DEFAULTS
    assert TextClassifier().get_params(deep=False) == DEFAULTS
    assert list(inspect.signature(TextClassifier.__init__).parameters)[1:] == list(DEFAULTS)
    assert make().get_params() == {**DEFAULTS, **OPTIONS}


def test_set_params_sets_and_returns() -> None:
    classifier = TextClassifier()
    assert classifier.set_params(cell="lstm", epochs=9) is classifier
    assert (classifier.cell, classifier.epochs) == ("lstm", 9)
    with pytest.raises(ConfigError, match=r"parameter='epoch' is not one of .*mean 'epochs'"):
        classifier.set_params(epoch=3)
    assert classifier.set_params() is classifier


def test_init_only_stores() -> None:
    """Identity is what scikit-learn's clone asks for."""
    values = {name: object() for name in DEFAULTS}
    classifier = TextClassifier(**values)  # type: ignore[arg-type]
    assert vars(classifier) == values


def test_a_clone_by_hand_trains_to_the_same(fitted: TextClassifier) -> None:
    clone = type(fitted)(**fitted.get_params())
    assert not hasattr(clone, "model_")
    clone.fit(TEXTS, LABELS)
    np.testing.assert_array_equal(clone.predict_proba(HELD_OUT), fitted.predict_proba(HELD_OUT))


def test_presets() -> None:
    assert set(PRESETS) == {"lecture", "default", "accurate", "fast"}
    for name, values in PRESETS.items():
        classifier = TextClassifier.from_preset(name)
        classifier.check()
        assert classifier.get_params() == {**DEFAULTS, **values}
    lecture = TextClassifier.from_preset("lecture").get_params()
    assert lecture == {
        **DEFAULTS,
        **{"tokenizer": "lecture", "masked": False, "epochs": 3, "calibrate": False},
    }
    overridden = TextClassifier.from_preset("lecture", masked=True, hidden_size=5)
    assert (overridden.masked, overridden.hidden_size) == (True, 5)
    with pytest.raises(ConfigError, match=r"preset='lectur' is not one of .*mean 'lecture'"):
        TextClassifier.from_preset("lectur")
    with pytest.raises(ConfigError, match=r"preset=\['x'\] is not one of lecture, default, "):
        TextClassifier.from_preset(["x"])  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="parameter='size' is not one of"):
        TextClassifier.from_preset("lecture", size=3)


def test_repr_shows_what_is_not_the_default() -> None:
    assert repr(TextClassifier()) == "TextClassifier()"
    shown = repr(TextClassifier(cell="lstm", learning_rate=0.01))
    assert shown == "TextClassifier(cell='lstm', learning_rate=0.01)"
    odd: Any = np.array([1, 2])  # refused when it is used, and until then shown
    assert repr(TextClassifier(epochs=odd)) == "TextClassifier(epochs=array([1, 2]))"


def test_threads_are_used_and_change_no_bit(tmp_path: Path, fitted: TextClassifier) -> None:
    digests = {fitted.save(tmp_path / "model")}
    for threads in (1, 2, 3):
        classifier = make(threads=threads).fit(TEXTS, LABELS)
        digests.add(classifier.save(tmp_path / "model"))
        loaded = TextClassifier.load(tmp_path / "model")
        assert loaded.threads is None  # a model is no machine
    assert len(digests) == 1


def test_threads_are_the_classifier_s_own(
    fitted: TextClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What others compute meanwhile and afterwards is not its business."""
    used = []

    def spied(function: Callable[..., Any]) -> Callable[..., Any]:
        def spy(*arguments: Any) -> Any:
            used.append(ops.threads())
            return function(*arguments)

        return spy

    monkeypatch.setattr(TextModel, "__call__", spied(TextModel.__call__))
    monkeypatch.setattr(TextModel, "predict_logits", spied(TextModel.predict_logits))
    ops.set_threads(2)
    classifier = make(threads=3, epochs=1)
    between = [ops.threads() for _ in classifier.fit_steps(TEXTS, LABELS)]
    assert set(between) == {2}
    classifier.predict(HELD_OUT)
    classifier.score(TEXTS, LABELS)
    assert set(used) == {3}
    with pytest.raises(DataError):
        classifier.predict_proba([7])  # type: ignore[list-item]
    stopped = make(threads=3, epochs=1).fit_steps(TEXTS, LABELS)
    next(stopped)
    stopped.close()  # type: ignore[attr-defined]
    assert ops.threads() == 2
    used.clear()
    fitted.predict(HELD_OUT)
    assert set(used) == {2}


def test_threads_of_several_classifiers_at_once(
    fitted: TextClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first to come is the first to go: each used to put back what it had found."""
    arrived = {threads: threading.Event() for threads in (3, 4, 5)}
    leave = {threads: threading.Event() for threads in (3, 4, 5)}
    predict_logits = TextModel.predict_logits

    def waiting(model: TextModel, texts: Any) -> Any:
        threads = ops.threads()
        arrived[threads].set()
        assert leave[threads].wait(30)
        return predict_logits(model, texts)

    monkeypatch.setattr(TextModel, "predict_logits", waiting)
    ops.set_threads(2)
    callers = {}
    for threads in (3, 4, 5):
        classifier = copy.copy(fitted).set_params(threads=threads)
        callers[threads] = threading.Thread(target=classifier.predict, args=(HELD_OUT,))
        callers[threads].start()
        assert arrived[threads].wait(30)
    found = []
    for threads in (3, 5, 4):
        leave[threads].set()
        callers[threads].join(30)
        found.append(ops.threads())
    assert found == [5, 4, 2]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_forked_child_has_no_other_threads_classifiers(fitted: TextClassifier) -> None:
    ops.set_threads(2)
    inside, done = threading.Event(), threading.Event()

    def texts() -> Iterator[str]:
        inside.set()
        assert done.wait(30)
        yield "a film"

    other = copy.copy(fitted).set_params(threads=3)
    caller = threading.Thread(target=other.predict, args=(texts(),))
    caller.start()
    assert inside.wait(30)
    child = os.fork()
    if not child:
        try:
            found = [ops.threads()]
            copy.copy(fitted).set_params(threads=4).predict(HELD_OUT)
            found.append(ops.threads())
            os._exit(0 if found == [2, 2] else 1)
        finally:
            os._exit(2)
    assert ops.threads() == 3
    done.set()
    caller.join(30)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert ops.threads() == 2


@pytest.mark.parametrize("protocol", [2, pickle.HIGHEST_PROTOCOL])
def test_it_pickles_fitted_and_not(fitted: TextClassifier, protocol: int) -> None:
    plain = pickle.loads(pickle.dumps(make(cell="rnn"), protocol))  # noqa: S301
    assert plain.get_params() == {**DEFAULTS, **OPTIONS, "cell": "rnn"}
    expected = fitted.predict_proba(HELD_OUT)  # after it, the model holds a tape
    again = pickle.loads(pickle.dumps(fitted, protocol))  # noqa: S301
    np.testing.assert_array_equal(again.predict_proba(HELD_OUT), expected)
    assert again.history_ == fitted.history_
    assert again.classes_.tolist() == fitted.classes_.tolist()


def test_a_deep_copy_is_its_own(fitted: TextClassifier) -> None:
    expected = fitted.predict_proba(HELD_OUT)
    copied = copy.deepcopy(fitted)
    copied.model_.parameters["output.bias"][...] += 1
    assert (copied.predict_proba(HELD_OUT) != expected).all()  # the layers share its arrays
    np.testing.assert_array_equal(fitted.predict_proba(HELD_OUT), expected)


# --- checkpoints -------------------------------------------------------------------------------


def test_a_stopped_fit_resumes_to_the_same_file(tmp_path: Path, fitted: TextClassifier) -> None:
    path = tmp_path / "checkpoint"
    steps = make().fit_steps(TEXTS, LABELS, checkpoint=str(path))
    for event in steps:
        if isinstance(event, EpochResult) and event.epoch == 2:
            break
    steps.close()  # type: ignore[attr-defined]
    resumed = make()
    events = list(resumed.fit_steps(TEXTS, LABELS, checkpoint=path, resume=True))
    assert [type(event) for event in events[:3]] == [EpochResult, EpochResult, StepResult]
    assert [result.epoch for result in resumed.history_] == [1, 2, 3, 4, 5, 6]
    assert resumed.save(tmp_path / "resumed") == fitted.save(tmp_path / "whole")
    with pytest.raises(TrainingError, match="belongs to a run with other data or options"):
        list(make().fit_steps(TEXTS[1:], LABELS[1:], checkpoint=path, resume=True))


# --- the model file ----------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path: Path, fitted: TextClassifier) -> Path:
    path = tmp_path / "model.safetensors"
    fitted.save(path)
    return path


def test_a_loaded_model_predicts_the_same_bits(saved: Path, fitted: TextClassifier) -> None:
    loaded = TextClassifier.load(str(saved))
    np.testing.assert_array_equal(loaded.predict_proba(HELD_OUT), fitted.predict_proba(HELD_OUT))
    assert loaded.get_params() == fitted.get_params()
    assert loaded.model_.config == fitted.model_.config
    assert loaded.tokenizer_ == fitted.tokenizer_
    assert loaded.classes_.dtype == fitted.classes_.dtype
    for given, kept in zip(loaded.history_, fitted.history_, strict=True):
        assert math.isnan(given.seconds)
        assert {**asdict(given), "seconds": 0} == {**asdict(kept), "seconds": 0}


def test_saving_is_deterministic(saved: Path, fitted: TextClassifier, tmp_path: Path) -> None:
    digest = fitted.save(tmp_path / "second")
    assert (tmp_path / "second").read_bytes() == saved.read_bytes()
    assert digest == storage.read_stored(saved).sha256
    assert TextClassifier.load(saved).save(tmp_path / "third") == digest
    assert make().fit(TEXTS, LABELS).save(tmp_path / "fourth") == digest


def test_what_is_set_after_the_fit_is_not_in_the_file(saved: Path, tmp_path: Path) -> None:
    later: dict[str, Any] = {"cell": "lstm", "hidden_size": "many", "learning_rate": object()}
    for classifier in (make().fit(TEXTS, LABELS), TextClassifier.load(saved)):
        classifier.set_params(**later, random_state=7, threads=3)
        assert pickle.loads(pickle.dumps(classifier.training_)) == classifier.training_  # noqa: S301
        classifier.save(tmp_path / "later")
        assert (tmp_path / "later").read_bytes() == saved.read_bytes()
    classifier = make(epochs=1).fit(TEXTS, LABELS)
    classifier.set_params(learning_rate=1, epochs=np.int64(2)).fit(TEXTS, LABELS)
    assert classifier.training_["learning_rate"] == 1.0
    classifier.save(tmp_path / "again")
    assert TextClassifier.load(tmp_path / "again").epochs == 2


def test_a_model_file_says_nothing_of_threads(saved: Path, tmp_path: Path) -> None:
    expected = saved.read_bytes()
    tensors, header = storage.read_tensors(saved)
    assert "threads" not in header["training"]
    header["training"]["threads"] = 3
    storage.write_tensors(saved, tensors, header)
    loaded = TextClassifier.load(saved)
    assert loaded.threads is None
    loaded.save(tmp_path / "model")
    assert (tmp_path / "model").read_bytes() == expected


def test_a_loaded_model_can_be_fitted_again(saved: Path, fitted: TextClassifier) -> None:
    again = TextClassifier.load(saved).fit(TEXTS, LABELS)
    np.testing.assert_array_equal(again.predict_proba(HELD_OUT), fitted.predict_proba(HELD_OUT))


CONFIG_EDITS: dict[str, Any] = {
    "cell": ["lstm", "rnn", "GRU", None, 3, ["gru"], {}],
    "reset": ["before", "", None],
    "vocabulary_size": [5, 10_000, -1, 0, 22.0, "22", None, True, 10**12],
    "embedding_size": [8, 6, 0, -7, 7.0, None, 10**9],
    "hidden_size": [10, 8, 0, -9, "9", 10**9],
    "classes": [3, 1, 0, -2, 2.0, 10**9],
    "max_length": [0, -12, 12.0, "12", None, 10**9],
    "masked": [1, 0, "true", None],
}
EDITS = [(name, value) for name, values in CONFIG_EDITS.items() for value in values]


@pytest.mark.parametrize(("name", "value"), EDITS, ids=[f"{name}={value}" for name, value in EDITS])
def test_edited_config_fields_are_refused(saved: Path, name: str, value: Any) -> None:
    """With a fitting checksum, so that only their meaning is wrong."""
    tensors, header = storage.read_tensors(saved)
    header["config"][name] = value
    storage.write_tensors(saved, tensors, header)
    with pytest.raises(ModelFileError, match="is not a usable model") as caught:
        TextClassifier.load(saved)
    assert "\n" not in str(caught.value)
    assert str(saved) in str(caught.value)


Header = dict[str, Any]


def drop(name: str) -> Callable[[Header], None]:
    return lambda header: header.pop(name)


def put(name: str, value: Any) -> Callable[[Header], None]:
    def edit(header: Header) -> None:
        header[name] = value

    return edit


HEADER_EDITS: dict[str, Callable[[Header], None]] = {
    **{f"no {name}": drop(name) for name in ("config", "training", "classes", "label_type")},
    "no tokenizer": drop("tokenizer"),
    "no history": drop("history"),
    "no kind": drop("kind"),
    "kind": put("kind", "checkpoint"),
    "kind of another type": put("kind", ["model"]),
    "config as a list": put("config", []),
    "no field of the config": lambda header: header["config"].pop("masked"),
    "another field of the config": lambda header: header["config"].update(depth=1),
    "training as a list": put("training", [1]),
    "an unknown tokenizer": put("tokenizer", "letters"),
    "three classes": put("classes", ["a", "b", "c"]),
    "one class": put("classes", ["a"]),
    "classes that are not sorted": put("classes", ["pos", "neg"]),
    "equal classes": put("classes", ["a", "a"]),
    "classes of two types": put("classes", ["a", 1]),
    "classes of another type": put("classes", [0, 1]),
    "classes as a str": put("classes", "ab"),
    "nested classes": put("classes", [["a"], ["b"]]),
    "another label type": put("label_type", "int"),
    "an unknown label type": put("label_type", "bytes"),
    "a list as label type": put("label_type", ["str"]),
    "history as a number": put("history", 3),
    "history as an object": put("history", {}),
    "history as a str": put("history", ""),
    "history of numbers": put("history", [3]),
    "history with seconds": put("history", [{"seconds": 1}]),
    "history without losses": put("history", [{"epoch": 1}]),
    "history of texts": put(
        "history",
        [{"epoch": "1", "loss": "x", "accuracy": [], "val_loss": None, "val_accuracy": None}],
    ),
    "integers beyond 64 bits": lambda header: header.update(classes=[1, 2**70], label_type="int"),
}


@pytest.mark.parametrize("edit", HEADER_EDITS.values(), ids=HEADER_EDITS)
def test_edited_headers_are_refused(saved: Path, edit: Callable[[Header], None]) -> None:
    tensors, header = storage.read_tensors(saved)
    edit(header)
    storage.write_tensors(saved, tensors, header)
    with pytest.raises(ModelFileError) as caught:
        TextClassifier.load(saved)
    assert "\n" not in str(caught.value)


def test_edited_headers_of_a_model_with_several_classes(
    tmp_path: Path, three: TextClassifier
) -> None:
    path = tmp_path / "model"
    for value in (2, 4):
        three.save(path)
        tensors, header = storage.read_tensors(path)
        header["config"]["classes"] = value
        storage.write_tensors(path, tensors, header)
        with pytest.raises(ModelFileError, match="is not a usable model"):
            TextClassifier.load(path)


Tensors = dict[str, np.ndarray]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("output.bias", None),
        ("vocabulary", None),
        ("output.bias", np.zeros(2, np.float32)),
        ("output.bias", np.zeros(1, np.float16)),
        ("recurrent.kernel", np.zeros((27, 7), np.float32)),
        ("more", np.zeros(1, np.float32)),
        ("vocabulary", np.frombuffer(b"the\nthe", np.uint8)),
        ("vocabulary", np.frombuffer(b"the\nfilm", np.uint8)),
        ("vocabulary", np.frombuffer(b"the\n\xff", np.uint8)),
    ],
)
def test_edited_tensors_are_refused(saved: Path, name: str, change: Any) -> None:
    tensors, header = storage.read_tensors(saved)
    if change is None:
        del tensors[name]
    else:
        tensors[name] = change
    storage.write_tensors(saved, tensors, header)
    with pytest.raises(ModelFileError, match="is not a usable model"):
        TextClassifier.load(saved)


# --- the quantised model file ------------------------------------------------------------------


MATRICES = ["embedding.weight", "output.kernel", "recurrent.kernel", "recurrent.recurrent_kernel"]


@pytest.fixture
def quantized(tmp_path: Path, three: TextClassifier) -> Path:
    """Of a model with several classes, so that its output has several columns."""
    path = tmp_path / "int8.safetensors"
    three.save(path, quantize="int8")
    return path


def scale_of_each(stored: Tensors, name: str) -> npt.NDArray[np.float64]:
    """The matrix's scales, to be spread over it."""
    scale = stored[f"{name}.scale"].astype(np.float64)
    return scale[:, None] if name == "embedding.weight" else scale


@pytest.mark.parametrize("changed", [{}, {"cell": "lstm"}, {"reset": "before"}, {"cell": "rnn"}])
def test_a_quantised_model_s_weights_are_within_half_a_scale(
    tmp_path: Path, changed: dict[str, Any]
) -> None:
    classifier = make(epochs=1, **changed).fit(TEXTS, LABELS)
    classifier.save(tmp_path / "model", quantize="int8")
    stored, header = storage.read_tensors(tmp_path / "model")
    assert header["quantization"] == "int8"
    assert sorted(name for name in stored if stored[name].dtype == np.int8) == MATRICES
    loaded = TextClassifier.load(tmp_path / "model")
    assert set(loaded.model_.parameters) == set(classifier.model_.parameters)
    for name, weight in classifier.model_.parameters.items():
        found = loaded.model_.parameters[name]
        assert found.dtype == np.float32
        if name not in MATRICES:
            assert found.tobytes() == weight.tobytes()
            continue
        error = np.abs(found.astype(np.float64) - weight)
        assert (error <= scale_of_each(stored, name) / 2).all()
        assert error.max() > 0


def test_a_quantised_model_predicts_nearly_the_same(
    quantized: Path, three: TextClassifier, fitted: TextClassifier, tmp_path: Path
) -> None:
    texts = ["red film 1", "a blue one", "", "green green 6", "no known words here"]
    loaded = TextClassifier.load(quantized)
    before, after = three.predict_proba(texts), loaded.predict_proba(texts)
    assert np.abs(after - before).max() < 0.01
    assert (after != before).any()
    assert loaded.predict(texts).tolist() == three.predict(texts).tolist()
    assert loaded.get_params() == three.get_params()
    assert len(loaded.history_) == len(three.history_)

    fitted.save(tmp_path / "two", quantize="int8")
    binary = TextClassifier.load(tmp_path / "two")
    difference = binary.predict_proba(HELD_OUT) - fitted.predict_proba(HELD_OUT)
    assert 0 < np.abs(difference).max() < 0.01
    assert binary.score(HELD_OUT, HELD_OUT_LABELS) == fitted.score(HELD_OUT, HELD_OUT_LABELS)


def test_saving_quantised_leaves_the_classifier_as_it_was(
    saved: Path, fitted: TextClassifier, tmp_path: Path
) -> None:
    fitted.save(tmp_path / "int8", quantize="int8")
    fitted.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == saved.read_bytes()


def test_a_quantised_file_is_a_quarter_as_large(tmp_path: Path) -> None:
    words = [f"w{number}" for number in range(3_000)]
    texts = [" ".join(words[start : start + 30]) for start in range(0, 3_000, 30)]
    classifier = TextClassifier(epochs=1, threads=1, max_length=10).fit(texts, ["a", "b"] * 50)
    classifier.save(tmp_path / "float32")
    classifier.save(tmp_path / "int8", quantize="int8")
    size, large = ((tmp_path / name).stat().st_size for name in ("int8", "float32"))
    parameters = classifier.model_.parameters
    numbers = sum(parameters[name].size for name in MATRICES)
    columns = sum(parameters[name].shape[1] for name in MATRICES[1:])
    saved_bytes = 3 * numbers - 4 * (classifier.model_.config.vocabulary_size + columns)
    assert large - size == pytest.approx(saved_bytes, abs=600)  # the headers differ
    assert 0.25 < size / large < 0.28


def test_quantised_files_are_deterministic(
    quantized: Path, three: TextClassifier, tmp_path: Path
) -> None:
    data = quantized.read_bytes()
    digest = three.save(tmp_path / "again", quantize="int8")
    assert (tmp_path / "again").read_bytes() == data
    # What was quantised before loses nothing by being quantised once more.
    loaded = TextClassifier.load(quantized)
    assert loaded.save(tmp_path / "third", quantize="int8") == digest
    # Without, the file holds in float32 what was read.
    loaded.save(tmp_path / "float32")
    tensors, header = storage.read_tensors(tmp_path / "float32")
    assert "quantization" not in header
    assert {array.dtype for array in tensors.values()} == {np.dtype("f4"), np.dtype("u1")}
    for name, weight in loaded.model_.parameters.items():
        assert tensors[name].tobytes() == weight.tobytes()
    wide = TextClassifier.load(tmp_path / "float32")
    texts = ["red film 1", "a blue one"]
    np.testing.assert_array_equal(wide.predict_proba(texts), loaded.predict_proba(texts))
    assert wide.save(tmp_path / "fifth", quantize="int8") == digest


@pytest.mark.parametrize("quantize", ["int4", "INT8", "", 8, True])
def test_an_unknown_quantisation_is_refused(
    tmp_path: Path, fitted: TextClassifier, quantize: Any
) -> None:
    with pytest.raises(ConfigError, match="is not one of int8"):
        fitted.save(tmp_path / "model", quantize=quantize)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["recurrent.kernel", "output.bias"])
def test_weights_that_are_not_finite_are_neither_saved_nor_loaded(
    saved: Path, tmp_path: Path, name: str, value: float
) -> None:
    broken = TextClassifier.load(saved)
    broken.model_.parameters[name][..., -1] = value
    for quantize in (None, "int8"):
        with pytest.raises(ShapeError, match=f"{name} has weights that are not finite; train"):
            broken.save(tmp_path / "model", quantize=quantize)
        assert not (tmp_path / "model").exists()
    tensors, header = storage.read_tensors(saved)
    tensors[name][..., -1] = value
    storage.write_tensors(saved, tensors, header)
    with pytest.raises(ModelFileError, match=f"{name} has weights that are not finite"):
        TextClassifier.load(saved)


@pytest.mark.parametrize("precision", ops.PRECISIONS)
def test_info_tells_a_quantised_model_s_precision(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], precision: str
) -> None:
    classifier = make(epochs=1, precision=precision).fit(TEXTS, LABELS)
    classifier.save(tmp_path / "model", quantize="int8")
    assert main(["info", str(tmp_path / "model")]) == 0
    told = f"quantised   int8, after the epochs below; computed in {precision}"
    assert told in capsys.readouterr().out.splitlines()


def put_tensor(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[..., None]:
    def edit(tensors: Tensors, header: Header) -> None:
        tensors[name] = change(tensors[name])

    return edit


def drop_tensor(name: str) -> Callable[..., None]:
    return lambda tensors, header: tensors.pop(name)


QUANTIZED_EDITS: dict[str, Callable[..., None]] = {
    **{f"no {name}": drop_tensor(name) for name in MATRICES},
    **{f"no {name}.scale": drop_tensor(f"{name}.scale") for name in MATRICES},
    "no bias": drop_tensor("output.bias"),
    "not said to be quantised": lambda tensors, header: header.pop("quantization"),
    "one scale too few": put_tensor("embedding.weight.scale", lambda scale: scale[1:]),
    "rows' scales for columns": lambda tensors, header: tensors.update(
        {"output.kernel.scale": tensors["embedding.weight.scale"]}
    ),
    "a negative scale": put_tensor("output.kernel.scale", np.negative),
    "a scale that is NaN": put_tensor("recurrent.kernel.scale", lambda s: s * np.float32("nan")),
    "infinite scales": put_tensor("recurrent.kernel.scale", lambda s: s / np.float32(1e-45)),
    "scales of float16": put_tensor("embedding.weight.scale", lambda s: s.astype(np.float16)),
    "float32 codes": put_tensor("recurrent.kernel", lambda codes: codes.astype(np.float32)),
    "the code -128": put_tensor("output.kernel", lambda codes: codes * 0 + np.int8(-128)),
    "a quantised bias": put_tensor("output.bias", lambda bias: bias.astype(np.int8)),
    "a scale of a bias": lambda tensors, header: tensors.update(
        {"output.bias.scale": np.ones(3, np.float32)}
    ),
    "another embedding_size": lambda tensors, header: header["config"].update(embedding_size=8),
    "a giant hidden_size": lambda tensors, header: header["config"].update(hidden_size=8192),
}


@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:overflow")  # in the edits
@pytest.mark.parametrize("edit", QUANTIZED_EDITS.values(), ids=QUANTIZED_EDITS)
def test_edited_quantised_models_are_refused(quantized: Path, edit: Callable[..., None]) -> None:
    tensors, header = storage.read_tensors(quantized)
    edit(tensors, header)
    storage.write_tensors(quantized, tensors, header)
    with pytest.raises(ModelFileError, match="is not a usable model") as caught:
        TextClassifier.load(quantized)
    assert "\n" not in str(caught.value)
    assert str(quantized) in str(caught.value)


@pytest.mark.parametrize("value", ["int4", "", None, 8, ["int8"], {"int8": 1}, "x" * 10_000])
def test_a_quantisation_of_a_later_version_asks_for_an_upgrade(quantized: Path, value: Any) -> None:
    tensors, header = storage.read_tensors(quantized)
    header["quantization"] = value
    storage.write_tensors(quantized, tensors, header)
    with pytest.raises(ModelFileError, match=r"which this tidegate does not know.*upgrade") as e:
        TextClassifier.load(quantized)
    assert "\n" not in str(e.value)
    assert len(str(e.value)) < 400


def test_a_float32_model_that_is_said_to_be_quantised_is_refused(saved: Path) -> None:
    tensors, header = storage.read_tensors(saved)
    header["quantization"] = "int8"
    storage.write_tensors(saved, tensors, header)
    with pytest.raises(ModelFileError, match=r"there is no embedding.weight.scale"):
        TextClassifier.load(saved)


def test_a_checkpoint_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    list(make(epochs=1).fit_steps(TEXTS, LABELS, checkpoint=path))
    with pytest.raises(ModelFileError, match="is a checkpoint, not a model; give the file that"):
        TextClassifier.load(path)


def test_files_that_are_no_models(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="can't be read"):
        TextClassifier.load(tmp_path / "missing")
    (tmp_path / "text").write_text("no model")
    with pytest.raises(ModelFileError):
        TextClassifier.load(tmp_path / "text")


# --- the package -------------------------------------------------------------------------------


def python(code: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *options, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )


def test_importing_tidegate_imports_no_numpy() -> None:
    code = (
        "import sys, tidegate\n"
        "heavy = {'numpy', 'safetensors', 'rich', 'typer', 'pooch', 'tidegate._kernels'}\n"
        "print(sorted(heavy & set(sys.modules)), tidegate.__version__)"
    )
    done = python(code, "-X", "importtime")
    assert done.stdout == f"[] {tidegate.__version__}\n"
    imported = {line.split("|")[-1].strip() for line in done.stderr.splitlines()}
    assert "tidegate" in imported
    assert "numpy" not in imported


def test_public_names() -> None:
    assert tidegate.TextClassifier is TextClassifier
    assert issubclass(ModelFileError, tidegate.TidegateError)
    assert set(tidegate.__all__) <= set(dir(tidegate))
    with pytest.raises(AttributeError, match="module 'tidegate' has no attribute 'TextClasifier'"):
        _ = tidegate.TextClasifier


def test_random_numbers_come_from_the_seed_alone(fitted: TextClassifier) -> None:
    def draws() -> Iterator[int]:
        yield from initializers.random_raw(0, "split", 2).tolist()

    before = list(draws())
    np.random.default_rng(1).random(10)
    state = np.random.get_state()[1].tolist()  # type: ignore[index]  # noqa: NPY002
    make(epochs=1).fit(TEXTS, LABELS)
    assert list(draws()) == before
    assert np.random.get_state()[1].tolist() == state  # type: ignore[index]  # noqa: NPY002


# --- validation texts of one's own


def test_separate_validation_texts_are_measured_and_change_nothing_else() -> None:
    texts, labels = ["a b c", "d e f", "a c", "d f"] * 6, ["x", "y", "x", "y"] * 6
    others = ["a b", "e f", "d e", "c a"], ["x", "y", "x", "x"]

    def small(fraction: float) -> TextClassifier:
        return TextClassifier(
            hidden_size=4,
            embedding_size=3,
            batch_size=5,
            epochs=3,
            calibrate=False,
            validation_fraction=fraction,
        )

    alone = small(0.0).fit(texts, labels)
    watched = small(0.0).fit(texts, labels, validation=others)
    fraction = small(0.2).fit(texts, labels, validation=others)  # it counts no more
    for classifier in (watched, fraction):
        for name, weights in alone.model_.parameters.items():
            assert weights.tobytes() == classifier.model_.parameters[name].tobytes()
    assert [epoch.val_loss for epoch in alone.history_] == [None] * 3
    measured = watched.evaluate(*others)
    assert watched.history_[-1].val_loss == measured.loss
    assert watched.history_[-1].val_accuracy == measured.accuracy


def test_validation_labels_have_to_be_trained_on() -> None:
    classifier = TextClassifier(hidden_size=4, embedding_size=3, epochs=1)
    with pytest.raises(DataError, match=r"label 'z' is not one of the model's: x, y"):
        classifier.fit(["a", "b"], ["x", "y"], validation=(["a"], ["z"]))
    with pytest.raises(DataError, match=r"2 texts have 1 labels"):
        classifier.fit(["a", "b"], ["x", "y"], validation=(["a", "b"], ["x"]))
