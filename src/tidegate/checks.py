"""What is asked of arguments: of arrays, before a pointer to them crosses to the compiled kernels,
and of what people give in a wrong type.
"""

from __future__ import annotations

import os
import reprlib
from pathlib import Path
from typing import Any

import numpy as np

from tidegate.errors import ConfigError, ShapeError


def check_path(name: str, given: object) -> Path:
    """The path of a file or folder. ConfigError for what is none."""
    if not isinstance(given, (str, os.PathLike)) or not isinstance(os.fspath(given), str):
        raise ConfigError(
            f"{name}={reprlib.repr(given)} is not a path; give a str or a pathlib.Path"
        )
    return Path(given)


def check_text_pair(name: str, given: object) -> tuple[Any, Any]:
    """Texts and their labels, neither of which is looked at. ConfigError for what is no pair."""
    if not isinstance(given, (tuple, list)) or len(given) != 2:
        raise ConfigError(
            f"{name} is not a pair of texts and labels ({reprlib.repr(given)}); give "
            f"{name}=(texts, labels)"
        )
    return given[0], given[1]


def check_flag(name: str, given: object) -> bool:
    """ConfigError unless it is True or False."""
    if not isinstance(given, (bool, np.bool_)):
        raise ConfigError(f"{name}={reprlib.repr(given)} is neither True nor False")
    return bool(given)


def check_array(
    name: str,
    array: object,
    shape: tuple[int | None, ...] | None,
    dtype: type = np.float32,
    *,
    written: bool = False,
) -> None:
    """ShapeError unless ``array`` is a contiguous NumPy array of this shape and dtype.

    shape: holds None where any length will do, and is None where any shape will. written: whether
    the array is to be changed in place.
    """
    if not isinstance(array, np.ndarray):
        raise ShapeError(f"{name} is a {type(array).__name__}; give a NumPy array")
    if array.dtype != dtype:
        raise ShapeError(f"{name} has dtype {array.dtype}; give {np.dtype(dtype)}")
    if shape is not None and (
        array.ndim != len(shape)
        or any(w is not None and w != got for w, got in zip(shape, array.shape, strict=True))
    ):
        wanted = ", ".join("any" if n is None else str(n) for n in shape)
        raise ShapeError(f"{name} has shape {list(array.shape)}; [{wanted}] is needed")
    if not array.flags.c_contiguous:
        raise ShapeError(f"{name} is not contiguous; pass np.ascontiguousarray({name})")
    if written and not array.flags.writeable:
        raise ShapeError(f"{name} is read-only, and is to be changed in place; pass a copy")


def check_range(name: str, values: np.ndarray, limit: int) -> None:
    """ShapeError unless all of ``values`` lie in [0, limit)."""
    if values.size and not (int(values.min()) >= 0 and int(values.max()) < limit):
        raise ShapeError(
            f"{name} runs from {values.min()} to {values.max()}; it must lie in 0..{limit - 1}"
        )
