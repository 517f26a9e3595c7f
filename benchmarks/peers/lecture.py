"""What the peers of lecture_epoch.py share: the job's data, and how it is asked for and timed.

NumPy and the standard library only, because each peer runs in an environment of its own.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from pathlib import Path
from typing import Any, Protocol

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from processes import serve

KINDS = ("gru_after", "gru_before", "lstm", "rnn")
# Adam's constants, Keras's: epsilon is added to the root of the second moment as it is stored,
# before the bias correction.
LEARNING_RATE, BETA_1, BETA_2, EPSILON = 1e-3, 0.9, 0.999, 1e-7


class Framework(Protocol):
    """The network in one framework. Batches are taken in the order given, the last may be short."""

    def about(self) -> dict[str, Any]:
        """Versions and settings, for the result file."""

    def reset(self) -> None:
        """Initial weights, and an optimizer that has done nothing."""

    def fit(self, ids: Any, targets: Any) -> tuple[float, float | None]:
        """Train on all texts once. Mean loss and, if it counts that, accuracy meanwhile."""

    def curve(self, ids: Any, targets: Any) -> list[float]:
        """The same, not on the clock: the loss of each batch."""

    def predict(self, ids: Any) -> Any:
        """[texts] logits or probabilities less 0.5: positive where the class is 1."""


class Lecture:
    """Answers the requests of lecture_epoch.py with one framework."""

    def __init__(self, framework: Framework, data: dict[str, Any], options: argparse.Namespace):
        self.framework, self.batch = framework, options.batch_size
        self.score_batch = options.score_batch_size
        self.ids, self.targets, self.orders = data["ids"], data["targets"], data["orders"]
        self.test_ids, self.test_targets = data["test_ids"], data["test_targets"]

    def handle(self, request: dict[str, Any]) -> dict[str, Any]:
        actions: dict[str, Any] = {
            "warm_up": self.warm_up,
            "train": self.train,
            "score": self.score,
        }
        answer = actions[request.pop("do")](**request)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return {**answer, "peak_mb": peak * 1024 / 1e6}

    def warm_up(self, batches: int) -> dict[str, Any]:
        """Let it compile for every batch size to come; the losses of the first batches.

        All training is undone afterwards.
        """
        begun = time.perf_counter()
        self.framework.reset()
        for size in {self.batch, self.orders.shape[1] % self.batch} - {0}:
            self.framework.fit(self.ids[:size], self.targets[:size])
        for size in {self.score_batch, len(self.test_ids) % self.score_batch} - {0}:
            if len(self.test_ids):
                self.framework.predict(self.test_ids[:size])
        self.framework.reset()
        losses = self.framework.curve(*self._texts(0, batches))
        self.framework.reset()
        seconds = time.perf_counter() - begun
        return {"seconds": seconds, "losses": losses, **self.framework.about()}

    def _texts(self, epoch: int, batches: int | None) -> tuple[Any, Any]:
        order = self.orders[epoch]
        if batches is not None:
            order = order[: batches * self.batch]
        return self.ids[order], self.targets[order]

    def train(self, epoch: int, batches: int | None) -> dict[str, Any]:
        """One epoch in tidegate's order of the texts (sorting them is not on the clock).

        With ``batches``, only the first ones of the first epoch, from the initial weights.
        """
        if batches is not None:
            self.framework.reset()
        ids, targets = self._texts(epoch if batches is None else 0, batches)
        begun = time.perf_counter()
        loss, accuracy = self.framework.fit(ids, targets)
        seconds = time.perf_counter() - begun
        return {"seconds": seconds, "texts": len(ids), "loss": loss, "accuracy": accuracy}

    def score(self) -> dict[str, Any]:
        """The class of every test text."""
        begun = time.perf_counter()
        found = self.framework.predict(self.test_ids)
        seconds = time.perf_counter() - begun
        right = (found > 0) == (self.test_targets > 0.5)
        return {"seconds": seconds, "texts": len(found), "accuracy": float(right.mean())}


def parser(doc: str | None, kinds: tuple[str, ...] = KINDS) -> argparse.ArgumentParser:
    """The options of every peer."""
    found = argparse.ArgumentParser(description=doc)
    found.add_argument("data", help=".npz that lecture_epoch.py wrote")
    found.add_argument("--cell", choices=kinds, required=True)
    found.add_argument("--threads", type=int, required=True)
    found.add_argument("--batch-size", type=int, required=True)
    found.add_argument("--score-batch-size", type=int, required=True)
    return found


def load(path: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The job's arrays, and tidegate's initial weights by name."""
    with np.load(path, allow_pickle=False) as file:
        data = dict(file)
    weights = {
        name.removeprefix("initial/"): data.pop(name)
        for name in list(data)
        if name.startswith("initial/")
    }
    return data, weights


def update_gate_turned(cell: str, weights: dict[str, Any]) -> dict[str, Any]:
    """The weights with a GRU's update gate as the share of the old state, as others have it."""
    turned = {name: values.copy() for name, values in weights.items()}
    if cell.startswith("gru"):
        for name, values in turned.items():
            if name.startswith("recurrent."):
                values[..., : values.shape[-1] // 3] *= -1
    return turned


def answer(framework: Framework, data: dict[str, Any], options: argparse.Namespace) -> None:
    """Answer requests until there are no more."""
    serve(Lecture(framework, data, options).handle)
