"""Packed batches: made, checked, and rows of tables gathered for them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tidegate import _kernels
from tidegate.batch import PackedBatch, TokenizedTexts
from tidegate.checks import check_array, check_range
from tidegate.errors import ShapeError

Float32 = npt.NDArray[np.float32]


def pack(
    texts: TokenizedTexts,
    rows: npt.ArrayLike,
    *,
    max_length: int,
    masked: bool,
    vocabulary_size: int,
) -> PackedBatch:
    """Pack the given rows of ``texts`` (see ``batch.PackedBatch``).

    rows: [B] whole numbers. Texts longer than ``max_length`` keep their last tokens. Unmasked
    batches have ``max_length`` steps, masked ones as many as the longest text has tokens.
    Raises ShapeError for a row or an id that does not exist.
    """
    given = np.asarray(rows)
    if given.ndim != 1 or (given.size and given.dtype.kind not in "iu"):
        raise ShapeError(
            f"rows has shape {given.shape} and dtype {given.dtype}; give one-dimensional whole "
            "row numbers"
        )
    check_range("rows", given, len(texts))
    chosen = np.ascontiguousarray(given, np.int64)
    if not 1 <= vocabulary_size < 2**31:
        raise ShapeError(f"vocabulary_size={vocabulary_size} is not between 1 and 2^31")
    if max_length < 1 or max(1, len(chosen)) * (int(max_length) + 1) >= 2**31:
        raise ShapeError(
            f"{len(chosen)} rows of max_length={max_length} do not fit a batch, which counts "
            "positions from 1 to 2^31; use fewer rows"
        )
    try:
        packed = _kernels.pack(
            texts.token_ids, texts.offsets, chosen, int(max_length), masked, vocabulary_size
        )
    except IndexError as error:
        raise ShapeError(f"{error} is outside the vocabulary, 0..{vocabulary_size - 1}") from None
    for array in packed:
        if isinstance(array, np.ndarray):
            array.flags.writeable = False
    batch = PackedBatch(*packed)
    object.__setattr__(batch, "checked", True)
    return batch


def gather_rows(table: Float32, rows: npt.NDArray[np.int32]) -> Float32:
    """[len(rows), width] copies of the rows of ``table`` [any, width]."""
    check_array("table", table, (None, None))
    check_array("rows", rows, (None,), np.int32)
    check_range("rows", rows, len(table))
    out = np.empty((len(rows), table.shape[1]), np.float32)
    _kernels.gather_rows(table, rows, out)
    return out


def check_batch(batch: PackedBatch) -> None:
    """Everything that the kernels take for granted of a batch that ``pack`` did not make."""
    if batch.checked:
        return
    rows, steps = batch.batch_size, batch.steps
    check_array("batch.step_offsets", batch.step_offsets, (steps + 1,), np.int32)
    check_array("batch.lengths", batch.lengths, (rows,), np.int32)
    # Active rows follow from the lengths alone: a row joins at step T - length.
    lengths = batch.lengths
    falling = bool((lengths[1:] <= lengths[:-1]).all())
    if rows and (not falling or int(lengths[0]) > steps or int(lengths[-1]) < 0):
        raise ShapeError(f"batch.lengths must fall from at most steps={steps} to at least 0")
    expected = np.zeros(steps + 1, np.int64)
    joins = np.bincount(steps - lengths, minlength=steps + 1)[:steps]
    np.cumsum(np.cumsum(joins), out=expected[1:])
    if not np.array_equal(expected, batch.step_offsets):
        raise ShapeError("batch.step_offsets does not fit batch.lengths")
    last_join = steps - int(lengths[-1]) if rows else 0
    if batch.padding_steps not in (0, last_join):
        raise ShapeError(
            f"batch.padding_steps={batch.padding_steps} is neither 0 nor the last join step, "
            f"{last_join}"
        )
    positions, total, words = batch.positions, batch.total_positions, len(batch.words)
    check_array("batch.words", batch.words, (None,), np.int32)
    check_array("batch.index", batch.index, (total,), np.int32)
    check_array("batch.occurrences", batch.occurrences, (total,), np.int32)
    check_array("batch.occurrence_offsets", batch.occurrence_offsets, (words + 1,), np.int32)
    check_range("batch.index", batch.index, words)
    if (batch.index[positions:] != batch.index[positions : positions + 1]).any():
        raise ShapeError("batch.index must name one and the same word at all padding steps")
    counts = np.bincount(batch.index, minlength=words)
    if not (
        np.array_equal(batch.occurrences, np.argsort(batch.index, kind="stable"))
        and batch.occurrence_offsets[0] == 0
        and np.array_equal(batch.occurrence_offsets[1:], np.cumsum(counts))
    ):
        raise ShapeError("batch.occurrences and occurrence_offsets do not fit batch.index")
