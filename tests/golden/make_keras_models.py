"""Make tests/data/foreign_*.keras, foreign_*.h5 and foreign_keras.json: models of Keras itself.

Made with Python 3.11, Keras 3.15.1 and TensorFlow 2.21.0 (CPU, float32); run with ``python
tests/golden/make_keras_models.py`` where these are installed.

The JSON holds, for each file, what Keras computes of the same 12 texts of 0 to 9 ids, padded in
front: its outputs, which are probabilities. Id 0 is padding, 1 unknown words, the rest are words.
"""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras  # type: ignore[import-not-found,import-untyped,unused-ignore]
import numpy as np
from keras import layers  # type: ignore[import-not-found,import-untyped,unused-ignore]

DATA = Path(__file__).resolve().parent.parent / "data"
VOCABULARY, EMBEDDING, HIDDEN, LENGTH = 12, 3, 4, 9
FUNCTIONAL = ("foreign_lstm_mean.keras", "foreign_lstm.h5")  # the others are Sequential


def embedding(masked: bool) -> Any:
    return layers.Embedding(VOCABULARY, EMBEDDING, mask_zero=masked)


def models() -> dict[str, list[Any]]:
    """The layers of each file."""
    gru, lstm, rnn = layers.GRU, layers.LSTM, layers.SimpleRNN
    return {
        "foreign_stacked_gru.keras": [
            embedding(True),
            layers.SpatialDropout1D(0.1),
            layers.Bidirectional(gru(HIDDEN, return_sequences=True)),
            layers.Bidirectional(gru(HIDDEN)),
            layers.Dropout(0.2),
            layers.Dense(1, activation="sigmoid"),
        ],
        "foreign_gru_before.h5": [
            embedding(False),
            gru(HIDDEN, reset_after=False),
            layers.Dense(2, activation="softmax"),
        ],
        "foreign_lstm_mean.keras": [
            embedding(True),
            layers.Bidirectional(lstm(HIDDEN, return_sequences=True)),
            layers.GlobalAveragePooling1D(),
            layers.Dense(3, activation="softmax"),
        ],
        "foreign_lstm.h5": [
            embedding(False),
            layers.Masking(),
            layers.Bidirectional(lstm(HIDDEN)),
            layers.Dense(1, activation="sigmoid"),
        ],
        "foreign_rnn_max.keras": [
            embedding(False),
            rnn(HIDDEN, return_sequences=True),
            layers.GlobalMaxPooling1D(),
            layers.Dense(3, activation="softmax"),
        ],
    }


def main() -> None:
    warnings.simplefilter("ignore")  # .h5 is an old format, which is why it is here
    random = np.random.default_rng(20261123)
    lengths = [0, 1, LENGTH, *random.integers(1, LENGTH + 1, 9)]
    texts = [random.integers(1, VOCABULARY, n).tolist() for n in lengths]
    ids = np.zeros((len(texts), LENGTH), np.int32)
    for row, text in zip(ids, texts, strict=True):
        row[LENGTH - len(text) :] = text
    outputs = {}
    for name, chain in models().items():
        model = keras.Sequential([keras.Input((LENGTH,), dtype="int32"), *chain])
        if name in FUNCTIONAL:
            model = keras.Model(model.inputs, model.outputs)
        weights = [random.normal(0, 0.5, w.shape).astype(np.float32) for w in model.get_weights()]
        if any(isinstance(layer, layers.Masking) for layer in chain):
            weights[0][0] = 0.0  # the row that Masking leaves out
        model.set_weights(weights)
        model.save(DATA / name)
        outputs[name] = np.asarray(model(ids), np.float64).tolist()
    # A mean of no steps at all is no number in Keras.
    outputs["foreign_lstm_mean.keras"][0] = None
    settings = {"keras": keras.__version__, "length": LENGTH, "vocabulary": VOCABULARY}
    told = {**settings, "texts": texts, "outputs": outputs}
    (DATA / "foreign_keras.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
