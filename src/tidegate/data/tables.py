"""Texts in tables: .csv, .tsv, .jsonl, .ndjson and .txt files in UTF-8, read and written.

A byte order mark, CRLF line ends and, in .csv and .tsv, line ends inside quotes are understood.
Blank lines are passed over, but in a .txt file each one is an empty text. Errors count lines from
1, as an editor does, and name the line on which a row begins.
"""

from __future__ import annotations

import csv
import difflib
import itertools
import json
import math
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

import numpy as np

from tidegate import atomic
from tidegate.data.dataset import LabeledTexts
from tidegate.data.lines import file_blocks
from tidegate.errors import DataError, OutputError, ShapeError

READABLE = (".csv", ".tsv", ".jsonl", ".ndjson")
DELIMITERS = {".csv": ",", ".tsv": "\t"}
JSON_LINES = (".jsonl", ".ndjson")

# column names that say what a column holds, the most telling first
TEXT_NAMES = (
    *("text", "texts", "review", "content", "sentence", "comment", "message", "body", "document"),
    *("tweet", "post", "utterance", "question", "description", "title"),
)
LABEL_NAMES = (
    *("label", "labels", "sentiment", "class", "category", "target", "polarity", "intent"),
    *("emotion", "topic", "rating", "stars", "score"),
)

ABSENT: Final = object()  # the cell of a JSON object that lacks the key

_LARGEST_FIELD = 2**31 - 1  # characters; the most that csv takes on every platform
_MOST_COLUMNS = 1_000  # a JSON Lines file with more keys has data where its keys should be
_MOST_LABELS = 100  # a column with more values is not guessed to hold labels
_LONGEST_NAME = (60, 6)  # characters, words; a longer column name is a text


@dataclass(frozen=True)
class Table:
    """The rows of a file, in order.

    Cells are str in .csv, .tsv and .txt files; in JSON Lines they are any JSON value or ABSENT,
    and a row may be shorter than ``columns`` (its last cells are absent). ``lines[i]`` is the line
    on which ``rows[i]`` begins, from 1.
    """

    path: Path
    columns: tuple[str, ...]
    rows: list[list[Any]]
    lines: array[int]

    def cells(self, column: int) -> list[Any]:
        """The cells of column number ``column``, from 0."""
        return [row[column] if column < len(row) else ABSENT for row in self.rows]


@dataclass(frozen=True)
class TextTable:
    """A table whose texts are to be classified: ``texts[i]`` is the text of ``table.rows[i]``."""

    table: Table = field(repr=False)
    text_column: str
    texts: list[str]

    def __len__(self) -> int:
        return len(self.texts)


def load_table(
    path: Path,
    *,
    text_column: str | None = None,
    label_column: str | None = None,
    min_classes: int = 2,
) -> LabeledTexts:
    """All rows of a .csv, .tsv, .jsonl or .ndjson file as labelled texts, in order.

    A column that is not given is the first with a well-known name (TEXT_NAMES, LABEL_NAMES,
    whatever the case), or else chosen by content: the text column is the one with the longest
    texts on average, the label column the one with the fewest different values. Blanks around a
    label do not count; JSON numbers and true or false are labels as JSON writes them.

    Raises DataError for a file that can't be read or decoded, a column that is not there or can't
    be guessed, a row without text or label, and fewer different labels than ``min_classes``.
    """
    labeled, _ = load_labeled_table(
        path, text_column=text_column, label_column=label_column, min_classes=min_classes
    )
    return labeled


def load_labeled_table(
    path: Path,
    *,
    text_column: str | None = None,
    label_column: str | None = None,
    min_classes: int = 2,
) -> tuple[LabeledTexts, str]:
    """What ``load_table`` gives, and words that say which columns were used and why."""
    if path.suffix.lower() == ".txt":
        raise DataError(
            f"{path} has no labels: give a {', '.join(READABLE)} file with a label column"
        )
    table = read_table(path)
    label, why_label = None, ""
    if label_column is not None:
        label, why_label = _named(table, label_column, "label"), "given"
    text, why_text = _find_text(table, text_column, label)
    if label is None:
        label, why_label = _guess_label(table, text)
    if label == text:
        raise DataError(f"{path}: column {table.columns[text]!r} can't be both text and label")
    labels = _labels(table, label)
    if not {why_text, why_label} <= {"given", "named so"}:
        _refuse_data_as_header(table, table.columns[label].strip() in set(labels))
    classes = len(set(labels))
    if classes < min_classes:
        raise DataError(
            f"{path}: column {table.columns[label]!r} holds one label only ({labels[0]!r}, "
            f"{len(labels)} rows): a classifier needs at least {min_classes}"
            if classes == 1
            else f"{path}: column {table.columns[label]!r} holds {classes} different labels, "
            f"{min_classes} are needed"
        )
    words = (
        f"text column {table.columns[text]!r}, {why_text}; "
        f"label column {table.columns[label]!r}, {why_label}"
    )
    return LabeledTexts(_texts(table, text), labels), words


def read_texts(path: Path, *, text_column: str | None = None) -> TextTable:
    """The texts of a .csv, .tsv, .jsonl or .ndjson table, or of a .txt file with one text a line.

    The text column is found as ``load_table`` finds it; labels are not needed. Raises DataError as
    ``load_table`` does.
    """
    table = read_table(path)
    column, why = _find_text(table, text_column, None)
    if why not in ("given", "named so"):
        _refuse_data_as_header(table, False)
    return TextTable(table, table.columns[column], _texts(table, column))


def read_table(path: Path) -> Table:
    """The table in ``path``, by its extension. Raises DataError, with the line if there is one."""
    kind = path.suffix.lower()
    reader: Callable[[Path], Table]
    if kind in DELIMITERS:
        reader = _read_delimited
    elif kind in JSON_LINES:
        reader = _read_json_lines
    elif kind == ".txt":
        reader = _read_lines
    else:
        raise DataError(
            f"{str(path)!r} is not one of {', '.join(READABLE)} (or .txt, for texts without "
            "labels); other formats, such as Parquet or Excel, are not read yet: save it as one "
            "of these"
        )
    try:
        table = reader(path)
    except UnicodeDecodeError as error:
        raise _not_utf8(path) from error
    except FileNotFoundError as error:
        raise DataError(f"{str(path)!r} does not exist: check the path") from error
    except IsADirectoryError as error:
        raise DataError(f"{str(path)!r} is a folder: give the path of a file in it") from error
    except (OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{str(path)!r} can't be read: {error}") from error
    if not table.columns:
        raise DataError(f"{path} is empty: it has neither columns nor rows")
    if not table.rows:
        raise DataError(f"{path} has a header ({_listed(table.columns)}) but no rows")
    return table


def _not_utf8(path: Path) -> DataError:
    """The error for a file that is not UTF-8, with the place of the first byte that is wrong."""
    offset = 0
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                return DataError(
                    f"{path} is not UTF-8: byte 0x{line[error.start]:02x} at offset "
                    f"{offset + error.start} (line {number}); save it as UTF-8"
                )
            offset += len(line)
    return DataError(f"{path} is not UTF-8, or changes while it is read; save it as UTF-8")


def _checked_lines(stream: IO[str], path: Path) -> Iterator[str]:
    for number, line in enumerate(stream, start=1):
        if "\0" in line:
            raise DataError(
                f"{path}, line {number}: a NUL byte; it is not a text file, or is UTF-16: save it "
                "as UTF-8"
            )
        yield line


def _read_delimited(path: Path) -> Table:
    rows: list[list[Any]] = []
    lines = array("q")
    header: list[str] | None = None
    limit = csv.field_size_limit(_LARGEST_FIELD)
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            # strict: a quote that is never closed is an error, and does not swallow the other rows
            reader = csv.reader(
                _checked_lines(stream, path),
                delimiter=DELIMITERS[path.suffix.lower()],
                strict=True,
            )
            line = 1
            for cells in reader:
                if not cells:  # a blank line
                    pass
                elif header is None:
                    header = cells
                elif len(cells) != len(header):
                    raise DataError(
                        f"{path}, line {line}: {len(cells)} cells, but the header has "
                        f"{len(header)} ({_listed(header)}); "
                        + (
                            _other_delimiter(header, path)
                            or "put quotes around a text that holds the delimiter"
                        )
                    )
                else:
                    rows.append(cells)
                    lines.append(line)
                line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{path}, line {line}: {error}; put quotes around the whole cell, and double the "
            "quotes in it"
        ) from error
    finally:
        csv.field_size_limit(limit)
    return Table(path, tuple(header or ()), rows, lines)


def _read_json_lines(path: Path) -> Table:
    places: dict[str, int] = {}
    rows: list[list[Any]] = []
    lines = array("q")
    with open(path, encoding="utf-8-sig", newline="\n") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                item = json.loads(line, parse_constant=_refuse_constant, parse_float=_finite)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{path}, line {number}: not JSON ({error})") from error
            if not isinstance(item, dict):
                raise DataError(
                    f"{path}, line {number}: {_kind(item)}, not an object such as "
                    '{"text": "...", "label": "..."}'
                )
            row = [ABSENT] * len(places)
            for key, value in item.items():
                place = places.setdefault(key, len(places))
                if place == len(row):
                    row.append(value)
                else:
                    row[place] = value
            if len(places) > _MOST_COLUMNS:
                raise DataError(
                    f"{path}, line {number}: more than {_MOST_COLUMNS:,} different keys so far; "
                    "each line must be an object with the same few keys"
                )
            rows.append(row)
            lines.append(number)
    return Table(path, tuple(places), rows, lines)


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON value")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        shown = digits if len(digits) <= 40 else digits[:37] + "..."
        raise ValueError(f"{shown} is too large for a number; write it as a string")
    return number


def _read_lines(path: Path) -> Table:
    rows: list[list[Any]] = [[line] for block in file_blocks(path) for line in block]
    return Table(path, ("text",), rows, array("q", range(1, len(rows) + 1)))


def _listed(columns: Sequence[str]) -> str:
    """Column names for a message, which stays readable when they are many or long."""
    names = [repr(name if len(name) <= 40 else name[:37] + "...") for name in columns[:20]]
    return ", ".join([*names, f"and {len(columns) - 20} more"] if len(columns) > 20 else names)


def _other_delimiter(columns: Sequence[str], path: Path) -> str:
    """What to do about a header that is one cell with another format's delimiter in it; or ""."""
    own = DELIMITERS.get(path.suffix.lower())
    if own is None or len(columns) != 1:
        return ""
    found = next((mark for mark in ";\t|," if mark != own and mark in columns[0]), None)
    if found is None:
        return ""
    mend = f"put {own!r} between the cells"
    for suffix, delimiter in DELIMITERS.items():
        if delimiter == found:
            mend = f"name the file {suffix}"
    return f"its header is one cell with {found!r} in it: {mend}"


def _named(table: Table, name: str, purpose: str) -> int:
    """The number of the column called ``name``."""
    if table.columns.count(name) > 1:
        raise DataError(f"{table.path} has more than one column named {name!r}: rename one")
    if name in table.columns:
        return table.columns.index(name)
    near = difflib.get_close_matches(name.lower(), [c.lower() for c in table.columns], n=1)
    hint = next((c for c in table.columns if near and c.lower() == near[0]), None)
    raise DataError(
        f"{table.path} has no column {name!r} for the {purpose}: it has {_listed(table.columns)}"
        + (f"; did you mean {hint!r}?" if hint is not None else "")
        + (f"; {other}" if (other := _other_delimiter(table.columns, table.path)) else "")
    )


def _well_known(table: Table, names: Iterable[str], taken: int | None) -> int | None:
    columns = [column.strip().lower() for column in table.columns]
    for name in names:
        for place, column in enumerate(columns):
            if column == name and place != taken:
                return _named(table, table.columns[place], name)
    return None


def _find_text(table: Table, name: str | None, taken: int | None) -> tuple[int, str]:
    """The number of the text column, and how it was found."""
    if name is not None:
        return _named(table, name, "text"), "given"
    column = _well_known(table, TEXT_NAMES, taken)
    if column is not None:
        return column, "named so"
    if other := _other_delimiter(table.columns, table.path):
        raise DataError(f"{table.path}: {other}, or name the column by text_column (--text-column)")
    lengths: dict[int, float] = {}
    for place, title in enumerate(table.columns):
        cells = table.cells(place)
        title = title.strip().lower()
        if place == taken or not title or title in LABEL_NAMES:
            continue
        if not all(isinstance(cell, str) for cell in cells):
            continue
        # numbers and dates have no letters
        if 2 * sum(any(map(str.isalpha, cell)) for cell in cells) >= len(cells):
            lengths[place] = sum(map(len, cells)) / len(cells)
    if not lengths:
        raise DataError(
            f"{table.path}: none of its columns ({_listed(table.columns)}) looks like texts: name "
            "the one by text_column (--text-column)"
        )
    return max(lengths, key=lengths.__getitem__), "guessed by its long texts"


def _guess_label(table: Table, text: int) -> tuple[int, str]:
    """The number of the label column, and how it was found."""
    column = _well_known(table, LABEL_NAMES, text)
    if column is not None:
        return column, "named so"
    most = max(2, min(_MOST_LABELS, len(table.rows) // 2))
    counts: dict[int, int] = {}
    for place, title in enumerate(table.columns):
        if place == text or not title.strip():
            continue
        values = {_label(cell) for cell in table.cells(place)}
        if None not in values and 2 <= len(values) <= most:
            counts[place] = len(values)
    if not counts:
        raise DataError(
            f"{table.path}: none of its columns ({_listed(table.columns)}) looks like labels: name "
            "the one by label_column (--label-column)"
        )
    return min(counts, key=counts.__getitem__), "guessed by its few values"


def _refuse_data_as_header(table: Table, header_is_label: bool) -> None:
    """Columns were guessed by content: then a header that reads like a row is likely to be one."""
    if table.path.suffix.lower() not in DELIMITERS:
        return
    characters, words = _LONGEST_NAME
    if header_is_label or any(
        len(column) > characters or len(column.split()) > words for column in table.columns
    ):
        delimiter = DELIMITERS[table.path.suffix.lower()]
        raise DataError(
            f"{table.path} seems to have no header: its first row ({_listed(table.columns)}) reads "
            f"like data; put a line such as {delimiter.join(('text', 'label'))!r} before it, or "
            "name the columns if that row is the header"
        )


def _texts(table: Table, column: int) -> list[str]:
    texts = table.cells(column)
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise DataError(
                f"{table.path}, line {table.lines[row]}: {_kind(text)} in column "
                f"{table.columns[column]!r}, not a text"
            )
    return texts


def _labels(table: Table, column: int) -> list[str]:
    labels: list[str] = []
    same: dict[str, str] = {}  # each label is kept once, not once a row
    for row, cell in enumerate(table.cells(column)):
        label = _label(cell)
        if label is None:
            raise DataError(
                f"{table.path}, line {table.lines[row]}: {_kind(cell)} in column "
                f"{table.columns[column]!r}, not a label; fill it in or delete the row"
            )
        labels.append(same.setdefault(label, label))
    return labels


def _label(cell: object) -> str | None:
    """The label that a cell stands for, or None."""
    if isinstance(cell, str):
        return cell.strip() or None
    if isinstance(cell, (bool, int)) or (isinstance(cell, float) and math.isfinite(cell)):
        return json.dumps(cell)
    return None


def _kind(value: object) -> str:
    """What a JSON value is, in words."""
    if value is ABSENT:
        return "nothing"
    if isinstance(value, str):
        return "a text" if value.strip() else "an empty text"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, (int, float)):
        return "a number"
    return "a list" if isinstance(value, list) else "an object"


def write_predictions(
    path: Path, texts: TextTable, columns: Mapping[str, Sequence[object] | np.ndarray]
) -> None:
    """Write the table that ``texts`` came from, with ``columns`` added, to ``path``.

    The extension of ``path`` says the format: .csv, .tsv, .jsonl or .ndjson, whatever the table
    was read from. A column whose name the table already has is written as "predicted_" and its
    name. NumPy numbers are written as Python's. The file appears whole or not at all: an older
    one stays as it is until then.

    Raises OutputError when it can't be written, ShapeError when a column does not have one value
    a row.
    """
    for name, values in columns.items():
        if len(values) != len(texts):
            raise ShapeError(f"column {name!r} has {len(values)} values for {len(texts)} rows")
    table = texts.table
    names = list(table.columns)
    for name in columns:
        while name in names:
            name = f"predicted_{name}"
        names.append(name)
    kind = path.suffix.lower()
    if kind not in READABLE:
        raise OutputError(f"{str(path)!r} is not one of {', '.join(READABLE)}: choose one of these")
    if kind in JSON_LINES and len(set(names)) < len(names):
        raise OutputError(
            f"{table.path} has two columns of the same name, which {path.name} can't have: write "
            ".csv or .tsv"
        )
    rows = (
        [
            *row,
            *[ABSENT] * (len(table.columns) - len(row)),
            *(_plain(values[number]) for values in columns.values()),
        ]
        for number, row in enumerate(table.rows)
    )
    lines = _json_lines(names, rows) if kind in JSON_LINES else _delimited(kind, names, rows)
    # Half a surrogate pair, which JSON can hold, becomes JSON's own escape for it.
    atomic.write(path, (line.encode(errors="backslashreplace") for line in lines))


def _plain(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else value


def _json_lines(names: list[str], rows: Iterable[list[Any]]) -> Iterator[str]:
    for row in rows:
        item = {name: cell for name, cell in zip(names, row, strict=True) if cell is not ABSENT}
        yield json.dumps(item, ensure_ascii=False, allow_nan=False) + "\n"


class _Echo:
    """A file whose ``write`` hands the text back, so that csv formats a row and keeps nothing."""

    def write(self, text: str) -> str:
        return text


def _delimited(kind: str, names: list[str], rows: Iterable[list[Any]]) -> Iterator[str]:
    delimiter = DELIMITERS[kind]
    sparing = csv.writer(_Echo(), delimiter=delimiter, lineterminator="\n")
    quoting = csv.writer(_Echo(), delimiter=delimiter, lineterminator="\n", quoting=csv.QUOTE_ALL)
    for row in itertools.chain([names], rows):
        cells = [_cell(cell) for cell in row]
        # before Python 3.13 csv leaves a lone carriage return bare, which no reader takes
        writer = quoting if any("\r" in cell for cell in cells) else sparing
        yield str(writer.writerow(cells))


def _cell(value: object) -> str:
    if isinstance(value, str):
        return value
    return (
        ""
        if value is None or value is ABSENT
        else json.dumps(value, ensure_ascii=False, allow_nan=False)
    )
