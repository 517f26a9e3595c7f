"""A linear model of word n-grams: the baseline, and what can stand beside a recurrent model.

Each text is the set of its n-grams of tokens, n from 1 to ``longest``, each hashed to one of
2^bits buckets. A weight for each bucket and class is found by logistic regression over n-grams
that are scaled by how much likelier texts of the class have them than others, and by how rare they
are. The optimum is unique; it is approached until no text's gradient is off by more than a
thousandth, in an order of visits that the seed fixes. Source: Wang & Manning 2012.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tidegate import _kernels
from tidegate.checks import check_array, check_range
from tidegate.errors import ShapeError
from tidegate.tokens import TOKENIZERS, TokenizerKind, prepare

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]

LONGEST = 5
MAX_BITS = 22
_PAIRS_BITS = 20  # most for what is no longer than pairs of words
_LEAST_BITS = 10
_MOST_WEIGHTS = 1 << 26
_ROUNDS = 100
_TOLERANCE = 1e-3
_BLOCK_TEXTS = 1024

# The most texts that a linear model is fitted on. Its time and the disk or memory of its n-grams
# are bounded so; of more texts, these say nearly as much.
MOST_TEXTS = 1 << 20


@dataclass(frozen=True)
class BucketRows:
    """Each text's n-grams: buckets [total] int32, row after row; offsets [texts + 1] int64."""

    buckets: Int32
    offsets: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def select(self, rows: npt.NDArray[np.int64]) -> BucketRows:
        """The given rows, in their order."""
        lengths = np.diff(self.offsets)[rows]
        offsets = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        starts = np.repeat(self.offsets[:-1][rows] - offsets[:-1], lengths)
        buckets: Int32 = self.buckets[starts + np.arange(offsets[-1])]
        return BucketRows(buckets, offsets)

    def first(self, rows: int) -> BucketRows:
        """The first so many rows, of the same memory."""
        return BucketRows(self.buckets[: self.offsets[rows]], self.offsets[: rows + 1])


def hash_texts(texts: Iterable[str], kind: TokenizerKind, longest: int, bits: int) -> BucketRows:
    """The distinct buckets of each text's n-grams, ascending."""
    blocks = list(_hashed_blocks(texts, kind, longest, bits))
    lengths = [np.diff(block.offsets) for block in blocks]
    offsets = np.zeros(sum(map(len, lengths)) + 1, np.int64)
    if blocks:
        np.cumsum(np.concatenate(lengths), out=offsets[1:])
    joined = [block.buckets for block in blocks]
    return BucketRows(np.concatenate(joined) if joined else np.zeros(0, np.int32), offsets)


def _hashed_blocks(
    texts: Iterable[str], kind: TokenizerKind, longest: int, bits: int
) -> Iterator[BucketRows]:
    rules = TOKENIZERS.index(kind)
    block: list[str] = []
    for text in texts:
        block.append(prepare(kind, text))
        if len(block) == _BLOCK_TEXTS:
            yield BucketRows(*_kernels.hash_ngrams(rules, block, longest, bits))
            block = []
    if block:
        yield BucketRows(*_kernels.hash_ngrams(rules, block, longest, bits))


class BucketCount:
    """How many different n-grams there are, of texts that come in portions."""

    def __init__(self, kind: TokenizerKind, longest: int) -> None:
        self._kind, self._longest = kind, longest
        self._most = MAX_BITS if longest > 2 else _PAIRS_BITS
        self._seen = np.zeros(1 << self._most, bool)

    def add(self, texts: Iterable[str]) -> None:
        """Look at texts."""
        for block in _hashed_blocks(texts, self._kind, self._longest, self._most):
            self._seen[block.buckets] = True

    def bits(self, classes: int) -> int:
        """Enough bits that few different n-grams share a bucket: see ``bits_for``."""
        wanted = int(np.ceil(np.log2(max(1, 4 * int(np.count_nonzero(self._seen))))))
        most = min(self._most, (_MOST_WEIGHTS // classes).bit_length() - 1)
        return max(min(max(wanted, _LEAST_BITS), most), 1)


def bits_for(texts: Iterable[str], kind: TokenizerKind, longest: int, classes: int = 2) -> int:
    """Enough bits that few different n-grams of these texts share a bucket, within limits.

    classes: with many of them there are fewer buckets, so that weights take 256 MB at most.
    """
    count = BucketCount(kind, longest)
    count.add(texts)
    return count.bits(classes)


@dataclass(frozen=True)
class NgramModel:
    """Scores of texts from their n-grams alone.

    kind: of the tokeniser. longest: n of the longest n-grams. weights: [2^bits, L] float32.
    bias: [L] float32.
    """

    kind: TokenizerKind
    longest: int
    weights: Float32
    bias: Float32

    @property
    def bits(self) -> int:
        """The logarithm of the number of buckets."""
        return len(self.weights).bit_length() - 1

    def scores(self, texts: Iterable[str]) -> Float32:
        """[texts, L] log-odds of each class against the others; of class 1 where L is 1."""
        parts = [
            self.score_rows(block)
            for block in _hashed_blocks(texts, self.kind, self.longest, self.bits)
        ]
        empty = np.zeros((0, self.weights.shape[1]), np.float32)
        return np.concatenate(parts) if parts else empty

    def score_rows(self, rows: BucketRows) -> Float32:
        """The same of texts that ``hash_texts`` has read."""
        _check_rows(rows, len(self.weights))
        scores = np.empty((len(rows), self.weights.shape[1]), np.float32)
        _kernels.score_linear(rows.buckets, rows.offsets, self.weights, self.bias, scores)
        return scores


def fit_ngrams(
    rows: BucketRows,
    classes: Int32,
    count: int,
    *,
    kind: TokenizerKind,
    longest: int,
    bits: int,
    cost: float = 1.0,
    seed: int = 0,
    start: NgramModel | None = None,
    counts: npt.NDArray[np.float64] | None = None,
) -> NgramModel:
    """Logistic regression of each class against the others; of class 1 where there are two.

    rows: as ``hash_texts`` makes them with these settings. classes: [texts] class numbers below
    ``count``; or [texts, count] of 0 and 1, where each column is fitted by itself. cost: what a
    text's loss counts against the squares of the weights. start: a model of the same settings and
    classes to go on from; the squares are then of what is added to its weights. counts: [texts] how
    much each text counts, above 0; None where all count 1. One that counts 2 is as two texts are.
    The same bits for any number of threads.
    """
    several = classes.ndim == 2
    columns = 1 if count == 2 and not several else count
    if start is not None and start.weights.shape != (1 << bits, columns):
        raise ShapeError(f"start has weights {list(start.weights.shape)}, of other classes or bits")
    check_array("classes", classes, (len(rows), count) if several else (len(rows),), np.int32)
    check_range("classes", classes, 2 if several else count)
    _check_rows(rows, 1 << bits)
    if counts is not None:
        check_array("counts", counts, (len(rows),), np.float64)
        if not (np.isfinite(counts) & (counts > 0.0)).all():
            raise ShapeError("counts has numbers that are not above 0 and finite")

    def fit(numbers: Int32, outputs: slice, seed: int) -> tuple[Float32, Float32]:
        weights = np.empty((1 << bits, outputs.stop - outputs.start), np.float32)
        bias = np.empty(weights.shape[1], np.float32)
        if start is not None:
            weights[...], bias[...] = start.weights[:, outputs], start.bias[outputs]
        settings = cost, _ROUNDS, _TOLERANCE, seed, start is not None
        _kernels.fit_linear(rows.buckets, rows.offsets, numbers, counts, *settings, weights, bias)
        return weights, bias

    if several:
        numbers = (np.ascontiguousarray(column) for column in classes.T)
        # As the classes of one fit have it, each in an order of its own.
        parts = [fit(given, slice(k, k + 1), seed + k) for k, given in enumerate(numbers)]
        weights = np.concatenate([part[0] for part in parts], axis=1)
        bias = np.concatenate([part[1] for part in parts])
    else:
        weights, bias = fit(classes, slice(0, columns), seed)
    # As a file holds them: half the bytes, and the same predictions before and after.
    weights = weights.astype(np.float16).astype(np.float32)
    return NgramModel(kind, longest, weights, bias)


def _check_rows(rows: BucketRows, buckets: int) -> None:
    check_array("buckets", rows.buckets, (None,), np.int32)
    check_array("offsets", rows.offsets, (None,), np.int64)
    offsets, total = rows.offsets, len(rows.buckets)
    if not len(offsets) or offsets[0] != 0 or offsets[-1] != total or (np.diff(offsets) < 0).any():
        raise ShapeError(f"offsets must rise from 0 to the number of buckets, {total}")
    check_range("buckets", rows.buckets, buckets)


def with_classes(
    model: NgramModel, old: npt.NDArray[np.int64], count: int, *, many: bool = False
) -> NgramModel:
    """The model for more classes, about whose new ones it says nothing yet.

    old: [classes] the number that each class of the model has among ``count`` ones. many: whether a
    text may have several.
    """
    outputs = 1 if count == 2 and not many else count
    if outputs == model.weights.shape[1]:
        return model
    weights = np.zeros((len(model.weights), outputs), np.float32)
    bias = np.zeros(outputs, np.float32)
    if model.weights.shape[1] == 1:  # of the second class; the first one's is the opposite
        signs = np.array([-1.0, 1.0], np.float32)
        weights[:, old], bias[old] = model.weights * signs, model.bias * signs
    else:
        weights[:, old], bias[old] = model.weights, model.bias
    return NgramModel(model.kind, model.longest, weights, bias)


# What both models' logits are multiplied by where no validation says better: together they are
# surer than either alone, and each is surer than it is right.
EVEN_MIX = (0.5, 0.5)
_NEWTON_STEPS = 50
_COUNTS_NOTHING = 0.005  # a factor below it turns next to no answer


def decides_alone(mix: tuple[float, float]) -> bool:
    """Whether the linear model decides, and the network beside it counts next to nothing."""
    return mix[0] < _COUNTS_NOTHING


def fit_mix(
    recurrent: npt.NDArray[np.floating[Any]],
    linear: npt.NDArray[np.floating[Any]],
    targets: Int32,
) -> tuple[float, float]:
    """Factors, not below 0, with which the sum of both models' logits has the least loss.

    recurrent, linear: [texts, L]; targets: [texts], or [texts, L] of 0 and 1. As if one text more
    stood for EVEN_MIX, so that few texts decide little. Convex; Newton's method in float64.
    """
    if not len(targets):
        return EVEN_MIX
    if targets.ndim == 2:  # each label is a question of its own
        recurrent, linear = recurrent.reshape(-1, 1), linear.reshape(-1, 1)
        targets = targets.ravel()
    both = np.stack([_two_sided(recurrent), _two_sided(linear)])  # [2, texts, classes]
    factors = _least_loss(both, targets, (0, 1))
    if min(factors) < 0.0:
        worse = int(np.argmin(factors))
        factors = _least_loss(both, targets, (1 - worse,))
        factors = [max(0.0, factor) for factor in factors]
    return float(factors[0]), float(factors[1])


def _two_sided(logits: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
    wide = logits.astype(np.float64)
    return np.concatenate([np.zeros_like(wide), wide], axis=1) if wide.shape[1] == 1 else wide


def _least_loss(
    both: npt.NDArray[np.float64], targets: Int32, free: tuple[int, ...]
) -> list[float]:
    chosen = both[list(free)]
    prior = np.array([EVEN_MIX[k] for k in free])
    factors = prior.copy()
    wanted = chosen[:, np.arange(len(targets)), targets].sum(axis=1)
    for _ in range(_NEWTON_STEPS):
        scores = np.tensordot(factors, chosen, axes=1)
        shares = np.exp(scores - scores.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        means = (chosen * shares).sum(axis=2)  # [free, texts]
        gradient = means.sum(axis=1) - wanted + (factors - prior)
        centred = chosen - means[:, :, None]
        curvature = np.einsum("aic,bic,ic->ab", centred, centred, shares) + np.eye(len(free))
        step = np.linalg.solve(curvature, gradient)
        # Far from the optimum the curvature says too little.
        factors = factors - step * min(1.0, 1.0 / float(np.abs(step).max() + 1e-300))
        if np.abs(step).max() < 1e-9:
            break
    result = [0.0, 0.0]
    for k, factor in zip(free, factors.tolist(), strict=True):
        result[k] = factor
    return result
