"""The command line: it parses, calls the library and prints, and holds no logic of its own."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType


class Stopped(KeyboardInterrupt):
    """A signal other than Ctrl-C's asked the command to end."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal.Signals(signal_number).name)
        self.signal_number = signal_number


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; ``arguments`` default to ``sys.argv[1:]``.

    Status: 0 done; 2 something that the user can mend, told in one line on standard error;
    130 stopped by Ctrl-C, 143 by SIGTERM (docker stop), 129 by SIGHUP (a terminal that closes);
    141 the reader of standard output went away; 1 a bug.
    """
    try:
        with _signals_raised():
            # Imported here so that Ctrl-C while Typer loads is quiet too.
            from tidegate.cli.app import run

            return run(sys.argv[1:] if arguments is None else list(arguments))
    except KeyboardInterrupt as stop:
        # Written by no means that could fail once more: the terminal may be gone.
        try:
            if sys.stderr is not None:
                by = f" by {stop}" if isinstance(stop, Stopped) else ""
                sys.stderr.write(f"tidegate: interrupted{by}\n")
        except OSError:
            pass
        return 128 + (stop.signal_number if isinstance(stop, Stopped) else signal.SIGINT)


@contextmanager
def _signals_raised() -> Iterator[None]:
    """While it lasts, SIGTERM and SIGHUP are raised as Ctrl-C is, so that nothing is left behind.

    One that the process ignores (nohup) stays ignored, and one that somebody handles is theirs.
    """
    changed = []
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, _raise_stopped)
                changed.append(number)
    try:
        yield
    finally:
        for number in changed:
            signal.signal(number, signal.SIG_DFL)


def _raise_stopped(signal_number: int, frame: FrameType | None) -> None:
    raise Stopped(signal_number)
