"""Folders of texts by label, held-out sets, and what is said of a data set before training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from test_tables import write
from tidegate.data import Dataset, LabeledTexts, load, survey
from tidegate.errors import ConfigError, DataError


def write_folder(folder: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write(folder / name, content)
    return folder


FILES: dict[str, str | bytes] = {
    "pos/10_7.txt": "good\n",
    "pos/9_8.TXT": b"\xef\xbb\xbfvery\r\ngood",
    "neg/0_1.txt": "schön".encode("utf-16"),
    "neg/1_1.txt": "",
    "neg/notes.md": "not a text",
    "neg/.hidden.txt": "not a text",
    "unsup/0_0.txt": "unlabelled",
    ".git/a.txt": "not a text",
    "urls.txt": "not a text",
}


def test_a_folder_s_folders_are_labels(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "train", FILES)
    dataset = load(str(folder))
    assert dataset == Dataset(
        name="train",
        origin=f"{folder} (the names of its 2 folders are the labels; 'unsup' is left out)",
        train=LabeledTexts(["schön", "", "good\n", "very\r\ngood"], ["neg", "neg", "pos", "pos"]),
        test=None,
    )
    latin = write_folder(tmp_path / "latin", {"a/1.txt": b"caf\xe9", "b/1.txt": b"th\xe9"})
    assert load(str(latin), encoding="latin-1").train.texts == ["café", "thé"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, r"is a folder without folders in it: give one with a folder for each label"),
        ({"a.txt": "a"}, r"is a folder without folders in it"),
        ({"a/1.txt": "a"}, r"holds one label only \('a', 1 texts\): a classifier needs at least 2"),
        ({"a/1.txt": "a", "b/1.md": "b"}, r"b' has no .txt files: put the texts labelled 'b' ther"),
        (
            {"train/a/1.txt": "a", "test/a/1.txt": "a"},
            r"has no .txt files: .*; is '.*train' meant with --test .*test\?",
        ),
        ({"a/1.txt": "a", "b/1.txt": b"\xff"}, r"b/1.txt is not UTF-8: byte 0xff at offset 0 "),
        ({"a/1.txt": "a", "b/1.txt": "b\0"}, r"b/1.txt, line 1: a NUL byte"),
    ],
)
def test_folders_that_can_not_be_used(
    tmp_path: Path, files: dict[str, str | bytes], message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load(str(write_folder(tmp_path, files)))
    assert "\n" not in str(caught.value)


def test_a_folder_has_no_columns(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, FILES)
    for option in ("text_column", "label_column", "format"):
        with pytest.raises(ConfigError, match=r"is a folder, which has neither columns nor a form"):
            load(str(folder), **{option: "csv"})  # type: ignore[arg-type]


# Held-out sets


def test_held_out_sets_have_the_columns_of_the_training_set(tmp_path: Path) -> None:
    rows = "text,words,kind,label\nt,a b,x,1\nt,b c,y,1\n"
    train = write(tmp_path / "train.csv", rows)
    same = write(tmp_path / "same.tsv", "kind\ttext\twords\tlabel\nx\tt\td\t2\n")
    other = write(tmp_path / "other.jsonl", '{"text": "e", "label": "y"}')
    folder = write_folder(tmp_path / "folder", {"y/1.txt": "f"})
    options = {"text_column": "words", "label_column": "kind"}
    given = load(str(train), validation=same, test=folder, **options)  # type: ignore[arg-type]
    assert given.train == LabeledTexts(["a b", "b c"], ["x", "y"])
    assert given.validation == LabeledTexts(["d"], ["x"])
    assert given.test == LabeledTexts(["f"], ["y"])
    guessed = write(tmp_path / "guessed.csv", "n,said,kind\n1,a b,x\n2,b c,y\n3,c,x\n4,d,y\n")
    held_out = write(tmp_path / "held_out.csv", "said,longer,kind,n\na,a b c d,x,1\n")
    both = load(str(guessed), validation=held_out, test=other)
    assert both.validation == LabeledTexts(["a"], ["x"])
    assert both.test == LabeledTexts(["e"], ["y"])


def test_held_out_sets_that_can_not_be_used(tmp_path: Path) -> None:
    train = write(tmp_path / "train.csv", "text,label\na,x\nb,y\n")
    other = write(tmp_path / "other.csv", "text,label\na,x\nb,z\n")
    with pytest.raises(
        DataError, match=r"other.csv has labels that the training texts .*: 'z'; th"
    ):
        load(str(train), test=other)
    with pytest.raises(DataError, match=r"validation='.*none.csv' is not a file that exists"):
        load(str(train), validation=tmp_path / "none.csv")
    with pytest.raises(ConfigError, match=r"test='.*other.csv': imdb has a test set of its own"):
        load("imdb", test=other)
    with pytest.raises(ConfigError, match="imdb has no format, encoding or delimiter"):
        load("imdb", encoding="latin-1")


# The survey


def test_a_survey_counts_what_is_to_be_looked_at() -> None:
    texts = ["a", "b", "a", "c", " ", "b", "", "d", "a"]
    labels = ["x", "y", "x", "x", "y", "x", "x", "x", "y"]
    tokens = np.array([1, 10, 1, 3, 0, 10, 0, 40, 1])
    found = survey(
        LabeledTexts(texts, labels),
        tokens,
        9,
        training=[0, 1, 3, 4],
        held_out={
            "validation": LabeledTexts(["a", "b", "b", "d", "", "e"], list("xxyyxx")),
            "test": LabeledTexts(["c", "A", " "], list("yyy")),
        },
    )
    assert found.to_json() == {
        "rows": 9,
        "classes": {"x": 6, "y": 3},
        "unlabelled": 0,
        "parts": {
            "training": {"y": 2, "x": 2},
            "validation": {"x": 4, "y": 2},
            "test": {"y": 3},
        },
        "tokens": {"p50": 1, "p90": 40, "p99": 40, "longest": 40},
        "max_length": 9,
        "cut": 3,
        "empty": 2,
        "duplicates": 3,
        "conflicting": 2,
        "also_in_training": {"validation": 3, "test": 1},
    }


def test_percentiles_are_lengths_that_texts_have() -> None:
    texts = LabeledTexts([str(i) for i in range(200)], ["x"] * 200)
    found = survey(texts, list(range(200)), 150, training=range(200), held_out={})
    assert found.lengths == {"p50": 99, "p90": 179, "p99": 197, "longest": 199}
    assert (found.cut, found.copies, found.shared) == (49, 0, {})
