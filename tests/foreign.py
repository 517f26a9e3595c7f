"""Random classifiers that are not trained, and words for them."""

from __future__ import annotations

import random

import numpy as np

from tidegate import TextClassifier, arguments
from tidegate.history import History
from tidegate.model import ModelConfig, TextModel
from tidegate.text import FIRST_WORD_ID, Tokenizer, Vocabulary


def random_config(seed: int) -> ModelConfig:
    """Every cell, form, depth, direction, pooling and mask, in small sizes."""
    draw = random.Random(seed)  # noqa: S311
    cells = [("gru", "after"), ("gru", "before"), ("lstm", "after"), ("rnn", "after")]
    cell, reset = draw.choice(cells)
    masked = draw.random() < 0.6
    kinds = ["last", "max", "mean", *(["attention"] if masked else [])]
    pooled = draw.sample(kinds, draw.randint(1, 3)) if draw.random() < 0.6 else ["last"]
    return ModelConfig(
        cell=cell,
        reset=reset,
        vocabulary_size=draw.randint(5, 30),
        embedding_size=draw.randint(1, 9),
        hidden_size=draw.randint(2, 12),
        classes=draw.choice([2, 2, 3, 5]),
        max_length=draw.randint(1, 12),
        masked=masked,
        layers=draw.choice([1, 1, 2, 3]),
        bidirectional=draw.random() < 0.5,
        pooling="+".join(pooled),
        layer_norm=draw.random() < 0.3,
    )


def random_classifier(config: ModelConfig, seed: int = 0) -> TextClassifier:
    """A classifier of this shape, of which no weight is 0 or 1."""
    model = TextModel.initialize(config, seed)
    generator = np.random.default_rng(seed)
    for value in model.parameters.values():
        value += (0.3 * generator.standard_normal(value.shape)).astype(np.float32)
    fields = config.to_json()
    for name in ("classes", "targets"):  # which no option says
        fields.pop(name, None)
    classifier = TextClassifier(**fields)
    words = tuple(f"w{i}" for i in range(config.vocabulary_size - FIRST_WORD_ID))
    classifier.model_ = model
    classifier.tokenizer_ = Tokenizer("words", Vocabulary(words))
    classifier.classes_ = np.array([f"label {i}" for i in range(config.classes)])
    classifier.training_ = arguments.to_json(classifier)
    classifier.history_ = History()
    classifier.ngrams_, classifier.mix_, classifier.thresholds_ = None, (1.0, 0.0), None
    return classifier
