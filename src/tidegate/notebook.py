"""What a notebook shows of a classifier or an encoder. All of it is escaped and in the page."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tidegate.history import History
from tidegate.model import TextModel

_MOST_LABELS = 20
_MOST_CHARACTERS = 200


def card(
    title: str, arguments: Mapping[str, Any], facts: Mapping[str, str], history: History | None
) -> str:
    """HTML of a name, arguments (by repr) and facts, and the table of a training's epochs."""
    rows = [(name, repr(value)) for name, value in arguments.items()] + list(facts.items())
    table = "".join(
        f"<tr><th>{_safe(name)}</th><td>{_safe(value)}</td></tr>" for name, value in rows
    )
    parts = [f"<strong>{_safe(title)}</strong>"]
    if rows:
        parts.append(f"<table><tbody>{table}</tbody></table>")
    if history:
        parts.append(history._repr_html_())
    # The class keeps notebooks from reading formulas into what stands between two dollar signs.
    return f'<div class="tex2jax_ignore">{"".join(parts)}</div>'


def trained_facts(model: TextModel, classes: npt.NDArray[Any]) -> dict[str, str]:
    """Labels and size of a trained model, in words."""
    labels = [repr(label) for label in classes[:_MOST_LABELS].tolist()]
    more = f" and {len(classes) - _MOST_LABELS:,} more" if len(classes) > _MOST_LABELS else ""
    weights = sum(int(np.prod(value.shape)) for value in model.parameters.values())
    return {
        "labels": ", ".join(labels) + more,
        "size": f"{weights:,} weights, {4 * weights / 1e6:,.1f} MB",
        "precision": model.precision,
    }


def _safe(text: str) -> str:
    """The text as HTML, its middle left out if it is long."""
    if len(text) > _MOST_CHARACTERS:
        text = f"{text[: _MOST_CHARACTERS - 40]} … {text[-37:]}"
    return html.escape(text)
