"""One text scored many times, with words left out of it.

As if each time the remaining words had been given as a text of their own: line breaks that come to
stand beside one another are one, and none begins or ends a text. Words are tokenised once, not once
for each score.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tidegate.layers import Chain, Pool
from tidegate.model import ModelConfig
from tidegate.ngram_places import TextNgrams
from tidegate.tokens import BREAK
from tidegate.trace import trace_layers

if TYPE_CHECKING:
    from tidegate.estimator import TextClassifier

Bools = npt.NDArray[np.bool_]
Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

_BLOCK_WORDS = 1 << 20  # that are marked as kept or left out at a time


def log_odds(config: ModelConfig, logits: Float64, number: int) -> Float64:
    """[n] of class ``number`` against all others together, in nats. logits: [n, L]."""
    if config.logits == 1:
        return logits[:, 0] if number == 1 else -logits[:, 0]
    own = logits[:, number]
    if config.targets == "many":
        return own
    others = np.delete(logits, number, axis=1)
    most = others.max(axis=1)
    odds: Float64 = own - most - np.log(np.exp(others - most[:, None]).sum(axis=1))
    return odds


class Erasure:
    """Logits [variants, L] of one text's variants, as ``TextClassifier.predict_proba`` has them.

    words: [T] at least one, as ``tokens`` finds them. Scores are the network's and the n-grams'
    together, in float64.
    """

    def __init__(self, classifier: TextClassifier, words: Sequence[str]) -> None:
        self._classifier = classifier
        self._model = classifier._fitted()
        self._tokenizer = classifier.tokenizer_
        self._mix = classifier.mix_
        self.words = words
        vocabulary = self._tokenizer.vocabulary
        ids = {word: vocabulary.id_of(word) for word in set(words)}
        self._ids = np.array([ids[word] for word in words], np.int32)
        breaks = self._tokenizer.kind == "words"
        self._breaks = np.array([breaks and word == BREAK for word in words])
        ngrams = classifier.ngrams_
        self._ngrams = ngrams
        self._places = None if ngrams is None else TextNgrams(ngrams, words)
        self._whole = self._network(np.ones((1, len(words)), bool))[0]

    def whole(self) -> Float64:
        """[L] of the text as it is."""
        return self._mixed(self._whole, None if self._places is None else self._places.score())

    def beside(self) -> Float64 | None:
        """[L] the n-grams' part of that, None where the network stands alone."""
        return None if self._places is None else self._places.score() * self._mix[1]

    def kept(self, kept: Bools) -> Float64:
        """Of any variants. kept: [V, T]."""
        parts = [np.zeros((0, self._model.config.logits))]
        size = max(1, _BLOCK_WORDS // kept.shape[1])
        for start in range(0, len(kept), size):
            block = kept[start : start + size]
            linear = None
            if self._ngrams is not None:
                texts = (
                    " ".join([w for w, k in zip(self.words, row, strict=True) if k])
                    for row in block.tolist()
                )
                linear = self._ngrams.scores(texts).astype(np.float64)
            parts.append(self._mixed(self._network(block), linear))
        return np.concatenate(parts)

    def without_each(self) -> Float64:
        """[T, L] without each word in turn."""
        begins, ends = self._gaps()
        read = np.zeros(len(begins) + 1, np.int64)
        places = self._tokenizer.places_read(self.words, self._model.config.max_length)
        read[1:][[place for place in places if place >= 0]] = 1
        np.cumsum(read, out=read)
        matters = np.nonzero(read[ends] > read[begins])[0]
        # What is not read can be left out without a difference.
        network = np.repeat(self._whole[None], len(begins), axis=0)
        at = np.arange(len(begins))
        for rows in self._in_blocks(matters):
            gone = (at >= begins[rows, None]) & (at < ends[rows, None])
            network[rows] = self._network(~gone)
        return self._mixed(network, self._ngrams_without(begins, ends))

    def ngrams_without_each(self) -> Float64 | None:
        """[T, L] where the n-grams alone lack each word in turn; None without n-grams."""
        linear = self._ngrams_without(*self._gaps())
        return None if linear is None else self._mixed(self._whole, linear)

    def _ngrams_without(self, begins: Int64, ends: Int64) -> Float64 | None:
        return None if self._places is None else self._places.without(begins, ends)

    def up_to_each(self) -> Float64:
        """[T, L] as if the text ended after each word."""
        stops = np.arange(1, len(self.words) + 1) - self._breaks  # a text ends with no break
        network = self._network_of_states(stops)
        if network is None:
            network = self._network_up_to(np.arange(len(self.words)))
        linear = None if self._places is None else self._places.up_to(stops)
        return self._mixed(network, linear)

    def _network_up_to(self, words: Int64) -> Float64:
        """[V, L] up to and with each of ``words`` [V]."""
        # Where the end is kept, no more of what was before can be read; a break at either end of
        # that is none.
        ends_only = self._tokenizer.keep == "end" and self._tokenizer.unknown
        reach = self._model.config.max_length + 2 if ends_only else len(self.words)
        at = np.arange(len(self.words))
        parts = [np.zeros((0, self._model.config.logits))]
        for rows in self._in_blocks(words):
            parts.append(self._network((at <= rows[:, None]) & (at > rows[:, None] - reach)))
        return np.concatenate(parts)

    def _network_of_states(self, stops: Int64) -> Float64 | None:
        """[T, L] read from the last layer's states, which are those of each beginning of the text.

        None for a network that reads from the end, padding, or all states, and for a text that is
        cut. stops: [T] how many words of the text each beginning has.
        """
        config, start = self._model.config, int(self._tokenizer.start)
        one_way = config.masked and not config.bidirectional and config.poolings == ("last",)
        cut = start + len(self.words) > config.max_length
        if not one_way or cut or not self._tokenizer.unknown or stops.min() + start < 1:
            return None
        *_, last = trace_layers(self._classifier, " ".join(self.words))
        values = np.ascontiguousarray(last.states[stops + start - 1])
        after = next(i for i, layer in enumerate(self._model.layers) if isinstance(layer, Pool))
        logits, _ = Chain(*self._model.layers[after + 1 :])(values)
        return np.asarray(logits, np.float64)

    def _in_blocks(self, rows: Int64) -> Iterator[Int64]:
        size = max(1, _BLOCK_WORDS // len(self.words))
        return (rows[start : start + size] for start in range(0, len(rows), size))

    def _mixed(self, network: Float64, linear: Float64 | None) -> Float64:
        first, second = self._mix
        return network * first if linear is None else network * first + linear * second

    def _gaps(self) -> tuple[Int64, Int64]:
        """Where the gap that each word leaves begins and ends: a break may go with it."""
        begins = np.arange(len(self.words))
        ends = begins + 1
        # The text's own ends are as good as breaks.
        edges = np.concatenate([[True], self._breaks, [True]])
        lonely = edges[:-2] & edges[2:] & ~self._breaks
        last = lonely & (ends == len(self.words))
        begins = begins - (last & (begins > 0))
        ends = ends + (lonely & ~last)
        return begins, ends

    def _network(self, kept: Bools) -> Float64:
        """[V, L] the network's logits. kept: [V, T]."""
        kept = self._settled(kept)
        lengths = kept.sum(axis=1)
        ids = np.broadcast_to(self._ids, kept.shape)[kept]
        texts = self._tokenizer.encode_words(ids, lengths, self._model.config.max_length)
        return self._model.predict_logits(texts).astype(np.float64)

    def _settled(self, kept: Bools) -> Bools:
        """Without breaks that a text of the kept words would not have."""
        if not self._breaks.any():
            return kept
        words = kept & ~self._breaks
        last = _latest(kept)  # what is kept before each place, -1 for nothing
        before = _latest(words)
        behind = np.cumsum(words[:, ::-1], axis=1)[:, ::-1] > 0
        found: Bools = words | (kept & self._breaks & (last == before) & (before >= 0) & behind)
        return found


def _latest(marks: Bools) -> Int64:
    """[V, T] the place of the last mark before each one, -1 for none."""
    places = np.where(marks, np.arange(marks.shape[1]), -1)
    found = np.maximum.accumulate(places, axis=1)
    none = np.full((len(marks), 1), -1)
    return np.concatenate([none, found[:, :-1]], axis=1)
