"""Make tests/data/keras_{gru_after,gru_before,lstm,rnn}.npz: 50 Adam steps of Keras models.

Made with Python 3.11, Keras 3.15.1, TensorFlow 2.21.0 (CPU, float32) and NumPy 2.4.6; run with
``python tests/golden/make_keras_golden.py`` where these are installed. It takes a minute.

The model is Embedding(50, 12) -> GRU, LSTM or SimpleRNN(20) -> Dense(1, sigmoid), or for the
GRU also Dense(5, softmax), with Keras's Adam. Every run of a file starts from the same weights
and reads the same texts: 50 batches of 16 texts of up to 24 ids, whose label depends on the ids.
Weights are stored under tidegate's names and in its conventions; Keras's update gate is the share
of the *old* state, so its weights are negated here.

Each run is there twice. On TensorFlow the gradient of an embedding is a list with one entry for
each occurrence of a word, and Keras's Adam squares the entries before it adds up those of one
word: the second moment gets the sum of squares where Adam means the square of the sum. Keras's
other backends have no such lists. The "summed" runs add up a word's entries before Adam sees
them, as the method is defined; the "stock" runs leave Keras as it is.

Each file holds

    settings                       JSON: versions, sizes and the list of runs (see below)
    texts/full/token_ids           [19200] int32, 800 texts of 24 ids one after another
    texts/full/offsets             [801] int64
    texts/full/labels, classes     [800] int32, 0 or 1, and 0 to 4
    texts/ragged/...               the same for texts of 0 to 24 ids, no id being 0
    initial/binary/NAME            float32, e.g. NAME = recurrent.recurrent_kernel
    initial/classes/NAME           the same with an output layer of 5
    RUN/losses                     [50] float64: the loss of batch s before update s
    RUN/final/NAME                 float32, the weights after 50 updates (summed runs only)

Batch s is texts 16*s to 16*s + 15. A run in the settings has: name; texts ("full" or "ragged");
masked (whether the leading padding is hidden from the network); initial ("binary" with labels,
"classes" with classes); learning_rate; embedding_gradient ("summed" or "stock").
"""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras  # type: ignore[import-not-found,import-untyped,unused-ignore]
import numpy as np
import tensorflow as tf  # type: ignore[import-not-found,import-untyped,unused-ignore]

DATA = Path(__file__).resolve().parent.parent / "data"
SEED = 20240613
VOCABULARY, EMBEDDING, HIDDEN, CLASSES = 50, 12, 20, 5
STEPS, BATCH, LENGTH = 50, 16, 24
ADAM = {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7}  # Keras's defaults
KINDS = ("gru_after", "gru_before", "lstm", "rnn")

Arrays = dict[str, Any]


def make_texts(*, ragged: bool, generator: np.random.Generator) -> Arrays:
    """Texts whose label and class lie in how many large ids their last ten ids hold."""
    rows = STEPS * BATCH
    lengths = generator.integers(0, LENGTH + 1, rows) if ragged else np.full(rows, LENGTH)
    lengths[3] = 0 if ragged else LENGTH  # an empty text in the first batch
    share = generator.uniform(0.1, 0.9, rows)
    texts, labels, classes = [], [], []
    for length, large in zip(lengths, share, strict=True):
        low = generator.integers(1, VOCABULARY // 2, length)
        high = generator.integers(VOCABULARY // 2, VOCABULARY, length)
        ids = np.where(generator.random(length) < large, high, low)
        count = int((ids[-10:] >= VOCABULARY // 2).sum())
        texts.append(ids)
        labels.append(int(count >= 5))
        classes.append(min(count // 2, CLASSES - 1))
    return {
        "token_ids": np.concatenate(texts).astype(np.int32),
        "offsets": np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        "labels": np.array(labels, np.int32),
        "classes": np.array(classes, np.int32),
    }


def padded_batch(texts: Arrays, step: int) -> Any:
    """Texts of one batch as [BATCH, LENGTH] int32 with zeros in front."""
    batch = np.zeros((BATCH, LENGTH), np.int32)
    for row in range(BATCH):
        start, stop = texts["offsets"][step * BATCH + row : step * BATCH + row + 2]
        batch[row, LENGTH - (stop - start) :] = texts["token_ids"][start:stop]
    return batch


class SummedAdam(keras.optimizers.Adam):  # type: ignore[misc,unused-ignore]
    """Keras's Adam, but a word's gradients are added up before they are squared."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        super().update_step(tf.convert_to_tensor(gradient), variable, learning_rate)


def build(kind: str, *, masked: bool, outputs: int, learning_rate: float, stock: bool) -> Any:
    recurrent = {
        "gru_after": lambda: keras.layers.GRU(HIDDEN, reset_after=True),
        "gru_before": lambda: keras.layers.GRU(HIDDEN, reset_after=False),
        "lstm": lambda: keras.layers.LSTM(HIDDEN),
        "rnn": lambda: keras.layers.SimpleRNN(HIDDEN),
    }[kind]()
    output = keras.layers.Dense(outputs, activation="sigmoid" if outputs == 1 else "softmax")
    embedding = keras.layers.Embedding(VOCABULARY, EMBEDDING, mask_zero=masked)
    model = keras.Sequential([keras.Input((LENGTH,), dtype="int32"), embedding, recurrent, output])
    adam = keras.optimizers.Adam if stock else SummedAdam
    model.compile(
        optimizer=adam(learning_rate=learning_rate, **ADAM),
        loss="binary_crossentropy" if outputs == 1 else "sparse_categorical_crossentropy",
    )
    return model


def negated_update(values: Any) -> Any:
    """The same values with the first third of the last axis, the update gate, negated."""
    values = np.array(values)
    values[..., : values.shape[-1] // 3] *= -1
    return values


def to_tidegate(kind: str, weights: list[Any]) -> Arrays:
    """Keras's weights in Keras's order -> tidegate's names and conventions."""
    embedding, kernel, recurrent_kernel, bias, output_kernel, output_bias = weights
    named: Arrays = {"embedding.weight": embedding}
    if kind.startswith("gru"):
        kernel, recurrent_kernel, bias = map(negated_update, (kernel, recurrent_kernel, bias))
    if kind == "gru_after":
        bias, named["recurrent.recurrent_bias"] = bias  # row 0 of the input, row 1 of the state
    named["recurrent.kernel"] = kernel
    named["recurrent.recurrent_kernel"] = recurrent_kernel
    named["recurrent.bias"] = bias
    named["output.kernel"] = output_kernel
    named["output.bias"] = output_bias
    return {name: np.array(named[name], np.float32) for name in sorted(named)}


def runs_of(kind: str) -> list[Arrays]:
    runs = [
        {"texts": texts, "masked": masked, "initial": "binary", "learning_rate": rate}
        for texts, masked in (("full", False), ("ragged", False), ("ragged", True))
        for rate in (1e-3, 3e-3)
    ]
    if kind.startswith("gru"):
        runs += [
            {"texts": "ragged", "masked": masked, "initial": "classes", "learning_rate": 3e-3}
            for masked in (False, True)
        ]
    runs = [
        {**run, "embedding_gradient": gradient} for gradient in ("summed", "stock") for run in runs
    ]
    for run in runs:
        padding = "none" if run["texts"] == "full" else ("masked" if run["masked"] else "read")
        run["name"] = (
            f"{run['embedding_gradient']}-{run['initial']}-padding_{padding}"
            f"-rate_{run['learning_rate']:g}"
        )
    return runs


def initial_weights(kind: str, *, outputs: int) -> list[Any]:
    """Keras's own initial weights, with small random biases, which would else hide mistakes."""
    keras.utils.set_random_seed(SEED)
    generator = np.random.default_rng(SEED)
    model = build(kind, masked=False, outputs=outputs, learning_rate=1e-3, stock=True)
    values = [np.array(value) for value in model.get_weights()]
    for place in (3, 5):
        values[place] += generator.uniform(-0.1, 0.1, values[place].shape).astype(np.float32)
    return values


def train(model: Any, texts: Arrays, targets: Any) -> list[float]:
    losses = []
    for step in range(STEPS):
        model.reset_metrics()  # the loss that Keras reports is a running mean
        target = targets[step * BATCH : (step + 1) * BATCH]
        losses.append(float(model.train_on_batch(padded_batch(texts, step), target)))
    return losses


def main() -> None:
    keras.config.set_floatx("float32")
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.experimental.enable_op_determinism()
    generator = np.random.default_rng(SEED)
    texts = {
        name: make_texts(ragged=name == "ragged", generator=generator)
        for name in ("full", "ragged")
    }
    for kind in KINDS:
        arrays: Arrays = {
            f"texts/{name}/{part}": values
            for name, parts in texts.items()
            for part, values in parts.items()
        }
        runs = runs_of(kind)
        for run in runs:
            outputs = 1 if run["initial"] == "binary" else CLASSES
            start = initial_weights(kind, outputs=outputs)
            for name, values in to_tidegate(kind, start).items():
                arrays[f"initial/{run['initial']}/{name}"] = values
            stock = run["embedding_gradient"] == "stock"
            model = build(
                kind,
                masked=run["masked"],
                outputs=outputs,
                learning_rate=run["learning_rate"],
                stock=stock,
            )
            model.set_weights(start)
            targets = texts[run["texts"]]["labels" if outputs == 1 else "classes"]
            losses = train(model, texts[run["texts"]], targets)
            arrays[f"{run['name']}/losses"] = np.array(losses, np.float64)
            if not stock:
                for name, values in to_tidegate(kind, model.get_weights()).items():
                    arrays[f"{run['name']}/final/{name}"] = values
            print(f"{kind} {run['name']}: {losses[0]:.4f} ... {losses[-1]:.4f}", flush=True)
        settings = {
            "kind": kind,
            "sizes": {
                "vocabulary": VOCABULARY,
                "embedding": EMBEDDING,
                "hidden": HIDDEN,
                "classes": CLASSES,
                "steps": STEPS,
                "batch": BATCH,
                "length": LENGTH,
            },
            "adam": ADAM,
            "runs": runs,
            "seed": SEED,
            "versions": {
                "python": platform.python_version(),
                "keras": keras.__version__,
                "tensorflow": tf.__version__,
                "numpy": np.__version__,
            },
        }
        arrays["settings"] = np.array(json.dumps(settings, sort_keys=True))
        np.savez_compressed(DATA / f"keras_{kind}.npz", **arrays)
        keras.backend.clear_session()


if __name__ == "__main__":
    main()
