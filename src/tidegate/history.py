"""A training's epochs: a list of their results that can be drawn, and shown as a table."""

from __future__ import annotations

import html
import math
from typing import TYPE_CHECKING, Any

from tidegate.errors import MissingPackageError, unknown_choice
from tidegate.records import EpochResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MEASURES = ("loss", "accuracy")

_SHOWN = 50  # epochs in a table: the first half of them and the last one


class History(list[EpochResult]):
    """The results of epochs, in their order. It is a list, and equal to one of the same results."""

    def plot(self, measure: str = "loss", *, axes: Axes | None = None) -> Axes:
        """Draw a measure by epoch, of training and validation, and return matplotlib's Axes.

        measure: "loss" or "accuracy". axes: what to draw on, None for a new figure. ConfigError
        for another measure, MissingPackageError (an ImportError, too) without matplotlib.
        """
        if not isinstance(measure, str) or measure not in MEASURES:
            raise unknown_choice("measure", measure, MEASURES)
        try:
            from matplotlib import pyplot
            from matplotlib.ticker import MaxNLocator
        except ImportError as error:
            raise MissingPackageError(
                f"matplotlib can't be imported ({error}); pip install 'tidegate[plot]'"
            ) from error
        if axes is None:
            _, axes = pyplot.subplots()
        for name, field in (("training", measure), ("validation", f"val_{measure}")):
            points = [
                (result.epoch, getattr(result, field))
                for result in self
                if getattr(result, field) is not None
            ]
            if points:
                axes.plot(*zip(*points, strict=True), marker=".", label=name)
        axes.set_xlabel("epoch")
        axes.set_ylabel(measure)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if self:
            axes.legend()
        return axes

    def _repr_html_(self) -> str:
        """What a notebook shows: a row for each epoch, or for the first and last of many."""
        columns = ["epoch", "seconds", "loss", "accuracy"]
        if any(result.val_loss is not None for result in self):
            columns += ["val_loss", "val_accuracy"]
        left_out = len(self) - _SHOWN
        rows = [_row(result, columns) for result in self]
        if left_out > 0:
            gap = f'<tr><td colspan="{len(columns)}">{left_out:,} more</td></tr>'
            rows[_SHOWN // 2 : -_SHOWN // 2] = [gap]
        head = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _row(result: EpochResult, columns: list[str]) -> str:
    cells = (_cell(name, getattr(result, name)) for name in columns)
    return f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in cells)}</tr>"


def _cell(name: str, value: Any) -> str:
    if name == "epoch":
        return f"{value}"
    if value is None or math.isnan(value):  # model files have no seconds
        return "–"
    return f"{value:.1f}" if name == "seconds" else f"{value:.4f}"
