"""``tidegate train --from MODEL``: going on from a trained model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tidegate.cli import files, options, terminal
from tidegate.cli.labels import split_labels
from tidegate.errors import ConfigError

if TYPE_CHECKING:
    from tidegate.continuing import Start
    from tidegate.estimator import TextClassifier

From = Annotated[
    Path | None,
    typer.Option(
        "--from",
        metavar="MODEL",
        help="Go on from this model: its labels and words stay, new ones are added. The model's "
        "own options hold where none are given.",
    ),
]
Keep = Annotated[
    Path | None,
    typer.Option(
        "--keep",
        metavar="FILE",
        help="With --from: a table of earlier texts and labels, which are not trained on. If the "
        "accuracy on them falls by more than --max-loss, the result is refused.",
    ),
]
MaxLoss = Annotated[
    float | None,
    typer.Option(
        "--max-loss",
        parser=options.number,
        metavar="X",
        help="With --keep: the share of its texts that may be lost; the default is 0.01.",
    ),
]


def begin(
    model: Path | None,
    keep: Path | None,
    max_loss: float | None,
    *,
    preset: str | None,
    others: Mapping[str, Path | None],
    text_column: str | None,
    label_column: str | None,
    encoding: str | None,
    delimiter: str | None,
    label_separator: str | None,
) -> Start | None:
    """What ``--from`` begins with, or None without it. others: files that are none of these."""
    if model is None:
        if keep is not None or max_loss is not None:
            name = "--keep" if keep is not None else "--max-loss"
            raise ConfigError(f"{name} is of no use without --from; say which model to go on from")
        return None
    if keep is None and max_loss is not None:
        raise ConfigError("--max-loss is of no use without --keep; give a table of earlier texts")
    if preset is not None:
        raise ConfigError(f"preset={preset!r} is for a new model; leave it out with --from")
    files.check_distinct({**others, "--from": model, "--keep": keep})
    from tidegate import data
    from tidegate.continuing import Start
    from tidegate.estimator import TextClassifier

    trained = TextClassifier.load(model)
    kind = type(trained.classes_.tolist()[0]).__name__
    if kind != "str":
        raise ConfigError(
            f"the labels of {str(model)!r} are {kind}, and a table's are str; go on in Python, by "
            "TextClassifier.continue_from"
        )
    many = trained.model_.config.targets == "many"
    if many and label_separator is None:
        raise ConfigError(
            f"{str(model)!r} gives a text several labels: say by --label-separator what stands "
            "between them"
        )
    if label_separator is not None and not many:
        raise ConfigError(
            f"--label-separator {label_separator!r}: {str(model)!r} gives a text one label; leave "
            "it out"
        )
    kept = None
    if keep is not None:
        dataset = data.load(
            str(keep),
            text_column=text_column,
            label_column=label_column,
            encoding=encoding,
            delimiter=delimiter,
            min_classes=1,
        )
        earlier = dataset.train if dataset.test is None else dataset.test
        kept = earlier.texts, split_labels(earlier.labels, label_separator)
    return Start(trained, kept, **({} if max_loss is None else {"max_loss": max_loss}))


def classifier(start: Start, overrides: Mapping[str, Any]) -> TextClassifier:
    """A new one with the model's options, but for the given ones."""
    from tidegate.continuing import check_options
    from tidegate.estimator import TextClassifier

    made = TextClassifier(**start.classifier.get_params()).set_params(**overrides)
    made.check()
    check_options(made, start.classifier)
    return made


def say_kept(start: Start | None) -> None:
    """The accuracy on the kept texts, if there are any."""
    if start is not None and start.kept_accuracy is not None:
        before, after = start.kept_accuracy
        terminal.say(f"kept texts: accuracy {after:.4f}, before {before:.4f}")


def report(start: Start | None, model: Path | None) -> dict[str, Any]:
    """A report's part: the model that it began with, and the accuracy on the kept texts."""
    if start is None:
        return {}
    before, after = start.kept_accuracy or (None, None)
    return {"start": {"model": str(model), "kept_before": before, "kept_after": after}}
