"""Scores of a text with words left out: the same as of a text without them."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate import TextClassifier
from tidegate.erasure import Erasure, log_odds
from tidegate.model import ModelConfig, TextModel
from tidegate.model_file import TrainedModel
from tidegate.ngram_places import TextNgrams
from tidegate.ngrams import NgramModel, hash_texts
from tidegate.text import Tokenizer, Vocabulary
from tidegate.tokens import TOKENIZERS, TokenizerKind, tokens

SMALL = ModelConfig(
    vocabulary_size=9, embedding_size=5, hidden_size=3, max_length=6, classes=3, masked=True
)


@cache
def make_ngrams(kind: TokenizerKind, longest: int, bits: int, outputs: int = 3) -> NgramModel:
    generator = np.random.default_rng(bits)
    weights = generator.standard_normal((1 << bits, outputs)).astype(np.float32)
    return NgramModel(kind, longest, weights, weights[0].copy())


def make_classifier(
    config: ModelConfig, ngrams: NgramModel | None = None, **tokenizer: Any
) -> TextClassifier:
    model = TextModel.initialize(config, 1)
    generator = np.random.default_rng(2)
    for value in model.parameters.values():
        value += (0.4 * generator.standard_normal(value.shape)).astype(np.float32)
    words = Vocabulary(("a", "film", "<br>", "warm", "cold"))
    trained = TrainedModel(
        model,
        Tokenizer("words", words, **tokenizer),
        np.arange(config.classes),
        {},
        [],
        ngrams,
        (0.8, 0.3),
    )
    classifier = TextClassifier()
    classifier._take(trained)
    return classifier


def near(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-5)


configs = st.builds(
    lambda pooling, **changed: replace(SMALL, pooling=pooling, **changed),
    pooling=st.sampled_from(["last", "max+mean"]),
    masked=st.booleans(),
    layers=st.integers(1, 2),
    bidirectional=st.booleans(),
    layer_norm=st.booleans(),
    cell=st.sampled_from(["gru", "lstm"]),
)
# Line breaks are what makes it hard: those left beside one another are one.
texts = st.lists(
    st.sampled_from(["a", "film", "\n", "<br>", "warm", "cold", "zyzzyva", "!"]),
    min_size=1,
    max_size=10,
).map(" ".join)


@settings(max_examples=80)
@given(
    configs,
    texts,
    st.sampled_from(["end", "start", "both", "windows"]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.integers(0, 2**32),
)
def test_scores_are_those_of_the_texts_that_are_left(
    config: ModelConfig,
    text: str,
    keep: str,
    start: bool,
    unknown: bool,
    ngrams: bool,
    seed: int,
) -> None:
    linear = make_ngrams("words", 3, 7) if ngrams else None
    classifier = make_classifier(config, linear, keep=keep, start=start, unknown=unknown)
    words = tokens("words", text)
    if not words:
        return
    erasure = Erasure(classifier, text)
    near(erasure.whole(), classifier._logits([text])[0])
    left = [" ".join(words[:i] + words[i + 1 :]) for i in range(len(words))]
    near(erasure.without_each(), classifier._logits(left))
    begun = [" ".join(words[: i + 1]) for i in range(len(words))]
    near(erasure.up_to_each(), classifier._logits(begun))
    kept = np.random.default_rng(seed).random((7, len(words))) < 0.5
    some = [" ".join(w for w, k in zip(words, row, strict=True) if k) for row in kept.tolist()]
    near(erasure.kept(kept), classifier._logits(some))
    if linear is None:
        assert erasure.beside() is None
        assert erasure.ngrams_without_each() is None
        return
    beside = erasure.beside()
    assert beside is not None
    network = classifier._logits([text]) - beside
    near(beside, linear.scores([text])[0] * 0.3)
    near(erasure.ngrams_without_each(), network + linear.scores(left) * 0.3)


WORDS = ["a", "b", "cc", "éé", "eeeeeeee", "fffffffff", "g" * 16, "h" * 17, "\ud800"]


@pytest.mark.parametrize("kind", TOKENIZERS)
@given(
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=12),
    st.integers(1, 5),
    st.sampled_from([3, 12, 20]),
)
def test_ngrams_stand_where_the_compiled_module_finds_them(
    kind: TokenizerKind, words: list[str], longest: int, bits: int
) -> None:
    model = make_ngrams(kind, longest, bits, 2)
    found = TextNgrams(model, words)
    rows = hash_texts([" ".join(words)], kind, longest, bits)
    assert found._distinct.tolist() == rows.buckets.tolist()

    def scores(texts: list[list[str]]) -> Any:
        return model.scores(" ".join(text) for text in texts)

    near(found.score(), scores([words])[0])
    count = len(words)
    direction = np.array([0.3, -2.0])
    shares = found.shares(direction)
    near(shares.sum(), (found.score() - model.bias) @ direction)
    near(found.up_to(np.arange(count + 1)), scores([words[:i] for i in range(count + 1)]))
    for wide in (1, 2):
        begins = np.arange(count - wide + 1)
        if len(begins):
            left = scores([words[:i] + words[i + wide :] for i in begins])
            near(found.without(begins, begins + wide), left)


@pytest.mark.parametrize(("targets", "classes"), [("one", 2), ("one", 3), ("many", 3)])
def test_log_odds_are_those_of_the_probabilities(targets: str, classes: int) -> None:
    model = make_classifier(replace(SMALL, classes=classes, targets=targets)).model_
    logits = np.random.default_rng(0).standard_normal((4, model.config.logits))
    shares = model.probabilities(logits.astype(np.float32))
    for number in range(classes):
        expected = np.log(shares[:, number] / (1 - shares[:, number]))
        np.testing.assert_allclose(log_odds(model.config, logits, number), expected, rtol=1e-5)


def test_log_odds_do_not_end_where_probabilities_do() -> None:
    config = replace(SMALL, classes=3)
    far = np.array([[0.0, 100.0, -100.0]])
    assert log_odds(config, far, 1) == pytest.approx(100.0)
    assert log_odds(config, far, 2) == pytest.approx(-200.0)
