"""What is answered when a request can't be: always {"error": {"code", "message"}}."""

from __future__ import annotations

import json
from collections.abc import Mapping

from starlette.exceptions import HTTPException

# By status, for what the framework itself refuses.
CODES = {
    400: "bad_request",
    401: "unauthorized",
    404: "not_found",
    405: "method_not_allowed",
    408: "timed_out",
    413: "too_large",
    415: "unsupported_media_type",
    421: "unknown_host",
    422: "invalid_request",
    431: "headers_too_large",
    500: "internal_error",
    503: "overloaded",
}


class Failure(HTTPException):
    """An answer that is an error. message: one line, which repeats no text that is to be judged."""

    def __init__(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(status, message, dict(headers) if headers else None)
        self.code = code
        self.message = message


def overloaded(reason: str) -> Failure:
    """The failure of a request that there is no room for now."""
    return Failure(503, "overloaded", f"{reason}; try again in a second", {"Retry-After": "1"})


def error_body(code: str, message: str) -> bytes:
    """The JSON of an error."""
    return json.dumps({"error": {"code": code, "message": message}}).encode()
