"""What is asked of arrays before a pointer to them crosses to the compiled kernels."""

from __future__ import annotations

import numpy as np

from tidegate.errors import ShapeError


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
