"""Labelled tables that are read some rows at a time, as often as wanted, and never held whole."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tidegate.data.columns import (
    GIVEN,
    NAMED,
    check_texts,
    checked_labels,
    find_label,
    find_text,
    label_of,
    named,
    refuse_data_as_header,
)
from tidegate.data.dataset import LabeledTexts
from tidegate.data.formats import STANDARD_INPUT, Source, source_of
from tidegate.data.readers import RowStream, Table, open_rows
from tidegate.data.separated import check_separator
from tidegate.data.sources import check_held_out, load_held_out
from tidegate.data.tables import LabeledTable, TableOptions, check_measures, delimiter_words
from tidegate.errors import ConfigError, DataError

# A table of more bytes than this is read in portions unless it is told otherwise: in memory it
# takes several times as much. Compressed and Parquet files hold more texts in their bytes.
LARGE_BYTES = 128 << 20
LARGE_PACKED_BYTES = 32 << 20

GUESSED_ROWS = 16_384  # rows by which columns that nothing names are guessed


@dataclass(frozen=True)
class LabeledPortions:
    """The texts and labels of a table, in blocks of some thousand, from the beginning each time.

    words: how the columns were found. several: whether a text may have several labels, or none: an
    empty cell then is the label "". Iterating raises DataError for what can't be read, for a cell
    that is no text, and for one that is no label.
    """

    source: Source
    text_column: str
    label_column: str
    words: str
    several: bool = False

    def __iter__(self) -> Iterator[tuple[list[str], list[str]]]:
        with open_rows(self.source) as rows:
            for block in rows.blocks:
                # All are known by now: the columns stand in the first rows.
                text, label = map(rows.columns.index, (self.text_column, self.label_column))
                texts = block.cells(text)
                check_texts(rows.source, self.text_column, texts, block.lines)
                cells = [[cell] for cell in block.cells(label)]
                column = Table(rows.source, (self.label_column,), cells, list(block.lines))
                yield (
                    texts,
                    checked_labels(column, 0, may_be_empty=self.several, whole=False),
                )


@dataclass(frozen=True)
class StreamedDataset:
    """A training set that is read in portions, and the sets that belong to it: see ``Dataset``.

    paths: of the held-out sets, by name. options: how all of them are read.
    """

    name: str
    origin: str
    train: LabeledPortions
    test: LabeledTexts | None
    validation: LabeledTexts | None
    paths: Mapping[str, Path]
    options: TableOptions

    def check_held_out(self, labels: Iterable[str]) -> None:
        """DataError unless the held-out texts' labels are among these, the training texts'."""
        labels = list(labels)
        for name, texts in (("validation", self.validation), ("test", self.test)):
            if texts is not None:
                check_held_out(self.paths[name], texts, labels, self.options)


def is_large(source: str, format: str | None = None) -> bool:
    """Whether ``source`` is a table of more than LARGE_BYTES, or packed, LARGE_PACKED_BYTES."""
    if source == "imdb" or not os.path.isfile(source):
        return False
    opened = source_of(source, format=format)
    packed = opened.compression is not None or opened.format == "parquet"
    return os.path.getsize(source) > (LARGE_PACKED_BYTES if packed else LARGE_BYTES)


def open_labeled(
    path: str | os.PathLike[str],
    *,
    text_column: str | None = None,
    label_column: str | None = None,
    format: str | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
    label_separator: str | None = None,
) -> LabeledPortions:
    """A labelled table to be read in portions. The arguments are those of ``load_table``.

    Columns that are neither given nor have a well-known name are guessed by the first GUESSED_ROWS
    rows. DataError as ``load_table`` raises it, but for what is wrong further down.
    """
    check_separator(label_separator)
    if os.fspath(path) == STANDARD_INPUT:
        raise ConfigError(
            "standard input can be read only once, and a table that is streamed is read twice: "
            "save it to a file, or hold it in memory (--in-memory)"
        )
    if os.path.isdir(path):
        raise ConfigError(
            f"{os.fspath(path)!r} is a folder, whose texts are held in memory: leave out --stream, "
            "or make a table of it"
        )
    given = source_of(path, format=format, encoding=encoding, delimiter=delimiter)
    if given.format == "txt":
        raise DataError(f"{given.name} has no labels: give a table with a label column")
    with open_rows(given) as rows:
        head = _first(rows, GUESSED_ROWS)
    label, why_label = None, ""
    if label_column is not None:
        label, why_label = named(head, label_column, "label"), GIVEN
    if text_column is not None:
        text, why_text = named(head, text_column, "text"), GIVEN
    else:
        text, why_text = find_text(head, None, label)
    several = label_separator is not None
    if label is None:
        label, why_label = find_label(head, text, learnt=not several, may_be_empty=several)
    names = head.columns[text], head.columns[label]
    if label == text:
        raise DataError(f"{given.name}: column {names[0]!r} can't be both text and label")
    labels = [label_of(cell) or "" for cell in head.cells(label)]
    if not {why_text, why_label} <= {GIVEN, NAMED}:
        refuse_data_as_header(head, header_is_label=names[1].strip() in labels)
    if not several:
        check_measures(head, names[1], labels)
    words = f"text column {names[0]!r}, {why_text}; label column {names[1]!r}, {why_label}"
    words = delimiter_words(given, head.source) + words
    return LabeledPortions(head.source, *names, words, several)


def open_dataset(
    source: str,
    *,
    text_column: str | None = None,
    label_column: str | None = None,
    format: str | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
    label_separator: str | None = None,
    validation: Path | None = None,
    test: Path | None = None,
) -> StreamedDataset:
    """What ``load`` gives of a table, with the training set as portions.

    The held-out sets are read into memory. Whether their labels are all among those of the source
    is not known yet: see ``StreamedDataset.check_held_out``.
    """
    if source == "imdb":
        raise ConfigError("imdb fits in memory: leave out --stream")
    options = TableOptions(text_column, label_column, format, encoding, delimiter, label_separator)
    train = open_labeled(source, **vars(options))
    like = LabeledTable(LabeledTexts([], []), train.text_column, train.label_column, train.words)
    named_paths = (("validation", validation), ("test", test))
    paths = {name: path for name, path in named_paths if path is not None}
    held_out = {name: load_held_out(name, path, like, options) for name, path in paths.items()}
    return StreamedDataset(
        Path(source).name,
        f"{source} ({train.words}; read in portions)",
        train,
        held_out.get("test"),
        held_out.get("validation"),
        paths,
        options,
    )


def _first(rows: RowStream, count: int) -> Table:
    cells: list[list[object]] = []
    lines: list[int] = []
    for block in rows.blocks:
        cells += block.rows
        lines += block.lines
        if len(cells) >= count:
            break
    return Table(rows.source, tuple(rows.columns), cells, lines)
