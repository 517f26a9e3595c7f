"""Probes: deciding words of held-out texts, and ever more words that say nothing behind them."""

from __future__ import annotations

import numpy as np
import pytest

from tidegate.compare.distance import Probes, make_probes, right_answers
from tidegate.ngrams import NgramModel, bits_for, fit_ngrams, hash_texts

NEUTRAL = [f"word{i}" for i in range(60)]
LOUD = (["lovely", "fine"], ["dreadful", "dull"], ["odd", "queer"])


def corpus(count: int, classes: int, seed: int) -> tuple[list[str], np.ndarray]:
    """Texts of 50 words of which two in the middle tell the class."""
    draw = np.random.default_rng(seed)
    texts, targets = [], []
    for i in range(count):
        words = draw.choice(NEUTRAL, 50).tolist()
        words[20:22] = draw.choice(LOUD[i % classes], 2).tolist()
        texts.append(" ".join(words))
        targets.append(i % classes)
    return texts, np.array(targets, np.int32)


def linear(texts: list[str], targets: np.ndarray, count: int) -> NgramModel:
    bits = bits_for(texts, "words", 2, count)
    rows = hash_texts(texts, "words", 2, bits)
    return fit_ngrams(rows, targets, count, kind="words", longest=2, bits=bits)


def probes_of(classes: int, *, many: bool = False, max_length: int = 41) -> Probes | None:
    texts, targets = corpus(400, classes, 1)
    held, held_targets = corpus(100, classes, 2)
    if many:
        targets, held_targets = (
            np.eye(classes, dtype=np.int32)[t] for t in (targets, held_targets)
        )
    return make_probes(linear(texts, targets, classes), held, held_targets, max_length)


@pytest.mark.parametrize(("classes", "many"), [(2, False), (3, False), (3, True)])
def test_the_deciding_words_are_cut_out_and_neutral_ones_follow(classes: int, many: bool) -> None:
    probes = probes_of(classes, many=many)
    assert probes is not None
    _, targets = corpus(100, classes, 2)
    assert len(probes.rows) == len(probes.spans) == len(set(probes.rows.tolist())) == 50
    for row, span in zip(probes.rows.tolist(), probes.spans, strict=True):
        assert any(word in LOUD[targets[row]] for word in span.split())
    assert probes.distances == (0, 5, 10, 20, 30)  # of 41 one is the mark, and 10 decide
    for filler in probes.fillers:
        assert len(filler) == probes.reach
        assert set(filler) <= set(NEUTRAL)
    first = probes.spans[0].split()
    assert probes.at(0)[0].split() == first
    assert probes.at(5)[0].split() == [*first, *probes.fillers[0][:5]]
    assert probes.at(30)[0].split()[:15] == probes.at(5)[0].split()
    assert probes.in_front()[0].split() == [*probes.fillers[0], *first]


def test_the_same_probes_every_time() -> None:
    assert repr(probes_of(2)) == repr(probes_of(2))


def test_texts_that_are_too_short_or_few_have_none() -> None:
    assert probes_of(2, max_length=4) is None
    texts, targets = corpus(400, 2, 1)
    model = linear(texts, targets, 2)
    assert make_probes(model, texts[:10], targets[:10], 200) is None
    assert make_probes(model, ["lovely", "dull"] * 50, targets[:100], 200) is None
    assert make_probes(model, ["", ""], targets[:2], 200) is None


def test_right_answers() -> None:
    shares = np.array([[0.6, 0.4], [0.2, 0.8]])
    assert right_answers(shares, np.array([0, 0], np.int32)).tolist() == [True, False]
    table = np.array([[1, 1], [0, 1]], np.int32)
    assert right_answers(shares, table).tolist() == [True, False, True, True]
