"""Hugging Face's ``tokenizer.json`` in place of our own rules: pieces of words, with its ids.

The package ``tokenizers`` cuts the texts; the file's JSON travels in the model file. Id 0 of the
tokenizer is FIRST_WORD_ID here, id 1 the next, and its unknown token is UNKNOWN_ID. What the
tokenizer would put around a text, cut away or fill up is left out: a text begins with START_ID, as
with our own rules, and ``keep`` cuts it.
"""

from __future__ import annotations

import json
import os
import reprlib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tidegate.data.compressed import open_stream
from tidegate.data.formats import Source
from tidegate.errors import ConfigError, DataError, MissingPackageError, unknown_choice
from tidegate.text import (
    FIRST_WORD_ID,
    START_ID,
    UNKNOWN_ID,
    Tokenizer,
    Vocabulary,
    checked_texts,
)
from tidegate.text import check_tokenizer as check_rules
from tidegate.tokens import TOKENIZERS

NAME = "json"  # of such a tokenizer, in model files
LARGEST_FILE = 1 << 26  # bytes; the largest vocabularies in use take half of it
_MOST_IDS = 2_000_000
_MOST_GAPS = 10_000  # ids without a token, beside as many as there are tokens
_MEND = "save the tokenizer again: tokenizer.save('tokenizer.json')"


@dataclass(frozen=True)
class JsonTokenizer(Tokenizer):
    """The tokenizer of a ``tokenizer.json``. DataError if it can't be one.

    kind: "words", the rules by which a linear model beside the network reads texts. vocabulary:
    the tokens in the order of their ids, with line breaks and gaps told apart by marks. json: the
    file's bytes. Only what cuts texts needs the package: MissingPackageError without it.
    """

    json: bytes = b""

    def __reduce__(self) -> tuple[Any, ...]:
        return JsonTokenizer.of, (self.json, self.keep)

    @classmethod
    def of(cls, data: bytes, keep: str = "end") -> JsonTokenizer:
        """The tokenizer of a file's bytes. DataError for anything else."""
        return cls("words", Vocabulary(_words(_parsed(data))), keep, json=data)

    @classmethod
    def open(cls, path: str | os.PathLike[str], keep: str = "end") -> JsonTokenizer:
        """The tokenizer of a file, which is tried on a text. DataError for anything else."""
        name = os.fspath(path)
        with open_stream(Source(Path(path), "txt")) as stream:
            data = b""
            while len(data) <= LARGEST_FILE and (piece := stream.read1(1 << 20)):
                data += piece
        try:
            tokenizer = cls.of(data, keep)
            tokenizer.encode("a text")
        except DataError as error:
            raise DataError(f"{name}: {error}") from error
        return tokenizer

    @property
    def name(self) -> str:
        """As model files tell it."""
        return NAME

    def stored(self) -> tuple[str, bytes]:
        """The tensor that a model file holds of it."""
        return "tokenizer", self.json

    @cached_property
    def _loaded(self) -> Any:
        try:
            import tokenizers
        except ImportError as error:
            raise MissingPackageError(
                "a tokenizer.json needs the package tokenizers: pip install 'tidegate[tokenizers]'"
            ) from error
        with _guarded(), _silent():
            loaded = tokenizers.Tokenizer.from_str(self.json.decode())
            loaded.no_truncation()
            loaded.no_padding()
            if getattr(loaded.model, "dropout", None) is not None:
                loaded.model.dropout = None  # it would cut a text another way each time
        return loaded

    @cached_property
    def _unknown_id(self) -> int | None:
        model = json.loads(self.json)["model"]
        if isinstance(model.get("unk_id"), int):
            return int(model["unk_id"])
        unknown = model.get("unk_token")
        found = self._loaded.token_to_id(unknown) if isinstance(unknown, str) else None
        return None if found is None else int(found)

    def _cut_up(self, text: str) -> Any:
        """The package's own record of a text's tokens, ids and places."""
        # One by one: no threads of the package's own, which would warn in every fork.
        loaded = self._loaded
        with _guarded():
            # It takes no lone surrogates; a question mark is as long.
            plain = text.encode("utf-8", "replace").decode()
            return loaded.encode(plain, add_special_tokens=False)

    def _encoded(self, text: str) -> np.ndarray:
        found = np.array(self._cut_up(text).ids, np.int64)
        if len(found) and not 0 <= int(found.max()) < len(self.vocabulary.words):
            raise DataError(
                f"the tokenizer gives the id {int(found.max())}, which it does not list"
            )
        ids = np.where(found == self._unknown_id, UNKNOWN_ID, found + FIRST_WORD_ID)
        return np.concatenate([[START_ID], ids]).astype(np.int32)

    def _encoded_blocks(
        self, texts: Iterable[str], most: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for text in checked_texts(texts):
            ids = self._encoded(text)[-most:]
            yield ids, np.array([len(ids)], np.int64)

    def encode(self, text: str) -> np.ndarray:
        (ids, _), *_ = self._encoded_blocks([text], 1 << 60)
        return ids

    def tokens(self, text: str) -> list[str]:
        found: list[str] = self._cut_up(text).tokens
        return found

    def spans(self, text: str) -> list[tuple[int, int]]:
        places: list[tuple[int, int]] = []
        at = 0
        for begin, end in self._cut_up(text).offsets:
            # Tokens of one character's bytes stand in the same place: the first one has it.
            places.append((max(begin, at), max(end, at)))
            at = max(end, at)
        return places

    def _places(self, words: Sequence[str]) -> list[int]:
        return [-1, *range(len(words))]

    def without_each(self, text: str) -> Iterator[str]:
        return (text[:begin] + text[end:] for begin, end in self.spans(text))

    def grown(self, text: str, reach: int | None) -> Iterator[str]:
        return (text[:end] for _, end in self.spans(text))


def check_tokenizer(given: object) -> None:
    """ConfigError unless it is one of TOKENIZERS or a path that ends in .json."""
    if not _is_path(given) and not (isinstance(given, str) and given == NAME):
        try:
            check_rules(given)
        except ConfigError:
            choices = (*TOKENIZERS, "the path of a tokenizer.json")
            raise unknown_choice("tokenizer", given, choices) from None


def tokenizer_of(given: object, texts: Iterable[str], vocabulary_size: int, keep: str) -> Tokenizer:
    """The tokenizer of a file, or one of the given rules with the texts' vocabulary."""
    if _is_path(given):
        return JsonTokenizer.open(given, keep)  # type: ignore[arg-type]
    if given == NAME:
        raise ConfigError(
            f"tokenizer={NAME!r} is that of a trained model; give the path of its tokenizer.json"
        )
    return Tokenizer.fit(texts, vocabulary_size, check_rules(given), keep)


def name_beside(given: object, trained: Tokenizer) -> object:
    """What an argument means beside a trained tokenizer: its name, if it is the same file."""
    if isinstance(trained, JsonTokenizer) and _is_path(given):
        same = JsonTokenizer.open(given).json == trained.json  # type: ignore[arg-type]
        return NAME if same else f"another file, {given}"
    return told(given)


def told(given: object) -> object:
    """What a model file says of the argument: of a path, that it is one."""
    return NAME if _is_path(given) else given


def stored_tokenizer(
    header: Mapping[str, Any], tensors: dict[str, Any], marks: Mapping[str, bool]
) -> Tokenizer:
    """What a model file says, whose tensor is taken out. DataError or KeyError if it says none."""
    keep = header.get("keep", "end")
    if header["tokenizer"] == NAME:
        if not all(marks.values()):
            raise DataError("a tokenizer.json without start or unknown")
        return JsonTokenizer.of(tensors.pop("tokenizer").tobytes(), keep)
    vocabulary = Vocabulary.from_bytes(tensors.pop("vocabulary").tobytes())
    return Tokenizer(header["tokenizer"], vocabulary, keep, **marks)


def _is_path(given: object) -> bool:
    return isinstance(given, (str, os.PathLike)) and str(given).endswith(".json")


def _parsed(data: bytes) -> dict[str, Any]:
    if len(data) > LARGEST_FILE:
        raise DataError(f"a tokenizer.json of more than {LARGEST_FILE:,} bytes; give a smaller one")
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DataError(f"it is not JSON ({reprlib.repr(str(error))}); {_MEND}") from error
    if not isinstance(found, dict) or not isinstance(found.get("model"), dict):
        raise DataError(f"it is not a tokenizer.json: it has no model; {_MEND}")
    return found


def _words(found: Mapping[str, Any]) -> tuple[str, ...]:
    """The tokens in the order of their ids, each distinct, without newlines."""
    listed = found["model"].get("vocab")
    by_id: dict[int, str] = {}
    if isinstance(listed, dict):
        pairs = [(number, token) for token, number in listed.items()]
    elif isinstance(listed, list):  # of tokens and their scores
        pairs = [(i, next(iter(one), None)) for i, one in enumerate(listed) if type(one) is list]
    else:
        raise DataError(f"it has no list of tokens; {_MEND}")
    for added in found.get("added_tokens") or ():
        if isinstance(added, dict):
            pairs.append((added.get("id"), added.get("content")))
    for number, token in pairs:
        if type(number) is not int or not isinstance(token, str) or not 0 <= number < _MOST_IDS:
            shown = f"{reprlib.repr(token)} with the id {reprlib.repr(number)}"
            raise DataError(f"it has the token {shown}; ids are whole numbers below {_MOST_IDS:,}")
        by_id[number] = token
    if not by_id:
        raise DataError("it has no tokens; train the tokenizer first")
    if max(by_id) > 2 * len(by_id) + _MOST_GAPS:
        raise DataError(f"its {len(by_id):,} tokens have ids up to {max(by_id):,}; {_MEND}")
    words: list[str] = []
    seen: set[str] = set()
    for number in range(max(by_id) + 1):
        word = by_id.get(number, "").replace("\n", "\\n")
        while not word or word in seen:
            word += f"<{number}>"
        seen.add(word)
        words.append(word)
    return tuple(words)


@contextmanager
def _guarded() -> Iterator[None]:
    """Tell what the package refuses as one kind of error, also where its Rust code panics."""
    try:
        yield
    except Exception as error:
        raise _refused(error) from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise _refused(error) from None


@contextmanager
def _silent() -> Iterator[None]:
    """Keep a panic's own report, which Rust writes to the process's standard error, from users."""
    try:
        before = os.dup(2)
    except OSError:  # closed
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        sys.stderr.flush()
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(before, 2)
        os.close(nowhere)
        os.close(before)


def _refused(error: BaseException) -> DataError:
    reason = " ".join(str(error).split())
    return DataError(f"the package tokenizers refuses the tokenizer.json ({reason[:200]}); {_MEND}")
