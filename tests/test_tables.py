"""Tables of people's own: read in blocks, their columns found, and written with predictions."""

from __future__ import annotations

import csv
import errno
import gzip
import json
import os
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tidegate import data
from tidegate.data import (
    LabeledTexts,
    load,
    load_table,
    open_texts,
    source_of,
    streams,
    target_of,
)
from tidegate.errors import ConfigError, DataError, OutputError, TidegateError


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@dataclass(frozen=True)
class Read:
    """All that a stream of texts gave."""

    text_column: str
    columns: list[str]
    texts: list[str]
    rows: list[list[Any]]
    lines: list[int]

    def __len__(self) -> int:
        return len(self.rows)


def read_texts(path: Path, text_column: str | None = None, **options: str) -> Read:
    with open_texts(source_of(path, **options), text_column=text_column) as stream:
        blocks = list(stream.blocks())
        return Read(
            stream.text_column,
            list(stream.rows.columns),
            [text for _, texts in blocks for text in texts],
            [row for block, _ in blocks for row in block.rows],
            [line for block, _ in blocks for line in block.lines],
        )


def write_predictions(target: Path, source: Path, columns: Mapping[str, Sequence[object]]) -> int:
    """Write the table in ``source`` with columns of as many values as it has rows."""
    values = {name: iter(column) for name, column in columns.items()}
    with open_texts(source_of(source), all_keys=True) as stream:
        return data.write_predictions(
            target_of(target),
            stream,
            list(columns),
            lambda texts: [[next(column) for _ in texts] for column in values.values()],
        )


# Tables


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", 'text,label\n"good, ""very""\ngood",yes\nbad,no\n'),
        ("a.csv", b'\xef\xbb\xbftext,label\r\n"good, ""very""\ngood", yes \r\n\r\nbad,no'),
        ("a.CSV", 'label,text\nyes,"good, ""very""\ngood"\nno,bad\n'),
        ("a.tsv", 'text\tlabel\n"good, ""very""\ngood"\tyes\nbad\tno\n'),
        (
            "a.jsonl",
            '{"text": "good, \\"very\\"\\ngood", "label": "yes"}\n\n{"label": "no", "text": "bad"}',
        ),
        (
            "a.ndjson",
            b'\xef\xbb\xbf{"text": "good, \\"very\\"\\ngood", "label": "yes"}\r\n'
            b'{"label": "no", "id": 3, "text": "bad"}\r\n',
        ),
    ],
)
def test_tables_of_every_kind(tmp_path: Path, name: str, content: str | bytes) -> None:
    table = load_table(write(tmp_path / name, content))
    assert table == LabeledTexts(['good, "very"\ngood', "bad"], ["yes", "no"])


@pytest.mark.parametrize(
    ("header", "rows", "words"),
    [
        (
            "id,Review,SENTIMENT",
            "1,a,x\n2,b,y",
            "'Review', named so; label column 'SENTIMENT', named",
        ),
        (
            "title,text,rating,label",
            "t,a,5,x\nt,b,4,y",
            "'text', named so; label column 'label', named",
        ),
        (
            "v1,v2,,",
            "x,a longer one,,\ny,b longer,,\nx,c longer,,\ny,d longer,,",
            "'v2', guessed by its long texts; label column 'v1', guessed by its few values",
        ),
        (
            "when,said,kind",
            "2024-01-01 10:00:00,a c,x\n2024-01-01 10:00:01,b c,y\n2024-01-01 10:00:02,d,y\n"
            "2024-01-01 10:00:03,e,x",
            "'said', guessed by its long texts; label column 'kind', guessed by its few values",
        ),
    ],
)
def test_columns_are_found_and_named(tmp_path: Path, header: str, rows: str, words: str) -> None:
    path = write(tmp_path / "a.csv", f"{header}\n{rows}\n")
    dataset = load(str(path))
    assert dataset.name == "a.csv"
    assert dataset.test is None
    assert dataset.origin.startswith(f"{path} (text column {words}")
    assert dataset.train.texts[0][0] == "a"
    assert dataset.train.labels[:2] == ["x", "y"]


def test_a_label_column_with_empty_cells_is_found_if_a_text_may_have_none(tmp_path: Path) -> None:
    rows = "a b c,x|y\nb c d,\nc d e,x\nd e f,x|y\n"
    path = write(tmp_path / "a.csv", f"said,aspects\n{rows}")
    with pytest.raises(DataError, match="looks like labels"):
        load(str(path))
    assert "'aspects', guessed" in load(str(path), label_separator="|").origin
    portions = streams.open_labeled(path, label_separator="|")
    assert portions.label_column == "aspects"


def test_columns_can_be_given(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "text,label,other,kind\na,x,b,1\nc,y,d,2\n")
    dataset = load(str(path), text_column="other", label_column="kind")
    assert dataset.train == LabeledTexts(["b", "d"], ["1", "2"])
    assert dataset.origin == f"{path} (text column 'other', given; label column 'kind', given)"
    assert load_table(path, label_column="text", text_column="label").labels == ["a", "c"]
    assert load_table(path, label_column="text", text_column="label").texts == ["x", "y"]


def test_json_labels_are_written_as_json_writes_them(tmp_path: Path) -> None:
    lines = [{"text": "t", "label": label} for label in (1, 0, True, False, 2.5, " a ")]
    path = write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, lines)))
    assert load_table(path).labels == ["1", "0", "true", "false", "2.5", "a"]


def test_one_label_is_enough_where_nothing_is_learnt(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "text,label\na,x\nb,x\n")
    assert load(str(path), min_classes=1).train.labels == ["x", "x"]


LONG = "a review that goes on, and on, and on, for more than six words"


def test_all_cells_that_are_no_labels_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + "a,x\nb,\n" * 3, encoding="utf-8")
    mend = "; fill them in or delete the rows, or name the mark"
    told = f"{path}, line 3: an empty cell in column 'label', not a label, and 2 more (line 5, 7)"
    with pytest.raises(DataError, match=re.escape(told + mend)):
        load_table(path)
    path.write_text("text,label\n" + "a,x\nb,\n" * 1_500, encoding="utf-8")
    with pytest.raises(DataError, match=r", and 1,499 more \(line 5, 7, 9, 11, \.\.\.\); fill"):
        load_table(path)
    with pytest.raises(DataError, match=r"line 3: .* more so far \(line 5, 7, 9, 11, \.\.\.\)"):
        list(streams.open_labeled(path, label_column="label"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", "is empty"),
        ("a.csv", "\n\r\n", "is empty"),
        ("a.jsonl", "\n", "is empty"),
        ("a.csv", "text,label\n", r"has a header \('text', 'label'\) but no rows"),
        (
            "a.csv",
            b"text,label\na,x\ncaf\xe9,y\n",
            r"byte 0xe9 at offset 18 \(line 3\); save it as",
        ),
        ("a.csv", b"\xff\xfet\0e\0\0\0", r"line 1: a NUL byte"),
        ("a.csv", b"\xff\xfet\0e\0x", r"not UTF-16-LE: byte 0x78 at offset 6 \(line 1\); name an"),
        ("a.csv", b"text,label\na\0,x\n", "line 2: a NUL byte"),
        ("a.csv", "text,label\na,x\nb\n", "line 3: 1 cells, but the header has 2"),
        ("a.csv", 'text,label\n"a\nb",x\n\nb,c,y\n', "line 5: 3 cells, but the header has 2"),
        ("a.csv", "text,label\na,x\nb, \n", "line 3: an empty cell in column 'label', not a label"),
        ("a.csv", 'text,label\na,x\n"b,y\nc,x\n', "line 3: unexpected end of data; put quotes"),
        ("a.csv", "text,label\na,x\nb,x\n", r"one label only \('x', 2 rows\)"),
        ("a.csv", "text,text,label\na,b,x\n", "more than one column named 'text'"),
        ("a.csv", "label\nx\ny\n", "looks like texts: name the one by text_column"),
        ("a.csv", "id,text\n1,a\n2,b\n3,c\n4,d\n", "looks like labels: name the one by label_col"),
        ("a.csv", "3,4\n1,2\n5,6\n", "looks like texts"),
        ("a.csv", "good one,pos\nbad one,neg\nfine one,pos\nawful,neg\n", "no header: .*'pos'"),
        (
            "a.tsv",
            f"{LONG}\tx\n{LONG}\ty\n{LONG}\tz\n{LONG}\tz\n",
            r"a line such as 'text\\tlabel'",
        ),
        ("a.jsonl", '{"text": "a", "label": "x"}\n{"text": "b"', r"line 2: not JSON \("),
        ("a.jsonl", '{"text": "a", "label": NaN}\n', "line 1: not JSON .NaN is not a JSON value"),
        ("a.jsonl", "[" * 100_000, "line 1: not JSON"),
        ("a.jsonl", "\n[1, 2]\n", "line 2: a list, not an object"),
        (
            "a.jsonl",
            '{"text": 5, "label": "x"}\n{"text": "b", "label": "y"}',
            "line 1: a number in c",
        ),
        (
            "a.jsonl",
            '{"text": "a", "label": "x"}\n\n{"label": "y"}',
            "line 3: nothing in column 'text",
        ),
        (
            "a.jsonl",
            '{"text": "a", "label": "x"}\n{"text": "b", "label": null}',
            "line 2: null in col",
        ),
        (
            "a.jsonl",
            '{"text": "a", "label": "x"}\n{"text": "b", "label": []}',
            "line 2: a list in col",
        ),
        ("a.txt", "a\nb\n", "has no labels: give a .csv"),
        (
            "a.jsonl",
            '{"text": "a", "text": "b"}',
            "line 1: not JSON .the key 'text' stands there tw",
        ),
        ("a.parquet", "PAR1", "can't be read as a Parquet file: it is cut off, damaged or another"),
        ("a.xlsx", "a", "is not one of .csv, .tsv, .jsonl, .ndjson, .parquet .*--format"),
        ("noextension", "a", "is not one of .csv"),
        ("a.parquet.gz", "a", "compressed Parquet file, .* unpack it first"),
        ("a.gz", "a", "is not one of .csv"),
    ],
)
def test_table_that_can_not_be_used(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    path = write(tmp_path / name, content)
    with pytest.raises(DataError, match=message) as caught:
        load(str(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_too_many_keys_are_data_in_their_place(tmp_path: Path) -> None:
    lines = [json.dumps({f"text {i}": "label"}) for i in range(1_001)]
    with pytest.raises(DataError, match=r"line 1001: more than 1,000 different keys"):
        load_table(write(tmp_path / "a.jsonl", "\n".join(lines)))


def test_column_that_is_not_there(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "Text,label\na,x\nb,y\n")
    with pytest.raises(
        DataError, match=r"no column 'text' for the text: it has 'Text', 'label'; did"
    ):
        load_table(path, text_column="text")
    with pytest.raises(DataError, match=r"no column 'zzz' for the label: it has 'Text', 'label'$"):
        load_table(path, label_column="zzz")
    with pytest.raises(DataError, match="'label' can't be both text and label"):
        load_table(path, text_column="label", label_column="label")


def test_sources_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"'imbd' is neither 'imdb' nor a file .*did you mean 'imdb'"
    ):
        load("imbd")
    with pytest.raises(
        DataError, match=r"neither 'imdb' nor a file that exists: give imdb or .* each label$"
    ):
        load(str(tmp_path / "reviews.csv"))
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataError, match="is a folder"):
        load(str(tmp_path / "folder.csv"))
    with pytest.raises(DataError, match="does not exist: check the path"):
        load_table(tmp_path / "reviews.csv")
    with pytest.raises(ConfigError, match="imdb has no columns"):
        load("imdb", text_column="text")
    with pytest.raises(ConfigError, match="says where the imdb archive is"):
        load(str(tmp_path), data=tmp_path)


# Texts in, predictions out


def test_lines_of_a_text_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", b"\xef\xbb\xbfone, two\r\n\n \xc2\x85three\x0bfour\nlast")
    assert read_texts(path).texts == ["one, two", "", " \x85three\x0bfour", "last"]


def test_predictions_are_added_to_the_table(tmp_path: Path) -> None:
    source = write(tmp_path / "in.csv", 'id,text,label\n7,"a, b",x\n8,"c\r",\n')
    texts = read_texts(source)
    assert texts.text_column == "text"
    assert texts.texts == ["a, b", "c\r"]
    assert texts.lines == [2, 3]
    columns: dict[str, list[object]] = {"label": ["pos", "neg"], "probability": [0.25, 1.0]}
    assert write_predictions(tmp_path / "out.csv", source, columns) == 2
    assert (tmp_path / "out.csv").read_bytes() == (
        b"id,text,label,predicted_label,probability\n"
        b'7,"a, b",x,pos,0.25\n'
        b'"8","c\r","","neg","1.0"\n'
    )
    write_predictions(tmp_path / "out.tsv", source, columns)
    assert (tmp_path / "out.tsv").read_bytes().splitlines()[1] == b"7\ta, b\tx\tpos\t0.25"
    write_predictions(tmp_path / "out.jsonl", source, columns)
    assert [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()] == [
        {"id": "7", "text": "a, b", "label": "x", "predicted_label": "pos", "probability": 0.25},
        {"id": "8", "text": "c\r", "label": "", "predicted_label": "neg", "probability": 1.0},
    ]


def test_json_values_and_absent_keys_are_kept(tmp_path: Path) -> None:
    content = '{"text": "é", "n": [1, null]}\n{"text": "\\ud800", "late": true}\n'
    source = write(tmp_path / "in.jsonl", content)
    write_predictions(tmp_path / "out.ndjson", source, {"label": ["a", "b"]})
    assert (tmp_path / "out.ndjson").read_text(encoding="utf-8") == (
        '{"text": "é", "n": [1, null], "label": "a"}\n'
        '{"text": "\\ud800", "late": true, "label": "b"}\n'
    )
    write_predictions(tmp_path / "out.csv", source, {"label": ["a", "b"]})
    assert (tmp_path / "out.csv").read_text(encoding="utf-8") == (
        'text,n,late,label\né,"[1, null]",,a\n\\ud800,,true,b\n'
    )


def test_values_nested_to_any_depth_are_written_or_refused(tmp_path: Path) -> None:
    for depth in (500, *range(930, 1_000, 2), 100_000):
        nested = "[" * depth + "]" * depth
        source = write(tmp_path / "in.jsonl", f'{{"text": "a", "n": {nested}}}\n')
        target = tmp_path / f"{depth}.jsonl"
        try:
            write_predictions(target, source, {"label": ["x"]})
        except DataError:
            assert not target.exists()
        else:
            assert nested in target.read_text()
    assert (tmp_path / "500.jsonl").exists()


def test_headerless_table_of_texts_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="seems to have no header"):
        read_texts(write(tmp_path / "a.csv", f'"{LONG}"\nshort one\n'))


def test_output_that_can_not_be_written_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    write(folder / "old.csv", "old")
    source = write(tmp_path / "in.csv", "text,,\na,,\n")
    with pytest.raises(OutputError, match=r"'.*a.xlsx' is not one of .csv"):
        write_predictions(folder / "a.xlsx", source, {})
    with pytest.raises(OutputError, match=r"'.*a.parquet.gz' is not one of .csv"):
        write_predictions(folder / "a.parquet.gz", source, {})
    for name in ("a.jsonl", "a.parquet"):
        with pytest.raises(OutputError, match="two columns of the same name"):
            write_predictions(folder / name, source, {})
    with pytest.raises(OutputError, match=r"can't write .*: No such file"):
        write_predictions(folder / "missing" / "a.csv", source, {})
    damaged = write(tmp_path / "damaged.csv", "text\n" + "a\n" * 9_000 + "b,c\n")
    for name in ("old.csv", "old.csv.gz", "a.parquet"):
        with pytest.raises(DataError, match=r"damaged.csv, line 9002: 2 cells"):
            write_predictions(folder / name, damaged, {"label": ["x"] * 9_000})

    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"can't write .*: No space left"):
        write_predictions(folder / "old.csv", source, {"label": ["x"]})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"old.csv": b"old"}


# Properties

UNICODE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
SPECIAL = st.text(st.sampled_from(list(',"\t\r\n; a')), max_size=6)
CELLS = UNICODE | SPECIAL
JSON_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
NAMES = st.lists(
    st.text(string.ascii_lowercase, min_size=1, max_size=4).filter("text".__ne__),
    max_size=3,
    unique=True,
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | CELLS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(CELLS, inner, max_size=3),
    max_leaves=5,
)


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], list[list[str]]]:
    names = ["text", *draw(NAMES)]
    row = st.lists(CELLS, min_size=len(names), max_size=len(names))
    return names, draw(st.lists(row, min_size=1, max_size=5))


@pytest.mark.parametrize("kind", [".csv", ".tsv"])
@settings(deadline=None)
@given(table=tables(), ends=st.sampled_from(["\n", "\r\n"]))
@example(table=(["text"], [[""]]), ends="\n")
def test_what_csv_writes_is_read_back(
    scratch: Path, kind: str, table: tuple[list[str], list[list[str]]], ends: str
) -> None:
    names, rows = table
    path = scratch / f"table{kind}"
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(
            file,
            delimiter="\t" if kind == ".tsv" else ",",
            lineterminator=ends,
            quoting=csv.QUOTE_ALL if ends == "\n" else csv.QUOTE_MINIMAL,
        )
        writer.writerows([names, *rows])
    texts = read_texts(path)
    assert texts.texts == [row[0] for row in rows]
    assert (texts.columns, texts.rows) == (names, rows)

    write_predictions(scratch / f"out{kind}", path, {"text": [row[-1] for row in rows]})
    again = read_texts(scratch / f"out{kind}")
    assert again.columns == [*names, "predicted_text"]
    assert again.rows == [[*row, row[-1]] for row in rows]


@settings(deadline=None)
@given(
    items=st.lists(
        st.tuples(CELLS, st.dictionaries(CELLS.filter("text".__ne__), JSON, max_size=3)),
        min_size=1,
        max_size=5,
    ),
    ascii_only=st.booleans(),
)
def test_what_json_writes_is_read_back(
    scratch: Path, items: list[tuple[str, dict[str, Any]]], ascii_only: bool
) -> None:
    objects = [{**rest, "text": text} for text, rest in items]
    path = scratch / "table.jsonl"
    lines = (json.dumps(item, ensure_ascii=ascii_only) + "\n" for item in objects)
    path.write_bytes("".join(lines).encode())
    texts = read_texts(path)
    assert texts.texts == [text for text, _ in items]
    write_predictions(scratch / "out.jsonl", path, {})
    written = (scratch / "out.jsonl").read_bytes().decode().removesuffix("\n").split("\n")
    assert [json.loads(line) for line in written] == objects


@settings(deadline=None)
@given(lines=st.lists(UNICODE.filter(lambda t: "\n" not in t and not t.endswith("\r")), min_size=1))
@example(lines=["\ufeff", "", "\x0b\x0c\x1c\x85\u2028"])
def test_a_text_a_line_is_read_back(scratch: Path, lines: list[str]) -> None:
    path = scratch / "lines.txt"
    path.write_bytes(b"\xef\xbb\xbf" + "".join(line + "\r\n" for line in lines).encode())
    assert read_texts(path).texts == lines


PIECES = st.sampled_from(
    [
        *(b"text,label\n", b"text\tlabel\n", b'{"text": "a", "label": 1}', b'{"text":', b"{", b"}"),
        *(b"[", b'"', b",", b"\t", b"\n", b"\r", b"\0", b"\xff", b"\xef\xbb\xbf", b"a", b"1"),
        *(b"\\ud800", b" ", b"\xff\xfe", b"\xfe\xff", b"\0a", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd"),
    ]
)


KINDS = [".csv", ".tsv", ".jsonl", ".txt", ".parquet", ".csv.gz", ".jsonl.zst"]


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.binary(max_size=60) | st.lists(PIECES, max_size=20).map(b"".join))
def test_any_bytes_are_read_or_refused(scratch: Path, kind: str, data: bytes) -> None:
    path = write(scratch / f"bytes{kind}", data)
    assert_read_or_refused(path)


@pytest.mark.parametrize("kind", [".csv", ".jsonl"])
@given(data=st.binary(max_size=60) | st.lists(PIECES, max_size=20).map(b"".join))
def test_any_unpacked_bytes_are_read_or_refused(scratch: Path, kind: str, data: bytes) -> None:
    assert_read_or_refused(write(scratch / f"bytes{kind}.gz", gzip.compress(data)))


def assert_read_or_refused(path: Path) -> None:
    for reader in (read_texts, load_table):
        refusal = None
        try:
            result = reader(path)
        except TidegateError as error:
            refusal = str(error)
        if refusal is None:
            assert len(result.texts) == len(result) > 0
            assert all(isinstance(text, str) for text in result.texts)
        else:
            assert str(path) in refusal
            assert "\n" not in refusal
    for output in ("out.csv", "out.jsonl"):
        target = path.with_name(output)
        target.unlink(missing_ok=True)
        try:
            write_predictions(target, path, {"label": ["x"] * 99})
        except TidegateError:
            assert not target.exists()
        else:
            assert target.exists()
