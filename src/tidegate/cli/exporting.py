"""``tidegate export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tidegate.cli import files, options, terminal


def export(
    model: options.Model,
    to: Annotated[
        str, typer.Option("--to", metavar="NAME", help="keras, torch, onnx, or html for a page.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Where the model goes: a .keras, .py, .onnx or .html file; the default is MODEL's "
            "name with that ending.",
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights",
            metavar="NAME",
            help="How a page holds the weights: float16 (the default), int8 or float32.",
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
    """Write a model for Keras 3, PyTorch or ONNX, or as a page that shows it at work.

    A model for a framework reads ids; a vocabulary beside it, a JSON file, says which word has
    which. A page is one file with all that it needs: it opens from disk, without a network. Both
    sides compute the same random texts; if their numbers differ, nothing is written.

    \b
    Example:
      tidegate export model.safetensors --to onnx
      tidegate export model.safetensors --to keras --without-ngrams
      tidegate export model.safetensors --to torch -o sentiment.py
      tidegate export model.safetensors --to html --weights int8
    """
    # Imported late: help and errors in the options must not wait for NumPy.
    from tidegate.errors import ConfigError, unknown_choice
    from tidegate.estimator import TextClassifier
    from tidegate.interop import html_export
    from tidegate.interop.exporting import TARGETS, export_model, paths_of

    suffixes = {**TARGETS, "html": html_export.SUFFIX}
    if to not in suffixes:
        raise unknown_choice("to", to, suffixes)
    if weights is not None:
        if to != "html":
            raise ConfigError(f"--weights {weights} is for --to html; {to} models have float32")
        html_export.check_weights(weights)
    if output is None:
        output = model.with_suffix(suffixes[to])
    paths = (output,) if to == "html" else paths_of(output, to)
    files.check_distinct({"MODEL": model, **{f"output {p.name}": p for p in paths}})
    mend = "choose another --output, or replace it with --force"
    for path in paths if to == "html" else paths[:-1]:  # several exports may share a vocabulary
        files.check_new(path, force=force, mend=mend)
    classifier = TextClassifier.load(model)
    if to == "html":
        exported = html_export.export_html(
            classifier,
            output,
            weights=weights or html_export.WEIGHTS[0],
            replace=force,
            without_ngrams=without_ngrams,
        )
    else:
        exported = export_model(
            classifier, output, to, replace=force, without_ngrams=without_ngrams
        )
    if exported.ignored:
        terminal.complain(
            f"note: the n-grams of {str(model)!r} decide alone and its network counts nothing: "
            "what was written is that network, and may judge badly; evaluate it, or train with "
            "--ngrams 0"
        )
    if not quiet:
        terminal.say(
            f"proven against {exported.side}: the logits of random texts differ by at most "
            f"{exported.difference:.2g}"
        )
        for path in exported.paths:
            terminal.say(f"{path}  {path.stat().st_size / 1e3:,.1f} kB")
