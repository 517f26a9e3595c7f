"""Which format a file of texts has: what its name says, or what was asked for."""

from __future__ import annotations

import codecs
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tidegate.checks import check_path
from tidegate.errors import ConfigError, DataError, OutputError, unknown_choice

FORMATS = ("csv", "tsv", "jsonl", "parquet", "txt")
SUFFIXES: Final = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".txt": "txt",
}
READABLE = tuple(suffix for suffix in SUFFIXES if suffix != ".txt")
COMPRESSIONS: Final = {".gz": "gzip", ".zst": "zstd"}
DELIMITERS: Final = {"csv": ",", "tsv": "\t"}

STANDARD_INPUT = "-"


@dataclass(frozen=True)
class Source:
    """Where texts are read from, and how.

    path: None for standard input. format: one of FORMATS. compression: what the name promises,
    "gzip" or "zstd". encoding: None for UTF-8, or UTF-16 with a byte order mark. delimiter: what
    stands between the cells of CSV and TSV; None where the format or the first rows say it.
    """

    path: Path | None
    format: str
    compression: str | None = None
    encoding: str | None = None
    delimiter: str | None = None

    @property
    def name(self) -> str:
        """The source in words, for messages."""
        return "standard input" if self.path is None else str(self.path)

    @property
    def unit(self) -> str:
        """What a row's number counts: lines, or in Parquet rows."""
        return "row" if self.format == "parquet" else "line"

    def place(self, line: int) -> str:
        """Where a row begins, for messages: ``reviews.csv, line 7``."""
        return f"{self.name}, {self.unit} {line}"


@dataclass(frozen=True)
class Target:
    """The file that a table is written to; fields as in Source."""

    path: Path
    format: str
    compression: str | None = None

    def delimiter_after(self, source: Source) -> str:
        """What stands between the cells of this CSV or TSV: of CSV from CSV, what stood there."""
        kept = source.delimiter if self.format == source.format == "csv" else None
        return kept or DELIMITERS[self.format]


def source_of(
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
) -> Source:
    """The source at ``path``; "-" is standard input, whose ``format`` must be given.

    A given format counts more than the name. Raises DataError for a name that says no format, and
    ConfigError for a format, encoding or delimiter that can't be.
    """
    check_format(format)
    check_encoding(encoding)
    check_delimiter(delimiter)
    path = check_path("path", path)
    if str(path) == STANDARD_INPUT:
        if format is None:
            raise ConfigError(
                "standard input does not say its format: give format (--format), csv, tsv or jsonl"
            )
        if format == "parquet":
            raise ConfigError(
                "format='parquet' can't be read from standard input, for it is read from its end: "
                "give the path of a file"
            )
        _check_delimited(format, delimiter)
        return Source(None, format, None, encoding, delimiter)
    named, compression = _by_name(path)
    format = format or named
    if format is None:
        raise DataError(
            f"{str(path)!r} is not one of {', '.join(READABLE)} (or .txt, for texts without "
            "labels), each also with .gz or .zst; say what it is by format (--format), or save it "
            "as one of these"
        )
    if format == "parquet":
        if compression is not None:
            raise DataError(
                f"{path} is a compressed Parquet file, which can't be read in pieces: unpack it "
                "first (Parquet is compressed inside)"
            )
        if encoding is not None:
            raise ConfigError(f"encoding={encoding!r} is for text files, not Parquet: leave it out")
    _check_delimited(format, delimiter)
    return Source(path, format, compression, encoding, delimiter)


def target_of(path: str | os.PathLike[str]) -> Target:
    """The file that a table is to be written to. OutputError for a name that says no format."""
    path = check_path("path", path)
    format, compression = _by_name(path)
    if format is None or format == "txt" or (format == "parquet" and compression is not None):
        raise OutputError(
            f"{str(path)!r} is not one of {', '.join(READABLE)} (all but .parquet also with .gz or "
            ".zst): choose one of these"
        )
    return Target(path, format, compression)


def names_format(path: Path) -> bool:
    """Whether the name alone says which format the file has."""
    return _by_name(path)[0] is not None


def _by_name(path: Path) -> tuple[str | None, str | None]:
    """The format and the compression that a name says."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    compression = COMPRESSIONS.get(suffixes[-1]) if suffixes else None
    if compression is not None:
        suffixes.pop()
    return (SUFFIXES.get(suffixes[-1]) if suffixes else None), compression


def check_format(format: str | None) -> None:
    """ConfigError unless it is None or one of FORMATS."""
    if format is not None and (not isinstance(format, str) or format not in FORMATS):
        raise unknown_choice("format", format, FORMATS)


def check_delimiter(delimiter: str | None) -> None:
    """ConfigError unless it is None or one character that can stand between cells."""
    if delimiter is None:
        return
    if not isinstance(delimiter, str) or len(delimiter) != 1:
        raise ConfigError(
            f"delimiter={shortened(delimiter)} is not one character, such as ';', '|' or a tab"
        )
    if delimiter.isalnum() or delimiter in '"\r\n\0':
        raise ConfigError(
            f"delimiter={delimiter!r} can't stand between cells; choose a mark such as ';', '|' or "
            "a tab"
        )


def _check_delimited(format: str, delimiter: str | None) -> None:
    if delimiter is not None and format not in DELIMITERS:
        raise ConfigError(
            f"delimiter={delimiter!r} is for {', '.join(DELIMITERS)}, not {format}: leave it out"
        )


def shortened(value: object) -> str:
    """A value for a message."""
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."


def check_encoding(encoding: str | None) -> None:
    """ConfigError unless it is None or the name of an encoding of texts that Python knows."""
    if encoding is None:
        return
    try:
        "a".encode(encoding)  # refuses also what is no encoding of texts, such as base64
        codecs.getincrementaldecoder(encoding)()
    except (LookupError, ValueError, TypeError) as error:
        raise ConfigError(
            f"encoding={shortened(encoding)} is not an encoding of texts that Python knows: choose "
            "for example utf-8, utf-16, cp1252, latin-1 or gb18030"
        ) from error
