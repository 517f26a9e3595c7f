"""Weights as int8 with float32 scales: a quarter of the bytes of a model file.

Every matrix W becomes codes from -127 to 127 and positive scales s, and stands for code × s. The
embedding has a scale for each row (a word), every other matrix one for each column (an output).
Biases stay as they are.

A scale is the largest magnitude of its row or column divided by 127, rounded up to 17 bits: then
code × s is exact in float32, so that

- no weight is off by more than s / 2,
- what was turned back gives the same codes and scales again, on every machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tidegate.errors import ShapeError

MOST = 127  # -128 is left out: signs are alike
SCALE = ".scale"  # what the scales' name has behind the matrix's

# Below float32's normal numbers digits are lost; above the largest scale 127 × s is infinite.
SMALLEST_SCALE = 2.0**-126
LARGEST_SCALE = float(np.finfo(np.float32).max) / MOST // 2.0**105 * 2.0**105  # 17 bits

_ROWS = "embedding.weight"
_BLOCK = 1 << 18  # numbers that are divided in float64 at a time

Float32 = npt.NDArray[np.float32]


def quantize(weights: Mapping[str, Float32]) -> dict[str, npt.NDArray[Any]]:
    """Each matrix as int8 codes, with its float32 scales beside it; the rest as it is.

    weights: float32 arrays by name. Raises ShapeError if a matrix is not finite.
    """
    stored: dict[str, npt.NDArray[Any]] = {}
    for name, weight in weights.items():
        if weight.ndim == 2:
            stored[name], stored[name + SCALE] = _quantize(name, weight)
        else:
            stored[name] = weight
    return stored


def dequantize(
    stored: Mapping[str, npt.NDArray[Any]], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, npt.NDArray[Any]]:
    """What ``quantize`` was given, each weight within half a scale.

    shapes: those of all weights. Matrices without sound codes and scales are a ShapeError; what
    else is stored is handed on unchecked.
    """
    weights = dict(stored)
    for name, shape in shapes.items():
        if len(shape) == 2:
            weights[name] = _dequantize(name, shape, weights)
    return weights


def _axis(name: str) -> int:
    """The axis along which one scale holds."""
    return 1 if name == _ROWS else 0


def _quantize(name: str, weight: Float32) -> tuple[npt.NDArray[np.int8], Float32]:
    axis = _axis(name)
    # Not of abs(weight), which would be another array as large.
    largest = np.maximum(weight.max(axis, initial=0.0), -weight.min(axis, initial=0.0))
    if not np.isfinite(largest).all():
        raise ShapeError(
            f"{name} has weights that are not finite, which int8 can't hold; train again with a "
            "lower learning_rate or a clip_norm"
        )
    scale = _round_up(largest.astype(np.float64) / MOST).clip(SMALLEST_SCALE, LARGEST_SCALE)
    spread = np.expand_dims(scale, axis)
    codes = np.empty(weight.shape, np.int8)
    rows = max(1, _BLOCK // max(1, weight.shape[1]))
    for start in range(0, len(weight), rows):
        block = slice(start, start + rows)
        # float32's quotient could be rounded onto a half, and from there to the wrong side.
        quotient = weight[block].astype(np.float64) / (spread[block] if axis == 1 else spread)
        codes[block] = np.rint(quotient)  # halves to even
    return codes, scale.astype(np.float32)


def _round_up(value: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """To 17 significant bits: times 127 that is 24, all that float32 has."""
    mantissa, exponent = np.frexp(value)
    rounded: npt.NDArray[np.float64] = np.ldexp(np.ceil(np.ldexp(mantissa, 17)), exponent - 17)
    return rounded


def _dequantize(name: str, shape: tuple[int, ...], stored: dict[str, npt.NDArray[Any]]) -> Float32:
    """Takes the scales out of ``stored``."""
    missing = [key for key in (name, name + SCALE) if key not in stored]
    if missing:
        raise ShapeError(f"there is no {missing[0]}")
    codes, scale = stored[name], stored.pop(name + SCALE)
    axis = _axis(name)
    _check(name, codes, np.int8, shape)
    _check(name + SCALE, scale, np.float32, (shape[1 - axis],))
    if codes.min(initial=0) < -MOST:
        raise ShapeError(f"{name} has the code -128; codes are from -{MOST} to {MOST}")
    sound = (scale > 0.0) & (scale <= LARGEST_SCALE)
    if not sound.all():
        raise ShapeError(
            f"{name}{SCALE} holds {scale[~sound][0]}; scales are above 0 and at most "
            f"{LARGEST_SCALE:.3g}"
        )
    weight: Float32 = np.multiply(codes, np.expand_dims(scale, axis), dtype=np.float32)
    return weight


def _check(name: str, array: npt.NDArray[Any], dtype: type, shape: tuple[int, ...]) -> None:
    if array.dtype != dtype or array.shape != shape:
        raise ShapeError(
            f"{name} is {array.dtype} {list(array.shape)}; quantised, it is "
            f"{np.dtype(dtype).name} {list(shape)}"
        )
