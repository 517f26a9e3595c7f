"""What a training says of its data before it begins, in some lines and in the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from tidegate.continuing import Start
    from tidegate.data import Dataset, Survey
    from tidegate.estimator import TextClassifier
    from tidegate.text import Tokenizer

_SHOWN_LABELS = 10
_BLOCK_TEXTS = 4096


def examine(classifier: TextClassifier, dataset: Dataset, start: Start | None = None) -> Survey:
    """The figures of a data set as the classifier will read it. start: what it goes on from."""
    from tidegate import data
    from tidegate.subwords import tokenizer_of

    if start is not None:
        tokenizer = start.classifier.tokenizer_
    else:  # the tokens are the same with any vocabulary
        tokenizer = tokenizer_of(classifier.tokenizer, ["a"], 5, "end")

    train = dataset.train
    training, validation = classifier.split(len(train))
    held_out = {}
    if dataset.validation is not None:
        held_out["validation"] = dataset.validation.texts
    elif len(validation):
        held_out["validation"] = [train.texts[row] for row in validation]
    if dataset.test is not None:
        held_out["test"] = dataset.test.texts
    return data.survey(
        train,
        _token_counts(tokenizer, train.texts),
        classifier.max_length,
        training=training,
        held_out=held_out,
    )


def _token_counts(tokenizer: Tokenizer, texts: list[str]) -> np.ndarray:
    """[texts] int64: the tokens of each text."""
    import sys

    import numpy as np

    blocks = []
    for start in range(0, len(texts), _BLOCK_TEXTS):
        encoded = tokenizer.encode_all(texts[start : start + _BLOCK_TEXTS], sys.maxsize)
        blocks.append(encoded.lengths - 1)  # without the mark of the beginning
    return np.concatenate(blocks)


def describe(found: Survey, keep: str = "end") -> list[str]:
    """The figures in two lines, and a third one if there is something to look at.

    keep: the classifier's, which says what becomes of long texts.
    """
    long = "that are read" if keep != "windows" else "of a window"
    labels = [f"{count:,} {label}" for label, count in found.classes.items()]
    more = len(labels) - _SHOWN_LABELS
    if more > 0:
        labels = [*labels[:_SHOWN_LABELS], f"and {more:,} more"]
    lengths = found.lengths
    lines = [
        f"labels: {', '.join(labels)}",
        f"tokens: half of the texts have up to {lengths['p50']:,}, 90 % up to {lengths['p90']:,}, "
        f"the longest {lengths['longest']:,}; "
        + (
            f"{found.cut:,} have more than the {found.max_length:,} {long}"
            if found.cut
            else "none is cut"
        ),
    ]
    counts = {
        "empty": found.empty,
        "exact copies of others": found.copies,
        "with more than one label": found.conflicting,
        **{f"of {name} also in training": count for name, count in found.shared.items()},
    }
    notes = [f"{what} {count:,}" for what, count in counts.items() if count]
    if notes:
        lines.append(f"texts to look at: {', '.join(notes)}")
    return lines
