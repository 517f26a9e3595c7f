"""Folders of texts: FOLDER/LABEL/*.txt, one file a text, as aclImdb/train is laid out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from tidegate.data.compressed import open_stream
from tidegate.data.dataset import LabeledTexts
from tidegate.data.encodings import LONGEST_LINE, READ_BYTES, Decoder
from tidegate.data.formats import Source
from tidegate.errors import DataError

# The Large Movie Review Dataset keeps 50,000 texts without labels beside those with.
UNLABELED = "unsup"


def load_folder(
    folder: Path, *, encoding: str | None = None, min_classes: int = 2
) -> tuple[LabeledTexts, str]:
    """The texts in the folders of ``folder``, whose names are the labels, and words on them.

    Labels and, for each, files are in the order of their names. Files that are not .txt, hidden
    folders and one named "unsup" are left out.

    Raises DataError for a folder without such folders, for fewer than ``min_classes``, and for a
    text that can't be read or decoded.
    """
    texts: list[str] = []
    labels: list[str] = []
    try:
        found = _labels(folder)
        for label in found:
            names = sorted(name for name in os.listdir(folder / label) if _is_text(name))
            if not names:
                raise DataError(
                    f"{str(folder / label)!r} has no .txt files: put the texts labelled {label!r} "
                    "there, one a file, or move that folder elsewhere" + _nested(folder, found)
                )
            texts += (_text(folder / label / name, encoding) for name in names)
            labels += [label] * len(names)
    except OSError as error:
        raise DataError(
            f"{str(folder)!r} can't be read: {error.strerror or error} ({error.filename}); check "
            "the path and its permissions"
        ) from error
    if not found:
        raise DataError(
            f"{str(folder)!r} is a folder without folders in it: give one with a folder for each "
            "label and .txt files in these, or the path of a table"
        )
    if len(found) < min_classes:
        raise DataError(
            f"{str(folder)!r} holds one label only ({found[0]!r}, {len(labels)} texts): a "
            f"classifier needs at least {min_classes}"
        )
    words = f"the names of its {len(found)} folders are the labels"
    if (folder / UNLABELED).is_dir():
        words += f"; {UNLABELED!r} is left out"
    return LabeledTexts(texts, labels), words


def _labels(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.is_dir()]
    return sorted(name for name in names if not name.startswith(".") and name != UNLABELED)


def _is_text(name: str) -> bool:
    return name.lower().endswith(".txt") and not name.startswith(".")


def _nested(folder: Path, labels: list[str]) -> str:
    """What to do about a folder that has the folders train and test."""
    if "train" not in labels:
        return ""
    test = f" with --test {folder / 'test'}" if "test" in labels else ""
    return f"; is {str(folder / 'train')!r} meant{test}?"


def _text(path: Path, encoding: str | None) -> str:
    return "".join(_pieces(Source(path, "txt", None, encoding)))


def _pieces(source: Source) -> Iterator[str]:
    decoder = Decoder(source.name, source.encoding)
    length = 0
    with open_stream(source) as stream:
        while piece := stream.read1(READ_BYTES):
            text = decoder.decode(piece)
            length += len(text)
            if length > LONGEST_LINE:
                raise DataError(
                    f"{source.name} is longer than {LONGEST_LINE:,} characters, as no text is: "
                    "check the file"
                )
            yield text
    yield decoder.decode(b"", final=True)
