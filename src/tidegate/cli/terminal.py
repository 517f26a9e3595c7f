"""Standard input, output and error: safe characters, one line an error, failures told apart."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from typing import Any, TextIO

from tidegate.answers import label_text as label_text
from tidegate.errors import OutputError

# Control characters, the Unicode line breaks, the marks that reorder what a terminal shows, and
# lone surrogates, which no encoding takes. All are below U+10000, so JSON's \uXXXX writes each.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
_SHORT = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}


class OutputClosedError(Exception):
    """The reader of standard output has gone, as with ``| head``: stop, and say what this says."""


class OutputFailedError(OutputError):
    """Standard output can't be written, for another reason."""


def printable(text: str) -> str:
    """``text`` on one line, every character that could act on a terminal written as JSON does."""
    return _UNSAFE.sub(lambda match: _SHORT.get(match[0]) or f"\\u{ord(match[0]):04x}", text)


def field(text: str) -> str:
    """``text`` as one field of a tab-separated line: as it is, or as a JSON string if unsafe."""
    return json_text(text) if _UNSAFE.search(text) else text


def json_text(value: Any) -> str:
    """``value`` as one line of JSON, readable (not ASCII only) yet safe on a terminal."""
    # json escapes only the characters below U+0020. What else is unsafe can stand only inside
    # a string, where \uXXXX means the same.
    return printable(json.dumps(value, ensure_ascii=False, allow_nan=False))


def prepare() -> None:
    """Make standard output and error take every character; machines get UTF-8 in any locale."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            if stream.isatty():
                stream.reconfigure(errors="backslashreplace")
            else:
                stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def write(text: str) -> None:
    """Write to standard output. Raises OutputClosedError or OutputError."""
    stream = _stdout()
    try:
        stream.write(text)
    except OSError as error:
        raise _output_failure(error) from error


def flush() -> None:
    """Flush standard output, so that a full disk is an error and not a loss at exit."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except OSError as error:
        raise _output_failure(error) from error


def say(text: str) -> None:
    """Write one line of news at once, made safe as a whole."""
    write(printable(text) + "\n")
    flush()


def complain(message: str) -> None:
    """Write ``tidegate: message`` to standard error as one line; a lost line is no new error."""
    try:
        if sys.stderr is not None:
            sys.stderr.write(f"tidegate: {printable(message)}\n")
            sys.stderr.flush()
    except OSError:
        _discard(sys.stderr)


def note(message: Warning | str, *_: object, **__: object) -> None:
    """A warning as one line on standard error; takes the place of ``warnings.showwarning``."""
    complain(f"note: {message}")


def settle_output() -> None:
    """Flush what was printed before an error; what can't be written must not fail again at exit."""
    try:
        flush()
    except (OutputClosedError, OutputError):
        _discard(sys.stdout)


def progress_wanted(quiet: bool) -> bool:
    """Whether a progress bar may be drawn: on standard error, if it is a terminal."""
    return not quiet and sys.stderr is not None and sys.stderr.isatty()


def _stdout() -> TextIO:
    if sys.stdout is None:
        raise OutputError("standard output is closed; send it to a terminal, a file or a pipe")
    return sys.stdout


def _output_failure(error: OSError) -> Exception:
    if isinstance(error, BrokenPipeError):
        return OutputClosedError()
    reason = error.strerror or str(error)
    return OutputFailedError(
        f"standard output can't be written: {reason}; free some space or send it elsewhere"
    )


def _discard(stream: TextIO) -> None:
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):  # a replaced stream without a file below it
        return
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)
