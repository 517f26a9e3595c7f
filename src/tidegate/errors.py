"""Every error that tidegate raises on purpose, in one tree.

    TidegateError
    ├── ConfigError           an option or argument has a value that it can't have
    │   └── MissingPackageError   what was asked for needs a package that is not installed
    ├── DataError             texts, labels, tables or archives can't be used as they are
    │   └── DownloadError     data could not be fetched
    ├── ShapeError            an array's shape, dtype or range does not fit the operation
    ├── ModelFileError        a model file or checkpoint can't be read
    ├── ConversionError       a model can't be what another framework would compute, or the reverse
    ├── OutputError           a file can't be written
    │   └── OutputExistsError     a file is there already and is not to be replaced
    ├── NotFittedError        a classifier is used before it was trained or loaded
    └── TrainingError         training can't go on
        └── TrainingInterrupted   the user stopped it; a checkpoint says where

Each one also inherits the standard exception that a caller would expect, so that
``except ValueError`` keeps working. A message is one line: the value, the choices, the mend.
"""

from __future__ import annotations

import difflib
import re
import signal
import sys
from collections.abc import Iterable
from functools import cache
from typing import Any

_MOST_LISTED = 12  # choices in a message
_SOME_LISTED = 5  # of more than that


class TidegateError(Exception):
    """Base of all errors raised on purpose by tidegate."""

    def __init__(self, *arguments: object) -> None:
        # What a value says of itself, as arrays do, may have many lines; a message has one.
        super().__init__(
            *(
                re.sub(r"\s*\n\s*", " ", each) if isinstance(each, str) else each
                for each in arguments
            )
        )


class ConfigError(TidegateError, ValueError):
    """An option or argument has a value that it can't have."""


class MissingPackageError(ConfigError, ImportError):
    """What was asked for needs a package that is not installed; an extra brings it."""


class DataError(TidegateError, ValueError):
    """Texts, labels, tables or archives can't be used as they are."""


class DownloadError(DataError, OSError):
    """Data could not be fetched over the network."""


class ShapeError(TidegateError, ValueError):
    """An array's shape, dtype, contiguity or range does not fit the operation."""


class ModelFileError(TidegateError, ValueError):
    """A model file or checkpoint can't be read, is damaged, or is of another format."""


class ConversionError(TidegateError, ValueError):
    """A model can't be converted, or the two sides compute different numbers."""


class OutputError(TidegateError, OSError):
    """A file can't be written; nothing was changed on the disk."""


class OutputExistsError(OutputError, FileExistsError):
    """A file is there already and is not to be replaced."""


class NotFittedError(TidegateError, ValueError, AttributeError):
    """A classifier is used before it was trained or loaded."""


class TrainingError(TidegateError, RuntimeError):
    """Training can't go on, for example because the loss is not finite."""


class TrainingInterrupted(TrainingError):  # noqa: N818 (no fault: the user's wish)
    """The user stopped the training; the last step was finished and saved.

    signal_number: how, by Ctrl-C if nothing else is said.
    """

    signal_number: int = signal.SIGINT


def not_fitted(message: str) -> NotFittedError:
    """The error; where scikit-learn is loaded, one that is also of its class of that name."""
    theirs = getattr(sys.modules.get("sklearn.exceptions"), "NotFittedError", None)
    kind = NotFittedError if theirs is None else _joined_with(theirs)
    return kind(message)


@cache
def _joined_with(theirs: type[Exception]) -> type[NotFittedError]:
    def reduce(error: NotFittedError) -> tuple[Any, ...]:
        return not_fitted, error.args  # a pickle may be read where scikit-learn is not loaded

    contents = {"__reduce__": reduce, "__module__": __name__, "__doc__": NotFittedError.__doc__}
    return type("NotFittedError", (NotFittedError, theirs), contents)


def unknown_choice(name: str, value: object, choices: Iterable[str]) -> ConfigError:
    """The error for a value that is not one of ``choices``, with the nearest choice.

    Of many choices only some are listed, and none where one is near.
    """
    listed = list(choices)
    shown = value if not isinstance(value, str) or len(value) <= 80 else value[:77] + "..."
    near = difflib.get_close_matches(str(value).lower(), listed, n=1)
    known = ", ".join(listed)
    if len(listed) > _MOST_LISTED:
        known = f"the {len(listed)} known ones"
        if not near:
            known += f": {', '.join(listed[:_SOME_LISTED])} and so on"
    message = f"{name}={shown!r} is not one of {known}"
    if near:
        message += f"; did you mean {near[0]!r}?"
    return ConfigError(message)
