"""``tidegate predict``."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tidegate import answers, atomic
from tidegate.cli import files, labels, options, terminal
from tidegate.errors import ConfigError, DataError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from tidegate.data import Source, TextStream
    from tidegate.estimator import TextClassifier


def predict(
    model: options.Model,
    texts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TEXT]...", help="Texts to classify; put -- before one that begins with -."
        ),
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(
            "--input",
            "-i",
            metavar="FILE",
            help="A .csv, .tsv, .jsonl or .parquet table with a column of texts, or a .txt file "
            "with one text a line, also as .gz or .zst; - is standard input.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Write the table of --input, with columns label and probability, as .csv, .tsv, "
            ".jsonl or .parquet, also as .gz or .zst; a file that is there is replaced.",
        ),
    ] = None,
    text_column: options.TextColumn = None,
    table_format: options.Format = None,
    encoding: options.Encoding = None,
    delimiter: options.Delimiter = None,
    label_separator: Annotated[
        str | None,
        typer.Option(
            "--label-separator",
            metavar="MARK",
            help="What to write between the labels of a text, where a model may say several; "
            "';' if nothing is said.",
        ),
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Print one JSON object a text, with the probabilities of all labels and how many "
            "of its words the model knows.",
            show_default=False,
        ),
    ] = False,
) -> None:
    """Print the label of each text and its probability.

    Texts come from the command line, from --input, or as lines from standard input. There is one
    line for each text, in order: label, tab, probability. In a file or a stream every text gets
    its line, even an empty one; on the command line, one without a known word is an error. Files of
    any size are read and written in blocks, so that memory stays the same.

    \b
    Example:
      tidegate predict model.safetensors "what a film" "what a waste"
      tidegate predict model.safetensors --input new.csv --output scored.csv
      cat lines.txt | tidegate predict model.safetensors --json
    """
    texts = texts or []
    given = {
        "--text-column": text_column,
        "--format": table_format,
        "--delimiter": delimiter,
    }
    _check_options(texts, table, output, given, encoding, as_json=as_json)
    if as_json and label_separator is not None:
        raise ConfigError("--json lists the labels of a text: leave out --label-separator")

    # Imported late: help and errors in the options must not wait for NumPy.
    from tidegate import data
    from tidegate.estimator import TextClassifier

    source = None
    if table is not None:
        source = data.source_of(table, format=table_format, encoding=encoding, delimiter=delimiter)
    if source is not None and output is not None:
        _classify_table(model, source, output, text_column, label_separator)
        return
    classifier = TextClassifier.load(model)
    mark = None if as_json else labels.joining_mark(classifier, label_separator)
    if texts:
        _check_texts(classifier, texts)
    unknown = _Unknown()
    for block in _blocks(texts, source, encoding, text_column):
        unknown.add(_print(classifier, block, mark))
    unknown.tell()


def _check_options(
    texts: Sequence[str],
    table: Path | None,
    output: Path | None,
    given: Mapping[str, str | None],
    encoding: str | None,
    *,
    as_json: bool,
) -> None:
    if texts and table is not None:
        raise ConfigError(f"both TEXT and --input {str(table)!r} are given; give one of them")
    if texts and encoding is not None:
        raise ConfigError(f"--encoding {encoding!r} is for files and standard input, not for TEXT")
    if table is None and output is not None:
        raise ConfigError(
            f"--output {str(output)!r} needs --input FILE; without it, redirect standard output"
        )
    for option, value in given.items():
        if table is None and value is not None:
            raise ConfigError(f"{option} {value!r} needs --input FILE (- for standard input)")
    if output is not None and as_json:
        raise ConfigError(
            f"--json is for standard output; to write JSON, name {str(output)!r} .jsonl instead"
        )
    read = table is None or str(table) == "-"
    if not texts and read and (sys.stdin is None or sys.stdin.isatty()):
        raise ConfigError("no text: give TEXT, or --input FILE, or lines of text on standard input")


def _check_texts(classifier: TextClassifier, texts: Sequence[str]) -> None:
    """Refuse texts of the command line that the model can say nothing about.

    Among the many texts of a file or a stream such a one gets a label like every other: it must
    not stop the rest.
    """
    read = classifier.tokenizer_.read(texts, classifier.model_.config.max_length)
    known = answers.known_words(classifier, texts, read)
    for i, text in enumerate(texts):
        if " " not in text and os.path.isfile(text):
            raise DataError(f"text {i + 1} {text!r} is a file; for its texts use --input {text}")
        shown = repr(text if len(text) <= 60 else text[:57] + "...")
        if not _is_unicode(text):
            raise DataError(f"text {i + 1} {shown} is not UTF-8; convert it first")
        if not text.strip():
            raise DataError(f"text {i + 1} is empty ({shown}); give at least one word")
        if not known[i]:
            raise DataError(
                f"text {i + 1} {shown} has no word that the model knows, so that its label would "
                "mean nothing; write it in the language and the words of the training texts"
            )


def _is_unicode(text: str) -> bool:
    """False for what Python makes of bytes on the command line that it could not decode."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _blocks(
    texts: list[str], source: Source | None, encoding: str | None, text_column: str | None
) -> Iterator[list[str]]:
    """All texts in order, in blocks that bound the memory of what is computed for them."""
    from tidegate import data
    from tidegate.data.compressed import open_stream
    from tidegate.data.lines import text_blocks

    if texts:
        yield texts
    elif source is None:
        lines = data.source_of("-", format="txt", encoding=encoding)
        with open_stream(lines) as stream:
            yield from text_blocks(stream, lines.name, encoding)
    else:
        with data.open_texts(source, text_column=text_column) as table:
            for _, block in table.blocks():
                yield block
            _tell_column(table, text_column)


def _tell_column(table: TextStream, given: str | None) -> None:
    """Which column is read, where nobody named it, nor does its own name, and there are others."""
    others = len(table.rows.columns) > 1
    if given is None and others and table.text_column.strip().lower() not in ("text", "texts"):
        terminal.note(
            f"the texts are in column {table.text_column!r}, {table.how}; --text-column names "
            "another"
        )


class _Unknown:
    """Counts texts without a word that the model knows, whose labels mean nothing."""

    def __init__(self) -> None:
        self._texts = self._unknown = 0

    def add(self, words: Sequence[int] | npt.NDArray[np.int64]) -> None:
        """Of some more texts, how many words of each the model knows."""
        self._texts += len(words)
        self._unknown += sum(1 for known in words if not known)

    def tell(self) -> None:
        """A note, if there are any."""
        if self._unknown:
            terminal.note(
                f"{self._unknown:,} of {self._texts:,} texts have no word that the model knows: "
                "their labels mean nothing"
            )


def _print(classifier: TextClassifier, texts: list[str], mark: str | None) -> list[int]:
    """One line for each text, flushed together. mark: between several labels; None for JSON.

    Returns how many words of each text the model knows.
    """
    found = answers.predictions(classifier, texts)
    if mark is None:
        for text, answer in zip(texts, found, strict=True):
            terminal.write(terminal.json_text({"text": text, **answer}) + "\n")
    else:
        for answer in found:
            said = answer["labels"] if "labels" in answer else answer["label"]
            terminal.write(f"{labels.field(said, mark)}\t{answer['probability']:.6f}\n")
    terminal.flush()
    return [answer["words"] for answer in found]


def _classify_table(
    model: Path, source: Source, output: Path, text_column: str | None, separator: str | None
) -> None:
    """Write the table in ``source`` to ``output``, with its labels and their probabilities."""
    from tidegate import data
    from tidegate.estimator import TextClassifier

    target = data.target_of(output)
    files.check_distinct({"MODEL": model, "--input": source.path, "--output": output})
    data.check_target(target)
    atomic.check_writable(output)
    classifier = TextClassifier.load(model)
    mark = labels.joining_mark(classifier, separator)

    unknown = _Unknown()

    def scored(texts: list[str]) -> npt.NDArray[np.float64]:
        probabilities, read = classifier._read_proba(texts)
        unknown.add(answers.known_words(classifier, texts, read))
        return probabilities

    def answer(texts: list[str]) -> tuple[list[object], list[float]]:
        said, right = answers.decided(classifier, scored(texts))
        cells = [labels.joined(each, mark) if isinstance(each, tuple) else each for each in said]
        return cells, [round(sure, 6) for sure in right]

    with data.open_texts(source, text_column=text_column, all_keys=True) as texts:
        data.write_predictions(target, texts, ("label", "probability"), answer)
        _tell_column(texts, text_column)
    unknown.tell()
