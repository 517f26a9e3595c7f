"""One text scored many times, with words left out of it.

As if each time the remaining words had been given as a text of their own: line breaks that come to
stand beside one another are one, and none begins or ends a text. Words are tokenised once, not once
for each score.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tidegate.batch import Reading, TokenizedTexts
from tidegate.layers import Chain, Pool
from tidegate.model import ModelConfig
from tidegate.ngram_places import TextNgrams
from tidegate.subwords import JsonTokenizer
from tidegate.tokens import BREAK
from tidegate.trace import trace_layers

if TYPE_CHECKING:
    from tidegate.estimator import TextClassifier

Bools = npt.NDArray[np.bool_]
Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

_BLOCK_TEXTS = 64
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


@dataclass(frozen=True)
class ContextRows:
    """What the network reads of some variants of a text.

    rows: [R] rows of ids, a variant's windows one after another. contexts: [R] of which variant
    each is. places: [R, longest] which of the text's words stands behind each id, -1 for none.
    """

    rows: TokenizedTexts
    contexts: Int64
    places: Int64


class Erasure:
    """Logits [variants, L] of one text's variants, as ``TextClassifier.predict_proba`` has them.

    The text has at least one token. words: [T] its tokens. model, mix: the classifier's network and
    factors. Scores are the network's and the n-grams' together, in float64. Of a
    ``tokenizer.json``, whose tokens may be parts of words, the network gets the ids that are left,
    and the n-grams the text without the tokens' characters.
    """

    def __init__(self, classifier: TextClassifier, text: str) -> None:
        self._classifier = classifier
        self.model = classifier._fitted()
        self._tokenizer = classifier.tokenizer_
        self.mix = classifier.mix_
        self.text, self.words = text, self._tokenizer.tokens(text)
        words, vocabulary = self.words, self._tokenizer.vocabulary
        self._plain = not isinstance(self._tokenizer, JsonTokenizer)
        if self._plain:
            ids = {word: vocabulary.id_of(word) for word in set(words)}
            self._ids = np.array([ids[word] for word in words], np.int32)
        else:
            self._ids = self._tokenizer.encode(text)[1:]
        breaks = self._plain and self._tokenizer.kind == "words"
        self._breaks = np.array([breaks and word == BREAK for word in words])
        self._ngrams = classifier.ngrams_
        known = self._ngrams is not None and self._plain
        self._places = TextNgrams(self._ngrams, words) if known and self._ngrams else None

    @cached_property
    def _whole(self) -> Float64:
        found: Float64 = self._network(np.ones((1, len(self.words)), bool))[0]
        return found

    @property
    def ngrams_have_places(self) -> bool:
        """Whether it is known which n-grams stand where: not so of a ``tokenizer.json``."""
        return self._places is not None

    def whole(self) -> Float64:
        """[L] of the text as it is."""
        return self._mixed(self._whole, self._linear())

    def _linear(self) -> Float64 | None:
        """[L] what the n-grams say of the text."""
        if self._places is not None:
            return self._places.score()
        return None if self._ngrams is None else self._scored([self.text])[0]

    def _scored(self, texts: Iterable[str]) -> Float64:
        """[V, L] what the n-grams say of the texts, of which few are held at a time."""
        model = self._ngrams
        if model is None:
            return np.zeros((0, self.model.config.logits))
        texts = iter(texts)
        parts = [np.zeros((0, model.weights.shape[1]))]
        while block := list(islice(texts, _BLOCK_TEXTS)):
            parts.append(model.scores(block).astype(np.float64))
        return np.concatenate(parts)

    def beside(self) -> Float64 | None:
        """[L] the n-grams' part of that, None where the network stands alone."""
        linear = self._linear()
        return None if linear is None else linear * self.mix[1]

    @cached_property
    def words_read(self) -> npt.NDArray[np.bool_]:
        """[T] whether the network reads each word of the whole text."""
        rows = self._tokenizer.places_of_rows(self.words, self.model.config.max_length)
        found = np.zeros(len(self.words), bool)
        found[[place for row in rows for place in row if place >= 0]] = True
        return found

    def read(self, kept: Bools) -> ContextRows:
        """What the network reads of the words that are kept. kept: [V, T], settled."""
        most, longest = self.model.config.max_length, 1
        contexts: list[int] = []
        places: list[Int64] = []
        for i, row in enumerate(kept):
            at = np.nonzero(row)[0]
            words = [self.words[place] for place in at.tolist()]
            for found in self._tokenizer.places_of_rows(words, most):
                # -1 stands behind the last one, too: the start mark's place is found there.
                places.append(np.append(at, -1)[np.array(found, np.int64)])
                contexts.append(i)
                longest = max(longest, len(found))
        table = np.full((len(places), longest), -1)
        for i, own in enumerate(places):
            table[i, : len(own)] = own
        return ContextRows(self._encoded(kept).rows, np.array(contexts), table)

    def ngrams_of(self, kept: npt.NDArray[np.bool_]) -> TextNgrams | None:
        """The n-grams of the words that are kept. kept: [T], settled.

        None without n-grams, and of a ``tokenizer.json``, whose tokens are not their words.
        """
        if self._places is None or kept.all():
            return self._places
        return self._places.of_kept(kept)

    def kept(self, kept: Bools) -> Float64:
        """Of any variants. kept: [V, T]."""
        parts = [np.zeros((0, self.model.config.logits))]
        size = max(1, _BLOCK_WORDS // kept.shape[1])
        for start in range(0, len(kept), size):
            block = kept[start : start + size]
            linear = None
            if self._ngrams is not None:
                linear = self._scored(self._left(row) for row in block.tolist())
            parts.append(self._mixed(self._network(block), linear))
        return np.concatenate(parts)

    def _left(self, kept: list[bool]) -> str:
        if self._plain:
            return " ".join([word for word, k in zip(self.words, kept, strict=True) if k])
        parts, at = [], 0
        for (begin, end), k in zip(self._tokenizer.spans(self.text), kept, strict=True):
            if not k:
                parts.append(self.text[at:begin])
                at = end
        return "".join([*parts, self.text[at:]])

    def without_each(self) -> Float64:
        """[T, L] without each word in turn."""
        begins, ends = self._gaps()
        read = np.concatenate([[0], np.cumsum(self.words_read)])
        matters = np.nonzero(read[ends] > read[begins])[0]
        # What is not read can be left out without a difference.
        network = np.repeat(self._whole[None], len(begins), axis=0)
        at = np.arange(len(begins))
        for block in self._in_blocks(matters):
            gone = (at >= begins[block, None]) & (at < ends[block, None])
            network[block] = self._network(~gone)
        return self._mixed(network, self._ngrams_without(begins, ends))

    def ngrams_without_each(self) -> Float64 | None:
        """[T, L] where the n-grams alone lack each word in turn; None without n-grams."""
        linear = self._ngrams_without(*self._gaps())
        return None if linear is None else self._mixed(self._whole, linear)

    def _ngrams_without(self, begins: Int64, ends: Int64) -> Float64 | None:
        if self._places is not None:
            return self._places.without(begins, ends)
        if self._ngrams is None:
            return None
        return self._scored(self._tokenizer.without_each(self.text))

    def up_to_each(self) -> Float64:
        """[T, L] as if the text ended after each word."""
        stops = np.arange(1, len(self.words) + 1) - self._breaks  # a text ends with no break
        network = self._network_of_states(stops)
        if network is None:
            network = self._network_up_to(np.arange(len(self.words)))
        linear = None
        if self._places is not None:
            linear = self._places.up_to(stops)
        elif self._ngrams is not None:
            linear = self._scored(self._tokenizer.grown(self.text, None))
        return self._mixed(network, linear)

    def _network_up_to(self, words: Int64) -> Float64:
        """[V, L] up to and with each of ``words`` [V]."""
        # Where the end is kept, no more of what was before can be read; a break at either end of
        # that is none.
        ends_only = self._tokenizer.keep == "end" and self._tokenizer.unknown
        reach = self.model.config.max_length + 2 if ends_only else len(self.words)
        at = np.arange(len(self.words))
        parts = [np.zeros((0, self.model.config.logits))]
        for rows in self._in_blocks(words):
            parts.append(self._network((at <= rows[:, None]) & (at > rows[:, None] - reach)))
        return np.concatenate(parts)

    def _network_of_states(self, stops: Int64) -> Float64 | None:
        """[T, L] read from the last layer's states, which are those of each beginning of the text.

        None for a network that reads from the end, padding, or all states, and for a text that is
        cut. stops: [T] how many words of the text each beginning has.
        """
        config, start = self.model.config, int(self._tokenizer.start)
        one_way = config.masked and not config.bidirectional and config.poolings == ("last",)
        cut = start + len(self.words) > config.max_length
        if not one_way or cut or not self._tokenizer.unknown or stops.min() + start < 1:
            return None
        *_, last = trace_layers(self._classifier, self.text)
        values = np.ascontiguousarray(last.states[stops + start - 1])
        after = next(i for i, layer in enumerate(self.model.layers) if isinstance(layer, Pool))
        logits, _ = Chain(*self.model.layers[after + 1 :])(values)
        return np.asarray(logits, np.float64)

    def _in_blocks(self, rows: Int64) -> Iterator[Int64]:
        size = max(1, _BLOCK_WORDS // len(self.words))
        return (rows[start : start + size] for start in range(0, len(rows), size))

    def _mixed(self, network: Float64, linear: Float64 | None) -> Float64:
        first, second = self.mix
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
        read = self._encoded(self.settled(kept))
        return read.pooled(self.model.predict_logits(read.rows)).astype(np.float64)

    def _encoded(self, kept: Bools) -> Reading:
        ids = np.broadcast_to(self._ids, kept.shape)[kept]
        return self._tokenizer.read_words(ids, kept.sum(axis=1), self.model.config.max_length)

    def settled(self, kept: Bools) -> Bools:
        """Without breaks that a text of the kept words would not have. kept: [V, T]."""
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
