"""What a data set is like: labels, lengths, copies, and what stands on both sides of a split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

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
    first: dict[str, str] = {}
    conflicting: set[str] = set()
    empty = 0
    for text, label in zip(texts.texts, texts.labels, strict=True):
        if not text.strip():
            empty += 1
        elif first.setdefault(text, label) != label:
            conflicting.add(text)
    copies = len(texts) - empty - len(first)
    learnt = {texts.texts[row] for row in training}
    shared = {
        name: sum(text in learnt for text in others if text.strip())
        for name, others in held_out.items()
    }
    lengths = np.asarray(tokens)
    # A percentile is a length that some text has.
    at = np.percentile(lengths, PERCENTILES, method="inverted_cdf").tolist()
    return Survey(
        rows=len(texts),
        classes=dict(Counter(texts.labels).most_common()),
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
