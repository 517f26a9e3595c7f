"""sigmoid and tanh of the kernels over the whole range of float32, on every instruction set."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tidegate import ops
from tidegate.batch import TokenizedTexts

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

STRIDE = 4_099  # prime, so that the lowest bits of the samples vary too


@lru_cache(maxsize=1)
def every_exponent() -> Float32:
    """Finite numbers of both signs, some two thousand of each exponent, denormals among them."""
    finite = np.arange(0, 0x7F80_0000, STRIDE, dtype=np.uint32)
    both = np.concatenate([finite, finite | np.uint32(0x8000_0000)]).view(np.float32)
    largest = np.finfo(np.float32).max
    result: Float32 = np.concatenate([both, np.array([largest, -largest], np.float32)])
    return result


@lru_cache(maxsize=1)
def ordinary() -> Float32:
    """Densely what gates see."""
    return np.linspace(-12, 12, 300_007).astype(np.float32)


def exact_sigmoid(x: Float32) -> Float64:
    wide = x.astype(np.float64)
    small = np.exp(-np.abs(wide))
    result: Float64 = np.where(wide >= 0, 1.0, small) / (1.0 + small)
    return result


def exact_tanh(x: Float32) -> Float64:
    result: Float64 = np.tanh(x.astype(np.float64))
    return result


def ulps(given: Float32, exact: Float64) -> Float64:
    """Distance in units of the last place of the exact result."""
    unit = np.spacing(np.abs(exact).astype(np.float32)).astype(np.float64)
    result: Float64 = np.abs(given.astype(np.float64) - exact) / unit
    return result


def test_the_sample_has_every_exponent() -> None:
    exponents = (every_exponent().view(np.uint32) >> np.uint32(23)) & np.uint32(0xFF)
    assert np.bincount(exponents, minlength=256)[:255].min() > 4_000
    assert np.isfinite(every_exponent()).all()


@pytest.mark.parametrize("sample", [every_exponent, ordinary])
def test_sigmoid_is_within_3_ulp(isa: str, sample: Any) -> None:
    x = sample()
    x = x[x > -87]
    y = ops.sigmoid(x)
    worst = int(ulps(y, exact_sigmoid(x)).argmax())
    assert ulps(y, exact_sigmoid(x))[worst] <= 3, (x[worst], y[worst])
    assert y.min() >= 0
    assert y.max() <= 1


def gru_gates(update_sum: Float32, reset_sum: Float32) -> tuple[Float32, Float32]:
    """A GRU's gates of these sums, which the kernels compute as a pair: one text of one unit."""
    count = len(update_sum)
    encoded = TokenizedTexts(np.zeros(count, np.int32), np.array([0, count]))
    batch = ops.pack(encoded, [0], max_length=count, masked=True, vocabulary_size=5)
    weights = ops.RecurrentWeights(
        np.eye(3, dtype=np.float32),
        np.zeros((1, 3), np.float32),
        np.zeros(3, np.float32),
        np.zeros(3, np.float32),
    )
    inputs = np.stack([update_sum, reset_sum, np.zeros(count, np.float32)], axis=1)
    _, _, tape = ops.recurrent_forward("gru_after", batch, inputs, weights, dense=True)
    return tape.gates["update"][:, 0], tape.gates["reset"][:, 0]


def test_a_pair_of_sigmoids_is_within_3_ulp(isa: str) -> None:
    """Two gates share one division; each must be right whatever the other one is."""
    # Sums are zero plus a product: a denormal one is flushed, and its sigmoid is 0.5 all the same.
    x = np.concatenate([every_exponent()[::16], ordinary()[::16]])
    y = np.random.default_rng(0).permutation(x)
    update, reset = gru_gates(x, y)
    for given, gate in ((x, update), (y, reset)):
        near = given > -43
        assert near.sum() > 10_000
        assert ulps(gate[near], exact_sigmoid(given[near])).max() <= 3
        # Further out, the product of both denominators would overflow.
        assert gate[~near].max() < 3e-19
        assert gate.min() >= 0
        assert gate.max() <= 1


def test_sigmoid_far_below_zero_is_as_good_as_zero(isa: str) -> None:
    x = every_exponent()
    x = x[x <= -87]
    y = ops.sigmoid(x)
    assert len(x) > 100_000
    assert y.min() >= 0
    assert y.max() < 1.7e-38


@pytest.mark.parametrize("sample", [every_exponent, ordinary])
def test_tanh_is_within_3_ulp_and_never_above_1(isa: str, sample: Any) -> None:
    x = sample()
    y = ops.tanh(x)
    worst = int(ulps(y, exact_tanh(x)).argmax())
    assert ulps(y, exact_tanh(x))[worst] <= 3, (x[worst], y[worst])
    # Above 1, the slope 1 - y * y would change its sign.
    assert np.abs(y).max() == 1
    assert (np.sign(y) == np.sign(x)).all()


def test_nan_infinity_and_zero(isa: str) -> None:
    inf, nan = np.inf, np.nan
    x = np.array([nan, inf, -inf, 0.0, -0.0, -nan], np.float32)
    np.testing.assert_array_equal(ops.tanh(x), np.array([nan, 1, -1, 0, 0, nan], np.float32))
    sigmoid = ops.sigmoid(x)
    np.testing.assert_array_equal(sigmoid[[0, 1, 3, 4, 5]], [nan, 1, 0.5, 0.5, nan])
    assert 0 <= sigmoid[2] < 1.7e-38


@pytest.mark.parametrize("payload", [0x7FC0_0000, 0xFFC0_0001, 0x7F80_0001, 0x7FFF_FFFF])
def test_every_nan_passes_through(isa: str, payload: int) -> None:
    """Beside ordinary numbers, which keep their values."""
    bits = np.zeros(37, np.uint32)
    bits[::3] = payload
    x = bits.view(np.float32)
    for function, elsewhere in ((ops.sigmoid, 0.5), (ops.tanh, 0.0)):
        y = function(x)
        np.testing.assert_array_equal(np.isnan(y), np.isnan(x))
        assert (y[~np.isnan(x)] == elsewhere).all()


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 33])
def test_a_result_does_not_depend_on_its_place(isa: str, count: int) -> None:
    x = np.random.default_rng(0).normal(0, 3, count).astype(np.float32)
    for function in (ops.sigmoid, ops.tanh):
        together = function(x)
        alone = [function(x[i : i + 1])[0] for i in range(count)]
        np.testing.assert_array_equal(together, np.array(alone, np.float32))
