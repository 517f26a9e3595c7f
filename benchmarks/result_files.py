"""The files of benchmarks/results, and how their numbers are shown in documents."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from machine import ROOT

FIGURES = ROOT / "docs" / "figures"
RESULTS = ROOT / "benchmarks" / "results"
CELLS = {"gru": "GRU", "lstm": "LSTM", "rnn": "plain RNN"}
SIDES = {
    "tidegate_bfloat16": "tidegate, bfloat16",
    "tidegate": "tidegate, float32",
    "tidegate_plain": "tidegate, no work saved",
    "keras": "Keras, TensorFlow",
    "jax": "JAX",
    "torch": "PyTorch",
}
VARIANTS = {
    "both": ("yes", "yes"),
    "words": ("yes", "no"),
    "padding": ("no", "yes"),
    "neither": ("no", "no"),
}
TEXTS = {"imdb": "IMDB's", "uniform": "uniform"}
AXES = {
    "hidden": "hidden size",
    "length": "tokens in a text",
    "batch": "texts in a batch",
    "vocabulary": "vocabulary",
    "texts": "texts",
}


class Results:
    """The result files of a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.missing: dict[str, None] = {}

    def get(self, name: str) -> dict[str, Any] | None:
        """A file's contents, or None if it is not there."""
        path = self._folder / name
        if not path.exists():
            self.missing[name] = None
            return None
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found

    def by_cell(self, name: str) -> dict[str, dict[str, Any]]:
        """The files of all cells that were measured; name: "scoring_{}.json"."""
        found = {cell: self.get(name.format(cell)) for cell in CELLS}
        return {cell: result for cell, result in found.items() if result is not None}


Result = dict[str, Any]
Table = Callable[[Results], str]


def of(name: str) -> Callable[[Callable[[Result], str]], Table]:
    """Decorates what is made of one result file alone: nothing where that is not there."""

    def decorate(make: Callable[[Result], str]) -> Table:
        def made(results: Results) -> str:
            found = results.get(name)
            return "" if found is None else make(found)

        return made

    return decorate


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; empty if there are no rows."""
    lines = [list(row) for row in rows]
    if not lines:
        return ""
    rule = [
        "---" if any(cell and not cell[0].isdigit() for cell in column) else "---:"
        for column in zip(*lines, strict=True)
    ]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (head, rule, *lines))


def digits(value: float) -> str:
    """Three significant digits, without an exponent."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def spread(found: dict[str, float], keys: Sequence[str], shown: Callable[[float], str]) -> str:
    """A middle value, and between which others the rest lies; keys: of the three."""
    middle, least, most = (shown(found[key]) for key in keys)
    return f"{middle} ({least} to {most})"


def between(found: dict[str, float]) -> str:
    """A median, and between which values the runs lay."""
    return spread(found, ("median", "min", "max"), digits)


def times(found: dict[str, float] | None) -> str:
    return "" if found is None else f"{between(found)} ×"


def ratios(
    found: dict[str, Any], side: str, own: Sequence[str] = ("tidegate", "tidegate_bfloat16")
) -> list[str]:
    """A side's time as a multiple of each of our own sides'; empty where it was not compared."""
    return [times(found.get(each, {}).get(side)) for each in own]


def load_average(found: Result) -> str:
    """How many processes were at work when the measurement began."""
    return ", ".join(map(str, found["machine"].get("load_average", []))) or "unknown"


def made_by(found: Result) -> str:
    """Which commit was measured, and when."""
    return f"commit {found['versions']['commit']}, {found['date'][:10]}"
