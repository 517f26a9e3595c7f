"""Labels between files and models: several in one cell, and what is said of a text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tidegate.cli import terminal
from tidegate.errors import ConfigError, DataError

if TYPE_CHECKING:
    from tidegate.estimator import TextClassifier

JOINED_BY = ";"  # where several labels are printed in one field, unless it is told otherwise


def split_labels(cells: Sequence[str], separator: str | None) -> Sequence[Any]:
    """Each cell's labels, where a separator says that there may be several; else the cells."""
    from tidegate import data

    return cells if separator is None else data.split_labels(cells, separator)


def known_labels(
    classifier: TextClassifier, cells: Sequence[str], separator: str | None, source: str
) -> list[Any]:
    """What a file's cells say, as the model has it: its label, or several where it has several.

    A model made in Python may have labels that are no words; in files all of them are. DataError
    for labels that the model does not know.
    """
    from tidegate.data.readers import listed

    many = _may_be_several(classifier, separator)
    rows = split_labels(cells, separator) if separator is not None else [[cell] for cell in cells]
    classes = {terminal.label_text(label): label for label in classifier.classes_.tolist()}
    unknown = sorted({label for row in rows for label in row} - classes.keys())
    if unknown:
        mend = "rename them, or choose another --label-column"
        if many and separator is None:
            mend += ", or say by --label-separator what stands between several"
        raise DataError(
            f"{source!r} has labels that the model does not know: {listed(unknown)}; it knows "
            f"{listed(list(classes))}: {mend}"
        )
    if many:
        return [[classes[label] for label in row] for row in rows]
    return [classes[label] for (label,) in rows]


def _may_be_several(classifier: TextClassifier, separator: str | None) -> bool:
    """Whether a text may have several labels. ConfigError for a separator if it may not."""
    many = classifier.model_.config.targets == "many"
    if separator is not None and not many:
        raise ConfigError(
            f"--label-separator {separator!r} is for models of several labels a text, and this "
            "one says one; leave it out"
        )
    return many


def joining_mark(classifier: TextClassifier, separator: str | None) -> str:
    """What is written between several labels. ConfigError if a label has it in itself."""
    from tidegate import data

    data.check_separator(separator)
    many = _may_be_several(classifier, separator)
    mark = JOINED_BY if separator is None else separator
    for label in map(terminal.label_text, classifier.classes_.tolist()) if many else ():
        if mark in label:
            raise ConfigError(
                f"the model's label {label!r} has {mark!r} in it, so that several labels with "
                f"{mark!r} between them could not be told apart; give another mark by "
                "--label-separator, such as that of the training table"
            )
    return mark


def joined(answers: tuple[Any, ...], mark: str) -> str:
    """Any number of labels in one cell."""
    return mark.join(terminal.label_text(label) for label in answers)


def field(answer: Any, mark: str) -> str:
    """An answer in one field of a line: its label, or all of them."""
    if isinstance(answer, tuple):
        return terminal.field(joined(answer, mark))
    return terminal.field(terminal.label_text(answer))
