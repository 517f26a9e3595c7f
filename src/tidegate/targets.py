"""What a model is to say of texts: one label of each, or any number of them.

Labels come as people have them: one for each text; or a list, tuple or set for each text; or, as
scikit-learn has it, a 2-D array of 0 and 1 with a column for each label.
"""

from __future__ import annotations

import reprlib
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tidegate.columns import unwrapped
from tidegate.errors import DataError
from tidegate.labels import encode_labels, joined_classes, known_targets, label_array, plain
from tidegate.model import check_whole
from tidegate.text import check_column

Int32 = npt.NDArray[np.int32]

_MEND = "give a list of labels for each text, or an array of 0 and 1 [texts, labels]"


def encode_targets(
    labels: Iterable[Any], texts: int, start: Known | None = None
) -> tuple[npt.NDArray[Any], Int32]:
    """The sorted classes, and each text's class number [texts] or indicators [texts, classes].

    The classes of an array of 0 and 1 are its columns' numbers. start: what a model knows that is
    to go on; its classes are then among them, and texts may all have the same labels. DataError for
    labels that can't be learnt from.
    """
    read = TargetReader()
    read.add(labels, texts)
    return read.targets(start)


@dataclass(frozen=True)
class Known:
    """The classes of a trained model, and whether a text may have several of them."""

    classes: npt.NDArray[Any]
    many: bool


class TargetReader:
    """Labels that come in portions, as numbers: 4 bytes for each of them are kept."""

    def __init__(self) -> None:
        # By type, too: True and 1 are one key.
        self._numbers: dict[tuple[type, Any], int] = {}
        self._found = array("i")  # each text's label, or one text's labels after another's
        self._counts = array("i")  # of several labels a text: how many
        self._indicators: list[npt.NDArray[np.int8]] = []
        self._form = ""

    def __len__(self) -> int:
        if self._indicators:
            return sum(map(len, self._indicators))
        return len(self._counts if self._form == _LISTS else self._found)

    @property
    def several(self) -> bool:
        """Whether a text may have several labels."""
        return self._form in (_LISTS, _INDICATORS)

    def add(self, labels: Iterable[Any], texts: int) -> None:
        """Read the labels of so many texts more. DataError for what are none."""
        if _is_indicator(labels):
            self._begin(_INDICATORS)
            self._indicators.append(_read_indicator(labels, texts).astype(np.int8))
            if self._indicators[0].shape[1] != self._indicators[-1].shape[1]:
                raise DataError("arrays of 0 and 1 have different numbers of columns; give one")
            return
        labels = _listed(labels)
        if _are_sets(labels):
            self._begin(_LISTS)
            for row in _read_sets(labels, texts):
                self._counts.append(len(row))
                self._found.extend(map(self._number, row))
        elif labels or texts:
            self._begin(_SINGLE)
            self._found.extend(map(self._number, label_array(labels, texts).tolist()))

    def targets(self, start: Known | None = None) -> tuple[npt.NDArray[Any], Int32]:
        """What ``encode_targets`` gives of all labels that were read."""
        several = self.several
        if start is not None and self._form:
            _check_form(start, several)
        known = None if start is None else start.classes
        distinct = [label for _, label in self._numbers]
        if not several:
            classes, numbers = encode_labels(distinct, len(distinct), known)
            return classes, numbers[np.frombuffer(self._found, np.int32)]
        if self._form == _INDICATORS:
            targets = np.concatenate(self._indicators).astype(np.int32)
            classes = np.arange(targets.shape[1])
            if start is not None:
                targets = targets_of(start.classes, targets, len(targets), many=True)
                classes = start.classes
        else:
            if not distinct and start is None:
                raise DataError("no text has a label; give at least two labels to some texts")
            given = label_array(distinct, len(distinct))
            classes = joined_classes(given, known)
            places = np.searchsorted(classes, given) if distinct else np.zeros(0, np.int64)
            targets = self._listed_targets(places, len(classes))
        if start is None:
            _check_learnable(classes, targets)
        return classes, targets

    def _begin(self, form: str) -> None:
        if self._form not in ("", form):
            raise DataError(f"labels are {form}, and before they were {self._form}; {_MEND}")
        self._form = form

    def _number(self, label: Any) -> int:
        return self._numbers.setdefault((type(label), label), len(self._numbers))

    def _listed_targets(self, places: npt.NDArray[np.int64], classes: int) -> Int32:
        targets = np.zeros((len(self._counts), classes), np.int32)
        texts = np.repeat(np.arange(len(self._counts)), np.frombuffer(self._counts, np.int32))
        if len(texts):
            targets[texts, places[np.frombuffer(self._found, np.int32)]] = 1
        return targets


_SINGLE, _LISTS, _INDICATORS = "one of each text", "lists", "an array of 0 and 1"


def _check_form(start: Known, several: bool) -> None:
    if start.many and not several:
        raise DataError(f"the model gives a text several labels, and these are single; {_MEND}")
    if several and not start.many:
        raise DataError(
            "the model gives a text one label, and these are several; give one for each text, or "
            "train anew"
        )


def _check_learnable(classes: npt.NDArray[Any], targets: Int32) -> None:
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


def are_several(labels: Iterable[Any]) -> tuple[Any, bool]:
    """The labels, listed if they come one by one, and whether a text has several of them."""
    if _is_indicator(labels):
        return labels, True
    listed = _listed(labels)
    return listed, _are_sets(listed)


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
