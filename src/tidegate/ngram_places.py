"""Where a text's n-grams stand, and so what they are worth when words are left out.

A text scored without each of its T words in turn, or up to each of them, is T texts, which
``NgramModel.scores`` would hash anew: T times T words. But a word stands in few n-grams, so here
each such score comes from the whole text's by what goes and what is new.

The hash is ``cpp/text.cpp``'s, stated in NumPy; tests hold both to the same buckets.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tidegate.ngrams import NgramModel

Int64 = npt.NDArray[np.int64]
UInt64 = npt.NDArray[np.uint64]
Float64 = npt.NDArray[np.float64]

_FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93
_ALL_BITS = (1 << 64) - 1


class TextNgrams:
    """The n-grams of one text, for ``model``. words: [T], as ``tokens`` finds them."""

    def __init__(self, model: NgramModel, words: Sequence[str]) -> None:
        self.model = model
        hashes = {word: _word_hash(word) for word in set(words)}
        self._set_words(np.array([hashes[word] for word in words], np.uint64))

    def of_kept(self, kept: npt.NDArray[np.bool_]) -> TextNgrams:
        """The n-grams of the text's words that are kept, [T]."""
        found = copy.copy(self)
        found._set_words(self._words[kept])
        return found

    def _set_words(self, hashes: UInt64) -> None:
        self._words, count, longest = hashes, len(hashes), self.model.longest
        # [longest] each [T - n + 1], the bucket of the n-gram that begins at each word.
        self._buckets = [
            self._at(np.arange(count - n + 1)[:, None] + np.arange(n))
            for n in range(1, min(longest, count) + 1)
        ]
        every = np.concatenate(self._buckets) if self._buckets else np.zeros(0, np.int64)
        self._distinct, self._counts = np.unique(every, return_counts=True)

    def _at(self, places: Int64) -> Int64:
        """[...] the buckets of n-grams whose words stand at ``places`` [..., n]."""
        state = np.zeros(places.shape[:-1], np.uint64)
        for n in range(places.shape[-1]):  # the last word first
            state = _mixed(state ^ self._words[places[..., -1 - n]]) + np.uint64(n + 1)
        buckets: Int64 = (_mixed(state) >> np.uint64(64 - self.model.bits)).astype(np.int64)
        return buckets

    def score(self) -> Float64:
        """[L] what ``NgramModel.scores`` says of the whole text."""
        weights = self.model.weights[self._distinct].astype(np.float64)
        total: Float64 = self.model.bias + weights.sum(axis=0)
        return total

    def shares(self, direction: Float64) -> Float64:
        """[T] what each word adds to the scores [L] times ``direction`` [L].

        What an n-gram adds is shared equally by all its occurrences, and by the words of each.
        """
        weights = self.model.weights[self._distinct].astype(np.float64) @ direction
        each = weights / self._counts
        found = np.zeros(len(self._words))
        for n, own in enumerate(self._buckets, 1):
            parts = each[np.searchsorted(self._distinct, own)] / n
            for j in range(n):
                found[j : j + len(parts)] += parts
        return found

    def up_to(self, ends: Int64) -> Float64:
        """[V, L] the scores of the text's first ``ends`` [V] words."""
        stops = [np.arange(len(b)) + n for n, b in enumerate(self._buckets, 1)]
        order = np.argsort(np.concatenate([*stops, np.zeros(0, np.int64)]), kind="stable")
        every = np.concatenate([*self._buckets, np.zeros(0, np.int64)])[order]
        buckets, first = np.unique(every, return_index=True)
        worth = np.zeros((len(self._words) + 1, self.model.weights.shape[1]))
        stop = np.concatenate([*stops, np.zeros(0, np.int64)])[order][first]
        np.add.at(worth, stop, self.model.weights[buckets].astype(np.float64))
        total: Float64 = self.model.bias + np.cumsum(worth, axis=0)[ends]
        return total

    def without(self, begins: Int64, ends: Int64) -> Float64:
        """[V, L] the scores of the text without its words ``begins`` to ``ends`` - 1, each [V]."""
        variants, buckets, signs = [], [], []

        def note(chosen: npt.NDArray[np.bool_], found: Int64, sign: float) -> None:
            rows = np.nonzero(chosen)[0]
            variants.append(rows)
            buckets.append(found)
            signs.append(np.full(len(rows), sign))

        most = int((ends - begins).max(initial=0))
        for n, own in enumerate(self._buckets, 1):
            # What a word of the gap stands in ...
            first = begins[:, None] - (n - 1) + np.arange(n - 1 + most)
            gone = (first >= 0) & (first < ends[:, None]) & (first < len(own))
            note(gone, own[first[gone]], -1.0)
            # ... and what closes over it: ``left`` words before, and the rest behind.
            for left in range(1, n):
                first = begins[:, None] - left
                new = (first >= 0) & (ends[:, None] + n - left <= len(self._words))
                before = begins[new[:, 0], None] - left + np.arange(left)
                behind = ends[new[:, 0], None] + np.arange(n - left)
                note(new, self._at(np.concatenate([before, behind], axis=1)), 1.0)
        bits = self.model.bits
        keys = np.concatenate([np.zeros(0, np.int64), *variants]) << bits
        keys |= np.concatenate([np.zeros(0, np.int64), *buckets])
        distinct, which = np.unique(keys, return_inverse=True)
        change = np.bincount(which, np.concatenate([np.zeros(0), *signs]), len(distinct))
        row, bucket = distinct >> bits, distinct & ((1 << bits) - 1)
        place = np.searchsorted(self._distinct, bucket).clip(max=len(self._distinct) - 1)
        there = self._distinct[place] == bucket
        before = np.where(there, self._counts[place], 0)
        moved = (before + change > 0).astype(np.float64) - (before > 0)
        scores = np.repeat(self.score()[None], len(begins), axis=0)
        np.add.at(scores, row, moved[:, None] * self.model.weights[bucket])
        return scores


def _mixed(x: UInt64) -> UInt64:
    x = x * np.uint64(_FIRST)
    x ^= x >> np.uint64(32)
    return x * np.uint64(_SECOND)


def _mixed_one(x: int) -> int:
    x = x * _FIRST & _ALL_BITS
    return (x ^ x >> 32) * _SECOND & _ALL_BITS


def _word_hash(word: str) -> int:
    data = word.encode("utf-8", "surrogatepass")
    if len(data) <= 8:
        return _mixed_one(int.from_bytes(data, "big") ^ len(data) << 56 ^ _FIRST)
    state = len(data)
    for i in range(0, len(data) - 8, 8):
        state = _mixed_one(state ^ int.from_bytes(data[i : i + 8], sys.byteorder))
    return _mixed_one(state ^ int.from_bytes(data[-8:], sys.byteorder))
