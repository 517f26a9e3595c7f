"""The lecture's job in Keras on TensorFlow, one epoch on request. lecture_epoch.py starts it.

It needs keras and tensorflow, not tidegate. Weights, texts and the order of the texts come from
tidegate, so both sides do the same work from the same start.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras  # type: ignore[import-not-found,import-untyped,unused-ignore]
import numpy as np
import tensorflow as tf  # type: ignore[import-not-found,import-untyped,unused-ignore]
from processes import serve

JIT: dict[str, bool | str] = {"auto": "auto", "true": True, "false": False}


class SummedAdam(keras.optimizers.Adam):  # type: ignore[misc]
    """Keras's Adam, but the gradients of a word's occurrences are added before they are squared.

    On TensorFlow the stock one squares first, which is another method; this one is Adam.
    """

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        super().update_step(tf.convert_to_tensor(gradient), variable, learning_rate)


def build(cell: str, weights: dict[str, Any], length: int, *, jit: str, adam: str) -> Any:
    """The compiled model, holding tidegate's initial weights."""
    vocabulary, embedding = weights["embedding.weight"].shape
    hidden = len(weights["recurrent.recurrent_kernel"])
    options: dict[str, Any] = {}
    if jit == "true" and cell != "rnn":
        options["use_cudnn"] = False  # else Keras refuses XLA, even where there is no GPU
    recurrent = {
        "gru_after": lambda: keras.layers.GRU(hidden, reset_after=True, **options),
        "gru_before": lambda: keras.layers.GRU(hidden, reset_after=False, **options),
        "lstm": lambda: keras.layers.LSTM(hidden, **options),
        "rnn": lambda: keras.layers.SimpleRNN(hidden, **options),
    }[cell]()
    model = keras.Sequential(
        [
            keras.Input((length,), dtype="int32"),
            keras.layers.Embedding(vocabulary, embedding),
            recurrent,
            keras.layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile(
        optimizer=SummedAdam() if adam == "summed" else keras.optimizers.Adam(),
        loss="binary_crossentropy",
        metrics=["accuracy"],
        jit_compile=JIT[jit],
    )
    model.set_weights(to_keras(cell, weights))
    return model


def to_keras(cell: str, weights: dict[str, Any]) -> list[Any]:
    """Keras's order and signs: its update gate is the share of the old state."""
    recurrent = [
        weights["recurrent.kernel"],
        weights["recurrent.recurrent_kernel"],
        weights["recurrent.bias"],
    ]
    if cell == "gru_after":
        recurrent[2] = np.stack([recurrent[2], weights["recurrent.recurrent_bias"]])
    if cell.startswith("gru"):
        for values in recurrent:
            values[..., : values.shape[-1] // 3] *= -1
    return [
        weights["embedding.weight"],
        *recurrent,
        weights["output.kernel"],
        weights["output.bias"],
    ]


class Lecture:
    """The job's data and model, and what can be asked of them."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.batch, self.score_batch = options.batch_size, options.score_batch_size
        with np.load(options.data, allow_pickle=False) as file:
            data = dict(file)
        self.ids, self.targets, self.orders = data["ids"], data["targets"], data["orders"]
        self.test_ids, self.test_targets = data["test_ids"], data["test_targets"]
        weights = {
            name.removeprefix("initial/"): values
            for name, values in data.items()
            if name.startswith("initial/")
        }
        length = self.ids.shape[1]
        self.model = build(
            options.cell, weights, length, jit=options.keras_jit, adam=options.keras_adam
        )

    def handle(self, request: dict[str, Any]) -> dict[str, Any]:
        actions: dict[str, Any] = {
            "warm_up": self.warm_up,
            "train": self.train,
            "score": self.score,
        }
        answer = actions[request.pop("do")](**request)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return {**answer, "peak_mb": peak * 1024 / 1e6}

    def warm_up(self) -> dict[str, Any]:
        """Let Keras trace and compile for every batch size to come, then undo the training."""
        begun = time.perf_counter()
        optimizer = self.model.optimizer
        optimizer.build(self.model.trainable_variables)
        variables = [*self.model.variables, *optimizer.variables]
        before = [variable.numpy() for variable in variables]
        sizes = {self.batch, self.orders.shape[1] % self.batch} - {0}
        for size in sizes:
            self._fit(self.ids[:size], self.targets[:size])
        for size in {self.score_batch, len(self.test_ids) % self.score_batch} - {0}:
            if len(self.test_ids):
                self.model.predict(self.test_ids[:size], batch_size=size, verbose=0)
        for variable, value in zip(variables, before, strict=True):
            variable.assign(value)
        return {
            "seconds": time.perf_counter() - begun,
            "jit_compile": bool(self.model.jit_compile),
            "versions": {"keras": keras.__version__, "tensorflow": tf.__version__},
            "intra_op_threads": tf.config.threading.get_intra_op_parallelism_threads(),
            "inter_op_threads": tf.config.threading.get_inter_op_parallelism_threads(),
        }

    def _fit(self, ids: Any, targets: Any) -> tuple[float, float]:
        self.model.reset_metrics()
        history = self.model.fit(
            ids, targets, batch_size=self.batch, epochs=1, shuffle=False, verbose=0
        ).history
        return history["loss"][0], history["accuracy"][0]

    def train(self, epoch: int) -> dict[str, Any]:
        """One epoch, in tidegate's order of the texts (sorting them is not on the clock)."""
        order = self.orders[epoch]
        ids, targets = self.ids[order], self.targets[order]
        begun = time.perf_counter()
        loss, accuracy = self._fit(ids, targets)
        return {"seconds": time.perf_counter() - begun, "loss": loss, "accuracy": accuracy}

    def score(self) -> dict[str, Any]:
        """Probabilities of the test texts."""
        begun = time.perf_counter()
        found = self.model.predict(self.test_ids, batch_size=self.score_batch, verbose=0)
        seconds = time.perf_counter() - begun
        right = (found[:, 0] > 0.5) == (self.test_targets > 0.5)
        return {"seconds": seconds, "accuracy": float(right.mean())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", help=".npz that lecture_epoch.py wrote")
    parser.add_argument("--cell", choices=("gru_after", "gru_before", "lstm", "rnn"), required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--score-batch-size", type=int, required=True)
    parser.add_argument("--keras-jit", choices=tuple(JIT), default="auto")
    parser.add_argument("--keras-adam", choices=("stock", "summed"), default="stock")
    options = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    tf.config.threading.set_inter_op_parallelism_threads(options.threads)
    serve(Lecture(options).handle)


if __name__ == "__main__":
    main()
