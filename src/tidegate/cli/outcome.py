"""What ``tidegate train`` leaves behind, and what is said of it when the command ends early."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tidegate.cli import files, terminal
from tidegate.errors import (
    OutputError,
    OutputExistsError,
    TidegateError,
    TrainingError,
    TrainingInterrupted,
)

if TYPE_CHECKING:
    from tidegate.continuing import Start
    from tidegate.estimator import TextClassifier


def check_new(output: Path, checkpoint: Path, *, force: bool, resume: bool) -> None:
    """Refuse before the work begins to replace what is not to be replaced at its end."""
    if not resume:
        mend = "choose another --output, or replace it with --force"
        files.check_new(output, force=force, mend=mend)
        mend = "go on from it with --resume, or begin anew with --force"
        files.check_new(checkpoint, force=force, mend=mend)
    elif not checkpoint.exists():
        mend = (
            f"with no checkpoint {str(checkpoint)!r} there is nothing to resume: use that model, "
            "or train anew with another --output or --force"
        )
        files.check_new(output, force=force, mend=mend)
    elif not force and output.is_file():
        # Of a run that was killed after it had saved its model? If not, saving will find out.
        from tidegate.checkpoint import is_finished

        if not is_finished(checkpoint):
            mend = (
                f"choose another --output with --checkpoint {shlex.quote(str(checkpoint))}, or "
                "replace it with --force"
            )
            files.check_new(output, force=force, mend=mend)


def save(
    classifier: TextClassifier,
    output: Path,
    checkpoint: Path,
    *,
    force: bool,
    quantize: str | None,
) -> str:
    """Save the model and return its sha256; if that fails, say where the model is kept."""
    try:
        return classifier.save(output, replace=force, quantize=quantize)
    except OutputError as error:
        kind = OutputExistsError if isinstance(error, OutputExistsError) else OutputError
        raise kind(
            f"{error}; the trained model is kept: the same command with --resume --checkpoint "
            f"{shlex.quote(str(checkpoint))} and another --output saves it at once"
        ) from error


@contextmanager
def refused(start: Start | None, checkpoint: Path) -> Iterator[None]:
    """Say what is kept when the result of going on is refused, for it has forgotten too much."""
    try:
        yield
    except TrainingError as error:
        if start is None or start.kept_accuracy is None:
            raise
        raise TrainingError(
            f"{error}; {checkpoint} keeps the training: the same command with --resume and a "
            "larger --max-loss saves its result, with --force it begins anew"
        ) from error


@contextmanager
def output_lost(kept: str) -> Iterator[None]:
    """Say what is kept when a training ends because its lines can't be printed."""
    try:
        yield
    except terminal.OutputClosedError:
        told = f"stopped, for nobody reads standard output any more; {kept}"
        raise terminal.OutputClosedError(told) from None
    except terminal.OutputFailedError as error:
        raise OutputError(f"{error}; {kept}") from error


@contextmanager
def saved(output: Path) -> Iterator[None]:
    """Say of whatever ends the command that the model is there, and how to have the rest."""
    told = (
        f"the model is saved as {str(output)!r}; the same command with --resume does what was "
        "still to do"
    )
    try:
        yield
    except KeyboardInterrupt as stop:
        interruption = TrainingInterrupted(f"interrupted after the training; {told}")
        interruption.signal_number = getattr(stop, "signal_number", signal.SIGINT)
        raise interruption from stop
    except terminal.OutputClosedError:
        raise terminal.OutputClosedError(f"nobody reads standard output any more; {told}") from None
    except TidegateError as error:
        raise type(error)(f"{error}; {told}") from error
    except OSError as error:
        raise OutputError(f"{error}; {told}") from error
    except MemoryError as error:
        raise TrainingError(f"not enough memory for what follows it ({error}); {told}") from error
    except Exception:
        terminal.complain(told)
        raise
