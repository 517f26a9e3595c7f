"""What a data set is like: labels, lengths, copies, and what stands on both sides of a split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

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
    first: dict[str, frozenset[str]] = {}
    conflicting: set[str] = set()
    empty = 0
    held = {label: _held(label, label_separator) for label in set(texts.labels)}
    for text, label in zip(texts.texts, texts.labels, strict=True):
        if not text.strip():
            empty += 1
        elif first.setdefault(text, held[label]) != held[label]:
            conflicting.add(text)
    copies = len(texts) - empty - len(first)
    train = texts.select(training)
    learnt = set(train.texts)
    shared = {
        name: sum(text in learnt for text in others.texts if text.strip())
        for name, others in held_out.items()
    }
    unlabelled = sum(not held[label] for label in texts.labels)
    lengths = np.asarray(tokens)
    # A percentile is a length that some text has.
    at = np.percentile(lengths, PERCENTILES, method="inverted_cdf").tolist()
    return Survey(
        rows=len(texts),
        several=label_separator is not None,
        classes=_counts(texts, label_separator),
        unlabelled=unlabelled,
        parts={
            name: _counts(part, label_separator)
            for name, part in {"training": train, **held_out}.items()
        },
        measured={name: len(part) for name, part in held_out.items()},
        lengths={
            **{f"p{share}": int(value) for share, value in zip(PERCENTILES, at, strict=True)},
            "longest": int(lengths.max()),
        },
        max_length=max_length,
        cut=int((lengths > max_length).sum()),
        empty=empty,
        copies=copies,
        conflicting=len(conflicting),
        shared=shared,
    )


def _held(cell: str, separator: str | None) -> frozenset[str]:
    """The labels that a cell stands for."""
    return frozenset((cell,) if separator is None else split_cell(cell, separator))


def _counts(texts: LabeledTexts, separator: str | None) -> dict[str, int]:
    """How many texts have each label, the most frequent first."""
    counts: Counter[str] = Counter()
    for cell, rows in Counter(texts.labels).items():
        for label in (cell,) if separator is None else split_cell(cell, separator):
            counts[label] += rows
    return dict(counts.most_common())
