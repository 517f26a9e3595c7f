"""Texts from a stream of bytes, one a line, in blocks that fit in memory."""

from __future__ import annotations

import select
import sys
from collections.abc import Iterator

from tidegate.data.compressed import Stream
from tidegate.data.encodings import LONGEST_LINE, READ_BYTES, AsUtf8
from tidegate.errors import DataError

BLOCK_LINES = 2048
BLOCK_BYTES = 8 << 20


def text_blocks(stream: Stream, name: str, encoding: str | None = None) -> Iterator[list[str]]:
    """The lines of ``stream`` in order, in lists of at most BLOCK_LINES.

    A block also ends where the stream pauses, so that ``tail -f`` gets its answers at once, and
    when it has BLOCK_BYTES. A newline ends a line, with or without a carriage return before it;
    the last line needs none; an empty line is an empty text. A byte order mark is dropped.

    encoding: None for UTF-8, or UTF-16 with a byte order mark.

    Raises DataError for no byte at all, for a line longer than LONGEST_LINE bytes, and for one that
    is of another encoding or holds a NUL, naming it.
    """
    lines_read = 0
    for lines in _line_blocks(AsUtf8(stream, name, encoding), name):
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
    held = unended = 0  # bytes of both; bytes of the line that has begun
    while True:
        # One read at most: it must not wait for more when there is something already.
        piece = stream.read1(READ_BYTES)
        if not piece:
            break
        held += len(piece)
        first, *rest = piece.split(b"\n")
        begun.append(first)
        unended += len(first)
        if rest:
            lines.append(b"".join(begun))
            lines.extend(rest[:-1])
            begun = [rest[-1]]
            unended = len(rest[-1])
        elif unended > LONGEST_LINE:
            raise DataError(
                f"{name} has a line longer than {LONGEST_LINE:,} bytes, as no text is: check it"
            )
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
            f"{name}, line {number}: a NUL byte; it is not a text, or is of another encoding: "
            "convert it to UTF-8 first, or name its encoding by --encoding"
        )
    try:
        return line.removesuffix(b"\r").decode()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{name}, line {number}: byte {error.start + 1} is not UTF-8 "
            f"(0x{line[error.start]:02x}); convert the text to UTF-8 first, or name its encoding "
            "by --encoding"
        ) from error
