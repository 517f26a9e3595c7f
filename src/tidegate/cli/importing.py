"""``tidegate import``."""

from __future__ import annotations

import csv
import shlex
from pathlib import Path
from typing import Annotated

import typer

from tidegate import atomic
from tidegate.cli import files, options, terminal
from tidegate.errors import ConfigError


def import_(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="A .keras or .h5 model of Keras, a .safetensors or .pt state dict of PyTorch, or "
            "an .onnx graph.",
        ),
    ],
    output: options.Output = Path("model.safetensors"),
    vocabulary: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The words: one a line, whose place is its id; or JSON, a list, or a dict of word "
            "and id as Keras's word_index is.",
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...",
            help="The labels of the model's outputs, in their order; of one output, that of 0 and "
            "that of 1. The default is 0, 1, ...",
        ),
    ] = None,
    targets: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Where the output layer has no activation: one, a text has one of the labels (the "
            "default), or many, it may have several.",
        ),
    ] = None,
    first_id: Annotated[
        int | None,
        options.whole(
            "The smallest id of a word, where the vocabulary counts from elsewhere; for "
            "Keras's imdb.get_word_index it is 4."
        ),
    ] = None,
    unknown_id: Annotated[
        int | None, options.whole("The id of unknown words, or -1 if they were left out (imdb: 2).")
    ] = None,
    start_id: Annotated[
        int | None, options.whole("The id with which each text begins, if there is one (imdb: 1).")
    ] = None,
    padding_id: Annotated[int | None, options.whole("The id of padding, if it is no 0.")] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The rules of tokens: lecture (Keras's, the default) or words.",
        ),
    ] = None,
    max_length: Annotated[
        int | None,
        options.whole("Tokens read of a text; the default is what the file tells, or all of it."),
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Which ones of a longer text: end, start or both."),
    ] = None,
    masked: Annotated[
        bool | None,
        typer.Option(
            "--masked/--unmasked",
            help="For a state dict: padding was left out (packed sequences, the default), or stood "
            "in front and was read.",
        ),
    ] = None,
    pooling: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="For a state dict or an ONNX graph: what the output layer reads of the states, "
            "last (the default), max, mean, or several as last+max.",
        ),
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ROLE=NAME",
            help="For a state dict: the module that is the embedding, recurrent or output, where "
            "that can't be seen; it may stand several times.",
        ),
    ] = None,
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Turn a model of Keras, PyTorch or ONNX into one of tidegate's.

    None of these frameworks is needed, and nothing in the file is run. Both sides then compute the
    same random texts; if their numbers differ, no file is written.

    \b
    Example:
      tidegate import sentiment.keras --vocabulary words.txt --labels bad,good
      tidegate import imdb.h5 --vocabulary word_index.json --first-id 4 --start-id 1 --unknown-id 2
    """
    given = {"FILE": source, "--vocabulary": vocabulary, "--output": output}
    files.check_distinct(given)
    mend = "choose another --output, or replace it with --force"
    files.check_new(output, force=force, mend=mend)
    atomic.check_writable(output)

    # Imported late: help and errors in the options must not wait for NumPy.
    from tidegate.interop.importing import ImportOptions, import_model

    imported = import_model(
        source,
        vocabulary,
        ImportOptions(
            labels=None if labels is None else _labels(labels),
            targets=targets,
            tokenizer=tokenizer,
            keep=keep,
            max_length=max_length,
            first_id=first_id,
            padding_id=padding_id,
            start_id=start_id,
            unknown_id=unknown_id,
            masked=masked,
            pooling=pooling,
            names=tuple(map(_role, name or [])),
        ),
    )
    sha256 = imported.save(output, replace=force)
    if not quiet:
        config = imported.trained.model.config
        words = len(imported.trained.tokenizer.vocabulary.words)
        terminal.say(
            f"{imported.source}: {config.cell}, {words:,} words, {config.classes} classes, reads "
            f"{config.max_length:,} tokens"
        )
        terminal.say(
            f"proven: the logits of random texts differ by at most {imported.difference:.2g}"
        )
        terminal.say(files.describe(str(output), output.stat().st_size, sha256))
        terminal.say(f'tidegate predict {shlex.quote(str(output))} "..."')


def _labels(text: str) -> list[str]:
    """Labels between commas; one with a comma stands in double quotes."""
    try:
        (found,) = csv.reader([text], strict=True)
    except (csv.Error, ValueError) as error:
        raise ConfigError(
            f"labels={text[:80]!r} can't be read; give them as A,B, and one with a comma in quotes"
        ) from error
    if "" in found:
        raise ConfigError(f"labels={text[:80]!r} has an empty label; give one for each class")
    return found


def _role(text: str) -> tuple[str, str]:
    role, equals, name = text.partition("=")
    if not equals:
        raise ConfigError(f"name={text[:80]!r} is no ROLE=NAME, such as embedding=encoder.embed")
    return role, name
