"""Processes that are measured: whole runs, and peers that work only when asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any


@dataclass(frozen=True)
class Finished:
    """A process that has ended. peak_mb: the most memory it had resident, in 10^6 bytes."""

    seconds: float
    cpu_seconds: float
    peak_mb: float
    output: str


def run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Finished:
    """Run a command to its end and measure it. SystemExit with its errors if it fails.

    Memory is Linux's ru_maxrss, in which a child starts with what this process has resident: so
    import nothing large before.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        begun = time.perf_counter()
        process = subprocess.Popen(
            command, stdout=output, stderr=errors, env={**os.environ, **(environment or {})}
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begun
        process.returncode = os.waitstatus_to_exitcode(status)  # it is reaped already
        output.seek(0)
        errors.seek(0)
        if process.returncode:
            message = errors.read().decode(errors="replace")
            raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{message}")
        unit = 1 if sys.platform == "darwin" else 1024
        return Finished(
            seconds=seconds,
            cpu_seconds=usage.ru_utime + usage.ru_stime,
            peak_mb=usage.ru_maxrss * unit / 1e6,
            output=output.read().decode(errors="replace"),
        )


class Peer:
    """A process that answers a line of JSON with a line of JSON, and else does nothing.

    So two systems can be measured in turns, each warm and neither at work beside the other.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> None:
        self.command = list(command)
        self._process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
        )

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request and wait for its answer."""
        pipe_in, pipe_out = self._process.stdin, self._process.stdout
        if pipe_in is None or pipe_out is None:
            raise RuntimeError("a peer always has pipes")
        try:
            pipe_in.write(json.dumps(request) + "\n")
            pipe_in.flush()
            line = pipe_out.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise SystemExit(f"{' '.join(self.command)} ended early; see its errors above")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> Peer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        if kind is not None:
            self._process.kill()
        self._process.wait()


def serve(handle: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """The peer's side: answer requests until there are no more.

    Answers also say how much CPU time the process has used when it began and when it was done:
    what lies between one's end and the next one's beginning was used while idle.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries may print; only answers go to the asker
    for line in sys.stdin:
        began = time.process_time()
        answer = handle(json.loads(line))
        answer["cpu_began"], answer["cpu_done"] = began, time.process_time()
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
