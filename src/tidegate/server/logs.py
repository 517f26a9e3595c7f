"""Logs: one line of JSON for each event on standard error, and never a text of a user's."""

from __future__ import annotations

import datetime
import json
import logging
import os
import sys
import traceback
from types import TracebackType

_PLACES = 10  # of an error: where it was raised, and who called that


def event(name: str, **facts: object) -> None:
    """Write one line. A line that can't be written is lost, and no new error."""
    now = datetime.datetime.now(datetime.timezone.utc)
    line = {"time": now.isoformat(timespec="milliseconds"), "event": name, "worker": os.getpid()}
    try:
        if sys.stderr is not None:
            sys.stderr.write(json.dumps({**line, **facts}) + "\n")
            sys.stderr.flush()
    except (OSError, ValueError):
        pass


def failure(error: BaseException, **facts: object) -> None:
    """Write where an unexpected error came from; its own words may hold a user's text."""
    event("error", error=type(error).__name__, at=_places(error.__traceback__), **facts)


def _places(trace: TracebackType | None) -> list[str]:
    return [
        f"{os.path.basename(frame.filename)}:{frame.lineno} {frame.name}"
        for frame in traceback.extract_tb(trace)[-_PLACES:]
    ]


class UvicornEvents(logging.Handler):
    """uvicorn's warnings as such lines."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record, without the words of an exception."""
        trace = record.exc_info[2] if record.exc_info else None
        facts = {"at": _places(trace)} if trace else {}
        event("server", level=record.levelname.lower(), message=record.getMessage(), **facts)


def capture_uvicorn() -> None:
    """Send uvicorn's warnings here and nowhere else."""
    logger = logging.getLogger("uvicorn")
    logger.handlers = [UvicornEvents()]
    logger.propagate = False
    logger.setLevel(logging.WARNING)
