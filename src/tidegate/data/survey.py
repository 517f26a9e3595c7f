"""What a data set is like: labels, lengths, copies, and what stands on both sides of a split."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tidegate.data.dataset import LabeledTexts

PERCENTILES = (50, 90, 99)


@dataclass(frozen=True)
class Survey:
    """Figures of labelled texts. Texts are the same if all of their characters are.

    rows: all texts. classes: how many have each label, the most frequent first. lengths: tokens
    at PERCENTILES and of the longest text. max_length: tokens that a model reads; cut: texts with
    more. empty: texts without a character other than blanks; they count nowhere below. copies:
    texts that equal an earlier one. conflicting: different texts that have more than one label.
    shared: of each held-out set, how many of its texts are learnt from, too.
    """

    rows: int
    classes: dict[str, int]
    lengths: dict[str, int]
    max_length: int
    cut: int
    empty: int
    copies: int
    conflicting: int
    shared: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """As it stands in a report."""
        return {
            "rows": self.rows,
            "classes": self.classes,
            "tokens": self.lengths,
            "max_length": self.max_length,
            "cut": self.cut,
            "empty": self.empty,
            "duplicates": self.copies,
            "conflicting": self.conflicting,
            "also_in_training": self.shared,
        }


class Tally:
    """The figures of texts that come in portions: see ``Survey``.

    Of each text 12 bytes are kept: a 64-bit number that stands for it, and that of its label.
    Different texts of a million have the same number once in forty million tries.
    """

    def __init__(self) -> None:
        self._texts = array("Q")
        self._labels = array("i")
        self._numbers: dict[tuple[str, ...], int] = {}
        self._lengths: Counter[int] = Counter()

    def add(
        self, texts: Sequence[str], labels: Iterable[tuple[str, ...]], tokens: Iterable[int]
    ) -> None:
        """Look at texts, the labels of each in a fixed order, and how many tokens it has."""
        self._texts.extend(_number_of(text) for text in texts)
        numbers = self._numbers
        self._labels.extend(numbers.setdefault(label, len(numbers)) for label in labels)
        self._lengths.update(tokens)

    def survey(
        self,
        max_length: int,
        *,
        training: npt.NDArray[np.int64],
        held_out: Mapping[str, npt.NDArray[np.int64] | Iterable[str]],
    ) -> Survey:
        """The figures of all texts so far.

        training: the rows that are learnt from. held_out: name -> texts that are measured only,
        or the rows that they stand in.
        """
        texts = np.frombuffer(self._texts, np.uint64)
        labels = np.frombuffer(self._labels, np.int32)
        there = texts != _BLANK
        order = np.lexsort((labels, texts))
        order = order[there[order]]
        sorted_texts, sorted_labels = texts[order], labels[order]
        del order
        again = sorted_texts[1:] == sorted_texts[:-1]
        differs = again & (sorted_labels[1:] != sorted_labels[:-1])
        learnt = np.sort(texts[training])
        shared = {}
        for name, others in held_out.items():
            if isinstance(others, np.ndarray):
                numbers = texts[others]
            else:
                numbers = np.fromiter(map(_number_of, others), np.uint64)
            places = np.minimum(np.searchsorted(learnt, numbers), len(learnt) - 1)
            shared[name] = int(((learnt[places] == numbers) & (numbers != _BLANK)).sum())
        counts = np.bincount(labels, minlength=len(self._numbers)).tolist()
        classes: Counter[str] = Counter()
        for names, count in zip(self._numbers, counts, strict=True):
            classes.update(dict.fromkeys(names, count))
        return Survey(
            rows=len(texts),
            classes=dict(classes.most_common()),
            lengths=_percentiles(self._lengths),
            max_length=max_length,
            cut=sum(count for length, count in self._lengths.items() if length > max_length),
            empty=int(np.count_nonzero(~there)),
            copies=int(np.count_nonzero(again)),
            conflicting=len(np.unique(sorted_texts[1:][differs])),
            shared=shared,
        )


_BLANK = 0


def _number_of(text: str) -> int:
    """What stands for the text in this process; _BLANK if it has nothing but blanks."""
    return hash(text) % (2**64 - 1) + 1 if text.strip() else _BLANK


def _percentiles(lengths: Counter[int]) -> dict[str, int]:
    """A percentile is a length that some text has: the first with at least so many up to it."""
    ascending = sorted(lengths.items())
    reached = np.cumsum([count for _, count in ascending])
    places = [int(np.searchsorted(100 * reached, share * reached[-1])) for share in PERCENTILES]
    named = zip(PERCENTILES, places, strict=True)
    return {
        **{f"p{share}": ascending[place][0] for share, place in named},
        "longest": ascending[-1][0],
    }


def survey(
    texts: LabeledTexts,
    tokens: Sequence[int] | np.ndarray,
    max_length: int,
    *,
    training: Iterable[int],
    held_out: Mapping[str, Iterable[str]],
) -> Survey:
    """Look at all of ``texts``, of which text i has ``tokens[i]`` tokens.

    training: the rows that are learnt from. held_out: name -> texts that are measured only.
    """
    tally = Tally()
    tally.add(texts.texts, [(label,) for label in texts.labels], np.asarray(tokens).tolist())
    rows = np.fromiter(training, np.int64)
    return tally.survey(max_length, training=rows, held_out=held_out)
