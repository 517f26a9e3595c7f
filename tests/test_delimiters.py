"""What stands between the cells of a table: said, or told by its first rows."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from test_cli import assert_refused, reviews, train_small
from tidegate.cli import main
from tidegate.data import load, load_table, open_texts, source_of
from tidegate.data.delimiters import GUESSED, agreed_delimiters
from tidegate.errors import ConfigError, DataError


def as_lines(*rows: str) -> list[str]:
    return [f"{row}\n" for row in rows]


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        (["text;label", "good, yes;pos", "bad;neg"], [";"]),
        (["text\tlabel", "good, yes; it is\tpos"], ["\t"]),
        (["text|label", '"good|""better""\n"|pos', "bad|neg"], ["|"]),
        # Commas go first, whatever else would do.
        (["text,label;", "good,pos;", "bad,neg;"], [","]),
        (["text,label"], [","]),
        # Commas in the header that the rows do not have are no delimiters.
        (["text, as given;label", "good;pos", "bad;neg"], [";"]),
        # A header alone, one cell, rows that do not agree, quotes that close nowhere.
        (["text;label"], []),
        (["text", "good; bad", "good"], []),
        (["text;label", "good;pos", "bad; no;neg"], []),
        (["text;label", '"good;pos', "bad;neg"], []),
        (["text;label|more", "good;pos|a", "bad;neg|b"], [";", "|"]),
        ([], []),
    ],
)
def test_delimiters_that_rows_agree_on(rows: list[str], found: list[str]) -> None:
    assert agreed_delimiters(as_lines(*rows)) == found


def test_quotes_that_close_behind_the_sample_are_no_fault() -> None:
    assert agreed_delimiters(as_lines("text;label", "good;pos", 'bad;"neg')) == [";"]
    assert agreed_delimiters(as_lines("text;label", 'go"od";pos', "bad;neg")) == [";"]
    assert agreed_delimiters(as_lines("text;label", '"go"od;pos', "bad;neg")) == []


CELLS = st.text(st.sampled_from(list(",;|\t\n\"' ab1")), max_size=8)


@given(
    rows=st.integers(2, 4).flatmap(
        lambda width: st.lists(
            st.lists(CELLS, min_size=width, max_size=width), min_size=2, max_size=6
        )
    ),
    delimiter=st.sampled_from(GUESSED[1:]),
)
def test_what_is_guessed_reads_what_was_written(rows: list[list[str]], delimiter: str) -> None:
    """Quoted throughout, no other delimiter can be read without an error."""
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows(rows)
    assert agreed_delimiters(list(io.StringIO(text.getvalue(), newline=""))) == [delimiter]


def test_long_cells_do_not_hide_the_delimiter(tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    path.write_text(f"text;label\n{'word, ' * 100_000};pos\nbad;neg\n")
    before = csv.field_size_limit()
    assert load_table(path).labels == ["pos", "neg"]
    assert csv.field_size_limit() == before


def test_guess_is_shown_and_each_file_has_its_own(tmp_path: Path) -> None:
    train, test = tmp_path / "train.csv", tmp_path / "test.csv"
    train.write_text("text;label\ngood, yes;pos\nbad;neg\n")
    test.write_text("text,label\ngood,pos\n")
    dataset = load(str(train), test=test)
    assert dataset.origin == (
        f"{train} (delimiter ';', which the first rows agree on; text column 'text', named so; "
        "label column 'label', named so)"
    )
    assert dataset.train.texts == ["good, yes", "bad"]
    assert dataset.test is not None
    assert dataset.test.labels == ["pos"]
    # One that is given holds for all; of a guess that would be wrong, too.
    train.write_text("text;label|x\ngood;pos|x\nbad;neg|x\n")
    test.write_text("text;label|x\ngood;pos|x\n")
    with pytest.raises(DataError, match=r"may stand between any of ';', '\|'; say by delimiter"):
        load(str(train))
    given = load(str(train), test=test, delimiter=";")
    assert given.train.labels == ["pos|x", "neg|x"]
    assert given.origin.startswith(f"{train} (text column")
    assert given.test is not None
    assert given.test.labels == ["pos|x"]
    lines = tmp_path / "test.jsonl"
    lines.write_text('{"text": "good", "label|x": "pos|x"}\n')
    given = load(str(train), test=lines, delimiter=";")
    assert given.test is not None
    assert given.test.labels == ["pos|x"]


def test_odd_delimiters_can_be_given(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text~label\ngood, yes~pos\nbad;no~neg\n")
    assert load_table(path, delimiter="~").texts == ["good, yes", "bad;no"]
    path = path.rename(tmp_path / "a.tsv")
    path.write_text("text;label\ngood;pos\nbad;neg\n")
    with pytest.raises(DataError, match=r"put '\\t' between the cells, or give delimiter"):
        load_table(path)
    assert load_table(path, delimiter=";").labels == ["pos", "neg"]


@pytest.mark.parametrize("delimiter", ["", ";;", "a", "7", '"', "\n", 5, b";"])
def test_what_can_be_no_delimiter(tmp_path: Path, delimiter: str) -> None:
    with pytest.raises(ConfigError, match="delimiter="):
        source_of(tmp_path / "a.csv", delimiter=delimiter)


def test_formats_without_delimiter_refuse_one(tmp_path: Path) -> None:
    for name in ("a.jsonl", "a.parquet", "a.txt"):
        with pytest.raises(ConfigError, match="delimiter=';' is for csv, tsv, not"):
            source_of(tmp_path / name, delimiter=";")
    with pytest.raises(ConfigError, match="is a folder, which has neither columns"):
        load(str(tmp_path), delimiter=";")
    with pytest.raises(ConfigError, match="imdb has no format, encoding or delimiter"):
        load("imdb", delimiter=";")


def test_a_stream_is_settled_by_its_first_rows(tmp_path: Path) -> None:
    """And not by what comes later: that is an error of the line it stands on."""
    path = tmp_path / "late.csv"
    path.write_text("text;label\n" + "good, yes;pos\n" * 9_000 + "bad\n")
    with open_texts(source_of(path)) as stream:
        assert stream.rows.source.delimiter == ";"
        with pytest.raises(DataError, match="line 9002: 1 cells, but the header has 2"):
            list(stream.blocks())


# The command line


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_small(tmp_path_factory)


@pytest.fixture(autouse=True)
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("mark", "option"), [(";", ";"), ("\t", "tab"), ("\t", "\\t"), ("|", "|")])
@pytest.mark.parametrize("said", [False, True])
def test_train_evaluate_and_predict(
    mark: str, option: str, said: bool, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts, labels = reviews(30)
    with open("own.csv", "w", newline="") as file:
        rows = csv.writer(file, delimiter=mark)
        rows.writerows([["text", "kind"], *zip(texts, labels, strict=True)])
    more = ["--delimiter", option] if said else []
    small = ["--hidden-size", "4", "--epochs", "1", "--threads", "1"]
    assert main(["train", "own.csv", "-o", "own.safetensors", *small, *more]) == 0
    assert main(["evaluate", str(model), "own.csv", *more]) == 0
    shown = capsys.readouterr().out
    assert shown.count(f"delimiter {mark!r}, which the first rows") == (0 if said else 2)
    assert "(30 texts" in shown
    # A comma beside it must not end a cell.
    Path("new.csv").write_text(f"n{mark}text\n1{mark}superb, yes\n2{mark}dull\n")
    for output, kept in (("out.csv", mark), ("out.tsv", "\t")):
        assert main(["predict", str(model), "-i", "new.csv", "-o", output, *more]) == 0
        with open(output, newline="") as file:
            written = list(csv.reader(file, delimiter=kept))
        assert written[0] == ["n", "text", "label", "probability"]
        assert [row[:3] for row in written[1:]] == [
            ["1", "superb, yes", "pos"],
            ["2", "dull", "neg"],
        ]


def test_from_other_formats_csv_has_commas(model: Path) -> None:
    Path("new.tsv").write_text("text\tn\nsuperb\t1\n")
    assert main(["predict", str(model), "-i", "new.tsv", "-o", "out.csv"]) == 0
    assert Path("out.csv").read_text().startswith("text,n,label,probability\nsuperb,1,pos,")


def test_a_bad_delimiter_is_one_line(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.csv").write_text("text,label\na,x\nb,y\n")
    for command in (["predict", str(model), "-i", "a.csv"], ["evaluate", str(model), "a.csv"]):
        assert_refused(
            main([*command, "--delimiter", "xy"]),
            capsys.readouterr().err,
            "--delimiter='xy' is not",
        )
    assert_refused(
        main(["predict", str(model), "superb", "--delimiter", ";"]),
        capsys.readouterr().err,
        "--delimiter ';' needs --input",
    )
