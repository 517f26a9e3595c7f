"""The machine's float32 peak, measured beside whatever is judged by it.

It is the best that NumPy's BLAS does with products of 2048 x 2048 x 2048, as in kernels.py, whose
workers multiply.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import ExitStack
from types import TracebackType

from kernels import BLAS, BLAS_THREADS, blas_kernels
from machine import ROOT
from processes import Peer


class Peak:
    """Processes that multiply when asked to, for each number of threads."""

    def __init__(self, threads: Iterable[int]) -> None:
        self._stack = ExitStack()
        command = [sys.executable, str(ROOT / "benchmarks" / "kernels.py"), "--worker", BLAS]
        self._peers = {
            count: [
                self._stack.enter_context(
                    Peer(command, {**dict.fromkeys(BLAS_THREADS, str(count)), **kernels})
                )
                for kernels in blas_kernels()
            ]
            for count in threads
        }
        self.best = dict.fromkeys(self._peers, 0.0)
        self.library = str(next(iter(self._peers.values()))[0].ask(do="describe")["blas"])

    def multiply(self, threads: int) -> float:
        """One product by each BLAS: GFLOP/s of the faster one, on so many threads."""
        found = max(peer.ask(do="multiply")["gflops"] for peer in self._peers[threads])
        self.best[threads] = max(self.best[threads], found)
        return float(found)

    def by_threads(self) -> dict[str, float]:
        """The best so far, for a result file."""
        return {str(threads): best for threads, best in self.best.items()}

    def __enter__(self) -> Peak:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)
