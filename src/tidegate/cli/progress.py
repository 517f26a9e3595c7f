"""How a training is shown: a line for each epoch, and on a terminal a bar above the next one."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any

from tidegate.cli import terminal

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from tidegate.data import Survey
    from tidegate.portions import ReadResult
    from tidegate.training import EpochResult, StepResult


def until_surveyed(results: Iterable[Any], *, quiet: bool) -> Survey:
    """Run a streamed training until its texts were read once, and return what they are like."""
    from tidegate.data import Survey

    with TrainingBar(1, shown=terminal.progress_wanted(quiet)) as bar:
        for result in results:
            if isinstance(result, Survey):
                return result
            bar.show_reading(result)
    raise AssertionError("a streamed training yields a survey")


def follow(results: Iterable[Any], epochs: int, *, quiet: bool) -> None:
    """Run a training to its end, and show what it yields unless ``quiet``."""
    from tidegate.portions import ReadResult
    from tidegate.training import EpochResult

    with TrainingBar(epochs, shown=terminal.progress_wanted(quiet)) as bar:
        for result in results:
            if isinstance(result, EpochResult):
                bar.hide()  # standard output may be the same terminal
                if not quiet:
                    terminal.say(epoch_line(result, epochs))
            elif isinstance(result, ReadResult):
                bar.show_reading(result)
            else:
                bar.show(result)


def epoch_line(result: EpochResult, epochs: int) -> str:
    """``epoch 1/3  6.2 s  loss 0.4512  accuracy 0.784  val_loss 0.36  val_accuracy 0.846``."""
    parts = [
        f"epoch {result.epoch}/{epochs}",
        f"{result.seconds:.1f} s",
        f"loss {result.loss:.4f}",
        f"accuracy {result.accuracy:.4f}",
    ]
    if result.val_loss is not None:
        parts.append(f"val_loss {result.val_loss:.4f}")
    if result.val_accuracy is not None:
        parts.append(f"val_accuracy {result.val_accuracy:.4f}")
    return "  ".join(parts)


class TrainingBar:
    """One bar on standard error, drawn while an epoch runs and gone when it ends."""

    def __init__(self, epochs: int, *, shown: bool) -> None:
        self.epochs = epochs
        self.shown = shown
        self.name = ""  # of the run, where there are several
        self._bar: tuple[Progress, TaskID] | None = None

    def __enter__(self) -> TrainingBar:
        self._draw("preparing", total=None)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.hide()  # whatever happened, the terminal gets its cursor back

    def show(self, result: StepResult) -> None:
        """Draw the state after one step."""
        per_second = result.texts / result.seconds if result.seconds > 0 else 0.0
        remaining = (self.epochs - result.epoch + 1) * result.total_texts - result.texts
        self._draw(
            f"{self.name}  epoch {result.epoch}/{self.epochs}".lstrip(),
            total=result.total_texts,
            completed=result.texts,
            figures=f"loss {result.loss:.4f}  accuracy {result.accuracy:.4f}",
            rate=f"{per_second:,.0f} texts/s",
            left=f"{_clock(remaining / per_second)} left" if per_second else "",
        )

    def show_reading(self, result: ReadResult) -> None:
        """Draw how much was read."""
        per_second = result.texts / result.seconds if result.seconds > 0 else 0.0
        self._draw(
            "reading" if result.total is None else "reading again",
            total=result.total,
            completed=result.texts,
            figures=f"{result.texts:,} texts",
            rate=f"{per_second:,.0f} texts/s",
        )

    def hide(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            bar, self._bar = self._bar[0], None
            with suppress(OSError):  # the terminal is gone
                bar.stop()

    def _draw(
        self,
        description: str,
        *,
        total: int | None,
        completed: int = 0,
        figures: str = "",
        rate: str = "",
        left: str = "",
    ) -> None:
        if not self.shown:
            return
        if self._bar is None:
            progress = _new_progress()
            # Without a total the bar only moves to and fro.
            task = progress.add_task(
                description, total=total, figures=figures, rate=rate, left=left
            )
            try:
                progress.start()
            except OSError:  # the terminal is gone, which is no reason to stop training
                self.shown = False
                return
            self._bar = progress, task
        progress, task = self._bar
        progress.update(
            task,
            description=description,
            total=total,
            completed=completed,
            figures=figures,
            rate=rate,
            left=left,
        )


def _new_progress() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TaskProgressColumn(),
        TextColumn("{task.fields[figures]}"),
        TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[left]}"),
        console=Console(stderr=True),
        transient=True,
        expand=True,
        refresh_per_second=5,  # drawing takes the interpreter from the training
    )


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
