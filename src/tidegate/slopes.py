"""What each word of one text is worth by the slopes of the log-odds along the words' vectors.

The function whose slopes are taken is the log-odds of one label, as the classifier says them: with
the factor that multiplies the network's logits, and what n-grams beside it add. An n-gram grows as
the vectors do; what it adds is shared equally by all its occurrences, and by the words of each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from tidegate import ops
from tidegate.erasure import Bools, Erasure, log_odds
from tidegate.layers import Chain, Inputs
from tidegate.sequence import position_rows

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

# Of Gauss's quadrature. 4 do for most reviews and networks of this size, 8 where the largest of all
# states is read, whose slope has corners; a network that has learnt few texts by heart bends more.
_POINTS = (4, 8, 32, 128)
_CLOSE = (0.01, 0.01)  # to the change along the way: this share of it, or nats

# Of the text's words, the strongest of which are left out. Chosen on held-out training reviews,
# where fewer stages name worse words; there the middle of the way does for most, too.
_STAGES = (1 / 32, 1 / 16, 1 / 8, 1 / 4)
_STAGE_POINTS = (1, *_POINTS)
_STAGE_CLOSE = (0.2, 0.02)

_BATCH_POSITIONS = 1 << 15


def gradient(erasure: Erasure, number: int) -> Float64:
    """[T] each word's vector times the slope of class ``number``'s log-odds at the text."""
    text = _Contexts(erasure, _everything(erasure), number)
    return text.slopes(np.ones(1), np.ones(1))[0].reshape(-1)


def integrated(erasure: Erasure, number: int) -> Float64:
    """[T] the same with the mean slope on the way on which all vectors grow from 0 to their own.

    By Gauss's quadrature with as many points as it takes for the words' sum to be the change along
    the way, up to 128. Source: integrated gradients, Sundararajan, Taly & Yan 2017.
    """
    text = _Contexts(erasure, _everything(erasure), number)
    return _integrated(text, _POINTS, _CLOSE)[0].reshape(-1)


def staged(erasure: Erasure, number: int) -> Float64:
    """[T] the same in the text and in what is left of it without its strongest words.

    First of all words, then of those without the ones that weighed most in that, either way: a
    32nd, a 16th, an 8th and a quarter of them. What a word is worth is averaged over the stages in
    which it stands. So a word counts, too, that says what a stronger one beside it has said.
    """
    whole = _everything(erasure)
    first, points = _integrated(_Contexts(erasure, whole, number), _STAGE_POINTS, _STAGE_CLOSE)
    count = whole.shape[1]
    gone = np.unique([int(count * share) for share in _STAGES])
    rank = np.argsort(np.argsort(-np.abs(first[0]), kind="stable"))
    kept = erasure.settled(rank >= gone[gone > 0, None])
    if not len(kept):
        return first.reshape(-1)
    later, _ = _Contexts(erasure, kept, number).slopes(*_on_the_way(points))
    stages = np.concatenate([whole, kept])
    mean: Float64 = np.concatenate([first, later]).sum(axis=0) / stages.sum(axis=0)
    return mean


def _integrated(
    text: _Contexts, choices: Sequence[int], close: tuple[float, float]
) -> tuple[Float64, int]:
    """[1, T] the slopes' mean on the way, and by how many points: the first choice that will do."""
    share, nats = close
    for points in choices:
        grown, weights = _on_the_way(points)
        # The way's ends weigh nothing.
        worth, odds = text.slopes(np.append(grown, [0.0, 1.0]), np.append(weights, [0.0, 0.0]))
        change = float(odds[0, -1] - odds[0, -2])
        if abs(worth.sum() - change) <= max(share * abs(change), nats):
            break
    return worth, points


def _on_the_way(points: int) -> tuple[Float64, Float64]:
    """Gauss's places between 0 and 1, and their weights."""
    places, weights = np.polynomial.legendre.leggauss(points)
    return (places + 1.0) / 2.0, weights / 2.0


def _everything(erasure: Erasure) -> Bools:
    return np.ones((1, len(erasure.words)), bool)


class _Contexts:
    """Some of a text's words, each time read as a text of their own.

    kept: [C, T] which, settled. number: of the class whose log-odds are meant. The start mark and
    padding are no words: their vectors stay as they are. Words that are not read of the whole text
    are worth nothing to the network, also where shorter contexts have them read. Of a context that
    is read in windows, whose logits are averaged, the log-odds are the mean of the windows' own.
    """

    def __init__(self, erasure: Erasure, kept: Bools, number: int) -> None:
        self._erasure, self._kept, self._number = erasure, kept, number
        self._read = erasure.read(kept)
        self._counts = np.append(erasure.words_read, False)  # -1 is no word
        self._windows = np.bincount(self._read.contexts, minlength=len(kept))
        self._ngrams = [erasure.ngrams_of(row) for row in kept]
        self._beside = erasure.beside()  # of the whole text, where n-grams have no place

    def slopes(self, grown: Float64, weights: Float64) -> tuple[Float64, Float64]:
        """[C, T] the words' vectors times the weighted sum of slopes where they have ``grown``.

        grown: [n] what all vectors are multiplied by. weights: [n]. Also the log-odds [C, n].
        """
        contexts, words = self._kept.shape
        worth = np.zeros(contexts * words)
        odds = np.zeros((contexts, len(grown)))
        directions = np.zeros((contexts, self._erasure.model.config.logits))
        for rows, points in self._blocks(len(grown)):
            at = self._read.contexts[rows]
            share = weights[points] / self._windows[at]
            totals, d_totals, places, values = self._pass(rows, grown[points], share)
            worth += np.bincount(places, values, len(worth))
            found = log_odds(self._erasure.model.config, totals, self._number)
            np.add.at(odds, (at, points), found / self._windows[at])
            np.add.at(directions, at, d_totals * share[:, None])
        by_context = worth.reshape(contexts, words)
        for own, kept, ngrams, direction in zip(
            by_context, self._kept, self._ngrams, directions, strict=True
        ):
            if ngrams is not None:
                own[kept] += ngrams.shares(direction * self._erasure.mix[1])
        return by_context, odds

    def _blocks(self, points: int) -> Iterator[tuple[Int64, Int64]]:
        """Every row at every point, [B] each, as many at a time as memory is meant for."""
        lengths = self._read.rows.lengths
        size = max(1, _BATCH_POSITIONS // max(1, int(lengths.max())))
        both = np.arange(len(lengths) * points)
        for start in range(0, len(both), size):
            block = both[start : start + size]
            yield block // points, block % points

    def _pass(
        self, rows: Int64, grown: Float64, weights: Float64
    ) -> tuple[Float64, Float64, Int64, Float64]:
        """Forward and backward over rows [B], each with its vectors multiplied by ``grown`` [B].

        Returns logits [B, L] of the classifier; the slopes of the log-odds along them [B, L]; and
        where words stand in [C, T], and what they are worth there times the row's weight.
        """
        model, (factor, _) = self._erasure.model, self._erasure.mix
        batch = model.pack(self._read.rows, rows)
        own = batch.rows[position_rows(batch)]  # which of ``rows`` each position is of
        steps = np.repeat(np.arange(batch.steps), np.diff(batch.step_offsets))
        before_end = batch.steps - steps  # 1 for a row's last position
        at = self._read.rows.lengths[rows[own]] - before_end  # below 0 of padding that is read
        places = np.where(at < 0, -1, self._read.places[rows[own], np.maximum(at, 0)])
        ids = batch.words[batch.index]
        vectors = ops.gather_rows(model.parameters["embedding.weight"], ids)
        dense = vectors.copy()
        dense[: batch.positions] *= np.where(places >= 0, grown[own], 1.0)[:, None]
        packed, backward = Chain(*model.layers[1:])(Inputs(batch, dense, dense=True))
        logits = np.empty(packed.shape)
        logits[batch.rows] = packed
        totals = logits * factor + self._besides(rows, grown)
        d_totals = self._slopes_of_logits(totals)
        d_logits = d_totals[batch.rows] * factor * weights[batch.rows, None]
        slopes = backward(d_logits.astype(np.float32), None)[: batch.positions]
        values = np.einsum("ne,ne->n", vectors[: batch.positions], slopes, dtype=np.float64)
        words = np.nonzero(self._counts[places])[0]
        cells = self._read.contexts[rows[own[words]]] * self._kept.shape[1] + places[words]
        return totals, d_totals, cells, values[words]

    def _besides(self, rows: Int64, grown: Float64) -> Float64:
        """[B, L] what n-grams add."""
        if self._beside is None:
            return np.zeros(1)
        found = np.empty((len(rows), len(self._beside)))
        for i, (row, share) in enumerate(zip(rows.tolist(), grown.tolist(), strict=True)):
            ngrams = self._ngrams[self._read.contexts[row]]
            if ngrams is None:
                found[i] = self._beside
            else:
                found[i] = self._erasure.mix[1] * ngrams.score(share)
        return found

    def _slopes_of_logits(self, totals: Float64) -> Float64:
        """[B, L] of the log-odds along logits [B, L]."""
        config, number = self._erasure.model.config, self._number
        found = np.zeros(totals.shape)
        if config.logits == 1:
            found[:] = 1.0 if number == 1 else -1.0
        elif config.targets == "many":
            found[:, number] = 1.0
        else:  # of log p - log(1 - p)
            others = totals.copy()
            others[:, number] = -np.inf
            parts = np.exp(others - others.max(axis=1, keepdims=True))
            found -= parts / parts.sum(axis=1, keepdims=True)
            found[:, number] = 1.0
        return found
