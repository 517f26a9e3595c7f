"""scikit-learn's own tools, the real ones, with TextClassifier in the place of one of theirs."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import StackingClassifier, VotingClassifier
from sklearn.exceptions import NotFittedError as SklearnNotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    StratifiedKFold,
    check_cv,
    cross_val_predict,
    cross_val_score,
    learning_curve,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted

from tidegate import TextClassifier, ops
from tidegate.errors import DataError, NotFittedError

COUNT = 60
TEXTS = [f"the film was {'lovely' if i % 3 else 'dull'} number {i % 7}" for i in range(COUNT)]
# Sorted by label, so that folds that are not stratified would hold one class alone.
TEXTS.sort()
LABELS = ["good" if "lovely" in text else "bad" for text in TEXTS]


def make(**changed: Any) -> TextClassifier:
    options: dict[str, Any] = {
        "embedding_size": 6,
        "hidden_size": 5,
        "max_length": 8,
        "epochs": 12,
        "batch_size": 8,
        "learning_rate": 0.03,
        "validation_fraction": 0.0,
    }
    return TextClassifier(**{**options, **changed})


@pytest.fixture(autouse=True)
def one_thread(restored_threads: None) -> None:
    """Models so small that more threads would only wait for each other."""
    ops.set_threads(1)


@pytest.fixture(scope="module")
def fitted() -> TextClassifier:
    """For tests that change nothing of it."""
    return make().fit(TEXTS, LABELS)


# --- what it says of itself --------------------------------------------------------------------


def test_it_is_known_as_a_classifier_of_texts() -> None:
    classifier = make()
    assert is_classifier(classifier)
    assert not is_regressor(classifier)
    tags = get_tags(classifier)
    assert tags.estimator_type == "classifier"
    assert tags.target_tags.required
    assert tags.input_tags.string
    assert not tags.input_tags.two_d_array
    assert not tags.input_tags.sparse
    assert tags.classifier_tags.multi_class
    assert tags.classifier_tags.multi_label
    assert isinstance(check_cv(3, LABELS, classifier=is_classifier(classifier)), StratifiedKFold)


def test_its_error_of_an_unfitted_classifier_is_scikit_learn_s_too() -> None:
    with pytest.raises(SklearnNotFittedError, match="not trained yet") as caught:
        make().predict(TEXTS)
    assert isinstance(caught.value, NotFittedError)
    again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 (as joblib's workers send it)
    assert type(again) is type(caught.value)
    assert again.args == caught.value.args


def test_scikit_learn_knows_whether_it_is_fitted(fitted: TextClassifier) -> None:
    check_is_fitted(fitted)
    with pytest.raises(SklearnNotFittedError):
        check_is_fitted(make())
    # A name ending in "_" alone makes no trained model.
    classifier = make()
    classifier.classes_ = np.array(["bad", "good"])
    with pytest.raises(SklearnNotFittedError):
        check_is_fitted(classifier)


def test_a_clone_has_the_options_and_nothing_learnt(fitted: TextClassifier) -> None:
    copied = clone(fitted)
    assert copied is not fitted
    assert copied.get_params() == fitted.get_params()
    with pytest.raises(SklearnNotFittedError):
        check_is_fitted(copied)
    copied.fit(TEXTS, LABELS)
    np.testing.assert_array_equal(copied.predict_proba(TEXTS), fitted.predict_proba(TEXTS))


def test_none_of_the_libraries_it_serves_is_needed() -> None:
    code = (
        "import sys\n"
        "for name in ('sklearn', 'pandas', 'polars', 'pyarrow', 'matplotlib'):\n"
        "    sys.modules[name] = None\n"
        "from tidegate import TextClassifier\n"
        "classifier = TextClassifier(embedding_size=2, hidden_size=2, epochs=1)\n"
        "print(classifier.fit(['a b', 'c d'] * 4, [0, 1] * 4).predict(['a']).shape)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr) == ("(1,)\n", "")


# --- its tools ---------------------------------------------------------------------------------


def test_a_pipeline_ends_in_it() -> None:
    def lowered(texts: list[str]) -> list[str]:
        return [text.lower() for text in texts]

    pipeline = make_pipeline(FunctionTransformer(lowered), make())
    assert pipeline.set_params(textclassifier__hidden_size=6) is pipeline
    with pytest.raises(SklearnNotFittedError):
        check_is_fitted(pipeline)
    pipeline.fit([text.upper() for text in TEXTS], LABELS)
    check_is_fitted(pipeline)
    assert is_classifier(pipeline)
    assert pipeline.classes_.tolist() == ["bad", "good"]
    assert pipeline.predict(["A LOVELY FILM", "a dull film"]).tolist() == ["good", "bad"]
    assert pipeline.predict_proba(TEXTS).shape == (COUNT, 2)
    assert pipeline.score(TEXTS, LABELS) == 1.0
    assert "TextClassifier(embedding_size=6, hidden_size=6" in repr(pipeline)
    assert "TextClassifier" in pipeline._repr_html_()  # what a notebook shows


@pytest.mark.parametrize("scoring", [None, "accuracy", "roc_auc", "neg_log_loss"])
def test_cross_validation_is_stratified(scoring: str | None) -> None:
    # Folds of one class alone could not be trained on, and roc_auc would have no value.
    scores = cross_val_score(make(), TEXTS, LABELS, cv=3, scoring=scoring, error_score="raise")
    assert scores.shape == (3,)
    assert scores.min() > (-0.3 if scoring == "neg_log_loss" else 0.9)


def test_cross_validated_probabilities_are_those_of_models_without_the_fold() -> None:
    found = cross_val_predict(make(), TEXTS, LABELS, cv=2, method="predict_proba")
    train, test = next(StratifiedKFold(2).split(TEXTS, LABELS))
    alone = make().fit([TEXTS[i] for i in train], [LABELS[i] for i in train])
    np.testing.assert_array_equal(found[test], alone.predict_proba([TEXTS[i] for i in test]))


def test_a_grid_search_finds_the_better_options() -> None:
    search = GridSearchCV(
        make(), {"epochs": [1, 12], "cell": ["gru", "rnn"]}, cv=2, error_score="raise"
    )
    search.fit(TEXTS, LABELS)
    assert isinstance(search.best_estimator_, TextClassifier)
    assert search.best_params_["epochs"] == 12
    assert search.best_score_ > 0.9
    assert search.predict(["a lovely film"]).tolist() == ["good"]
    assert search.classes_.tolist() == ["bad", "good"]
    assert search._repr_html_()


def test_a_grid_search_says_what_was_wrong() -> None:
    search = GridSearchCV(make(), {"cell": ["grv"]}, cv=2, error_score="raise")
    with pytest.raises(ValueError, match="did you mean 'gru'"):
        search.fit(TEXTS, LABELS)


def test_calibration_and_learning_curves() -> None:
    calibrated = CalibratedClassifierCV(make(), cv=2).fit(TEXTS, LABELS)
    assert calibrated.score(TEXTS, LABELS) > 0.9
    sizes, _, scores = learning_curve(make(), TEXTS, LABELS, cv=2, train_sizes=[0.8, 1.0])
    assert sizes.tolist() == [24, 30]
    assert scores.shape == (2, 2)


def test_a_fitted_classifier_is_calibrated_as_it_is(fitted: TextClassifier) -> None:
    calibrated = CalibratedClassifierCV(FrozenEstimator(fitted)).fit(TEXTS, LABELS)
    assert calibrated.predict(TEXTS).tolist() == fitted.predict(TEXTS).tolist()
    assert fitted.predict_proba(["a lovely film"])[0, 1] > 0.9


def test_a_pickled_pipeline_predicts_the_same(fitted: TextClassifier) -> None:
    pipeline = make_pipeline(FunctionTransformer(), clone(fitted)).fit(TEXTS, LABELS)
    again = pickle.loads(pickle.dumps(pipeline))  # noqa: S301
    np.testing.assert_array_equal(again.predict_proba(TEXTS), fitted.predict_proba(TEXTS))


def test_votes_are_means_of_probabilities() -> None:
    members = [("gru", make()), ("lstm", make(cell="lstm")), ("rnn", make(cell="rnn", epochs=2))]
    soft = VotingClassifier(members, voting="soft").fit(TEXTS, LABELS)
    # Numbers are what it trains its members on, in place of the labels.
    numbers = [int(label == "good") for label in LABELS]
    alone = [clone(member).fit(TEXTS, numbers).predict_proba(TEXTS) for _, member in members]
    np.testing.assert_allclose(soft.predict_proba(TEXTS), np.mean(alone, axis=0), atol=1e-12)
    assert soft.predict(["a lovely film", "a dull film"]).tolist() == ["good", "bad"]
    hard = VotingClassifier(members, voting="hard").fit(TEXTS, LABELS)
    assert hard.score(TEXTS, LABELS) > 0.9


def test_its_probabilities_are_what_another_classifier_learns_from() -> None:
    members = [("gru", make()), ("lstm", make(cell="lstm"))]
    stacked = StackingClassifier(members, LogisticRegression(), cv=2).fit(TEXTS, LABELS)
    assert stacked.predict(["a lovely film", "a dull film"]).tolist() == ["good", "bad"]


# --- what people hold their texts in -----------------------------------------------------------

INPUTS: dict[str, Callable[[list[str]], Any]] = {
    "list": list,
    "tuple": tuple,
    "ndarray": np.array,
    "ndarray of objects": lambda values: np.array(values, object),
    "Series": pd.Series,
    "Series of objects": lambda values: pd.Series(values, dtype=object),
    "Series of strings": lambda values: pd.Series(values, dtype="string"),
    "Series with another index": lambda values: pd.Series(values, index=range(COUNT, 0, -1)),
    "Series of categories": lambda values: pd.Series(values, dtype="category"),
    "Series of Arrow strings": lambda values: pd.Series(values, dtype=pd.ArrowDtype(pa.string())),
    "polars Series": pl.Series,
    "polars Series of categories": lambda values: pl.Series(values, dtype=pl.Categorical),
    "Arrow array": pa.array,
    "Arrow array of large strings": lambda values: pa.array(values, pa.large_string()),
    "Arrow dictionary": lambda values: pa.array(values).dictionary_encode(),
    "Arrow chunks": lambda values: pa.chunked_array([values[:20], values[20:]]),
}


@pytest.mark.parametrize("kind", INPUTS)
def test_texts_and_labels_in_any_column(kind: str, fitted: TextClassifier) -> None:
    texts, labels = INPUTS[kind](TEXTS), INPUTS[kind](LABELS)
    classifier = make().fit(texts, labels)
    assert classifier.classes_.tolist() == ["bad", "good"]
    expected = fitted.predict_proba(TEXTS)
    np.testing.assert_array_equal(classifier.predict_proba(texts), expected)
    assert classifier.score(texts, labels) == fitted.score(TEXTS, LABELS)
    scores = cross_val_score(make(), texts, labels, cv=2, error_score="raise")
    np.testing.assert_array_equal(scores, cross_val_score(make(), TEXTS, LABELS, cv=2))


@pytest.mark.parametrize("values", [[0, 1], [False, True], [0.5, 2.5]])
@pytest.mark.parametrize("column", [pl.Series, pa.array, lambda values: pa.chunked_array([values])])
def test_labels_in_other_columns_of_numbers(column: Callable[[Any], Any], values: Any) -> None:
    classifier = make(epochs=2).fit(TEXTS, column(values * (COUNT // 2)))
    assert classifier.classes_.tolist() == values
    assert type(classifier.classes_.tolist()[0]) is type(values[0])


@pytest.mark.parametrize("dtype", ["int64", "Int64", "bool", "boolean", "float32"])
def test_labels_in_series_of_numbers(dtype: str) -> None:
    labels = pd.Series([label == "good" for label in LABELS]).astype(dtype)
    classifier = make(epochs=2).fit(TEXTS, labels)
    assert classifier.classes_.tolist() == [0, 1]


def test_missing_texts_and_labels_are_refused() -> None:
    with pytest.raises(DataError, match=r"text 1 is a .*drop it or fill it in"):
        make().fit(pd.Series(["a", None, "b"]), [0, 1, 0])
    with pytest.raises(DataError, match=r"label 1 is .*; labels are str, int, bool or float"):
        make().fit(["a", "b", "c"], pd.Series([0, None, 1], dtype="Int64"))
    for column in (pl.Series, pa.array):
        with pytest.raises(DataError, match=r"text 1 is a NoneType .*drop it or fill it in"):
            make().fit(column(["a", None, "b"]), [0, 1, 0])
        with pytest.raises(DataError, match="label 0 is None; labels are str"):
            make().fit(["a", "b", "c"], column([None, 0, 1]))


def test_whole_tables_are_refused() -> None:
    """Iterating over one gives the names of its columns, which are texts too."""
    table = pd.DataFrame({"text": TEXTS, "label": LABELS})
    with pytest.raises(
        DataError, match=r"texts is a DataFrame of shape \[60, 2\]; give one column of it"
    ):
        make().fit(table, LABELS)
    with pytest.raises(DataError, match=r"labels is a DataFrame of shape \[60, 1\]"):
        make().fit(table["text"], table[["label"]])
    with pytest.raises(DataError, match="texts is a DataFrame"):
        make().fit(table["text"], table["label"]).predict(table)
    with pytest.raises(DataError, match=r"texts is a DataFrame of shape \[60, 2\]"):
        make().fit(pl.DataFrame({"text": TEXTS, "label": LABELS}), LABELS)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"texts is a Table of shape \[60, 2\]; give one column"):
        make().fit(pa.table({"text": TEXTS, "label": LABELS}), LABELS)
