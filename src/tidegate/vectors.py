"""Words' vectors that were learnt elsewhere: word2vec's and fastText's text files, and GloVe's.

Each line is a word and its numbers, with a space between them; word2vec and fastText begin with a
line of two whole numbers, how many words there are and how many numbers each has. The file is read
as a stream, and only the vocabulary's words are kept.
"""

from __future__ import annotations

import math
import os
import re
import reprlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tidegate.data.compressed import Stream, open_stream
from tidegate.data.formats import Source
from tidegate.errors import ConfigError, DataError
from tidegate.model import EMBEDDING_LIMIT
from tidegate.text import FIRST_WORD_ID, Vocabulary

Float32 = npt.NDArray[np.float32]

LARGEST = 8_192  # numbers of a vector
_LONGEST_LINE = 1 << 20  # bytes; the largest vector takes a quarter of it
_PIECE = 1 << 18
_MEASURED = 10_000  # vectors whose size the others begin with
_HEADER = re.compile(rb"[0-9]{1,18} [0-9]{1,18}")


@dataclass(frozen=True)
class WordVectors:
    """What a file has for a vocabulary.

    ids: [found] int64 ascending, of the words that it has. values: [found, size] float32. wanted:
    how many words were looked for. cased: how many of those found stand there in another casing
    only. skipped: lines whose word is not UTF-8 or has spaces inside, as no token can be.
    repeated: lines of words that had come before, whose first one counts.
    """

    ids: npt.NDArray[np.int64]
    values: Float32
    wanted: int
    cased: int = 0
    skipped: int = 0
    repeated: int = 0

    @property
    def size(self) -> int:
        """Numbers in each vector."""
        return int(self.values.shape[1])

    def counts(self) -> dict[str, int]:
        """How many words were looked for and found, and which lines were passed over."""
        found = {"words": self.wanted, "found": len(self.ids), "cased": self.cased}
        return {**found, "skipped": self.skipped, "repeated": self.repeated}

    def fill(self, table: Float32, first: int = 0) -> npt.NDArray[np.bool_]:
        """Put the vectors into a new embedding, and make its other rows as large as they are.

        table: [V, size], changed in place; rows below ``first`` are left as they are, and words
        that were not found keep their random directions. Returns [V] bool, which rows have a
        vector of the file.
        """
        # An exact sum: it must not depend on the order in which a processor adds.
        some = self.values[:_MEASURED].astype(np.float64).ravel()
        mean_square = math.fsum(np.square(some).tolist()) / max(1, len(some))
        if mean_square > 0.0:
            # Numbers that are uniform up to a limit have a mean square of its third.
            table[first:] *= np.float32(math.sqrt(3.0 * mean_square) / EMBEDDING_LIMIT)
        table[self.ids] = self.values
        there = np.zeros(len(table), bool)
        there[self.ids] = True
        return there


def check_vectors(vectors: object, freeze: object, contexts: object) -> None:
    """ConfigError unless they are None or a path, and whether they stay, and words have others."""
    if vectors is not None and (not isinstance(vectors, (str, os.PathLike)) or not str(vectors)):
        raise ConfigError(f"vectors={vectors!r} is not a path; give a file of words' vectors")
    if not isinstance(freeze, bool):
        raise ConfigError(f"freeze_vectors={freeze!r} is neither True nor False")
    if not isinstance(contexts, bool):
        raise ConfigError(f"context_vectors={contexts!r} is neither True nor False")
    if contexts and vectors is not None:
        raise ConfigError(
            f"context_vectors=True and vectors={str(vectors)!r} are two beginnings; set one of them"
        )
    if freeze and vectors is None:
        raise ConfigError("freeze_vectors=True has no vectors to freeze; set vectors to a file")


def read_vectors(
    path: str | os.PathLike[str],
    vocabulary: Vocabulary,
    *,
    size: int | None = None,
    known: int = 0,
) -> WordVectors:
    """The vectors that a file has for the words of ``vocabulary``.

    path: the file, which may be compressed by gzip or zstd. size: the numbers that each vector must
    have, None for as many as the file's. known: words at the vocabulary's beginning that are not
    looked for. A word gets the vector of exactly this word, else of the first one in the file that
    is the same in lower case. Lines whose word is not UTF-8 or has spaces inside are counted and
    passed over, and of a word that comes twice the first line counts.

    Memory is that of the result. ConfigError for another size than the file's; DataError, with the
    line's number, for a line of another length, a vector with what is no finite number, a binary
    file or one that is cut off, and for a file with none of the words of a whole vocabulary.
    """
    name = os.fspath(path)
    with open_stream(Source(Path(path), "txt")) as stream:
        lines = _lines(stream, name)
        own_size, promised, begin = _beginning(lines, name, size)
        found = _Found(vocabulary, known, own_size, name)
        for number, line in chain(begin, lines):
            found.read(number, line)
    if promised is not None and found.lines < promised:
        raise DataError(
            f"{name} is cut off: line 1 tells of {promised:,} words, and there are "
            f"{found.lines:,}; copy or download it again"
        )
    return found.result()


def check_beginning(path: str | os.PathLike[str], size: int | None = None) -> None:
    """The errors of ``read_vectors`` for what the file's first line shows, without reading on."""
    name = os.fspath(path)
    with open_stream(Source(Path(path), "txt")) as stream:
        _beginning(_lines(stream, name), name, size)


def _beginning(
    lines: Iterator[tuple[int, bytes]], name: str, size: int | None
) -> tuple[int, int | None, list[tuple[int, bytes]]]:
    """What the first line tells: numbers of a vector, words if it is a header, else itself."""
    first = next(lines, None)
    if first is None:
        raise DataError(f"{name} is empty; give a file of words and their vectors")
    number, line = first
    promised = None
    begin: list[tuple[int, bytes]] = []
    if _HEADER.fullmatch(line):
        promised, own_size = map(int, line.split(b" "))
    else:
        own_size, begin = _size_of(line, name), [(number, line)]
    if not 1 <= own_size <= LARGEST:
        raise DataError(
            f"{name}, line 1: vectors of {own_size:,} numbers; give a file of words and their "
            f"vectors, of 1 to {LARGEST:,} numbers"
        )
    if size is not None and size != own_size:
        raise ConfigError(
            f"embedding_size={size} is not that of {name}, whose vectors have {own_size} "
            "numbers; leave embedding_size out, or give other vectors"
        )
    return own_size, promised, begin


class _Found:
    """What was found of a vocabulary's words so far."""

    def __init__(self, vocabulary: Vocabulary, known: int, size: int, name: str) -> None:
        self.lines = 0
        self._size, self._name = size, name
        self._whole = known == 0
        words = [word.encode("utf-8", "surrogatepass") for word in vocabulary.words[known:]]
        self._first_id = FIRST_WORD_ID + known
        self._places = {word: place for place, word in enumerate(words)}
        self._lowered: dict[bytes, list[int]] = {}
        for place, word in enumerate(words):
            self._lowered.setdefault(_lower(word) or word, []).append(place)
        self._values = np.zeros((len(words), size), np.float32)
        self._state = bytearray(len(words))  # 0: not found, 1: in another casing, 2: as it is
        self._skipped = self._repeated = 0

    def read(self, number: int, line: bytes) -> None:
        """Take a line's vector if its word is wanted."""
        self.lines += 1
        spaces = line.count(b" ")
        if spaces != self._size:
            self._odd(number, line, spaces)
            return
        end = line.find(b" ")
        word = line[:end]
        place = self._places.get(word)
        if place is not None and self._state[place] == 2:
            self._repeated += 1
            return
        lowered = _lower(word)
        if lowered is None:
            self._skipped += 1
            return
        others = [p for p in self._lowered.get(lowered, ()) if not self._state[p]]
        if place is None and not others:
            return
        vector = self._parsed(number, line[end + 1 :], word)
        for other in others:
            self._values[other], self._state[other] = vector, 1
        if place is not None:
            self._values[place], self._state[place] = vector, 2

    def _odd(self, number: int, line: bytes, spaces: int) -> None:
        """A word with spaces inside; DataError if the line has too many numbers, or too few."""
        pieces = line.split(b" ")
        inside = pieces[1 : len(pieces) - self._size]
        if not inside or all(map(_is_number, inside)):
            raise DataError(
                f"{self._name}, line {number}: {spaces:,} numbers after the word, where "
                f"{self._size:,} are due; the file is damaged or is none of words and vectors"
            )
        self._skipped += 1

    def _parsed(self, number: int, numbers: bytes, word: bytes) -> Float32:
        try:
            if b"_" in numbers:  # which Python takes for part of a number
                raise ValueError
            vector = np.array([float(piece) for piece in numbers.split(b" ")])
        except ValueError:
            raise self._bad(number, word, "that is no number") from None
        # NaN is neither above nor below; and float32 has no larger ones.
        if not np.abs(vector).max() <= np.finfo(np.float32).max:
            raise self._bad(number, word, "that is not finite in float32")
        return vector.astype(np.float32)

    def _bad(self, number: int, word: bytes, what: str) -> DataError:
        shown = reprlib.repr(word.decode("utf-8", "replace"))
        return DataError(
            f"{self._name}, line {number}: the vector of {shown} has a part {what}; remove the "
            "line, or download the file again"
        )

    def result(self) -> WordVectors:
        """All of it. DataError if none of a whole vocabulary's words was found."""
        state = np.frombuffer(self._state, np.uint8)
        places = np.flatnonzero(state)
        if self._whole and not len(places):
            raise DataError(
                f"{self._name} has none of the {len(state):,} words of the texts; give vectors of "
                "the texts' language"
            )
        return WordVectors(
            places + self._first_id,
            self._values if len(places) == len(state) else self._values[places],
            wanted=len(state),
            cased=int((state == 1).sum()),
            skipped=self._skipped,
            repeated=self._repeated,
        )


def _lower(word: bytes) -> bytes | None:
    """The word in lower case; None if it is not UTF-8."""
    if word.isascii():
        return word.lower()
    try:
        return word.decode().lower().encode()
    except UnicodeDecodeError:
        return None


def _is_number(piece: bytes) -> bool:
    try:
        float(piece)
    except ValueError:
        return False
    return True


def _size_of(line: bytes, name: str) -> int:
    """How many numbers end a file's first line, which is a word's."""
    pieces = line.split(b" ")[1:]
    size = 0
    while size < len(pieces) and _is_number(pieces[-1 - size]):
        size += 1
    if not size:
        raise DataError(
            f"{name}, line 1: no word with numbers behind it; give a file of words and their "
            "vectors: GloVe's, or word2vec's or fastText's text form"
        )
    return size


def _lines(stream: Stream, name: str) -> Iterator[tuple[int, bytes]]:
    """Lines that are not empty, with single spaces for tabs and none at the end; their numbers."""
    number, begun = 0, b""
    while piece := stream.read1(_PIECE):
        *whole, begun = (begun + piece).split(b"\n")
        for line in whole:
            number += 1
            if line := _cleaned(line, number, name):
                yield number, line
        if len(begun) > _LONGEST_LINE:
            break
    if line := _cleaned(begun, number + 1, name):
        yield number + 1, line


def _cleaned(line: bytes, number: int, name: str) -> bytes:
    if b"\0" in line:
        raise DataError(
            f"{name}, line {number}: a NUL byte, as no text has it; unpack a .zip first, and give "
            "the text form (.vec, .txt) of a binary file"
        )
    if len(line) > _LONGEST_LINE:
        raise DataError(
            f"{name}, line {number}: longer than {_LONGEST_LINE:,} bytes, as no vector is; give a "
            "file of words and their vectors"
        )
    if number == 1:
        line = line.removeprefix(b"\xef\xbb\xbf")
    return line.replace(b"\t", b" ").rstrip(b" \r")
