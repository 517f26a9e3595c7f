"""Texts with labels, and the data sets made of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tidegate.errors import ShapeError


@dataclass(frozen=True)
class LabeledTexts:
    """Texts and the label of each one, in order: ``labels[i]`` belongs to ``texts[i]``.

    Raises ShapeError when there are not as many labels as texts.
    """

    texts: list[str]
    labels: list[str]

    def __post_init__(self) -> None:
        if len(self.texts) != len(self.labels):
            raise ShapeError(
                f"{len(self.texts)} texts and {len(self.labels)} labels: give each text a label"
            )

    def __len__(self) -> int:
        return len(self.texts)

    def select(self, rows: Iterable[int]) -> LabeledTexts:
        """The texts and labels of ``rows`` (integers from 0), in the order of ``rows``."""
        rows = list(rows)
        return LabeledTexts([self.texts[row] for row in rows], [self.labels[row] for row in rows])


@dataclass(frozen=True)
class Dataset:
    """A training set and, where there are such, the sets that belong to it.

    ``origin`` says in words where the texts came from, for the output and the report.
    ``validation``: texts to measure each epoch on, if they are not to be taken from ``train``.
    """

    name: str
    origin: str
    train: LabeledTexts
    test: LabeledTexts | None
    validation: LabeledTexts | None = None
