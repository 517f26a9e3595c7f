"""Parquet: every type of column read, written again as it was, and damage told in one line."""

from __future__ import annotations

import datetime
import decimal
import json
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from test_tables import JSON_TEXT, read_texts, write, write_predictions
from tidegate.data import LabeledTexts, load, load_table, source_of
from tidegate.errors import ConfigError, DataError, TidegateError


def write_parquet(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    pq.write_table(pa.table(columns), path, **options)
    return path


@pytest.mark.parametrize(
    "kind",
    [
        pa.string(),
        pa.large_string(),
        pa.binary(),
        pa.dictionary(pa.int32(), pa.string()),
    ],
    ids=str,
)
def test_texts_of_every_type(tmp_path: Path, kind: pa.DataType) -> None:
    texts = ['good, "very"\r\ngood', "", "日本 😀"]
    column = pa.array(texts, kind)
    labels = pa.array([1, 0, 1], pa.int8())
    path = write_parquet(tmp_path / "a.parquet", {"label": labels, "text": column})
    assert load_table(path) == LabeledTexts(texts, ["1", "0", "1"])


def test_cells_become_values_of_json(tmp_path: Path) -> None:
    columns = {
        "text": ["a", "b"],
        "whole": pa.array([2**63, None], pa.uint64()),
        "number": pa.array([0.5, float("nan")]),
        "half": pa.array([float("inf"), 1.5], pa.float32()),
        "truth": [True, None],
        "day": [datetime.date(2024, 2, 29), None],
        "time": pa.array([1_700_000_000_123_456_789, None], pa.timestamp("ns", "UTC")),
        "span": pa.array([1500, None], pa.duration("ms")),
        "price": pa.array([decimal.Decimal("1.50"), None]),
        "list": [[1, None], []],
        "object": [{"x": {"y": 2.5}}, None],
        "nothing": pa.nulls(2),
    }
    path = write_parquet(tmp_path / "a.parquet", columns)
    write_predictions(tmp_path / "a.jsonl", path, {"label": ["p", "q"]})
    first, second = map(json.loads, (tmp_path / "a.jsonl").read_text().splitlines())
    assert first == {
        "text": "a",
        "whole": 2**63,
        "number": 0.5,
        "half": "inf",
        "truth": True,
        "day": "2024-02-29",
        "time": "2023-11-14 22:13:20.123456789Z",
        "span": first["span"],
        "price": "1.50",
        "list": [1, None],
        "object": {"x": {"y": 2.5}},
        "nothing": None,
        "label": "p",
    }
    assert "1" in first["span"]
    assert second == dict.fromkeys(columns) | {"text": "b", "half": 1.5, "list": [], "label": "q"}
    write_predictions(tmp_path / "a.csv", path, {"label": ["p", "q"]})
    assert (tmp_path / "a.csv").read_text().splitlines()[2] == "b,,,1.5,,,,,,[],,,q"


def test_a_parquet_table_keeps_its_types(tmp_path: Path) -> None:
    columns = {
        "n": pa.array(range(10_000), pa.int16()),
        "text": [f"text {i}" for i in range(10_000)],
        "day": pa.array([None] * 10_000, pa.date32()),
    }
    path = write_parquet(tmp_path / "a.parquet", columns, row_group_size=700)
    labels = [f"l{i % 3}" for i in range(10_000)]
    shares = [i / 10_000 for i in range(10_000)]
    assert write_predictions(
        tmp_path / "b.parquet", path, {"n": labels, "probability": shares}
    ) == len(labels)
    expected = pa.table(columns).append_column("predicted_n", [labels])
    expected = expected.append_column("probability", [shares])
    assert pq.read_table(tmp_path / "b.parquet").equals(expected)
    assert pq.ParquetFile(tmp_path / "b.parquet").num_row_groups == 1


def test_other_tables_become_columns_of_strings(tmp_path: Path) -> None:
    content = '{"text": "a", "n": [1, null]}\n{"text": "\\ud800", "late": true, "n": null}\n'
    source = write(tmp_path / "a.jsonl", content)
    write_predictions(tmp_path / "a.parquet", source, {"label": ["x", "y"], "probability": [0, 1]})
    table = pq.read_table(tmp_path / "a.parquet")
    assert table.schema.types == [pa.string(), pa.string(), pa.string(), pa.string(), pa.int64()]
    assert table.to_pydict() == {
        "text": ["a", "\\ud800"],
        "n": ["[1, null]", None],
        "late": [None, "true"],
        "label": ["x", "y"],
        "probability": [0, 1],
    }


@settings(max_examples=50)
@given(rows=st.lists(st.tuples(JSON_TEXT, JSON_TEXT), min_size=1, max_size=6))
def test_what_pyarrow_writes_is_read_back(scratch: Path, rows: list[tuple[str, str]]) -> None:
    texts, others = (list(column) for column in zip(*rows, strict=True))
    path = write_parquet(scratch / "a.parquet", {"other": others, "text": texts}, row_group_size=2)
    read = read_texts(path)
    assert read.columns == ["other", "text"]
    assert read.rows == [[other, text] for text, other in rows]
    assert read.lines == list(range(1, len(rows) + 1))
    write_predictions(scratch / "b.parquet", path, {"label": texts})
    assert pq.read_table(scratch / "b.parquet").to_pydict() == {
        "other": others,
        "text": texts,
        "label": texts,
    }


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"text": ["a", None], "label": [0, 1]}, r"a.parquet, row 2: null in column 'text', not a"),
        ({"text": ["a", "b"], "label": [0, None]}, "row 2: null in column 'label', not a label"),
        ({"text": ["a", "b"], "label": [0, float("nan")]}, "row 2: null in column 'label'"),
        ({"text": [b"\xff", b"b"], "label": [0, 1]}, "'text' holds bytes that are not UTF-8"),
        ({"text": [1, 2], "label": [0, 1]}, "row 1: a number in column 'text', not a text"),
        ({"text": pa.array([], pa.string())}, r"has a header \('text'\) but no rows"),
        ({}, "is empty: it has neither columns nor rows"),
        ({"n": [1, 2], "label": [0, 1]}, "looks like texts: name the one by text_column"),
    ],
)
def test_parquet_tables_that_can_not_be_used(
    tmp_path: Path, columns: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        load(str(write_parquet(tmp_path / "a.parquet", columns)))


def test_parquet_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a.parquet' does not exist: check the path"):
        read_texts(tmp_path / "a.parquet")
    (tmp_path / "a.parquet").mkdir()
    with pytest.raises(DataError, match=r"a\.parquet"):
        read_texts(tmp_path / "a.parquet")
    with pytest.raises(ConfigError, match="format='parquet' can't be read from standard input"):
        source_of("-", format="parquet")


def test_a_parquet_file_cut_or_changed_anywhere_is_one_error(tmp_path: Path) -> None:
    texts = [f"a text of number {i}" for i in range(50)]
    path = write_parquet(tmp_path / "a.parquet", {"text": texts})
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        write(path, whole[:length])
        with pytest.raises(DataError, match=r"a.parquet can't be read as a Parquet file") as caught:
            read_texts(path)
        assert "\n" not in str(caught.value)
    for place in range(0, len(whole), 3):
        changed = bytearray(whole)
        changed[place] ^= 0x55
        write(path, bytes(changed))
        refusal = ""
        try:
            read_texts(path)
        except TidegateError as error:
            refusal = str(error)
        assert "\n" not in refusal


def test_without_pyarrow_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_parquet(tmp_path / "a.parquet", {"text": ["a"]})
    source = write(tmp_path / "a.csv", "text\na\n")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"needs the package pyarrow: pip install 'tidegate\[data"):
        read_texts(path)
    with pytest.raises(DataError, match=r"pip install 'tidegate\[data\]'"):
        write_predictions(tmp_path / "b.parquet", source, {})
    assert not (tmp_path / "b.parquet").exists()
