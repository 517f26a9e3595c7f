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
from tidegate.data.separated import split_cell

PERCENTILES = (50, 90, 99)


@dataclass(frozen=True)
class Survey:
    """Figures of labelled texts. Texts are the same if all of their characters are.

    rows: all texts. several: whether a text may have several labels. classes: how many texts have
    each label, the most frequent first. unlabelled: texts without any. parts: of "training" and of
    each held-out set, how many of its texts have each label; measured: how many texts each held-out
    set has. lengths: tokens at PERCENTILES and of the longest text. max_length: tokens that a model
    reads; cut: texts with more. empty: texts without a character other than blanks; they count
    nowhere below. copies: texts that equal an earlier one. conflicting: different texts that have
    not the same label, or labels, everywhere. shared: of each held-out set, how many of its texts
    are learnt from, too.
    """

    rows: int
    several: bool
    classes: dict[str, int]
    unlabelled: int
    parts: dict[str, dict[str, int]]
    measured: dict[str, int]
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
            "unlabelled": self.unlabelled,
            "parts": self.parts,
            "tokens": self.lengths,
            "max_length": self.max_length,
            "cut": self.cut,
            "empty": self.empty,
            "duplicates": self.copies,
            "conflicting": self.conflicting,
            "also_in_training": self.shared,
        }


# Texts, and the labels of each in a fixed order.
TextsAndLabels = tuple[Sequence[str], Sequence[tuple[str, ...]]]


class Tally:
    """The figures of texts that come in portions: see ``Survey``.

    Of each text 12 bytes are kept: a 64-bit number that stands for it, and that of its labels.
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
        held_out: Mapping[str, npt.NDArray[np.int64] | TextsAndLabels],
        several: bool = False,
    ) -> Survey:
        """The figures of all texts so far.

        training: the rows that are learnt from. held_out: name -> texts that are measured only, or
        the rows that they stand in. several: whether a text may have several labels.
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
        parts = {"training": self._counted(labels[training])}
        shared, measured = {}, {}
        for name, others in held_out.items():
            if isinstance(others, np.ndarray):
                numbers = texts[others]
                parts[name] = self._counted(labels[others])
            else:
                numbers = np.fromiter(map(_number_of, others[0]), np.uint64)
                parts[name] = _each_counted(Counter(others[1]))
            places = np.minimum(np.searchsorted(learnt, numbers), len(learnt) - 1)
            shared[name] = int(((learnt[places] == numbers) & (numbers != _BLANK)).sum())
            measured[name] = len(numbers)
        none = self._numbers.get(())
        return Survey(
            rows=len(texts),
            several=several,
            classes=self._counted(labels),
            unlabelled=0 if none is None else int(np.count_nonzero(labels == none)),
            parts=parts,
            measured=measured,
            lengths=_percentiles(self._lengths),
            max_length=max_length,
            cut=sum(count for length, count in self._lengths.items() if length > max_length),
            empty=int(np.count_nonzero(~there)),
            copies=int(np.count_nonzero(again)),
            conflicting=len(np.unique(sorted_texts[1:][differs])),
            shared=shared,
        )

    def _counted(self, numbers: npt.NDArray[np.int32]) -> dict[str, int]:
        counts = np.bincount(numbers, minlength=len(self._numbers)).tolist()
        found = zip(self._numbers, counts, strict=True)
        return _each_counted({names: count for names, count in found if count})


_BLANK = 0


def _number_of(text: str) -> int:
    """What stands for the text in this process; _BLANK if it has nothing but blanks."""
    return hash(text) % (2**64 - 1) + 1 if text.strip() else _BLANK


def _each_counted(rows: Mapping[tuple[str, ...], int]) -> dict[str, int]:
    """How many texts have each label, the most frequent first, of how many have which labels."""
    counts: Counter[str] = Counter()
    for names, count in rows.items():
        counts.update(dict.fromkeys(names, count))
    return dict(counts.most_common())


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
    held_out: Mapping[str, LabeledTexts],
    label_separator: str | None = None,
) -> Survey:
    """Look at all of ``texts``, of which text i has ``tokens[i]`` tokens.

    training: the rows that are learnt from. held_out: name -> texts that are measured only.
    label_separator: what stands between several labels of a text, if there may be several.
    """
    tally = Tally()
    tally.add(texts.texts, _held(texts, label_separator), np.asarray(tokens).tolist())
    return tally.survey(
        max_length,
        training=np.fromiter(training, np.int64),
        held_out={
            name: (part.texts, _held(part, label_separator)) for name, part in held_out.items()
        },
        several=label_separator is not None,
    )


def _held(texts: LabeledTexts, separator: str | None) -> list[tuple[str, ...]]:
    """The labels that each cell stands for."""
    cells = set(texts.labels)
    if separator is None:
        held: dict[str, tuple[str, ...]] = {cell: (cell,) for cell in cells}
    else:
        held = {cell: tuple(sorted(split_cell(cell, separator))) for cell in cells}
    return [held[cell] for cell in texts.labels]
