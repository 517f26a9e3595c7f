"""What the peers of scoring.py share: the job's data, and how it is asked for and timed.

NumPy and the standard library only, because each peer runs in an environment of its own.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from processes import serve

KINDS = ("gru_after", "gru_before", "lstm", "rnn")


class Runtime(Protocol):
    """The network in one library, ready to score."""

    precisions: Sequence[str]  # those that it has on this machine, of tidegate's names

    def about(self) -> dict[str, Any]:
        """Versions and settings, for the result file."""

    def prepare(self, texts: int, precision: str) -> None:
        """Compile for batches of so many texts, if it does. Not on the clock."""

    def logits(self, batches: Sequence[Any], precision: str) -> list[Any]:
        """[texts] of each of the batches of ids, which are [texts, time] int64."""

    def one(self, ids: Any, precision: str) -> Any:
        """[1] of one text, ids [1, time], as fast as it can be had."""


class Scorer:
    """Answers the requests of scoring.py with one library."""

    def __init__(self, runtime: Runtime, ids: Any) -> None:
        self.runtime, self.ids = runtime, ids

    def handle(self, request: dict[str, Any]) -> dict[str, Any]:
        actions: dict[str, Any] = {"about": self.about, "score": self.score, "one": self.one}
        answer: dict[str, Any] = actions[request.pop("do")](**request)
        return answer

    def about(self) -> dict[str, Any]:
        return {**self.runtime.about(), "precisions": list(self.runtime.precisions)}

    def score(self, batch_size: int, precision: str, check: bool = False) -> dict[str, Any]:
        """All texts; every one has the full length, so the order makes no difference."""
        starts = range(0, len(self.ids), batch_size)
        batches = [self.ids[start : start + batch_size] for start in starts]
        for size in sorted({len(batch) for batch in batches}):
            self.runtime.prepare(size, precision)
            alike = [batch for batch in batches if len(batch) == size]
            self.runtime.logits(alike[:2], precision)
        began = time.process_time()
        begun = time.perf_counter()
        found = np.concatenate(self.runtime.logits(batches, precision))
        seconds = time.perf_counter() - begun
        return {
            "seconds": seconds,
            "cpu_seconds": time.process_time() - began,
            "logits": found.tolist() if check else [],
        }

    def one(self, row: int, calls: int, precision: str) -> dict[str, Any]:
        """One text again and again: seconds of each call."""
        ids = self.ids[row : row + 1]
        self.runtime.prepare(1, precision)
        for _ in range(5):
            self.runtime.one(ids, precision)
        began = time.process_time()
        seconds = []
        for _ in range(calls):
            begun = time.perf_counter()
            self.runtime.one(ids, precision)
            seconds.append(time.perf_counter() - begun)
        return {"seconds": seconds, "cpu_seconds": time.process_time() - began}


def parser(doc: str | None, kinds: tuple[str, ...] = KINDS) -> argparse.ArgumentParser:
    """The options of every peer."""
    found = argparse.ArgumentParser(description=doc)
    found.add_argument("data", help=".npz that scoring.py wrote")
    found.add_argument("--cell", choices=kinds, required=True)
    found.add_argument("--threads", type=int, required=True)
    return found


def load(path: str) -> tuple[Any, dict[str, Any]]:
    """The ids, [texts, time] int64, and the weights by tidegate's names."""
    with np.load(path, allow_pickle=False) as file:
        data = dict(file)
    weights = {
        name.removeprefix("weight/"): values
        for name, values in data.items()
        if name.startswith("weight/")
    }
    return data["ids"].astype(np.int64), weights


def answer(runtime: Runtime, ids: Any) -> None:
    """Answer requests until there are no more."""
    serve(Scorer(runtime, ids).handle)
