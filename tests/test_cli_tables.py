"""The command line on tables of every format: training, scoring in flat memory, what it reports."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import zstandard

from test_cli import (
    SMALL,
    assert_refused,
    environment,
    reviews,
    snapshot,
    tidegate,
    train_small,
)
from test_folders import write_folder
from tidegate import TextClassifier, data
from tidegate.cli import data_report, main
from tidegate.data import LabeledTexts

TRAIN = ("--epochs", "2", *SMALL)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_small(tmp_path_factory)


@pytest.fixture
def folder(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with the trained model."""
    (tmp_path / "model.safetensors").write_bytes(model.read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_as(name: str, texts: list[str], labels: list[str]) -> Path:
    """The table in the format and the compression that the name says."""
    path = Path(name)
    kind = path.suffixes[0]
    if kind == ".parquet":
        import pyarrow as pa

        pq.write_table(pa.table({"text": texts, "label": labels}), path)
        return path
    text = io.StringIO()
    if kind == ".jsonl":
        for each, label in zip(texts, labels, strict=True):
            text.write(json.dumps({"text": each, "label": label}) + "\n")
    else:
        rows = csv.writer(text, delimiter="\t" if kind == ".tsv" else ",")
        rows.writerows([["text", "label"], *zip(texts, labels, strict=True)])
    content = text.getvalue().encode()
    if path.suffix == ".gz":
        content = gzip.compress(content)
    if path.suffix == ".zst":
        content = zstandard.ZstdCompressor().compress(content)
    path.write_bytes(content)
    return path


def read_back(path: Path) -> list[dict[str, str]]:
    """The rows of a table that was written, every value as text."""
    if path.suffix == ".parquet":
        rows = pq.read_table(path).to_pylist()
        return [{name: str(value) for name, value in row.items()} for row in rows]
    content = path.read_bytes()
    if path.suffix == ".gz":
        content = gzip.decompress(content)
    if path.suffix == ".zst":
        content = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(content)).read()
    text = io.StringIO(content.decode(), newline="")
    if ".jsonl" in path.suffixes:
        return [{k: str(v) for k, v in json.loads(line).items()} for line in text]
    return list(csv.DictReader(text, delimiter="\t" if ".tsv" in path.suffixes else ","))


# Training

NAMES = ["a.csv", "a.tsv.gz", "a.jsonl.zst", "a.parquet"]


def test_every_format_trains_the_same_model(folder: Path) -> None:
    texts, labels = reviews(40)
    files = {}
    for name in NAMES:
        write_as(name, texts, labels)
        assert main(["train", name, *TRAIN, "-q", "-o", f"{name}.safetensors"]) == 0
        files[name] = Path(f"{name}.safetensors").read_bytes()
    text = Path("a.csv").read_bytes()
    command = ["train", "-", "--format", "csv", *TRAIN, "-q", "-o", "stdin.safetensors"]
    for content in (text, gzip.compress(text), text.decode().encode("utf-16")):
        done = tidegate(*command, "--force", folder=folder, text=content)
        assert done.returncode == 0, done.stderr
        files[str(len(files))] = Path("stdin.safetensors").read_bytes()
    assert len(set(files.values())) == 1, {name: len(file) for name, file in files.items()}


def test_a_folder_trains_and_is_evaluated(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts, labels = reviews(40)
    rows = list(enumerate(zip(texts, labels, strict=True)))
    write_folder(folder, {f"train/{label}/{i:02}.txt": text for i, (text, label) in rows})
    order = sorted(rows, key=lambda row: (row[1][1], row[0]))
    write_as("same.csv", [text for _, (text, _) in order], [label for _, (_, label) in order])
    for source, name in (("train", "folder"), ("same.csv", "table")):
        assert main(["train", source, *TRAIN, "-o", f"{name}.safetensors"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("data: train (the names of its 2 folders are the labels)\n")
    assert Path("folder.safetensors").read_bytes() == Path("table.safetensors").read_bytes()
    assert main(["evaluate", "folder.safetensors", "train"]) == 0
    assert main(["evaluate", "folder.safetensors", "same.csv"]) == 0
    first, second = re.findall(r"accuracy .*?\(", capsys.readouterr().out)
    assert first == second


def test_validation_and_test_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts, labels = reviews(40)
    write_as("train.csv", [*texts, texts[0]], [*labels, labels[0]])
    others = reviews(12, seed=9)
    write_as("val.jsonl.gz", [*others[0], texts[3]], [*others[1], labels[3]])
    tests = reviews(30, seed=8)
    write_as("test.parquet", *tests)
    command = ["train", "train.csv", *TRAIN, "--validation", "val.jsonl.gz", "-o"]
    more = ["--test", "test.parquet", "--report", "r.json"]
    assert main([*command, "own.safetensors", *more]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[1] == "41 training, 13 validation and 30 test texts"
    assert printed[2] == "labels: 21 neg, 20 pos"
    assert re.fullmatch(
        r"tokens: half of the texts have up to \d+, 90 % up to \d+, the longest \d+; none is cut",
        printed[3],
    )
    assert (
        printed[4] == "texts to look at: exact copies of others 1, of validation also in training 1"
    )
    assert printed[5].startswith("note: 13 validation texts: ")
    classifier = TextClassifier.load("own.safetensors")
    test = classifier.evaluate(*tests)
    assert f"test accuracy {test.accuracy:.4f} (30 texts" in printed[-3]
    report = json.loads(Path("r.json").read_text())
    assert report["test"]["accuracy"] == test.accuracy
    assert report["test"]["loss"] == pytest.approx(test.loss)
    assert report["source"]["train"] == 41
    assert report["source"]["validation"] == 13
    assert report["source"]["test"] == 30
    assert report["config"]["validation_fraction"] == 0.0
    found = report["data"]
    words = sorted(len(text.split()) for text in [*texts, texts[0]])
    assert found["tokens"]["p50"] == words[20]
    assert found["tokens"]["longest"] == words[-1]
    del found["tokens"]
    (note,) = found.pop("notes")
    assert printed[5] == f"note: {note}"
    counts = found.pop("parts")
    assert counts["training"] == {"neg": 21, "pos": 20}
    assert counts["test"] == {"neg": 15, "pos": 15}
    assert sum(counts["validation"].values()) == 13
    assert found == {
        "rows": 41,
        "classes": {"neg": 21, "pos": 20},
        "unlabelled": 0,
        "max_length": 20,
        "cut": 0,
        "empty": 0,
        "duplicates": 1,
        "conflicting": 0,
        "also_in_training": {"validation": 1, "test": 0},
    }
    validated = classifier.evaluate([*others[0], texts[3]], [*others[1], labels[3]])
    assert report["validation"]["loss"] == pytest.approx(validated.loss)  # calibrated
    assert report["validation"]["accuracy"] == validated.accuracy
    assert report["epochs"][-1]["val_loss"] > validated.loss

    # Nothing is learnt from the file: without it, the weights are the same.
    assert main([*command[:-3], "--validation", "0", "-q", "-o", "none.safetensors"]) == 0
    alone = TextClassifier.load("none.safetensors").model_.parameters
    for name, weights in classifier.model_.parameters.items():
        assert weights.tobytes() == alone[name].tobytes()


def test_a_fraction_is_what_it_was(folder: Path) -> None:
    write_as("train.csv", *reviews(40))
    command = ["train", "train.csv", *TRAIN, "-q", "--report", "r.json", "-o"]
    assert main([*command, "a.safetensors"]) == 0
    assert main([*command, "b.safetensors", "--validation", "0.2"]) == 0
    assert Path("a.safetensors").read_bytes() == Path("b.safetensors").read_bytes()
    report = json.loads(Path("r.json").read_text())
    assert [report["source"][part] for part in ("train", "validation", "test")] == [32, 8, 0]


def test_a_stopped_training_belongs_to_its_validation_texts(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was validated on one file does not go on with another."""
    write_as("train.csv", *reviews(40))
    write_as("val.csv", *reviews(10, seed=3))
    command = ["train", "train.csv", *TRAIN, "-q", "-o", "new.safetensors", "--validation"]
    with monkeypatch.context() as patch:
        patch.setattr(TextClassifier, "save", lambda *_, **__: 1 / 0)
        main([*command, "val.csv"])
    assert Path("new.checkpoint.safetensors").exists()
    capsys.readouterr()
    write_as("val.csv", *reviews(10, seed=4))
    assert main([*command, "val.csv", "--resume"]) == 2
    assert "checkpoint" in capsys.readouterr().err
    write_as("val.csv", *reviews(10, seed=3))
    assert main([*command, "val.csv", "--resume"]) == 0


def test_lines_of_a_data_report() -> None:
    labels = [str(i) for i in range(12) for _ in range(i + 1)]
    texts = LabeledTexts([f"text {i} " + "w " * i for i in range(78)], labels)
    dataset = data.Dataset("a", "b", texts, LabeledTexts(["text 3 w w w ", "new"], ["1", "2"]))
    found = data_report.examine(TextClassifier(max_length=50), dataset)
    assert data_report.describe(found) == [
        "labels: 12 11, 11 10, 10 9, 9 8, 8 7, 7 6, 6 5, 5 4, 4 3, 3 2, and 2 more",
        "tokens: half of the texts have up to 40, 90 % up to 72, the longest 79; "
        "29 have more than the 50 that are read",
        *(
            []
            if 3 in TextClassifier().split(78)[1]
            else ["texts to look at: of test also in training 1"]
        ),
        *(f"note: {note}" for note in data.notes(found)),
    ]
    odd = LabeledTexts(["a", "a", " ", "b"], ["x", "y", "x", "x"])
    classifier = TextClassifier(validation_fraction=0.0)
    found = data_report.examine(classifier, data.Dataset("a", "b", odd, None))
    assert data_report.describe(found)[1:] == [
        "tokens: half of the texts have up to 1, 90 % up to 1, the longest 1; none is cut",
        "texts to look at: empty 1, exact copies of others 1, with more than one label 1",
        "note: 2 labels with fewer than 10 training texts: x (3), y (1); too few to learn: find "
        "more, or put labels together",
        "note: 75.0% of the texts are 'x': always saying so is right as often, and that is the "
        "accuracy to beat; look at each label's F1 (tidegate evaluate)",
    ]


# Scoring


@pytest.mark.parametrize("output", ["o.csv", "o.tsv.gz", "o.jsonl.zst", "o.parquet"])
@pytest.mark.parametrize("source", NAMES)
def test_tables_are_scored_from_every_format_to_every_other(
    source: str, output: str, folder: Path
) -> None:
    texts, labels = reviews(50, seed=3)
    texts[7] = ""
    texts[9] = 'superb, "very"\nsuperb'
    write_as(source, texts, labels)
    assert main(["predict", "model.safetensors", "-i", source, "-o", output]) == 0
    rows = read_back(Path(output))
    classifier = TextClassifier.load("model.safetensors")
    assert list(rows[0]) == ["text", "label", "predicted_label", "probability"]
    assert [row["text"] for row in rows] == texts
    assert [row["label"] for row in rows] == labels
    assert [row["predicted_label"] for row in rows] == list(classifier.predict(texts))
    expected = classifier.predict_proba(texts).max(axis=1).round(6)
    assert [float(row["probability"]) for row in rows] == expected.tolist()
    assert not list(folder.glob(".*"))


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "txt"])
def test_tables_from_standard_input(kind: str, folder: Path) -> None:
    texts, labels = reviews(20, seed=3)
    if kind == "txt":
        Path("a.txt").write_text("\n".join(texts))
    else:
        write_as(f"a.{kind}", texts, labels)
    content = Path(f"a.{kind}").read_bytes()
    command = ["predict", "model.safetensors", "-i", "-", "--format", kind]
    expected = TextClassifier.load("model.safetensors").predict(texts).tolist()
    for piece in (content, zstandard.ZstdCompressor().compress(content)):
        done = tidegate(*command, "--json", folder=folder, text=piece)
        assert (done.returncode, done.stderr) == (0, "")
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        assert [answer["text"] for answer in answers] == texts
        assert [answer["label"] for answer in answers] == expected
    done = tidegate(*command, "-o", "out.jsonl", folder=folder, text=content)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert [row["text"] for row in read_back(Path("out.jsonl"))] == texts


def test_encodings_and_formats_can_be_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("latin.data").write_bytes(
        "text;label\ncaf\xe9, superb;x\n".replace(";", "\t").encode("cp1252")
    )
    command = ["predict", "model.safetensors", "-i", "latin.data", "--json"]
    assert main([*command, "--format", "tsv", "--encoding", "cp1252"]) == 0
    assert json.loads(capsys.readouterr().out)["text"] == "caf\xe9, superb"
    lines = "un caf\xe9\nsuperb\n".encode("latin-1")
    done = tidegate(
        "predict", "model.safetensors", "--encoding", "latin-1", "--json", folder=folder, text=lines
    )
    assert [json.loads(line)["text"] for line in done.stdout.splitlines()] == [
        "un caf\xe9",
        "superb",
    ]


def test_keys_that_come_late(folder: Path) -> None:
    """A file is read twice; of a stream, the first rows say which columns there are."""
    lines = [json.dumps({"text": "superb"})] * 5_000
    late = "\n".join([*lines, json.dumps({"text": "dull", "n": 7})]) + "\n"
    Path("late.jsonl").write_text(late)
    command = ["predict", "model.safetensors", "-i"]
    assert main([*command, "late.jsonl", "-o", "o.csv"]) == 0
    with open("o.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["text", "n", "label", "probability"]
    assert rows[1][:3] == ["superb", "", "pos"]
    assert rows[-1][:3] == ["dull", "7", "neg"]
    stream = [*command, "-", "--format", "jsonl", "-o"]
    done = tidegate(*stream, "o.jsonl", folder=folder, text=late)
    assert done.returncode == 0, done.stderr
    assert (
        Path("o.jsonl").read_text().splitlines()[-1].startswith('{"text": "dull", "n": 7, "label')
    )
    before = snapshot(folder)
    done = tidegate(*stream, "o.csv", folder=folder, text=late)
    assert_refused(done.returncode, done.stderr, "standard input has the key 'n' only in later")
    clash = late.replace('"n"', '"label"')
    done = tidegate(*stream, "o.jsonl", folder=folder, text=clash)
    assert_refused(done.returncode, done.stderr, "the key 'label' only in later lines")
    assert snapshot(folder) == before


@pytest.mark.parametrize(
    ("arguments", "needles"),
    [
        (["predict", "M", "-i", "-"], ["standard input does not say its format", "--format"]),
        (["predict", "M", "-i", "-", "--format", "parquet"], ["--format='parquet'", "path"]),
        (["predict", "M", "-i", "a.csv", "--format", "xls"], ["--format='xls'", "csv, tsv"]),
        (["predict", "M", "-i", "a.csv", "--encoding", "utf9"], ["--encoding='utf9'", "cp1252"]),
        (["predict", "M", "superb", "--encoding", "utf-8"], ["--encoding", "not for TEXT"]),
        (["predict", "M", "--format", "csv"], ["--format 'csv' needs --input"]),
        (["predict", "M", "-i", "cut.csv.gz", "-o", "o.csv"], ["cut.csv.gz is cut off", "again"]),
        (["predict", "M", "-i", "a.csv", "-o", "o.xlsx"], ["'o.xlsx'", ".parquet", ".gz"]),
        (["predict", "M", "-i", "late.csv", "-o", "o.csv.gz"], ["late.csv, line 9002: 2 cells"]),
        (["predict", "M", "-i", "late.csv", "-o", "o.parquet"], ["late.csv, line 9002: 2 cells"]),
        (["evaluate", "M", "-"], ["standard input does not say its format"]),
        (["train", "a.csv", "--validation", "none.csv"], ["--validation='none.csv'", "exists"]),
        (["train", "a.csv", "--validation", "O.csv"], ["'z'", "'neg', 'pos'"]),
        (["train", "a.csv", "--validation", "1.5"], ["--validation=1.5"]),
        (["train", "a.csv", "--validation", "nan"], ["'--validation'", "finite"]),
        (["train", "a.csv", "--test", "none.csv"], ["--test='none.csv'", "exists"]),
        (["train", "a.csv", "--test", "a.csv"], ["SOURCE and --test are the same file"]),
        (["train", "a.csv", "--test", "lines.txt"], ["lines.txt has no labels"]),
        (["train", "imdb", "--test", "a.csv"], ["--test='a.csv'", "test set of its own"]),
        (["train", "a.csv", "--encoding", "base64"], ["--encoding='base64'"]),
        (["train", "empty_labels.csv"], ["line 3: an empty cell in column 'label'", "fill it in"]),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else None,
)
def test_what_can_not_be_read_is_one_line(
    arguments: list[str],
    needles: list[str],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_as("a.csv", *reviews(20))
    write_as("O.csv", ["superb"], ["z"])
    Path("cut.csv.gz").write_bytes(gzip.compress(b"text\n" + b"some words\n" * 900)[:-20])
    Path("late.csv").write_text("text\n" + "superb\n" * 9_000 + "a,b\n")
    Path("lines.txt").write_text("superb\n")
    Path("empty_labels.csv").write_text("text,label\na,x\nb, \n")
    before = snapshot(folder)
    if arguments[0] == "train":
        arguments = [*arguments, *TRAIN, "-o", "new.safetensors"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"text\nsuperb\n")))
    status = main([argument.replace("M", "model.safetensors") for argument in arguments])
    printed = capsys.readouterr()
    assert_refused(status, printed.err, *needles)
    assert printed.out == ""
    assert snapshot(folder) == before


# Memory


@pytest.mark.parametrize(
    ("source", "output"),
    [
        ("a.csv", "o.csv"),
        ("a.jsonl", "o.jsonl"),
        ("a.tsv.zst", "o.csv.gz"),
        ("a.parquet", "o.jsonl.zst"),
        ("a.csv.gz", "-"),
    ],
)
def test_memory_does_not_grow_with_the_table(
    source: str, output: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of what Python allots, which for all of the rows would be 4 MB more."""
    command = ["predict", "model.safetensors", "-i", source]
    command += [] if output == "-" else ["-o", output]
    peaks = []
    for rows in (9_000, 9_000, 27_000):  # the first one imports what is needed
        write_as(source, *reviews(rows))
        tracemalloc.start()
        assert main(command) == 0
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        printed = capsys.readouterr().out  # kept in memory by the test alone
        if output == "-":
            assert printed.count("\n") == rows
            peak -= len(printed)
        peaks.append(peak)
    assert peaks[2] < peaks[1] + 1_000_000, peaks


PEAK = """
import re, sys, tidegate.cli
assert tidegate.cli.main(sys.argv[1:]) == 0
print(re.search(r"VmHWM:\\s+([0-9]+) kB", open("/proc/self/status").read())[1])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system tells no peak")
def test_a_process_s_memory_does_not_grow_with_the_table(folder: Path) -> None:
    peaks = []
    for rows in (20_000, 200_000):
        texts, labels = reviews(1_000)
        write_as("a.csv", texts * (rows // 1_000), labels * (rows // 1_000))
        done = subprocess.run(
            [
                *(sys.executable, "-c", PEAK, "predict", "model.safetensors"),
                *("-i", "a.csv", "-o", "o.csv.gz"),
            ],
            env=environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        peaks.append(1024 * int(done.stdout))
    assert Path("a.csv").stat().st_size > 9_000_000
    assert peaks[0] < 200_000_000
    assert peaks[1] < peaks[0] + 4_000_000, peaks
