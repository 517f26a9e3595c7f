"""The command line: it parses, calls the library and prints, and holds no logic of its own."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; ``arguments`` default to ``sys.argv[1:]``.

    Status: 0 done; 2 something that the user can mend, told in one line on standard error;
    130 stopped by Ctrl-C; 141 the reader of standard output went away; 1 a bug.
    """
    try:
        # Imported here so that Ctrl-C while Typer loads is quiet too.
        from tidegate.cli.app import run

        return run(sys.argv[1:] if arguments is None else list(arguments))
    except KeyboardInterrupt:
        if sys.stderr is not None:
            sys.stderr.write("tidegate: interrupted\n")
        return 130
