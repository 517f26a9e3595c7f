"""The command line with several labels a text, and with thresholds."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from test_calibration import noisy
from test_estimator import make as make_one
from test_targets import HELD, HELD_LABELS, HELD_TABLE, LABELS, TEXTS, make
from tidegate import TextClassifier, ops
from tidegate.cli import main
from tidegate.cli.labels import split_labels

TRAINING = (
    *("--hidden-size", "9", "--embedding-size", "8", "--max-length", "16", "--batch-size", "16"),
    *("--learning-rate", "0.02", "--threads", "1", "--epochs", "8"),
)


@pytest.fixture(autouse=True)
def one_thread(restored_threads: None) -> None:
    ops.set_threads(1)


def write(path: Path, texts: Sequence[str], labels: Sequence[Sequence[str]], mark: str) -> Path:
    """A table; a cell of nothing but the mark is of a text without labels."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["text", "labels"])
        rows.writerows(
            [text, f" {mark} ".join(held) or mark] for text, held in zip(texts, labels, strict=True)
        )
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labels")
    make().fit(TEXTS, LABELS).save(folder / "model.safetensors")
    write(folder / "train.csv", TEXTS, LABELS, ";")
    write(folder / "held_out.csv", HELD, HELD_LABELS, ";")
    write(folder / "bars.csv", HELD, HELD_LABELS, "|")
    return folder


@pytest.fixture(autouse=True)
def inside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def test_cells_are_split() -> None:
    cells = ["a; b", "b", " ;a;;a ", ";"]
    assert split_labels(cells, ";") == [["a", "b"], ["b"], ["a"], []]
    assert split_labels(cells, None) is cells
    assert split_labels(["a and b"], "and") == [["a", "b"]]


def test_train_and_evaluate_several(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["train", "train.csv", "-o", "own.safetensors", "--label-separator", ";", *TRAINING]
    assert run(*command, "--test", "held_out.csv", "--report", "t.json") == 0
    printed = capsys.readouterr().out
    classifier = TextClassifier.load("own.safetensors")
    assert classifier.classes_.tolist() == ["fun", "sad", "war"]
    assert classifier.model_.config.targets == "many"
    expected = classifier.report(HELD, HELD_TABLE)
    assert f"test accuracy {expected.accuracy:.4f} (120 texts" in printed
    assert json.loads(Path("t.json").read_text())["test"]["accuracy"] == expected.accuracy
    for name, mark in (("held_out.csv", ";"), ("bars.csv", "|")):
        options = ["--label-separator", mark, "--report", "e.json"]
        assert run("evaluate", "own.safetensors", name, *options) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[1].startswith(f"accuracy {expected.accuracy:.4f}  loss {expected.loss:.4f}  (")
        assert lines[4].split() == ["label", "texts", "precision", "recall", "f1"]
        fun = expected.classes[0]
        assert lines[5].split() == [
            *("fun", str(fun.texts)),
            *(f"{value:.4f}" for value in (fun.precision, fun.recall, fun.f1)),
        ]
        assert len(lines) == 8  # no confusion matrix
        told = json.loads(Path("e.json").read_text())["test"]
        assert told["f1_macro"] == pytest.approx(expected.f1_macro)
        assert told["auc_interval"] == pytest.approx(list(expected.auc_interval or ()))
        assert told["confusion"] is None


def test_predict_names_all_labels(capsys: pytest.CaptureFixture[str]) -> None:
    texts = ["a hilarious tragic story", "soldiers", "the film had music"]
    model = TextClassifier.load("model.safetensors")
    rows = model.predict_proba(texts)
    sure = np.where(rows > 0.5, rows, 1 - rows).prod(axis=1)
    names = ["fun;sad", "war", ""]
    assert run("predict", "model.safetensors", *texts) == 0
    expected = [f"{name}\t{right:.6f}" for name, right in zip(names, sure, strict=True)]
    assert capsys.readouterr().out.splitlines() == expected
    assert run("predict", "model.safetensors", "--json", *texts) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [answer["labels"] for answer in told] == [["fun", "sad"], ["war"], []]
    assert [answer["probability"] for answer in told] == pytest.approx(sure.tolist())
    assert told[0]["probabilities"] == dict(zip(("fun", "sad", "war"), rows[0], strict=True))
    assert "label" not in told[0]
    assert run("predict", "model.safetensors", "-i", "held_out.csv", "-o", "judged.csv") == 0
    judged = list(csv.DictReader(io.StringIO(Path("judged.csv").read_text())))
    named = model.predict_labels([row["text"] for row in judged])
    assert [row["label"] for row in judged] == [";".join(held) for held in named]
    assert all(0 < float(row["probability"]) <= 1 for row in judged)


@pytest.mark.parametrize("json_too", [False, True])
def test_predict_uses_the_threshold(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], json_too: bool
) -> None:
    texts, labels = noisy(200, 0)
    classifier = make_one(epochs=2).fit(texts, labels)
    rows = classifier.predict_proba(texts[:30])
    classifier.thresholds_ = np.array([float(np.quantile(rows[:, 1], 0.8))])
    classifier.save(tmp_path / "model")
    said = classifier.predict(texts[:30]).tolist()
    assert 0 < said.count("pos") < 10
    assert said != classifier.classes_[rows.argmax(axis=1)].tolist()
    expected = [row[("neg", "pos").index(one)] for one, row in zip(said, rows, strict=True)]
    assert run("predict", tmp_path / "model", *(["--json"] if json_too else []), *texts[:30]) == 0
    lines = capsys.readouterr().out.splitlines()
    if json_too:
        told = [json.loads(line) for line in lines]
        assert [answer["label"] for answer in told] == said
        assert [answer["probability"] for answer in told] == expected
    else:
        assert lines == [f"{one}\t{p:.6f}" for one, p in zip(said, expected, strict=True)]


def test_predict_writes_the_mark_that_it_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    texts = ("a hilarious tragic story", "soldiers", "the film had music")
    assert run("predict", "model.safetensors", *texts, "--label-separator", " | ") == 0
    printed = [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()]
    assert run("predict", "model.safetensors", *texts, "--json") == 0
    named = [json.loads(line)["labels"] for line in capsys.readouterr().out.splitlines()]
    assert printed == [" | ".join(held) for held in named]
    assert [len(held) for held in named] == [2, 1, 0]
    Path("new.csv").write_text("text\n" + "\n".join(texts) + "\n", encoding="utf-8")
    command = ("predict", "model.safetensors", "--input", "new.csv", "--output", "out.csv")
    assert run(*command, "--label-separator", "|") == 0
    cells = [line.split(",")[1] for line in Path("out.csv").read_text().splitlines()[1:]]
    assert cells == ["|".join(held) for held in named]
    assert run("evaluate", "model.safetensors", "out.csv", "--label-separator", "|") == 0
    assert "accuracy 1.0000" in capsys.readouterr().out


def test_info_tells_of_factors_thresholds_and_several_labels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    classifier = TextClassifier.load("model.safetensors")
    thresholds = classifier.tune_threshold(HELD, HELD_LABELS)
    classifier.save(tmp_path / "model")
    assert run("info", tmp_path / "model") == 0
    told = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines())
    assert told["classes"] == "3: fun, sad, war; a text may have several"
    assert told["calibrated"] == f"logits are multiplied by {classifier.mix_[0]:.4f}"
    fun, sad, war = (f"{value:.4f}" for value in thresholds)
    assert told["thresholds"] == f"fun from {fun} on, sad from {sad} on, war from {war} on"
    assert run("info", tmp_path / "model", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["calibration"] == classifier.mix_[0]
    assert facts["thresholds"] == thresholds.tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["evaluate", "model.safetensors", "held_out.csv"],
            "or say by --label-separator what stands between several",
        ),
        (
            ["evaluate", "model.safetensors", "held_out.csv", "--label-separator", "|"],
            "has labels that the model does not know: ';', 'fun ; sad'",
        ),
        (
            ["evaluate", "one.safetensors", "held_out.csv", "--label-separator", ";"],
            "--label-separator ';' is for models of several labels a text, and this one says one",
        ),
        (
            ["predict", "model.safetensors", "a", "--label-separator", "u"],
            "the model's label 'fun' has 'u' in it",
        ),
        (
            ["predict", "model.safetensors", "a", "--label-separator", " "],
            "--label-separator=' ' is blank",
        ),
        (
            ["predict", "model.safetensors", "a", "--label-separator", "|", "--json"],
            "--json lists the labels of a text: leave out --label-separator",
        ),
        (
            ["predict", "one.safetensors", "soldiers", "--label-separator", "|"],
            "--label-separator '|' is for models of several labels a text, and this one says one",
        ),
        (
            ["train", "train.csv", "-o", "x", "--label-separator", " "],
            "--label-separator=' ' is blank",
        ),
        (
            ["train", "imdb", "-o", "x", "--label-separator", ";"],
            "--label-separator=';': imdb has one label a text; leave it out",
        ),
    ],
)
def test_what_is_refused_in_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if not Path("one.safetensors").exists():
        texts, labels = noisy(40, 0)
        make_one(epochs=1).fit(texts, labels).save("one.safetensors")
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_mark_that_stands_nowhere_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", "bars.csv", *TRAINING, "--label-separator", ";", "-o", "bars") == 2
    error = capsys.readouterr().err
    assert "--label-separator=';' stands in none of the labels, such as" in error
    assert error.count("\n") == 1
    assert not Path("bars").exists()
