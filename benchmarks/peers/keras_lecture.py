"""The lecture's job in Keras on TensorFlow, an epoch or a part of one on request.

lecture_epoch.py starts it. It needs keras and tensorflow, not tidegate. Weights, texts and the
order of the texts come from tidegate, so all sides do the same work from the same start.
"""

from __future__ import annotations

import os
from typing import Any

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras  # type: ignore[import-not-found,import-untyped,unused-ignore]
import numpy as np
import tensorflow as tf  # type: ignore[import-not-found,import-untyped,unused-ignore]
from lecture import answer, load, parser, update_gate_turned

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
    weights = update_gate_turned(cell, weights)
    bias = weights["recurrent.bias"]
    if cell == "gru_after":
        bias = np.stack([bias, weights["recurrent.recurrent_bias"]])
    return [
        weights["embedding.weight"],
        weights["recurrent.kernel"],
        weights["recurrent.recurrent_kernel"],
        bias,
        weights["output.kernel"],
        weights["output.bias"],
    ]


class RunningLoss(keras.callbacks.Callback):  # type: ignore[misc]
    """Notes the mean loss so far after each batch."""

    def __init__(self) -> None:
        super().__init__()
        self.means: list[float] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.means.append(float(logs["loss"]))


class Keras:
    """The model and its training."""

    def __init__(self, model: Any, jit: str, adam: str, batch: int, score_batch: int) -> None:
        self.model, self.jit, self.adam = model, jit, adam
        self.batch, self.score_batch = batch, score_batch
        model.optimizer.build(model.trainable_variables)
        self.variables = [*model.variables, *model.optimizer.variables]
        self.initial = [variable.numpy() for variable in self.variables]

    def about(self) -> dict[str, Any]:
        threading = tf.config.threading
        product = tf.function(lambda a, b: a * b)(tf.constant(1e-39), tf.constant(1.0))
        return {
            "versions": {"keras": keras.__version__, "tensorflow": tf.__version__},
            "jit_compile": bool(self.model.jit_compile),
            "adam": self.adam,
            "intra_op_threads": threading.get_intra_op_parallelism_threads(),
            "inter_op_threads": threading.get_inter_op_parallelism_threads(),
            "flushes_denormals": not float(product),
        }

    def reset(self) -> None:
        for variable, value in zip(self.variables, self.initial, strict=True):
            variable.assign(value)

    def _fit(self, ids: Any, targets: Any, *callbacks: Any) -> tuple[float, float]:
        self.model.reset_metrics()
        history = self.model.fit(
            ids,
            targets,
            batch_size=self.batch,
            epochs=1,
            shuffle=False,
            verbose=0,
            callbacks=list(callbacks),
        ).history
        return history["loss"][0], history["accuracy"][0]

    def fit(self, ids: Any, targets: Any) -> tuple[float, float]:
        return self._fit(ids, targets)

    def curve(self, ids: Any, targets: Any) -> list[float]:
        running = RunningLoss()
        self._fit(ids, targets, running)
        sums = np.array(running.means) * np.arange(1, len(running.means) + 1)
        return [float(loss) for loss in np.diff(sums, prepend=0.0)]

    def predict(self, ids: Any) -> Any:
        return self.model.predict(ids, batch_size=self.score_batch, verbose=0)[:, 0] - 0.5


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--keras-jit", choices=tuple(JIT), default="auto")
    options.add_argument("--keras-adam", choices=("stock", "summed"), default="stock")
    chosen = options.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(chosen.threads)
    tf.config.threading.set_inter_op_parallelism_threads(chosen.threads)
    data, weights = load(chosen.data)
    jit, adam = chosen.keras_jit, chosen.keras_adam
    model = build(chosen.cell, weights, data["ids"].shape[1], jit=jit, adam=adam)
    answer(Keras(model, jit, adam, chosen.batch_size, chosen.score_batch_size), data, chosen)


if __name__ == "__main__":
    main()
