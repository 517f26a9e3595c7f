r"""From texts to token ids: the lecture's tokens, the vocabulary and the tokeniser.

The lecture's job is a Keras one, so its tokens follow Keras's rules to the letter. They have
corners that look like mistakes and are kept on purpose: an apostrophe is part of a word, the
``br`` of ``<br />`` is a word, and only the space, the tab and the newline separate words; a
no-break space or a carriage return is a character like any other.
"""

from __future__ import annotations

import reprlib
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import repeat
from operator import itemgetter
from typing import Literal, get_args

import numpy as np

from tidegate.batch import TokenizedTexts
from tidegate.errors import ConfigError, DataError, unknown_choice

PADDING_ID = 0
START_ID = 1
UNKNOWN_ID = 2
FIRST_WORD_ID = 4  # id 3 is unused, as in Keras's own IMDB data

START_MARK = "<start>"  # how START_ID is shown; no lecture token can contain < or >

TokenizerKind = Literal["lecture"]

_SEPARATORS = '!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n'


def lecture_tokens(text: str) -> list[str]:
    """The words of ``text`` by the rules of Keras's ``text_to_word_sequence``.

    Lower-case; each of ``!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~``, tab and newline becomes a
    space; split on spaces; empty pieces are dropped.
    """
    text = text.lower()
    # One pass for each separator, because str.replace scans at memory speed: together they
    # take half the time of one str.translate, and a fifth of it on text that isn't ASCII.
    for separator in _SEPARATORS:
        text = text.replace(separator, " ")
    return list(filter(None, text.split(" ")))


@dataclass(frozen=True)
class Vocabulary:
    """The words that have an id of their own, the most frequent first.

    words: word i has id FIRST_WORD_ID + i. Each is non-empty, distinct and free of newlines,
    else DataError. No word at all is allowed: then every word is unknown.
    """

    words: tuple[str, ...]
    _ids: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        ids = {word: id_ for id_, word in enumerate(self.words, FIRST_WORD_ID)}
        if len(ids) < len(self.words):
            twice = next(word for i, word in enumerate(self.words, FIRST_WORD_ID) if ids[word] != i)
            raise DataError(
                f"the vocabulary has {reprlib.repr(twice)} more than once; "
                "each word must stand once"
            )
        bad = next((word for word in ids if not word or "\n" in word), None)
        if bad is not None:
            raise DataError(
                f"the vocabulary has {reprlib.repr(bad)} as a word; "
                "a word must have at least one character and no newline"
            )
        object.__setattr__(self, "_ids", ids)

    @property
    def size(self) -> int:
        """One more than the largest id: the rows that an embedding needs."""
        return FIRST_WORD_ID + len(self.words)

    def id_of(self, word: str) -> int:
        """The id of ``word``, or UNKNOWN_ID."""
        return self._ids.get(word, UNKNOWN_ID)

    def ids_of(self, words: Iterable[str]) -> Iterator[int]:
        """The id of each word, UNKNOWN_ID for the unknown ones."""
        # map over the dict's own method, so that no Python code runs for each word
        return map(self._ids.get, words, repeat(UNKNOWN_ID))

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
        if size <= FIRST_WORD_ID:
            raise ConfigError(
                f"vocabulary_size={size!r} leaves no room for words: ids 0 to "
                f"{FIRST_WORD_ID - 1} are special; choose at least {FIRST_WORD_ID + 1}"
            )
        counts: Counter[str] = Counter()
        for words in tokens:
            counts.update(words)
        if not counts:
            raise DataError("the texts have no words; give at least one text with a word in it")
        # A stable sort, and a Counter keeps the order of first appearance.
        by_frequency = sorted(counts.items(), key=itemgetter(1), reverse=True)
        return cls(tuple(word for word, _ in by_frequency[: size - FIRST_WORD_ID]))


@dataclass(frozen=True)
class Tokenizer:
    """Turns texts into ids: START_ID, then one id for each word.

    kind: the rules; "lecture" is ``lecture_tokens``. Another one raises ConfigError.
    vocabulary: the words that have an id.
    """

    kind: TokenizerKind
    vocabulary: Vocabulary

    def __post_init__(self) -> None:
        kinds = get_args(TokenizerKind)
        if self.kind not in kinds:
            raise unknown_choice("tokenizer", self.kind, kinds)

    @classmethod
    def fit(cls, texts: Iterable[str], vocabulary_size: int) -> Tokenizer:
        """A lecture tokeniser with the vocabulary of ``texts``, which are read once.

        Raises ConfigError and DataError as ``Vocabulary.build`` does, and DataError for a text
        that is not a str.
        """
        words = map(lecture_tokens, _checked(texts))
        return cls("lecture", Vocabulary.build(words, vocabulary_size))

    def encode(self, text: str) -> np.ndarray:
        """[1 + words] int32: the ids of the whole text. DataError if it is not a str."""
        (text,) = _checked([text])
        words = lecture_tokens(text)
        return np.array([START_ID, *self.vocabulary.ids_of(words)], np.int32)

    def encode_all(self, texts: Iterable[str], max_length: int) -> TokenizedTexts:
        """The last ``max_length`` ids of each text, one row a text; ``texts`` are read once.

        START_ID is put in front before the cut, so that a long text loses it, as in Keras.
        Raises DataError for a text that is not a str and ConfigError for max_length below 1.
        """
        _check_max_length(max_length)
        ids = array("i")  # grows in place: an array for each row would double the memory
        offsets = array("q", [0])
        for text in _checked(texts):
            words = lecture_tokens(text)
            if len(words) < max_length:
                ids.append(START_ID)
            ids.extend(self.vocabulary.ids_of(words[-max_length:]))
            offsets.append(len(ids))
        return TokenizedTexts(np.asarray(ids, np.int32), np.asarray(offsets, np.int64))

    def token_strings(self, text: str, max_length: int) -> list[str]:
        """The token behind each id of ``encode_all([text], max_length)``, START_MARK first.

        A word outside the vocabulary is given as it stands in the text, in lower case.
        """
        _check_max_length(max_length)
        (text,) = _checked([text])
        return [START_MARK, *lecture_tokens(text)][-max_length:]


def _check_max_length(max_length: int) -> None:
    if max_length < 1:
        raise ConfigError(f"max_length={max_length!r} keeps no token; choose at least 1")


def _checked(texts: Iterable[str]) -> Iterator[str]:
    """The texts one by one; a DataError names the first that is not a str."""
    if isinstance(texts, (str, bytes)) or not isinstance(texts, Iterable):
        raise DataError(
            f"texts is a {type(texts).__name__} ({reprlib.repr(texts)}); "
            "give a list of str, even for a single text"
        )
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            mend = "decode it first" if isinstance(text, bytes) else "drop it or fill it in"
            raise DataError(
                f"text {index} is a {type(text).__name__} ({reprlib.repr(text)}), not a str; {mend}"
            )
        yield text
