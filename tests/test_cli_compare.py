"""``tidegate compare``: files in, tables and pages out; stopped and gone on with."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from test_compare import corpus
from tidegate import TextClassifier, ops
from tidegate.cli import main

SMALL = (
    *("--set", "hidden_size=4", "--set", "embedding_size=3", "--set", "max_length=24"),
    *("--set", "batch_size=16", "--epochs", "1", "--threads", "1"),
)


@pytest.fixture(autouse=True)
def one_thread(restored_threads: None) -> None:
    ops.set_threads(1)


@pytest.fixture(autouse=True)
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, count, seed in (("train.csv", 100, 1), ("held.csv", 40, 2)):
        part = corpus(count, ["good", "bad"], seed)
        rows = [f"{t},{label}\n" for t, label in zip(part.texts, part.labels, strict=True)]
        (tmp_path / name).write_text("text,label\n" + "".join(rows), encoding="utf-8")
    monkeypatch.chdir(tmp_path)


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def test_files_come_whole_and_agree(capsys: pytest.CaptureFixture[str]) -> None:
    command = ("compare", "train.csv", "--cells", "gru, linear", "--seeds", 1, *SMALL)
    outputs = ("--report", "c.json", "--markdown", "c.md", "--html", "c.html")
    assert run(*command, *outputs) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    printed = captured.out.splitlines()
    assert printed[0].startswith("data: train.csv (")
    described = "64 training, 16 validation and 20 test texts; 2 runs: gru, linear, 1 seed"
    assert printed[1] == described
    assert printed[2] == "looking for deciding words with a linear model of 64 training texts"
    assert printed[3].startswith("1/2  gru seed 0  epoch 1/1  ")
    assert printed[4].startswith("2/2  linear seed 0  ")
    assert printed[5].split()[:3] == ["model", "gates", "state"]
    assert any(line.startswith("Take the ") for line in printed)
    assert printed[-3:] == ["c.json", "c.md", "c.html"]
    report = json.loads(Path("c.json").read_text(encoding="utf-8"))
    assert list(report)[:2] == ["tidegate", "source"]
    assert report["source"]["name"] == "train.csv"
    assert report["texts"]["test"] == 20
    share = f"{100 * report['models'][0]['test']['accuracy']:.2f}"
    assert share in Path("c.md").read_text(encoding="utf-8")
    assert share in Path("c.html").read_text(encoding="utf-8")
    assert sorted(os.listdir()) == ["c.html", "c.json", "c.md", "held.csv", "train.csv"]


def test_the_same_split_and_model_as_train(capsys: pytest.CaptureFixture[str]) -> None:
    """With texts of their own to test on, and the preset that the command line takes for files."""
    options = ("--cells", "lstm", "--seeds", 1, "--seed", 5, "--test", "held.csv", "-q")
    assert run("compare", "train.csv", *options, *SMALL, "--report", "c.json") == 0
    assert capsys.readouterr().out == ""
    report = json.loads(Path("c.json").read_text(encoding="utf-8"))
    train = ("--cell", "lstm", "--ngrams", 0, "--seed", 5, "--test", "held.csv", "-q")
    assert run("train", "train.csv", *train, *SMALL, "-o", "m", "--report", "t.json") == 0
    trained = json.loads(Path("t.json").read_text(encoding="utf-8"))
    (row,) = report["models"]
    assert row["test"]["accuracy"] == trained["test"]["accuracy"]
    assert row["seeds"][0]["epochs"][0]["val_loss"] == trained["epochs"][0]["val_loss"]
    assert row["file_bytes"] == Path("m").stat().st_size
    assert TextClassifier.load("m").model_.config.bidirectional


def test_the_command_that_is_told_trains_what_is_recommended(
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = ("--cells", "gru-before", "--seeds", 1, "--test", "held.csv", "--preset", "fast")
    assert run("compare", "train.csv", *options, *SMALL, "--report", "c.json") == 0
    (command,) = re.findall(r"^`tidegate (.*)` trains it\.$", capsys.readouterr().out, re.MULTILINE)
    own = shlex.split(command.replace("SOURCE", "train.csv"))
    assert run(*own, "--test", "held.csv", "-o", "m", "--report", "t.json") == 0
    compared, trained = (json.loads(Path(name).read_text()) for name in ("c.json", "t.json"))
    (row,) = compared["models"]
    assert row["test"]["accuracy"] == trained["test"]["accuracy"]
    assert row["seeds"][0]["epochs"][0]["val_loss"] == trained["epochs"][0]["val_loss"]
    assert trained["config"]["reset"] == "before"


def test_several_labels_and_texts_to_choose_by(capsys: pytest.CaptureFixture[str]) -> None:
    for name, count in (("many.csv", 100), ("choose.csv", 40)):
        rows = [
            f"{'lovely' * (i % 2)} {'dull' * (i % 3 > 0)} text,{'a' * (i % 2)};{'b' * (i % 3 > 0)}"
            for i in range(count)
        ]
        Path(name).write_text("text,labels\n" + "\n".join(rows) + "\n", encoding="utf-8")
    command = ("compare", "many.csv", "--label-separator", ";", "--validation", "choose.csv")
    options = ("--cells", "rnn,linear", "--seeds", 1, "--test", "0.3", "--report", "c.json")
    assert run(*command, *options, *SMALL) == 0
    report = json.loads(Path("c.json").read_text(encoding="utf-8"))
    assert report["texts"] == {
        **{"train": 70, "validation": 40, "validation_shared": True, "test": 30},
        "guessing": 0.3,
    }
    assert report["models"][1]["test"]["accuracy"] == 1.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--cells", "gru,transformer"), "--cells='transformer' is not one of gru, gru-before"),
        (("--cells", "gru", "--seeds", "0"), "--seeds=0 is not between 1 and"),
        (("--seeds", "three"), "'three' is not a whole number"),
        (("--budget", "5", "--epochs", "2"), "both a budget and epochs are given"),
        (("--set", "cell=lstm"), "cell is what a comparison decides by itself"),
        (("--set", "hidden=3"), "hidden"),
        (("--test", "1.5"), "--test=1.5 is neither a file nor a share"),
        (("--html", "c.json", "--report", "c.json"), "are the same file"),
        (("--html", "no/such/folder.html"), "create the folder first"),
        (("--label-separator", ";"), "stands in none of the labels"),
    ],
)
def test_what_can_be_mended_is_told_in_a_line(
    options: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("compare", "train.csv", *options) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert sorted(os.listdir()) == ["held.csv", "train.csv"]


def test_imdb_has_a_test_set_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("compare", "imdb", "--test", "0.5") == 2
    assert "imdb has a test set of its own" in capsys.readouterr().err


@pytest.mark.parametrize("document", ["README.md", "docs/comparing.md"])
def test_the_documents_commands_run(document: str) -> None:
    text = (Path(__file__).parent.parent / document).read_text(encoding="utf-8")
    Path("train.csv").rename("reviews.csv")
    (command,) = re.findall(r"^tidegate (compare reviews\.csv.*)$", text, flags=re.MULTILINE)
    assert run(*shlex.split(command), *SMALL, "--cells", "rnn", "--seeds", "1") == 0


def test_the_documents_snippet_runs(capsys: pytest.CaptureFixture[str]) -> None:
    text = (Path(__file__).parent.parent / "docs" / "comparing.md").read_text(encoding="utf-8")
    (snippet,) = re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    part = corpus(60, ["good", "bad"], 1)
    names: dict[str, object] = {"texts": part.texts, "labels": part.labels}
    exec(snippet.replace("seeds=3", "seeds=1"), names)  # noqa: S102 (our own file)
    assert capsys.readouterr().out.startswith("# Comparison")
    assert Path("comparison.html").read_text(encoding="utf-8").endswith("</html>\n")


def test_stopped_and_gone_on_with(capfd: pytest.CaptureFixture[str]) -> None:
    command = ["compare", "train.csv", "--cells", "rnn,linear", "--seeds", "3", *SMALL]
    begun = subprocess.Popen([sys.executable, "-m", "tidegate", *command])
    work = Path("comparison.work.json")
    limit = time.monotonic() + 60
    while not work.exists() and time.monotonic() < limit:
        time.sleep(0.01)
    begun.send_signal(signal.SIGINT)
    assert begun.wait(60) == 128 + signal.SIGINT
    captured = capfd.readouterr()
    assert "finished runs are kept in comparison.work.json: go on with --resume" in captured.err
    kept = len(json.loads(work.read_text(encoding="utf-8"))["runs"])
    assert 1 <= kept < 6
    assert run(*command) == 2
    assert "go on from it with --resume, or begin anew with --force" in capfd.readouterr().err
    assert run(*command, "--resume", "--seeds", "2") == 2
    assert "differs in plan" in capfd.readouterr().err
    assert run(*command, "--resume", "--report", "c.json") == 0
    captured = capfd.readouterr()
    assert captured.out.count("(kept)") == kept
    assert not work.exists()
    report = json.loads(Path("c.json").read_text(encoding="utf-8"))
    assert [len(row["seeds"]) for row in report["models"]] == [3, 3]
    work.write_text("old", encoding="utf-8")
    assert run("compare", "train.csv", "--cells", "rnn", "--seeds", 1, *SMALL, "--force") == 0
