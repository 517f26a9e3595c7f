"""From texts and labels to what a training reads, in memory: see ``portions`` for the disk.

Both make the same of the same texts, so that the same model comes of it, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tidegate.checks import check_text_pair
from tidegate.columns import unwrapped
from tidegate.errors import ConfigError
from tidegate.labels import class_weights, float32_weights, text_weights, training_weights
from tidegate.metrics import LabeledSet, labeled
from tidegate.ngrams import MOST_TEXTS, BucketRows, bits_for, hash_texts
from tidegate.stored import Texts
from tidegate.subwords import JsonTokenizer, tokenizer_of
from tidegate.targets import encode_targets, targets_of
from tidegate.text import FIRST_WORD_ID, Tokenizer, check_texts

if TYPE_CHECKING:
    from tidegate.continuing import Start
    from tidegate.estimator import TextClassifier

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class NgramSet:
    """What the linear model beside a network learns from.

    bits: of the buckets. rows, targets, counts: texts in the order in which they are learnt from,
    and how much each counts, None for 1; the first ``training`` of them, and where ``again`` is
    true then all of them, validation texts included.
    held: makes the validation texts' rows, block by block.
    """

    bits: int
    rows: BucketRows
    targets: Int32
    counts: npt.NDArray[np.float64] | None
    training: int
    again: bool
    held: Callable[[], Iterator[BucketRows]]


@dataclass(frozen=True)
class Prepared:
    """A training's texts as numbers.

    train, held: what is learnt from, and what epochs are validated on, which may be nothing.
    texts: how many texts there are in all but separate validation texts. ngrams: None for a network
    that stands alone.
    """

    classes: npt.NDArray[Any]
    tokenizer: Tokenizer
    train: LabeledSet
    held: LabeledSet
    texts: int
    ngrams: NgramSet | None

    @property
    def many(self) -> bool:
        """Whether a text may have several labels."""
        return self.held.targets.ndim == 2


def listed_texts(texts: Iterable[str]) -> Sequence[str]:
    """A column of texts as a list. DataError for what is none."""
    texts = unwrapped(texts)
    check_texts(texts)
    return texts if isinstance(texts, list) else list(texts)


def _learnt_from(training: Int64, held: Int64) -> tuple[Int64, bool]:
    """The rows that a linear model learns from, of at most MOST_TEXTS; and whether from all twice.

    Once the factors of both models are found, it may know the validation texts, too: see
    ``NgramSet``.
    """
    if not len(held) or len(training) + len(held) > MOST_TEXTS:
        return training[:MOST_TEXTS], False
    return np.concatenate([training, held]), True


def prepare(
    options: TextClassifier,
    texts: Iterable[str],
    labels: Iterable[Any],
    *,
    sample_weight: Iterable[float] | None = None,
    validation: tuple[Iterable[str], Iterable[Any]] | None = None,
    start: Start | None = None,
) -> Prepared:
    """All of it in memory. See ``TextClassifier.fit_steps``, whose arguments these are."""
    listed = listed_texts(texts)
    classes, targets = encode_targets(labels, len(listed), None if start is None else start.known)
    tokenizer = known_tokenizer(options, start)
    kind = tokenizer.kind
    if not isinstance(tokenizer, JsonTokenizer):  # whose words are what they are
        found = Tokenizer.fit(listed, options.vocabulary_size, kind, options.keep)
        tokenizer = found if start is None else start.tokenizer(found)
    many = targets.ndim == 2
    text_weight = text_weights(sample_weight, len(listed))
    train_rows, held_rows = options.split(len(listed))
    if validation is None:
        held_texts: Sequence[str] = [listed[row] for row in held_rows.tolist()]
        held_targets = targets[held_rows]
    else:
        train_rows, held_rows = np.concatenate([train_rows, held_rows]), held_rows[:0]
        held, held_labels = check_text_pair("validation", validation)
        held_texts = listed_texts(held)
        held_targets = targets_of(classes, held_labels, len(held_texts), many=many)
    counts = counts_of(options, classes, targets, train_rows, text_weight)
    ngrams = None
    if options.ngrams:
        linear = None if start is None else start.classifier.ngrams_
        longest = options.ngrams
        bits = bits_for(listed, kind, longest, len(classes)) if linear is None else linear.bits
        rows, first, again = learnable(counts, train_rows, held_rows)
        held_hashed = hash_texts(held_texts, kind, longest, bits)
        ngrams = NgramSet(
            bits,
            hash_texts((listed[row] for row in rows.tolist()), kind, longest, bits),
            targets[rows],
            chosen_counts(counts, rows),
            first,
            again,
            lambda: iter([held_hashed]),
        )
    read = tokenizer.read(listed, options.max_length).select(train_rows)
    return Prepared(
        classes,
        tokenizer,
        training_set(read.rows, targets, counts, train_rows, read.counts),
        labeled(tokenizer.read(held_texts, options.max_length), held_targets),
        len(listed),
        ngrams,
    )


def known_tokenizer(options: TextClassifier, start: Start | None) -> Tokenizer:
    """What cuts texts as the training does, before their words are counted.

    A JsonTokenizer is the training's own.
    """
    if start is not None:
        return start.classifier.tokenizer_
    # Tokens are the same with any vocabulary.
    return tokenizer_of(options.tokenizer, ["a"], FIRST_WORD_ID + 1, options.keep)


def counts_of(
    options: TextClassifier,
    classes: npt.NDArray[Any],
    targets: Int32,
    training: Int64,
    text_weight: npt.NDArray[np.float64] | None = None,
) -> npt.NDArray[np.float64] | None:
    """[texts] how much each text counts; None where all count 1.

    training: the rows by which classes are balanced. The linear model is fitted on those of
    validation in the end, too.
    """
    if targets.ndim == 2 and options.class_weight is not None:
        raise ConfigError(
            f"class_weight={options.class_weight!r} is for one label a text, and these have "
            "several; leave it out, or give sample_weight"
        )
    of_classes = class_weights(options.class_weight, classes, targets[training])
    return training_weights(of_classes, text_weight, targets)


def learnable(
    counts: npt.NDArray[np.float64] | None, training: Int64, held: Int64
) -> tuple[Int64, int, bool]:
    """What ``NgramSet`` says of these rows: those learnt from, of how many first, and if again."""
    if counts is not None:
        training, held = (rows[counts[rows] > 0] for rows in (training, held))
    rows, again = _learnt_from(training, held)
    return rows, min(len(training), MOST_TEXTS), again


def chosen_counts(
    counts: npt.NDArray[np.float64] | None, rows: Int64
) -> npt.NDArray[np.float64] | None:
    """[rows] the counts of the given rows."""
    return None if counts is None else counts[rows]


def training_set(
    texts: Texts,
    targets: Int32,
    counts: npt.NDArray[np.float64] | None,
    rows: Int64,
    windows: Int64 | None = None,
) -> LabeledSet:
    """What a network learns from.

    texts: their rows of ids, in the order of ``rows``. targets, counts: of all texts. windows: how
    many rows each has, None for one each.
    """
    weights = None if counts is None else float32_weights(counts[rows])
    return LabeledSet(texts, targets[rows], weights, windows).by_rows()
