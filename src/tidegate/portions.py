"""From texts that come in portions to what a training reads, on disk: see ``preparing``.

They are read twice: once to count words, labels and lengths, once to write each text's ids. Of a
text some dozens of bytes stay in memory: where its ids begin, its label, its place in the shuffle.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import compress
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tidegate.batch import rows_of
from tidegate.checks import check_text_pair
from tidegate.columns import unwrapped
from tidegate.data.survey import Survey, Tally, TextsAndLabels
from tidegate.errors import ConfigError, DataError
from tidegate.metrics import LabeledSet, labeled
from tidegate.ngrams import BucketCount, BucketRows, hash_texts
from tidegate.preparing import (
    NgramSet,
    Prepared,
    chosen_counts,
    counts_of,
    known_tokenizer,
    learnable,
    listed_texts,
    training_set,
)
from tidegate.stored import BLOCK_ROWS, StoredRows, StoredTexts, Work
from tidegate.subwords import JsonTokenizer
from tidegate.targets import TargetReader, targets_of
from tidegate.text import Tokenizer, WordCounter, token_counts

if TYPE_CHECKING:
    from tidegate.continuing import Start
    from tidegate.estimator import TextClassifier

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

# Each is a column of texts and one of labels, as ``fit`` takes them; they can be read twice.
Portions = Iterable[tuple[Iterable[str], Iterable[Any]]]


@dataclass(frozen=True)
class ReadResult:
    """A portion was read. reading: 1 or 2, which time. texts: so far this time.

    total: of how many, None the first time. seconds: since it began.
    """

    reading: int
    texts: int
    total: int | None
    seconds: float


class _Reading:
    """One time of reading all portions."""

    def __init__(self, portions: Portions, number: int, total: int | None = None) -> None:
        if iter(portions) is portions:
            raise ConfigError(
                f"portions is a {type(portions).__name__}, which can be read only once; give a "
                "list, or an object whose __iter__ begins anew"
            )
        self._portions = portions
        self._number, self._total = number, total
        self._begun = time.perf_counter()
        self.texts = 0
        self.fingerprint = 0

    def __iter__(self) -> Iterator[tuple[Sequence[str], Any]]:
        for portion in self._portions:
            if not isinstance(portion, (tuple, list)) or len(portion) != 2:
                raise DataError(
                    f"portion {self.texts} is no pair; give a list of texts and one of labels"
                )
            texts = listed_texts(portion[0])
            yield texts, unwrapped(portion[1])

    def done(self, texts: Sequence[str]) -> ReadResult:
        """These texts of the latest portion were used."""
        self.texts += len(texts)
        for text in texts:
            self.fingerprint = hash((self.fingerprint, text))
        spent = time.perf_counter() - self._begun
        return ReadResult(self._number, self.texts, self._total, spent)


def prepare_portions(
    options: TextClassifier,
    portions: Portions,
    work: Work,
    *,
    validation: tuple[Iterable[str], Iterable[Any]] | None = None,
    test: tuple[Iterable[str], Iterable[Any]] | None = None,
    start: Start | None = None,
) -> Generator[ReadResult | Survey, None, Prepared]:
    """What ``preparing.prepare`` makes, with the texts' ids on disk.

    work: whose files hold the ids as long as the result is used. Yields a result for each portion
    read, and the survey after the first time. test: texts that the survey is to look for in
    training. DataError if the second time brings other texts than the first.
    """
    scan = _Scan(options, start)
    yield from scan.read(portions)
    held_texts, held_labels = _pair("validation", validation)
    held_out = {"validation": (held_texts, held_labels)} if validation is not None else {}
    if test is not None:
        held_out["test"] = _pair("test", test)
    yield scan.survey(options, held_out)
    classes, targets = scan.targets(start)
    tokenizer = scan.tokenizer(options, start)
    bits = scan.bits(len(classes), start) if options.ngrams else 0
    fingerprint = scan.fingerprint
    del scan  # it holds all words
    train_rows, held_rows = options.split(len(targets))
    held_set = None
    if validation is not None:
        train_rows, held_rows = np.concatenate([train_rows, held_rows]), held_rows[:0]
        many = targets.ndim == 2
        held_set = labeled(
            tokenizer.read(held_texts, options.max_length),
            targets_of(classes, held_labels, len(held_texts), many=many),
        )
    counts = counts_of(options, classes, targets, train_rows)
    learnt, learnt_first, again = learnable(counts, train_rows, held_rows)
    ids = StoredRows(work.file(), tokenizer.vocabulary.size - 1)
    hashed = None
    if options.ngrams:
        looked_at = np.concatenate([learnt, held_rows])
        hashed = _Hashed(work, tokenizer, options.ngrams, bits, looked_at, len(targets))
    windows = array("q") if tokenizer.keep == "windows" else None  # how many each text has
    reading = _Reading(portions, 2, len(targets))
    for texts, _ in reading:
        first = reading.texts
        read = tokenizer.read(texts, options.max_length)
        ids.append(read.rows.token_ids, read.rows.offsets)
        if windows is not None and read.counts is not None:
            windows.frombytes(read.counts.tobytes())
        if hashed is not None:
            hashed.add(texts, first)
        yield reading.done(texts)
    if reading.fingerprint != fingerprint:
        raise DataError(
            f"the texts are not the same when they are read a second time ({reading.texts:,} and "
            f"{len(targets):,}); they must stay as they are until training begins"
        )
    ngrams = None
    if hashed is not None:
        held = partial(hashed.blocks, held_rows)
        if validation is not None:
            held_hashed = hash_texts(held_texts, tokenizer.kind, options.ngrams, bits)
            held = partial(iter, [held_hashed])
        ngrams = NgramSet(
            bits,
            hashed.mapped(learnt),
            targets[learnt],
            chosen_counts(counts, learnt),
            learnt_first,
            again,
            held,
        )
    of_each = None if windows is None else np.asarray(windows, np.int64)
    if held_set is None:
        stored, held_windows = _stored(ids, held_rows, of_each)
        held_set = LabeledSet(stored, targets[held_rows], counts=held_windows)
    train, train_windows = _stored(ids, train_rows, of_each)
    return Prepared(
        classes,
        tokenizer,
        training_set(train, targets, counts, train_rows, train_windows),
        held_set,
        len(targets),
        ngrams,
    )


def _stored(
    ids: StoredRows, rows: Int64, windows: Int64 | None
) -> tuple[StoredTexts, Int64 | None]:
    """The given texts, and how many rows of ids each has. windows: the same of all texts."""
    if windows is None:
        return StoredTexts(ids, rows), None
    return StoredTexts(ids, rows_of(windows, rows)), windows[rows]


class _Scan:
    """What the first reading finds."""

    def __init__(self, options: TextClassifier, start: Start | None) -> None:
        self._known = known_tokenizer(options, start)
        kind = self._known.kind
        self._words = None if isinstance(self._known, JsonTokenizer) else WordCounter(kind)
        self._targets = TargetReader()
        self._tally = Tally()
        self._buckets = BucketCount(kind, options.ngrams) if options.ngrams else None
        self.fingerprint = 0

    def read(self, portions: Portions) -> Iterator[ReadResult]:
        reading = _Reading(portions, 1)
        for texts, labels in reading:
            if self._words is not None:
                self._words.add(texts)
            self._targets.add(labels, len(texts))
            self._tally.add(texts, _names(labels), token_counts(self._known, texts).tolist())
            if self._buckets is not None:
                self._buckets.add(texts)
            yield reading.done(texts)
        self.fingerprint = reading.fingerprint

    def survey(
        self,
        options: TextClassifier,
        separate: Mapping[str, tuple[Sequence[str], Any]],
    ) -> Survey:
        training, held_rows = options.split(len(self._targets))
        held_out: dict[str, Int64 | TextsAndLabels] = {}
        if "validation" in separate:
            training = np.concatenate([training, held_rows])
        elif len(held_rows):
            held_out["validation"] = held_rows
        for name, (texts, labels) in separate.items():
            held_out[name] = texts, _names(labels)
        if not len(training):
            raise DataError("there are no texts to train on; give at least two, of two classes")
        return self._tally.survey(
            options.max_length,
            training=training,
            held_out=held_out,
            several=self._targets.several,
        )

    def targets(self, start: Start | None) -> tuple[npt.NDArray[Any], Int32]:
        return self._targets.targets(None if start is None else start.known)

    def tokenizer(self, options: TextClassifier, start: Start | None) -> Tokenizer:
        if self._words is None:
            return self._known
        found = self._words.tokenizer(options.vocabulary_size, options.keep)
        return found if start is None else start.tokenizer(found)

    def bits(self, classes: int, start: Start | None) -> int:
        linear = None if start is None else start.classifier.ngrams_
        if linear is not None:
            return linear.bits
        assert self._buckets is not None  # noqa: S101 (only models with n-grams ask)
        return self._buckets.bits(classes)


class _Hashed:
    """The n-grams of those rows, of ``texts`` in all, that a linear model looks at, on disk."""

    def __init__(
        self, work: Work, tokenizer: Tokenizer, longest: int, bits: int, rows: Int64, texts: int
    ) -> None:
        self._work = work
        self._kind, self._longest, self._bits = tokenizer.kind, longest, bits
        self._wanted = np.zeros(texts, bool)
        self._wanted[rows] = True
        self._stored = StoredRows(work.file(), 2**bits - 1)

    def add(self, texts: Sequence[str], first: int) -> None:
        """Write the n-grams of texts, of which the first is row ``first``."""
        wanted = self._wanted[first : first + len(texts)].tolist()
        rows = hash_texts(compress(texts, wanted), self._kind, self._longest, self._bits)
        self._stored.append(rows.buckets, rows.offsets)

    def blocks(self, rows: Int64) -> Iterator[BucketRows]:
        """The given rows, some thousand at a time; one block of none if there are none."""
        numbers = (np.cumsum(self._wanted) - 1)[rows]  # among those that were written
        for start in range(0, max(1, len(rows)), BLOCK_ROWS):
            yield BucketRows(*self._stored.read(numbers[start : start + BLOCK_ROWS]))

    def mapped(self, rows: Int64) -> BucketRows:
        """The given rows as one array, which the linear model visits in any order."""
        file = self._work.file()
        offsets = np.zeros(len(rows) + 1, np.int64)
        done = 0
        for block in self.blocks(rows):
            file.write(block.buckets.tobytes())
            offsets[done + 1 : done + 1 + len(block)] = offsets[done] + block.offsets[1:]
            done += len(block)
        return BucketRows(file.mapped(np.int32), offsets)


def _pair(name: str, given: Any) -> tuple[Sequence[str], Any]:
    """Texts and labels, neither of which there may be."""
    if given is None:
        return [], []
    texts, labels = check_text_pair(name, given)
    return listed_texts(texts), unwrapped(labels)


def _names(labels: Any) -> list[tuple[str, ...]]:
    """What the survey calls each text's labels."""
    if isinstance(labels, np.ndarray) and labels.ndim == 2:
        labels = [np.flatnonzero(row).tolist() for row in labels]
    several = (list, tuple, set, frozenset)
    return [
        tuple(sorted(map(str, label))) if isinstance(label, several) else (str(label),)
        for label in labels
    ]
