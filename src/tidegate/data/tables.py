"""Texts in tables: with labels, to be learnt from, or as a stream, to be classified."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tidegate.data.columns import (
    GIVEN,
    NAMED,
    are_measures,
    check_texts,
    checked_labels,
    find_label,
    find_text,
    named,
    refuse_data_as_header,
)
from tidegate.data.dataset import LabeledTexts
from tidegate.data.formats import DELIMITERS, READABLE, Source, source_of
from tidegate.data.readers import (
    Block,
    RowStream,
    Table,
    json_keys,
    open_rows,
    read_table,
)
from tidegate.data.separated import check_separator
from tidegate.errors import ConfigError, DataError


@dataclass(frozen=True)
class TableOptions:
    """How a table with labels is to be read, as far as that is given; see ``load_table``."""

    text_column: str | None = None
    label_column: str | None = None
    format: str | None = None
    encoding: str | None = None
    delimiter: str | None = None
    label_separator: str | None = None


@dataclass(frozen=True)
class LabeledTable:
    """The texts of a table, the names of their columns, and words on how these were found."""

    texts: LabeledTexts
    text_column: str
    label_column: str
    words: str


def load_table(
    path: str | os.PathLike[str],
    *,
    text_column: str | None = None,
    label_column: str | None = None,
    min_classes: int = 2,
    format: str | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
    label_separator: str | None = None,
) -> LabeledTexts:
    """All rows of a CSV, TSV, JSON Lines or Parquet file as labelled texts, in order.

    A column that is not given is the first with a well-known name (TEXT_NAMES, LABEL_NAMES,
    whatever the case), or else chosen by content: the text column is the one with the longest
    texts on average in the first rows, the label column the one with the fewest different values.
    Blanks around a label do not count; JSON numbers and true or false are labels as JSON writes
    them. label_separator: what stands between several labels in a cell, if there may be several;
    the labels are the cells as they stand, to be taken apart by ``split_labels``, and an empty cell
    or a missing one is the label "", a text without labels. ``format``, ``encoding`` and
    ``delimiter`` are those of ``source_of``.

    Raises DataError for a file that can't be read or decoded, a column that is not there or can't
    be guessed, a row without text or label, fewer different labels than ``min_classes`` and, where
    that is more than one, so many different numbers that they can't be classes.
    """
    source = source_of(path, format=format, encoding=encoding, delimiter=delimiter)
    check_separator(label_separator)
    check_min_classes(min_classes)
    options = TableOptions(text_column, label_column, label_separator=label_separator)
    return load_labeled_table(source, options, min_classes=min_classes).texts


def load_labeled_table(
    source: Source,
    options: TableOptions,
    *,
    min_classes: int = 2,
    like: LabeledTable | None = None,
) -> LabeledTable:
    """What ``load_table`` gives, and which columns it was.

    options: its columns and its label separator; the source says the rest.
    like: another table whose columns are meant, if this one has them and none are given.
    """
    if source.format == "txt":
        raise DataError(
            f"{source.name} has no labels: give a {', '.join(READABLE)} file with a label column"
        )
    text_column, label_column = options.text_column, options.label_column
    head, table = read_table(source)
    if like is not None and {like.text_column, like.label_column} <= set(table.columns):
        text_column = text_column or like.text_column
        label_column = label_column or like.label_column
    label, why_label = None, ""
    if label_column is not None:
        label, why_label = named(table, label_column, "label"), GIVEN
    if text_column is not None:
        text, why_text = named(table, text_column, "text"), GIVEN
    else:
        text, why_text = find_text(head, None, label)
    several = options.label_separator is not None
    if label is None:
        label, why_label = find_label(
            table, text, learnt=min_classes > 1 and not several, may_be_empty=several
        )
    names = table.columns[text], table.columns[label]
    if label == text:
        raise DataError(f"{source.name}: column {names[0]!r} can't be both text and label")
    labels = checked_labels(table, label, may_be_empty=several)
    if not {why_text, why_label} <= {GIVEN, NAMED}:
        refuse_data_as_header(table, header_is_label=names[1].strip() in set(labels))
    if not several:
        _check_classes(table, names[1], labels, min_classes)
    texts = table.cells(text)
    check_texts(source, names[0], texts, table.lines)
    words = f"text column {names[0]!r}, {why_text}; label column {names[1]!r}, {why_label}"
    if empty := labels.count(""):
        words += f"; texts without labels, for their cell is empty: {empty:,}"
    words = delimiter_words(source, table.source) + words
    return LabeledTable(LabeledTexts(texts, labels), *names, words)


def delimiter_words(given: Source, found: Source) -> str:
    """What is to be said of a delimiter that was guessed; "" if it was not."""
    if given.delimiter is None and found.delimiter != DELIMITERS.get(given.format):
        return f"delimiter {found.delimiter!r}, which the first rows agree on; "
    return ""


def check_min_classes(given: int) -> None:
    """ConfigError unless it is a whole number from 1 on."""
    if isinstance(given, bool) or not isinstance(given, int) or given < 1:
        raise ConfigError(f"min_classes={given!r} is not a whole number from 1 on")


def _check_classes(table: Table, name: str, labels: Sequence[str], fewest: int) -> None:
    classes = len(set(labels))
    if classes < fewest:
        raise DataError(
            f"{table.source.name}: column {name!r} holds one label only ({labels[0]!r}, "
            f"{len(labels)} rows): a classifier needs at least {fewest}"
            if classes == 1
            else f"{table.source.name}: column {name!r} holds {classes} different labels, "
            f"{fewest} are needed"
        )
    if fewest > 1:
        check_measures(table, name, labels)


def check_measures(table: Table, name: str, labels: Sequence[str]) -> None:
    """DataError for a column of numbers that are no classes."""
    if are_measures(labels):
        raise DataError(
            f"{table.source.name}: column {name!r} holds {len(set(labels)):,} different numbers in "
            f"{len(labels):,} rows, which look like numbers to predict (regression), and tidegate "
            "classifies: choose another label column (--label-column), put the numbers into groups "
            "such as low and high, or, if they are codes, write a letter before each"
        )


@dataclass(frozen=True)
class TextStream:
    """A table whose texts are to be classified, read in blocks."""

    rows: RowStream
    column: int
    how: str  # the column was found

    @property
    def text_column(self) -> str:
        """The name of the column with the texts."""
        return self.rows.columns[self.column]

    def blocks(self) -> Iterator[tuple[Block, list[str]]]:
        """The rows and their texts, once. DataError for a cell that is no text."""
        for block in self.rows.blocks:
            texts = block.cells(self.column)
            check_texts(self.rows.source, self.text_column, texts, block.lines)
            yield block, texts


@contextmanager
def open_texts(
    source: Source, *, text_column: str | None = None, all_keys: bool = False
) -> Iterator[TextStream]:
    """The texts of a table, or of a .txt file with one text a line, while the context lasts.

    The text column is found as ``load_table`` finds it; labels are not needed. all_keys: read a
    file of JSON Lines twice, so that all of its keys are known from the beginning.

    Raises DataError as ``load_table`` does, for what is wrong further down in the blocks.
    """
    twice = all_keys and source.format == "jsonl" and source.path is not None
    keys = json_keys(source) if twice and source.path and source.path.is_file() else []
    with open_rows(source, keys=keys) as rows:
        first = next(rows.blocks)
        head = Table(rows.source, tuple(rows.columns), first.rows, list(first.lines))
        column, why = find_text(head, text_column)
        if why not in (GIVEN, NAMED):
            refuse_data_as_header(head, header_is_label=False)
        yield TextStream(RowStream(rows.source, rows.columns, _again(first, rows)), column, why)


def _again(first: Block, rows: RowStream) -> Iterator[Block]:
    yield first
    yield from rows.blocks
