"""What each word of one text is worth by the slopes of the log-odds along the words' vectors.

The function whose slopes are taken is the log-odds of one label, as the classifier says them: with
the factor that multiplies the network's logits, and what n-grams beside it add. An n-gram grows as
the vectors do; what it adds is shared equally by all its occurrences, and by the words of each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

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
# where fewer stages name worse words; there the middle of the way does for most, too. Few words are
# another text without one of them, and small networks bend more than one point tells.
_STAGES = (1 / 32, 1 / 16, 1 / 8, 1 / 4)
_STAGE_WORDS = 32
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
    32nd, a 16th, an 8th and a quarter of those that weighed anything. What a word is worth is
    averaged over the stages in which it stands. So a word counts, too, that says what a stronger
    one beside it has said. Where fewer than 32 words are read, there is the first stage alone.
    """
    if np.count_nonzero(erasure.words_read) < _STAGE_WORDS:
        return integrated(erasure, number)
    whole = _everything(erasure)
    first, points = _integrated(_Contexts(erasure, whole, number), _STAGE_POINTS, _STAGE_CLOSE)
    gone = np.unique([int(np.count_nonzero(first) * share) for share in _STAGES])
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
    is read in windows the logits are averaged, as the classifier averages them.
    """

    def __init__(self, erasure: Erasure, kept: Bools, number: int) -> None:
        self._erasure, self._kept, self._number = erasure, kept, number
        self._read = erasure.read(kept)
        self._counts = np.append(erasure.words_read, False)  # -1 is no word
        self._windows = np.bincount(self._read.contexts, minlength=len(kept))
        self._ngrams = [erasure.ngrams_of(row) for row in kept]
        # [C, L] what is added to the network's logits, and what more as n-grams grow.
        shape = (len(kept), erasure.model.config.logits)
        self._beside, self._growing = np.zeros(shape), np.zeros(shape)
        whole = erasure.beside()
        for i, ngrams in enumerate(self._ngrams):
            if ngrams is not None:
                self._beside[i] = ngrams.model.bias * erasure.mix[1]
                self._growing[i] = ngrams.score() * erasure.mix[1] - self._beside[i]
            elif whole is not None:  # whose n-grams have no place
                self._beside[i] = whole

    def slopes(self, grown: Float64, weights: Float64) -> tuple[Float64, Float64]:
        """[C, T] the words' vectors times the weighted sum of slopes where they have ``grown``.

        grown: [n] what all vectors are multiplied by. weights: [n]. Also the log-odds [C, n].
        """
        model, (factor, beside) = self._erasure.model, self._erasure.mix
        contexts, words = self._kept.shape
        worth = np.zeros(contexts * words)
        odds = np.zeros((contexts, len(grown)))
        directions = np.zeros(self._beside.shape)
        # The slopes of one logit's log-odds are the same wherever the other windows' logits are.
        apart = model.config.logits == 1 or self._windows.max() == 1
        pooled = None if apart else self._pooled(grown)
        for rows, points in self._blocks(len(grown)):
            at = self._read.contexts[rows]
            logits, backward = self._forward(rows, grown[points])
            if pooled is not None:
                logits = pooled[at, points]
            totals = logits * factor + self._beside[at] + self._growing[at] * grown[points, None]
            share = 1.0 / self._windows[at]
            np.add.at(odds, (at, points), share * log_odds(model.config, totals, self._number))
            d_totals = self._slopes_of_logits(totals) * (share * weights[points])[:, None]
            np.add.at(directions, at, d_totals)
            cells, values = backward(d_totals * factor)
            worth += np.bincount(cells, values, len(worth))
        by_context = worth.reshape(contexts, words)
        for own, kept, ngrams, direction in zip(
            by_context, self._kept, self._ngrams, directions, strict=True
        ):
            if ngrams is not None:
                own[kept] += ngrams.shares(direction * beside)
        return by_context, odds

    def _pooled(self, grown: Float64) -> Float64:
        """[C, n, L] the network's logits, of all windows together."""
        found = np.zeros((len(self._kept), len(grown), self._beside.shape[1]))
        for rows, points in self._blocks(len(grown)):
            at = self._read.contexts[rows]
            logits, _ = self._forward(rows, grown[points])
            np.add.at(found, (at, points), logits / self._windows[at, None])
        return found

    def _blocks(self, points: int) -> Iterator[tuple[Int64, Int64]]:
        """Every row at every point, [B] each, as many at a time as memory is meant for."""
        lengths = self._read.rows.lengths
        size = max(1, _BATCH_POSITIONS // max(1, int(lengths.max())))
        both = np.arange(len(lengths) * points)
        for start in range(0, len(both), size):
            block = both[start : start + size]
            yield block // points, block % points

    def _forward(
        self, rows: Int64, grown: Float64
    ) -> tuple[Float64, Callable[[Float64], tuple[Int64, Float64]]]:
        """The network's logits [B, L] of rows [B], each with its vectors times ``grown`` [B].

        And the function that takes the logits' gradient [B, L] and gives where words stand in
        [C, T], and what they are worth there.
        """
        model = self._erasure.model
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
        packed, packed_backward = Chain(*model.layers[1:])(Inputs(batch, dense, dense=True))
        logits = np.empty(packed.shape)
        logits[batch.rows] = packed

        def backward(d_logits: Float64) -> tuple[Int64, Float64]:
            slopes = packed_backward(d_logits[batch.rows].astype(np.float32), None)
            both = vectors[: batch.positions], slopes[: batch.positions]
            values = np.einsum("ne,ne->n", *both, dtype=np.float64)
            words = np.nonzero(self._counts[places])[0]
            contexts = self._read.contexts[rows[own[words]]]
            return contexts * self._kept.shape[1] + places[words], values[words]

        return logits, backward

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
