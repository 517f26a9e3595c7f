"""Networks that begin with vectors from their texts' own words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tidegate import TextClassifier
from tidegate.contexts import SPREAD, context_vectors
from tidegate.errors import ConfigError
from tidegate.text import FIRST_WORD_ID

LABELS = [1, 0, 1, 0] * 12
# Each label has words of its own, and both share some.
TEXTS = [
    " ".join(f"w{(7 * i + k * (k + 3)) % 12 + 8 * y}" for k in range(7))
    for i, y in enumerate(LABELS)
]


def classifier(**options: Any) -> TextClassifier:
    settings = {"embedding_size": 2, "hidden_size": 4, "max_length": 8, "epochs": 1}
    return TextClassifier(**{**settings, "context_vectors": True, **options})


def test_a_model_begins_with_its_texts_vectors_alone() -> None:
    """Of the texts that train, not of those held out; other rows are as large."""
    still: dict[str, Any] = {"learning_rate": 1e-12, "validation_fraction": 0.25}
    fitted = classifier(**still).fit(TEXTS, LABELS)
    table = fitted.model_.parameters["embedding.weight"]
    rows, _ = fitted.split(len(TEXTS))
    read = fitted.tokenizer_.encode_all([TEXTS[row] for row in rows], 8)
    wanted = context_vectors(read, len(table), FIRST_WORD_ID, 2, 0)
    assert len(wanted[0]) == len(table) - FIRST_WORD_ID == 12
    np.testing.assert_allclose(table[wanted[0]], wanted[1], atol=1e-8)
    plain = classifier(**still, context_vectors=False).fit(TEXTS, LABELS)
    smaller = plain.model_.parameters["embedding.weight"]
    ratio = table[:FIRST_WORD_ID] / smaller[:FIRST_WORD_ID]
    np.testing.assert_allclose(ratio, SPREAD * np.sqrt(3) / 0.05, rtol=1e-4)


def test_stopped_and_resumed_the_bits_are_the_same(tmp_path: Path) -> None:
    whole = classifier(epochs=3).fit(TEXTS, LABELS)
    for event in classifier(epochs=3).fit_steps(TEXTS, LABELS, checkpoint=tmp_path / "c"):
        if getattr(event, "val_loss", None) is not None:
            break
    resumed = classifier(epochs=3)
    for _ in resumed.fit_steps(TEXTS, LABELS, checkpoint=tmp_path / "c", resume=True):
        pass
    for name, value in whole.model_.parameters.items():
        assert value.tobytes() == resumed.model_.parameters[name].tobytes()


def test_a_trained_model_keeps_its_own_vectors() -> None:
    old = classifier().fit(TEXTS, LABELS)
    new = TextClassifier.continue_from(old, TEXTS, LABELS, learning_rate=1e-12)
    np.testing.assert_allclose(
        new.model_.parameters["embedding.weight"],
        old.model_.parameters["embedding.weight"],
        atol=1e-8,
    )
    assert new.context_vectors is True


def test_two_beginnings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="context_vectors=True and vectors='x' are two"):
        classifier(vectors="x").fit(TEXTS, LABELS)
    with pytest.raises(ConfigError, match="context_vectors=1 is neither True nor False"):
        classifier(context_vectors=1).fit(TEXTS, LABELS)


def test_a_model_can_be_trained_on_texts_of_few_patterns() -> None:
    texts = [f"this x{i} is {word}" for i in range(100) for word in ("good", "bad")]
    model = TextClassifier(context_vectors=True, hidden_size=4, embedding_size=32, epochs=1)
    model.fit(texts, ["good", "bad"] * 100)
    assert np.isfinite(model.predict_proba(texts[:2])).all()
