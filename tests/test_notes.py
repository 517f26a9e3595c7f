"""What is said of data before a training: several labels counted, and what to beware of."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tidegate import data
from tidegate.cli import main
from tidegate.data import LabeledTexts, load, load_table, notes, survey
from tidegate.data.survey import Survey
from tidegate.errors import ConfigError, DataError


def surveyed(
    training: dict[str, int], validation: dict[str, int], separator: str | None = None
) -> Survey:
    """The survey of texts with so many of each cell in training and in validation."""
    cells = [cell for part in (training, validation) for cell, n in part.items() for _ in range(n)]
    texts = LabeledTexts([f"text {i}" for i in range(len(cells))], cells)
    rows = sum(training.values())
    held_out = {"validation": texts.select(range(rows, len(cells)))} if validation else {}
    return survey(
        texts,
        [2] * len(cells),
        9,
        training=range(rows),
        held_out=held_out,
        label_separator=separator,
    )


def test_several_labels_are_counted_one_by_one() -> None:
    found = surveyed({"a; b": 3, "b": 2, "": 4, ";": 1}, {"b;a;a": 1, "c": 1}, ";")
    assert found.classes == {"b": 6, "a": 4, "c": 1}
    assert found.unlabelled == 5
    assert found.parts == {
        "training": {"b": 5, "a": 3},
        "validation": {"b": 1, "a": 1, "c": 1},
    }


def test_the_same_labels_in_another_order_are_no_conflict() -> None:
    texts = LabeledTexts(["x", "x", "y", "y"], ["a;b", "b; a", "a", "a;b"])
    options = {"training": range(4), "held_out": {}}
    assert survey(texts, [1] * 4, 9, **options, label_separator=";").conflicting == 1  # type: ignore[arg-type]
    assert survey(texts, [1] * 4, 9, **options).conflicting == 2  # type: ignore[arg-type]


def test_data_without_trouble_has_no_notes() -> None:
    assert notes(surveyed({"a": 300, "b": 500}, {"a": 80, "b": 120})) == []
    assert notes(surveyed({"a": 10, "b": 20}, {})) == []


@pytest.mark.parametrize(
    ("training", "validation", "expected"),
    [
        (
            {"a": 300, "b": 9, "c": 200},
            {"a": 190, "b": 1, "d": 2, "c": 9},
            [
                "2 labels with fewer than 10 training texts: b (9), d (0); too few to learn: find "
                "more, or put labels together"
            ],
        ),
        (
            {"a": 300, "b": 290, "c": 12},
            {"a": 100, "b": 100},
            ["1 label without a validation text: c (12); the validation says nothing of them"],
        ),
        (
            {"a": 50, "b": 50},
            {"a": 50, "b": 50},
            [
                "100 validation texts: their accuracy is good to 0.10 either way; compare models "
                "on more texts"
            ],
        ),
        (
            {"Good": 20, "good": 10, "very  bad": 12, "Very Bad": 11, "goods": 10},
            {},
            [
                "labels that differ only in case or blanks: 'Good' (20), 'good' (10), or "
                "'very  bad' (12), 'Very Bad' (11); write them alike if they are the same"
            ],
        ),
    ],
)
def test_notes(training: dict[str, int], validation: dict[str, int], expected: list[str]) -> None:
    assert notes(surveyed(training, validation)) == expected


@pytest.mark.parametrize(
    ("rare", "frequent", "slip"),
    [
        ("postive", "positive", True),  # a letter too few
        ("positivee", "positive", True),
        ("pozitive", "positive", True),
        ("Positvie", "positive", True),  # swapped
        ("positiv", "POSITIVE", True),
        ("positive ", "positive", False),  # the same but for blanks, which is another note
        ("psitve", "positive", False),
        ("vositipe", "positive", False),
        ("car", "cat", False),
        ("class 2", "class 3", False),
        ("5 stars", "4 stars", False),
        ("1 star", "1 stars", True),
    ],
)
def test_labels_that_may_be_slips_of_the_keys(rare: str, frequent: str, slip: bool) -> None:
    told = notes(surveyed({frequent: 120, "other": 110, rare: 12}, {}))
    expected = (
        f"rare labels that are a letter away from a frequent one: {rare!r} (12) beside "
        f"{frequent!r} (120); write them alike if they are the same"
    )
    assert (expected in told) == slip
    assert any("a letter away" in line for line in told) == slip
    # Both frequent, they are two labels.
    assert not any("a letter away" in n for n in notes(surveyed({frequent: 120, rare: 13}, {})))


def test_of_many_slips_some_are_named() -> None:
    counts = {"positive": 200, **{f"positive{letter}": 10 for letter in "abcdefg"}}
    (told,) = (line for line in notes(surveyed(counts, {})) if "a letter away" in line)
    assert told.count("beside 'positive' (200)") == 5
    assert ", and 2 more; write them alike" in told


def test_the_share_to_beat() -> None:
    (told,) = notes(surveyed({"a": 700, "b": 300}, {}))
    assert told.startswith("70.0% of the texts are 'a': always saying so is right as often")
    assert notes(surveyed({"a": 699, "b": 301}, {})) == []
    # Of several labels none is always said.
    assert notes(surveyed({"a": 700, "a;b": 20}, {}, ";")) == []


# Empty cells, where a text may have several labels


def test_empty_cells_are_texts_without_labels(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,labels\na,x;y\nb,\nc, ; \nd,y\n")
    dataset = load(str(path), label_separator=";")
    assert data.split_labels(dataset.train.labels, ";") == [["x", "y"], [], [], ["y"]]
    assert dataset.origin.endswith("; texts without labels, for their cell is empty: 1)")
    with pytest.raises(DataError) as bad:
        load(str(path))
    assert str(bad.value) == (
        f"{path}, line 3: an empty cell in column 'labels', not a label; fill it in or delete the "
        "row, or name the mark between several labels (--label-separator), where a text may have "
        "none"
    )
    lines = tmp_path / "a.jsonl"
    lines.write_text('{"text": "a", "labels": "x;y"}\n{"text": "b", "labels": null}\n{"text": "c"}')
    assert load_table(lines, label_separator=";").labels == ["x;y", "", ""]
    lines.write_text('{"text": "a", "labels": "x;y"}\n{"text": "b", "labels": {}}\n')
    with pytest.raises(DataError, match="line 2: an object in column 'labels', not a label"):
        load_table(lines, label_separator=";")


def test_held_out_labels_are_looked_at_one_by_one(tmp_path: Path) -> None:
    train, test = tmp_path / "train.csv", tmp_path / "test.csv"
    train.write_text("text,labels\na,x;y\nb,z\n")
    test.write_text("text,labels\na,z;x\nb,\n")
    dataset = load(str(train), test=test, label_separator=";")
    assert dataset.test is not None
    assert dataset.test.labels == ["z;x", ""]
    test.write_text("text,labels\na,z;w\n")
    with pytest.raises(
        DataError, match="labels that the training texts don't have: 'w'; they have"
    ):
        load(str(train), test=test, label_separator=";")


def test_a_bad_separator_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,labels\na,x;y\n")
    for separator in (" ", "", 5):
        with pytest.raises(ConfigError, match="label_separator="):
            load_table(path, label_separator=separator)  # type: ignore[arg-type]


CELLS = {"witty": "fun", "soldiers": "war", "both": "fun;war", "plain": ""}


def test_training_on_empty_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [f"{word} film {i},{cell}" for i in range(12) for word, cell in CELLS.items()]
    Path("own.csv").write_text("\n".join(["text,labels", *rows, ""]))
    small = ["--hidden-size", "4", "--embedding-size", "4", "--epochs", "1", "--threads", "1"]
    command = ["train", "own.csv", "--label-separator", ";", *small, "--report", "r.json"]
    assert main(command) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].endswith("; texts without labels, for their cell is empty: 12)")
    assert shown[2] == "labels: 24 fun, 24 war; 12 texts without any"
    found = json.loads(Path("r.json").read_text())["data"]
    assert found["classes"] == {"fun": 24, "war": 24}
    assert found["unlabelled"] == 12
    assert main(["evaluate", "model.safetensors", "own.csv", "--label-separator", ";"]) == 0
    assert "for their cell is empty: 12)" in capsys.readouterr().out
    # What predict writes is read again, empty cells too.
    assert main(["predict", "model.safetensors", "-i", "own.csv", "-o", "said.csv"]) == 0
    again = ["evaluate", "model.safetensors", "said.csv", "--label-separator", ";"]
    assert main([*again, "--label-column", "label"]) == 0
    assert "accuracy 1.0000" in capsys.readouterr().out


# Numbers, constants and labels


@pytest.mark.parametrize(
    ("header", "rows", "column"),
    [
        # Identifiers and prices have many values, if fewer than half as many as there are rows.
        ("said,nr,kind", [f"words {i},{i % 25},{'xyz'[i % 3]}" for i in range(80)], "kind"),
        ("said,price,kind", [f"words {i},{i % 11}.5,{i % 12}" for i in range(80)], "kind"),
        ("said,stars", [f"words {i},{i % 9 / 2}" for i in range(80)], "stars"),
        # A column of one value tells nothing, even by a well-known name.
        ("text,category,rating", [f"words {i},film,{i % 5}" for i in range(80)], "rating"),
        ("text,score,rating", [f"words {i},{i / 7:.3f},{i % 5}" for i in range(80)], "rating"),
        ("text,label,kind", [f"words {i},{i % 30},{i % 5}" for i in range(300)], "label"),
    ],
)
def test_the_label_column_is_one_of_classes(
    header: str, rows: list[str], column: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.csv"
    path.write_text("\n".join([header, *rows, ""]))
    assert f"; label column {column!r}, " in load(str(path)).origin


def test_numbers_to_predict_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,price\n" + "".join(f"words {i},{i % 90}.99\n" for i in range(400)))
    told = (
        r"column 'price' holds 90 different numbers in 400 rows, which look like numbers to "
        r"predict \(regression\), and tidegate classifies: choose another label column"
    )
    with pytest.raises(DataError, match=told):
        load(str(path), label_column="price")
    with pytest.raises(DataError, match="looks like labels"):
        load(str(path))
    # Where nothing is learnt, numbers may be what a model's labels are.
    assert len(load(str(path), label_column="price", min_classes=1).train) == 400
    path.write_text("text,score\n" + "".join(f"words {i},{i % 90}\n" for i in range(400)))
    with pytest.raises(DataError, match="column 'score' holds 90 different numbers in 400 rows"):
        load(str(path))
    path.write_text("text,code\n" + "".join(f"words {i},{i % 90}\n" for i in range(450)))
    assert len(set(load(str(path), label_column="code").train.labels)) == 90


def test_a_constant_column_alone_is_said_to_be_one(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label,lang\na,x,en\nb,x,de\nc,x,en\nd,x,de\n")
    with pytest.raises(DataError, match=r"column 'label' holds one label only \('x', 4 rows\)"):
        load(str(path))
