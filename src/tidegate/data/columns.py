"""Which column of a table holds the texts, and which the labels."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

from tidegate.data.formats import DELIMITERS, Source
from tidegate.data.readers import ABSENT, Table, delimiter_of, kind, listed, other_delimiter
from tidegate.errors import ConfigError, DataError

# column names that say what a column holds, the most telling first
TEXT_NAMES = (
    *("text", "texts", "review", "content", "sentence", "comment", "message", "body", "document"),
    *("tweet", "post", "utterance", "question", "description", "title"),
)
LABEL_NAMES = (
    *("label", "labels", "sentiment", "class", "category", "target", "polarity", "intent"),
    *("emotion", "topic", "rating", "stars", "score"),
)

GIVEN, NAMED = "given", "named so"  # how a column was found, if its content was not looked at

_MOST_LABELS = 100  # a column with more values is not guessed to hold labels
# More different numbers than this are measured or counted; with decimal places, and without.
_MOST_GRADES = {False: 10, True: 20}
_ROWS_OF_A_CODE = 5  # what numbers that name classes stand in, at least and on average
_WHOLE = re.compile("[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?([0-9]+([.,][0-9]*)*|[.,][0-9]+)([eE][+-]?[0-9]+)?\s?%?")
_LONGEST_NAME = (60, 6)  # characters, words; a longer column name is a text
_SHOWN_LINES = 4  # of further cells that are no labels


def named(table: Table, name: str, purpose: str) -> int:
    """The number of the column called ``name``. DataError if there is none, or more than one."""
    if not isinstance(name, str):
        raise ConfigError(f"{purpose}_column={name!r} is no name of a column; give a str")
    if table.columns.count(name) > 1:
        raise DataError(f"{table.source.name} has more than one column named {name!r}: rename one")
    if name in table.columns:
        return table.columns.index(name)
    near = difflib.get_close_matches(name.lower(), [c.lower() for c in table.columns], n=1)
    hint = next((c for c in table.columns if near and c.lower() == near[0]), None)
    other = other_delimiter(table.source, table.columns)
    raise DataError(
        f"{table.source.name} has no column {name!r} for the {purpose}: it has "
        f"{listed(table.columns)}"
        + (f"; did you mean {hint!r}?" if hint is not None else "")
        + (f"; {other}" if other else "")
    )


def _all_well_known(table: Table, names: Iterable[str]) -> list[int]:
    """The columns with these names, whatever the case, in the order of the names."""
    columns = [column.strip().lower() for column in table.columns]
    return [place for name in names for place, column in enumerate(columns) if column == name]


def find_text(head: Table, name: str | None, taken: int | None = None) -> tuple[int, str]:
    """The number of the text column, and how it was found.

    A given name counts first, then the first well-known one, then the longest texts on average.
    head: the first rows. taken: the column that is known to be another. DataError if it can't be
    found.
    """
    if name is not None:
        return named(head, name, "text"), GIVEN
    for column in _all_well_known(head, TEXT_NAMES):
        if column != taken:
            return named(head, head.columns[column], "text"), NAMED
    if other := other_delimiter(head.source, head.columns):
        raise DataError(
            f"{head.source.name}: {other}, or name the column by text_column (--text-column)"
        )
    lengths: dict[int, float] = {}
    for place, title in enumerate(head.columns):
        cells = head.cells(place)
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
            f"{head.source.name}: none of its columns ({listed(head.columns)}) looks like texts: "
            "name the one by text_column (--text-column)"
        )
    return max(lengths, key=lengths.__getitem__), "guessed by its long texts"


def find_label(
    table: Table, text: int, *, learnt: bool = True, may_be_empty: bool = False
) -> tuple[int, str]:
    """The number of the label column, and how it was found.

    It is the first with a well-known name, or else the one with the fewest different values.
    table: all rows. text: the text column. learnt: whether the labels are to be learnt; then a
    column of one value or of measured numbers is passed over, as long as there is another with a
    well-known name. may_be_empty: whether an empty cell is a text without labels. DataError if it
    can't be found.
    """
    well_known = [place for place in _all_well_known(table, LABEL_NAMES) if place != text]
    if well_known:
        usable = [place for place in well_known if not learnt or _can_be_learnt(table, place)]
        column = (usable or well_known)[0]
        return named(table, table.columns[column], "label"), NAMED
    most = max(2, min(_MOST_LABELS, len(table.rows) // 2))
    counts: dict[int, int] = {}
    for place, title in enumerate(table.columns):
        if place == text or not title.strip():
            continue
        cells = table.cells(place)
        if may_be_empty:
            cells = [cell for cell in cells if _holds_something(cell)]
        values = {label_of(cell) for cell in cells}
        if 2 <= len(values) <= most and None not in values and not _many_numbers(values):
            counts[place] = len(values)
    if not counts:
        raise DataError(
            f"{table.source.name}: none of its columns ({listed(table.columns)}) looks like "
            "labels: name the one by label_column (--label-column)"
        )
    return min(counts, key=counts.__getitem__), "guessed by its few values"


def _can_be_learnt(table: Table, column: int) -> bool:
    labels = [label_of(cell) or "" for cell in table.cells(column)]
    return len(set(labels)) > 1 and not are_measures(labels)


def _many_numbers(values: Iterable[str | None]) -> bool:
    """Whether they are numbers, more different ones than grades and stars have."""
    distinct = set(values)
    whole = all(_WHOLE.fullmatch(value or "") for value in distinct)
    return len(distinct) > _MOST_GRADES[whole] and all(map(_is_number, distinct))


def are_measures(labels: Sequence[str]) -> bool:
    """Whether labels are numbers that were measured or counted, and don't name classes.

    There are many different ones, and they have decimal places or stand in few rows each.
    """
    distinct = set(labels)
    if not _many_numbers(distinct):
        return False
    whole = all(_WHOLE.fullmatch(value) for value in distinct)
    return not whole or len(labels) < _ROWS_OF_A_CODE * len(distinct)


def _is_number(value: str | None) -> bool:
    return value is not None and _NUMBER.fullmatch(value) is not None


def refuse_data_as_header(table: Table, *, header_is_label: bool) -> None:
    """DataError for a header that reads like a row, and is therefore likely to be one.

    For tables whose columns were guessed by content.
    """
    if table.source.format not in DELIMITERS:
        return
    characters, words = _LONGEST_NAME
    if header_is_label or any(
        len(column) > characters or len(column.split()) > words for column in table.columns
    ):
        raise DataError(
            f"{table.source.name} seems to have no header: its first row "
            f"({listed(table.columns)}) reads like data; put a line such as "
            f"{delimiter_of(table.source).join(('text', 'label'))!r} before it, or name the "
            "columns if that row is the header"
        )


def label_of(cell: object) -> str | None:
    """The label that a cell stands for, or None. Blanks around it do not count."""
    if isinstance(cell, str):
        return cell.strip() or None
    if isinstance(cell, (bool, int)) or (isinstance(cell, float) and math.isfinite(cell)):
        return json.dumps(cell)
    return None


def check_texts(source: Source, name: str, cells: Sequence[Any], lines: Sequence[int]) -> None:
    """DataError for a cell of the column called ``name`` that is no text."""
    for row, text in enumerate(cells):
        if not isinstance(text, str):
            raise DataError(
                f"{source.place(lines[row])}: {kind(text)} in column {name!r}, not a text"
            )


def checked_labels(
    table: Table, column: int, *, may_be_empty: bool = False, whole: bool = True
) -> list[str]:
    """The labels of a column. DataError for cells that are none.

    may_be_empty: an empty cell, and one that is not there, is the label "". whole: whether these
    are all rows of the table, for the message.
    """
    labels: list[str] = []
    none: list[int] = []
    same: dict[str, str] = {}  # each label is kept once, not once a row
    for row, cell in enumerate(table.cells(column)):
        label = label_of(cell)
        if label is None and may_be_empty and not _holds_something(cell):
            label = ""
        if label is None:
            none.append(row)
        else:
            labels.append(same.setdefault(label, label))
    if none:
        raise _not_labels(table, column, none, whole=whole)
    return labels


def _not_labels(table: Table, column: int, rows: Sequence[int], *, whole: bool) -> DataError:
    """The error for the cells of these rows, of which there is at least one."""
    first = table.cells(column)[rows[0]]
    told = (
        f"{table.source.place(table.lines[rows[0]])}: {kind(first)} in column "
        f"{table.columns[column]!r}, not a label"
    )
    if len(rows) == 1:
        mend = "fill it in or delete the row"
    else:
        others = len(rows) - 1
        shown = [str(table.lines[row]) for row in rows[1 : 1 + _SHOWN_LINES]]
        told += (
            f", and {others:,} more {'' if whole else 'so far '}({table.source.unit} "
            f"{', '.join(shown)}{', ...' if others > _SHOWN_LINES else ''})"
        )
        mend = "fill them in or delete the rows"
    if not _holds_something(first):
        mend += (
            ", or name the mark between several labels (--label-separator), where a text may have "
            "none"
        )
    return DataError(f"{told}; {mend}")


def _holds_something(cell: object) -> bool:
    return not (cell is None or cell is ABSENT or (isinstance(cell, str) and not cell.strip()))
