"""``tidegate export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tidegate.cli import files, options, terminal


def export(
    model: options.Model,
    to: Annotated[str, typer.Option("--to", metavar="NAME", help="keras, torch or onnx.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Where the model goes: a .keras, .py or .onnx file; the default is MODEL's name "
            "with that ending.",
        ),
    ] = None,
    without_ngrams: Annotated[
        bool,
        typer.Option(
            "--without-ngrams",
            help="Of a model with n-grams beside the network, export the network alone, which "
            "judges worse by itself.",
            show_default=False,
        ),
    ] = False,
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Write a model for Keras 3, PyTorch or ONNX, and its vocabulary beside it.

    The exported model reads ids; the vocabulary, a JSON file, says which word has which. Both sides
    compute the same random texts; if their numbers differ, nothing is written.

    \b
    Example:
      tidegate export model.safetensors --to onnx
      tidegate export model.safetensors --to keras --without-ngrams
      tidegate export model.safetensors --to torch -o sentiment.py
    """
    # Imported late: help and errors in the options must not wait for NumPy.
    from tidegate.errors import unknown_choice
    from tidegate.estimator import TextClassifier
    from tidegate.interop.exporting import TARGETS, export_model, paths_of

    if to not in TARGETS:
        raise unknown_choice("to", to, TARGETS)
    if output is None:
        output = model.with_suffix(TARGETS[to])
    paths = paths_of(output, to)
    files.check_distinct({"MODEL": model, **{f"output {p.name}": p for p in paths}})
    mend = "choose another --output, or replace it with --force"
    for path in paths[:-1]:  # several exports may share a vocabulary
        files.check_new(path, force=force, mend=mend)
    classifier = TextClassifier.load(model)
    exported = export_model(classifier, output, to, replace=force, without_ngrams=without_ngrams)
    if not quiet:
        terminal.say(
            f"proven against {exported.side}: the logits of random texts differ by at most "
            f"{exported.difference:.2g}"
        )
        for path in exported.paths:
            terminal.say(f"{path}  {path.stat().st_size / 1e3:,.1f} kB")
