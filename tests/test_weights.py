"""How much each text counts in training: sample_weight."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.model_selection import GridSearchCV, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from tidegate import TextClassifier, ops, storage
from tidegate.errors import DataError, TrainingError

OPTIONS: dict[str, Any] = {
    "embedding_size": 4,
    "hidden_size": 4,
    "epochs": 40,
    "batch_size": 8,
    "learning_rate": 0.05,
    "validation_fraction": 0.0,
}
# Texts that tell nothing: what is said of them is what weighs most.
TEXTS, LABELS = ["word"] * 40, ["often"] * 30 + ["seldom"] * 10


@pytest.fixture(autouse=True)
def one_thread(restored_threads: None) -> None:
    ops.set_threads(1)


def seldom(**options: Any) -> float:
    weight = options.pop("sample_weight", None)
    classifier = TextClassifier(**OPTIONS | options).fit(TEXTS, LABELS, weight)
    return float(classifier.predict_proba(["word"])[0, 1])


def test_what_weighs_more_is_said_more_often() -> None:
    assert seldom() == pytest.approx(0.25, abs=0.03)
    assert seldom(sample_weight=[1.0] * 30 + [9.0] * 10) == pytest.approx(0.75, abs=0.03)
    half = [1, 0] * 15 + [3] * 10  # every other one of the first is left out
    assert seldom(sample_weight=half) == pytest.approx(30 / 45, abs=0.03)


def test_it_is_multiplied_with_class_weight() -> None:
    # 30 * 2 * 1 against 10 * 1 * 18.
    weight = np.array([2.0] * 30 + [1.0] * 10)
    found = seldom(sample_weight=weight, class_weight={"seldom": 18})
    assert found == pytest.approx(0.75, abs=0.03)


def test_weights_of_1_change_nothing(tmp_path: Path) -> None:
    short = {**OPTIONS, "epochs": 2, "validation_fraction": 0.2}
    plain, weighted, doubled = (
        TextClassifier(**short).fit(TEXTS, LABELS, weight)
        for weight in (None, [1] * 40, pd.Series([2.0] * 40))
    )
    texts = ["word", "word word"]
    expected = plain.predict_proba(texts)
    np.testing.assert_allclose(weighted.predict_proba(texts), expected, rtol=1e-5)
    # Adam divides by the gradient's size: twice the weight is nearly the same training.
    np.testing.assert_allclose(doubled.predict_proba(texts), expected, rtol=0.01)
    assert doubled.history_[0].loss == pytest.approx(2 * plain.history_[0].loss, rel=0.01)
    assert doubled.history_[0].val_loss == pytest.approx(plain.history_[0].val_loss, rel=0.01)
    # The file says nothing of weights: they are data.
    path = tmp_path / "model"
    weighted.save(path)
    assert "sample_weight" not in json.dumps(storage.read_tensors(path)[1])


def test_texts_of_weight_0_are_as_if_they_were_not_there() -> None:
    """In the linear model; the network draws its batches from all of them."""
    texts = ["a fine film", "a poor film", "fine and warm", "poor and cold"] * 5
    labels = ["good", "bad", "good", "bad"] * 5
    options = {**OPTIONS, "epochs": 1, "ngrams": 2}
    whole = TextClassifier(**options).fit(
        [*texts, *texts], [*labels, *["bad", "good", "bad", "good"] * 5], [1] * 20 + [0] * 20
    )
    assert whole.ngrams_ is not None
    scores = whole.ngrams_.scores(texts[:4])[:, 0]
    assert (scores > 0).tolist() == [True, False, True, False]


def test_the_linear_model_counts_texts_too() -> None:
    """The same words twice, with other labels: what counts more is believed."""
    texts, labels = ["fine film", "fine film"] * 20, ["good", "bad"] * 20
    options = {**OPTIONS, "epochs": 1, "ngrams": 1}
    scores = []
    for weights in ([3.0, 1.0], [1.0, 1.0], [1.0, 3.0]):
        classifier = TextClassifier(**options).fit(texts, labels, weights * 20)
        assert classifier.ngrams_ is not None
        scores.append(float(classifier.ngrams_.scores(["fine film"])[0, 0]))
    # log(60 / 20), and a little less for the squares of the weights
    assert scores == pytest.approx([np.log(3), 0.0, -np.log(3)], abs=0.1)
    classifier = TextClassifier(**options, class_weight={"good": 3.0}).fit(texts, labels)
    assert classifier.ngrams_ is not None
    assert float(classifier.ngrams_.scores(["fine film"])[0, 0]) == pytest.approx(scores[0])


def test_weights_too_small_for_float32_are_zero() -> None:
    with pytest.raises(DataError, match="which float32 takes for zero"):
        TextClassifier(**OPTIONS).fit(TEXTS, LABELS, [1e-40] * 40)
    tiny = TextClassifier(**OPTIONS | {"epochs": 2}).fit(TEXTS, LABELS, [1e-300] * 30 + [1.0] * 10)
    none = TextClassifier(**OPTIONS | {"epochs": 2}).fit(TEXTS, LABELS, [0.0] * 30 + [1.0] * 10)
    assert (tiny.predict_proba(["word"]) == none.predict_proba(["word"])).all()


def test_a_run_of_other_weights_is_not_resumed(tmp_path: Path) -> None:
    classifier = TextClassifier(**OPTIONS | {"epochs": 2})
    path = tmp_path / "checkpoint"
    events = classifier.fit_steps(TEXTS, LABELS, sample_weight=[1.0] * 40, checkpoint=path)
    while next(events).epoch < 2:
        pass
    events.close()  # type: ignore[attr-defined]
    other = classifier.fit_steps(
        TEXTS, LABELS, sample_weight=[2.0] * 40, checkpoint=path, resume=True
    )
    with pytest.raises(TrainingError, match="other"):
        list(other)
    same = classifier.fit_steps(
        TEXTS, LABELS, sample_weight=[1.0] * 40, checkpoint=path, resume=True
    )
    list(same)
    whole = TextClassifier(**OPTIONS | {"epochs": 2}).fit(TEXTS, LABELS, [1.0] * 40)
    assert classifier.save(tmp_path / "one") == whole.save(tmp_path / "two")


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0] * 39, "40 texts have 39 weights; give one sample_weight for each text"),
        ([1.0] * 39 + [-1.0], "sample_weight 39 is -1.0; weights are numbers from 0 to 1e18"),
        ([float("nan")] * 40, "sample_weight 0 is nan"),
        ([1.0, float("inf")] * 20, "sample_weight 1 is inf"),
        (["1"] * 40, "sample_weight 0 is '1'"),
        ([True] * 40, "sample_weight 0 is True"),
        ([0] * 40, "sample_weight is zero for every training text"),
        (3.0, r"sample_weight is a float \(3.0\); give a list with one number for each text"),
        (np.ones((40, 1)), r"sample_weight is a ndarray of shape \[40, 1\]"),
    ],
)
def test_weights_that_are_refused(weights: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        TextClassifier(**OPTIONS).fit(TEXTS, LABELS, sample_weight=weights)


# --- scikit-learn's tools


WEIGHTS = np.array([0.0] * 30 + [1.0] * 10)  # of the training texts, all that count say "seldom"


def test_tools_pass_it_on_and_score_without_it() -> None:
    classifier = TextClassifier(**OPTIONS)
    plain = cross_val_score(classifier, TEXTS, LABELS, cv=2, error_score="raise")
    assert plain.tolist() == [0.75, 0.75]
    passed = cross_val_score(
        classifier, TEXTS, LABELS, cv=2, params={"sample_weight": WEIGHTS}, error_score="raise"
    )
    assert passed.tolist() == [0.25, 0.25]
    search = GridSearchCV(classifier, {"epochs": [40]}, cv=2, error_score="raise")
    with warnings.catch_warnings():
        # Newer releases say, rightly, that the score counts every text once.
        warnings.filterwarnings("ignore", message=".*does not support sample_weight")
        search.fit(TEXTS, LABELS, sample_weight=WEIGHTS)
    assert search.best_score_ == 0.25
    pipeline = make_pipeline(FunctionTransformer(), TextClassifier(**OPTIONS))
    pipeline.fit(TEXTS, LABELS, textclassifier__sample_weight=WEIGHTS)
    assert pipeline.predict(["word"]).tolist() == ["seldom"]
    calibrated = CalibratedClassifierCV(classifier, cv=2).fit(TEXTS, LABELS, WEIGHTS)
    assert calibrated.predict_proba(["word"])[0, 1] > 0.5


def test_routed_metadata() -> None:
    with sklearn.config_context(enable_metadata_routing=True):
        classifier = TextClassifier(**OPTIONS)
        assert classifier.get_metadata_routing().fit.requests == {"sample_weight": None}
        with pytest.raises(ValueError, match="sample_weight"):
            cross_validate(classifier, TEXTS, LABELS, params={"sample_weight": WEIGHTS})
        assert classifier.set_fit_request(sample_weight=True) is classifier
        copied = clone(classifier)
        assert copied.get_metadata_routing().fit.requests == {"sample_weight": True}
        found = cross_validate(
            copied, TEXTS, LABELS, cv=2, params={"sample_weight": WEIGHTS}, error_score="raise"
        )
        assert found["test_score"].tolist() == [0.25, 0.25]
        classifier.set_fit_request(sample_weight=False)
        found = cross_validate(classifier, TEXTS, LABELS, cv=2, error_score="raise")
        assert found["test_score"].tolist() == [0.75, 0.75]
