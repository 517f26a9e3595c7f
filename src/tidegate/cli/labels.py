"""Labels between files and models: several in one cell, and what is said of a text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tidegate.cli import terminal
from tidegate.errors import ConfigError, DataError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from tidegate.estimator import TextClassifier

JOINED_BY = ";"  # where several labels are printed in one field


def split_labels(cells: Sequence[str], separator: str | None) -> Sequence[Any]:
    """Each cell's labels, where a separator says that there may be several; else the cells."""
    from tidegate import data

    return cells if separator is None else data.split_labels(cells, separator)


def known_labels(
    classifier: TextClassifier, cells: Sequence[str], separator: str | None, source: str
) -> list[Any]:
    """What a file's cells say, as the model has it: its label, or several where it has several.

    A model made in Python may have labels that are no words; in files all of them are. DataError
    for labels that the model does not know.
    """
    from tidegate.data.readers import listed

    many = classifier.model_.config.targets == "many"
    if separator is not None and not many:
        raise ConfigError(
            f"--label-separator {separator!r} is for models of several labels a text, and this "
            "one says one; leave it out"
        )
    rows = split_labels(cells, separator) if separator is not None else [[cell] for cell in cells]
    classes = {terminal.label_text(label): label for label in classifier.classes_.tolist()}
    unknown = sorted({label for row in rows for label in row} - classes.keys())
    if unknown:
        mend = "rename them, or choose another --label-column"
        if many and separator is None:
            mend += ", or say by --label-separator what stands between several"
        raise DataError(
            f"{source!r} has labels that the model does not know: {listed(unknown)}; it knows "
            f"{listed(list(classes))}: {mend}"
        )
    if many:
        return [[classes[label] for label in row] for row in rows]
    return [classes[label] for (label,) in rows]


def decided(
    classifier: TextClassifier, probabilities: npt.NDArray[np.float64]
) -> tuple[list[Any], list[float]]:
    """What the model says of texts with these probabilities, and how probably that is right.

    Of each text its label; or a tuple of any number of them, where the probability is the product
    of each label's, as if they did not depend on each other.
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


def joined(answers: tuple[Any, ...]) -> str:
    """Any number of labels in one cell."""
    return JOINED_BY.join(terminal.label_text(label) for label in answers)


def field(answer: Any) -> str:
    """An answer in one field of a line: its label, or all of them."""
    if isinstance(answer, tuple):
        return terminal.field(joined(answer))
    return terminal.field(terminal.label_text(answer))
