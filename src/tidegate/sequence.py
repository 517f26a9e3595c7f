"""What a model does with all states of a packed batch, one checked function for each kernel.

Arrays of states are [N + P, F]: a row for each position of the batch (see ``batch.PackedBatch``),
the padding row's behind the texts'. Each function computes what the one of the same name in
``reference_sequence`` states, in float32, with the same bits for any number of threads.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from tidegate import _kernels
from tidegate.batch import PackedBatch
from tidegate.checks import check_array, check_range
from tidegate.errors import ShapeError, unknown_choice

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]

Pooling = Literal["max", "mean"]
POOLINGS: tuple[Pooling, ...] = ("max", "mean")
_WEIGHTED = 2  # after these, in cpp/positions.h

NORM_EPSILON = 1e-5


def position_rows(batch: PackedBatch) -> Int32:
    """[N] which packed row each text position belongs to."""
    active = np.diff(batch.step_offsets)
    starts = np.repeat(batch.step_offsets[:-1], active)
    rows: Int32 = (np.arange(batch.positions) - starts).astype(np.int32)
    return rows


def reverse(batch: PackedBatch) -> tuple[PackedBatch, Int32]:
    """The batch with every text read from its end, and the position [N] of each word in the other.

    The same positions turn it back. ShapeError for a batch with padding, which would have to be
    read behind the texts.
    """
    if batch.padding_steps:
        raise ShapeError(
            f"a batch with {batch.padding_steps} padding steps can't be reversed; pack with "
            "masked=True"
        )
    reversal, index, occurrences = (np.empty(batch.positions, np.int32) for _ in range(3))
    _kernels.reverse_batch(
        batch.lengths,
        batch.step_offsets,
        batch.index,
        batch.occurrence_offsets,
        reversal,
        index,
        occurrences,
    )
    reversed_batch = replace(batch, index=index, occurrences=occurrences)
    object.__setattr__(reversed_batch, "checked", batch.checked)
    return reversed_batch, reversal


def permuted(batch: PackedBatch, positions: Int32) -> PackedBatch:
    """The batch as if each position were a word of its own, read in the order ``positions`` [N].

    So a layer reads states, one for each position, in another order. positions: its own inverse.
    """
    count = batch.positions
    check_array("positions", positions, (count,), np.int32)
    check_range("positions", positions, count)
    every = np.arange(count + 1, dtype=np.int32)
    if not np.array_equal(positions[positions], every[:-1]):
        raise ShapeError("positions must be its own inverse, as reverse gives it")
    changed = replace(
        batch,
        words=every[:-1],
        index=positions,
        occurrences=positions,
        occurrence_offsets=every,
    )
    object.__setattr__(changed, "checked", batch.checked)
    return changed


def copy_columns(
    source: Float32,
    out: Float32,
    *,
    width: int,
    source_column: int = 0,
    out_column: int = 0,
    rows: Int32 | None = None,
) -> None:
    """out[n, out_column + i] = source[rows[n], source_column + i] for each i below ``width``.

    source: [any, any]. out: [count, any]. rows: [count], or None for the same rows as in out.
    """
    check_array("source", source, (None, None))
    check_array("out", out, (None, None), written=True)
    if not (width >= 0 and 0 <= source_column <= source.shape[1] - width):
        raise ShapeError(f"source has no columns {source_column} to {source_column + width}")
    if not 0 <= out_column <= out.shape[1] - width:
        raise ShapeError(f"out has no columns {out_column} to {out_column + width}")
    if rows is None:
        check_array("source", source, (len(out), None))
    else:
        check_array("rows", rows, (len(out),), np.int32)
        check_range("rows", rows, len(source))
    _kernels.copy_columns(source, source_column, rows, out, out_column, width)


def scale_rows(values: Float32, rows: Int32, masks: Float32) -> None:
    """values[n] *= masks[rows[n]] in place. values: [count, F]. rows: [count]. masks: [any, F]."""
    check_array("values", values, (None, None), written=True)
    check_array("rows", rows, (len(values),), np.int32)
    check_array("masks", masks, (None, values.shape[1]))
    check_range("rows", rows, len(masks))
    _kernels.scale_rows(values, rows, masks)


def sum_words(values: Float32, batch: PackedBatch) -> Float32:
    """[W, F] sums of values [N + P, F] over each distinct word's positions."""
    check_array("values", values, (batch.total_positions, None))
    sums = np.empty((len(batch.words), values.shape[1]), np.float32)
    _kernels.sum_rows(values, batch.occurrences, batch.occurrence_offsets, sums)
    return sums


def pool_states(
    pooling: Pooling, batch: PackedBatch, states: Float32
) -> tuple[Float32, Int32 | None]:
    """[B, F] the largest or mean state of each packed row, and the positions of the largest.

    states: [N + P, F]. A row that is preceded by padding pools over the padding's states too. A
    row without a position has zeros. Positions: [B, F], -1 where there is none; None for "mean".
    """
    if pooling not in POOLINGS:
        raise unknown_choice("pooling", pooling, POOLINGS)
    check_array("states", states, (batch.total_positions, None))
    pooled = np.empty((batch.batch_size, states.shape[1]), np.float32)
    chosen = np.empty(pooled.shape, np.int32) if pooling == "max" else None
    _kernels.pool_states(
        POOLINGS.index(pooling),
        batch.lengths,
        batch.step_offsets,
        batch.padding_steps,
        states,
        None,
        pooled,
        chosen,
    )
    return pooled, chosen


def pool_states_backward(
    pooling: Pooling,
    batch: PackedBatch,
    d_pooled: Float32,
    chosen: Int32 | None,
    d_states: Float32,
) -> None:
    """Add the gradient of the pooled states [B, F] to that of all states, [N + P, F], in place."""
    if pooling not in POOLINGS:
        raise unknown_choice("pooling", pooling, POOLINGS)
    check_array("d_states", d_states, (batch.total_positions, None), written=True)
    check_array("d_pooled", d_pooled, (batch.batch_size, d_states.shape[1]))
    if pooling == "max":
        check_array("chosen", chosen, d_pooled.shape, np.int32)
    if chosen is not None and chosen.size:
        least, most = int(chosen.min()), int(chosen.max())
        if not -1 <= least <= most < len(d_states):
            raise ShapeError(
                f"chosen runs from {least} to {most}; it must lie in -1..{len(d_states) - 1}"
            )
    _kernels.pool_states_backward(
        POOLINGS.index(pooling),
        batch.lengths,
        batch.step_offsets,
        batch.padding_steps,
        d_pooled,
        None,
        None,
        chosen,
        d_states,
        None,
    )


def _check_unpadded(batch: PackedBatch) -> None:
    if batch.padding_steps:
        raise ShapeError(
            f"a batch with {batch.padding_steps} padding steps has no attention; pack with "
            "masked=True"
        )


def attend(batch: PackedBatch, states: Float32, scores: Float32) -> tuple[Float32, Float32]:
    """[B, F] each row's mean state, weighted by the softmax of its scores; and these weights [N].

    states: [N, F]. scores: [N]. A row without a position has zeros.
    """
    _check_unpadded(batch)
    check_array("states", states, (batch.positions, None))
    check_array("scores", scores, (batch.positions,))
    weights = np.empty_like(scores)
    _kernels.softmax_texts(batch.lengths, batch.step_offsets, scores, weights)
    pooled = np.empty((batch.batch_size, states.shape[1]), np.float32)
    _kernels.pool_states(
        _WEIGHTED, batch.lengths, batch.step_offsets, 0, states, weights, pooled, None
    )
    return pooled, weights


def attend_backward(
    batch: PackedBatch, states: Float32, weights: Float32, d_pooled: Float32, d_states: Float32
) -> Float32:
    """The scores' gradient [N]; the states' [N, F] is added to ``d_states`` in place."""
    _check_unpadded(batch)
    check_array("states", states, (batch.positions, None))
    check_array("weights", weights, (batch.positions,))
    check_array("d_pooled", d_pooled, (batch.batch_size, states.shape[1]))
    check_array("d_states", d_states, states.shape, written=True)
    d_weights, d_scores = np.empty_like(weights), np.empty_like(weights)
    _kernels.pool_states_backward(
        _WEIGHTED,
        batch.lengths,
        batch.step_offsets,
        0,
        d_pooled,
        states,
        weights,
        None,
        d_states,
        d_weights,
    )
    _kernels.softmax_texts_backward(batch.lengths, batch.step_offsets, weights, d_weights, d_scores)
    return d_scores


def layer_norm(x: Float32, gain: Float32, bias: Float32) -> tuple[Float32, tuple[Float32, Float32]]:
    """(x - mean) / sqrt(variance + 1e-5) * gain + bias for each row of x [count, F].

    gain, bias: [F]. Also returns the means and inverse deviations [count], for the way back.
    Source: Ba, Kiros & Hinton 2016.
    """
    check_array("x", x, (None, None))
    check_array("gain", gain, (x.shape[1],))
    check_array("bias", bias, (x.shape[1],))
    if not x.shape[1]:
        raise ShapeError("x has no columns; layer_norm needs at least one")
    out, mean, inverse = np.empty_like(x), *(np.empty(len(x), np.float32) for _ in range(2))
    _kernels.layer_norm(x, gain, bias, NORM_EPSILON, out, mean, inverse)
    return out, (mean, inverse)


def layer_norm_backward(
    x: Float32, gain: Float32, statistics: tuple[Float32, Float32], d_out: Float32
) -> tuple[Float32, Float32, Float32]:
    """Gradients of x, gain and bias, given the output's [count, F]."""
    mean, inverse = statistics
    check_array("x", x, (None, None))
    check_array("gain", gain, (x.shape[1],))
    check_array("mean", mean, (len(x),))
    check_array("inverse", inverse, (len(x),))
    check_array("d_out", d_out, x.shape)
    d_x, d_gain, d_bias = np.empty_like(x), np.empty_like(gain), np.empty_like(gain)
    _kernels.layer_norm_backward(x, gain, mean, inverse, d_out, d_x, d_gain, d_bias)
    return d_x, d_gain, d_bias
