"""Arguments of wrong types: every public one is used, or refused in one line of tidegate's."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tidegate import GRUEncoder, TextClassifier, data, intervals
from tidegate.errors import ConfigError, DataError, TidegateError
from tidegate.explain import explain

TEXTS = ["good film", "bad film"] * 8
LABELS = ["pos", "neg"] * 8
SEVERAL = [["pos"], ["neg"]] * 8
SMALL: dict[str, Any] = {
    **{"embedding_size": 3, "hidden_size": 3, "max_length": 5, "batch_size": 8},
    **{"epochs": 1, "threads": 1},
}
WRONG: list[Any] = [
    *(None, 5, -1, 0, 1.5, float("nan"), True, 10**30, "x", "", "\ud800", b"x", object(), int),
    *([], [1], ["x"], [None], [[]], (), (1, 2), ("a", "b"), ([], []), (TEXTS, 5), (5, LABELS)),
    *((TEXTS, LABELS, 3), {}, {"a": 1}, {1}, len, range(3), Path("/nowhere/x")),
    *(np.array(5), np.array([[1, 2]]), np.zeros((2, 2, 2))),
]


@pytest.fixture(autouse=True)
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that a strange path names are written here."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def fitted() -> dict[str, TextClassifier]:
    return {
        "one": TextClassifier(**SMALL).fit(TEXTS, LABELS),
        "many": TextClassifier(**SMALL).fit(TEXTS, SEVERAL),
    }


def attempt(call: Callable[..., object], usual: dict[str, Any], name: str) -> None:
    """Give each wrong value in the argument's place."""
    for value in WRONG:
        try:
            call(**{**usual, name: value})
        except TidegateError as error:
            if "\n" in str(error):
                pytest.fail(f"{name}={value!r}: {error}")
        except Exception as error:
            pytest.fail(f"{name}={value!r}: {type(error).__name__}: {error}")


def names_of(call: Callable[..., object]) -> list[str]:
    return list(inspect.signature(call).parameters)


@pytest.mark.parametrize("name", TextClassifier._parameter_names())
def test_of_a_classifier(name: str) -> None:
    attempt(lambda **given: TextClassifier(**given).fit(TEXTS, LABELS), SMALL, name)


@pytest.mark.parametrize("name", GRUEncoder._parameter_names())
def test_of_an_encoder(name: str) -> None:
    attempt(lambda **given: GRUEncoder(**given).fit(TEXTS, LABELS), {}, name)


@pytest.mark.parametrize("name", names_of(TextClassifier().fit_steps))
def test_of_a_fit(name: str) -> None:
    for labels in (LABELS, SEVERAL):
        usual = {"texts": TEXTS, "labels": labels}
        attempt(lambda **given: list(TextClassifier(**SMALL).fit_steps(**given)), usual, name)


@pytest.mark.parametrize("name", names_of(TextClassifier().partial_fit))
def test_of_a_partial_fit(name: str) -> None:
    usual = {"texts": TEXTS, "labels": LABELS, "classes": ["neg", "pos"]}
    attempt(lambda **given: TextClassifier(**SMALL).partial_fit(**given), usual, name)


@pytest.mark.parametrize("name", ["start", "texts", "labels", "keep", "max_loss", "validation"])
def test_of_going_on(name: str, fitted: dict[str, TextClassifier]) -> None:
    usual = {"start": fitted["one"], "texts": TEXTS, "labels": LABELS}
    attempt(TextClassifier.continue_from, usual, name)


@pytest.mark.parametrize("targets", ["one", "many"])
@pytest.mark.parametrize(
    "method",
    [
        *("predict", "predict_proba", "predict_labels", "features", "decide", "score"),
        *("evaluate", "report", "tune_threshold", "split", "epochs_for"),
    ],
)
def test_of_a_trained_classifier(
    method: str, targets: str, fitted: dict[str, TextClassifier]
) -> None:
    call = getattr(fitted[targets], method)
    labels = LABELS if targets == "one" else SEVERAL
    usual = {"texts": TEXTS, "labels": labels}
    usual = {name: value for name, value in usual.items() if name in names_of(call)}
    for name in names_of(call):
        attempt(call, usual, name)
    fitted[targets].thresholds_ = None


def test_of_files(fitted: dict[str, TextClassifier]) -> None:
    save = fitted["one"].save
    for name in names_of(save):
        attempt(save, {"path": "model"}, name)
    attempt(TextClassifier.load, {}, "path")
    attempt(TextClassifier.from_preset, {}, "name")


@pytest.mark.parametrize("reader", [data.load, data.load_table, data.source_of])
def test_of_tables(reader: Callable[..., object], tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("text,label\ngood,pos\nbad,neg\n")
    first, *_ = names_of(reader)
    for name in names_of(reader):
        if name != "archive":
            attempt(reader, {first: str(table)}, name)


def test_of_what_looks_at_models(fitted: dict[str, TextClassifier]) -> None:
    for name in ("text", "label", "method"):
        attempt(explain, {"classifier": fitted["one"], "text": "good film"}, name)
    for name in ("first_right", "second_right"):
        usual = {"first_right": [True, False], "second_right": [True, True]}
        attempt(intervals.mcnemar, usual, name)


def test_some_of_the_refusals(fitted: dict[str, TextClassifier]) -> None:
    classifier: Any = TextClassifier(**SMALL)
    told = r"validation is not a pair of texts and labels \(5\); give validation=\(texts, labels\)"
    with pytest.raises(ConfigError, match=told):
        classifier.fit(TEXTS, LABELS, validation=5)
    with pytest.raises(DataError, match=r"classes is a int \(5\); give a list of all labels"):
        classifier.partial_fit(TEXTS, LABELS, classes=5)
    with pytest.raises(ConfigError, match="path=5 is not a path; give a str or"):
        TextClassifier.load(5)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="intervals='no' is neither True nor False"):
        fitted["one"].report(TEXTS, LABELS, intervals="no")  # type: ignore[arg-type]


def test_lists_of_answers_can_be_compared() -> None:
    found = intervals.mcnemar([True, True, False], [True, False, False])
    assert (found.first_only, found.second_only) == (1, 0)
