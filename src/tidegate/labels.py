"""Labels of every kind that people have, as numbers of classes and back."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from tidegate.columns import unwrapped
from tidegate.errors import ConfigError, DataError
from tidegate.model import check_whole
from tidegate.text import check_column

# A product of two of them is finite in float32.
_LARGEST_WEIGHT = 1e18

LABEL_TYPES = {"U": "str", "i": "int", "b": "bool", "f": "float"}


def label_array(labels: Iterable[Any], texts: int) -> npt.NDArray[Any]:
    """Labels as an array of str, int, bool or float; DataError for anything else."""
    labels = unwrapped(labels)
    check_column("labels", labels, "give a list with one label for each text")
    listed = labels.tolist() if isinstance(labels, np.ndarray) else list(labels)
    if len(listed) != texts:
        raise DataError(f"{texts} texts have {len(listed)} labels; give one label for each text")
    listed = [plain(label) for label in listed]
    types = {type(label) for label in listed}
    for i, label in enumerate(listed):
        if type(label) not in (str, int, bool, float):
            raise DataError(f"label {i} is {label!r}; labels are str, int, bool or float")
        if isinstance(label, float) and not math.isfinite(label):
            raise DataError(f"label {i} is {label!r}; drop the text, or give it a finite label")
        if isinstance(label, int) and not -(2**63) <= label < 2**63:
            raise DataError(f"label {i} is {label}, too large for 64 bits; use str labels")
    if len(types) > 1:
        mixed = ", ".join(sorted(t.__name__ for t in types))
        raise DataError(f"labels mix {mixed}; make them all of one type, such as str")
    array = np.array(listed) if listed else np.array([], dtype=np.str_)
    if array.dtype.kind == "U" and array.tolist() != listed:
        # NumPy strips trailing NULs, which would make two labels one.
        raise DataError("a label ends with a NUL character; strip it")
    return array


def encode_labels(
    labels: Iterable[Any], texts: int, known: npt.NDArray[Any] | None = None
) -> tuple[npt.NDArray[Any], npt.NDArray[np.int32]]:
    """The sorted classes, and each label's number among them.

    known: a trained model's classes, which are then among them, even if no text has them.
    """
    array = label_array(labels, texts)
    if not len(array):
        fewest = "two, of two classes" if known is None else "one"
        raise DataError(f"there are no texts to train on; give at least {fewest}")
    classes = joined_classes(array, known)
    if len(classes) < 2:
        raise DataError(
            f"every label is {classes.tolist()[0]!r}, one class; a classifier needs texts of at "
            "least two classes"
        )
    check_whole("classes", len(classes), 2, 100_000)
    return classes, np.searchsorted(classes, array).astype(np.int32)


def joined_classes(
    labels: npt.NDArray[Any], known: npt.NDArray[Any] | None = None
) -> npt.NDArray[Any]:
    """The sorted distinct labels, and those that a model knows. DataError for another type."""
    if known is None:
        return np.unique(labels)
    if not len(labels):  # of no type of their own
        return known
    own, other = (LABEL_TYPES[array.dtype.kind] for array in (known, labels))
    if own != other:
        raise DataError(f"labels are {other}, and the model's are {own}; give labels of {own}")
    return np.unique(np.concatenate([known, labels]))


def known_targets(
    classes: npt.NDArray[Any], labels: Iterable[Any], texts: int
) -> npt.NDArray[np.int32]:
    """Each label's number among the model's classes; DataError for one that is none of them."""
    given = label_array(labels, texts).tolist()
    known = {label: i for i, label in enumerate(classes.tolist())}
    unknown = [label for label in given if label not in known]
    if unknown:
        raise DataError(
            f"label {unknown[0]!r} is not one of the model's: "
            f"{', '.join(str(label) for label in known)}"
        )
    return np.array([known[label] for label in given], np.int32)


def plain(value: Any) -> Any:
    """NumPy's scalars and subclasses of str, int and float, as enums are, as Python's own."""
    if isinstance(value, np.generic):
        value = value.item()
    # By the base's own methods: an enum's str() is its name.
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    return value


def stored_classes(stored: Any, label_type: Any) -> npt.NDArray[Any]:
    types: dict[Any, type] = {"str": str, "int": int, "bool": bool, "float": float}
    wanted = types[label_type]
    if not isinstance(stored, list) or any(type(label) is not wanted for label in stored):
        raise DataError(f"the labels are not all {label_type}")
    if not all(label < following for label, following in pairwise(stored)):
        raise DataError("the labels are not sorted and distinct")
    return label_array(stored, len(stored))


def check_class_weight(given: object) -> None:
    """ConfigError unless it is None, "balanced" or a dict of labels and numbers."""
    if given is None or (isinstance(given, str) and given == "balanced"):
        return
    if not isinstance(given, Mapping):
        raise ConfigError(
            f"class_weight={given!r} is neither None, 'balanced' nor a dict of labels and "
            'weights, such as {"good": 2}'
        )
    for label, weight in given.items():
        number = isinstance(weight, (int, float, np.integer, np.floating))
        if not number or isinstance(weight, bool) or not 0.0 <= weight <= _LARGEST_WEIGHT:
            raise ConfigError(f"class_weight of {label!r} is {weight!r}, not a number from 0 on")


def class_weights(
    given: str | Mapping[Any, float] | None,
    classes: npt.NDArray[Any],
    targets: npt.NDArray[np.int32],
) -> npt.NDArray[np.float32] | None:
    """[classes] how much a text of each class counts; None where all count 1.

    "balanced": so that all classes count the same together and texts 1 on average. A dict: its
    weights, and 1 for classes that it does not name. ConfigError if it names one that is not there.
    """
    if given is None:
        return None
    if isinstance(given, str):
        counts = np.bincount(targets, minlength=len(classes))
        # A class without a text in training has no weight to give.
        balanced = len(targets) / (np.count_nonzero(counts) * np.maximum(counts, 1))
        return balanced.astype(np.float32)
    named = {plain(label): float(weight) for label, weight in given.items()}
    labels = classes.tolist()
    unknown = [label for label in named if label not in labels]
    if unknown:
        shown = ", ".join(str(label) for label in labels[:10])
        raise ConfigError(f"class_weight names {unknown[0]!r}; the labels are {shown}")
    return np.array([named.get(label, 1.0) for label in labels], np.float32)


def text_weights(given: Iterable[Any] | None, texts: int) -> npt.NDArray[np.float64] | None:
    """[texts] how much each text counts; None where all count 1. DataError for a bad weight."""
    if given is None:
        return None
    given = unwrapped(given)
    check_column("sample_weight", given, "give a list with one number for each text")
    listed = given.tolist() if isinstance(given, np.ndarray) else list(given)
    if len(listed) != texts:
        raise DataError(
            f"{texts} texts have {len(listed)} weights; give one sample_weight for each text"
        )
    for i, weight in enumerate(listed):
        number = isinstance(weight, (int, float, np.integer, np.floating))
        if not number or isinstance(weight, bool) or not 0.0 <= weight <= _LARGEST_WEIGHT:
            raise DataError(f"sample_weight {i} is {weight!r}; weights are numbers from 0 to 1e18")
    return np.array(listed, np.float64)


def training_weights(
    of_classes: npt.NDArray[np.float32] | None,
    of_texts: npt.NDArray[np.float64] | None,
    targets: npt.NDArray[np.int32],
) -> npt.NDArray[np.float64] | None:
    """[texts] the products of both weights, None where there is neither."""
    if of_texts is None:
        return None if of_classes is None else of_classes[targets].astype(np.float64)
    return of_texts if of_classes is None else of_texts * of_classes[targets]


def float32_weights(weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """The weights as the network's training has them, too small ones as 0.

    DataError if no text would count.
    """
    smallest = np.finfo(np.float32).tiny  # below it, float32 loses digits, and kernels flush to 0
    counted = np.where(weights >= smallest, weights, 0.0).astype(np.float32)
    if not counted.any():
        raise DataError(
            "sample_weight is zero for every training text, or below 1.2e-38, which float32 takes "
            "for zero; give some text more"
        )
    return counted
