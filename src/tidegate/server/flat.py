"""JSON of large bodies, read value by value as far as it can be a request.

A reader of all JSON keeps the interpreter to itself until its end, in a thread as well: for the
four megabytes of [[],[],... it takes a third of a second, in which nobody else is answered. Large
requests are flat, an object of texts and names, so nothing but this is read of large bodies.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

_NEXT_STRING = re.compile(r'[ \t\n\r]*,[ \t\n\r]*(?=")')
_BLANKS = re.compile(r"[ \t\n\r]*")
_OTHER_BEGINS = frozenset("[{-0123456789tfnNI")  # of values that are no strings


def read(text: str, most_keys: int, most_items: int, constant: Callable[[str], Any]) -> Any:
    """The pairs of an object whose values are scalars or lists of strings.

    What else it may be is read no further, and stands there as what no request has: None for the
    whole or for an item of a list, {} for a value; where there are more than ``most_keys`` pairs or
    ``most_items`` items, one more. constant: what is made of NaN and Infinity. Raises
    json.JSONDecodeError for what is no JSON so far; ValueError for a number of thousands of digits.
    """
    decode = json.JSONDecoder(parse_constant=constant).raw_decode
    pairs: list[tuple[str, Any]] = []
    at = _next(text, 0)
    if not text.startswith("{", at):
        if text[at : at + 1] == '"' or text[at : at + 1] in _OTHER_BEGINS:
            return None
        raise json.JSONDecodeError("Expecting value", text, at)
    at = _next(text, at + 1)
    more = not text.startswith("}", at)
    while more:
        if not text.startswith('"', at):
            message = "Expecting property name enclosed in double quotes"
            raise json.JSONDecodeError(message, text, at)
        key, at = decode(text, at)
        at = _next(text, at)
        if not text.startswith(":", at):
            raise json.JSONDecodeError("Expecting ':' delimiter", text, at)
        at = _next(text, at + 1)
        whole = True
        value: Any
        if text.startswith("[", at):
            value, at, whole = _strings(text, at, most_items, decode)
        elif text.startswith("{", at):
            value, whole = {}, False
        else:
            value, at = decode(text, at)
        pairs.append((key, value))
        if not whole or len(pairs) > most_keys:
            return pairs
        at, more = _comma(text, at, "}")
    at = _next(text, at + 1)
    if at < len(text):
        raise json.JSONDecodeError("Extra data", text, at)
    return pairs


def _strings(
    text: str, at: int, most: int, decode: Callable[[str, int], tuple[Any, int]]
) -> tuple[list[str | None], int, bool]:
    """The list that begins there, where it ends, and whether it was read to its end."""
    found: list[str | None] = []
    at = _next(text, at + 1)
    more = not text.startswith("]", at)
    while more:
        if not text.startswith('"', at):
            if text[at : at + 1] in _OTHER_BEGINS:
                return [*found, None], at, False
            raise json.JSONDecodeError("Expecting value", text, at)
        for _ in range(most + 1 - len(found)):  # string after string, as requests have them
            item, at = decode(text, at)
            found.append(item)
            another = _NEXT_STRING.match(text, at)
            if another is None:
                break
            at = another.end()
        if len(found) > most:
            return found, at, False
        at, more = _comma(text, at, "]")
    return found, at + 1, True


def _comma(text: str, at: int, end: str) -> tuple[int, bool]:
    """Where the next value begins, or where the end stands; and whether there is a next value."""
    at = _next(text, at)
    if text.startswith(end, at):
        return at, False
    if not text.startswith(",", at):
        raise json.JSONDecodeError("Expecting ',' delimiter", text, at)
    return _next(text, at + 1), True


def _next(text: str, at: int) -> int:
    """Where the blanks that may stand there end."""
    return _BLANKS.match(text, at).end()  # type: ignore[union-attr]  # always matches
