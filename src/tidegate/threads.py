"""Who computes on how many of the process's threads."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tidegate import ops
from tidegate.model import check_whole


class AskedThreads:
    """The process's number of threads, while classifiers compute that ask for one of their own.

    They may do so at once, in several Python threads, and end in any order. The latest that still
    computes has its number, and after the last one holds what held before the first.
    """

    def __init__(self) -> None:
        self._forget()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._end_in_child)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._asked: dict[object, int] = {}  # in the order in which they came
        self._before = 0

    def _end_in_child(self) -> None:
        """The classifiers that computed in other threads are not in a child process."""
        before = self._before if self._asked else None
        self._forget()
        if before is not None:
            ops.set_threads(before)

    @contextmanager
    def lent(self, count: int) -> Iterator[None]:
        """While it lasts, computing is done on ``count`` threads, unless another asks later."""
        key = object()
        with self._lock:
            if not self._asked:
                self._before = ops.threads()
            ops.set_threads(count)
            self._asked[key] = count
        try:
            yield
        finally:
            with self._lock:
                del self._asked[key]
                ops.set_threads(next(reversed(self._asked.values()), self._before))


asked = AskedThreads()


@contextmanager
def own(count: int | None) -> Iterator[None]:
    """While it lasts, computing is done on ``count`` threads; None for those of the process.

    ConfigError for another number than there may be.
    """
    if count is None:
        yield
        return
    check_whole("threads", count, 1, ops.MAX_THREADS)
    with asked.lent(int(count)):
        yield
