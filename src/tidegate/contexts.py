"""Words' first vectors, learnt from nothing but which words stand near which in the texts.

Words that occur among the same others get vectors of like directions, so that what a network
learns of one holds for the other from its first step on. For that the neighbours of each word are
counted, the counts turned into positive pointwise mutual information, and the matrix of it is
factored. Sources: Bullinaria & Levy 2007; Levy, Goldberg & Dagan 2015 (the power of the counts);
Halko, Martinsson & Tropp 2011 (subspace iteration).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tidegate import _kernels, initializers, ops
from tidegate.checks import check_range
from tidegate.stored import StoredTexts, Texts

Float32 = npt.NDArray[np.float32]

WINDOW = 5  # places apart that words count as neighbours
LEAST = 3  # a pair that met once, two places apart or more, says too little
SPREAD = 0.3  # root mean square of a vector's numbers
_POWER = 0.875  # of counts: as high as they are, rare words would look like close friends
_MORE = 8  # columns of the subspace that are left out in the end
_ROUNDS = 8
_NOTHING_NEW = 1e-7  # of a column's square: what rounding to float32 leaves where nothing is
MOST_TOKENS = 20_000_000  # more say hardly more, and memory stays what it is


def context_vectors(
    texts: Texts, vocabulary_size: int, first: int, size: int, seed: int
) -> tuple[npt.NDArray[np.int64], Float32]:
    """Ids [found] of the words that have neighbours, and their vectors [found, size].

    texts: of ids below ``vocabulary_size``, of which those below ``first`` are no words. Each
    vector's numbers have the root mean square SPREAD. Where there are fewer words with neighbours
    than numbers in a vector, none is found. Of texts with more than MOST_TOKENS tokens only every
    second one is read, or third, and so on. The same bits for any number of threads.
    """
    every = max(1, -(-int(texts.lengths.sum()) // MOST_TOKENS))
    if every > 1 or isinstance(texts, StoredTexts):
        texts = texts.select(np.arange(0, len(texts), every))
    check_range("token_ids", texts.token_ids, vocabulary_size)
    counted = _kernels.count_contexts(
        texts.token_ids, texts.offsets, vocabulary_size, first, WINDOW, LEAST
    )
    offsets, columns, values = _information(*counted)
    found = np.flatnonzero(np.diff(offsets))
    if len(found) <= size + _MORE:
        return found[:0], np.zeros((0, size), np.float32)
    basis, strengths = _leading(offsets, columns, values, size + _MORE, seed)
    vectors = (basis * np.sqrt(strengths))[found, :size].astype(np.float64)
    vectors -= vectors.mean(axis=0)
    sizes = np.sqrt(np.square(vectors).mean(axis=1, keepdims=True))
    some = sizes[:, 0] > 0
    return found[some], (vectors[some] * (SPREAD / sizes[some])).astype(np.float32)


def _information(
    offsets: npt.NDArray[np.int64], columns: npt.NDArray[np.int32], counts: Float32
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], Float32]:
    """Positive pointwise mutual information in place of the counts; what is not above 0 goes."""
    rows = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    totals = np.bincount(rows, weights=counts, minlength=len(offsets) - 1)
    shares = totals**_POWER
    with np.errstate(divide="ignore"):
        logarithms = np.log(shares / shares.sum()) if len(rows) else shares
    values = np.log(counts.astype(np.float64) / totals.sum()) - logarithms[rows]
    values -= logarithms[columns]
    kept = values > 0
    ends = np.zeros(len(offsets), np.int64)
    np.cumsum(np.bincount(rows[kept], minlength=len(offsets) - 1), out=ends[1:])
    return ends, columns[kept], values[kept].astype(np.float32)


def _leading(
    offsets: npt.NDArray[np.int64],
    columns: npt.NDArray[np.int32],
    values: Float32,
    width: int,
    seed: int,
) -> tuple[Float32, Float32]:
    """Unit columns [V, width] that span the strongest eigenvectors, and their strengths.

    Of a symmetric matrix; beyond its rank they may be 0. The columns are nearly the eigenvectors,
    the strongest first, and so nearly orthogonal. No LAPACK: its bits depend on its own threads.
    """
    shape = (len(offsets) - 1, width)
    basis = initializers.uniform(seed, "contexts", shape, 1.0)
    image = np.empty(shape, np.float32)
    for _ in range(_ROUNDS):
        basis = _orthonormal(_orthonormal(basis))  # twice, for the digits that the first one loses
        _kernels.multiply_sparse(offsets, columns, values, basis, image)
        basis, image = image, basis
    strengths = np.sqrt(np.square(basis).sum(axis=0))
    strengths[strengths == 0] = 1.0  # whatever it is, the column is 0
    return basis / strengths, strengths


def _orthonormal(columns: Float32) -> Float32:
    """The columns made orthonormal, by Cholesky's factor of their products with each other.

    Those that say no more than the ones before them, as of a matrix of low rank, become 0.
    """
    width = columns.shape[1]
    _, products, _ = ops.linear_backward(columns, np.zeros((width, width), np.float32), columns)
    lower = np.zeros((width, width))
    inverse = np.eye(width)
    for i in range(width):
        row = products[i].astype(np.float64) - np.einsum("j,kj->k", lower[i, :i], lower[:, :i])
        if row[i] <= _NOTHING_NEW * products[i, i]:
            inverse[i] = 0.0
            continue
        lower[i:, i] = row[i:] / np.sqrt(row[i])
        inverse[i] = (inverse[i] - np.einsum("j,jk->k", lower[i, :i], inverse[:i])) / lower[i, i]
    kernel = np.ascontiguousarray(inverse.T, np.float32)
    return ops.linear_forward(columns, kernel, np.zeros(width, np.float32))
