"""What ``tidegate train`` trains on: a data set in memory, or a table that is streamed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate.cli import data_report
from tidegate.cli.labels import split_labels
from tidegate.cli.progress import until_surveyed
from tidegate.errors import ConfigError

if TYPE_CHECKING:
    from tidegate.continuing import Start
    from tidegate.data import Dataset, LabeledPortions, LabeledTexts, StreamedDataset, Survey
    from tidegate.estimator import TextClassifier
    from tidegate.portions import ReadResult


@dataclass(frozen=True)
class Begun:
    """A training that is about to begin.

    texts: in the training file. found: None where nobody asks. steps: the training's results.
    readings: of a table that is streamed, each time that it was read.
    """

    dataset: Dataset | StreamedDataset
    texts: int
    found: Survey | None
    steps: Iterator[Any]
    readings: dict[int, ReadResult] = field(default_factory=dict)


def in_memory(
    classifier: TextClassifier,
    dataset: Dataset,
    separator: str | None,
    *,
    surveyed: bool,
    checkpoint: Path,
    resume: bool,
    start: Start | None,
) -> Begun:
    """A training on a data set that is there."""
    from tidegate import data

    if separator is not None and start is None:  # else it is known that a text may have several
        data.check_separated(dataset.train.labels, separator)
    steps = classifier.fit_steps(
        dataset.train.texts,
        split_labels(dataset.train.labels, separator),
        checkpoint=checkpoint,
        resume=resume,
        validation=_labelled(dataset.validation, separator),
        start=start,
    )
    found = data_report.examine(classifier, dataset, separator, start) if surveyed else None
    return Begun(dataset, len(dataset.train), found, steps)


def streamed(
    classifier: TextClassifier,
    dataset: StreamedDataset,
    separator: str | None,
    *,
    folder: Path,
    quiet: bool,
    checkpoint: Path,
    resume: bool,
    start: Start | None,
) -> Begun:
    """A training on a table that is read here for the first time."""
    from tidegate import data

    portions = dataset.train if separator is None else _SplitPortions(dataset.train, separator)
    steps = classifier.fit_stream_steps(
        portions,
        folder=folder,
        checkpoint=checkpoint,
        resume=resume,
        validation=_labelled(dataset.validation, separator),
        test=_labelled(dataset.test, separator),
        start=start,
    )
    readings: dict[int, ReadResult] = {}
    steps = _noted(steps, readings)
    found = until_surveyed(steps, quiet=quiet)
    if isinstance(portions, _SplitPortions) and start is None and not portions.several:
        data.check_separated(list(found.classes), portions.separator)
    # Now, and not after the training.
    known = [] if start is None else start.classifier.classes_.tolist()
    dataset.check_held_out([*found.classes, *known])
    return Begun(dataset, found.rows, found, steps, readings)


def _noted(steps: Iterator[Any], readings: dict[int, ReadResult]) -> Iterator[Any]:
    from tidegate.portions import ReadResult

    for step in steps:
        if isinstance(step, ReadResult):
            readings[step.reading] = step
        yield step


def check_work_folder(folder: Path | None, *, stream: bool) -> None:
    """ConfigError for one that is of no use."""
    if folder is not None and not stream:
        raise ConfigError("--work-folder is of no use without --stream; leave it out")


class _SplitPortions:
    """Portions of a table whose cells hold several labels."""

    def __init__(self, portions: LabeledPortions, separator: str) -> None:
        self._portions, self.separator = portions, separator
        self.several = False  # whether the separator was seen

    def __iter__(self) -> Iterator[tuple[list[str], Any]]:
        for texts, cells in self._portions:
            self.several = self.several or any(self.separator in cell for cell in cells)
            yield texts, split_labels(cells, self.separator)


def _labelled(texts: LabeledTexts | None, separator: str | None) -> tuple[list[str], Any] | None:
    return None if texts is None else (texts.texts, split_labels(texts.labels, separator))
