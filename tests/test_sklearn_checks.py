"""The whole list of scikit-learn's checks of an estimator, its tables read as texts."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.utils.estimator_checks import check_estimator
from sklearn.utils.validation import validate_data

from tidegate import GRUEncoder, TextClassifier, ops

# Each check that fails, and why it may. All others have to pass.
OF_ANY = {
    "check_requires_y_none": "the error for labels=None is a ValueError in tidegate's own words",
}
OF_CLASSIFIERS = OF_ANY | {
    "check_classifiers_regression_target": "labels may be floats: 3.5 stars are a class",
    "check_supervised_y_2d": "a table of labels is refused, whose one column is easily given",
    "check_classifiers_multilabel_representation_invariance": (
        "a list of 0 and 1 for each text names the labels 0 and 1; indicators are an array"
    ),
    "check_sample_weight_equivalence_on_dense_data": (
        "a text that is left out changes the batches of all others, as with every network"
    ),
}
# Each check that can't be run, and why.
SKIPPED = {
    "check_array_api_input": "needs SCIPY_ARRAY_API=1 from the start; texts are no arrays",
    "check_classifiers_multilabel_output_format_decision_function": "there are probabilities only",
}


def texts_of(table: Any) -> list[str]:
    """A text for each row: a word for each column and rounded number."""
    return [
        " ".join(f"c{i}v{round(2 * float(value))}" for i, value in enumerate(row)) for row in table
    ]


class _ReadsTables:
    """What an estimator of tables has to do itself, done by scikit-learn's own function.

    So the checks find fault with the estimator of texts below, or with nothing.
    """

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        tags.input_tags.two_d_array = True
        return tags

    def fit(self, X: Any, y: Any) -> Any:  # noqa: N803 (scikit-learn's names)
        return super().fit(texts_of(validate_data(self, X)), y)  # type: ignore[misc]


class TableClassifier(_ReadsTables, TextClassifier):
    def fit(  # type: ignore[override]
        self,
        X: Any,  # noqa: N803
        y: Any,
        sample_weight: Any = None,
    ) -> Any:
        return TextClassifier.fit(
            self, texts_of(validate_data(self, X)), y, sample_weight=sample_weight
        )

    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> Any:  # noqa: N803
        table = validate_data(self, X, reset=not hasattr(self, "n_features_in_"))
        return super().partial_fit(texts_of(table), y, classes)

    def predict_proba(self, X: Any) -> Any:  # noqa: N803
        self._fitted()
        return super().predict_proba(texts_of(validate_data(self, X, reset=False)))

    def score(self, X: Any, y: Any) -> float:  # noqa: N803
        return float(np.mean(self.predict(X) == y))


class TableEncoder(_ReadsTables, GRUEncoder):
    def transform(self, X: Any) -> Any:  # noqa: N803
        self._fitted()
        return super().transform(texts_of(validate_data(self, X, reset=False)))

    def fit_transform(self, X: Any, y: Any) -> Any:  # noqa: N803
        return self.fit(X, y).transform(X)


@pytest.fixture(autouse=True)
def one_thread(restored_threads: None) -> None:
    ops.set_threads(1)


def run_checks(estimator: Any, expected: dict[str, str]) -> None:
    """Fails with what each check that is not expected to fail said."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is none of scikit-learn's own classes, for one
        done = check_estimator(
            estimator, expected_failed_checks=expected, on_fail=None, on_skip=None
        )
    assert len(done) > 40
    for result in done:
        name, status, reason = result["check_name"], result["status"], result["exception"]
        if name in SKIPPED and status == "skipped":
            continue
        assert status == ("xfail" if name in expected else "passed"), f"{name} {status}: {reason}"
    # Nothing stands in the list that is not there or passes by now.
    assert set(expected) <= {result["check_name"] for result in done}


OPTIONS: dict[str, Any] = {
    "embedding_size": 6,
    "hidden_size": 6,
    "epochs": 8,
    "batch_size": 16,
    "learning_rate": 0.03,
    "validation_fraction": 0.0,
}


def test_every_check_of_a_classifier() -> None:
    run_checks(TableClassifier(**OPTIONS), OF_CLASSIFIERS)


def test_every_check_of_an_encoder() -> None:
    run_checks(TableEncoder(**OPTIONS), OF_ANY)
