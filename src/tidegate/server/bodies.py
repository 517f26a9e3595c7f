"""Bodies of requests: bytes within their limits, then JSON, then one of the forms below.

JSON is read as strictly as it can be: UTF-8 without lone surrogates, no NaN, no key twice, no
unknown key, no number for a string. What two programs could read differently is refused.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationError,
)
from pydantic_core import PydanticCustomError
from starlette.requests import ClientDisconnect, Request

from tidegate.explain import METHODS
from tidegate.server import flat
from tidegate.server.failures import Failure, overloaded

if TYPE_CHECKING:
    from tidegate.server.settings import Limits


def _characters(text: str) -> str:
    """JSON can write half of a surrogate pair, which is no character and has no UTF-8."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise PydanticCustomError(
                "string_unicode", "has half of a surrogate pair, which is no character"
            ) from None
    return text


Form = TypeVar("Form", bound=BaseModel)
Text = Annotated[StrictStr, AfterValidator(_characters)]
# Ends at the first that is wrong: a megabyte of numbers would else make a million errors.
Texts = Annotated[list[Text], Field(min_length=1, fail_fast=True)]
Count = Annotated[int, Field(ge=0, le=2**31 - 1)]
_LARGE = 65_536  # bytes: any JSON of so many is read within some milliseconds
_MOST_KEYS = 16  # more than any form has
_UNKNOWN_KEY = "the body has a key that is not known; see /openapi.json"


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    model: Text | None = Field(None, description="Which model; the first one if it is left out.")


class PredictRequest(_Request):
    """Texts to classify."""

    texts: Texts


class ExplainRequest(_Request):
    """Texts to explain."""

    texts: Texts
    label: Text | StrictBool | StrictInt | StrictFloat | None = Field(
        None, description="The label that is explained; the likeliest if it is left out."
    )
    method: Literal[METHODS] | None = Field(  # type: ignore[valid-type]
        None, description="How contributions are found; the default of `tidegate explain`."
    )


class TraceRequest(_Request):
    """A text whose gates and states are wanted."""

    text: Text


class CellRequest(_Request):
    """One unit of one layer at one step of a text; all are counted from 0."""

    text: Text
    layer: Count
    direction: Literal["forward", "backward"]
    step: Count
    unit: Count


class HeldBytes:
    """Bytes of the bodies of all requests that are not answered yet."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0

    def take(self, count: int) -> None:
        """Failure if there is no room for so many more."""
        if self._held + count > self._most:
            raise overloaded("too many large requests wait already")
        self._held += count

    def give_back(self, count: int) -> None:
        """What was taken is free again."""
        self._held -= count


async def read(request: Request, form: type[Form], limits: Limits) -> Form:
    """The request's body as this form. Raises Failure.

    What it takes of ``request.state.held`` is given back when the request has ended. How long a
    body may take is the connection's to say (see ``protocol``).
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        # Also keeps other sites' pages out: browsers ask before they send this kind elsewhere.
        raise Failure(
            415, "unsupported_media_type", "the body must be JSON: Content-Type: application/json"
        )
    return check_form(parse(await _bytes(request, limits), limits.request_texts), form)


def check_form(value: Any, form: type[Form]) -> Form:
    """JSON as this form. Failure for the first thing that is wrong with it."""
    # Refused before a hundred thousand keys become as many errors.
    if isinstance(value, dict) and len(value) > _MOST_KEYS:
        raise Failure(422, "invalid_request", _UNKNOWN_KEY)
    try:
        return form.model_validate(value)
    except ValidationError as error:
        raise Failure(422, "invalid_request", _first(error)) from None


async def _bytes(request: Request, limits: Limits) -> bytes:
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > limits.body_bytes:
        raise _too_large(limits)
    held, parts, size = request.state.held, [], 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > limits.body_bytes:
                raise _too_large(limits)
            held.take(len(part))
            request.state.noted.held += len(part)
            parts.append(part)
    except ClientDisconnect:
        raise Failure(400, "bad_request", "the body ended early") from None
    return b"".join(parts)


def _too_large(limits: Limits) -> Failure:
    return Failure(
        413,
        "too_large",
        f"the body has more than {limits.body_bytes:,} bytes; send fewer texts at once",
        {"Connection": "close"},
    )


def parse(body: bytes, most_items: int) -> Any:
    """The body's JSON, or of a large one that can be no request what shows it. Raises Failure.

    most_items: of a list.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Failure(400, "bad_json", f"the body is not UTF-8 at byte {error.start}") from None
    try:
        if len(body) <= _LARGE:
            return json.loads(text, object_pairs_hook=_object, parse_constant=_no_number)
        pairs = flat.read(text, _MOST_KEYS, most_items, _no_number)
        return pairs if pairs is None else _object(pairs)
    except json.JSONDecodeError as error:
        reason = f"{error.msg} at line {error.lineno}, column {error.colno}"
        raise Failure(400, "bad_json", f"the body is not JSON: {reason}") from None
    except RecursionError:
        raise Failure(400, "bad_json", "the body is nested too deeply") from None
    except ValueError:  # whole numbers of thousands of digits, which Python does not read
        raise Failure(400, "bad_json", "a number in the body has too many digits") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Failure(400, "bad_json", "an object in the body has a key twice")
    return found


def _no_number(name: str) -> Any:
    raise Failure(400, "bad_json", f"the body is not JSON: {name} is no number there")


def _first(error: ValidationError) -> str:
    """The first thing that is wrong, by its place; never what stands there."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    known = {name for form in _FORMS for name in form.model_fields}
    names = [str(part) for part in first["loc"] if isinstance(part, int) or part in known]
    place = ".".join(names) or "the body"
    if first["type"] == "extra_forbidden":
        return _UNKNOWN_KEY
    if first["type"] == "string_unicode":
        return f"{place} has half of a surrogate pair, which is no character"
    if first["type"] == "missing":
        return f"{place} is missing"
    return f"{place}: {first['msg']}"


_FORMS = (PredictRequest, ExplainRequest, TraceRequest, CellRequest)


def check_texts(texts: list[Text], most: int, limits: Limits) -> None:
    """Failure for more texts than ``most``, or one that is too long."""
    if len(texts) > most:
        raise Failure(
            422,
            "too_many_texts",
            f"more than {most:,} texts are given; send them in several requests",
        )
    for number, text in enumerate(texts):
        if len(text) > limits.characters:
            raise Failure(
                422,
                "text_too_long",
                f"text {number} has {len(text):,} characters; at most {limits.characters:,} are "
                "taken",
            )
