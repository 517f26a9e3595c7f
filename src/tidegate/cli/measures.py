"""A model's scores as lines for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tidegate.cli import terminal

if TYPE_CHECKING:
    from tidegate.report import Report

# More of them are no short table any more; --report has them all.
_MOST_CLASSES = 20
_MOST_CONFUSED = 10
_MOST_CHARACTERS = 24  # of a label


def lines(report: Report) -> list[str]:
    """The short table: all scores, the classes' own, and what is taken for what."""
    low, high = report.accuracy_interval
    auc = "none" if report.auc is None else f"{report.auc:.4f}"
    shown = [
        f"accuracy {report.accuracy:.4f}  loss {report.loss:.4f}  "
        f"({report.texts:,} texts, {report.seconds:.1f} s)",
        f"95 % interval of the accuracy {low:.4f} to {high:.4f}",
        f"f1 macro {report.f1_macro:.4f}  f1 micro {report.f1_micro:.4f}  auc {auc}  "
        f"calibration error {report.calibration_error:.4f}",
    ]
    names = [_name(one.label) for one in report.classes]
    if len(names) > _MOST_CLASSES:
        return [*shown, f"{len(names)} classes; --report FILE writes the scores of each"]
    rows = [
        (
            name,
            f"{one.texts:,}",
            *(f"{value:.4f}" for value in (one.precision, one.recall, one.f1)),
        )
        for name, one in zip(names, report.classes, strict=True)
    ]
    shown += _table([("label", "texts", "precision", "recall", "f1"), *rows])
    if report.confusion is not None and len(names) <= _MOST_CONFUSED:
        counts = [
            (name, *(f"{count:,}" for count in row))
            for name, row in zip(names, report.confusion, strict=True)
        ]
        shown += _table([("true / predicted", *names), *counts])
    return shown


def _name(label: object) -> str:
    name = terminal.field(terminal.label_text(label))
    return name if len(name) <= _MOST_CHARACTERS else name[: _MOST_CHARACTERS - 3] + "..."


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Columns of one width each: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
