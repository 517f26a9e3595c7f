"""Where texts and labels come from: the IMDB reviews, and tables in files."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from tidegate.data.dataset import Dataset, LabeledTexts
from tidegate.data.imdb import load_imdb
from tidegate.data.tables import (
    READABLE,
    TextTable,
    load_labeled_table,
    load_table,
    read_texts,
    write_predictions,
)
from tidegate.errors import ConfigError, DataError

__all__ = [
    "Dataset",
    "LabeledTexts",
    "TextTable",
    "load",
    "load_imdb",
    "load_table",
    "read_texts",
    "write_predictions",
]


def load(
    source: str,
    *,
    data: Path | None = None,
    text_column: str | None = None,
    label_column: str | None = None,
    progress: bool = False,
    min_classes: int = 2,
) -> Dataset:
    """The data set named ``source``: "imdb", or the path of a .csv, .tsv, .jsonl or .ndjson file.

    ``data`` and ``progress`` are those of ``load_imdb``; ``text_column``, ``label_column`` and
    ``min_classes`` are those of ``load_table``. All rows of a file are its training set, and it
    has no test set.

    Raises DataError for a source that is neither or can't be used, ConfigError for an option
    that the source does not have.
    """
    if source == "imdb":
        if text_column is not None or label_column is not None:
            raise ConfigError("imdb has no columns to choose: leave out the text and label column")
        return load_imdb(data, progress=progress)
    if data is not None:
        raise ConfigError(
            f"data={str(data)!r} says where the imdb archive is: leave it out with {source!r}"
        )
    if not os.path.exists(source):
        near = difflib.get_close_matches(source.lower(), ["imdb"], n=1)
        hint = "; did you mean 'imdb'?" if near else ""
        raise DataError(
            f"source {source!r} is neither 'imdb' nor a file that exists: give imdb or the path of "
            f"a {', '.join(READABLE)} file{hint}"
        )
    labeled, columns = load_labeled_table(
        Path(source), text_column=text_column, label_column=label_column, min_classes=min_classes
    )
    return Dataset(name=Path(source).name, origin=f"{source} ({columns})", train=labeled, test=None)
