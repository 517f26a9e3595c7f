"""What ``sequence`` computes, in NumPy float64 and one text at a time: the specification.

States are [N + P, F], a row for each position of a packed batch.
"""

from __future__ import annotations

import numpy as np

from tidegate.batch import PackedBatch
from tidegate.reference import AnyFloats, Float64, Integers


def positions_of(batch: PackedBatch, row: int) -> list[int]:
    """Where packed row ``row`` stands at each step: before it joins, on the padding row if any."""
    join = batch.steps - int(batch.lengths[row])
    padding = [batch.positions + step for step in range(join)] if batch.padding_steps else []
    return padding + [int(batch.step_offsets[step]) + row for step in range(join, batch.steps)]


def position_rows(batch: PackedBatch) -> Integers:
    """[N] the packed row of each text position."""
    rows = np.empty(batch.positions, np.int32)
    for row in range(batch.batch_size):
        rows[positions_of(batch, row)] = row
    return rows


def reverse(batch: PackedBatch) -> Integers:
    """[N] the position of each word when every text is read from its end. Without padding."""
    reversal = np.empty(batch.positions, np.int32)
    for row in range(batch.batch_size):
        places = positions_of(batch, row)
        reversal[places] = places[::-1]
    return reversal


def pool_states(
    pooling: str, batch: PackedBatch, states: AnyFloats
) -> tuple[Float64, Integers | None]:
    """[B, F] the largest or mean state of each row; the positions of the largest, or None."""
    pooled = np.zeros((batch.batch_size, states.shape[1]))
    chosen = np.full(pooled.shape, -1)
    for row in range(batch.batch_size):
        places = positions_of(batch, row)
        if places and pooling == "max":
            pooled[row] = states[places].max(axis=0)
            chosen[row] = np.array(places)[states[places].argmax(axis=0)]
        elif places:
            pooled[row] = states[places].astype(np.float64).mean(axis=0)
    return pooled, chosen if pooling == "max" else None


def pool_states_backward(
    pooling: str, batch: PackedBatch, d_pooled: AnyFloats, chosen: Integers | None
) -> Float64:
    """The gradient of all states, [N + P, F]."""
    d_states = np.zeros((batch.total_positions, d_pooled.shape[1]))
    for row in range(batch.batch_size):
        places = positions_of(batch, row)
        if chosen is not None and places:
            for column, place in enumerate(chosen[row]):
                d_states[place, column] += d_pooled[row, column]
        else:
            for place in places:
                d_states[place] += d_pooled[row] / len(places)
    return d_states


def attend(batch: PackedBatch, states: AnyFloats, scores: AnyFloats) -> tuple[Float64, Float64]:
    """[B, F] each row's states, weighted by the softmax [N] of their scores."""
    pooled, weights = np.zeros((batch.batch_size, states.shape[1])), np.zeros(len(scores))
    for row in range(batch.batch_size):
        places = positions_of(batch, row)
        if places:
            shares = np.exp(scores[places].astype(np.float64) - scores[places].max())
            weights[places] = shares / shares.sum()
            pooled[row] = weights[places] @ states[places]
    return pooled, weights


def attend_backward(
    batch: PackedBatch, states: AnyFloats, weights: AnyFloats, d_pooled: AnyFloats
) -> tuple[Float64, Float64]:
    """Gradients of the scores [N] and of the states [N, F]."""
    d_scores, d_states = np.zeros(len(weights)), np.zeros(states.shape)
    for row in range(batch.batch_size):
        places = positions_of(batch, row)
        d_weights = states[places].astype(np.float64) @ d_pooled[row]
        d_scores[places] = weights[places] * (d_weights - weights[places] @ d_weights)
        d_states[places] = np.outer(weights[places], d_pooled[row])
    return d_scores, d_states


def layer_norm(x: AnyFloats, gain: AnyFloats, bias: AnyFloats, epsilon: float) -> Float64:
    """Each row of x [n, F] with mean 0 and variance 1, times gain [F], plus bias [F]."""
    wide = x.astype(np.float64)
    centred = wide - wide.mean(axis=1, keepdims=True)
    deviation = np.sqrt((centred * centred).mean(axis=1, keepdims=True) + epsilon)
    result: Float64 = centred / deviation * gain + bias
    return result


def layer_norm_backward(
    x: AnyFloats, gain: AnyFloats, epsilon: float, d_out: AnyFloats
) -> tuple[Float64, Float64, Float64]:
    """Gradients of x, gain and bias."""
    normal = layer_norm(x, np.ones(x.shape[1]), np.zeros(x.shape[1]), epsilon)
    deviation = np.sqrt(x.astype(np.float64).var(axis=1, keepdims=True) + epsilon)
    d_normal = d_out.astype(np.float64) * gain
    means = d_normal.mean(axis=1, keepdims=True)
    overlap = (d_normal * normal).mean(axis=1, keepdims=True)
    return (
        (d_normal - means - normal * overlap) / deviation,
        (d_out * normal).sum(axis=0),
        d_out.astype(np.float64).sum(axis=0),
    )
