"""The linear model of n-grams: its buckets, its optimum, and its place beside the network."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate import ops
from tidegate.data import load_imdb
from tidegate.errors import ShapeError
from tidegate.ngrams import (
    EVEN_MIX,
    MAX_BITS,
    BucketRows,
    bits_for,
    fit_mix,
    fit_ngrams,
    hash_texts,
)
from tidegate.tokens import TOKENIZERS, TokenizerKind, tokens

pytestmark = pytest.mark.usefixtures("restored_threads")

WORDS = ["a", "b", "cc", "ddd", "éé", "eeeeeeee", "fffffffff"]
Pairs = set[tuple[str, ...]]


def plain_ngrams(kind: TokenizerKind, text: str, longest: int) -> Pairs:
    found = tokens(kind, text)
    return {
        tuple(found[i : i + n]) for n in range(1, longest + 1) for i in range(len(found) - n + 1)
    }


def row(rows: BucketRows, i: int) -> list[int]:
    return [int(b) for b in rows.buckets[rows.offsets[i] : rows.offsets[i + 1]]]


@pytest.mark.parametrize("kind", TOKENIZERS)
@given(
    texts=st.lists(
        st.lists(st.sampled_from(["a", "b", "cc", "ddd", "éé", "eeeeeeee", "fffffffff"])),
        min_size=1,
    ),
    longest=st.integers(1, 4),
)
def test_texts_share_a_bucket_where_they_share_an_ngram(
    kind: TokenizerKind, texts: list[list[str]], longest: int
) -> None:
    joined = [" ".join(words) for words in texts]
    rows = hash_texts(joined, kind, longest, 30)  # so many that none are shared by chance
    grams = [plain_ngrams(kind, text, longest) for text in joined]
    for i, mine in enumerate(grams):
        buckets = row(rows, i)
        assert all(first < following for first, following in pairwise(buckets))
        assert len(buckets) == len(mine)
        for j, its in enumerate(grams):
            assert len(set(buckets) & set(row(rows, j))) == len(mine & its)


def test_blocks_and_threads_change_nothing() -> None:
    generator = np.random.default_rng(0)
    texts = [" ".join(f"w{i}" for i in generator.integers(0, 500, n)) for n in range(2500)]
    found = []
    for threads in (1, 3):
        ops.set_threads(threads)
        found.append(hash_texts(iter(texts[::2]), "words", 2, 20))
    np.testing.assert_array_equal(found[0].buckets, found[1].buckets)
    np.testing.assert_array_equal(found[0].offsets, found[1].offsets)
    assert len(found[0]) == 1250
    one = hash_texts([texts[2000]], "words", 2, 20)
    assert row(found[0], 1000) == row(one, 0)
    chosen = found[0].select(np.array([7, 3, 7, 0]))
    assert [row(chosen, i) for i in range(4)] == [row(found[0], i) for i in (7, 3, 7, 0)]
    assert len(hash_texts([], "words", 2, 20)) == 0


def test_few_texts_need_few_buckets() -> None:
    assert bits_for(["a b c"], "words", 2) == 10
    texts = [f"word{i} other{i}" for i in range(3000)]  # 9,000 n-grams
    assert bits_for(texts, "words", 2) == 16
    many = [" ".join(map(str, range(400_000)))]
    assert bits_for(many, "words", 2) == MAX_BITS
    # Weights of all classes together take no more than a limit.
    assert bits_for(many, "words", 2, 20) == MAX_BITS
    assert bits_for(many, "words", 2, 5_000) == 13
    assert bits_for(["a"], "words", 2, 100_000) == 9


TEXTS = ["a b c", "a c", "b b d", "d e", "c d e f", "a", "f f b"]
CLASSES = np.array([1, 1, 0, 0, 0, 1, 0], np.int32)


def fit(classes: Any = CLASSES, count: int = 2, **options: Any) -> tuple[Any, BucketRows]:
    rows = hash_texts(TEXTS, "words", 2, 12)
    settings: dict[str, Any] = {"kind": "words", "longest": 2, "bits": 12, **options}
    return fit_ngrams(rows, classes, count, **settings), rows


@pytest.mark.parametrize("cost", [0.01, 1.0, 50.0])
@pytest.mark.parametrize("target", [0, 1, 2])
def test_the_optimum_has_no_gradient(cost: float, target: int) -> None:
    """Of the loss that is stated, in float64, with respect to the weights and the bias."""
    classes = np.array([1, 1, 0, 2, 2, 1, 0], np.int32)
    model, rows = fit(classes, 3, cost=cost)
    dense = np.zeros((len(TEXTS), 1 << 12))
    for i in range(len(TEXTS)):
        dense[i, row(rows, i)] = 1.0
    y = np.where(classes == target, 1.0, -1.0)
    rates = [len(TEXTS) * dense[y == side].mean(axis=0) + 2 for side in (1, -1)]
    rarity = np.log((len(TEXTS) + 1) / (dense.sum(axis=0) + 1)) + 1
    scales = np.abs(np.log(rates[0] / rates[1])) + 0.2 * rarity
    x = dense * scales
    weights = model.weights[:, target] / scales
    bias = float(model.bias[target])
    margins = y * (x @ weights + bias)
    pull = -cost * y / (1 + np.exp(margins))
    gradient = weights + x.T @ pull
    # Each text may be off by a thousandth of the cost, and float16 rounds each weight.
    allowed = 1e-3 * cost * np.abs(x).sum(axis=0).max() + 1e-3 * np.abs(weights).max()
    assert np.abs(gradient).max() < allowed
    assert allowed < 0.2 * (np.abs(x.T @ pull).max() + np.abs(weights).max())
    assert abs(bias + pull.sum()) < 1e-3 * cost * len(y)
    np.testing.assert_allclose(
        model.scores(TEXTS)[:, target], x @ weights + bias, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("target", [0, 1, 2])
def test_a_text_that_counts_twice_is_as_two_texts(target: int) -> None:
    counts = np.array([1, 3, 1, 2, 1, 1, 4])
    classes = np.array([1, 1, 0, 2, 2, 1, 0], np.int32)
    model, rows = fit(classes, 3, counts=counts.astype(np.float64), cost=5.0)
    again = np.repeat(np.arange(len(TEXTS)), counts)
    settings: dict[str, Any] = {"kind": "words", "longest": 2, "bits": 12, "cost": 5.0}
    repeated = fit_ngrams(rows.select(again), classes[again], 3, **settings)
    # Both stop within a thousandth of each text's cost.
    np.testing.assert_allclose(model.scores(TEXTS), repeated.scores(TEXTS), atol=0.02)
    plain = fit(classes, 3, cost=5.0)[0]
    assert np.abs(plain.scores(TEXTS) - model.scores(TEXTS))[:, target].max() > 0.1
    # Counting 1 each is counting nothing else, bit for bit.
    ones = fit(classes, 3, cost=5.0, counts=np.ones(7))[0]
    assert (ones.weights == plain.weights).all()
    assert (ones.bias == plain.bias).all()


@pytest.mark.parametrize("count", [1e-30, 1e18])
def test_counts_of_any_size_give_finite_weights(count: float) -> None:
    model, _ = fit(counts=np.array([1.0, count, 1.0, count, 1.0, 1.0, 1.0]))
    assert np.isfinite(model.weights).all()
    assert np.isfinite(model.bias).all()


@pytest.mark.parametrize(
    "counts", [np.ones(6), np.zeros(7), np.full(7, np.nan), np.ones(7, np.float32)]
)
def test_counts_that_are_refused(counts: np.ndarray) -> None:
    with pytest.raises(ShapeError, match="counts has"):
        fit(counts=counts)


def test_no_text_of_many_is_left_far_from_its_optimum(real_reviews: Path) -> None:
    """A root that is missed once, in one of 25,000 reviews, spoils every weight after it."""
    data = load_imdb(real_reviews)
    y = np.array([label == "positive" for label in data.train.labels])
    rows, cost = hash_texts(data.train.texts, "words", 2, 18), 10.0
    model = fit_ngrams(rows, y.astype(np.int32), 2, kind="words", longest=2, bits=18, cost=cost)
    sign = np.where(y, 1.0, -1.0)
    margins = sign * model.score_rows(rows)[:, 0]
    assert margins.min() > 0
    duals = cost / (1 + np.exp(margins))
    assert abs(float(model.bias[0]) - sign @ duals) < 0.1 * cost


def test_a_rare_class_is_found_among_many() -> None:
    """What all texts share speaks for no class, however few texts the class has."""
    texts = [f"the a of {word} b" for word in ["x"] * 5 + ["y"] * 95]
    rows = hash_texts(texts, "words", 1, 10)
    classes = np.array([0] * 5 + [1] * 90 + [2] * 5, np.int32)
    model = fit_ngrams(rows, classes, 4, kind="words", longest=1, bits=10)
    assert np.isfinite(model.weights).all()  # of the class without texts too
    shared = model.scores(["the a of b"])[0] - model.bias
    told = model.scores(["x"])[0] - model.bias
    assert told[0] > 10 * abs(shared[0])
    assert (model.scores(texts[:5]).argmax(axis=1) == 0).all()


def test_two_classes_have_one_score_and_three_have_three() -> None:
    model, rows = fit()
    assert model.weights.shape == (1 << 12, 1)
    np.testing.assert_array_equal(model.scores(TEXTS), model.score_rows(rows))
    assert ((model.scores(TEXTS)[:, 0] > 0) == (CLASSES == 1)).all()
    classes = np.array([1, 1, 0, 2, 2, 1, 0], np.int32)
    three, _ = fit(classes, 3)
    assert (three.scores(TEXTS).argmax(axis=1) == classes).all()
    assert model.scores([]).shape == (0, 1)


def test_the_same_bits_on_any_number_of_threads() -> None:
    found = []
    for threads in (1, 3):
        ops.set_threads(threads)
        model, _ = fit(np.arange(7, dtype=np.int32), 7)
        found.append(model.weights.tobytes() + model.scores(TEXTS).tobytes())
    assert found[0] == found[1]
    other, _ = fit(np.arange(7, dtype=np.int32), 7, seed=1)
    np.testing.assert_allclose(other.scores(TEXTS), model.scores(TEXTS), rtol=0.02, atol=0.01)


def test_what_does_not_fit_is_refused() -> None:
    model, rows = fit()
    with pytest.raises(ShapeError, match="classes runs from 0 to 1; it must lie in"):
        fit(CLASSES, 1)
    with pytest.raises(ShapeError, match="classes has shape"):
        fit(CLASSES[:3])
    with pytest.raises(ShapeError, match=r"buckets runs from .* it must lie in 0\.\.4095"):
        model.score_rows(hash_texts(TEXTS, "words", 2, 20))
    with pytest.raises(ShapeError, match="offsets must rise from 0"):
        model.score_rows(BucketRows(rows.buckets, rows.offsets[:-1]))


# --- both models together


def loss(mix: tuple[float, float], both: Any, targets: Any) -> float:
    scores = mix[0] * both[0] + mix[1] * both[1]
    if scores.shape[1] == 1:
        scores = np.concatenate([np.zeros_like(scores), scores], axis=1)
    log_shares = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    prior = 0.5 * sum((factor - even) ** 2 for factor, even in zip(mix, EVEN_MIX, strict=True))
    return float(-log_shares[np.arange(len(targets)), targets].sum() + prior)


@pytest.mark.parametrize("outputs", [1, 4])
@pytest.mark.parametrize("seed", range(3))
def test_the_mix_has_the_least_loss(outputs: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, max(2, outputs), 200).astype(np.int32)
    told = np.eye(outputs)[targets] if outputs > 1 else targets[:, None] - 0.5
    both = [
        (strength * told + generator.standard_normal((200, outputs))) * scale
        for strength, scale in ((1.0, 3.0), (0.5, 1.0))
    ]
    mix = fit_mix(both[0], both[1], targets)
    least = loss(mix, both, targets)
    for move in ((1e-3, 0), (-1e-3, 0), (0, 1e-3), (0, -1e-3)):
        moved = (mix[0] + move[0], mix[1] + move[1])
        assert loss(moved, both, targets) > least
    assert min(mix) > 0


def test_a_model_that_says_the_opposite_is_left_out() -> None:
    generator = np.random.default_rng(0)
    targets = generator.integers(0, 2, 100).astype(np.int32)
    good = (targets[:, None] - 0.5) * 4 + generator.standard_normal((100, 1))
    assert fit_mix(good, -good, targets)[1] == 0.0
    assert fit_mix(-good, good, targets)[0] == 0.0
    assert fit_mix(good[:0], good[:0], targets[:0]) == EVEN_MIX
    few = fit_mix(good[:2], good[:2], targets[:2])
    assert few == pytest.approx(EVEN_MIX, abs=0.3)
