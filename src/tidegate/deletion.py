"""How far an explanation can be trusted: what happens when the words that it names go.

If the words of the greatest contributions decide, the label's log-odds fall far when they are left
out, and little when as many others are. Both are measured, on the model itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tidegate import initializers
from tidegate.erasure import Erasure, log_odds
from tidegate.explain import Explanation, class_number
from tidegate.model import check_whole
from tidegate.reference import sigmoid

if TYPE_CHECKING:
    from tidegate.estimator import TextClassifier

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

SHARES = (0.01, 0.02, 0.05, 0.1, 0.2)  # of the text's words


@dataclass(frozen=True)
class DeletionTest:
    """What leaving words out changed, for some numbers of words.

    words: [n] how many, ascending: SHARES of the text, at least one. falls: [n] float64 nats, by
    how much the label's log-odds fell without the words of the greatest contributions. random: [n]
    the same without as many random words, the mean of the draws; spread: [n] their standard
    deviation. probabilities: [n] of the label without the words of the greatest contributions.
    draws, seed: of the random words.
    """

    words: Int64
    falls: Float64
    random: Float64
    spread: Float64
    probabilities: Float64
    draws: int
    seed: int

    @property
    def gain(self) -> float:
        """By how many nats the named words weigh more than random ones: the mean over ``words``."""
        return float((self.falls - self.random).mean())

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        columns = (self.words, self.falls, self.probabilities, self.random, self.spread)
        names = ("words", "fall", "probability", "random_fall", "random_spread")
        rows = zip(*(column.tolist() for column in columns), strict=True)
        return {
            "gain": self.gain,
            "draws": self.draws,
            "seed": self.seed,
            "left_out": [dict(zip(names, row, strict=True)) for row in rows],
        }


def deletion_test(
    classifier: TextClassifier, explanation: Explanation, *, draws: int = 50, seed: int = 0
) -> DeletionTest:
    """Leave out the words that ``explanation`` names, and as many random ones, and compare.

    explanation: of the same classifier. draws: how many random choices for each number of words.
    ConfigError for draws or a seed that are no such numbers.
    """
    check_whole("draws", draws, 1, 10_000)
    check_whole("seed", seed, 0, 2**63 - 1)
    config, count = classifier._fitted().config, len(explanation.tokens)
    number = class_number(classifier, explanation.label, np.zeros(0))
    words = np.unique([max(1, int(np.ceil(count * share))) for share in SHARES])
    ranks = [np.argsort(np.argsort(-explanation.contributions, kind="stable"))]
    ranks += [initializers.permutation(seed, f"deletion {i}", count) for i in range(draws)]
    kept = np.stack(ranks)[:, None] >= words[:, None]  # [1 + draws, n, T]
    with classifier._own_threads():
        erasure = Erasure(classifier, explanation.text)
        left = log_odds(config, erasure.kept(kept.reshape(-1, count)), number)
        whole = log_odds(config, erasure.whole()[None], number)
    falls = (whole - left).reshape(kept.shape[:2])
    return DeletionTest(
        words=words,
        falls=falls[0],
        random=falls[1:].mean(axis=0),
        spread=falls[1:].std(axis=0),
        probabilities=sigmoid(whole - falls[0]),
        draws=int(draws),
        seed=int(seed),
    )
