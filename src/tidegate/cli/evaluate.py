"""``tidegate evaluate``."""

from __future__ import annotations

import time
from pathlib import Path

from tidegate.cli import files, labels, measures, options, terminal


def evaluate(
    model: options.Model,
    source: options.Source,
    data: options.Data = None,
    text_column: options.TextColumn = None,
    label_column: options.LabelColumn = None,
    label_separator: options.LabelSeparator = None,
    table_format: options.Format = None,
    encoding: options.Encoding = None,
    delimiter: options.Delimiter = None,
    report: options.Report = None,
    quiet: options.Quiet = False,
) -> None:
    """Measure a model on SOURCE: accuracy, F1, AUC, calibration, each label's scores.

    For imdb these are the test reviews, for a file all of its rows. --report also has the 95 %
    intervals of F1 and AUC, from resamples of the texts.

    \b
    Example:
      tidegate evaluate model.safetensors imdb
      tidegate evaluate model.safetensors held_out.csv --report result.json
    """
    if report is not None:
        files.check_distinct(
            {"MODEL": model, "SOURCE": Path(source), "--data": data, "--report": report}
        )
    # Imported late: help and errors in the options must not wait for NumPy.
    from tidegate import __version__, storage
    from tidegate import data as datasets
    from tidegate.estimator import TextClassifier

    started = time.perf_counter()
    files.check_writable(report)
    tensors, header, _, sha256 = storage.read_stored(model)
    classifier = TextClassifier.from_tensors(tensors, header, model)
    del tensors  # predictions read copies
    dataset = datasets.load(
        source,
        data=data,
        text_column=text_column,
        label_column=label_column,
        format=table_format,
        encoding=encoding,
        delimiter=delimiter,
        label_separator=label_separator,
        progress=terminal.progress_wanted(quiet),
        min_classes=1,
    )
    labeled = dataset.train if dataset.test is None else dataset.test
    known = labels.known_labels(classifier, labeled.labels, label_separator, source)
    result = classifier.report(
        labeled.texts,
        known,
        intervals=report is not None,  # they take longer than the predictions
    )
    if not quiet:
        terminal.say(f"data: {dataset.origin}")
        for line in measures.lines(result):
            terminal.say(line)
    if report is not None:
        files.write_report(
            report,
            {
                "tidegate": __version__,
                "source": {
                    "name": dataset.name,
                    "origin": dataset.origin,
                    "test": len(labeled),
                },
                "machine": files.machine(classifier.model_.precision),
                "test": result.to_json(),
                "seconds": time.perf_counter() - started,
                "model": str(model),
                "sha256": sha256,
            },
        )
