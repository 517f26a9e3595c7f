"""From texts to token ids: the vocabulary and the tokeniser.

``tokens`` states the rules. The compiled module finds the same words, looks them up and counts
them, in many texts at once on all of ``ops.threads()``.
"""

from __future__ import annotations

import reprlib
import sys
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from typing import Any

import numpy as np

from tidegate import _kernels
from tidegate.batch import Reading, TokenizedTexts
from tidegate.errors import ConfigError, DataError, unknown_choice
from tidegate.tokens import TOKENIZERS, TokenizerKind, place_tokens, prepare, tokens

PADDING_ID = 0
START_ID = 1
UNKNOWN_ID = 2
FIRST_WORD_ID = 4  # id 3 is unused, as in Keras's own IMDB data

KEEPS = ("end", "start", "both", "windows")

START_MARK = "<start>"  # how START_ID is shown; no lecture token can contain < or >

# Texts go to the compiled module in blocks: enough work for many threads, little memory.
_BLOCK_CHARACTERS = 1 << 21


@dataclass(frozen=True)
class Vocabulary:
    """The words that have an id of their own, the most frequent first.

    words: word i has id FIRST_WORD_ID + i. Each is non-empty, distinct and free of newlines,
    else DataError. No word at all is allowed: then every word is unknown.
    """

    words: tuple[str, ...]

    def __post_init__(self) -> None:
        counts = Counter(self.words)
        if len(counts) < len(self.words):
            twice = next(word for word, count in counts.items() if count > 1)
            raise DataError(
                f"the vocabulary has {reprlib.repr(twice)} more than once; "
                "each word must stand once"
            )
        bad = next((word for word in self.words if not word or "\n" in word), None)
        if bad is not None:
            raise DataError(
                f"the vocabulary has {reprlib.repr(bad)} as a word; "
                "a word must have at least one character and no newline"
            )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.words,)  # a copy builds its own table

    @cached_property
    def _ids(self) -> _kernels.WordIds:
        return self.table("lecture")

    def table(self, kind: TokenizerKind) -> _kernels.WordIds:
        """A new hash table of the words, which finds them in texts by the given rules."""
        return _kernels.WordIds(
            TOKENIZERS.index(kind),
            self.to_bytes(),
            start=START_ID,
            unknown=UNKNOWN_ID,
            first=FIRST_WORD_ID,
        )

    @property
    def size(self) -> int:
        """One more than the largest id: the rows that an embedding needs."""
        return FIRST_WORD_ID + len(self.words)

    def id_of(self, word: str) -> int:
        """The id of ``word``, or UNKNOWN_ID."""
        return self._ids.id_of(word)

    def to_bytes(self) -> bytes:
        """The words in UTF-8, newlines between them. Lone surrogates pass unchanged."""
        return "\n".join(self.words).encode("utf-8", "surrogatepass")

    @classmethod
    def from_bytes(cls, data: bytes) -> Vocabulary:
        """Read what ``to_bytes`` wrote. Anything else raises DataError."""
        try:
            text = data.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            raise DataError(
                f"the vocabulary is not UTF-8 at byte {error.start}; it was damaged or is no "
                "vocabulary, use the file that was saved"
            ) from error
        return cls(tuple(text.split("\n")) if text else ())

    @classmethod
    def build(cls, tokens: Iterable[Iterable[str]], size: int) -> Vocabulary:
        """Count words and keep the most frequent ones; ties go to the word seen first.

        tokens: the words of each text; read once, one text at a time.
        size: the largest number of ids, the four special ones among them.

        Raises ConfigError if ``size`` leaves no room for a word, DataError if there is none.
        """
        room = _room_for_words(size)
        counts: Counter[str] = Counter()
        for words in tokens:
            counts.update(words)
        # A stable sort, and a Counter keeps the order of first appearance.
        by_frequency = sorted(counts.items(), key=itemgetter(1), reverse=True)
        return cls._of_texts(word for word, _ in by_frequency[:room])

    @classmethod
    def _of_texts(cls, words: Iterable[str]) -> Vocabulary:
        vocabulary = cls(tuple(words))
        if not vocabulary.words:
            raise DataError("the texts have no words; give at least one text with a word in it")
        return vocabulary


@dataclass(frozen=True)
class Tokenizer:
    """Turns texts into ids: START_ID, then one id for each word.

    kind: the rules, of TOKENIZERS (see ``tokens``). vocabulary: the words that have an id. keep:
    what is read of a text that is too long, of KEEPS: its "end", its "start", "both": of the
    length a quarter from the start and the rest from the end; or all of it in "windows", of which
    ``read`` tells. ConfigError for another one. start, unknown: whether START_ID, and words without
    an id, are there; models that were trained elsewhere may know neither.
    """

    kind: TokenizerKind
    vocabulary: Vocabulary
    keep: str = "end"
    start: bool = True
    unknown: bool = True

    def __post_init__(self) -> None:
        check_tokenizer(self.kind)
        check_keep(self.keep)

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy builds its own table.
        return type(self), (self.kind, self.vocabulary, self.keep, self.start, self.unknown)

    @cached_property
    def _ids(self) -> _kernels.WordIds:
        """The words' hash table, built when it is first needed."""
        return self.vocabulary.table(self.kind)

    @property
    def name(self) -> str:
        """As model files tell it."""
        return self.kind

    def stored(self) -> tuple[str, bytes]:
        """The name and the content of the tensor that a model file holds of it."""
        return "vocabulary", self.vocabulary.to_bytes()

    def tokens(self, text: str) -> list[str]:
        """The tokens of the whole text, whether they have an id or not."""
        return tokens(self.kind, text)

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Where each of them stands in the text: begin and end, in characters."""
        return place_tokens(self.kind, text)

    def without_each(self, text: str) -> Iterator[str]:
        """The text without each of its tokens."""
        words = self.tokens(text)
        return (" ".join(words[:i] + words[i + 1 :]) for i in range(len(words)))

    def grown(self, text: str, reach: int | None) -> Iterator[str]:
        """The text up to each of its tokens; at most ``reach`` of them where that is not None."""
        words = self.tokens(text)
        starts = (max(0, i + 1 - reach) if reach is not None else 0 for i in range(len(words)))
        return (" ".join(words[start : i + 1]) for i, start in enumerate(starts))

    @classmethod
    def fit(
        cls,
        texts: Iterable[str],
        vocabulary_size: int,
        kind: TokenizerKind = "lecture",
        keep: str = "end",
    ) -> Tokenizer:
        """A tokeniser with the vocabulary of ``texts``, which are read once.

        Raises ConfigError and DataError as ``Vocabulary.build`` does, and DataError for a text
        that is not a str.
        """
        check_keep(keep)
        counter = WordCounter(kind)
        _room_for_words(vocabulary_size)
        counter.add(texts)
        return counter.tokenizer(vocabulary_size, keep)

    def encode(self, text: str) -> np.ndarray:
        """[1 + words] int32: the ids of the whole text. DataError if it is not a str."""
        (text,) = checked_texts([text])
        ids, lengths = self._ids.encode([prepare(self.kind, text)], sys.maxsize)
        return self._known(ids, lengths)[0]

    def encode_all(self, texts: Iterable[str], max_length: int) -> TokenizedTexts:
        """At most ``max_length`` ids of each text, one row a text; ``texts`` are read once.

        START_ID is put in front before the cut, so that where the end is kept a long text loses
        it, as in Keras. Of windows it is the last one.
        Raises DataError for a text that is not a str and ConfigError for max_length below 1.
        """
        _check_max_length(max_length)
        cut_early = self.keep == "end" and self.unknown
        most = min(max_length, sys.maxsize) if cut_early else sys.maxsize
        ids = array("i")  # grows in place: to join the blocks' arrays would double the memory
        lengths = array("q")
        for block_ids, block_lengths in self._encoded_blocks(texts, most):
            if not cut_early:
                block_ids, block_lengths = self._cut(block_ids, block_lengths, max_length)
            ids.frombytes(block_ids.data.cast("B"))
            lengths.frombytes(block_lengths.data.cast("B"))
        offsets = np.zeros(len(lengths) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        return TokenizedTexts(np.asarray(ids, np.int32), offsets)

    def _encoded_blocks(
        self, texts: Iterable[str], most: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The last ids of the texts and how many each has, some texts at a time."""
        for block in _blocks(self.kind, texts):
            yield self._known(*self._ids.encode(block, most))

    def read(self, texts: Iterable[str], max_length: int) -> Reading:
        """What the network reads of each text, which are read once.

        One row of at most ``max_length`` ids, as ``encode_all`` gives; where ``keep`` is "windows",
        a text that is longer has as many rows of ``max_length`` ids as are needed for neighbours to
        share a quarter of them at least, the first at its start, the last at its end, at equal
        steps. Raises as ``encode_all`` does.
        """
        if self.keep != "windows":
            return Reading(self.encode_all(texts, max_length))
        return self._windows(self.encode_all(texts, sys.maxsize), max_length)

    def read_words(self, ids: np.ndarray, lengths: np.ndarray, max_length: int) -> Reading:
        """What ``read`` gives for texts whose tokens have these ids.

        ids: [total] int32, text after text, UNKNOWN_ID for a token without one. lengths: [texts]
        int64, the tokens of each text.
        """
        starts = np.cumsum(lengths) - lengths
        rows, lengths = self._known(np.insert(ids, starts, START_ID), lengths + 1)
        if self.keep != "windows":
            rows, lengths = self._cut(rows, lengths, max_length)
        offsets = np.zeros(len(lengths) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        whole = TokenizedTexts(rows, offsets)
        return Reading(whole) if self.keep != "windows" else self._windows(whole, max_length)

    def _windows(self, whole: TokenizedTexts, max_length: int) -> Reading:
        _check_max_length(max_length)
        starts, counts = window_starts(whole.lengths, max_length)
        begins = np.repeat(whole.offsets[:-1], counts) + starts
        lengths = np.repeat(np.minimum(whole.lengths, max_length), counts)
        offsets = np.zeros(len(lengths) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        places = np.repeat(begins - offsets[:-1], lengths) + np.arange(offsets[-1])
        return Reading(TokenizedTexts(whole.token_ids[places], offsets), counts)

    def _known(self, ids: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows of ids without those that this tokeniser leaves out, and their new lengths."""
        if self.start and self.unknown:
            return ids, lengths
        stays = np.ones(len(ids), bool)
        for there, special in ((self.start, START_ID), (self.unknown, UNKNOWN_ID)):
            stays &= there | (ids != special)
        before = np.concatenate([[0], np.cumsum(stays)])
        ends = np.cumsum(lengths)
        return ids[stays], (before[ends] - before[ends - lengths]).astype(lengths.dtype)

    def _cut(
        self, ids: np.ndarray, lengths: np.ndarray, max_length: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """What is kept of rows of ids, and how many of each."""
        kept = np.minimum(lengths, max_length)
        head = _head(self.keep, max_length)
        ends = np.repeat(np.cumsum(lengths), lengths)
        places = np.arange(len(ids)) - ends  # from the end, negative
        from_start = places + np.repeat(lengths, lengths) < head
        from_end = places >= -np.repeat(np.maximum(kept - head, 0), lengths)
        return ids[from_start | from_end], kept

    def token_strings(self, text: str, max_length: int) -> list[str]:
        """The token behind each id of ``encode_all([text], max_length)``, START_MARK for START_ID.

        A word outside the vocabulary is given as it stands in the text, in lower case.
        """
        _check_max_length(max_length)
        (text,) = checked_texts([text])
        found = self.tokens(text)
        places = self.places_read(found, max_length)
        return [START_MARK if place < 0 else found[place] for place in places]

    def places_read(self, words: Sequence[str], max_length: int) -> list[int]:
        """Which of a text's tokens stands behind each id of ``encode_all``; -1 for START_ID."""
        places = self._places(words)
        if len(places) <= max_length:
            return places
        head = _head(self.keep, max_length)
        return places[:head] + places[len(places) - (max_length - head) :]

    def places_of_rows(self, words: Sequence[str], max_length: int) -> list[list[int]]:
        """The same of each row that ``read`` gives for the text."""
        if self.keep != "windows":
            return [self.places_read(words, max_length)]
        places = self._places(words)
        starts, _ = window_starts(np.array([len(places)]), max_length)
        return [places[start : start + max_length] for start in starts.tolist()]

    def _places(self, words: Sequence[str]) -> list[int]:
        places = [-1] if self.start else []
        id_of = self.vocabulary.id_of
        return places + [i for i, w in enumerate(words) if self.unknown or id_of(w) != UNKNOWN_ID]


class WordCounter:
    """Counts the words of texts that come in portions. Each distinct word is kept once.

    kind: the rules of words. ConfigError for another than TOKENIZERS.
    """

    def __init__(self, kind: TokenizerKind) -> None:
        self._kind = check_tokenizer(kind)
        self._counts = _kernels.WordCounts(TOKENIZERS.index(kind))

    def add(self, texts: Iterable[str]) -> None:
        """Count the words of texts, which are read once. DataError for one that is not a str."""
        for block in _blocks(self._kind, texts):
            self._counts.add(block)

    def tokenizer(self, vocabulary_size: int, keep: str = "end") -> Tokenizer:
        """See ``Tokenizer.fit``, of all texts so far."""
        words = self._counts.most_frequent(_room_for_words(vocabulary_size))
        return Tokenizer(self._kind, Vocabulary._of_texts(words), keep)


def token_counts(tokenizer: Tokenizer, texts: Iterable[str]) -> np.ndarray:
    """[texts] int64: the tokens of each text, without the mark of the beginning."""
    blocks = tokenizer._encoded_blocks(texts, sys.maxsize)
    counts = [np.zeros(0, np.int64), *(lengths for _, lengths in blocks)]
    return np.concatenate(counts).astype(np.int64) - int(tokenizer.start)


def check_tokenizer(given: object) -> TokenizerKind:
    """The tokeniser of this name. ConfigError unless it is one of TOKENIZERS."""
    for kind in TOKENIZERS:
        if isinstance(given, str) and given == kind:
            return kind
    raise unknown_choice("tokenizer", given, TOKENIZERS)


def check_keep(given: object) -> None:
    """ConfigError unless it is one of KEEPS."""
    if not isinstance(given, str) or given not in KEEPS:
        raise unknown_choice("keep", given, KEEPS)


def _head(keep: str, max_length: int) -> int:
    """How many tokens of a long text's start are kept."""
    return {"start": max_length, "both": max_length // 4}.get(keep, 0)


def window_starts(lengths: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Where each window begins in its text, [windows], and how many each text has, [texts].

    lengths: [texts] int64, tokens. size: of a window. See ``Tokenizer.read``.
    """
    over = np.maximum(lengths - size, 0)
    step = max(1, size - size // 4)
    counts = 1 - -over // step
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return within * np.repeat(over, counts) // np.maximum(np.repeat(counts, counts) - 1, 1), counts


def check_texts(texts: object) -> None:
    """DataError unless it is one column, whose items may be texts."""
    check_column("texts", texts, "give a list of str, even for a single text")


def check_column(name: str, values: object, mend: str) -> None:
    """DataError for what doesn't iterate over values, or does in an order of no meaning."""
    shape = getattr(values, "shape", None)
    if isinstance(values, Mapping) or (isinstance(shape, tuple) and len(shape) != 1):
        size = "" if shape is None else f" of shape {list(shape)}"
        raise DataError(f"{name} is a {type(values).__name__}{size}; give one column of it")
    if isinstance(values, (str, bytes, bytearray)) or not isinstance(values, Iterable):
        raise DataError(f"{name} is a {type(values).__name__} ({reprlib.repr(values)}); {mend}")
    if isinstance(values, (set, frozenset)):
        raise DataError(
            f"{name} is a {type(values).__name__}, whose order is another in every process; give "
            "a list"
        )


def _check_max_length(max_length: int) -> None:
    if max_length < 1:
        raise ConfigError(f"max_length={max_length!r} keeps no token; choose at least 1")


def _room_for_words(vocabulary_size: int) -> int:
    if vocabulary_size <= FIRST_WORD_ID:
        raise ConfigError(
            f"vocabulary_size={vocabulary_size!r} leaves no room for words: ids 0 to "
            f"{FIRST_WORD_ID - 1} are special; choose at least {FIRST_WORD_ID + 1}"
        )
    return min(vocabulary_size - FIRST_WORD_ID, sys.maxsize)


def _blocks(kind: TokenizerKind, texts: Iterable[str]) -> Iterator[list[str]]:
    """The checked and prepared texts in blocks of some size, so that memory stays flat."""
    block: list[str] = []
    size = 0
    for text in checked_texts(texts):
        block.append(prepare(kind, text))
        size += len(text) + 64  # an empty text takes memory, too
        if size >= _BLOCK_CHARACTERS:
            yield block
            block, size = [], 0
    if block:
        yield block


def checked_texts(texts: Iterable[str]) -> Iterator[str]:
    """The texts one by one; a DataError names the first that is not a str."""
    check_texts(texts)
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            mend = "decode it first" if isinstance(text, bytes) else "drop it or fill it in"
            raise DataError(
                f"text {index} is a {type(text).__name__} ({reprlib.repr(text)}), not a str; {mend}"
            )
        yield text
