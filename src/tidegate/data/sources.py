"""The data set that a word on the command line names."""

from __future__ import annotations

import difflib
import os
from dataclasses import replace
from pathlib import Path

from tidegate.data.dataset import Dataset, LabeledTexts
from tidegate.data.folders import load_folder
from tidegate.data.formats import (
    READABLE,
    STANDARD_INPUT,
    check_encoding,
    check_format,
    names_format,
    source_of,
)
from tidegate.data.imdb import load_imdb
from tidegate.data.readers import listed
from tidegate.data.tables import LabeledTable, load_labeled_table
from tidegate.errors import ConfigError, DataError


def load(
    source: str,
    *,
    data: Path | None = None,
    text_column: str | None = None,
    label_column: str | None = None,
    format: str | None = None,
    encoding: str | None = None,
    validation: Path | None = None,
    test: Path | None = None,
    progress: bool = False,
    min_classes: int = 2,
) -> Dataset:
    """The data set named ``source``: "imdb", a table, a folder of texts, or "-", standard input.

    ``data`` and ``progress`` are those of ``load_imdb``; ``text_column``, ``label_column`` and
    ``min_classes`` are those of ``load_table``, ``format`` and ``encoding`` those of
    ``source_of``. All rows are the training set; ``validation`` and ``test`` name tables or
    folders that are the others. Their columns are those of the source, if they have these, and
    every label of theirs has to be in the source.

    Raises DataError for a source that is none or can't be used, ConfigError for an option that
    the source does not have.
    """
    check_format(format)
    check_encoding(encoding)
    if source == "imdb":
        if text_column is not None or label_column is not None:
            raise ConfigError("imdb has no columns to choose: leave out the text and label column")
        if format is not None or encoding is not None:
            raise ConfigError("imdb has no format and no encoding to choose: leave them out")
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
        dataset, table = _load_own(
            source,
            text_column=text_column,
            label_column=label_column,
            format=format,
            encoding=encoding,
            min_classes=min_classes,
        )
    held_out: dict[str, LabeledTexts] = {}
    for name, path in (("validation", validation), ("test", test)):
        if path is not None:
            texts = load_held_out(
                name,
                path,
                table,
                text_column=text_column,
                label_column=label_column,
                format=format,
                encoding=encoding,
            )
            held_out[name] = _known_held_out(path, texts, dataset.train)
    return replace(
        dataset,
        validation=held_out.get("validation"),
        test=held_out.get("test", dataset.test),
    )


def _load_own(
    source: str,
    *,
    text_column: str | None,
    label_column: str | None,
    format: str | None,
    encoding: str | None,
    min_classes: int,
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
        _refuse_for_folder(Path(source), text_column or label_column or format)
        texts, words = load_folder(Path(source), encoding=encoding, min_classes=min_classes)
        name = Path(source).resolve().name
        return Dataset(name, f"{source} ({words})", train=texts, test=None), None
    opened = source_of(source, format=format, encoding=encoding)
    table = load_labeled_table(
        opened, text_column=text_column, label_column=label_column, min_classes=min_classes
    )
    name = opened.name if opened.path is None else opened.path.name
    origin = f"{source if opened.path else opened.name} ({table.words})"
    return Dataset(name, origin, train=table.texts, test=None), table


def _refuse_for_folder(folder: Path, option: str | None) -> None:
    if option is not None:
        raise ConfigError(
            f"{str(folder)!r} is a folder, which has neither columns nor a format to choose: leave "
            f"out {option!r}"
        )


def _known_held_out(path: Path, texts: LabeledTexts, train: LabeledTexts) -> LabeledTexts:
    """The same texts. DataError unless their labels are among those of the training set."""
    known = set(train.labels)
    unknown = sorted(set(texts.labels) - known)
    if unknown:
        raise DataError(
            f"{path} has labels that the training texts don't have: {listed(unknown)}; they have "
            f"{listed(sorted(known))}: rename them, or choose another label column"
        )
    return texts


def load_held_out(
    name: str,
    path: Path,
    table: LabeledTable | None,
    *,
    text_column: str | None,
    label_column: str | None,
    format: str | None,
    encoding: str | None,
) -> LabeledTexts:
    """The labelled texts of ``path``, whose columns are those of ``table`` if it has these.

    name: what they are for. format: of files whose name says none.
    """
    if not os.path.exists(path):
        raise DataError(
            f"{name}={str(path)!r} is not a file that exists: give the path of a "
            f"{', '.join(READABLE)} file, or of a folder with a folder of .txt files for each label"
        )
    if os.path.isdir(path):
        texts, _ = load_folder(path, encoding=encoding, min_classes=1)
        return texts
    return load_labeled_table(
        source_of(path, format=None if names_format(path) else format, encoding=encoding),
        text_column=text_column,
        label_column=label_column,
        min_classes=1,
        like=table,
    ).texts
