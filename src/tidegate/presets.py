"""Arguments of TextClassifier that belong together, by name."""

from __future__ import annotations

from typing import Any

_FOR_FILES: dict[str, Any] = {
    "vocabulary_size": 30_000,
    "hidden_size": 64,
    "max_length": 400,
    "bidirectional": True,
    "pooling": "max+mean",
    "learning_rate": 2e-3,
    "beta_2": 0.98,
    "clip_norm": 1.0,
    "schedule": "linear",
    "warmup": 0.05,
    "word_dropout": 0.1,
    "vocabulary_dropout": 0.5,
    "dropout": 0.5,
    "ngrams": 2,
}
# Chosen by benchmarks/own_files.py --development.
PRESETS: dict[str, dict[str, Any]] = {
    # The lecture's job: what Keras does with IMDB, down to reading the padding.
    "lecture": {"tokenizer": "lecture", "masked": False, "epochs": 3, "calibrate": False},
    "default": _FOR_FILES,
    # Chosen on four fifths and one fifth of IMDB's training half, apart by film.
    "accurate": {
        **_FOR_FILES,
        "hidden_size": 256,
        "keep": "both",
        "context_vectors": True,
        "vocabulary_dropout": 0.0,
        "embedding_dropout": 0.5,
        "average": 0.998,
        "ngrams": 3,
        "validation_fraction": 0.1,
    },
    "fast": {"embedding_size": 64, "hidden_size": 64, "ngrams": 2},
}
