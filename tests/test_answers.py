"""What is said of texts beside their labels."""

from __future__ import annotations

import numpy as np
import pytest

from test_estimator import make, reviews
from tidegate.answers import predictions

TEXTS = [
    "",
    "qwfp zxcv",
    "a lovely qwfp film",
    "fine " * 40,
    "qwfp " * 39 + "fine",
    "fine" + " x" * 39,
]


@pytest.mark.parametrize(
    ("keep", "words"),
    [
        ("end", [0, 0, 3, 12, 1, 0]),
        ("start", [0, 0, 3, 11, 0, 1]),  # the start's mark is among the twelve that are read
        ("both", [0, 0, 3, 11, 1, 1]),
        ("windows", [0, 0, 3, 40, 1, 1]),  # which share tokens
    ],
)
def test_words_are_counted_as_far_as_they_are_read(keep: str, words: list[int]) -> None:
    classifier = make(keep=keep, epochs=1).fit(*reviews(60))
    found = predictions(classifier, TEXTS)
    assert [each["words"] for each in found] == words
    assert [list(each) for each in found] == [
        ["label", "probability", "probabilities", "words"]
    ] * 6
    rows = [list(each["probabilities"].values()) for each in found]
    np.testing.assert_array_equal(rows, classifier.predict_proba(TEXTS))
    assert predictions(classifier, []) == []
