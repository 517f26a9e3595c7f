"""``tidegate info``."""

from __future__ import annotations

from tidegate.cli import options


def info(model: options.Model, as_json: options.Json = False) -> None:
    """Print what a model file holds.

    \b
    Example:
      tidegate info model.safetensors
    """
