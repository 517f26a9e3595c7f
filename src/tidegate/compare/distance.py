"""Texts whose deciding words lie ever farther from the end.

Of held-out texts, the span of words that speaks most clearly for the text's label is cut out, as a
linear model sees it, and words that say nothing are put behind it: spans of other held-out texts of
the same data, each of whose words the linear model finds worth next to nothing. The same words
behind stay the same as more of them follow. A network that forgets is right of the span at the end
and wrong once enough has come after it. A last set has as many words in front of the span, to show
what the words themselves do.

What is probed was chosen by a linear model with the labels at hand: so these accuracies are no
measure of how good a model is, and the linear model is not among those that are probed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tidegate import initializers
from tidegate.ngrams import NgramModel
from tidegate.thresholds import chosen
from tidegate.tokens import tokens

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

TEXTS = 1_000
_POOL = 4_000  # held-out texts that spans are taken from
_SPAN = 20  # words that decide
_FILLER = 10  # words of a span that says nothing
_QUIETEST = 0.1  # the share of such spans that is used
_FEWEST = 20  # texts to probe with


@dataclass(frozen=True)
class Probes:
    """rows: [P] the held-out texts that the spans are of. spans: [P]. fillers: [P] the words that
    say nothing, ``reach`` of each. distances: how many of them follow; the last one is reach.
    """

    rows: Int64
    spans: tuple[str, ...]
    fillers: tuple[tuple[str, ...], ...]
    distances: tuple[int, ...]

    @property
    def reach(self) -> int:
        """The largest distance."""
        return self.distances[-1]

    def at(self, distance: int) -> list[str]:
        """Each span with so many words behind it."""
        return [
            " ".join((span, *filler[:distance]))
            for span, filler in zip(self.spans, self.fillers, strict=True)
        ]

    def in_front(self) -> list[str]:
        """Each span with all of its other words in front of it."""
        return [
            " ".join((*filler, span)) for span, filler in zip(self.spans, self.fillers, strict=True)
        ]


def make_probes(
    model: NgramModel,
    texts: Sequence[str],
    targets: npt.NDArray[np.int32],
    max_length: int,
    seed: int = 0,
) -> Probes | None:
    """Probes of held-out texts; None if they are too few or too short for any.

    targets: [texts] class numbers, or [texts, labels] of 0 and 1. max_length: tokens that networks
    read of a text. Fixed by the seed.
    """
    pool = initializers.permutation(seed, "compare pool", len(texts))[:_POOL]
    words = [tokens(model.kind, texts[row]) for row in pool.tolist()]
    usual = int(np.quantile([len(found) for found in words], 0.9)) if words else 0
    room = min(max_length - 1, usual)  # the mark of the beginning takes a place
    span = min(_SPAN, room // 4)
    distances = _distances(room - span)
    if span < 1 or len(distances) < 2:
        return None
    rows, spans = _deciding(model, words, targets[pool], span)
    quiet = _quiet(model, words)
    if len(rows) < _FEWEST or len(quiet) < _FEWEST:
        return None
    needed = -(-distances[-1] // _FILLER)
    drawn = initializers.uniform01(seed, "compare fillers", len(rows) * needed) * len(quiet)
    fillers = tuple(
        tuple(word for place in places for word in quiet[place])[: distances[-1]]
        for places in drawn.astype(np.int64).reshape(len(rows), needed).tolist()
    )
    return Probes(pool[rows], tuple(spans), fillers, distances)


def _distances(reach: int) -> tuple[int, ...]:
    """0, 5, 10, 20, 40 and so on, and the reach."""
    found, step = [0], 5
    while step < reach:
        found.append(step)
        step *= 2
    if reach > 0:
        if found[-1] > 0.8 * reach:
            found.pop()
        found.append(reach)
    return tuple(found)


def _deciding(
    model: NgramModel, words: Sequence[Sequence[str]], targets: npt.NDArray[np.int32], size: int
) -> tuple[Int64, list[str]]:
    """The clearest span for its text's label of each text, of those that have the clearest."""
    owners, cut = _cut(words, size, max(1, size // 2))
    if not cut:
        return np.zeros(0, np.int64), []
    margins = _margins(model.scores(cut).astype(np.float64), targets[owners])
    order = np.lexsort((-margins, owners))
    best = order[np.r_[True, owners[order][1:] != owners[order][:-1]]]  # of each text
    best = best[margins[best] > 0.0]
    best = best[np.argsort(-margins[best], kind="stable")][:TEXTS]
    best = np.sort(best[: max(_FEWEST, len(words) // 2)])
    return owners[best], [cut[i] for i in best.tolist()]


def _cut(
    words: Sequence[Sequence[str]], size: int, step: int
) -> tuple[npt.NDArray[np.int64], list[str]]:
    """Spans of ``size`` words, one every ``step``: the text of each, and its words."""
    owners, spans = [], []
    for owner, found in enumerate(words):
        for start in range(0, len(found) - size + 1, step):
            owners.append(owner)
            spans.append(" ".join(found[start : start + size]))
    return np.array(owners, np.int64), spans


def _margins(scores: Float64, targets: npt.NDArray[np.int32]) -> Float64:
    """[spans] by how much the scores [spans, L] say the target more than anything else."""
    if targets.ndim == 2:  # in the label that is least clear
        least: Float64 = (scores * (2 * targets - 1)).min(axis=1)
        return least
    if scores.shape[1] == 1:
        signed: Float64 = scores[:, 0] * (2 * targets - 1)
        return signed
    each = np.arange(len(scores))
    others = scores.copy()
    others[each, targets] = -np.inf
    ahead: Float64 = scores[each, targets] - others.max(axis=1)
    return ahead


def _quiet(model: NgramModel, words: Sequence[Sequence[str]]) -> list[list[str]]:
    """Spans of which even the sum of what each word weighs for any class is next to nothing."""
    known = sorted({word for found in words for word in found})
    weights = (model.scores(known) - model.bias).astype(np.float64) if known else np.zeros((0, 1))
    # Where classes stand against each other, what is the same for all of them says nothing.
    loud = np.abs(weights).max(axis=1) if weights.shape[1] == 1 else np.ptp(weights, axis=1)
    of_word = dict(zip(known, loud.tolist(), strict=True))
    spans = [
        list(found[start : start + _FILLER])
        for found in words
        for start in range(0, len(found) - _FILLER + 1, _FILLER)
    ]
    sums = np.array([sum(of_word[word] for word in span) for span in spans])
    order = np.argsort(sums, kind="stable")
    return [spans[i] for i in order[: max(_FEWEST, int(_QUIETEST * len(spans)))].tolist()]


def guessing(targets: npt.NDArray[np.int32]) -> float:
    """The share that is right of always saying the most frequent target; of several labels, of
    saying of each whether most texts have it.
    """
    if targets.ndim == 2:
        having = targets.mean(axis=0)
        return float(np.maximum(having, 1.0 - having).mean())
    return float(np.bincount(targets).max() / len(targets))


def right_answers(probabilities: Float64, targets: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
    """[texts] whether each prediction is right; with several labels [texts * labels]."""
    many = targets.ndim == 2
    right: npt.NDArray[np.bool_] = chosen(probabilities, None, many=many) == targets
    return right.ravel()
