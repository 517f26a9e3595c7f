"""Words' vectors from their neighbours: counts, information, factors, and what comes of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate import _kernels, ops
from tidegate.batch import TokenizedTexts
from tidegate.contexts import SPREAD, _information, _leading, context_vectors
from tidegate.errors import ShapeError

pytestmark = pytest.mark.usefixtures("restored_threads")

FIRST = 2  # ids below it are no words


def tokenized(rows: list[list[int]]) -> TokenizedTexts:
    offsets = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    return TokenizedTexts(np.array([i for row in rows for i in row], np.int32), offsets)


def plain_counts(rows: list[list[int]], words: int, window: int, least: int) -> np.ndarray:
    counts = np.zeros((words, words))
    for row in rows:
        for i, left in enumerate(row):
            for distance, right in enumerate(row[i + 1 : i + 1 + window], start=1):
                if left >= FIRST and right >= FIRST:
                    counts[left, right] += window + 1 - distance
                    counts[right, left] += window + 1 - distance
    counts[counts < least] = 0
    return counts


def dense(offsets: np.ndarray, columns: np.ndarray, values: np.ndarray) -> np.ndarray:
    table = np.zeros((len(offsets) - 1, len(offsets) - 1))
    table[np.repeat(np.arange(len(table)), np.diff(offsets)), columns] = values
    return table


@given(
    rows=st.lists(st.lists(st.integers(0, 8), max_size=12), max_size=6),
    window=st.integers(1, 4),
    least=st.integers(1, 6),
)
def test_neighbours_are_counted_by_their_distance(
    rows: list[list[int]], window: int, least: int
) -> None:
    texts = tokenized(rows)
    counted = _kernels.count_contexts(texts.token_ids, texts.offsets, 9, FIRST, window, least)
    for begin, end in zip(counted[0], counted[0][1:], strict=False):
        assert (np.diff(counted[1][begin:end]) > 0).all()
    np.testing.assert_array_equal(dense(*counted), plain_counts(rows, 9, window, least))


def many_rows(seed: int = 0, words: int = 700) -> list[list[int]]:
    """So many words that several tasks share them."""
    generator = np.random.default_rng(seed)
    drawn = words ** generator.random((120, 50))
    return [[int(i) for i in row[: 5 + k % 40]] for k, row in enumerate(drawn)]


def test_information_is_of_smoothed_shares() -> None:
    rows = many_rows(words=40)
    texts = tokenized(rows)
    counted = _kernels.count_contexts(texts.token_ids, texts.offsets, 40, FIRST, 3, 2)
    found = dense(*_information(*counted))
    counts = plain_counts(rows, 40, 3, 2)
    shares = counts.sum(axis=0) ** 0.875
    shares /= shares.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        wanted = np.log(counts / counts.sum() / np.outer(shares, shares))
    wanted[~(wanted > 0)] = 0.0
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    assert 0 < np.count_nonzero(found) < np.count_nonzero(counts)


def test_the_factors_hold_the_strongest_directions() -> None:
    """Against LAPACK's eigenvectors: the share of the matrix that each basis keeps."""
    texts = tokenized(many_rows(words=300))
    counted = _kernels.count_contexts(texts.token_ids, texts.offsets, 300, FIRST, 5, 3)
    sparse = _information(*counted)
    matrix = dense(*sparse)
    basis, strengths = _leading(*sparse, 24, 0)
    np.testing.assert_allclose(basis.T @ basis, np.eye(24), atol=0.2)
    eigenvalues = np.sort(np.abs(np.linalg.eigvalsh(matrix)))[::-1][:24]
    kept = np.linalg.norm(np.linalg.qr(basis)[0].T @ matrix) ** 2
    assert kept > 0.95 * np.square(eigenvalues).sum()
    np.testing.assert_allclose(strengths[0], eigenvalues[0], rtol=0.01)
    # Eigenvalues that lie near each other are mixed; their span is what counts.
    np.testing.assert_allclose(strengths[1:9], eigenvalues[1:9], rtol=0.15)


def test_words_of_like_neighbours_have_like_vectors() -> None:
    generator = np.random.default_rng(1)
    groups = np.arange(FIRST, FIRST + 60).reshape(3, 20)
    # A sentence has words of one group only, so that a word's neighbours say which it is of.
    rows = [[int(i) for i in generator.choice(groups[k % 3], 8)] for k in range(1500)]
    ids, vectors = context_vectors(tokenized(rows), 64, FIRST, 16, 0)
    np.testing.assert_array_equal(ids, np.arange(FIRST, FIRST + 60))
    np.testing.assert_allclose(np.sqrt(np.square(vectors).mean(axis=1)), SPREAD, rtol=1e-5)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    likeness = (unit @ unit.T).reshape(3, 20, 3, 20).mean(axis=(1, 3))
    assert np.diag(likeness).min() > likeness[~np.eye(3, dtype=bool)].max() + 0.2


def test_the_same_bits_on_any_number_of_threads() -> None:
    texts = tokenized(many_rows())
    found = []
    for threads in (1, 3):
        ops.set_threads(threads)
        ids, vectors = context_vectors(texts, 700, FIRST, 16, 0)
        found.append(ids.tobytes() + vectors.tobytes())
    assert found[0] == found[1]
    assert context_vectors(texts, 700, FIRST, 16, 1)[1].tobytes() not in found[0]


def test_ids_outside_the_vocabulary_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"token_ids runs from 2 to 9; it must lie in 0\.\.8"):
        context_vectors(tokenized([[2, 9, 3]]), 9, FIRST, 4, 0)


@pytest.mark.parametrize("rows", [[], [[]], [[0, 1, 0]], [[2], [3], [4]], [[2, 3, 4, 5, 2, 3]]])
def test_where_little_is_known_nothing_is_found(rows: list[list[int]]) -> None:
    ids, vectors = context_vectors(tokenized(rows), 9, FIRST, 4, 0)
    assert len(ids) == 0
    assert vectors.shape == (0, 4)


@pytest.mark.parametrize(
    "rows",
    [
        [[2, 3 + word] for word in range(60)],  # all have one neighbour: a matrix of rank 2
        [[2 + 2 * pair, 3 + 2 * pair] for pair in range(30)],
        [[2 + word] * 6 for word in range(60)],
    ],
    ids=["hub", "pairs", "alone"],
)
@pytest.mark.filterwarnings("error")
def test_texts_of_few_patterns_give_finite_vectors(rows: list[list[int]]) -> None:
    found, vectors = context_vectors(tokenized(rows * 3), 70, FIRST, 16, 0)
    assert len(found) >= 60
    assert np.isfinite(vectors).all()
    np.testing.assert_allclose(np.square(vectors).mean(axis=1), SPREAD**2, rtol=1e-4)
