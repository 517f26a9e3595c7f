"""``tidegate compare``."""

from __future__ import annotations

import shlex
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate import atomic
from tidegate.cli import compare_options as own
from tidegate.cli import files, options, terminal
from tidegate.cli import training_options as training
from tidegate.cli.labels import split_labels
from tidegate.cli.progress import TrainingBar, epoch_line
from tidegate.errors import ConfigError, TrainingInterrupted

if TYPE_CHECKING:
    from tidegate.compare import Comparison, Done, Parts, Plan
    from tidegate.data import Dataset

WORK = Path("comparison.work.json")


def compare(
    source: options.Source,
    data: options.Data = None,
    text_column: options.TextColumn = None,
    label_column: options.LabelColumn = None,
    label_separator: options.LabelSeparator = None,
    table_format: options.Format = None,
    encoding: options.Encoding = None,
    delimiter: options.Delimiter = None,
    cells: own.Cells = None,
    seeds: own.Seeds = "3",  # type: ignore[assignment]  # Typer parses defaults, too
    seed: own.Seed = "0",  # type: ignore[assignment]
    preset: own.Preset = None,
    epochs: training.Epochs = None,
    budget: own.Budget = None,
    settings: own.Settings = None,
    validation: own.Validation = None,
    test: own.Test = None,
    margin: own.Margin = "0.01",  # type: ignore[assignment]
    threads: training.Threads = None,
    report: options.Report = None,
    markdown: own.Markdown = None,
    page: own.Page = None,
    work: own.Work = WORK,
    resume: own.Resume = False,
    force: own.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure GRU, LSTM, plain RNN and a linear model on SOURCE, and say which one to take.

    Each run is a process of its own, and the models take turns. A model is recommended by the
    validation texts alone; the test texts are measured at the end. Ctrl-C loses the run that is
    going on; the same command with --resume does what is missing.

    \b
    Example:
      tidegate compare imdb --html comparison.html
      tidegate compare reviews.csv --cells gru,linear --seeds 5 --report comparison.json
    """
    started = time.perf_counter()
    held_files = {
        "--validation": None if validation is None else validation.path,
        "--test": None if test is None else test.path,
    }
    outputs = {"--report": report, "--markdown": markdown, "--html": page}
    files.check_distinct(
        {"SOURCE": Path(source), "--data": data, "--work": work, **held_files, **outputs}
    )
    if not resume:
        mend = "go on from it with --resume, or begin anew with --force"
        files.check_new(work, force=force, mend=mend)
    files.check_writable(work, *outputs.values())

    # Imported late: help and errors in the options must not wait for NumPy.
    from tidegate import data as datasets
    from tidegate import ops
    from tidegate.compare import DEFAULT_MODELS, Comparison, Plan, compare_steps

    given = training.overrides({"epochs": epochs}, settings or ())
    if validation is not None and validation.fraction is not None:
        given["validation_fraction"] = validation.fraction
    names = DEFAULT_MODELS if cells is None else tuple(name.strip() for name in cells.split(","))
    plan = Plan(
        models=names,
        seeds=seeds,
        first_seed=seed,
        preset=preset or training.preset_for(source),
        options=given,
        budget=budget,
        margin=margin,
    )
    if source == "imdb" and test is not None:
        raise ConfigError("imdb has a test set of its own: leave out --test")
    if threads is not None:
        ops.set_threads(threads)
    with atomic.locked(work):
        if force and not resume:
            work.unlink(missing_ok=True)
        dataset = datasets.load(
            source,
            data=data,
            text_column=text_column,
            label_column=label_column,
            format=table_format,
            encoding=encoding,
            delimiter=delimiter,
            label_separator=label_separator,
            validation=held_files["--validation"],
            test=held_files["--test"],
            progress=terminal.progress_wanted(quiet),
        )
        if label_separator is not None:
            datasets.check_separated(dataset.train.labels, label_separator)
        parts = _parts(dataset, label_separator, None if test is None else test.fraction)
        if not quiet:
            terminal.say(f"data: {dataset.origin}")
            terminal.say(_described(plan, parts))
            if resume and not work.exists():
                terminal.say(f"no kept runs at {work}: beginning at the start")
        found: Comparison | None = None
        with _interruptions(work), TrainingBar(1, shown=terminal.progress_wanted(quiet)) as bar:
            for event in compare_steps(plan, parts, work=work, resume=resume):
                if isinstance(event, Comparison):
                    found = event
                else:
                    _show(event, bar, quiet=quiet)
        if found is None:
            return
        found = _with_source(found, dataset, time.perf_counter() - started)
        _write(found, report=report, markdown=markdown, page=page)
        if not quiet:
            _say(found, outputs)
        work.unlink(missing_ok=True)


def _parts(dataset: Dataset, separator: str | None, share: float | None) -> Parts:
    """The texts of each part; a file without a test set gives some of its own."""
    from tidegate.compare import Part, Parts, hold_out
    from tidegate.compare.plan import TEST_SHARE

    def part(texts: Any) -> Part:
        return Part.of(texts.texts, split_labels(texts.labels, separator))

    train = part(dataset.train)
    validation = None if dataset.validation is None else part(dataset.validation)
    if dataset.test is not None:
        return Parts(train, part(dataset.test), validation)
    train, test = hold_out(train, TEST_SHARE if share is None else share)
    return Parts(train, test, validation)


def _described(plan: Plan, parts: Parts) -> str:
    held = parts.held_of_train(plan)
    training = len(parts.train) - held
    validation = held if parts.validation is None else len(parts.validation)
    runs = f"{len(plan.runs)} runs: {', '.join(plan.models)}, {plan.seeds} seed"
    return (
        f"{training:,} training, {validation:,} validation and {len(parts.test):,} test texts; "
        f"{runs}{'s' if plan.seeds > 1 else ''}"
    )


def _show(event: Any, bar: TrainingBar, *, quiet: bool) -> None:
    from tidegate.compare import Probing
    from tidegate.training import EpochResult

    if isinstance(event, Probing):
        if not quiet:
            count = f"{event.texts:,} training texts"
            terminal.say(f"looking for deciding words with a linear model of {count}")
        return
    turn = event.turn
    name = f"{turn.number}/{turn.total}  {turn.model} seed {turn.seed}"
    if hasattr(event, "result"):
        bar.hide()
        if not quiet and (event.kept or event.result.failure or not event.result.epochs):
            terminal.say(f"{name}  {_outcome(event)}")
    elif isinstance(event.event, EpochResult):
        bar.hide()
        if not quiet:
            terminal.say(f"{name}  {epoch_line(event.event, event.epochs)}")
    else:
        bar.epochs, bar.name = event.epochs, name
        bar.show(event.event)


def _outcome(done: Done) -> str:
    result = done.result
    if result.failure is not None or result.validation is None:
        return f"not trained: {result.failure}"
    kept = "  (kept)" if done.kept else ""
    return f"{result.train_seconds:.1f} s  val_accuracy {result.validation.accuracy:.4f}{kept}"


def _with_source(found: Comparison, dataset: Dataset, seconds: float) -> Comparison:
    """The report with where the texts came from."""
    report = dict(found.report)
    first = {"tidegate": report.pop("tidegate")}
    first["source"] = {"name": dataset.name, "origin": dataset.origin}
    return replace(found, report=first | report)


def _write(
    found: Comparison, *, report: Path | None, markdown: Path | None, page: Path | None
) -> None:
    """Every file whole or not at all, and made before the first is written."""
    texts = [
        (path, make())
        for path, make in ((markdown, found.to_markdown), (page, found.to_html))
        if path is not None
    ]
    if report is not None:
        files.write_report(report, found.report)
    for path, text in texts:
        atomic.write(path, [text.encode()])


def _say(found: Comparison, outputs: dict[str, Path | None]) -> None:
    from tidegate.compare.table import lines

    for line in lines(found.report):
        terminal.say(line)
    for path in outputs.values():
        if path is not None:
            terminal.say(str(path))


@contextmanager
def _interruptions(work: Path) -> Iterator[None]:
    """Say of whatever stops the runs where the finished ones are."""
    kept = f"finished runs are kept in {shlex.quote(str(work))}: go on with --resume"
    try:
        yield
    except KeyboardInterrupt as stop:
        told = kept if work.exists() else "no run was finished yet"
        interruption = TrainingInterrupted(f"interrupted; {told}")
        interruption.signal_number = getattr(stop, "signal_number", signal.SIGINT)
        raise interruption from stop
    except terminal.OutputClosedError:
        raise terminal.OutputClosedError(
            f"stopped, for nobody reads standard output any more; {kept}"
        ) from None
