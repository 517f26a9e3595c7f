"""``tidegate train``."""

from __future__ import annotations

import shlex
import signal
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tidegate import atomic
from tidegate.cli import continuing, data_report, files, options, terminal
from tidegate.cli.labels import check_separated, check_separator, split_labels
from tidegate.cli.progress import follow
from tidegate.errors import (
    OutputError,
    OutputExistsError,
    TidegateError,
    TrainingError,
    TrainingInterrupted,
)

if TYPE_CHECKING:
    from tidegate.data import Dataset, Survey
    from tidegate.estimator import TextClassifier
    from tidegate.metrics import Evaluation

SUFFIX = ".safetensors"


def train(
    source: options.Source,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Where the model goes.")
    ] = Path("model.safetensors"),
    force: Annotated[
        bool,
        typer.Option("--force", help="Replace files that are there already.", show_default=False),
    ] = False,
    data: options.Data = None,
    text_column: options.TextColumn = None,
    label_column: options.LabelColumn = None,
    label_separator: options.LabelSeparator = None,
    table_format: options.Format = None,
    encoding: options.Encoding = None,
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Values of all options below: lecture (the default for imdb), default (the "
            "default for a file), accurate (larger and slower) or fast.",
        ),
    ] = None,
    cell: Annotated[str | None, typer.Option(metavar="NAME", help="gru, lstm or rnn.")] = None,
    reset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="A GRU's reset gate acts after or before the recurrent product.",
        ),
    ] = None,
    hidden_size: Annotated[
        int | None,
        typer.Option(parser=options.whole_number, metavar="N", help="Units of the hidden state."),
    ] = None,
    embedding_size: Annotated[
        int | None,
        typer.Option(parser=options.whole_number, metavar="N", help="Numbers for each word."),
    ] = None,
    vocabulary_size: Annotated[
        int | None,
        typer.Option(
            parser=options.whole_number,
            metavar="N",
            help="Ids for words: the N - 4 most frequent ones, and four special ids.",
        ),
    ] = None,
    max_length: Annotated[
        int | None,
        typer.Option(
            parser=options.whole_number, metavar="N", help="Tokens read of a text: its last N."
        ),
    ] = None,
    masked: Annotated[
        bool | None,
        typer.Option(
            "--masked/--unmasked",
            help="Begin each text with a zero state, or let the padding in front of it count.",
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            parser=options.whole_number, metavar="N", help="Times that every text is seen."
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(parser=options.whole_number, metavar="N", help="Texts for each step."),
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(parser=options.number, metavar="X", help="Adam's step size.")
    ] = None,
    clip_norm: Annotated[
        float | None,
        typer.Option(
            parser=options.number, metavar="X", help="The largest norm of a step's gradient."
        ),
    ] = None,
    validation: Annotated[
        options.HeldOut | None,
        typer.Option(
            parser=options.held_out,
            metavar="FRACTION|FILE",
            help="To validate each epoch: the share of the training texts that are held out, or a "
            "table or folder of its own.",
        ),
    ] = None,
    test: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="A table or folder of texts on which the finished model is tested."
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            parser=options.whole_number,
            metavar="N",
            help="The same seed and data give the same model file, bit for bit.",
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            parser=options.whole_number,
            metavar="N",
            help="Threads to use; the default is TIDEGATE_THREADS, or one for each core.",
        ),
    ] = None,
    quantize: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="int8: a file about a quarter as large, its weights a little less exact; it is "
            "the file that the test set then measures.",
        ),
    ] = None,
    ngrams: Annotated[
        int | None,
        typer.Option(
            parser=options.whole_number,
            metavar="N",
            help="Put a linear model of up to N words in a row beside the network; 0 for none.",
        ),
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="What a token is: words, lecture, or a Hugging Face tokenizer.json "
            "(pip install 'tidegate[tokenizers]').",
        ),
    ] = None,
    vectors: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Words' vectors to begin with: GloVe's, or word2vec's or fastText's text form, "
            "also as .gz or .zst.",
        ),
    ] = None,
    freeze_vectors: Annotated[
        bool | None,
        typer.Option(
            "--freeze-vectors", help="Leave the words of that file as they are.", show_default=False
        ),
    ] = None,
    settings: Annotated[
        list[options.Setting] | None,
        typer.Option(
            "--set",
            parser=options.setting,
            metavar="NAME=VALUE",
            help="Any other argument of TextClassifier, such as layers=2 or pooling=max+mean; may "
            "be given several times. See docs/models.md.",
        ),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Of the matrix products: auto, float32, bf16x3, or bfloat16, which is faster on "
            "processors with AVX-512 BF16 and less exact.",
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Where a stopped training is kept; the default is beside the model: "
            "model.checkpoint.safetensors.",
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on from the checkpoint.", show_default=False),
    ] = False,
    start: continuing.From = None,
    keep: continuing.Keep = None,
    max_loss: continuing.MaxLoss = None,
    report: options.Report = None,
    quiet: options.Quiet = False,
) -> None:
    """Train a classifier on SOURCE and save it as one file.

    `tidegate train imdb` is the lecture's job: its network, tokens, padding and number of epochs.
    Ctrl-C finishes the running step and keeps a checkpoint; the same command with --resume then
    goes on as if nothing had happened.

    \b
    Example:
      tidegate train imdb
      tidegate train reviews.csv -o reviews.safetensors --epochs 5
      tidegate train reviews.csv --validation other.csv --test held_out.csv
      tidegate train new.csv --from reviews.safetensors --keep held_out.csv
    """
    started = time.perf_counter()
    check_separator(label_separator, source)
    validation_file = None if validation is None else validation.path
    fraction = None if validation is None else validation.fraction
    given = {
        "cell": cell,
        "reset": reset,
        "hidden_size": hidden_size,
        "embedding_size": embedding_size,
        "vocabulary_size": vocabulary_size,
        "max_length": max_length,
        "masked": masked,
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "clip_norm": clip_norm,
        # Of a file of its own, nothing is held out of the others.
        "validation_fraction": fraction if validation_file is None else 0.0,
        "random_state": seed,
        "threads": threads,
        "precision": precision,
        "ngrams": ngrams,
        "tokenizer": tokenizer,
        "vectors": None if vectors is None else str(vectors),
        "freeze_vectors": freeze_vectors,
    }
    overrides = {name: value for name, value in given.items() if value is not None}
    overrides.update({setting.name: setting.value for setting in settings or ()})
    if checkpoint is None:
        checkpoint = output.parent / f"{output.name.removesuffix(SUFFIX)}.checkpoint{SUFFIX}"
    files.check_distinct(
        {
            "SOURCE": Path(source),
            "--data": data,
            "--validation": validation_file,
            "--test": test,
            "--output": output,
            "--checkpoint": checkpoint,
            "--report": report,
            "--keep": keep,
            "--vectors": vectors,
        }
    )
    _check_new(output, checkpoint, force=force, resume=resume)
    for path in (output, checkpoint, report):
        if path is not None:
            atomic.check_writable(path)
    if quiet:
        warnings.simplefilter("ignore")

    # Imported late: help and errors in the options must not wait for NumPy.
    from tidegate import data as datasets
    from tidegate import ops
    from tidegate.estimator import TextClassifier
    from tidegate.model_file import check_quantize

    check_quantize(quantize)
    begun = continuing.begin(
        start,
        keep,
        max_loss,
        preset=preset,
        others={"SOURCE": Path(source), "--checkpoint": checkpoint, "--report": report},
        text_column=text_column,
        label_column=label_column,
        encoding=encoding,
    )
    if begun is not None:
        classifier = continuing.classifier(begun, overrides)
    else:
        if preset is None:
            preset = "lecture" if source == "imdb" else "default"
        classifier = TextClassifier.from_preset(preset, **overrides)
        classifier.check()  # now, and not after a download
    if threads is not None:
        ops.set_threads(threads)  # for all that the command computes
    with atomic.locked(checkpoint):
        # Once more: the run that had the checkpoint until now may have left its model.
        _check_new(output, checkpoint, force=force, resume=resume)
        dataset = datasets.load(
            source,
            data=data,
            text_column=text_column,
            label_column=label_column,
            format=table_format,
            encoding=encoding,
            validation=validation_file,
            test=test,
            progress=terminal.progress_wanted(quiet),
            min_classes=2 if begun is None else 1,
        )
        check_separated(dataset.train.labels, label_separator)
        found = (
            None if quiet and report is None else data_report.examine(classifier, dataset, begun)
        )
        # Lines follow an epoch alone, and by then the checkpoint holds that epoch.
        kept = f"{checkpoint} keeps everything: go on with --resume, best with --quiet"
        if not quiet:
            goes_on = resume and checkpoint.exists()
            with _output_lost(kept if goes_on else "nothing was trained yet: begin with --quiet"):
                terminal.say(f"data: {dataset.origin}")
                terminal.say(_counts(classifier, dataset))
                for line in data_report.describe(found, classifier.keep) if found else ():
                    terminal.say(line)
                if resume and not goes_on:
                    terminal.say(f"no checkpoint at {checkpoint}: beginning at the start")
        separate = dataset.validation
        steps = classifier.fit_steps(
            dataset.train.texts,
            split_labels(dataset.train.labels, label_separator),
            checkpoint=checkpoint,
            resume=resume,
            validation=None
            if separate is None
            else (separate.texts, split_labels(separate.labels, label_separator)),
            start=begun,
        )
        with _output_lost(kept):
            follow(steps, classifier.epochs_for(len(dataset.train)), quiet=quiet)
            if not quiet and (counted := classifier.vectors_) is not None:
                share = f"{counted['found']:,} of {counted['words']:,} words"
                terminal.say(f"vectors: {share} are in {vectors}")
            together = classifier.validation_
            if not quiet and classifier.ngrams_ is not None and together is not None:
                figures = f"val_loss {together.loss:.4f}  val_accuracy {together.accuracy:.4f}"
                terminal.say(f"with n-grams  {figures}")
            if not quiet:
                continuing.say_kept(begun)
        # Before all that could still fail.
        sha256 = _save(classifier, output, checkpoint, force=force, quantize=quantize)
        with _saved(output):
            measured = None
            if dataset.test is not None:
                # What is measured is what was saved.
                saved = classifier if quantize is None else TextClassifier.load(output)
                held_out = split_labels(dataset.test.labels, label_separator)
                measured = saved.evaluate(dataset.test.texts, held_out)
                if not quiet:
                    count = f"{len(dataset.test):,} texts"
                    figures = f"{measured.accuracy:.4f} ({count}, {measured.seconds:.1f} s)"
                    terminal.say(f"test accuracy {figures}")
            if report is not None and found is not None:
                results = _report(classifier, dataset, found, measured, output, sha256, quantize)
                results |= continuing.report(begun, start)
                results["seconds"] = time.perf_counter() - started
                files.write_report(report, results)
            if not quiet:
                terminal.say(files.describe(str(output), output.stat().st_size, sha256))
                terminal.say(f'tidegate predict {shlex.quote(str(output))} "..."')
            # Last: until here, --resume does again what was missed.
            checkpoint.unlink(missing_ok=True)


def _check_new(output: Path, checkpoint: Path, *, force: bool, resume: bool) -> None:
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


def _save(
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
def _output_lost(kept: str) -> Iterator[None]:
    """Say what is kept when a training ends because its lines can't be printed."""
    try:
        yield
    except terminal.OutputClosedError:
        told = f"stopped, for nobody reads standard output any more; {kept}"
        raise terminal.OutputClosedError(told) from None
    except terminal.OutputFailedError as error:
        raise OutputError(f"{error}; {kept}") from error


@contextmanager
def _saved(output: Path) -> Iterator[None]:
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


def _parts(classifier: TextClassifier, dataset: Dataset) -> dict[str, int]:
    """How many texts train, validate and test."""
    training, validation = map(len, classifier.split(len(dataset.train)))
    if dataset.validation is not None:
        validation = len(dataset.validation)
    test = 0 if dataset.test is None else len(dataset.test)
    return {"train": training, "validation": validation, "test": test}


def _counts(classifier: TextClassifier, dataset: Dataset) -> str:
    """``20,000 training, 5,000 validation and 25,000 test texts``."""
    counts = _parts(classifier, dataset)
    parts = [f"{counts['train']:,} training", f"{counts['validation']:,} validation"]
    if dataset.test is not None:
        parts.append(f"{counts['test']:,} test")
    return f"{', '.join(parts[:-1])} and {parts[-1]} texts"


def _report(
    classifier: TextClassifier,
    dataset: Dataset,
    found: Survey,
    test: Evaluation | None,
    output: Path,
    sha256: str,
    quantize: str | None,
) -> dict[str, Any]:
    """What ``--report`` writes, but for the seconds of the whole command."""
    from tidegate import __version__, ops

    # What really ran, where the options leave it to the data or the machine.
    resolved = {
        "epochs": len(classifier.history_),
        "vocabulary_size": classifier.model_.config.vocabulary_size,
        "threads": ops.threads(),
        "precision": classifier.model_.precision,
    }
    return {
        "tidegate": __version__,
        "source": {
            "name": dataset.name,
            "origin": dataset.origin,
            **_parts(classifier, dataset),
        },
        "data": found.to_json(),
        "config": classifier.get_params() | resolved,
        "machine": files.machine(classifier.model_.precision),
        "epochs": [asdict(epoch) for epoch in classifier.history_],
        "validation": None
        if classifier.validation_ is None
        else files.measured(classifier.validation_),
        "vectors": classifier.vectors_,
        "mix": list(classifier.mix_),
        "test": None if test is None else files.measured(test),
        "seconds": 0.0,
        "model": str(output),
        "quantization": quantize,
        "sha256": sha256,
    }
