"""The command line as a user meets it: what it prints, where, and with which exit status."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import itertools
import json
import os
import random
import re
import select
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate import TextClassifier, __version__, data, storage
from tidegate.cli import main, measures, progress, terminal
from tidegate.data import lines
from tidegate.data.compressed import Checked
from tidegate.errors import DataError
from tidegate.training import StepResult

SMALL = (
    *("--hidden-size", "16", "--embedding-size", "12", "--vocabulary-size", "60"),
    *("--max-length", "20", "--batch-size", "8", "--learning-rate", "0.01", "--threads", "1"),
)
GOOD = ("superb", "lovely", "great")
BAD = ("dreadful", "dull", "poor")
FILLER = ("the", "film", "had", "a", "story", "and", "actors", "with", "music", "in", "scenes")


def reviews(count: int, seed: int = 5) -> tuple[list[str], list[str]]:
    """Texts whose label one word decides."""
    choose = random.Random(seed)  # noqa: S311  # reproducible, not secret
    texts, labels = [], []
    for i in range(count):
        words = choose.choices(FILLER, k=choose.randint(3, 12))
        words.insert(choose.randrange(len(words)), choose.choice(GOOD if i % 2 else BAD))
        texts.append(" ".join(words))
        labels.append("pos" if i % 2 else "neg")
    return texts, labels


def write_table(path: Path, texts: Sequence[str], labels: Sequence[str]) -> Path:
    with open(path, "w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["text", "label"])
        rows.writerows(zip(texts, labels, strict=True))
    return path


def environment() -> dict[str, str]:
    """Ours, without what would change the results or where the child finds its data."""
    dropped = {"TIDEGATE_DEBUG", "TIDEGATE_DATA", "TIDEGATE_THREADS", "COLUMNS"}
    return {name: value for name, value in os.environ.items() if name not in dropped}


def tidegate(
    *arguments: object,
    folder: Path,
    text: str | bytes = b"",
    stdout: int | IO[bytes] = subprocess.PIPE,
    file_size: int | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run the command as a process in ``folder``.

    text: its standard input. file_size: the bytes that a file of its may grow to, as on a disk
    that fills up while something is written.
    """
    start = ["-m", "tidegate"]
    if file_size is not None:
        limit = f"resource.setrlimit(resource.RLIMIT_FSIZE, ({file_size}, {file_size}))"
        run = "sys.exit(tidegate.cli.main())"
        start = ["-c", f"import resource, sys, tidegate.cli; {limit}; {run}"]
    done = subprocess.run(
        [sys.executable, *start, *map(str, arguments)],
        input=text.encode() if isinstance(text, str) else text,
        stdout=stdout,
        stderr=subprocess.PIPE,
        cwd=folder,
        env=environment(),
        timeout=60,
        check=False,
    )
    return subprocess.CompletedProcess(
        done.args, done.returncode, (done.stdout or b"").decode(), done.stderr.decode()
    )


def predicting(folder: Path, model: str) -> subprocess.Popen[bytes]:
    """``tidegate predict`` as a process that awaits lines."""
    return subprocess.Popen(
        [sys.executable, "-m", "tidegate", "predict", model],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=folder,
        env=environment(),
    )


def ask(process: subprocess.Popen[bytes], text: str) -> bytes:
    """Give the process a line, and get its answer while it waits for the next one."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(text.encode() + b"\n")
    process.stdin.flush()
    assert select.select([process.stdout], [], [], 60)[0], "no answer before the end of input"
    return process.stdout.readline()


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file below ``folder``, hidden ones too, and its bytes."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def assert_refused(status: int, error: str, *needles: str) -> None:
    """Exit status 2 and one line of tidegate's that holds ``needles``."""
    assert status == 2, error
    assert error.startswith("tidegate: error: ")
    assert error.endswith("\n")
    assert error.count("\n") == 1, error
    assert "Traceback" not in error
    for needle in needles:
        assert needle in error


def train_small(factory: pytest.TempPathFactory) -> Path:
    """A model file of 60 reviews, in a folder of its own."""
    folder = factory.mktemp("model")
    write_table(folder / "reviews.csv", *reviews(60))
    done = tidegate("train", "reviews.csv", *SMALL, "--epochs", 15, "-q", folder=folder)
    assert done.returncode == 0, done.stderr
    return folder / "model.safetensors"


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 60 short reviews that knows its words well."""
    folder = tmp_path_factory.mktemp("trained")
    write_table(folder / "reviews.csv", *reviews(60))
    done = tidegate(
        "train", "reviews.csv", *SMALL, "--epochs", 15, "-o", "model.safetensors", folder=folder
    )
    assert done.returncode == 0, done.stderr
    return folder / "model.safetensors"


@pytest.fixture(scope="session")
def classifier(trained: Path) -> TextClassifier:
    return TextClassifier.load(trained)


@pytest.fixture
def folder(tmp_path: Path, trained: Path) -> Path:
    """A folder of the test's own with the trained model and its table."""
    for name in ("model.safetensors", "reviews.csv"):
        (tmp_path / name).write_bytes((trained.parent / name).read_bytes())
    return tmp_path


# Usage and help


def test_version(tmp_path: Path) -> None:
    done = tidegate("--version", folder=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"tidegate {__version__}\n", "")


@pytest.mark.parametrize(
    "command",
    [[], ["train"], ["evaluate"], ["predict"], ["info"], ["import"], ["export"], ["serve"]],
)
def test_help_has_an_example(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "--help"]) == 0
    help_text = capsys.readouterr().out
    example = f"    tidegate {' '.join(command)}".rstrip()
    assert "  Example:\n" in help_text
    assert example in help_text.split("Example:")[1].split("\n\n")[0]


def test_no_command_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "predict   Print the label of each text" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "needles"),
    [
        (["trian"], ["'trian'", "'train'", "tidegate --help"]),
        (["train", "imdb", "--epoch", "2"], ["--epoch ", "--epochs", "tidegate train --help"]),
        (["train", "imdb", "--epochs", "three"], ["'--epochs'", "'three'", "whole number"]),
        (["train", "imdb", "--validation", "nan"], ["'--validation'", "'nan'", "finite"]),
        (["train", "imdb", "--learning-rate", "fast"], ["'--learning-rate'", "'fast'"]),
        (["train"], ["'SOURCE'", "tidegate train --help"]),
        (["predict"], ["'MODEL'", "tidegate predict --help"]),
        (["info", "a", "b"], ["b", "tidegate info --help"]),
    ],
)
def test_usage_errors_are_one_line(
    arguments: list[str], needles: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert_refused(main(arguments), capsys.readouterr().err, *needles)


# Train

EPOCH_LINE = re.compile(
    r"epoch (\d)/(\d)  (\d+\.\d) s  loss (\d\.\d{4})  accuracy ([01]\.\d{4})"
    r"  val_loss (\d\.\d{4})  val_accuracy ([01]\.\d{4})"
)


def test_train_prints_plain_lines_and_writes_model_and_report(folder: Path) -> None:
    done = tidegate(
        *("train", "reviews.csv", *SMALL, "--epochs", 2, "--seed", 3),
        *("-o", "new.safetensors", "--report", "report.json"),
        folder=folder,
    )
    assert (done.returncode, done.stderr) == (0, "")
    printed = done.stdout.splitlines()
    assert printed[0] == "data: reviews.csv (" + printed[0].split(" (", 1)[1]
    assert "text column 'text'" in printed[0]
    assert printed[1] == "48 training and 12 validation texts"
    assert printed[2] == "labels: 30 neg, 30 pos"
    assert printed[3].startswith("tokens: half of the texts have up to ")
    assert printed[4].startswith("note: 12 validation texts: their accuracy is good to 0.28 either")
    del printed[4]
    epochs = [EPOCH_LINE.fullmatch(line) for line in printed[4:6]]
    model = (folder / "new.safetensors").read_bytes()
    sha256 = hashlib.sha256(model).hexdigest()
    assert printed[6].startswith("with n-grams  val_loss ")
    assert printed[7] == f"new.safetensors  {len(model) / 1e3:.1f} kB  sha256 {sha256}"
    assert printed[8] == 'tidegate predict new.safetensors "..."'
    assert len(printed) == 9
    assert set(snapshot(folder)) == {
        *("model.safetensors", "reviews.csv", "new.safetensors", "report.json")
    }

    report = json.loads((folder / "report.json").read_text())
    assert report["tidegate"] == __version__
    assert report["source"]["name"] == "reviews.csv"
    assert printed[0] == f"data: {report['source']['origin']}"
    assert [report["source"][part] for part in ("train", "validation", "test")] == [48, 12, 0]
    assert report["config"]["hidden_size"] == 16
    # What really ran, and not what the options left open.
    assert report["config"]["epochs"] == 2
    config = TextClassifier.load(folder / "new.safetensors").model_.config
    assert report["config"]["vocabulary_size"] == config.vocabulary_size < 60
    assert report["config"]["precision"] == "float32"
    assert report["config"]["threads"] == 1
    assert report["config"]["random_state"] == 3
    assert report["machine"]["threads"] == 1
    assert report["machine"]["precision"] == "float32"
    assert report["test"] is None
    assert report["model"] == "new.safetensors"
    assert report["sha256"] == sha256
    assert 0 < sum(epoch["seconds"] for epoch in report["epochs"]) < report["seconds"]
    for number, (line, epoch) in enumerate(zip(epochs, report["epochs"], strict=True), 1):
        assert line is not None
        assert epoch["epoch"] == number
        assert list(line.groups()) == [
            str(number),
            "2",
            f"{epoch['seconds']:.1f}",
            f"{epoch['loss']:.4f}",
            f"{epoch['accuracy']:.4f}",
            f"{epoch['val_loss']:.4f}",
            f"{epoch['val_accuracy']:.4f}",
        ]


def test_quiet_training_prints_nothing_and_gives_the_same_file(folder: Path) -> None:
    command = ("train", "reviews.csv", *SMALL, "--epochs", "15", "--quiet", "-o")
    done = tidegate(*command, "again.safetensors", folder=folder)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    again = (folder / "again.safetensors").read_bytes()
    assert again == (folder / "model.safetensors").read_bytes()


def test_training_learns_what_the_words_say(folder: Path, classifier: TextClassifier) -> None:
    texts, labels = reviews(200, seed=8)
    assert classifier.score(texts, labels) > 0.95


def test_a_model_that_is_there_is_kept_unless_forced(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    before = snapshot(folder)
    command = ["train", "reviews.csv", *SMALL, "--epochs", "1", "--quiet"]
    assert_refused(main(command), capsys.readouterr().err, "'model.safetensors'", "--force")
    assert snapshot(folder) == before
    assert main([*command, "--force"]) == 0
    assert (folder / "model.safetensors").read_bytes() != before["model.safetensors"]
    assert set(snapshot(folder)) == set(before)


def test_the_test_set_is_measured_and_reported(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    training, test = data.LabeledTexts(*reviews(40)), data.LabeledTexts(*reviews(30, seed=9))

    def load(source: str, **options: object) -> data.Dataset:
        assert source == "imdb"
        return data.Dataset("imdb", "forty reviews of a test", training, test)

    monkeypatch.setattr(data, "load", load)
    monkeypatch.chdir(folder)
    command = ["train", "imdb", *SMALL, "--epochs", "3", "--force", "--report", "r.json"]
    assert main(command) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "data: forty reviews of a test"
    assert printed[1] == "32 training, 8 validation and 30 test texts"
    model = TextClassifier.load(Path("model.safetensors"))
    accuracy = model.score(test.texts, test.labels)
    assert re.fullmatch(rf"test accuracy {accuracy:.4f} \(30 texts, \d+\.\d s\)", printed[-3])
    assert printed[-2].startswith("model.safetensors  ")
    report = json.loads(Path("r.json").read_text())
    assert report["source"] == {
        "name": "imdb",
        "origin": "forty reviews of a test",
        "train": 32,
        "validation": 8,
        "test": 30,
        "readings": [],
    }
    assert report["test"]["accuracy"] == accuracy
    assert report["test"]["loss"] == pytest.approx(model.evaluate(*vars(test).values()).loss)
    # the lecture's job is the default for imdb: padding counts
    assert report["config"]["masked"] is False

    assert main(["evaluate", "model.safetensors", "imdb"]) == 0
    assert f"accuracy {accuracy:.4f}  loss " in capsys.readouterr().out


def test_a_quantised_training_measures_the_file_that_it_wrote(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    training, test = data.LabeledTexts(*reviews(40)), data.LabeledTexts(*reviews(30, seed=9))

    def load(source: str, **options: object) -> data.Dataset:
        return data.Dataset("imdb", "forty reviews of a test", training, test)

    monkeypatch.setattr(data, "load", load)
    monkeypatch.chdir(folder)
    command = ["train", "imdb", *SMALL, "--epochs", "3", "--report", "r.json", "--force", "-o"]
    assert main([*command, "wide.safetensors"]) == 0
    wide = json.loads(Path("r.json").read_text())
    assert main([*command, "small.safetensors", "--quantize", "int8"]) == 0
    small = json.loads(Path("r.json").read_text())
    assert (wide["quantization"], small["quantization"]) == (None, "int8")
    for report, name in ((wide, "wide.safetensors"), (small, "small.safetensors")):
        measured = TextClassifier.load(name).evaluate(*vars(test).values())
        assert report["sha256"] == storage.read_stored(Path(name)).sha256
        assert report["test"]["loss"] == measured.loss
        assert report["test"]["accuracy"] == measured.accuracy
    # The training is the same, what was saved is not.
    for wide_epoch, epoch in zip(wide["epochs"], small["epochs"], strict=True):
        assert {**wide_epoch, "seconds": 0} == {**epoch, "seconds": 0}
    assert small["test"]["loss"] == pytest.approx(wide["test"]["loss"], rel=0.01)
    assert small["test"]["loss"] != wide["test"]["loss"]

    capsys.readouterr()
    for name, quantization in (("small", "int8"), ("wide", None)):
        assert main(["info", f"{name}.safetensors"]) == 0
        lines = capsys.readouterr().out.splitlines()
        shown = [line for line in lines if line.startswith("quantised")]
        told = "quantised   int8, after the epochs below; computed in float32"
        assert shown == ([] if quantization is None else [told])
        assert main(["info", f"{name}.safetensors", "--json"]) == 0
        facts = json.loads(capsys.readouterr().out)
        assert facts["quantization"] == quantization
        assert facts["bytes"] == Path(f"{name}.safetensors").stat().st_size


ARGUMENTS = len(TextClassifier().get_params())


def train_here(*arguments: str) -> list[str]:
    return ["train", "reviews.csv", *SMALL, "--quiet", "-o", "new.safetensors", *arguments]


@pytest.mark.parametrize(
    ("arguments", "needles"),
    [
        (train_here("--epochs", "0"), ["--epochs=0", "between 1 and"]),
        (train_here("--hidden-size", "-4"), ["--hidden-size=-4"]),
        (train_here("--embedding-size", "0"), ["--embedding-size=0"]),
        (train_here("--vocabulary-size", "-1"), ["--vocabulary-size=-1"]),
        (train_here("--max-length", "0"), ["--max-length=0"]),
        (train_here("--batch-size", "-8"), ["--batch-size=-8"]),
        (train_here("--threads", "0"), ["--threads=0"]),
        (train_here("--learning-rate", "-0.5"), ["--learning-rate=-0.5"]),
        (train_here("--clip-norm", "-1"), ["--clip-norm=-1"]),
        (train_here("--validation", "1.5"), ["--validation=1.5"]),
        (train_here("--cell", "gruu"), ["cell", "'gruu'", "lstm", "did you mean 'gru'"]),
        (train_here("--reset", "befor"), ["reset", "'befor'", "did you mean 'before'"]),
        (train_here("--quantize", "int9"), ["--quantize='int9'", "did you mean 'int8'"]),
        (train_here("--preset", "lectur"), ["'lectur'", "did you mean 'lecture'"]),
        (
            train_here("--set", "hiden_size=3"),
            [f"--set 'hiden_size' is not one of the {ARGUMENTS} known ones; did you mean 'hidden"],
        ),
        (
            train_here("--set", "zzz=3"),
            [f"the {ARGUMENTS} known ones: cell, reset, tokenizer, vocabulary_size, embedding_siz"],
        ),
        (train_here("--text-column", "words"), ["'words'", "'text'"]),
        (train_here("--data", "x.tar.gz"), ["--data='x.tar.gz'"]),
        (train_here("--seed", "-1"), ["--seed=-1"]),
        (train_here("--seed", "\u0663"), ["'--seed'", "is not a whole number"]),
        (train_here("--seed", "1_0"), ["'--seed'", "'1_0' is not a whole number"]),
        (train_here("--learning-rate", "1_0"), ["'--learning-rate'", "'1_0' is not a number"]),
        (
            train_here("--force", "--output", "/dev/null"),
            ["Not a regular file; choose an ordinary"],
        ),
        (["train", "reviews.csv", "-o", "/dev/null"], ["Not a regular file; choose an ordinary"]),
        (["train", "semicolons.csv", "-o", "new"], ["or give delimiter (--delimiter ';')"]),
        (["train", "commas.tsv", "-o", "new"], ["one cell with ',' in it: put '\\t' between"]),
        (["predict", "model.safetensors", "-i", "bars.csv"], ["one cell with '|' in it"]),
        (["predict", "model.safetensors", "-i", "inf.jsonl"], ["line 2: not JSON (1e999 is too"]),
        (["train", "nowhere.csv", "-o", "new.safetensors"], ["'nowhere.csv'", "imdb"]),
        (["train", "empty.csv", "-o", "new.safetensors"], ["empty.csv", "empty"]),
        (["train", "header.csv", "-o", "new.safetensors"], ["header.csv", "no rows"]),
        (
            ["train", "one_class.csv", "-o", "new.safetensors"],
            ["one_class.csv", "'pos'", "at least 2"],
        ),
        (["train", "latin.csv", "-o", "new.safetensors"], ["latin.csv", "0xe9", "line 2", "UTF-8"]),
        (["train", "reviews.csv"], ["'model.safetensors'", "--force"]),
        (["train", "reviews.csv", "-o", "no/model.safetensors"], ["no/model", "create the folder"]),
        (["train", "reviews.csv", "-o", "reviews.csv", "--force"], ["'reviews.csv'", "SOURCE"]),
        (["train", "reviews.csv", "-o", ".", "--force"], ["'.'"]),
        (train_here("--report", "no/r.json"), ["no/r.json", "create the folder"]),
        (train_here("--report", "new.safetensors"), ["new.safetensors", "--report"]),
        (["evaluate", "model.safetensors", "nowhere.csv"], ["'nowhere.csv'"]),
        (["evaluate", "nowhere.safetensors", "reviews.csv"], ["'nowhere.safetensors'"]),
        (["evaluate", "model.safetensors", "other_labels.csv"], ["'meh'", "'neg', 'pos'"]),
        (["evaluate", "model.safetensors", "reviews.csv", "--report", "no/r"], ["no/r"]),
        (["predict", "nowhere.safetensors", "superb"], ["'nowhere.safetensors'", "path"]),
        (["predict", "reviews.csv", "superb"], ["'reviews.csv'", "tidegate"]),
        (["predict", "empty.csv", "superb"], ["'empty.csv'", "empty"]),
        (["predict", "model.safetensors", ""], ["text 1", "empty"]),
        (["predict", "model.safetensors", "superb", "\t "], ["text 2", "empty", "\\t"]),
        (["predict", "model.safetensors", "qwfp \x1b[31m"], ["text 1", "qwfp", "no word"]),
        (["predict", "model.safetensors", "superb", "--input", "reviews.csv"], ["TEXT", "--input"]),
        (["predict", "model.safetensors", "superb", "--output", "o.csv"], ["o.csv", "--input"]),
        (["predict", "model.safetensors", "--input", "nowhere.csv"], ["'nowhere.csv'"]),
        (["predict", "model.safetensors", "--input", "nowhere.txt"], ["'nowhere.txt'"]),
        (["predict", "model.safetensors", "--input", "empty.csv"], ["empty.csv", "empty"]),
        (["predict", "model.safetensors", "--input", "empty.txt"], ["empty.txt", "empty"]),
        (["predict", "model.safetensors", "--input", "latin.txt"], ["latin.txt", "line 2", "0xe9"]),
        (
            ["predict", "model.safetensors", "--input", "reviews.csv", "--output", "o.xlsx"],
            ["'o.xlsx'", ".jsonl"],
        ),
        (
            ["predict", "model.safetensors", "--input", "reviews.csv", "--output", "reviews.csv"],
            ["'reviews.csv'", "--output"],
        ),
        (
            ["predict", "model.safetensors", "--input", "reviews.csv", "--output", "no/o.csv"],
            ["no/o.csv", "create the folder"],
        ),
        (["info", "nowhere.safetensors"], ["'nowhere.safetensors'"]),
        (["info", "."], ["'.'"]),
    ],
    ids=lambda value: " ".join(value)[:90] if isinstance(value, list) else None,
)
def test_bad_input_is_one_line_and_leaves_nothing(
    arguments: list[str],
    needles: list[str],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (folder / "empty.csv").touch()
    (folder / "empty.txt").touch()
    (folder / "header.csv").write_text("text,label\n")
    (folder / "latin.csv").write_bytes(b"text,label\nun caf\xe9,pos\n")
    (folder / "latin.txt").write_bytes(b"superb\nun caf\xe9\n")
    (folder / "semicolons.csv").write_text("text;label\ngood, yes;pos\nbad; no;neg\n")
    (folder / "commas.tsv").write_text("text,label\ngood,pos\nbad,neg\n")
    (folder / "bars.csv").write_text("text|label\ngood|pos\nbad\n")
    (folder / "inf.jsonl").write_text('{"text": "superb"}\n{"text": "dull", "n": 1e999}\n')
    write_table(folder / "one_class.csv", ["superb", "lovely"], ["pos", "pos"])
    write_table(folder / "other_labels.csv", ["superb", "dull"], ["pos", "meh"])
    before = snapshot(folder)
    monkeypatch.chdir(folder)
    status = main(arguments)
    printed = capsys.readouterr()
    assert_refused(status, printed.err, *needles)
    assert printed.out == ""
    assert snapshot(folder) == before


@pytest.mark.parametrize(
    ("arguments", "text", "needles"),
    [
        (["train", "nowhere.csv", "-o", "new"], b"", ["'nowhere.csv'"]),
        (train_here("--epochs", "0"), b"", ["epochs", "0"]),
        (train_here("--cell", "gruu"), b"", ["'gruu'"]),
        (["predict", "model.safetensors"], b"", ["standard input is empty"]),
        (["predict", "model.safetensors"], b"superb\ncaf\xe9\n", ["line 2", "0xe9", "UTF-8"]),
        (["predict", "model.safetensors", ""], b"", ["text 1 is empty"]),
    ],
)
def test_bad_input_to_a_process(
    arguments: list[str], text: bytes, needles: list[str], folder: Path
) -> None:
    before = snapshot(folder)
    done = tidegate(*arguments, folder=folder, text=text)
    assert_refused(done.returncode, done.stderr, *needles)
    assert done.stdout == ""
    assert snapshot(folder) == before


def test_an_argument_that_is_not_utf8(folder: Path) -> None:
    done = tidegate("predict", "model.safetensors", os.fsdecode(b"caf\xe9"), folder=folder)
    assert_refused(done.returncode, done.stderr, "text 1", "UTF-8")


# Output that can't be written


def test_a_folder_that_is_read_only(folder: Path) -> None:
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        target = Path("/proc/model.safetensors")  # permissions don't stop root, but this does
        if not target.parent.is_dir():
            pytest.skip("no folder that root can't write to")
    else:
        target = folder / "locked" / "model.safetensors"
        target.parent.mkdir(mode=0o555)
    before = snapshot(folder)
    done = tidegate("train", "reviews.csv", *SMALL, "-o", target, folder=folder)
    assert_refused(done.returncode, done.stderr, str(target), "choose")
    assert done.stdout == ""
    assert snapshot(folder) == before


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on file sizes")
def test_a_disk_that_is_full_before_the_model_is_written(folder: Path) -> None:
    before = snapshot(folder)
    large = (*("--hidden-size", "64"), *("--embedding-size", "64"))
    done = tidegate(
        *("train", "reviews.csv", *large, "--epochs", 1, "-o", "new.safetensors"),
        folder=folder,
        file_size=16_384,
    )
    assert_refused(done.returncode, done.stderr, "safetensors", "disk")
    assert snapshot(folder) == before


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on file sizes")
def test_a_disk_that_is_full_before_the_table_is_written(folder: Path) -> None:
    write_table(folder / "long.csv", *reviews(1_000))
    before = snapshot(folder)
    done = tidegate(
        *("predict", "model.safetensors", "--input", "long.csv", "--output", "scored.csv"),
        folder=folder,
        file_size=16_384,
    )
    assert_refused(done.returncode, done.stderr, "'scored.csv'")
    assert snapshot(folder) == before


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
@pytest.mark.parametrize(
    "arguments",
    [
        ["--version"],
        ["info", "model.safetensors"],
        ["predict", "model.safetensors", "superb"],
        ["evaluate", "model.safetensors", "reviews.csv"],
    ],
)
def test_results_on_a_full_disk(arguments: list[str], folder: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = tidegate(*arguments, folder=folder, stdout=full)
    assert_refused(done.returncode, done.stderr, "standard output", "No space left", "free some")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_help_on_a_full_disk(folder: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = tidegate("train", "--help", folder=folder, stdout=full)
    assert_refused(done.returncode, done.stderr, "No space left", "disk")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX pipe")
def test_a_reader_that_goes_away_is_no_error(folder: Path) -> None:
    texts, _ = reviews(5_000)
    process = subprocess.Popen(
        [sys.executable, "-m", "tidegate", "predict", "model.safetensors", "--json"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=folder,
        env=environment(),
        bufsize=0,  # nothing is left to flush into the closed pipe
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdin.write(b"superb\n")
    assert json.loads(process.stdout.readline())["text"] == "superb"
    process.stdout.close()
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write("\n".join(texts).encode())
    process.stdin.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(60) == 141


# Damaged model files


def test_a_model_file_that_is_cut_anywhere(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    whole = (folder / "model.safetensors").read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")
    cut = folder / "cut.safetensors"
    for length in {0, 1, 7, 8, 9, start // 2, start - 1, start, start + 1, len(whole) - 1}:
        cut.write_bytes(whole[:length])
        for command in (["predict", "cut.safetensors", "superb"], ["info", "cut.safetensors"]):
            status = main(command)
            assert_refused(status, capsys.readouterr().err, "'cut.safetensors'", "; ")


def test_a_model_file_with_a_changed_header(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    whole = (folder / "model.safetensors").read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")
    for place in range(0, start, 29):
        changed = bytearray(whole)
        changed[place] ^= 4
        Path("changed.safetensors").write_bytes(changed)
        status = main(["predict", "changed.safetensors", "superb"])
        assert_refused(status, capsys.readouterr().err, "'changed.safetensors'", "; ")


# Predict


def test_predict_prints_label_and_probability(folder: Path, classifier: TextClassifier) -> None:
    texts = ["a superb film", "dull music in a film", "some lovely story"]
    done = tidegate("predict", "model.safetensors", *texts, folder=folder)
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert [label for label, _ in rows] == ["pos", "neg", "pos"]
    expected = classifier.predict_proba(texts).max(axis=1)
    assert [float(p) for _, p in rows] == pytest.approx(expected, abs=1e-6)
    assert all(re.fullmatch(r"[01]\.\d{6}", p) for _, p in rows)


def test_predict_prints_json(folder: Path, classifier: TextClassifier) -> None:
    texts = ["a superb film", "d\u00fcll \u2028 dull \x9b31m"]
    done = tidegate("predict", "model.safetensors", "--json", *texts, folder=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x9b" not in done.stdout
    printed = [json.loads(line) for line in done.stdout.split("\n")[:-1]]
    for answer, text, row in zip(
        printed, texts, classifier.predict_proba(texts).tolist(), strict=True
    ):
        assert list(answer) == ["text", "label", "probability", "probabilities", "words"]
        assert answer["text"] == text
        assert answer["probabilities"] == pytest.approx({"neg": row[0], "pos": row[1]}, abs=1e-6)
        assert answer["label"] == ("neg" if row[0] > row[1] else "pos")
        assert answer["probability"] == answer["probabilities"][answer["label"]]


def test_five_thousand_lines_keep_their_order(folder: Path, classifier: TextClassifier) -> None:
    texts, _ = reviews(5_000, seed=12)
    texts[7] = ""
    texts[4_000] = "qwfp"
    done = tidegate("predict", "model.safetensors", folder=folder, text="\r\n".join(texts) + "\n")
    assert done.returncode == 0
    assert "note: 2 of 5,000 texts have no word that the model knows" in done.stderr
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert len(rows) == 5_000
    expected = classifier.predict_proba(texts)
    assert [label for label, _ in rows] == [("neg", "pos")[i] for i in expected.argmax(axis=1)]
    np.testing.assert_allclose([float(p) for _, p in rows], expected.max(axis=1), atol=2e-6)


@pytest.mark.skipif(sys.platform == "win32", reason="pipes can't be waited on there")
def test_a_slow_writer_gets_each_answer_at_once(folder: Path) -> None:
    process = predicting(folder, "model.safetensors")
    for text, label in (("a superb film", b"pos"), ("a dreadful film", b"neg")):
        assert ask(process, text).startswith(label + b"\t")
    assert process.communicate(timeout=60) == (b"", b"")
    assert process.returncode == 0


def test_a_text_of_five_megabytes(folder: Path, classifier: TextClassifier) -> None:
    text = "dreadful " * 555_555 + "superb"
    assert len(text) > 5_000_000
    done = tidegate("predict", "model.safetensors", folder=folder, text=text)
    assert (done.returncode, done.stderr) == (0, "")
    label, probability = done.stdout.rstrip("\n").split("\t")
    expected = classifier.predict_proba([text])[0]
    assert label == ("neg", "pos")[expected.argmax()]
    assert float(probability) == pytest.approx(expected.max(), abs=2e-6)


def test_lines_of_a_text_file(
    folder: Path,
    classifier: TextClassifier,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    texts = ["a superb film", "", "dull, dull"]
    Path("texts.txt").write_text("\ufeff" + "\n".join(texts), encoding="utf-8")
    assert main(["predict", "model.safetensors", "--input", "texts.txt", "--json"]) == 0
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [answer["text"] for answer in printed] == texts
    expected = classifier.predict_proba(texts).max(axis=1)
    assert [answer["probability"] for answer in printed] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("content", "needle"),
    [
        (b"one\nt\0wo\n", "texts.txt, line 2: a NUL byte"),
        (b"one\ncaf\xe9\n", "texts.txt, line 2: byte 4 is not UTF-8"),
        (b"", "texts.txt is empty"),
        (None, "'texts.txt' does not exist"),
        (b"\xef\xbb\xbf", ""),
        (b"superb\r\n\nsuperb\rdull", ""),
    ],
    ids=["nul", "latin", "empty", "missing", "mark", "ends"],
)
def test_a_text_file_is_read_the_same_way_for_printing_and_for_a_table(
    content: bytes | None,
    needle: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    if content is not None:
        Path("texts.txt").write_bytes(content)
    command = ["predict", "model.safetensors", "--input", "texts.txt"]
    said = []
    for more in (["--json"], ["--output", "o.jsonl"]):
        status = main([*command, *more])
        printed = capsys.readouterr()
        if needle:
            assert_refused(status, printed.err, needle)
            said.append(printed.err)
        else:
            assert status == 0
            answers = (printed.out or Path("o.jsonl").read_text()).split("\n")
            said.append(str([json.loads(line)["text"] for line in answers if line]))
    assert said[0] == said[1]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_a_table_gets_columns(
    suffix: str, folder: Path, classifier: TextClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    texts, labels = reviews(30, seed=3)
    write_table(Path("in.csv"), texts, labels)
    output = Path("out" + suffix)
    output.write_text("an older one")
    assert main(["predict", "model.safetensors", "-i", "in.csv", "-o", str(output)]) == 0
    with open(output, encoding="utf-8", newline="") as file:
        if suffix == ".jsonl":
            rows = [json.loads(line) for line in file]
        else:
            rows = list(csv.DictReader(file, delimiter="," if suffix == ".csv" else "\t"))
    assert list(rows[0]) == ["text", "label", "predicted_label", "probability"]
    assert [row["text"] for row in rows] == texts
    assert [row["label"] for row in rows] == labels
    expected = classifier.predict_proba(texts)
    assert [row["predicted_label"] for row in rows] == list(classifier.predict(texts))
    np.testing.assert_allclose(
        [float(row["probability"]) for row in rows], expected.max(axis=1), atol=2e-6
    )
    assert not list(folder.glob(".*"))


def test_a_table_without_output_is_printed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    assert main(["predict", "model.safetensors", "--input", "reviews.csv"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[0] for line in printed] == reviews(60)[1]


@pytest.mark.parametrize("output", [[], ["--output", "scored.csv"]])
def test_the_texts_column_and_unknown_texts_are_noted(
    folder: Path,
    output: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    rows = ["title,comment", "a superb film,zxqv wvut", "a dreadful film,", "zxqv,a superb film"]
    (folder / "two.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    command = ["predict", "model.safetensors", "--input", "two.csv", *output]
    assert main(command) == 0
    column, unknown = capsys.readouterr().err.splitlines()
    assert "the texts are in column 'comment', named so; --text-column names another" in column
    assert "2 of 3 texts have no word that the model knows" in unknown
    assert main([*command, "--text-column", "title"]) == 0
    assert "1 of 3 texts have no word" in capsys.readouterr().err.strip()
    # A single column is no question, and texts that are known are no news.
    (folder / "one.csv").write_text("comment\na superb film\n", encoding="utf-8")
    assert main(["predict", "model.safetensors", "--input", "one.csv", *output]) == 0
    assert capsys.readouterr().err == ""


def test_labels_can_not_act_on_the_terminal(folder: Path) -> None:
    texts, labels = reviews(40)
    names = {"pos": "gut\tund\nsch\u00f6n", "neg": "\x1b[31mrot\u202e"}
    write_table(folder / "odd.csv", texts, [names[label] for label in labels])
    command = ("train", "odd.csv", *SMALL, "--epochs", 15, "-q", "-o", "odd.safetensors")
    assert tidegate(*command, folder=folder).returncode == 0
    texts = ["a superb film", "a dreadful film"]
    done = tidegate("predict", "odd.safetensors", *texts, folder=folder)
    assert (done.returncode, done.stderr) == (0, "")
    fields = [line.split("\t")[0] for line in done.stdout.split("\n")[:-1]]
    assert fields == ['"gut\\tund\\nsch\u00f6n"', '"\\u001b[31mrot\\u202e"']
    assert [json.loads(field) for field in fields] == list(names.values())
    for option in ([], ["--json"]):
        done = tidegate("info", "odd.safetensors", *option, folder=folder)
        assert done.returncode == 0
        assert not set("\x1b\t\u202e") & set(done.stdout)
    done = tidegate("evaluate", "odd.safetensors", "reviews.csv", folder=folder)
    assert_refused(done.returncode, done.stderr, "'neg', 'pos'", "\\x1b[31mrot\\u202e")


# Evaluate and info


def test_evaluate_prints_and_reports_what_the_library_says(
    folder: Path,
    classifier: TextClassifier,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    texts, labels = reviews(50, seed=4)
    labels[:5] = ["pos"] * 5  # some are wrong, so that the accuracy is not 1
    write_table(Path("held_out.csv"), texts, labels)
    assert main(["evaluate", "model.safetensors", "held_out.csv", "--report", "r.json"]) == 0
    printed = capsys.readouterr().out.splitlines()
    expected = classifier.evaluate(texts, labels)
    assert 0.8 < expected.accuracy < 1
    assert printed[0].startswith("data: held_out.csv (")
    assert re.fullmatch(
        rf"accuracy {expected.accuracy:.4f}  loss {expected.loss:.4f}  \(50 texts, \d+\.\d s\)",
        printed[1],
    )
    found = classifier.report(texts, labels)
    assert printed[1:] == [
        *(printed[1], *measures.lines(found)[1:3]),
        "label  texts  precision  recall      f1",
        *(
            f"{one.label}    {one.texts:>5}     {one.precision:.4f}  {one.recall:.4f}  {one.f1:.4f}"
            for one in found.classes
        ),
        "true / predicted  neg  pos",
        *(
            f"{label:<16}  {row[0]:>3}  {row[1]:>3}"
            for label, row in zip(("neg", "pos"), found.confusion or (), strict=True)
        ),
    ]
    report = json.loads(Path("r.json").read_text())
    assert report["source"]["test"] == 50
    assert report["test"]["accuracy"] == expected.accuracy
    assert report["test"] == json.loads(json.dumps(found.to_json())) | {
        "seconds": report["test"]["seconds"]
    }
    assert report["test"]["auc_interval"][1] <= 1.0
    assert report["test"]["loss"] == pytest.approx(expected.loss, rel=1e-6)
    assert report["sha256"] == storage.read_stored(Path("model.safetensors")).sha256
    assert main(["evaluate", "model.safetensors", "held_out.csv", "--quiet"]) == 0
    assert capsys.readouterr().out == ""


# Interruption


def start_training(folder: Path, *arguments: object) -> subprocess.Popen[bytes]:
    """A long training that has shown its first epoch."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tidegate", "train", "long.csv", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=folder,
        env=environment(),
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(b"epoch 1/"):
            break
    return process


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT can't be sent to one process there")
def test_a_stopped_training_goes_on_to_the_same_file(folder: Path) -> None:
    write_table(folder / "long.csv", *reviews(800))
    settings = (*SMALL, "--epochs", 12)
    process = start_training(folder, *settings, "-o", "stopped.safetensors")
    process.send_signal(signal.SIGINT)
    out, error = (stream.decode() for stream in process.communicate(timeout=60))
    assert process.returncode == 130, error
    assert error.startswith("tidegate: ")
    assert error.count("\n") == 1
    assert "--resume" in error
    assert "epoch 12/12" not in out
    assert set(snapshot(folder)) == {
        *("model.safetensors", "reviews.csv", "long.csv", "stopped.checkpoint.safetensors")
    }

    again = tidegate("train", "long.csv", *settings, "-o", "stopped.safetensors", folder=folder)
    assert_refused(again.returncode, again.stderr, "stopped.checkpoint", "--resume", "--force")

    resumed = tidegate(
        *("train", "long.csv", *settings, "--resume", "-o", "stopped.safetensors"), folder=folder
    )
    assert resumed.returncode == 0, resumed.stderr
    shown = [line.split("  ")[0] for line in resumed.stdout.splitlines() if line[:6] == "epoch "]
    assert shown == [f"epoch {number}/12" for number in range(1, 13)]
    whole = tidegate("train", "long.csv", *settings, "-q", "-o", "whole.safetensors", folder=folder)
    assert whole.returncode == 0, whole.stderr
    files = snapshot(folder)
    assert files["stopped.safetensors"] == files["whole.safetensors"]
    assert "stopped.checkpoint.safetensors" not in files


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT can't be sent to one process there")
def test_a_checkpoint_is_never_quantised(folder: Path) -> None:
    """How the model is saved is no part of the run: it may be chosen when it is resumed."""
    write_table(folder / "long.csv", *reviews(800))
    settings = (*SMALL, "--epochs", 12, "-q")
    process = start_training(folder, *settings[:-1], "--quantize", "int8", "-o", "new.safetensors")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    checkpoint = folder / "new.checkpoint.safetensors"
    tensors, header = storage.read_tensors(checkpoint)
    assert "quantization" not in header
    assert np.int8 not in {array.dtype.type for array in tensors.values()}
    kept = checkpoint.read_bytes()
    sizes = {}
    for quantize in (("--quantize", "int8"), ()):
        checkpoint.write_bytes(kept)
        for resume, name in (("--resume", "new.safetensors"), ("--force", "whole.safetensors")):
            done = tidegate(
                *("train", "long.csv", *settings, *quantize, resume, "-o", name), folder=folder
            )
            assert done.returncode == 0, done.stderr
        files = snapshot(folder)
        assert files["new.safetensors"] == files["whole.safetensors"]
        sizes[quantize] = len(files["new.safetensors"])
        (folder / "new.safetensors").unlink()
    assert sizes["--quantize", "int8"] < sizes[()]


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_between_two_steps(
    times: int, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C may come while a step's figures are shown; a second one stops at once."""
    steps_shown = []

    def show(bar: progress.TrainingBar, result: StepResult) -> None:
        steps_shown.append(result.step)
        if result.step == 3:
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(progress.TrainingBar, "show", show)
    monkeypatch.chdir(folder)
    before = snapshot(folder)
    assert main(train_here("--epochs", "9")) == 130
    error = capsys.readouterr().err
    added = set(snapshot(folder)) - set(before)
    if times == 1:
        assert "--resume" in error
        assert added == {"new.checkpoint.safetensors"}
        _, header = storage.read_tensors(Path("new.checkpoint.safetensors"))
        assert f"after step {header['progress']['step']};" in error
        assert header["progress"]["step"] == steps_shown[-1]
    else:
        assert error == "tidegate: interrupted\n"
        assert added == set()
        assert steps_shown == [1, 2, 3]


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT can't be sent to one process there")
def test_ctrl_c_while_lines_are_awaited(folder: Path) -> None:
    process = predicting(folder, "model.safetensors")
    ask(process, "superb")
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (130, b"tidegate: interrupted\n")


# The terminal


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_terminal_shows_a_bar_and_gets_its_cursor_back(folder: Path) -> None:
    import pty

    write_table(folder / "long.csv", *reviews(800))
    command = ("train", "long.csv", *SMALL, "--epochs", "2", "-o", "new.safetensors")
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as screen:
        process = subprocess.Popen(
            [sys.executable, "-m", "tidegate", *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=theirs,
            cwd=folder,
            env=environment() | {"TERM": "xterm", "COLUMNS": "120"},
        )
        os.close(theirs)
        shown = b""
        try:
            while piece := screen.read(65_536):
                shown += piece
        except OSError:  # the other side is closed
            pass
        assert process.stdout is not None
        printed = process.stdout.read().decode()
        process.stdout.close()
        assert process.wait(60) == 0
    text = shown.decode()
    assert "epoch 2/2" in text
    assert re.search(r"loss \d\.\d{4}  accuracy \d\.\d{4} +[\d,]+ texts/s +\d+:\d\d left", text)
    assert text.rfind("\x1b[?25h") > text.rfind("\x1b[?25l")  # cursor shown, not hidden
    epochs = [line[:9] for line in printed.splitlines() if line.startswith("epoch")]
    assert epochs == ["epoch 1/2", "epoch 2/2"]
    assert "\x1b" not in printed


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_predict_without_texts_on_a_terminal_says_what_to_give(folder: Path) -> None:
    import pty

    ours, theirs = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "tidegate", "predict", "model.safetensors"],
        stdin=theirs,
        capture_output=True,
        cwd=folder,
        env=environment(),
        timeout=60,
        check=False,
    )
    os.close(ours)
    os.close(theirs)
    assert_refused(done.returncode, done.stderr.decode(), "TEXT", "--input", "standard input")


# Bugs


def test_a_bug_asks_for_a_report(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(path: Path) -> None:
        raise RuntimeError("a bug\nof two lines")

    monkeypatch.setattr(storage, "read_stored", broken)
    monkeypatch.delenv("TIDEGATE_DEBUG", raising=False)
    command = ["info", str(folder / "model.safetensors")]
    assert main(command) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "RuntimeError: a bug\\nof two lines" in error
    assert "TIDEGATE_DEBUG=1" in error
    monkeypatch.setenv("TIDEGATE_DEBUG", "1")
    assert main(command) == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_too_little_memory_is_no_bug(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def greedy(path: Path) -> None:
        raise MemoryError("Unable to allocate 3.6 TiB")

    monkeypatch.setattr(storage, "read_stored", greedy)
    status = main(["info", str(folder / "model.safetensors")])
    assert_refused(status, capsys.readouterr().err, "3.6 TiB", "smaller")


# Characters and lines


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain \u00e9 \u4e2d \U0001f600\u200d \\", "plain \u00e9 \u4e2d \U0001f600\u200d \\"),
        ("a\tb\nc\rd", "a\\tb\\nc\\rd"),
        ("\x1b[2J\x00\x7f\x9b", "\\u001b[2J\\u0000\\u007f\\u009b"),
        ("\u2028\u202e\u2066", "\\u2028\\u202e\\u2066"),
        ("\udcff", "\\udcff"),
    ],
)
def test_printable(text: str, expected: str) -> None:
    assert terminal.printable(text) == expected


@given(st.text(st.characters()) | st.text('\x1b\t\n\x9b\u2028\udc80 "\\a'))
def test_json_is_safe_and_reversible(text: str) -> None:
    written = terminal.json_text({"text": text})
    assert terminal.printable(written) == written
    assert json.loads(written) == {"text": text}
    assert written.isprintable() or not text.isprintable()


class Pieces:
    """A stream that gives its bytes in the pieces that it was made of, as a pipe may."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self.pieces = [piece for piece in pieces if piece]

    def fileno(self) -> int:
        raise OSError("no file")

    def read1(self, size: int) -> bytes:
        if not self.pieces:
            return b""
        piece = self.pieces.pop(0)
        if len(piece) > size:
            self.pieces.insert(0, piece[size:])
        return piece[:size]


@settings(max_examples=200)
@given(
    st.lists(st.text(st.characters(exclude_characters="\0\n\r", codec="utf-8")), max_size=9),
    st.lists(st.integers(0, 60), max_size=5),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
)
def test_blocks_hold_every_line_in_order(
    texts: list[str], cuts: list[int], end: str, ended: bool
) -> None:
    whole = "".join(text + end for text in texts)
    if not ended and texts and texts[-1]:
        whole = whole.removesuffix(end)
    if not whole or texts[0].startswith("\ufeff"):
        return
    stream = whole.encode()
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    pieces = [stream[a:b] for a, b in itertools.pairwise(places)]
    blocks = lines.text_blocks(Pieces(pieces), "a test")
    assert [text for block in blocks for text in block] == texts


def test_blocks_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.BytesIO(b"a line\n" * 5_000 + b"\xef\xbb\xbfthe last")
    blocks = list(lines.text_blocks(stream, "a test"))
    assert [len(block) for block in blocks] == [2_048, 2_048, 905]
    assert blocks[-1][-2:] == ["a line", "\ufeffthe last"]  # no byte order mark there
    monkeypatch.setattr(lines, "BLOCK_BYTES", 100_000)
    stream = io.BytesIO(b"x" * 60_000 + b"\n" + b"y" * 60_000 + b"\n" + b"z" * 30_000)
    blocks = list(lines.text_blocks(stream, "a test"))
    assert [[text[0] + str(len(text)) for text in block] for block in blocks] == [
        ["x60000", "y60000"],
        ["z30000"],
    ]


def test_lines_that_can_not_be_read() -> None:
    class Broken(Pieces):
        def read1(self, size: int) -> bytes:
            raise OSError(5, "Input/output error")

    with pytest.raises(DataError, match=r"the pipe can't be read: Input/output error; give "):
        next(lines.text_blocks(Checked(Broken([]), "the pipe", None), "the pipe"))
    stream = Pieces([b"\xef\xbb\xbfone\ntwo\nth", b"r\xe9e\n"])
    with pytest.raises(DataError, match=r"^the pipe, line 3: byte 4 is not UTF-8 \(0xe9\); "):
        list(lines.text_blocks(stream, "the pipe"))
    with pytest.raises(DataError, match=r"^the pipe, line 2: a NUL byte; .* convert it to UTF-8"):
        list(lines.text_blocks(Pieces([b"one\nt\0w\0o\0\n"]), "the pipe"))
    with pytest.raises(DataError, match=r"^the pipe is empty"):
        list(lines.text_blocks(Pieces([]), "the pipe"))


def test_a_file_where_a_text_is_expected_is_told(folder: Path) -> None:
    done = tidegate("predict", "model.safetensors", "reviews.csv", folder=folder)
    assert_refused(done.returncode, done.stderr, "'reviews.csv' is a file", "--input reviews.csv")
