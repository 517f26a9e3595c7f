"""Whether a difference is more than chance, of texts and of seeds together.

One seed's answers to the same texts are compared by McNemar's test. Several seeds' answers are a
table, a row for each seed and a column for each text, and both are drawn at random: another seed
gives other weights, another test set has other texts. Counting seeds times texts as so many texts
would forget that they are the same ones, and a t-test over the seeds that the texts are few. So the
variance of the mean is that of the rows' means and that of the columns' means, less what both
count twice, and Student's t has the degrees of freedom of that sum. Where each seed has texts of
its own, there are no columns, and the seeds alone are left.

Sources: Brennan 2001 (variance of a mean over two random facets), Satterthwaite 1946 (degrees of
freedom), Fagerland, Lydersen & Laake 2013 (McNemar's mid-p), Holm 1979.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tidegate.errors import ShapeError
from tidegate.intervals import Interval, mcnemar, wilson

Right = npt.NDArray[np.bool_]
Float64 = npt.NDArray[np.float64]

_NORMAL_975 = 1.959963984540054
_MOST_TERMS = 500


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval. spread: the seeds' standard deviation, None for one seed.

    method: "wilson", "seeds and texts" or "seeds".
    """

    mean: float
    interval: Interval
    spread: float | None
    method: str


@dataclass(frozen=True)
class Paired:
    """How much more often the first of two models is right than the second, on the same texts.

    difference: of accuracies, with its 95 % interval. p: two-sided. first_only, second_only: of
    each seed, the texts that only one of both has right. method: "mcnemar", "seeds and texts" or
    "seeds".
    """

    difference: float
    interval: Interval
    p: float
    first_only: tuple[int, ...]
    second_only: tuple[int, ...]
    method: str


def accuracy_of(right: Sequence[Right], *, shared: bool) -> Estimate:
    """The accuracy over seeds. right: of each seed [texts]. shared: whether texts are the same."""
    _check(right, shared)
    if len(right) == 1:
        count = int(np.count_nonzero(right[0]))
        return Estimate(count / len(right[0]), wilson(count, len(right[0])), None, "wilson")
    mean, error, freedom, method = _mean(_floats(right), shared)
    reach = student_quantile(freedom) * error
    spread = float(np.std([row.mean() for row in right], ddof=1))
    return Estimate(mean, (max(0.0, mean - reach), min(1.0, mean + reach)), spread, method)


def compare_pairs(first: Sequence[Right], second: Sequence[Right], *, shared: bool) -> Paired:
    """Whether one of two models is better. first, second: of each seed [texts], the same ones."""
    _check(first, shared)
    _check(second, shared)
    if [len(row) for row in first] != [len(row) for row in second]:
        raise ShapeError("both models have to answer the same texts, seed by seed")
    tests = [mcnemar(a, b) for a, b in zip(first, second, strict=True)]
    only = tuple(test.first_only for test in tests), tuple(test.second_only for test in tests)
    if len(first) == 1:
        texts, (one,), (other,) = len(first[0]), *only
        difference = (one - other) / texts
        variance = (one + other - (one - other) ** 2 / texts) / texts**2
        reach = _NORMAL_975 * math.sqrt(max(0.0, variance))
        interval = (difference - reach, difference + reach)
        return Paired(difference, interval, tests[0].mid_p, *only, "mcnemar")
    rows = [a - b for a, b in zip(_floats(first), _floats(second), strict=True)]
    mean, error, freedom, method = _mean(rows, shared)
    reach = student_quantile(freedom) * error
    p = 0.0 if mean else 1.0  # where nothing varies
    if error > 0.0:
        p = student_p(mean / error, freedom)
    return Paired(mean, (mean - reach, mean + reach), p, *only, method)


def holm(values: Sequence[float]) -> list[float]:
    """p-values that stay what they promise though there are several: the largest of those so far,
    each times the number of those that are not smaller.
    """
    adjusted = [0.0] * len(values)
    largest = 0.0
    for rank, place in enumerate(sorted(range(len(values)), key=lambda i: values[i])):
        largest = max(largest, min(1.0, values[place] * (len(values) - rank)))
        adjusted[place] = largest
    return adjusted


def _check(right: Sequence[Right], shared: bool) -> None:
    if not right or any(row.dtype != np.bool_ or row.ndim != 1 or not len(row) for row in right):
        raise ShapeError("give bool [texts] of each seed, at least one text of at least one seed")
    if shared and len({len(row) for row in right}) > 1:
        raise ShapeError("seeds that share their texts have as many of them")


def _floats(right: Sequence[Right]) -> list[Float64]:
    return [row.astype(np.float64) for row in right]


def _mean(rows: list[Float64], shared: bool) -> tuple[float, float, float, str]:
    """The mean over seeds, its standard error, the degrees of freedom, and how they were found."""
    seeds = len(rows)
    means = np.array([row.mean() for row in rows])
    mean = float(means.mean())
    of_seeds = float(means.var(ddof=1)) / seeds
    if not shared or len(rows[0]) < 2:
        # The seeds' means differ by their texts, too; by chance they can lie closer than that.
        least = sum(float(row.var()) / len(row) for row in rows) / seeds**2
        return mean, math.sqrt(max(of_seeds, least)), seeds - 1.0, "seeds"
    table = np.stack(rows)
    texts = table.shape[1]
    columns = table.mean(axis=0)
    of_texts = float(columns.var(ddof=1)) / texts
    rest = table - means[:, None] - columns[None, :] + mean
    twice = float(np.square(rest).sum()) / ((seeds - 1) * (texts - 1)) / (seeds * texts)
    together = of_seeds + of_texts - twice
    least = max(of_seeds, of_texts)
    if together <= least:
        freedom = seeds - 1.0 if of_seeds >= of_texts else texts - 1.0
        return mean, math.sqrt(least), freedom, "seeds and texts"
    parts = of_seeds**2 / (seeds - 1) + of_texts**2 / (texts - 1)
    parts += twice**2 / ((seeds - 1) * (texts - 1))
    return mean, math.sqrt(together), together**2 / parts, "seeds and texts"


# --- Student's distribution ----------------------------------------------------------------------


def student_p(t: float, freedom: float) -> float:
    """The probability of a value at least as far from 0 as t."""
    return _beta_share(freedom / (freedom + t * t), freedom / 2.0, 0.5)


def student_quantile(freedom: float, share: float = 0.05) -> float:
    """The value beyond which, on both sides together, this share of the distribution lies."""
    low, high = 0.0, 1.0
    while student_p(high, freedom) > share:
        low, high = high, 2.0 * high
    for _ in range(100):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if student_p(middle, freedom) > share else (low, middle)
    return 0.5 * (low + high)


def _beta_share(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b), by its continued fraction."""
    if x <= 0.0 or x >= 1.0:
        return 0.0 if x <= 0.0 else 1.0
    if x > (a + 1.0) / (a + b + 2.0):  # where the fraction converges slowly
        return 1.0 - _beta_share(1.0 - x, b, a)
    front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    front += a * math.log(x) + b * math.log1p(-x)
    # Lentz's method: numerators and denominators by their ratios.
    c, d = 1.0, _away_from_zero(1.0 - (a + b) * x / (a + 1.0))
    result = d = 1.0 / d
    for m in range(1, _MOST_TERMS):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1.0 / _away_from_zero(1.0 + term * d)
            c = _away_from_zero(1.0 + term / c)
            result *= c * d
        if abs(c * d - 1.0) < 1e-15:
            break
    return math.exp(front) * result / a


def _away_from_zero(value: float) -> float:
    return value if abs(value) > 1e-300 else 1e-300
