"""How a comparison's numbers and names are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tidegate.compare.charts import power_of_ten

Report = Mapping[str, Any]


def percent(share: float) -> str:
    """``86.04 %``."""
    return f"{100.0 * share:.2f} %"


def points(difference: float) -> str:
    """``+0.52``, in percentage points."""
    return f"{100.0 * difference:+.2f}"


def p_value(p: float) -> str:
    """``0.0312`` or ``< 0.0001``."""
    return "< 0.0001" if p < 0.0001 else f"{p:.4f}"


def share(value: float) -> str:
    """``0.23`` or ``3·10⁻⁹``."""
    if value >= 0.0005 or value == 0.0:
        return f"{value:.2g}"
    digit, exponent = f"{value:.0e}".split("e")
    return f"{digit}·{power_of_ten(int(exponent))}"


def seconds(value: float) -> str:
    """``0.53 s`` or ``12.4 s``."""
    return f"{value:.2f} s" if value < 10 else f"{value:.1f} s"


def megabytes(size: int) -> str:
    """``5.6 MB``, of 10^6 bytes; below 0.1 of them ``32.8 kB``."""
    return f"{size / 1e6:,.1f} MB" if size >= 100_000 else f"{size / 1e3:,.1f} kB"


def duration(value: float) -> str:
    """``48 s``, ``2 min 25 s`` or ``1 h 3 min``."""
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    minutes, left = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {left} s"
    return f"{minutes // 60} h {minutes % 60} min"


def interval(found: Sequence[float]) -> str:
    """``85.86 to 86.72``."""
    return f"{100.0 * found[0]:.2f} to {100.0 * found[1]:.2f}"


def sound(report: Report) -> list[Mapping[str, Any]]:
    """The rows of models that were trained."""
    return [row for row in report["models"] if row["failure"] is None]


def label(report: Report, model: str) -> str:
    """A model's name in words."""
    return str(next(row["label"] for row in report["models"] if row["model"] == model))
