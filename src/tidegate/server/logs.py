"""Logs: one line of JSON for each event on standard error, and never a text of a user's."""

from __future__ import annotations

import asyncio
import datetime
import json
import logging
import os
import sys
import traceback
from types import TracebackType

_WRITE_SECONDS = 0.1
_PLACES = 10  # of an error: where it was raised, and who called that


class _Lines:
    """Lines that are written together.

    Each write lets go of the interpreter, and a busy scorer may keep it for milliseconds then. So
    what a server says while it serves is written some times a second.
    """

    def __init__(self) -> None:
        self._kept: list[str] = []

    def add(self, line: str) -> None:
        """Write it now, or soon if called on a running event loop."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._write([line])
            return
        self._kept.append(line)
        if len(self._kept) == 1:
            loop.call_later(_WRITE_SECONDS, self.flush)

    def flush(self) -> None:
        """Write what is kept."""
        lines, self._kept = self._kept, []
        self._write(lines)

    def _write(self, lines: list[str]) -> None:
        """A line that can't be written is lost, and no new error."""
        try:
            if sys.stderr is not None and lines:
                sys.stderr.write("".join(lines))
                sys.stderr.flush()
        except (OSError, ValueError):
            pass


_lines = _Lines()
flush = _lines.flush


def event(name: str, **facts: object) -> None:
    """Write one line."""
    now = datetime.datetime.now(datetime.timezone.utc)
    line = {"time": now.isoformat(timespec="milliseconds"), "event": name, "worker": os.getpid()}
    _lines.add(json.dumps({**line, **facts}) + "\n")


def failure(error: BaseException, **facts: object) -> None:
    """Write where an unexpected error came from; its own words may hold a user's text."""
    event("error", error=type(error).__name__, at=_places(error.__traceback__), **facts)


def _places(trace: TracebackType | None) -> list[str]:
    return [
        f"{os.path.basename(frame.filename)}:{frame.lineno} {frame.name}"
        for frame in traceback.extract_tb(trace)[-_PLACES:]
    ]


class UvicornEvents(logging.Handler):
    """uvicorn's errors as such lines."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record, without the words of an exception."""
        trace = record.exc_info[2] if record.exc_info else None
        facts = {"at": _places(trace)} if trace else {}
        event("server", level=record.levelname.lower(), message=record.getMessage(), **facts)


def capture_uvicorn() -> None:
    """Send uvicorn's errors here and nowhere else."""
    logger = logging.getLogger("uvicorn")
    logger.handlers = [UvicornEvents()]
    logger.propagate = False
    logger.setLevel(logging.ERROR)  # it warns of what ``protocol`` refuses and tells itself
