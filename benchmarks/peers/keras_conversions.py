"""Keras's side of conversions.py: runs tidegate's exports, and makes models of its own."""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from keras import layers


def probabilities(outputs: Any) -> Any:
    array = np.asarray(outputs, np.float64)
    return np.concatenate([1 - array, array], axis=1) if array.shape[1] == 1 else array


def own_model(job: dict[str, Any], length: int) -> Any:
    """Of the job's shape, as far as Keras's own layers have it."""
    kinds = {"gru": layers.GRU, "lstm": layers.LSTM, "rnn": layers.SimpleRNN}
    pooling = next((p for p in job["pooling"].split("+") if p in ("max", "mean")), "last")
    if job["masked"] and pooling == "max":
        pooling = "last"
    chain = [
        keras.Input((length,), dtype="int32"),
        layers.Embedding(job["vocabulary_size"], job["embedding_size"], mask_zero=job["masked"]),
        layers.SpatialDropout1D(0.2),
    ]
    for layer in range(job["layers"]):
        last = layer + 1 == job["layers"]
        options = {"reset_after": job["reset"] == "after"} if job["cell"] == "gru" else {}
        made = kinds[job["cell"]](
            job["hidden_size"], return_sequences=not last or pooling != "last", **options
        )
        if layer and job["layer_norm"]:
            chain.append(layers.LayerNormalization(epsilon=1e-5))
        chain.append(layers.Bidirectional(made) if job["bidirectional"] else made)
    if pooling != "last":
        pool = layers.GlobalMaxPooling1D if pooling == "max" else layers.GlobalAveragePooling1D
        chain.append(pool())
    if job["layer_norm"]:
        chain.append(layers.LayerNormalization(epsilon=1e-5))
    units = 1 if job["classes"] == 2 and job["seed"] % 3 else job["classes"]
    chain.append(layers.Dense(units, activation="sigmoid" if units == 1 else "softmax"))
    model = keras.Sequential(chain)
    generator = np.random.default_rng(job["seed"])
    weights = []
    for variable in model.weights:  # as conversions.py makes them
        w = np.asarray(variable)
        spread = 0.2 if w.ndim == 1 else min(0.2, 0.5 / w.shape[-1] ** 0.5)
        share = 0.6 if job["cell"] == "rnn" and "recurrent_kernel" in variable.path else 1.0
        weights.append(share * (w + spread * generator.standard_normal(w.shape)))
    model.set_weights(weights)
    return model


def main() -> None:
    warnings.simplefilter("ignore")
    folder = Path(sys.argv[1])
    for job in json.loads((folder / "jobs.json").read_text()):
        seed = job["seed"]
        ids = np.load(folder / f"ids{seed}.npy").astype(np.int32)
        model = keras.saving.load_model(folder / job["file"])
        np.savez(folder / f"of_ours{seed}.npz", probabilities=probabilities(model(ids)))
        own = own_model(job, ids.shape[1])
        name = f"theirs{seed}{'.h5' if seed % 4 == 3 else '.keras'}"
        own.save(folder / name)
        np.save(folder / f"of_theirs{seed}.npy", probabilities(own(ids)))
        (folder / f"theirs{seed}.json").write_text(json.dumps({"file": name}))
        keras.backend.clear_session()
    print(json.dumps({"keras": keras.__version__, "tensorflow": tf.__version__}))


if __name__ == "__main__":
    main()
