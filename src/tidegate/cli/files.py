"""The files that commands write: checked before the work begins, written whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate import atomic
from tidegate.errors import ConfigError, OutputExistsError

if TYPE_CHECKING:
    from tidegate.metrics import Evaluation


def check_new(path: Path, *, force: bool, mend: str) -> None:
    """Raise OutputExistsError if a file is there, unless ``force``.

    Folders and devices are not for here: no option lets them be replaced.
    """
    if not force and os.path.lexists(path) and (path.is_file() or not path.exists()):
        raise OutputExistsError(f"{str(path)!r} is there already; {mend}")


def check_distinct(paths: Mapping[str, Path | None]) -> None:
    """Raise ConfigError if two of the named paths are one file; None is no file."""
    seen: dict[str, str] = {}
    for name, path in paths.items():
        if path is None:
            continue
        real = os.path.normcase(os.path.realpath(path))
        if real in seen:
            raise ConfigError(
                f"{seen[real]} and {name} are the same file, {str(path)!r}; give each its own"
            )
        seen[real] = name


def check_writable(*paths: Path | None) -> None:
    """Raise OutputError for one that can't be written; None is no file."""
    for path in paths:
        if path is not None:
            atomic.check_writable(path)


def write_report(path: Path, report: Mapping[str, Any]) -> None:
    """Write ``report`` as JSON for people and programs alike. Raises OutputError."""
    text = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    atomic.write(path, [text.encode()])


def machine(precision: str) -> dict[str, str | int]:
    """The machine's part of a report; precision: of the model that was computed with."""
    from tidegate import ops

    isa = ops.isa(ops.choose_precision(precision))
    return {"isa": isa, "threads": ops.threads(), "precision": precision}


def measured(result: Evaluation) -> dict[str, float]:
    """An evaluation's part of a report."""
    return {"loss": result.loss, "accuracy": result.accuracy, "seconds": result.seconds}


def describe(name: str, size: int, sha256: str) -> str:
    """``model.safetensors  5.4 MB  sha256 ...``; size: bytes."""
    shown = f"{size / 1e6:,.1f} MB" if size >= 100_000 else f"{size / 1e3:,.1f} kB"
    return f"{name}  {shown}  sha256 {sha256}"
