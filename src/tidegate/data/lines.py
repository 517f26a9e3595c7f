"""Texts from a file or a stream of bytes, one a line, in blocks that fit in memory."""

from __future__ import annotations

import select
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from tidegate.errors import DataError

BLOCK_LINES = 2048
BLOCK_BYTES = 8 << 20
_READ_BYTES = 1 << 16


class Stream(Protocol):
    """What is read of a binary stream; ``sys.stdin.buffer`` and files have it."""

    def read1(self, size: int, /) -> bytes:
        """At most ``size`` bytes by at most one read; none at the end."""

    def fileno(self) -> int:
        """The descriptor to wait on; OSError without one."""


def file_blocks(path: Path) -> Iterator[list[str]]:
    """The lines of a file as ``text_blocks`` gives them; DataError also for one that can't be read.

    Everything that reads a .txt file does it here.
    """
    try:
        stream = open(path, "rb")  # noqa: SIM115 (errors of reading are text_blocks' to tell)
    except FileNotFoundError as error:
        raise DataError(f"{str(path)!r} does not exist: check the path") from error
    except IsADirectoryError as error:
        raise DataError(f"{str(path)!r} is a folder: give the path of a file in it") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{str(path)!r} can't be read: {reason}; check the path") from error
    with stream:
        yield from text_blocks(stream, str(path))


def text_blocks(stream: Stream, name: str) -> Iterator[list[str]]:
    """The lines of ``stream`` in order, in lists of at most BLOCK_LINES.

    A block also ends where the stream pauses, so that ``tail -f`` gets its answers at once, and
    when it has BLOCK_BYTES. A newline ends a line, with or without a carriage return before it;
    the last line needs none; an empty line is an empty text. A byte order mark is dropped.

    Raises DataError for no byte at all, and for a line that is not UTF-8 or holds a NUL, naming it.
    """
    lines_read = 0
    for lines in _line_blocks(stream, name):
        if lines_read == 0 and lines[0].startswith(b"\xef\xbb\xbf"):
            lines[0] = lines[0][3:]
        yield [_decode(line, name, lines_read + i) for i, line in enumerate(lines, 1)]
        lines_read += len(lines)
    if lines_read == 0:
        raise DataError(f"{name} is empty; give at least one line of text")


def _line_blocks(stream: Stream, name: str) -> Iterator[list[bytes]]:
    """The lines as bytes, without their newlines; no block is empty."""
    lines: list[bytes] = []
    begun: list[bytes] = []  # pieces of the line whose end is still to come
    held = 0
    while True:
        try:
            # One read at most: it must not wait for more when there is something already.
            piece = stream.read1(_READ_BYTES)
        except OSError as error:
            reason = error.strerror or error
            raise DataError(
                f"{name} can't be read: {reason}; give a file or a pipe of text"
            ) from error
        if not piece:
            break
        held += len(piece)
        first, *rest = piece.split(b"\n")
        begun.append(first)
        if rest:
            lines.append(b"".join(begun))
            lines.extend(rest[:-1])
            begun = [rest[-1]]
        while len(lines) >= BLOCK_LINES:
            yield lines[:BLOCK_LINES]
            del lines[:BLOCK_LINES]
            held = sum(map(len, lines))
        if lines and (held >= BLOCK_BYTES or _would_wait(stream)):
            yield lines
            lines = []
            held = 0
    last = b"".join(begun)
    if last:
        lines.append(last)
    if lines:
        yield lines


def _would_wait(stream: Stream) -> bool:
    """Whether the next read would wait for the writer; False where that can't be known."""
    if sys.platform == "win32":  # select takes sockets only
        return False
    try:
        return not select.select([stream], [], [], 0)[0]
    except (OSError, ValueError):  # no file below the stream
        return False


def _decode(line: bytes, name: str, number: int) -> str:
    if b"\0" in line:
        raise DataError(
            f"{name}, line {number}: a NUL byte; it is not a text, or is UTF-16: convert it "
            "to UTF-8 first, for example with iconv"
        )
    try:
        return line.removesuffix(b"\r").decode()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{name}, line {number}: byte {error.start + 1} is not UTF-8 "
            f"(0x{line[error.start]:02x}); convert the text to UTF-8 first, for example with iconv"
        ) from error
