"""Columns of texts and labels, as other libraries hold them, as what Python iterates over.

None of those libraries is imported: their objects are known by what they can do.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np


def unwrapped(values: Any) -> Any:
    """``values``, with Python's own values in place of Arrow's.

    Lists, NumPy's arrays, and the Series of pandas and polars come back as they are. Arrow's
    arrays, lists of its scalars (what scikit-learn cuts out of such arrays), and objects that only
    NumPy can read come back as lists or arrays. Whether it is one column is for others to check.
    """
    if hasattr(values, "shape"):  # a column of NumPy's or the like, or a table
        return values
    to_list = getattr(values, "to_pylist", None)
    if callable(to_list):
        return to_list()
    if not isinstance(values, Iterable) and hasattr(values, "__array__"):
        return np.asarray(values)
    if isinstance(values, list) and values and hasattr(values[0], "as_py"):
        return [value.as_py() if hasattr(value, "as_py") else value for value in values]
    return values
