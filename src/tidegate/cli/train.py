"""``tidegate train``."""

from __future__ import annotations

import shlex
import time
import warnings
from pathlib import Path
from typing import Any

from tidegate import atomic
from tidegate.cli import (
    continuing,
    data_report,
    datasets,
    files,
    options,
    outcome,
    terminal,
    training_report,
)
from tidegate.cli import training_options as training
from tidegate.cli.labels import split_labels
from tidegate.cli.progress import follow

SUFFIX = ".safetensors"


def train(
    source: options.Source,
    output: options.Output = Path("model.safetensors"),
    force: options.Force = False,
    data_path: options.Data = None,
    text_column: options.TextColumn = None,
    label_column: options.LabelColumn = None,
    label_separator: options.LabelSeparator = None,
    table_format: options.Format = None,
    encoding: options.Encoding = None,
    delimiter: options.Delimiter = None,
    preset: training.Preset = None,
    cell: training.Cell = None,
    reset: training.Reset = None,
    hidden_size: training.HiddenSize = None,
    embedding_size: training.EmbeddingSize = None,
    vocabulary_size: training.VocabularySize = None,
    max_length: training.MaxLength = None,
    masked: training.Masked = None,
    epochs: training.Epochs = None,
    batch_size: training.BatchSize = None,
    learning_rate: training.LearningRate = None,
    clip_norm: training.ClipNorm = None,
    validation: training.Validation = None,
    test: training.Test = None,
    seed: training.Seed = None,
    threads: training.Threads = None,
    quantize: training.Quantize = None,
    ngrams: training.Ngrams = None,
    tokenizer: training.TokenizerName = None,
    vectors: training.Vectors = None,
    freeze_vectors: training.FreezeVectors = None,
    settings: training.Settings = None,
    precision: training.Precision = None,
    checkpoint: training.Checkpoint = None,
    resume: training.Resume = False,
    stream: training.Stream = None,
    work_folder: training.WorkFolder = None,
    start: continuing.From = None,
    keep: continuing.Keep = None,
    max_loss: continuing.MaxLoss = None,
    report: options.Report = None,
    quiet: options.Quiet = False,
) -> None:
    """Train a classifier on SOURCE and save it as one file.

    `tidegate train imdb` is the lecture's job: its network, tokens, padding and number of epochs. A
    file is trained by the preset `default`, a small network beside a linear model of word pairs.
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
    overrides = training.overrides(given, settings or ())
    if checkpoint is None:
        checkpoint = output.parent / f"{output.name.removesuffix(SUFFIX)}.checkpoint{SUFFIX}"
    files.check_distinct(
        {
            "SOURCE": Path(source),
            "--data": data_path,
            "--validation": validation_file,
            "--test": test,
            "--output": output,
            "--checkpoint": checkpoint,
            "--report": report,
            "--keep": keep,
            "--vectors": vectors,
        }
    )
    outcome.check_new(output, checkpoint, force=force, resume=resume)
    files.check_writable(output, checkpoint, report)
    if quiet:
        warnings.simplefilter("ignore")

    # Imported late: help and errors in the options must not wait for NumPy.
    from tidegate import data, ops
    from tidegate.estimator import TextClassifier
    from tidegate.model_file import check_quantize
    from tidegate.ngrams import decides_alone

    check_quantize(quantize)
    if stream is None:
        stream = data.is_large(source, table_format)
    datasets.check_work_folder(work_folder, stream=stream)
    columns = {
        "text_column": text_column,
        "label_column": label_column,
        "encoding": encoding,
        "delimiter": delimiter,
        "label_separator": label_separator,
    }
    begun = continuing.begin(
        start,
        keep,
        max_loss,
        preset=preset,
        others={"SOURCE": Path(source), "--checkpoint": checkpoint, "--report": report},
        **columns,
    )
    if begun is not None:
        classifier = continuing.classifier(begun, overrides)
    else:
        if preset is None:
            preset = training.preset_for(source)
        classifier = TextClassifier.from_preset(preset, **overrides)
        classifier.check()  # now, and not after a download
    if threads is not None:
        ops.set_threads(threads)  # for all that the command computes
    with atomic.locked(checkpoint):
        # Once more: the run that had the checkpoint until now may have left its model.
        outcome.check_new(output, checkpoint, force=force, resume=resume)
        given_source: dict[str, Any] = {
            **columns,
            "format": table_format,
            "validation": validation_file,
            "test": test,
        }
        run: dict[str, Any] = {"checkpoint": checkpoint, "resume": resume, "start": begun}
        if stream:
            folder = work_folder or output.absolute().parent
            table = data.open_dataset(source, **given_source)
            training_run = datasets.streamed(
                classifier, table, label_separator, folder=folder, quiet=quiet, **run
            )
        else:
            loaded = data.load(
                source,
                data=data_path,
                **given_source,
                progress=terminal.progress_wanted(quiet),
                min_classes=2 if begun is None else 1,
            )
            surveyed = report is not None or not quiet
            training_run = datasets.in_memory(
                classifier, loaded, label_separator, surveyed=surveyed, **run
            )
        dataset, found = training_run.dataset, training_run.found
        # Lines follow an epoch alone, and by then the checkpoint holds that epoch.
        kept = f"{checkpoint} keeps everything: go on with --resume, best with --quiet"
        if not quiet:
            goes_on = resume and checkpoint.exists()
            with outcome.output_lost(
                kept if goes_on else "nothing was trained yet: begin with --quiet"
            ):
                terminal.say(f"data: {dataset.origin}")
                terminal.say(training_report.counts(classifier, training_run))
                for line in data_report.describe(found, classifier.keep) if found else ():
                    terminal.say(line)
                if resume and not goes_on:
                    terminal.say(f"no checkpoint at {checkpoint}: beginning at the start")
        with outcome.output_lost(kept), outcome.refused(begun, checkpoint):
            follow(training_run.steps, classifier.epochs_for(training_run.texts), quiet=quiet)
            if not quiet and (counted := classifier.vectors_) is not None:
                share = f"{counted['found']:,} of {counted['words']:,} words"
                terminal.say(f"vectors: {share} are in {vectors}")
            together = classifier.validation_
            if not quiet and classifier.ngrams_ is not None and together is not None:
                figures = f"val_loss {together.loss:.4f}  val_accuracy {together.accuracy:.4f}"
                terminal.say(f"with n-grams  {figures}")
                if decides_alone(classifier.mix_):
                    terminal.say(
                        "note: on the validation texts the n-grams do best alone, so the network "
                        "counts nothing; more texts or epochs may change that"
                    )
            if not quiet:
                continuing.say_kept(begun)
        # Before all that could still fail.
        sha256 = outcome.save(classifier, output, checkpoint, force=force, quantize=quantize)
        with outcome.saved(output):
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
                results = training_report.results(
                    classifier, training_run, found, measured, output, sha256, quantize
                )
                results |= continuing.report(begun, start)
                results["seconds"] = time.perf_counter() - started
                files.write_report(report, results)
            if not quiet:
                terminal.say(files.describe(str(output), output.stat().st_size, sha256))
                terminal.say(f'tidegate predict {shlex.quote(str(output))} "..."')
            # Last: until here, --resume does again what was missed.
            checkpoint.unlink(missing_ok=True)
