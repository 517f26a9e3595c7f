"""Parquet files, read and written in pieces by pyarrow, which is imported only here."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from tidegate.data.formats import Source
from tidegate.data.readers import BLOCK_ROWS, Block, cell_text
from tidegate.errors import DataError

# Rows of a row group that is written, or as many bytes: small groups are slow to read.
_GROUP_ROWS = 1 << 16
_GROUP_BYTES = 32 << 20


def pyarrow(name: str) -> Any:
    """The package with its module parquet, for the file called ``name``. DataError without it."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise DataError(
            f"{name} is a Parquet file, which needs the package pyarrow: pip install "
            "'tidegate[data]'"
        ) from error
    return pyarrow


class ParquetBlock(Block):
    """Rows of a Parquet file, which become Python's values only where they are asked for.

    batch: the rows as pyarrow has them. first: the number of the first one, from 1.
    """

    def __init__(self, batch: Any, source: Source, first: int) -> None:
        self.batch = batch
        self.lines = range(first, first + batch.num_rows)
        self._source = source

    @cached_property
    def rows(self) -> list[list[Any]]:  # type: ignore[override]
        columns = [self.cells(column) for column in range(self.batch.num_columns)]
        return [list(row) for row in zip(*columns, strict=True)]

    def cells(self, column: int) -> list[Any]:
        """The cells of a column as JSON has them: dates as text, what is no number as null."""
        types = pyarrow(self._source.name).types
        values = self.batch.column(column)
        with _reading(self._source):
            if types.is_temporal(values.type):
                values = values.cast("string")
            listed: list[Any] = values.to_pylist()
        if types.is_string(values.type) or types.is_integer(values.type):
            return listed
        try:
            return [_json_value(value) for value in listed]
        except UnicodeDecodeError as error:
            raise DataError(
                f"{self._source.name}: column {self.batch.schema.names[column]!r} holds bytes that "
                "are not UTF-8: store texts as strings, and leave out other bytes"
            ) from error


def _json_value(value: Any) -> Any:
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        return None if math.isnan(value) else str(value)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, dict):
        return {str(key): _json_value(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_value(each) for each in value]
    return str(value)


def parquet_blocks(source: Source, columns: list[str]) -> Iterator[Block]:
    """The rows of a Parquet file in blocks; the columns' names are put into ``columns`` first."""
    assert source.path is not None  # noqa: S101 (source_of sees to it)
    arrow = pyarrow(source.name)
    first = 1
    with _reading(source), arrow.OSFile(str(source.path)) as file:
        # Without prefetching, a row group of any size is read page by page.
        table = arrow.parquet.ParquetFile(file, pre_buffer=False, buffer_size=1 << 20)
        columns += table.schema_arrow.names
        for batch in table.iter_batches(batch_size=BLOCK_ROWS, use_threads=False):
            if batch.num_rows:
                yield ParquetBlock(batch, source, first)
            first += batch.num_rows


@contextmanager
def _reading(source: Source) -> Iterator[None]:
    """Every refusal of pyarrow's is one kind of error."""
    try:
        yield
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{source.name!r} does not exist: check the path") from error
    except IsADirectoryError as error:
        raise DataError(f"{source.name!r} is a folder: give the path of a file in it") from error
    except (pyarrow(source.name).ArrowException, OSError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"{source.name} can't be read as a Parquet file: it is cut off, damaged or another "
            f"file ({reason})"
        ) from error


def parquet_pieces(
    names: Sequence[str],
    blocks: Iterator[tuple[Block, Sequence[Sequence[object]]]],
    name: str,
) -> Iterator[bytes]:
    """The bytes of a Parquet file with the blocks' rows, each with its added columns.

    Columns of a Parquet file keep their types; those of other formats are strings, with values
    that are no texts as JSON writes them, and null for what is absent. name: of the file.
    """
    arrow = pyarrow(name)
    sink = _Sink()
    writer = None
    group: list[Any] = []
    for block, added in blocks:
        if isinstance(block, ParquetBlock):
            arrays = list(block.batch.columns)
        else:
            columns = [block.cells(column) for column in range(len(names) - len(added))]
            arrays = [
                arrow.array([_text(cell) for cell in cells], arrow.string()) for cells in columns
            ]
        arrays += [arrow.array(values) for values in added]
        group.append(arrow.RecordBatch.from_arrays(arrays, list(names)))
        if writer is None:
            writer = arrow.parquet.ParquetWriter(sink, group[0].schema)
        rows = sum(batch.num_rows for batch in group)
        if rows >= _GROUP_ROWS or sum(batch.nbytes for batch in group) >= _GROUP_BYTES:
            writer.write_table(arrow.Table.from_batches(group))
            group = []
            yield sink.taken()
    if writer is not None:
        if group:
            writer.write_table(arrow.Table.from_batches(group))
        writer.close()
    yield sink.taken()


def _text(cell: object) -> str | None:
    text = cell_text(cell)
    # Half a surrogate pair, which JSON can hold, becomes JSON's own escape for it.
    return None if text is None else text.encode(errors="backslashreplace").decode()


class _Sink:
    """A file for pyarrow to write to, whose bytes are taken away as they come."""

    closed = False

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._written = 0

    def write(self, piece: Any) -> int:
        self._pieces.append(bytes(piece))
        self._written += len(self._pieces[-1])
        return len(self._pieces[-1])

    def tell(self) -> int:
        return self._written

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Nothing to do: the bytes are the caller's."""

    def taken(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)
