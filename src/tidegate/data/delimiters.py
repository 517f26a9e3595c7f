"""What stands between the cells of a .csv file: a comma, or what its first rows agree on."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from tidegate.data.encodings import LONGEST_LINE
from tidegate.data.formats import DELIMITERS, Source
from tidegate.errors import DataError

GUESSED = (",", ";", "\t", "|")  # a comma, which the name says, goes first

_SAMPLE_LINES = 200
_SAMPLE_CHARACTERS = 1 << 20


@contextmanager
def long_cells() -> Iterator[None]:
    """While it lasts, csv reads cells as long as a line may be; the limit is the process's."""
    limit = csv.field_size_limit(LONGEST_LINE)
    try:
        yield
    finally:
        csv.field_size_limit(limit)


def settle_delimiter(source: Source, lines: Iterator[str]) -> tuple[Source, Iterator[str]]:
    """The source with its delimiter, and all of its lines.

    Of CSV whose delimiter is not given, the first lines are looked at. DataError if they would do
    with more than one delimiter.
    """
    if source.delimiter is not None:
        return source, lines
    if source.format != "csv":
        return replace(source, delimiter=DELIMITERS[source.format]), lines
    sample, characters = [], 0
    for line in lines:
        sample.append(line)
        characters += len(line)
        if len(sample) == _SAMPLE_LINES or characters > _SAMPLE_CHARACTERS:
            break
    found = agreed_delimiters(sample)
    if len(found) > 1:
        raise DataError(
            f"{source.name}: the cells of its first rows may stand between any of "
            f"{', '.join(map(repr, found))}; say by delimiter (--delimiter) which it is"
        )
    settled = replace(source, delimiter=found[0] if found else DELIMITERS["csv"])
    return settled, itertools.chain(sample, lines)


def agreed_delimiters(lines: Sequence[str]) -> list[str]:
    """The delimiters that divide the header and all rows into the same number of cells, from two.

    Just the comma if it does; none if nothing does. lines: the first ones of a file.
    """
    found = []
    for delimiter in GUESSED:
        widths = _widths(lines, delimiter)
        # A header alone proves nothing, unless it is what the name promises.
        rows_needed = 1 if delimiter == "," else 2
        if len(widths) >= rows_needed and widths[0] > 1 and len(set(widths)) == 1:
            if delimiter == ",":
                return [delimiter]
            found.append(delimiter)
    return found


def _widths(lines: Sequence[str], delimiter: str) -> list[int]:
    """How many cells each row has; none if the rows can't be read so."""
    widths: list[int] = []
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    with long_cells():
        try:
            widths.extend(len(cells) for cells in reader if cells)
        except csv.Error:
            # Quotes that are open at the end may be closed in the lines that follow.
            if reader.line_num < len(lines):
                return []
    return widths
