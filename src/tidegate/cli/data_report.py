"""What a training says of its data before it begins, in some lines and in the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tidegate.continuing import Start
    from tidegate.data import Dataset, Survey
    from tidegate.estimator import TextClassifier

_SHOWN_LABELS = 10


def examine(
    classifier: TextClassifier,
    dataset: Dataset,
    label_separator: str | None = None,
    start: Start | None = None,
) -> Survey:
    """The figures of a data set as the classifier will read it. start: what it goes on from."""
    from tidegate import data
    from tidegate.preparing import known_tokenizer
    from tidegate.text import token_counts

    train = dataset.train
    training, validation = (rows.tolist() for rows in classifier.split(len(train)))
    held_out = {}
    if dataset.validation is not None:
        training = list(range(len(train)))
        held_out["validation"] = dataset.validation
    elif validation:
        held_out["validation"] = train.select(validation)
    if dataset.test is not None:
        held_out["test"] = dataset.test
    return data.survey(
        train,
        token_counts(known_tokenizer(classifier, start), train.texts),
        classifier.max_length,
        training=training,
        held_out=held_out,
        label_separator=label_separator,
    )


def describe(found: Survey, keep: str = "end") -> list[str]:
    """The figures in two lines, and others if there is something to look at or to know.

    keep: the classifier's, which says what becomes of long texts.
    """
    from tidegate import data

    long = "that are read" if keep != "windows" else "of a window"
    labels = [f"{count:,} {label}" for label, count in found.classes.items()]
    more = len(labels) - _SHOWN_LABELS
    if more > 0:
        labels = [*labels[:_SHOWN_LABELS], f"and {more:,} more"]
    none = f"; {found.unlabelled:,} texts without any" if found.unlabelled else ""
    lengths = found.lengths
    lines = [
        f"labels: {', '.join(labels)}{none}",
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
        ("with different labels" if found.several else "with more than one label"): (
            found.conflicting
        ),
        **{f"of {name} also in training": count for name, count in found.shared.items()},
    }
    notes = [f"{what} {count:,}" for what, count in counts.items() if count]
    if notes:
        lines.append(f"texts to look at: {', '.join(notes)}")
    return lines + [f"note: {note}" for note in data.notes(found)]
