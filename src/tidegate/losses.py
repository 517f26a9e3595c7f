"""The loss where texts weigh differently, or have several labels or smoothed ones; else: ops."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tidegate.checks import check_array, check_range
from tidegate.errors import ShapeError

Float32 = npt.NDArray[np.float32]


def weighted_loss(
    logits: Float32,
    targets: npt.NDArray[np.int32],
    weights: Float32 | None,
    smoothing: float,
) -> tuple[float, Float32, int]:
    """Mean over the rows of weight * cross-entropy in nats, in float64.

    logits: [B, L]; one logit is that of class 1 of two. targets: [B] class numbers. weights: [B],
    or None for 1. smoothing: the share of each target that is spread over all classes evenly.
    Returns the loss, its gradient [B, L] and how many rows are right. ShapeError for no rows.
    Source: Szegedy et al. 2016.
    """
    check_array("logits", logits, (None, None))
    check_array("targets", targets, (len(logits),), np.int32)
    if not len(logits):
        raise ShapeError("targets is empty; a mean loss needs at least one row")
    scores = logits.astype(np.float64)
    if logits.shape[1] == 1:
        scores = np.concatenate([np.zeros_like(scores), scores], axis=1)
    classes = scores.shape[1]
    check_range("targets", targets, classes)
    wanted = np.full(scores.shape, smoothing / classes)
    wanted[np.arange(len(scores)), targets] += 1.0 - smoothing
    shifted = scores - scores.max(axis=1, keepdims=True)
    log_shares = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    row_weights = np.ones(len(scores)) if weights is None else weights.astype(np.float64)
    loss = float((row_weights * -(wanted * log_shares).sum(axis=1)).mean())
    d_scores = (np.exp(log_shares) - wanted) * (row_weights / len(scores))[:, None]
    d_logits = d_scores[:, 1:] if logits.shape[1] == 1 else d_scores
    correct = int(np.count_nonzero(scores.argmax(axis=1) == targets))
    return loss, np.ascontiguousarray(d_logits, dtype=np.float32), correct


def labels_loss(
    logits: Float32,
    targets: npt.NDArray[np.int32],
    weights: Float32 | None,
    smoothing: float,
) -> tuple[float, Float32, int]:
    """Mean over rows and labels of weight * binary cross-entropy in nats, in float64.

    logits: [B, L], each that of a label of its own. targets: [B, L] of 0 and 1. weights: [B], or
    None for 1. smoothing: the share of each target that is spread over yes and no evenly. Returns
    the loss, its gradient [B, L] and how many rows are right in each label. ShapeError for no rows.
    """
    check_array("logits", logits, (None, None))
    check_array("targets", targets, logits.shape, np.int32)
    if not len(logits):
        raise ShapeError("targets is empty; a mean loss needs at least one row")
    check_range("targets", targets, 2)
    scores = logits.astype(np.float64)
    wanted = targets * (1.0 - smoothing) + 0.5 * smoothing
    # Of the logistic function, without overflow: log(1 + exp(s)) - s * wanted.
    small = np.exp(-np.abs(scores))
    losses = np.maximum(scores, 0.0) + np.log1p(small) - scores * wanted
    shares = np.where(scores >= 0.0, 1.0, small) / (1.0 + small)
    row_weights = np.ones(len(scores)) if weights is None else weights.astype(np.float64)
    loss = float((row_weights[:, None] * losses).mean())
    d_logits = (shares - wanted) * (row_weights / scores.size)[:, None]
    correct = int(np.count_nonzero(((scores > 0.0) == targets).all(axis=1)))
    return loss, np.ascontiguousarray(d_logits, dtype=np.float32), correct
