"""Why a plain RNN forgets: how much of the loss's gradient is left, step by step from the end.

What a network learns of a word far back, it learns from the gradient of the loss with respect to
the state after that word. Each step back multiplies it by the step's Jacobian. A plain RNN's
shrinks it nearly every time; a gate that stays open hands it on.

The states' gradients are those of the topmost recurrent layer's forward direction: the kernels
compute everything above it, and ``reference`` takes that back through time in float64, because a
gradient that has faded for hundreds of steps is below float32's smallest number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tidegate import reference
from tidegate.batch import TokenizedTexts
from tidegate.layers import Bidirectional, Chain, Inputs, Recurrent, StatesGradient
from tidegate.model import TextModel
from tidegate.noise import SILENT
from tidegate.sequence import position_rows

Float64 = npt.NDArray[np.float64]

TEXTS = 256
_DENSE = 10  # distances below it are all shown, and about so many times four beyond
_NUMBERS_TOGETHER = 1 << 22  # positions times columns of gates that are held at once


@dataclass(frozen=True)
class Fading:
    """The gradient's norms over the distance from the end.

    distances: [D] steps from the last one. mean_norm: [D] mean over the texts of the norm of each
    text's own loss's gradient. median, low, high: [D] of the norm as a share of the same text's
    last one, the median over the texts and the 10 % and 90 % quantiles. texts: how many.
    """

    texts: int
    distances: tuple[int, ...]
    mean_norm: tuple[float, ...]
    median: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


def longest_rows(lengths: npt.NDArray[np.int64], count: int = TEXTS) -> npt.NDArray[np.int64]:
    """The rows of the ``count`` longest texts, of equals the first ones."""
    return np.argsort(-lengths, kind="stable")[:count]


def fading(model: TextModel, texts: TokenizedTexts, targets: npt.NDArray[np.int32]) -> Fading:
    """How the gradient of each text's loss fades. texts: best of nearly one length.

    Distances reach as far as at least half of the texts do. targets: those of ``TextModel.loss``.
    """
    norms = state_gradient_norms(model, texts, targets)
    there = ~np.isnan(norms)
    reach = int(np.count_nonzero(there.sum(axis=0) * 2 >= max(1, len(norms))))
    distances = shown_distances(reach)
    shares = norms / norms[:, :1]
    quantiles = [np.nanquantile(shares[:, d], (0.1, 0.5, 0.9)).tolist() for d in distances]
    return Fading(
        texts=len(norms),
        distances=tuple(distances),
        mean_norm=tuple(float(np.nanmean(norms[:, d])) for d in distances),
        low=tuple(q[0] for q in quantiles),
        median=tuple(q[1] for q in quantiles),
        high=tuple(q[2] for q in quantiles),
    )


def shown_distances(reach: int) -> list[int]:
    """Each of the nearest, then every so many, and the last one."""
    every = max(1, (reach - _DENSE) // (4 * _DENSE))
    chosen = [*range(min(_DENSE, reach)), *range(_DENSE, reach, every)]
    return chosen if not reach or chosen[-1] == reach - 1 else [*chosen, reach - 1]


def state_gradient_norms(
    model: TextModel, texts: TokenizedTexts, targets: npt.NDArray[np.int32]
) -> Float64:
    """[texts, longest] the norm of d loss / d h by distance from the end, NaN where no text is.

    Texts of which the loss has no gradient in float32 any more are left out.
    """
    longest = int(min(texts.lengths.max(initial=0), model.config.max_length))
    if model.config.reads_padding:
        longest = model.config.max_length
    columns = len(reference.gates_of(model.config.kind)) * model.config.hidden_size
    together = max(1, _NUMBERS_TOGETHER // max(1, longest * columns))
    norms = np.full((len(texts), longest), np.nan)
    for start in range(0, len(texts), together):
        rows = np.arange(start, min(start + together, len(texts)))
        _fill(model, texts, targets, rows, norms)
    norms = norms[:, : max(1, longest)]
    return norms[norms[:, 0] > 0.0]


def _fill(
    model: TextModel,
    texts: TokenizedTexts,
    targets: npt.NDArray[np.int32],
    rows: npt.NDArray[np.int64],
    norms: Float64,
) -> None:
    """Put the norms of these texts into their rows of ``norms``."""
    batch = model.pack(texts, rows)
    top = _top_recurrent(model.layers)
    inputs: Inputs = Chain(*model.layers[:top])(batch)[0]
    states, _ = model.layers[top](inputs, SILENT)
    logits, backward = Chain(*model.layers[top + 1 :])(states)
    _, d_logits, _ = model.loss(logits, targets[rows[batch.rows]])
    # The loss is the mean over the batch; each text's own is wanted.
    d_states: StatesGradient = backward(d_logits * np.float32(len(rows)), None)
    hidden = model.config.hidden_size
    d_last = np.zeros((len(rows), hidden)) if d_states.last is None else d_states.last[:, :hidden]
    d_outputs = None if d_states.outputs is None else d_states.outputs[:, :hidden]
    kind = model.config.kind
    weights = model.recurrent_weights(model.config.recurrent_names[-1][0])
    _, _, tape = reference.recurrent_forward(
        kind, batch, inputs.values, weights, dense=inputs.dense
    )
    of_states = np.empty((batch.total_positions, hidden))
    reference.recurrent_backward(kind, tape, d_last, d_outputs, of_states)
    steps = np.repeat(np.arange(batch.steps), np.diff(batch.step_offsets))
    lengths = np.linalg.norm(of_states[: batch.positions], axis=1)
    norms[rows[batch.rows][position_rows(batch)], batch.steps - 1 - steps] = lengths


def _top_recurrent(layers: Sequence[Any]) -> int:
    return max(i for i, layer in enumerate(layers) if isinstance(layer, (Recurrent, Bidirectional)))
