"""How sure a score is: 95 % intervals, and whether one model is really better than another."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tidegate.errors import ConfigError, DataError, ShapeError
from tidegate.scores import Float64

RESAMPLES = 1_000

Interval = tuple[float, float]

_NORMAL_975 = 1.959963984540054  # the normal distribution's 97.5 % quantile
_RESAMPLED_TOGETHER = 1 << 20  # weights that are held at once


def wilson(right: int, texts: int) -> Interval:
    """Of a share ``right / texts``. DataError for no texts. Source: Wilson 1927."""
    if texts < 1:
        raise DataError("no texts, and so no interval; give at least one")
    if not 0 <= right <= texts:
        raise ConfigError(f"right={right} is not between 0 and the number of texts, {texts}")
    share, square = right / texts, _NORMAL_975**2 / texts
    centre = share + square / 2.0
    reach = _NORMAL_975 * math.sqrt(share * (1.0 - share) / texts + square / (4.0 * texts))
    # At the ends rounding would leave a hair between the interval and the share.
    low = 0.0 if right == 0 else (centre - reach) / (1.0 + square)
    return low, 1.0 if right == texts else (centre + reach) / (1.0 + square)


def resampled(texts: int, seed: int = 0) -> Iterator[Float64]:
    """RESAMPLES times as many texts drawn with replacement: how often each one was.

    In blocks of [rounds, texts], so that memory stays flat.
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    block = max(1, min(RESAMPLES, _RESAMPLED_TOGETHER // max(1, texts)))
    for start in range(0, RESAMPLES, block):
        rounds = min(block, RESAMPLES - start)
        drawn = generator.integers(0, texts, (rounds, texts))
        drawn += np.arange(rounds)[:, None] * texts
        counted = np.bincount(drawn.ravel(), minlength=rounds * texts)
        yield counted.reshape(rounds, texts).astype(np.float64)


def bootstrap(
    scores: Callable[[Float64], list[Float64]], texts: int, seed: int = 0
) -> list[Interval | None]:
    """Each score's 2.5 % and 97.5 % quantiles over the same resamples; None where it has no value.

    scores: from the weights [rounds, texts], each score [rounds]. Source: Efron 1979.
    """
    blocks = [scores(weights) for weights in resampled(texts, seed)]
    intervals: list[Interval | None] = []
    for parts in zip(*blocks, strict=True):
        values = np.concatenate(parts)
        values = values[~np.isnan(values)]
        low, high = np.quantile(values, (0.025, 0.975)) if len(values) else (0.0, 0.0)
        intervals.append((float(low), float(high)) if len(values) else None)
    return intervals


@dataclass(frozen=True)
class McNemar:
    """Two models on the same texts.

    first_only, second_only: texts that only one of them has right. exact: the two-sided p-value
    of the binomial test that each is right there as often as the other. mid_p: the same with half
    of what was observed's own probability, less shy where such texts are few.
    """

    first_only: int
    second_only: int
    exact: float
    mid_p: float


def mcnemar(
    first_right: npt.NDArray[np.bool_] | Sequence[bool],
    second_right: npt.NDArray[np.bool_] | Sequence[bool],
) -> McNemar:
    """Whether one of two models is right more often than the other. [n] bool: right on each text.

    p-values are sums over the binomial distribution, not approximations. Equal counts have p 1.
    Source: McNemar 1947; Fagerland, Lydersen & Laake 2013.
    """
    first_right = _answers("first_right", first_right)
    second_right = _answers("second_right", second_right)
    if len(first_right) != len(second_right):
        raise ShapeError(
            f"first_right has {len(first_right)} texts and second_right {len(second_right)}; give "
            "both models' answers to the same texts"
        )
    first = int(np.count_nonzero(first_right & ~second_right))
    second = int(np.count_nonzero(second_right & ~first_right))
    total, fewer = first + second, min(first, second)
    if first == second:
        # The two tails overlap in what was observed; half of it belongs to neither.
        own = _binomial(total)[fewer] if total else 1.0
        return McNemar(first, second, 1.0, 1.0 - own / 2.0 if total else 1.0)
    shares = _binomial(total)
    exact = 2.0 * float(shares[: fewer + 1].sum())
    return McNemar(first, second, min(1.0, exact), exact - float(shares[fewer]))


def _answers(name: str, given: object) -> npt.NDArray[np.bool_]:
    try:
        right = np.asarray(given)
    except ValueError:  # lists of several lengths
        right = np.empty(0, object)
    if right.dtype != np.bool_ or right.ndim != 1:
        raise ShapeError(f"{name} is {right.dtype} {list(right.shape)}; give bool [texts]")
    return right


def _binomial(total: int) -> Float64:
    """[total + 1] the probability of each number of heads."""
    log_factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, total + 1)))])
    chosen = log_factorials[total] - log_factorials - log_factorials[::-1]
    shares: Float64 = np.exp(chosen - total * math.log(2.0))
    return shares
