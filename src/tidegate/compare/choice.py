"""Which model to take: the cheapest that is good enough. Test texts have no say in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tidegate.compare.significance import Right, compare_pairs, holm
from tidegate.intervals import wilson

LEVEL = 0.05


def choose(
    right: Mapping[str, Sequence[Right]],
    costs: Mapping[str, float],
    *,
    shared: bool,
    margin: float,
) -> dict[str, Any] | None:
    """The choice as JSON values; None if there is no model to choose.

    right: of each model and seed [validation texts]. costs: of each model. shared: whether seeds
    have the same validation texts. Good enough is what is not significantly worse than the model
    with the greatest accuracy, by the paired test after Holm's correction, and not worse by more
    than the margin or, where that is more, the uncertainty of that accuracy. Of several, the one
    with the least cost.
    """
    if not right:
        return None
    accuracy = {name: float(np.mean([row.mean() for row in rows])) for name, rows in right.items()}
    best = max(accuracy, key=lambda name: (accuracy[name], -costs[name]))
    uncertainty = _uncertainty(accuracy[best], min(len(row) for row in right[best]))
    allowed = max(margin, uncertainty)
    others = [name for name in right if name != best]
    tests = [compare_pairs(right[best], right[name], shared=shared) for name in others]
    adjusted = holm([test.p for test in tests])
    candidates: list[dict[str, Any]] = [
        {
            "model": best,
            "accuracy": accuracy[best],
            "behind": 0.0,
            "p_holm": None,
            "cost": costs[best],
            "good_enough": True,
        }
    ]
    for name, test, p in zip(others, tests, adjusted, strict=True):
        behind = accuracy[best] - accuracy[name]
        candidates.append(
            {
                "model": name,
                "accuracy": accuracy[name],
                "behind": behind,
                "p_holm": p,
                "method": test.method,
                "cost": costs[name],
                "good_enough": behind <= allowed and (p >= LEVEL or test.difference <= 0.0),
            }
        )
    chosen = min(
        (one for one in candidates if one["good_enough"]),
        key=lambda one: (one["cost"], -one["accuracy"]),
    )
    return {
        "by": "validation",
        "level": LEVEL,
        "margin": margin,
        "uncertainty": uncertainty,
        "best": best,
        "chosen": chosen["model"],
        "candidates": candidates,
    }


def _uncertainty(accuracy: float, texts: int) -> float:
    """Half of the 95 % interval of an accuracy on so many texts, those of one seed.

    By the texts alone. An interval over seeds, too, would be so wide with two of them that a model
    that is plainly worse would pass for good enough.
    """
    low, high = wilson(round(accuracy * texts), texts)
    return (high - low) / 2.0
