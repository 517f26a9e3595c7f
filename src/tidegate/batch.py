"""Texts as ids, and the packed batch that every recurrent kernel runs over.

Rows (texts) are right-aligned and sorted longest first, then stored time-major without
padding. The rows that are active at a step are therefore always a prefix, rows only ever
join, and every row ends at the last step:

    row 0   the film was not at all bad          step_offsets[t] + k is the position of
    row 1           it was a lovely film         packed row k at step t.
    row 2                         dreadful
    step     0   1    2   3  4   5    6

In the lecture's unmasked pre-padding each row is preceded by padding that the network
reads too. All those padded parts are one and the same trajectory, so the batch carries it
once, as the *padding row*: steps 0 .. padding_steps - 1, stored behind the text positions.
A text row branches off it at the step where its text begins.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from tidegate.errors import ShapeError


@dataclass(frozen=True)
class TokenizedTexts:
    """Ragged rows of token ids, one row a text.

    token_ids: [total] int32, the rows one after another.
    offsets: [texts + 1] int64; row i is token_ids[offsets[i]:offsets[i + 1]]. Copied.
    """

    token_ids: np.ndarray
    offsets: np.ndarray

    def __post_init__(self) -> None:
        # Kernels trust the offsets once they are checked here: so they are this object's own.
        if isinstance(self.offsets, np.ndarray):
            offsets = self.offsets.copy(order="C")
            offsets.flags.writeable = False
            object.__setattr__(self, "offsets", offsets)
        if self.token_ids.dtype != np.int32 or self.token_ids.ndim != 1:
            raise ShapeError(
                f"token_ids has dtype {self.token_ids.dtype} and shape {self.token_ids.shape}; "
                "give one-dimensional int32"
            )
        if self.offsets.dtype != np.int64 or self.offsets.ndim != 1 or not len(self.offsets):
            raise ShapeError(
                f"offsets has dtype {self.offsets.dtype} and shape {self.offsets.shape}; "
                "give one-dimensional int64, one more than texts"
            )
        if not self.token_ids.flags.c_contiguous:
            raise ShapeError("token_ids must be contiguous; use np.ascontiguousarray")
        total = len(self.token_ids)
        # Compared, not subtracted: a difference may overflow.
        falls = (self.offsets[1:] < self.offsets[:-1]).any()
        if self.offsets[0] != 0 or self.offsets[-1] != total or falls:
            raise ShapeError(
                f"offsets must rise from 0 to the number of token ids, {total}; they begin with "
                f"{self.offsets[0]} and end with {self.offsets[-1]}"
            )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """[texts] int64: tokens in each row."""
        return np.diff(self.offsets)

    def row(self, i: int) -> np.ndarray:
        """The ids of row ``i``, a view."""
        return self.token_ids[self.offsets[i] : self.offsets[i + 1]]

    def blocks(self) -> Iterator[TokenizedTexts]:
        """All rows in order: one block of them, as they are in memory."""
        yield self

    def select(self, rows: np.ndarray | Sequence[int]) -> TokenizedTexts:
        """The given rows in the given order, copied."""
        return TokenizedTexts.from_rows([self.row(int(i)) for i in rows])

    def padded(self, length: int, padding_id: int) -> TokenizedTexts:
        """Every row ``length`` ids long: padded in front, or its last ones."""
        ids = np.full((len(self), length), padding_id, np.int32)
        for i in range(len(self)):
            kept = self.row(i)[-length:]
            ids[i, length - len(kept) :] = kept
        return TokenizedTexts(ids.reshape(-1), np.arange(len(self) + 1, dtype=np.int64) * length)

    @classmethod
    def from_rows(cls, rows: Iterable[np.ndarray | Sequence[int]]) -> TokenizedTexts:
        """Join rows of ids. An id that is no int32 raises ShapeError."""
        arrays = [np.asarray(row) for row in rows]
        for array in arrays:
            if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
                raise ShapeError(
                    f"a row of ids has shape {array.shape} and dtype {array.dtype}; "
                    "give one-dimensional integers"
                )
            if array.dtype != np.int32 and array.size:
                least, most = int(array.min()), int(array.max())
                if least < -(2**31) or most >= 2**31:
                    raise ShapeError(f"token ids run from {least} to {most}; they must fit int32")
        offsets = np.zeros(len(arrays) + 1, np.int64)
        np.cumsum([len(array) for array in arrays], out=offsets[1:])
        token_ids = np.zeros(int(offsets[-1]), np.int32)
        for start, array in zip(offsets[:-1].tolist(), arrays, strict=True):
            token_ids[start : start + len(array)] = array
        return cls(token_ids, offsets)


@dataclass(frozen=True)
class Reading:
    """What is read of each text: one row of ids, or several windows of it.

    rows: the texts' rows, text after text. counts: [texts] int64, how many rows each text has, at
    least one; None for one each.
    """

    rows: TokenizedTexts
    counts: np.ndarray | None = None

    def __post_init__(self) -> None:
        check_counts(self.counts, len(self.rows))

    def __len__(self) -> int:
        return len(self.rows) if self.counts is None else len(self.counts)

    def select(self, texts: np.ndarray) -> Reading:
        """The given texts in the given order, copied."""
        if self.counts is None:
            return Reading(self.rows.select(texts))
        return Reading(self.rows.select(rows_of(self.counts, texts)), self.counts[texts])

    def pooled(self, values: np.ndarray) -> np.ndarray:
        """[texts, n] float32, the means of each text's rows of [rows, n]."""
        return pooled(values, self.counts)


def check_counts(counts: np.ndarray | None, rows: int) -> None:
    """ShapeError unless they are how many of the rows each text has: see ``Reading``."""
    if counts is not None and ((counts < 1).any() or counts.sum() != rows):
        raise ShapeError(f"counts must be at least 1 each and {rows} together, as there are rows")


def rows_of(counts: np.ndarray, texts: np.ndarray) -> np.ndarray:
    """[rows] which rows the given texts have, where text i has counts[i] of all."""
    firsts = np.cumsum(counts) - counts
    chosen = counts[texts]
    within = np.arange(chosen.sum()) - np.repeat(np.cumsum(chosen) - chosen, chosen)
    rows: np.ndarray = np.repeat(firsts[texts], chosen) + within
    return rows


def pooled(values: np.ndarray, counts: np.ndarray | None) -> np.ndarray:
    """[texts, n] float32, the means of each text's rows of [rows, n]."""
    if counts is None or len(counts) == len(values):
        return values
    firsts = np.cumsum(counts) - counts
    # float64, so that a text's mean is the same beside any others.
    sums = np.add.reduceat(values.astype(np.float64), firsts, axis=0)
    means: np.ndarray = (sums / counts[:, None]).astype(np.float32)
    return means


@dataclass(frozen=True)
class PackedBatch:
    """A batch of texts as the recurrent kernels read it (see the module's text).

    B rows, T steps, N text positions, P padding steps, W distinct words.

    rows: [B] int32; packed row k is row rows[k] of the texts that were packed.
    lengths: [B] int32, falling; a row of length 0 never joins.
    steps: T. Packed row k joins at step T - lengths[k].
    step_offsets: [T + 1] int32; (step t, row k) is at position step_offsets[t] + k.
    padding_steps: P, the last step at which a row joins; 0 where padding is masked.
    words: [W] int32, the distinct ids.
    index: [N + P] int32, which of ``words`` stands at each position.
    occurrences: [N + P] int32, the positions of each word, ascending, word after word.
    occurrence_offsets: [W + 1] int32, where each word's positions begin.
    """

    rows: np.ndarray
    lengths: np.ndarray
    steps: int
    step_offsets: np.ndarray
    padding_steps: int
    words: np.ndarray
    index: np.ndarray
    occurrences: np.ndarray
    occurrence_offsets: np.ndarray
    # Set by ops.pack, whose batches need no check at every use. A copy with other arrays
    # (dataclasses.replace) starts as unchecked again.
    checked: bool = field(default=False, init=False, repr=False, compare=False)

    @property
    def batch_size(self) -> int:
        """B, the number of rows."""
        return len(self.rows)

    @property
    def positions(self) -> int:
        """N, the number of text positions."""
        return int(self.step_offsets[-1])

    @property
    def total_positions(self) -> int:
        """N + P, text positions and padding steps."""
        return self.positions + self.padding_steps
