"""Large bodies are read as small ones are, but no further than they can be requests."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.server import bodies, flat
from tidegate.server.bodies import ExplainRequest, check_form
from tidegate.server.failures import Failure

_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
_KEYS = st.sampled_from(["texts", "model", "label", "method", "other"])
_OBJECTS = st.dictionaries(_KEYS, st.lists(st.text(max_size=8), max_size=5) | _VALUES, max_size=4)
_INDENTS = st.sampled_from([None, 0, 2])
_PIECES = st.lists(
    st.sampled_from(
        [*'{}[]:,"\\ \n\t\r', "texts", '"texts"', '"a"', "1", "1e5", "NaN", "null", "\v"]
    ),
    max_size=12,
).map("".join)


def _small(text: str) -> Any:
    return json.loads(text, object_pairs_hook=bodies._object, parse_constant=bodies._no_number)


def _large(text: str) -> Any:
    pairs = flat.read(text, bodies._MOST_KEYS, 100, bodies._no_number)
    return pairs if pairs is None else bodies._object(pairs)


def _form(read: Any, text: str) -> dict[str, Any] | None:
    """The request that is read from the text, None if it is none."""
    try:
        return dict(check_form(read(text), ExplainRequest))
    except (Failure, json.JSONDecodeError):
        return None


@given(value=_OBJECTS, indent=_INDENTS, ascii=st.booleans())
def test_requests_are_the_same(value: Any, indent: int | None, ascii: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii)
    assert _form(_large, text) == _form(_small, text)


@given(value=_OBJECTS, at=st.integers(0, 10_000), cut=st.integers(0, 3), put=_PIECES)
def test_what_is_none_for_one_is_none_for_the_other(
    value: Any, at: int, cut: int, put: str
) -> None:
    """A request with something taken out and something put in."""
    text = json.dumps(value)
    at %= len(text) + 1
    text = text[:at] + put + text[at + cut :]
    assert _form(_large, text) == _form(_small, text)


@given(text=_PIECES)
def test_of_pieces_nothing_else_is_made(text: str) -> None:
    assert _form(_large, text) == _form(_small, text)


def _few(read: Any) -> Any:
    """What was read, which is little: an error for each of the rest would take many seconds."""
    for values in ((read or {}), *(each for each in (read or {}).values() if each)):
        assert not isinstance(values, (dict, list)) or len(values) <= 1_001
    return read


@pytest.mark.parametrize(
    ("body", "code", "needle"),
    [
        (b'{"texts": [' + b"1, " * 300_000 + b"1]}", "invalid_request", "texts.0: "),
        (b'{"texts": ["a", ' + b"[]," * 300_000 + b"1]}", "invalid_request", "texts.1: "),
        (b'{"texts": ["a", ' + b"{}," * 300_000 + b"1]}", "invalid_request", "texts.1: "),
        (b'{"texts": {' + b'"a": 1, ' * 300_000 + b'"b": 1}}', "invalid_request", "texts: "),
        (b'{"texts": [' * 300_000, "invalid_request", "texts.0: "),
        (b"[[]" + b",[]" * 300_000 + b"]", "invalid_request", "the body"),
        (b'{"texts": ["a"], ' + b'"a": 1, ' * 300_000, "bad_json", "twice"),
        (
            b'{"texts": ["a"], ' + b", ".join(b'"%d": 1' % i for i in range(99_999)) + b"}",
            *("invalid_request", "not known"),
        ),
        (b'{"texts": ["a"], "label": ' + b"9" * 300_000 + b"}", "bad_json", "too many digits"),
        (b'{"texts": ["a"], "label": NaN' + b" " * 300_000 + b"}", "bad_json", "NaN"),
        (b'{"texts": ["a"]' + b" " * 300_000, "bad_json", "line 1, column 300016"),
        (b'{"texts": ["a"]}' + b" " * 300_000 + b"}", "bad_json", "Extra data"),
        (b'{"texts": ["' + b"a" * 300_000, "bad_json", "Unterminated"),
        (b'{"texts": ["' + b"\n" * 300_000 + b'"]}', "bad_json", "control character"),
        (b" " * 300_000 + b"x", "bad_json", "Expecting value"),
        (b"\xff" * 300_000, "bad_json", "not UTF-8"),
    ],
)
def test_large_bodies_that_are_wrong(body: bytes, code: str, needle: str) -> None:
    """Each is told in the words of a small one, long before all of it would have been read."""
    with pytest.raises(Failure) as failure:
        check_form(_few(bodies.parse(body, 1_000)), ExplainRequest)
    assert failure.value.code == code
    assert needle in failure.value.message


def test_more_texts_than_are_taken_are_not_read() -> None:
    body = b'{"texts": [' + b'"",' * 300_000 + b"1]}"
    value = bodies.parse(body, 1_000)
    assert value == {"texts": [""] * 1_001}
