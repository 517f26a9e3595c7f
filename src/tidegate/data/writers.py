"""Tables with what a model says of their texts, written in pieces, in the formats of readers."""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

from tidegate import atomic
from tidegate.data.compressed import compressed, zstd_module
from tidegate.data.formats import DELIMITERS, Target
from tidegate.data.parquet import parquet_pieces, pyarrow
from tidegate.data.readers import ABSENT, Block, cell_text
from tidegate.data.tables import TextStream
from tidegate.errors import DataError, OutputError

Answer: TypeAlias = Callable[[list[str]], Sequence[Sequence[object]]]
_Scored: TypeAlias = tuple[Block, Sequence[Sequence[object]]]


def check_target(target: Target) -> None:
    """Raise DataError if the package that is needed to write this format is not there."""
    if target.format == "parquet":
        pyarrow(str(target.path))
    if target.compression == "zstd":
        zstd_module(str(target.path))


def write_predictions(
    target: Target, texts: TextStream, added: Sequence[str], answer: Answer
) -> int:
    """Write the table of ``texts`` with columns ``added``; return the number of rows.

    answer: gives for some texts the columns' values, one list for each. It is asked block by
    block, so that memory does not grow with the table. A column whose name the table already has
    is written as "predicted_" and its name. The file appears whole or not at all: an older one
    stays as it is until then.

    Raises OutputError when it can't be written, DataError for what is wrong in the table.
    """
    columns = texts.rows.columns
    new = _new_names(columns, added)
    if target.format not in DELIMITERS and len(set(columns)) < len(columns):
        raise OutputError(
            f"{texts.rows.source.name} has two columns of the same name, which "
            f"{target.path.name} can't have: write .csv or .tsv"
        )
    rows = 0

    def scored() -> Iterator[_Scored]:
        nonlocal rows
        known = len(columns)
        for block, block_texts in texts.blocks():
            if len(columns) > known:
                _check_late_keys(texts, columns[known:], new, target)
                known = len(columns)
            rows += len(block)
            yield block, answer(block_texts)

    pieces: Iterator[bytes]
    if target.format == "parquet":
        pieces = parquet_pieces([*columns, *new], scored(), str(target.path))
    elif target.format == "jsonl":
        pieces = _json_lines(columns, new, scored())
    else:
        pieces = _delimited([*columns, *new], scored(), target.delimiter_after(texts.rows.source))
    try:
        atomic.write(target.path, compressed(pieces, target.compression, str(target.path)))
    except RecursionError as error:  # read it can be, with a little less depth to spare
        raise DataError(
            f"{texts.rows.source.name} has a value of lists in lists that are nested too deeply to "
            "be written: leave that key out"
        ) from error
    return rows


def _new_names(columns: Sequence[str], added: Sequence[str]) -> list[str]:
    names = list(columns)
    for name in added:
        while name in names:
            name = f"predicted_{name}"
        names.append(name)
    return names[len(columns) :]


def _check_late_keys(
    texts: TextStream, late: Sequence[str], new: Sequence[str], target: Target
) -> None:
    """Keys that come after the first rows of a stream that can't be read twice."""
    trouble = late if target.format != "jsonl" else [key for key in late if key in new]
    if trouble:
        raise DataError(
            f"{texts.rows.source.name} has the key {trouble[0]!r} only in later lines, when the "
            f"columns of {str(target.path)!r} are settled: put the key into the first line too, or "
            "give the lines as a file, which is read twice"
        )


def _json_lines(
    columns: list[str], new: Sequence[str], scored: Iterator[_Scored]
) -> Iterator[bytes]:
    for block, added in scored:
        lines: list[str] = []
        for row, values in _rows(block, added):
            item = {n: cell for n, cell in zip(columns, row, strict=False) if cell is not ABSENT}
            item.update(zip(new, values, strict=True))
            lines.append(json.dumps(item, ensure_ascii=False, allow_nan=False))
        lines.append("")
        yield _encoded("\n".join(lines))


def _rows(
    block: Block, added: Sequence[Sequence[object]]
) -> Iterator[tuple[list[Any], tuple[object, ...]]]:
    """Each row with its added values."""
    values = zip(*added, strict=True) if added else itertools.repeat((), len(block))
    return zip(block.rows, values, strict=True)


def _delimited(names: list[str], scored: Iterator[_Scored], delimiter: str) -> Iterator[bytes]:
    yield _encoded(_delimited_text([names], delimiter))
    for block, added in scored:
        width = len(names) - len(added)
        rows = [
            [*map(_cell, row), *itertools.repeat("", width - len(row)), *map(_cell, values)]
            for row, values in _rows(block, added)
        ]
        yield _encoded(_delimited_text(rows, delimiter))


def _cell(value: object) -> object:
    # csv writes these as JSON does, and None as nothing.
    return value if type(value) in (str, float, int) else cell_text(value)


def _delimited_text(rows: Sequence[Sequence[object]], delimiter: str) -> str:
    text = io.StringIO()
    options: dict[str, Any] = {"delimiter": delimiter, "lineterminator": "\n"}
    sparing = csv.writer(text, **options)
    sparing.writerows(rows)
    if "\r" not in text.getvalue():
        return text.getvalue()
    # before Python 3.13 csv leaves a lone carriage return bare, which no reader takes
    text = io.StringIO()
    sparing = csv.writer(text, **options)
    quoting = csv.writer(text, quoting=csv.QUOTE_ALL, **options)
    for returns, some in itertools.groupby(rows, _has_return):
        (quoting if returns else sparing).writerows(some)
    return text.getvalue()


def _has_return(row: Sequence[object]) -> bool:
    return any(isinstance(cell, str) and "\r" in cell for cell in row)


def _encoded(text: str) -> bytes:
    # Half a surrogate pair, which JSON can hold, becomes JSON's own escape for it.
    return text.encode(errors="backslashreplace")
