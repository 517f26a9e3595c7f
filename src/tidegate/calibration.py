"""Probabilities that come true as often as they say: one factor for all of a model's logits."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

LEAST, MOST = 0.01, 100.0
_STEPS = 100


def fit_factor(
    logits: npt.NDArray[np.floating[Any]], targets: npt.NDArray[np.integer[Any]]
) -> float:
    """The factor, between LEAST and MOST, with which the logits have the least mean loss.

    logits: [n, L]; one logit is that of class 1 of two. targets: [n] class numbers, or [n, L] of 0
    and 1. As if one text more stood for 1, so that few texts decide little. It changes no order of
    classes. 1 divided by it is the temperature. Convex; Newton's method in float64, fenced in.
    Source: Guo et al. 2017.
    """
    if not len(targets):
        return 1.0
    if targets.ndim == 2:  # each label is a question of its own
        logits, targets = logits.reshape(-1, 1), targets.ravel()
    scores = logits.astype(np.float64)
    if scores.shape[1] == 1:
        scores = np.concatenate([np.zeros_like(scores), scores], axis=1)
    wanted = float(scores[np.arange(len(targets)), targets].sum())
    low, high, factor = LEAST, MOST, 1.0
    for _ in range(_STEPS):
        shares = np.exp(factor * (scores - scores.max(axis=1, keepdims=True)))
        shares /= shares.sum(axis=1, keepdims=True)
        means = (scores * shares).sum(axis=1, keepdims=True)
        slope = float(means.sum()) - wanted + (factor - 1.0)
        curvature = float((np.square(scores - means) * shares).sum()) + 1.0
        low, high = (low, factor) if slope > 0.0 else (factor, high)
        moved = factor - slope / curvature
        if not low < moved < high:
            moved = 0.5 * (low + high)
        if abs(moved - factor) < 1e-12 * factor:
            break
        factor = moved
    return factor
