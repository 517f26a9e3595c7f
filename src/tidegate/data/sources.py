"""The data set that a word on the command line names."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from tidegate.checks import check_path
from tidegate.data.dataset import Dataset, LabeledTexts
from tidegate.data.folders import load_folder
from tidegate.data.formats import (
    DELIMITERS,
    READABLE,
    STANDARD_INPUT,
    check_delimiter,
    check_encoding,
    check_format,
    names_format,
    source_of,
)
from tidegate.data.imdb import load_imdb
from tidegate.data.readers import listed
from tidegate.data.separated import check_separator, split_cell
from tidegate.data.tables import (
    LabeledTable,
    TableOptions,
    check_min_classes,
    load_labeled_table,
)
from tidegate.errors import ConfigError, DataError


def load(
    source: str | os.PathLike[str],
    *,
    data: str | os.PathLike[str] | None = None,
    text_column: str | None = None,
    label_column: str | None = None,
    format: str | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
    validation: str | os.PathLike[str] | None = None,
    test: str | os.PathLike[str] | None = None,
    progress: bool = False,
    min_classes: int = 2,
    label_separator: str | None = None,
) -> Dataset:
    """The data set named ``source``: "imdb", a table, a folder of texts, or "-", standard input.

    ``data`` and ``progress`` are those of ``load_imdb``; ``text_column``, ``label_column``,
    ``label_separator`` and ``min_classes`` are those of ``load_table``, ``format``, ``encoding``
    and ``delimiter`` those of ``source_of``. All rows are the training set; ``validation`` and
    ``test`` name tables or folders that are the others. Their columns are those of the source, if
    they have these, and every label of theirs has to be in the source.

    Raises DataError for a source that is none or can't be used, ConfigError for an option that
    the source does not have.
    """
    check_format(format)
    check_encoding(encoding)
    check_delimiter(delimiter)
    check_separator(label_separator)
    check_min_classes(min_classes)
    source = os.fspath(source) if isinstance(source, os.PathLike) else source
    if not isinstance(source, str):
        raise ConfigError(f"source={source!r} is neither 'imdb' nor the path of a file or folder")
    options = TableOptions(text_column, label_column, format, encoding, delimiter, label_separator)
    if source == "imdb":
        if text_column is not None or label_column is not None:
            raise ConfigError("imdb has no columns to choose: leave out the text and label column")
        if format is not None or encoding is not None or delimiter is not None:
            raise ConfigError("imdb has no format, encoding or delimiter to choose: leave them out")
        if label_separator is not None:
            raise ConfigError(
                f"label_separator={label_separator!r}: imdb has one label a text; leave it out"
            )
        if test is not None:
            raise ConfigError(
                f"test={str(test)!r}: imdb has a test set of its own; leave it out, or measure the "
                "model on that file by tidegate evaluate"
            )
        dataset, table = load_imdb(data, progress=progress), None
    else:
        if data is not None:
            raise ConfigError(
                f"data={str(data)!r} says where the imdb archive is: leave it out with {source!r}"
            )
        dataset, table = _load_own(source, options, min_classes)
    held_out: dict[str, LabeledTexts] = {}
    for name, path in (("validation", validation), ("test", test)):
        if path is not None:
            path = check_path(name, path)
            texts = load_held_out(name, path, table, options)
            check_held_out(path, texts, dataset.train.labels, options)
            held_out[name] = texts
    return replace(
        dataset,
        validation=held_out.get("validation"),
        test=held_out.get("test", dataset.test),
    )


def _load_own(
    source: str, options: TableOptions, min_classes: int
) -> tuple[Dataset, LabeledTable | None]:
    """The user's own texts, and the table that they stand in if it is one."""
    if source != STANDARD_INPUT and not os.path.exists(source):
        near = difflib.get_close_matches(source.lower(), ["imdb"], n=1)
        hint = "; did you mean 'imdb'?" if near else ""
        raise DataError(
            f"source {source!r} is neither 'imdb' nor a file that exists: give imdb or the path of "
            f"a {', '.join(READABLE)} file or of a folder with a folder of .txt files for each "
            f"label{hint}"
        )
    if source != STANDARD_INPUT and os.path.isdir(source):
        _refuse_for_folder(Path(source), options)
        texts, words = load_folder(Path(source), encoding=options.encoding, min_classes=min_classes)
        name = Path(source).resolve().name
        return Dataset(name, f"{source} ({words})", train=texts, test=None), None
    opened = source_of(
        source, format=options.format, encoding=options.encoding, delimiter=options.delimiter
    )
    table = load_labeled_table(opened, options, min_classes=min_classes)
    name = opened.name if opened.path is None else opened.path.name
    origin = f"{source if opened.path else opened.name} ({table.words})"
    return Dataset(name, origin, train=table.texts, test=None), table


def _refuse_for_folder(folder: Path, options: TableOptions) -> None:
    given = (options.text_column, options.label_column, options.format, options.delimiter)
    option = next((value for value in given if value is not None), None)
    if option is not None:
        raise ConfigError(
            f"{str(folder)!r} is a folder, which has neither columns nor a format to choose: leave "
            f"out {option!r}"
        )


def load_held_out(
    name: str, path: Path, table: LabeledTable | None, options: TableOptions
) -> LabeledTexts:
    """The labelled texts of ``path``, whose columns are those of ``table`` if it has these.

    name: what they are for.
    """
    if not os.path.exists(path):
        raise DataError(
            f"{name}={str(path)!r} is not a file that exists: give the path of a "
            f"{', '.join(READABLE)} file, or of a folder with a folder of .txt files for each label"
        )
    if os.path.isdir(path):
        texts, _ = load_folder(path, encoding=options.encoding, min_classes=1)
        return texts
    format = None if names_format(path) else options.format
    opened = source_of(path, format=format, encoding=options.encoding)
    if opened.format in DELIMITERS:
        opened = replace(opened, delimiter=options.delimiter)
    return load_labeled_table(opened, options, min_classes=1, like=table).texts


def check_held_out(
    path: Path, texts: LabeledTexts, labels: Iterable[str], options: TableOptions
) -> None:
    """DataError unless the labels of held-out texts are among the training texts' cells."""
    known, given = (_distinct(cells, options.label_separator) for cells in (labels, texts.labels))
    unknown = sorted(given - known)
    if unknown:
        raise DataError(
            f"{path} has labels that the training texts don't have: {listed(unknown)}; they have "
            f"{listed(sorted(known))}: rename them, or choose another label column"
        )


def _distinct(cells: Iterable[str], separator: str | None) -> set[str]:
    """The labels that stand in some cells."""
    if separator is None:
        return set(cells)
    return {label for cell in set(cells) for label in split_cell(cell, separator)}
