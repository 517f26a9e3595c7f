"""What a model is to say of texts: one label of each, or any number of them.

Labels come as people have them: one for each text; or a list, tuple or set for each text; or, as
scikit-learn has it, a 2-D array of 0 and 1 with a column for each label.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from tidegate.columns import unwrapped
from tidegate.errors import DataError
from tidegate.labels import encode_labels, known_targets, label_array, plain
from tidegate.model import check_whole
from tidegate.text import check_column

Int32 = npt.NDArray[np.int32]

_MEND = "give a list of labels for each text, or an array of 0 and 1 [texts, labels]"


def encode_targets(labels: Iterable[Any], texts: int) -> tuple[npt.NDArray[Any], Int32]:
    """The sorted classes, and each text's class number [texts] or indicators [texts, classes].

    The classes of an array of 0 and 1 are its columns' numbers. DataError for labels that can't be
    learnt from.
    """
    if _is_indicator(labels):
        targets = _read_indicator(labels, texts)
        classes: npt.NDArray[Any] = np.arange(targets.shape[1])
    else:
        labels = _listed(labels)
        if not _are_sets(labels):
            return encode_labels(labels, texts)
        rows = _read_sets(labels, texts)
        # By type, too: True and 1 are one key.
        distinct = {(type(label), label): label for row in rows for label in row}
        if not distinct:
            raise DataError("no text has a label; give at least two labels to some texts")
        classes = np.unique(label_array(list(distinct.values()), len(distinct)))
        targets = _indicators(rows, classes)
    if len(classes) < 2:
        raise DataError(
            f"the only label is {classes.tolist()[0]!r}; for texts with it and without it, give "
            "one label for each text, such as True and False"
        )
    check_whole("labels", len(classes), 2, 100_000)
    if not len(targets) or (targets == targets[0]).all():
        raise DataError(
            "all texts have the same labels, and nothing is to be learnt; give texts of different "
            "labels, and a table of 0 and 1 as a NumPy array"
        )
    return classes, targets


def targets_of(
    classes: npt.NDArray[Any], labels: Iterable[Any], texts: int, *, many: bool
) -> Int32:
    """The same of a model with these classes: [texts], or [texts, classes] where many.

    DataError for labels that it does not have.
    """
    if not many:
        return known_targets(classes, labels, texts)
    if _is_indicator(labels):
        targets = _read_indicator(labels, texts)
        if targets.shape[1] != len(classes):
            raise DataError(
                f"labels is an array of {targets.shape[1]} columns, and the model has "
                f"{len(classes)} labels; give a column for each"
            )
        return targets
    labels = _listed(labels)
    if len(labels) and not _are_sets(labels):
        raise DataError(f"label 0 is {reprlib.repr(labels[0])}: a text may have several; {_MEND}")
    return _indicators(_read_sets(labels, texts), classes)


def _is_indicator(labels: object) -> bool:
    return isinstance(labels, np.ndarray) and labels.ndim == 2 and labels.shape[1] > 1


def _listed(labels: Iterable[Any]) -> list[Any]:
    labels = unwrapped(labels)
    check_column("labels", labels, "give a list with one label for each text")
    return list(labels)


def _is_set(label: object) -> bool:
    return isinstance(label, (list, tuple, set, frozenset)) or (
        isinstance(label, np.ndarray) and label.ndim == 1
    )


def _are_sets(labels: list[Any]) -> bool:
    """Whether there are several for each text. DataError if only for some."""
    found = [_is_set(label) for label in labels]
    if any(found) and not all(found):
        other = found.index(False)
        raise DataError(
            f"label {other} is {reprlib.repr(labels[other])} and others are lists; {_MEND}"
        )
    return any(found)


def _read_indicator(labels: Any, texts: int) -> Int32:
    if len(labels) != texts:
        raise DataError(f"{texts} texts have {len(labels)} rows of labels; give one for each text")
    if labels.dtype.kind not in "biuf" or not np.isin(labels, (0, 1)).all():
        raise DataError(
            f"labels is an array of shape {list(labels.shape)} with other values than 0 and 1; "
            f"{_MEND}"
        )
    return np.ascontiguousarray(labels, dtype=np.int32)


def _read_sets(labels: list[Any], texts: int) -> list[list[Any]]:
    if len(labels) != texts:
        raise DataError(f"{texts} texts have {len(labels)} lists of labels; give each text one")
    rows = [[plain(label) for label in given] for given in labels]
    for i, row in enumerate(rows):
        for label in row:
            if type(label) not in (str, int, bool, float):
                raise DataError(
                    f"text {i} has the label {reprlib.repr(label)}; labels are str, int, bool or "
                    "float"
                )
        if len(set(row)) < len(row):
            twice = next(label for label in row if row.count(label) > 1)
            raise DataError(
                f"text {i} has the label {twice!r} twice; name each once, and give a table of 0 "
                "and 1 as a NumPy array"
            )
    return rows


def _indicators(rows: list[list[Any]], classes: npt.NDArray[Any]) -> Int32:
    known = {(type(label), label): i for i, label in enumerate(classes.tolist())}
    targets = np.zeros((len(rows), len(classes)), np.int32)
    for i, row in enumerate(rows):
        for label in row:
            place = known.get((type(label), label))
            if place is None:
                shown = ", ".join(str(label) for label in classes.tolist())
                raise DataError(f"label {label!r} is not one of the model's: {shown}")
            targets[i, place] = 1
    return targets
