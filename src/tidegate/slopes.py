"""What each word of one text is worth by the network's slopes along the words' vectors.

The function whose slopes are taken is the log-odds of one label, as the classifier says them: with
the factor that multiplies the network's logits, and what other models beside it add.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tidegate import ops
from tidegate.batch import TokenizedTexts
from tidegate.erasure import log_odds
from tidegate.layers import Chain, Inputs
from tidegate.text import PADDING_ID, START_ID

if TYPE_CHECKING:
    from tidegate.estimator import TextClassifier

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

# Of Gauss's quadrature. 4 do for most reviews and networks of this size, 8 where the largest of all
# states is read, whose slope has corners; a network that has learnt few texts by heart bends more.
_PATH_POINTS = (4, 8, 32, 128)
_CLOSE = 0.01  # of the change along the path, or nats
_BATCH_POSITIONS = 1 << 15


def slopes(
    classifier: TextClassifier,
    content: str,
    number: int,
    *,
    beside: Float64 | None,
    path: bool,
) -> Float64:
    """[T] float64: each word's vector times the slope of the log-odds of class ``number``.

    content: the text. beside: [L] what is added to the network's logits, None for nothing. path:
    whether slopes are the mean on the way on which all words' vectors grow together from 0 to their
    own, by Gauss's quadrature (integrated gradients, Sundararajan, Taly & Yan 2017), with as many
    points as it takes for their sum to be the change along the way, up to 128; else those at the
    text. The start mark and padding are no words: they stay. Words that are not read have 0. Of a
    text that is read in windows, whose logits are averaged, the mean of the windows' own.
    """
    tokenizer, most = classifier.tokenizer_, classifier._fitted().config.max_length
    words = tokenizer.tokens(content)
    rows = tokenizer.read([content], most).rows
    windows = [
        _Text(classifier, rows.select([i]), np.array(places, np.int64), len(words), number, beside)
        for i, places in enumerate(tokenizer.places_of_rows(words, most))
    ]
    found: Float64 = np.mean([_worth(text, path) for text in windows], axis=0)
    return found


def _worth(text: _Text, path: bool) -> Float64:
    """[T] the words' vectors times their slopes, of one row."""
    if not path:
        worth, _ = text.along(np.ones(1), np.ones(1))
        return worth
    for points in _PATH_POINTS:
        places, weights = np.polynomial.legendre.leggauss(points)
        shares = np.concatenate([(places + 1.0) / 2.0, [0.0, 1.0]])  # the way's ends weigh nothing
        worth, odds = text.along(shares, np.concatenate([weights / 2.0, [0.0, 0.0]]))
        change = float(odds[-1] - odds[-2])
        if abs(worth.sum() - change) <= _CLOSE * max(1.0, abs(change)):
            break
    return worth


class _Text:
    """One row of ids, whose words' vectors are multiplied by a number from 0 to 1.

    places: which of the text's ``count`` words stands behind each id, -1 for the start mark.
    """

    def __init__(
        self,
        classifier: TextClassifier,
        encoded: TokenizedTexts,
        places: Int64,
        count: int,
        number: int,
        beside: Float64 | None,
    ) -> None:
        self._model = classifier._fitted()
        self._number, self._beside, self._factor = number, beside, classifier.mix_[0]
        self._encoded = encoded
        batch = self._model.pack(self._encoded, [0])
        ids = batch.words[batch.index]
        self._vectors = ops.gather_rows(self._model.parameters["embedding.weight"], ids)
        self._read = batch.positions
        self._stays = ((ids == START_ID) | (ids == PADDING_ID))[: self._read]
        self._words = places[places >= 0]
        self._positions = np.nonzero(places >= 0)[0] + self._read - len(places)
        self._count = count

    def along(self, shares: Float64, weights: Float64) -> tuple[Float64, Float64]:
        """[T] the words' vectors times the weighted sum of slopes at ``shares`` [n] of them.

        Also the log-odds [n] there.
        """
        total = np.zeros((self._read, self._vectors.shape[1]))
        odds = []
        size = max(1, _BATCH_POSITIONS // max(1, self._read))
        for start in range(0, len(shares), size):
            part = slice(start, start + size)
            slope, found = self._slopes(shares[part])
            # No product of BLAS: its threads stay awake for a while on the kernels' cores.
            total += np.einsum("n,pne->pe", weights[part], slope)
            odds.append(found)
        worth = np.zeros(self._count)
        worth[self._words] = (self._vectors[: self._read] * total).sum(axis=1)[self._positions]
        return worth, np.concatenate(odds)

    def _slopes(self, shares: Float64) -> tuple[Float64, Float64]:
        """[positions, n, E] the slopes of the log-odds [n] at each share of the vectors."""
        model, count = self._model, len(shares)
        batch = model.pack(self._encoded, np.zeros(count, np.int64))
        # Rows of one length: position p * n + i of the batch is the text's place p at share i.
        grown = np.where(self._stays[:, None], 1.0, shares).astype(np.float32)
        values = self._vectors[: self._read, None] * grown[:, :, None]
        padding = self._vectors[self._read :]  # one row of it for all
        dense = np.concatenate([values.reshape(-1, values.shape[2]), padding])
        logits, backward = Chain(*model.layers[1:])(Inputs(batch, dense, dense=True))
        total = logits.astype(np.float64) * self._factor
        if self._beside is not None:
            total += self._beside
        d_total = np.zeros(total.shape)
        if model.config.logits == 1:
            d_total[:] = 1.0 if self._number == 1 else -1.0
        elif model.config.targets == "many":
            d_total[:, self._number] = 1.0
        else:  # of log p - log(1 - p)
            others = total.copy()
            others[:, self._number] = -np.inf
            parts = np.exp(others - others.max(axis=1, keepdims=True))
            d_total -= parts / parts.sum(axis=1, keepdims=True)
            d_total[:, self._number] = 1.0
        found = backward((d_total * self._factor).astype(np.float32), None)
        slope = found[: batch.positions].reshape(values.shape).astype(np.float64)
        return slope, log_odds(model.config, total, self._number)
