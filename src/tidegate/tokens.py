r"""What a token is: the rules of each tokeniser, in plain Python.

``lecture_tokens``: the lecture's job is a Keras one, so its tokens follow Keras's rules to the
letter. They have corners that look like mistakes and are kept on purpose: an apostrophe is part of
a word, the ``br`` of ``<br />`` is a word, and only the space, the tab and the newline separate
words; a no-break space or a carriage return is a character like any other.

``word_tokens`` is for people's own texts: punctuation and symbols are tokens, line breaks are, and
scripts that write no spaces are read character by character.

The compiled module finds the same tokens, in many texts at once; only what isn't ASCII is prepared
here before (``prepare``), because Python alone knows all of Unicode.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Literal, get_args

TokenizerKind = Literal["lecture", "words"]
TOKENIZERS: tuple[TokenizerKind, ...] = get_args(TokenizerKind)  # in the order of cpp/text.h

BREAK = "<br>"  # the token of one or more line breaks

_SEPARATORS = '!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n'

_BREAKS = r"<br[ \t]*/?>|[\n\r]"
_WORD = r"[^\x00-/:-@\[-`{-\x7f]+"  # letters and digits of ASCII, and all that isn't ASCII
_PIECE = re.compile(rf"{_BREAKS}|{_WORD}(?:'{_WORD})*|[^\x00- \x7f]")
_IS_BREAK = re.compile(_BREAKS)

# Scripts whose words have no space between them, as ranges of characters: Thai and Lao, Myanmar,
# Khmer, Japanese kana, and Chinese characters wherever they are used.
_UNSPACED = (
    (0x0E00, 0x0EFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x3040, 0x30FF),
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x323AF),
)


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


def word_tokens(text: str) -> list[str]:
    """The tokens of ``text`` for people's own texts, in lower case.

    A run of letters, digits and their marks is one, with apostrophes inside it; every punctuation
    mark, symbol and emoji is one, and every character of a script that writes no spaces. Line
    breaks (newlines, ``<br>`` and ``<br />``) between two tokens are one ``<br>`` together. Other
    space and control characters only separate.
    """
    tokens: list[str] = []
    broken = False
    for piece in _PIECE.findall(prepare("words", text).lower()):
        if _IS_BREAK.fullmatch(piece):
            broken = True
            continue
        if broken and tokens:
            tokens.append(BREAK)
        tokens.append(piece)
        broken = False
    return tokens


class _Spaced(dict[int, str]):
    """What becomes of each character that isn't ASCII, found when it is first met."""

    def __missing__(self, code: int) -> str:
        self[code] = found = spaced(code)
        return found


def spaced(code: int) -> str:
    """What becomes of a character, by its code point, before ``word_tokens`` looks at ASCII."""
    character = chr(code)
    if code < 128:
        return character
    category = unicodedata.category(character)
    if character == "\N{RIGHT SINGLE QUOTATION MARK}":
        return "'"  # which is how most texts write an apostrophe
    if category == "Cf" or 0xFE00 <= code <= 0xFE0F:
        return ""  # joiners, direction marks, soft hyphens, variants of an emoji
    if category[0] == "Z" or category == "Cc":
        return " "
    if category[0] in "PS" or any(first <= code <= last for first, last in _UNSPACED):
        return f" {character} "
    return character


_SPACED = _Spaced()


def prepare(kind: TokenizerKind, text: str) -> str:
    """The text as the compiled module reads it, which treats ASCII itself."""
    if text.isascii():
        return text
    text = text.lower()
    return text.translate(_SPACED) if kind == "words" else text


def tokens(kind: TokenizerKind, text: str) -> list[str]:
    """The tokens of ``text`` by the rules of the given tokeniser."""
    return lecture_tokens(text) if kind == "lecture" else word_tokens(text)


def place_tokens(kind: TokenizerKind, text: str) -> list[tuple[int, int]]:
    """Where each of the text's tokens stands in it: begin and end, in characters.

    A line break's place is its first character.
    """
    prepared, sources = _prepared_with_sources(kind, text)
    if kind == "lecture":
        pattern = re.compile(f"[^ {re.escape(_SEPARATORS)}]+")
        return [_place(found.span(), sources) for found in pattern.finditer(prepared)]
    places: list[tuple[int, int]] = []
    broken: tuple[int, int] | None = None
    for found in _PIECE.finditer(prepared):
        begin, end = found.span()
        if _IS_BREAK.fullmatch(found[0]):
            broken = broken or _place((begin, begin + 1), sources)
            continue
        if broken and places:
            places.append(broken)
        places.append(_place((begin, end), sources))
        broken = None
    return places


def _place(span: tuple[int, int], sources: list[int]) -> tuple[int, int]:
    return sources[span[0]], sources[span[1] - 1] + 1


def _prepared_with_sources(kind: TokenizerKind, text: str) -> tuple[str, list[int]]:
    """What the rules are applied to, and for each of its characters the one it comes from."""
    lowered = text.lower()
    if len(lowered) == len(text):
        places = list(range(len(text)))
    else:  # some letters have two as their lower case
        places = [i for i, character in enumerate(text) for _ in character.lower()]
        if len(places) != len(lowered):  # or another one by what stands beside them
            lowered = "".join(character.lower() for character in text)
    if kind == "lecture" or text.isascii():
        return lowered, places
    pieces = [_SPACED[ord(character)] for character in lowered]
    return "".join(pieces), [at for at, piece in zip(places, pieces, strict=True) for _ in piece]
