"""What a classifier says of texts, as the command line and the server tell it."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

_COUNTED_TOGETHER = 256  # texts, so that it takes no memory to speak of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from tidegate.batch import Reading
    from tidegate.estimator import TextClassifier


def label_text(label: object) -> str:
    """A label in words: as it is, or as JSON writes a number or truth value."""
    return label if isinstance(label, str) else json.dumps(label)


def named_label(classifier: TextClassifier, text: str) -> Any:
    """The classifier's label that ``label_text`` writes so. DataError if it has none."""
    from tidegate.errors import DataError

    named = {label_text(known): known for known in classifier.classes_.tolist()}
    if text not in named:
        shown = text if len(text) <= 60 else text[:57] + "..."
        raise DataError(f"label {shown!r} is not one of the model's: {', '.join(list(named)[:10])}")
    return named[text]


def decided(
    classifier: TextClassifier, probabilities: npt.NDArray[np.float64]
) -> tuple[list[Any], list[float]]:
    """What the model says of texts with these probabilities, and how probably that is right.

    probabilities: [texts, classes] float64, as ``predict_proba`` gives. Of each text its label; or
    a tuple of any number of them, where the probability is the product of each label's, as if they
    did not depend on each other.
    """
    import numpy as np

    answers = classifier.decide(probabilities)
    labels = classifier.classes_.tolist()
    if answers.ndim == 2:
        named = [tuple(np.array(labels, object)[row == 1].tolist()) for row in answers]
        right = np.where(answers == 1, probabilities, 1.0 - probabilities).prod(axis=1)
        return named, right.tolist()
    said = answers.tolist()
    numbers = {label: number for number, label in enumerate(labels)}
    places = [numbers[label] for label in said]
    return said, probabilities[np.arange(len(places)), places].tolist()


def known_words(
    classifier: TextClassifier, texts: Sequence[str], read: Reading
) -> npt.NDArray[np.int64]:
    """[texts] how many of the tokens that are read of each text are in the vocabulary.

    read: what the classifier's tokeniser reads of the texts. Where that is windows, which share
    tokens, each token of a text counts once.
    """
    import numpy as np

    from tidegate.text import FIRST_WORD_ID

    rows = read.rows
    if len(rows) > len(texts):
        rows = classifier.tokenizer_.encode_all(texts, sys.maxsize)
    found = np.zeros(len(rows), np.int64)
    for start in range(0, len(rows), _COUNTED_TOGETHER):
        offsets = rows.offsets[start : start + _COUNTED_TOGETHER + 1]
        known = rows.token_ids[offsets[0] : offsets[-1]] >= FIRST_WORD_ID
        before = np.concatenate([[0], np.cumsum(known)])
        found[start : start + _COUNTED_TOGETHER] = np.diff(before[offsets - offsets[0]])
    return found


def predictions(classifier: TextClassifier, texts: Sequence[str]) -> list[dict[str, Any]]:
    """Of each text its label or labels, the probability of that, and all labels' probabilities.

    As JSON values: {"label", "probability", "probabilities": {label: p}, "words"}, or "labels" and
    a tuple where a text may have several. words: see ``known_words``; the label of a text without
    any means nothing. Raises NotFittedError.
    """
    probabilities, read = classifier._read_proba(texts)
    words = known_words(classifier, texts, read).tolist()
    answers, right = decided(classifier, probabilities)
    names = [label_text(label) for label in classifier.classes_.tolist()]
    return [
        {
            **({"labels": said} if isinstance(said, tuple) else {"label": said}),
            "probability": sure,
            "probabilities": dict(zip(names, row, strict=True)),
            "words": known,
        }
        for said, sure, row, known in zip(
            answers, right, probabilities.tolist(), words, strict=True
        )
    ]
