"""GRU, LSTM, plain RNN and a linear model on one's own texts, measured alike.

from tidegate.compare import compare

comparison = compare(texts, labels, seeds=3)
print(comparison.to_markdown())
"""

from __future__ import annotations

from tidegate.compare.comparing import (
    Comparison,
    Done,
    Going,
    Probing,
    Turn,
    compare,
    compare_steps,
)
from tidegate.compare.plan import DEFAULT_MODELS, MODELS, Part, Parts, Plan, hold_out

__all__ = [
    "DEFAULT_MODELS",
    "MODELS",
    "Comparison",
    "Done",
    "Going",
    "Part",
    "Parts",
    "Plan",
    "Probing",
    "Turn",
    "compare",
    "compare_steps",
    "hold_out",
]
