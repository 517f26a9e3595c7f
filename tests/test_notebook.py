"""What a notebook shows, and the drawing of a training's epochs."""

from __future__ import annotations

import copy
import math
import pickle
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest

from test_estimator import LABELS, OPTIONS, TEXTS, make
from tidegate import GRUEncoder, TextClassifier, ops
from tidegate.errors import ConfigError, MissingPackageError
from tidegate.history import History
from tidegate.records import EpochResult

RESULTS = [
    EpochResult(1, 1.25, 0.7, 0.5, 0.65, 0.625),
    EpochResult(2, 1.5, 0.4, 0.75, 0.45, 0.875),
]
UNVALIDATED = [EpochResult(1, math.nan, 0.7, 0.5, None, None)]


@pytest.fixture(autouse=True)
def one_thread(restored_threads: None) -> None:
    ops.set_threads(1)


class Page(HTMLParser):
    """Cells of the tables, row by row, of HTML whose tags all close and ask for nothing."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in {"div", "strong", "table", "thead", "tbody", "tr", "th", "td"}
        assert {name for name, _ in attrs} <= {"class", "colspan"}
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in {"td", "th"}:
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1] in {"td", "th"}:
            self.rows[-1][-1] += data


# --- the list ----------------------------------------------------------------------------------


def test_a_history_is_the_list_of_its_results() -> None:
    history = History(RESULTS)
    assert history == RESULTS
    assert isinstance(history, list)
    assert history[1:] == RESULTS[1:]
    assert repr(history) == repr(RESULTS)
    for copied in (pickle.loads(pickle.dumps(history)), copy.deepcopy(history)):  # noqa: S301
        assert copied == RESULTS
        assert type(copied) is History


def test_a_classifier_s_history_can_be_drawn(tmp_path: Path) -> None:
    classifier = make(epochs=2).fit(TEXTS, LABELS)
    assert type(classifier.history_) is History
    classifier.save(tmp_path / "model")
    assert type(TextClassifier.load(tmp_path / "model").history_) is History


# --- the drawing -------------------------------------------------------------------------------


@pytest.fixture
def pyplot() -> Any:
    mpl.use("Agg")
    from matplotlib import pyplot

    yield pyplot
    pyplot.close("all")


@pytest.mark.parametrize(
    ("measure", "training", "validation"),
    [("loss", [0.7, 0.4], [0.65, 0.45]), ("accuracy", [0.5, 0.75], [0.625, 0.875])],
)
def test_the_lines_are_the_results(
    pyplot: Any, measure: str, training: list[float], validation: list[float]
) -> None:
    axes: Any = History(RESULTS).plot(measure)
    lines = {line.get_label(): line for line in axes.get_lines()}
    assert list(lines) == ["training", "validation"]
    for line, values in zip(lines.values(), (training, validation), strict=True):
        assert line.get_xdata().tolist() == [1, 2]
        assert line.get_ydata().tolist() == values
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", measure)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == list(lines)
    assert all(tick == round(tick) for tick in axes.get_xticks())


def test_without_validation_there_is_one_line(pyplot: Any) -> None:
    figure, axes = pyplot.subplots()
    assert History(UNVALIDATED).plot(axes=axes) is axes
    assert [line.get_label() for line in axes.get_lines()] == ["training"]
    assert pyplot.get_fignums() == [figure.number]
    assert History().plot().get_lines()[:] == []


def test_a_bad_measure_and_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"measure='acuracy' .* did you mean 'accuracy'") as bad:
        History(RESULTS).plot("acuracy")
    assert not isinstance(bad.value, MissingPackageError)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'tidegate\[plot\]'") as missing:
        History(RESULTS).plot()
    assert isinstance(missing.value, ImportError)


# --- HTML --------------------------------------------------------------------------------------


def test_the_table_of_epochs() -> None:
    assert Page(History(RESULTS)._repr_html_()).rows == [
        ["epoch", "seconds", "loss", "accuracy", "val_loss", "val_accuracy"],
        ["1", "1.2", "0.7000", "0.5000", "0.6500", "0.6250"],
        ["2", "1.5", "0.4000", "0.7500", "0.4500", "0.8750"],
    ]
    assert Page(History(UNVALIDATED)._repr_html_()).rows == [
        ["epoch", "seconds", "loss", "accuracy"],
        ["1", "–", "0.7000", "0.5000"],
    ]


def test_of_many_epochs_the_first_and_last_are_shown() -> None:
    many = History(EpochResult(i, 0.1, 0.2, 0.3, None, None) for i in range(1, 10_001))
    rows = Page(many._repr_html_()).rows[1:]
    assert [row[0] for row in rows] == [
        *map(str, range(1, 26)),
        "9,950 more",
        *map(str, range(9_976, 10_001)),
    ]


def test_an_unfitted_classifier_shows_what_was_changed() -> None:
    assert Page(TextClassifier()._repr_html_()).rows == []
    shown = TextClassifier(cell="lstm", class_weight={"<b>": 2.0})._repr_html_()
    assert Page(shown).rows == [["cell", "'lstm'"], ["class_weight", "{'<b>': 2.0}"]]
    assert "<b>" not in shown


def test_a_fitted_one_shows_labels_size_and_epochs() -> None:
    classifier = make(epochs=2).fit(TEXTS, LABELS)
    rows = dict(row for row in Page(classifier._repr_html_()).rows if len(row) == 2)
    assert {name: rows[name] for name in OPTIONS} == {
        name: repr(value) for name, value in (OPTIONS | {"epochs": 2}).items()
    }
    weights = sum(value.size for value in classifier.model_.parameters.values())
    assert rows["labels"] == "'neg', 'pos'"
    assert rows["size"] == f"{weights:,} weights, 0.0 MB"
    assert weights == 22 * 7 + 7 * 27 + 9 * 27 + 2 * 27 + 9 + 1
    assert Page(classifier._repr_html_()).rows[-2:] == [
        Page(History([result])._repr_html_()).rows[1] for result in classifier.history_
    ]


def test_labels_are_escaped_and_few() -> None:
    labels = [f"<script>alert({i})</script> & \"'$" for i in range(25)] * 2
    classifier = make(epochs=1).fit([f"word{i}" for i in range(50)], labels)
    shown = classifier._repr_html_()
    assert "<script>" not in shown
    (cell,) = (row[1] for row in Page(shown).rows if row[0] == "labels")
    assert cell.startswith("'<script>alert(0)</script> & \"\\'$'")
    assert cell.endswith("and 5 more")
    assert " … " in cell
    assert len(cell) == 200


def test_arguments_of_any_kind_are_shown() -> None:
    strange = TextClassifier(epochs=np.arange(3), cell="<i>" * 1000)  # type: ignore[arg-type]
    rows = dict(Page(strange._repr_html_()).rows)
    assert rows["epochs"] == "array([0, 1, 2])"
    assert len(rows["cell"]) == 200


def test_an_encoder_shows_its_features() -> None:
    assert Page(GRUEncoder(layers=2)._repr_html_()).rows == [["layers", "2"]]
    classifier = make(epochs=1, bidirectional=True).fit(TEXTS, LABELS)
    rows = [row[:2] for row in Page(GRUEncoder.from_classifier(classifier)._repr_html_()).rows]
    assert ["features", "18"] in rows
    assert ["labels", "'neg', 'pos'"] in rows
