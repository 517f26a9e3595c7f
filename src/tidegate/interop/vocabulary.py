"""The words of an imported model, as the people who trained it kept them.

Frameworks keep no tokeniser beside their weights, so that the words come in a file of their own:

    a list      one word a line, or a JSON list: a word's place is its id, from 0 on, as
                TextVectorization.get_vocabulary() and most PyTorch programs have it
    a dict      JSON, word and id: Keras's Tokenizer.word_index, imdb.get_word_index()
    tidegate's  JSON, as ``tidegate export`` writes it: words, special ids, labels, tokens
"""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tidegate.errors import ConfigError, DataError
from tidegate.interop.hostile import MAX_JSON_BYTES
from tidegate.model import TARGETS
from tidegate.model_file import TrainedModel
from tidegate.storage import read_bytes
from tidegate.subwords import JsonTokenizer
from tidegate.text import FIRST_WORD_ID, PADDING_ID, START_ID, UNKNOWN_ID

# Names that people and frameworks give to ids that are no words.
_PADDING_NAMES = ("", "<pad>", "[pad]", "<padding>")
_UNKNOWN_NAMES = ("[unk]", "<unk>", "<oov>", "[oov]", "<unknown>", "unk")
_START_NAMES = ("<start>", "[start]", "<s>", "<sos>", "<bos>", "[cls]")

# A first word like [OOV], which is a line and no JSON; [1] may be either.
_MARKER_LINE = re.compile(r"\s*\[[^\W\d]\w*\][ \t\r]*(\n|$)")

FORMAT = "tidegate vocabulary"
_MOST_WORDS = 20_000_000


@dataclass(frozen=True)
class Words:
    """Words and their ids in another framework. An id is None where there is no such token.

    tokenizer, labels, targets, max_length, keep, masked, pooling: None where the file doesn't tell.
    thresholds: from which probability on the second label is predicted, or each of several; None
    where none was tuned.
    """

    ids: Mapping[str, int]
    padding: int | None = None
    unknown: int | None = None
    start: int | None = None
    tokenizer: str | None = None
    labels: Sequence[Any] | None = None
    targets: str | None = None
    max_length: int | None = None
    keep: str | None = None
    masked: bool | None = None
    thresholds: Sequence[float] | None = None
    pooling: str | None = None


def read_words(path: Path) -> Words:
    """The words in a file. DataError for a file that has none."""
    data = read_bytes(path)
    if len(data) > 16 * MAX_JSON_BYTES:
        raise DataError(f"{str(path)!r} has {len(data)} bytes; give a file of words alone")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{str(path)!r} is not UTF-8 at byte {error.start}; give one word a line, or JSON"
        ) from error
    if not text.strip():
        raise DataError(f"{str(path)!r} has no words; give one word a line, or JSON")
    if text.lstrip()[:1] in "{[" and not _MARKER_LINE.match(text):
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{str(path)!r} is no JSON ({' '.join(str(error).split())[:100]}); give a list of "
                "words, or a dict of word and id"
            ) from error
    else:
        value = text.replace("\r\n", "\n").removesuffix("\n").split("\n")
    if isinstance(value, dict) and value.get("format") == FORMAT:
        return _own(path, value)
    if isinstance(value, list):
        value = _numbered(path, value)
    return _with_specials(_checked(path, value))


def _numbered(path: Path, listed: list[Any]) -> dict[Any, int]:
    numbered: dict[Any, int] = {}
    for number, word in enumerate(listed):
        if not isinstance(word, str):
            raise DataError(f"{str(path)!r} has {reprlib.repr(word)} in the place of a word")
        if word in numbered:
            raise DataError(
                f"{str(path)!r} has {reprlib.repr(word)} twice, at {numbered[word]} and {number}; "
                "a word's place in the list is its id"
            )
        numbered[word] = number
    return numbered


def _checked(path: Path, value: Any) -> dict[str, int]:
    if not isinstance(value, dict):
        raise DataError(f"{str(path)!r} is {reprlib.repr(value)}; give a dict of word and id")
    if len(value) > _MOST_WORDS:
        raise DataError(f"{str(path)!r} has {len(value):,} words, more than {_MOST_WORDS:,}")
    seen: dict[int, str] = {}
    for word, number in value.items():
        if type(number) is not int or number < 0:
            raise DataError(
                f"{str(path)!r} has {reprlib.repr(number)} as the id of {reprlib.repr(word)}; ids "
                "are whole numbers from 0 on"
            )
        if number in seen:
            raise DataError(
                f"{str(path)!r} has the id {number} for {reprlib.repr(seen[number])} and for "
                f"{reprlib.repr(word)}; each word needs its own"
            )
        seen[number] = word
    return value


def _with_specials(ids: dict[str, int]) -> Words:
    words = dict(ids)
    found: list[int | None] = []
    for names in (_PADDING_NAMES, _UNKNOWN_NAMES, _START_NAMES):
        named = [word for word in words if word.lower() in names]
        found.append(words.pop(named[0]) if len(named) == 1 else None)
    return Words(words, padding=found[0], unknown=found[1], start=found[2])


def _own(path: Path, value: Mapping[str, Any]) -> Words:
    """What ``vocabulary_json`` wrote."""
    try:
        ids, labels = _checked(path, value["words"]), value["labels"]
        numbers = [value[name] for name in ("padding", "unknown", "start")]
        ok = all(number is None or type(number) is int for number in numbers)
        read, most = value["padding_is_read"], value["max_length"]
        pooling = value.get("pooling")  # exports of before don't tell
        ok = ok and (pooling is None or isinstance(pooling, str))
        ok = ok and isinstance(labels, list) and isinstance(read, bool) and type(most) is int
        if not ok:
            raise DataError(f"{str(path)!r} is not as it was exported; export the model again")
        tokenizer, keep = str(value["tokenizer"]), str(value["keep"])
    except KeyError as error:
        raise DataError(f"{str(path)!r} tells no {error}; export the model again") from error
    padding, unknown, start = numbers
    targets = value.get("targets", "one")
    if targets not in TARGETS:
        raise DataError(f"{str(path)!r} is not as it was exported; export the model again")
    tuned = _thresholds(path, value.get("thresholds"), len(labels) if targets == "many" else 1)
    told = tokenizer, labels, targets, most, keep, not read, tuned, pooling
    return Words(ids, padding, unknown, start, *told)


def _thresholds(path: Path, stored: Any, count: int) -> Sequence[float] | None:
    """So many numbers from 0 to 1 in a list, or None; else DataError."""
    if stored is None:
        return None
    sound = isinstance(stored, list) and [type(number) for number in stored] == [float] * count
    if not sound or not all(0.0 <= number <= 1.0 for number in stored):
        raise DataError(f"{str(path)!r} has thresholds that are none; export the model again")
    found: list[float] = stored
    return found


def shifted(words: Words, first_id: int) -> Words:
    """The same words, the smallest id being ``first_id``."""
    if first_id < 0:
        raise ConfigError(f"first_id={first_id} is no id; ids begin with 0")
    if not words.ids:
        return words
    by = first_id - min(words.ids.values())
    return replace(words, ids={word: number + by for word, number in words.ids.items()})


def vocabulary_json(trained: TrainedModel) -> bytes:
    """All that turns texts into ids and logits into labels, as JSON for people and programs."""
    tokenizer, config = trained.tokenizer, trained.model.config
    told = {
        "format": FORMAT,
        "tokenizer": tokenizer.name,
        "max_length": config.max_length,
        "keep": tokenizer.keep,
        "padding_is_read": not config.masked,
        "pooling": config.pooling,
        "padding": PADDING_ID,
        "start": START_ID if tokenizer.start else None,
        "unknown": UNKNOWN_ID if tokenizer.unknown else None,
        "labels": trained.classes.tolist(),
        "targets": config.targets,
        "thresholds": None if trained.thresholds is None else trained.thresholds.tolist(),
        "words": {
            word: FIRST_WORD_ID + place for place, word in enumerate(tokenizer.vocabulary.words)
        },
    }
    if isinstance(tokenizer, JsonTokenizer):  # the words alone don't say how texts become ids
        told["tokenizer_json"] = json.loads(tokenizer.json)
    return (json.dumps(told, ensure_ascii=True, indent=0) + "\n").encode()
