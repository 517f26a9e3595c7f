"""The rows of a table, read in blocks that fit in memory: CSV, TSV, JSON Lines, lines, Parquet.

CRLF line ends and, in CSV and TSV, line ends inside quotes are understood. Blank lines are passed
over, but in a .txt file each one is an empty text. Errors count lines from 1, as an editor does,
and name the line on which a row begins.
"""

from __future__ import annotations

import csv
import itertools
import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tidegate.data.compressed import Stream, open_stream
from tidegate.data.delimiters import GUESSED, long_cells, settle_delimiter
from tidegate.data.encodings import Lines
from tidegate.data.formats import DELIMITERS, Source
from tidegate.data.lines import text_blocks
from tidegate.errors import DataError

ABSENT: Final = object()  # the cell of a JSON object that lacks the key

BLOCK_ROWS = 4096
BLOCK_CHARACTERS = 8 << 20

_MOST_COLUMNS = 1_000  # a JSON Lines file with more keys has data where its keys should be


class Block:
    """Some rows of a table, in order.

    Cells are str in CSV, TSV and lines; in JSON Lines and Parquet they are any JSON value, and a
    row of JSON Lines may be shorter than the table is wide (its last cells are ABSENT).
    ``lines[i]`` is the line on which ``rows[i]`` begins, from 1.
    """

    def __init__(self, rows: list[list[Any]], lines: Sequence[int]) -> None:
        self.rows = rows
        self.lines = lines

    def __len__(self) -> int:
        return len(self.lines)

    def cells(self, column: int) -> list[Any]:
        """The cells of column number ``column``, from 0."""
        return [row[column] if column < len(row) else ABSENT for row in self.rows]


@dataclass
class RowStream:
    """A table that is being read. There is at least one column, and a row in the first block.

    source: with the delimiter that was found. columns: their names; those of JSON Lines are known
    as far as it was read, and grow. blocks: the rows, to be iterated over once.
    """

    source: Source
    columns: list[str]
    blocks: Iterator[Block]


@dataclass(frozen=True)
class Table:
    """All rows of a source, or its first ones; fields as in Block."""

    source: Source
    columns: tuple[str, ...]
    rows: list[list[Any]]
    lines: list[int]

    def cells(self, column: int) -> list[Any]:
        """The cells of column number ``column``, from 0."""
        return Block(self.rows, self.lines).cells(column)


@contextmanager
def open_rows(source: Source, *, keys: Sequence[str] = ()) -> Iterator[RowStream]:
    """The rows of a source, while the context lasts.

    keys: of JSON Lines, those that are known already, in their order.

    Raises DataError, with the line if there is one, for a file that can't be read or decoded and
    for one without rows; in the blocks, for what is wrong further down.
    """
    columns: list[str] = list(keys)
    if source.format == "parquet":
        from tidegate.data.parquet import parquet_blocks

        yield _begun(source, columns, parquet_blocks(source, columns))
        return
    with open_stream(source) as stream:
        if source.format in DELIMITERS:
            text = Lines(stream, source.name, source.encoding, returns=True)
            source, lines = settle_delimiter(source, iter(text))
            blocks = _delimited(text, lines, source, columns)
        elif source.format == "jsonl":
            blocks = _json_lines(stream, source, columns)
        else:
            columns.append("text")
            blocks = _plain_lines(stream, source)
        yield _begun(source, columns, blocks)


def _begun(source: Source, columns: list[str], blocks: Iterator[Block]) -> RowStream:
    first = next(blocks, None)
    if not columns:
        raise DataError(f"{source.name} is empty: it has neither columns nor rows")
    if first is None:
        raise DataError(f"{source.name} has a header ({listed(columns)}) but no rows")
    return RowStream(source, columns, itertools.chain([first], blocks))


def read_table(source: Source) -> tuple[Table, Table]:
    """The table of a source: its first rows, by which columns are guessed, and all of them."""
    with open_rows(source) as stream:
        first = next(stream.blocks)
        width = len(stream.columns)
        rows, lines = list(first.rows), list(first.lines)
        for block in stream.blocks:
            rows += block.rows
            lines += block.lines
        columns = tuple(stream.columns)
        source = stream.source
    head = Table(source, columns[:width], rows[: len(first)], lines[: len(first)])
    return head, Table(source, columns, rows, lines)


def read_path(path: Path, format: str) -> Table:
    """The table in a file of a known format."""
    return read_table(Source(path, format))[1]


def _delimited(
    text: Lines, all_lines: Iterator[str], source: Source, columns: list[str]
) -> Iterator[Block]:
    # strict: a quote that is never closed is an error, and does not swallow the other rows
    reader = csv.reader(all_lines, delimiter=delimiter_of(source), strict=True)
    line = 1
    ended = False
    while not ended:
        rows: list[list[Any]] = []
        lines: list[int] = []
        enough = text.characters + BLOCK_CHARACTERS
        try:
            with long_cells():
                for cells in reader:
                    if not cells:  # a blank line
                        pass
                    elif not columns:
                        columns += cells
                    elif len(cells) != len(columns):
                        raise _uneven(source, line, cells, columns)
                    else:
                        rows.append(cells)
                        lines.append(line)
                    line = reader.line_num + 1
                    if len(rows) == BLOCK_ROWS or text.characters > enough:
                        break
                else:
                    ended = True
        except csv.Error as error:
            raise DataError(
                f"{source.name}, line {line}: {error}; put quotes around the whole cell, and "
                "double the quotes in it"
            ) from error
        if rows:
            yield Block(rows, lines)


def _uneven(source: Source, line: int, cells: Sequence[str], columns: Sequence[str]) -> DataError:
    return DataError(
        f"{source.name}, line {line}: {len(cells)} cells, but the header has {len(columns)} "
        f"({listed(columns)}); "
        + (other_delimiter(source, columns) or "put quotes around a text that holds the delimiter")
    )


def _json_lines(stream: Stream, source: Source, columns: list[str]) -> Iterator[Block]:
    places = {key: place for place, key in enumerate(columns)}
    text = Lines(stream, source.name, source.encoding, returns=False)
    rows: list[list[Any]] = []
    lines: list[int] = []
    enough = BLOCK_CHARACTERS
    for number, line in enumerate(text, start=1):
        if not line.strip():
            continue
        item = _json_object(line, source, number)
        row = [ABSENT] * len(places)
        for key, value in item.items():
            place = places.setdefault(key, len(places))
            if place == len(row):
                row.append(value)
                columns.append(key)
            else:
                row[place] = value
        if len(places) > _MOST_COLUMNS:
            raise DataError(
                f"{source.name}, line {number}: more than {_MOST_COLUMNS:,} different keys so far; "
                "each line must be an object with the same few keys"
            )
        rows.append(row)
        lines.append(number)
        if len(rows) == BLOCK_ROWS or text.characters > enough:
            yield Block(rows, lines)
            rows, lines = [], []
            enough = text.characters + BLOCK_CHARACTERS
    if rows:
        yield Block(rows, lines)


def json_keys(source: Source) -> list[str]:
    """All keys of a JSON Lines file in the order in which they come; it is read to its end."""
    with open_rows(source) as stream:
        for _ in stream.blocks:
            pass
        return stream.columns


def _json_object(line: str, source: Source, number: int) -> dict[str, Any]:
    try:
        item = json.loads(
            line,
            parse_constant=_refuse_constant,
            parse_float=_finite,
            object_pairs_hook=_distinct,
        )
    except (ValueError, RecursionError) as error:
        raise DataError(f"{source.name}, line {number}: not JSON ({error})") from error
    if not isinstance(item, dict):
        raise DataError(
            f"{source.name}, line {number}: {kind(item)}, not an object such as "
            '{"text": "...", "label": "..."}'
        )
    return item


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON value")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        shown = digits if len(digits) <= 40 else digits[:37] + "..."
        raise ValueError(f"{shown} is too large for a number; write it as a string")
    return number


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    item = dict(pairs)
    if len(item) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} stands there twice")
    return item


def _plain_lines(stream: Stream, source: Source) -> Iterator[Block]:
    number = 1
    for texts in text_blocks(stream, source.name, source.encoding):
        yield Block([[text] for text in texts], range(number, number + len(texts)))
        number += len(texts)


def listed(columns: Sequence[str]) -> str:
    """Column names for a message, which stays readable when they are many or long."""
    names = [repr(name if len(name) <= 40 else name[:37] + "...") for name in columns[:20]]
    return ", ".join([*names, f"and {len(columns) - 20} more"] if len(columns) > 20 else names)


def delimiter_of(source: Source) -> str:
    """What stands between the cells of CSV or TSV."""
    return source.delimiter or DELIMITERS[source.format]


def other_delimiter(source: Source, columns: Sequence[str]) -> str:
    """What to do about a header that is one cell with another delimiter in it; or ""."""
    if source.format not in DELIMITERS or len(columns) != 1:
        return ""
    own = delimiter_of(source)
    found = next((mark for mark in GUESSED if mark != own and mark in columns[0]), None)
    if found is None:
        return ""
    shown = "tab" if found == "\t" else repr(found)
    return (
        f"its header is one cell with {found!r} in it: put {own!r} between the cells, or give "
        f"delimiter (--delimiter {shown})"
    )


def kind(value: object) -> str:
    """What a JSON value is, in words."""
    if value is ABSENT:
        return "nothing"
    if isinstance(value, str):
        return "a text" if value.strip() else "an empty cell"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, (int, float)):
        return "a number"
    return "a list" if isinstance(value, list) else "an object"


def cell_text(value: object) -> str | None:
    """A cell as CSV has it: texts as they are, others as JSON writes them, None for no value."""
    if isinstance(value, str):
        return value
    if value is None or value is ABSENT:
        return None
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
