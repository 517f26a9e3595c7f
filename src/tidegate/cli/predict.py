"""``tidegate predict``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from tidegate import atomic
from tidegate.cli import files, options, terminal
from tidegate.errors import ConfigError, DataError, OutputError

if TYPE_CHECKING:
    from tidegate.data.lines import Stream
    from tidegate.estimator import TextClassifier


def predict(
    model: options.Model,
    texts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TEXT]...", help="Texts to classify; put -- before one that begins with -."
        ),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(
            "--input",
            "-i",
            metavar="FILE",
            help="A .csv, .tsv or .jsonl table with a column of texts, or a .txt file with one "
            "text a line.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Write the table of --input, with columns label and probability, as .csv, .tsv "
            "or .jsonl; a file that is there is replaced.",
        ),
    ] = None,
    text_column: options.TextColumn = None,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Print one JSON object a text, with the probabilities of all labels.",
            show_default=False,
        ),
    ] = False,
) -> None:
    """Print the label of each text and its probability.

    Texts come from the command line, from --input, or as lines from standard input. There is one
    line for each text, in order: label, tab, probability. In a file or a stream every text gets
    its line, even an empty one; on the command line, one without a known word is an error.

    \b
    Example:
      tidegate predict model.safetensors "what a film" "what a waste"
      tidegate predict model.safetensors --input new.csv --output scored.csv
      cat lines.txt | tidegate predict model.safetensors --json
    """
    texts = texts or []
    _check_options(texts, source, output, text_column, as_json=as_json)

    # Imported late: help and errors in the options must not wait for NumPy.
    from tidegate.estimator import TextClassifier

    if source is not None and output is not None:
        _classify_table(model, source, output, text_column)
        return
    classifier = TextClassifier.load(model)
    if texts:
        _check_texts(classifier, texts)
    for block in _blocks(texts, source, text_column):
        _print(classifier, block, as_json=as_json)


def _check_options(
    texts: Sequence[str],
    source: Path | None,
    output: Path | None,
    text_column: str | None,
    *,
    as_json: bool,
) -> None:
    if texts and source is not None:
        raise ConfigError(f"both TEXT and --input {str(source)!r} are given; give one of them")
    if source is None and output is not None:
        raise ConfigError(
            f"--output {str(output)!r} needs --input FILE; without it, redirect standard output"
        )
    if source is None and text_column is not None:
        raise ConfigError(f"--text-column {text_column!r} needs --input FILE with that column")
    if output is not None and as_json:
        raise ConfigError(
            f"--json is for standard output; to write JSON, name {str(output)!r} .jsonl instead"
        )
    if not texts and source is None and (sys.stdin is None or sys.stdin.isatty()):
        raise ConfigError("no text: give TEXT, or --input FILE, or lines of text on standard input")


def _check_texts(classifier: TextClassifier, texts: Sequence[str]) -> None:
    """Refuse texts of the command line that the model can say nothing about.

    Among the many texts of a file or a stream such a one gets a label like every other: it must
    not stop the rest.
    """
    from tidegate.text import FIRST_WORD_ID

    encoded = classifier.tokenizer_.encode_all(texts, classifier.model_.config.max_length)
    for i, text in enumerate(texts):
        shown = repr(text if len(text) <= 60 else text[:57] + "...")
        if not _is_unicode(text):
            raise DataError(f"text {i + 1} {shown} is not UTF-8; convert it first")
        if not text.strip():
            raise DataError(f"text {i + 1} is empty ({shown}); give at least one word")
        if not (encoded.row(i) >= FIRST_WORD_ID).any():
            raise DataError(
                f"text {i + 1} {shown} has no word that the model knows, so that its label would "
                "mean nothing; write it in the language and the words of the training texts"
            )


def _is_unicode(text: str) -> bool:
    """False for what Python makes of bytes on the command line that it could not decode."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _blocks(texts: list[str], source: Path | None, text_column: str | None) -> Iterator[list[str]]:
    """All texts in order, in blocks that bound the memory of what is computed for them."""
    from tidegate import data
    from tidegate.data.lines import BLOCK_LINES, file_blocks, text_blocks

    if texts:
        yield texts
    elif source is None:
        yield from text_blocks(cast("Stream", sys.stdin.buffer), "standard input")
    elif source.suffix.lower() == ".txt" and text_column is None:
        yield from file_blocks(source)
    else:
        all_texts = data.read_texts(source, text_column=text_column).texts
        for start in range(0, len(all_texts), BLOCK_LINES):
            yield all_texts[start : start + BLOCK_LINES]


def _print(classifier: TextClassifier, texts: list[str], *, as_json: bool) -> None:
    """One line for each text, flushed together."""
    classes = classifier.classes_.tolist()
    probabilities = classifier.predict_proba(texts)
    best = probabilities.argmax(axis=1)
    if as_json:
        names = [terminal.label_text(label) for label in classes]
        for text, row, i in zip(texts, probabilities.tolist(), best.tolist(), strict=True):
            answer = {
                "text": text,
                "label": classes[i],
                "probability": row[i],
                "probabilities": dict(zip(names, row, strict=True)),
            }
            terminal.write(terminal.json_text(answer) + "\n")
    else:
        fields = [terminal.field(terminal.label_text(label)) for label in classes]
        for row, i in zip(probabilities.tolist(), best.tolist(), strict=True):
            terminal.write(f"{fields[i]}\t{row[i]:.6f}\n")
    terminal.flush()


def _classify_table(model: Path, source: Path, output: Path, text_column: str | None) -> None:
    """Write the table in ``source`` to ``output``, with its labels and their probabilities."""
    from tidegate import data
    from tidegate.data.lines import BLOCK_LINES
    from tidegate.data.tables import READABLE
    from tidegate.estimator import TextClassifier

    if output.suffix.lower() not in READABLE:
        raise OutputError(
            f"--output {str(output)!r} is not one of {', '.join(READABLE)}; choose one of these"
        )
    files.check_distinct({"MODEL": model, "--input": source, "--output": output})
    atomic.check_writable(output)
    classifier = TextClassifier.load(model)
    table = data.read_texts(source, text_column=text_column)
    labels: list[object] = []
    probabilities: list[float] = []
    for start in range(0, len(table), BLOCK_LINES):
        rows = classifier.predict_proba(table.texts[start : start + BLOCK_LINES])
        labels += classifier.classes_[rows.argmax(axis=1)].tolist()
        probabilities += rows.max(axis=1).round(6).tolist()
    data.write_predictions(output, table, {"label": labels, "probability": probabilities})
