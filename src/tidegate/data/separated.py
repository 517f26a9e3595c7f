"""Several labels in one cell, with a mark between them."""

from __future__ import annotations

from collections.abc import Sequence

from tidegate.errors import ConfigError


def check_separator(separator: str | None) -> None:
    """ConfigError unless it is None or a mark that can stand between labels."""
    if separator is None:
        return
    if not isinstance(separator, str):
        raise ConfigError(f"label_separator={separator!r} is no text; give a mark such as ';'")
    if not separator.strip():
        raise ConfigError(
            f"label_separator={separator!r} is blank, and blanks around labels do not count; give "
            "a mark such as ';'"
        )


def split_cell(cell: str, separator: str) -> list[str]:
    """The labels of a cell in their order, without blanks around them, each once; maybe none."""
    parts = (part.strip() for part in cell.split(separator))
    return list(dict.fromkeys(part for part in parts if part))


def split_labels(cells: Sequence[str], separator: str) -> list[list[str]]:
    """The labels of each cell."""
    return [split_cell(cell, separator) for cell in cells]


def check_separated(cells: Sequence[str], separator: str) -> None:
    """ConfigError if no cell of a training has the mark: another one may stand there."""
    if any(separator in cell for cell in cells):
        return
    example = next((cell for cell in cells if cell), "")
    raise ConfigError(
        f"label_separator={separator!r} stands in none of the labels, such as {example!r}; give "
        "the mark that stands between several, or leave it out"
    )
