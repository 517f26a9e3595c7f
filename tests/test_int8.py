"""Weights as int8: the bound of the error, the same bits again, hostile codes and scales."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tidegate.errors import ShapeError
from tidegate.int8 import LARGEST_SCALE, SMALLEST_SCALE, dequantize, quantize

Float32 = npt.NDArray[np.float32]

TABLE, KERNEL = "embedding.weight", "recurrent.kernel"
FLOAT_MAX = np.finfo(np.float32).max
# Every finite float32; ranges in which many share a scale come up more often.
FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False) | st.floats(-1, 1, width=32)
MATRICES = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=7), elements=FINITE
)


def by_row(weight: Float32) -> tuple[npt.NDArray[np.int8], Float32, Float32]:
    """Codes, scales and the weights turned back, with a scale for each row."""
    stored = quantize({TABLE: weight})
    assert set(stored) == {TABLE, f"{TABLE}.scale"}
    back = dequantize(stored, {TABLE: weight.shape})
    assert set(back) == {TABLE}
    return stored[TABLE], stored[f"{TABLE}.scale"], back[TABLE]


def significant_bits(value: float) -> int:
    mantissa, _ = np.frexp(value)
    return len(bin(int(np.ldexp(mantissa, 53))).rstrip("0")) - len("0b")


@given(MATRICES)
@example(np.array([[FLOAT_MAX, -1.0], [-FLOAT_MAX, FLOAT_MAX / 2]], np.float32))
@example(np.array([[1e-45, -3e-45], [0.0, -0.0], [1e-36, 1e-38]], np.float32))
@example(np.zeros((2, 3), np.float32))
def test_no_weight_is_off_by_more_than_half_a_scale(weight: Float32) -> None:
    codes, scale, back = by_row(weight)
    assert [array.dtype.name for array in (codes, scale, back)] == ["int8", "float32", "float32"]
    assert (codes.shape, scale.shape, back.shape) == (weight.shape, weight.shape[:1], weight.shape)
    assert (np.abs(codes.astype(int)) <= 127).all()
    assert (scale >= SMALLEST_SCALE).all()
    assert (scale <= LARGEST_SCALE).all()
    wide, exact = scale.astype(np.float64)[:, None], codes.astype(np.float64)
    # Exact: the product fits float32, and these are float64's sums of it.
    np.testing.assert_array_equal(back, exact * wide)
    assert (np.abs(weight.astype(np.float64) - exact * wide) <= wide / 2).all()
    assert (np.sign(codes) * np.sign(weight) >= 0).all()


@given(MATRICES)
def test_a_scale_is_the_largest_weight_s_share(weight: Float32) -> None:
    codes, scale, _ = by_row(weight)
    largest = np.abs(weight).max(axis=1).astype(np.float64)
    for code, found, wanted in zip(codes, scale.astype(np.float64), largest / 127, strict=True):
        assert significant_bits(found) <= 17
        if SMALLEST_SCALE <= wanted <= LARGEST_SCALE:
            assert wanted <= found <= wanted * (1 + 2.0**-16)
            assert np.abs(code.astype(int)).max() == 127


@given(MATRICES)
def test_what_was_turned_back_gives_the_same_bits_again(weight: Float32) -> None:
    codes, scale, back = by_row(weight)
    codes_again, scale_again, back_again = by_row(back)
    assert codes_again.tobytes() == codes.tobytes()
    assert scale_again.tobytes() == scale.tobytes()
    assert back_again.tobytes() == back.tobytes()


@given(MATRICES)
def test_signs_are_alike(weight: Float32) -> None:
    codes, scale, _ = by_row(weight)
    negated, same_scale, _ = by_row(-weight)
    np.testing.assert_array_equal(negated, -codes)
    np.testing.assert_array_equal(same_scale, scale)


@given(MATRICES)
def test_other_matrices_have_a_scale_for_each_column(weight: Float32) -> None:
    codes, scale, back = by_row(weight)
    stored = quantize({KERNEL: np.ascontiguousarray(weight.T)})
    np.testing.assert_array_equal(stored[KERNEL], codes.T)
    np.testing.assert_array_equal(stored[f"{KERNEL}.scale"], scale)
    columns = dequantize(stored, {KERNEL: weight.T.shape})[KERNEL]
    np.testing.assert_array_equal(columns, back.T)
    assert columns.flags.c_contiguous


@given(st.integers(-60, 60), st.data())
def test_a_row_s_scale_is_its_own(power: int, data: st.DataObject) -> None:
    """A word with large weights takes nothing from the others."""
    element = st.floats(-1, 1, width=32)
    weight = data.draw(hnp.arrays(np.float32, (3, 5), elements=element))
    codes, scale, _ = by_row(weight)
    assume((scale > 2.0**-60).all())
    scaled = weight.copy()
    scaled[1] *= np.float32(2.0**power)
    assume((scaled[1] / np.float32(2.0**power) == weight[1]).all())
    changed, changed_scale, _ = by_row(scaled)
    np.testing.assert_array_equal(changed, codes)
    np.testing.assert_array_equal(changed_scale, scale * np.array([1, 2.0**power, 1], np.float32))


def test_halves_are_rounded_to_even() -> None:
    row = [127.0, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 0.49999997]
    codes, scale, _ = by_row(np.array([row], np.float32))
    assert scale.tolist() == [1.0]
    assert codes.tolist() == [[127, 0, 2, 2, 0, -2, -2, 0]]


def test_a_quotient_that_float32_would_round_onto_a_half() -> None:
    """The bound holds to the last digit: 0.5 + 2**-26 scales are nearer to 1 than to 0."""
    largest = np.float32(127 * (1 + 2.0**-16))  # a scale of 1 + 2**-16
    above = np.nextafter(np.float32(0.5 * (1 + 2.0**-16)), np.float32(1))
    codes, scale, _ = by_row(np.array([[largest, above]], np.float32))
    assert scale[0] == 1 + 2.0**-16
    assert codes.tolist() == [[127, 1]]


def test_more_numbers_than_one_block() -> None:
    generator = np.random.default_rng(4)
    weight = generator.normal(size=(3_001, 193)).astype(np.float32)
    for name, axis in ((TABLE, 1), (KERNEL, 0)):
        stored = quantize({name: weight})
        wide = np.expand_dims(stored[f"{name}.scale"].astype(np.float64), axis)
        np.testing.assert_array_equal(stored[name], np.rint(weight / wide))


def test_biases_are_kept_bit_for_bit() -> None:
    weights = {
        "output.kernel": np.array([[0.25, -1.0]], np.float32),
        "output.bias": np.array([1e-30, -7.123], np.float32),
    }
    stored = quantize(weights)
    assert set(stored) == {"output.kernel", "output.kernel.scale", "output.bias"}
    back = dequantize(stored, {name: value.shape for name, value in weights.items()})
    assert back["output.bias"].tobytes() == weights["output.bias"].tobytes()


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_a_matrix_without_numbers(shape: tuple[int, int]) -> None:
    _, _, back = by_row(np.zeros(shape, np.float32))
    assert back.shape == shape


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", [TABLE, KERNEL])
def test_weights_that_are_not_finite_are_refused(name: str, value: float) -> None:
    weight = np.ones((2, 3), np.float32)
    weight[1, 1] = value
    with pytest.raises(ShapeError, match=f"{name} has weights that are not finite"):
        quantize({name: weight})


CODES = np.ones((4, 3), np.int8)
SCALE = np.ones(4, np.float32)


def scales(*values: float) -> Float32:
    return np.array(values, np.float32)


HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "no scales": ({"scale": None}, "there is no embedding.weight.scale"),
    "no codes": ({"codes": None}, "there is no embedding.weight"),
    "float32 codes": ({"codes": CODES.astype(np.float32)}, "is float32 [4, 3]; quantised, it is"),
    "uint8 codes": ({"codes": CODES.view(np.uint8)}, "is uint8 [4, 3]; quantised, it is int8"),
    "codes of another shape": ({"codes": CODES[:, :2]}, "is int8 [4, 2]; quantised, it is int8"),
    "codes to be spread": ({"codes": CODES[:1]}, "is int8 [1, 3]; quantised, it is int8 [4, 3]"),
    "flat codes": ({"codes": CODES.reshape(-1)}, "is int8 [12]; quantised, it is int8 [4, 3]"),
    "the code -128": ({"codes": CODES * np.int8(-128)}, "has the code -128"),
    "float16 scales": ({"scale": SCALE.astype(np.float16)}, "is float16 [4]; quantised, it is"),
    "one scale": ({"scale": SCALE[:1]}, "is float32 [1]; quantised, it is float32 [4]"),
    "a scale for each column": ({"scale": SCALE[:3]}, "is float32 [3]; quantised, it is"),
    "scales in a column": ({"scale": SCALE[:, None]}, "is float32 [4, 1]; quantised, it is"),
    "NaN": ({"scale": scales(1, np.nan, 1, 1)}, ".scale holds nan; scales are above 0"),
    "infinity": ({"scale": scales(1, 1, 1, np.inf)}, ".scale holds inf; scales are above 0"),
    "negative": ({"scale": scales(1, 1, -2, 1)}, ".scale holds -2.0; scales are above 0"),
    "zero": ({"scale": scales(0, 1, 1, 1)}, ".scale holds 0.0; scales are above 0"),
    "too large": ({"scale": scales(1, 1, 1, 2.7e36)}, "at most 2.68e+36"),
}


@pytest.mark.parametrize(("changed", "message"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_codes_and_scales(changed: dict[str, Any], message: str) -> None:
    parts = {"codes": CODES, "scale": SCALE, **changed}
    stored = {TABLE: parts["codes"], f"{TABLE}.scale": parts["scale"]}
    stored = {name: value for name, value in stored.items() if value is not None}
    with pytest.raises(ShapeError, match=re.escape(message)) as caught:
        dequantize(stored, {TABLE: (4, 3)})
    assert "\n" not in str(caught.value)


def test_the_largest_scale_gives_finite_weights() -> None:
    stored = {TABLE: CODES * np.int8(-127), f"{TABLE}.scale": SCALE * np.float32(LARGEST_SCALE)}
    back = dequantize(stored, {TABLE: (4, 3)})[TABLE]
    assert np.isfinite(back).all()
    # The next one with 17 bits would not.
    assert float(FLOAT_MAX) < (LARGEST_SCALE + 2.0**105) * 127


def test_what_was_given_is_left_as_it_was() -> None:
    weight = np.array([[1.0, -2.0]], np.float32)
    stored = quantize({TABLE: weight})
    before = {name: value.tobytes() for name, value in stored.items()}
    dequantize(stored, {TABLE: (1, 2)})
    assert {name: value.tobytes() for name, value in stored.items()} == before
    assert weight.tolist() == [[1.0, -2.0]]
