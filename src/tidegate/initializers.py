"""Initial weights, as Keras draws them, from a generator that never changes.

NumPy promises that the raw 64-bit output of Philox stays the same in every version, which it does
not promise of its distributions. So everything random in tidegate is made from those raw numbers
here: the same seed gives the same model on every NumPy (but for the last digit of its logarithm and
cosine, which ``orthogonal`` needs). Each use has a stream of its own, named
by a string, and so does not depend on what else was drawn before it.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]


def random_raw(seed: int, stream: str, count: int) -> npt.NDArray[np.uint64]:
    """[count] uniform 64-bit numbers of the named stream."""
    digest = hashlib.sha256(f"{seed}:{stream}".encode()).digest()
    bits = np.random.Philox(key=np.frombuffer(digest[:16], np.uint64))
    return bits.random_raw(count)


def permutation(seed: int, stream: str, count: int) -> npt.NDArray[np.int64]:
    """The numbers 0 to count - 1 in the order of random 64-bit keys."""
    return np.argsort(random_raw(seed, stream, count), kind="stable")


def uniform01(seed: int, stream: str, count: int) -> npt.NDArray[np.float64]:
    """[count] float64 in [0, 1), with 53 random bits."""
    return (random_raw(seed, stream, count) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def uniform(seed: int, stream: str, shape: tuple[int, ...], limit: float) -> Float32:
    """Uniform in [-limit, limit). Keras's embeddings use limit 0.05."""
    drawn = uniform01(seed, stream, int(np.prod(shape))).reshape(shape)
    return ((2.0 * drawn - 1.0) * limit).astype(np.float32)


def glorot_uniform(seed: int, stream: str, shape: tuple[int, int]) -> Float32:
    """Uniform with limit sqrt(6 / (inputs + outputs)). Source: Glorot & Bengio 2010."""
    return uniform(seed, stream, shape, float(np.sqrt(6.0 / (shape[0] + shape[1]))))


def orthogonal(seed: int, stream: str, shape: tuple[int, int]) -> Float32:
    """Orthonormal rows (or columns, where there are more rows than columns).

    A normal matrix made orthogonal by Gram and Schmidt, twice over for full precision. No LAPACK:
    its bits depend on its own threads. Source: Saxe, McClelland & Ganguli 2013.
    """
    small, large = min(shape), max(shape)
    count = small * large
    draws = uniform01(seed, stream, 2 * count)
    # Box and Muller; 1 - u is never 0.
    normal = np.sqrt(-2.0 * np.log(1.0 - draws[:count])) * np.cos(2.0 * np.pi * draws[count:])
    basis = normal.reshape(small, large)
    for i in range(small):
        done, vector = basis[:i], basis[i]
        for _ in range(2):
            overlaps = np.einsum("ij,j->i", done, vector)
            vector = vector - np.einsum("ij,i->j", done, overlaps)
        basis[i] = vector / np.sqrt(np.einsum("i,i->", vector, vector))
    result = basis if shape[0] <= shape[1] else basis.T
    return np.ascontiguousarray(result, dtype=np.float32)
