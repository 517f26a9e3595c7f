"""What stands in front of the application: host, token, a log line and the numbers of a request."""

from __future__ import annotations

import hmac
import time
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tidegate.server import hosts, logs
from tidegate.server.failures import Failure, error_body
from tidegate.server.lingering import LingeringResponse

if TYPE_CHECKING:
    from tidegate.server.bodies import HeldBytes
    from tidegate.server.metrics import Metrics
    from tidegate.server.unread import Outbox

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

# Everything comes from the server itself, and no other site may frame it.
_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        b"img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
]
_GUARDED = ("/v1/", "/metrics")
_UNKNOWN_HOST = (
    "the Host header has a name that this server does not know as its own; ask for localhost, or "
    "start it with --allowed-host and the name"
)


@dataclass
class Noted:
    """What is told of a request when it has ended. held: bytes of its body that are counted."""

    status: int = 0
    model: str | None = None
    texts: int = 0
    held: int = 0


class Guard:
    """An ASGI application around another. paths: those that are named in logs and numbers.

    Other paths may be anything that a user typed, and are called "other". hosts: the names that it
    answers to, None for any.
    """

    def __init__(
        self,
        application: Application,
        *,
        paths: Collection[str],
        hosts: Collection[str] | None,
        token: str | None,
        held: HeldBytes,
        metrics: Metrics,
        quiet: bool,
    ) -> None:
        self._application = application
        self._paths = frozenset(paths)
        self._hosts = hosts
        self._token = None if token is None else token.encode()
        self._held = held
        self._metrics = metrics
        self._quiet = quiet

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass on what is none."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        began, noted, state = time.perf_counter(), Noted(), scope["state"]
        state["noted"], state["held"] = noted, self._held
        outbox: Outbox = state["outbox"]  # the connection's (see ``protocol``)

        async def send_noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                noted.status = message["status"]
                message["headers"] = [*message.get("headers", ()), *_HEADERS]
            with outbox.holding(message):
                await send(message)

        try:
            refusal = self._refusal(scope)
            if refusal is None:
                await self._application(scope, receive, send_noted)
            else:
                await _refused(refusal)(scope, receive, send_noted)
        except Exception as error:  # answered already: see failures' handler of the application
            logs.failure(error)
        finally:
            self._held.give_back(noted.held)
            self._tell(scope, noted, time.perf_counter() - began)

    def _refusal(self, scope: Scope) -> Failure | None:
        if self._hosts is not None and not hosts.admitted(scope["headers"], self._hosts):
            return Failure(421, "unknown_host", _UNKNOWN_HOST)
        if not self._has_token(scope):
            return _no_token()
        return None

    def _has_token(self, scope: Scope) -> bool:
        if self._token is None or not scope["path"].startswith(_GUARDED):
            return True
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        kind, _, token = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
        # Compared in constant time, so that answers don't tell how many signs were right.
        return hmac.compare_digest(token.strip(), self._token) and kind.lower() == b"bearer"

    def _tell(self, scope: Scope, noted: Noted, seconds: float) -> None:
        path = scope["path"] if scope["path"] in self._paths else "other"
        self._metrics.requests.labels(path, str(noted.status)).inc()
        self._metrics.request_seconds.labels(path).observe(seconds)
        if noted.texts and noted.status == 200:
            self._metrics.texts.labels(noted.model, path).inc(noted.texts)
        if not self._quiet:
            facts: dict[str, Any] = {"model": noted.model, "texts": noted.texts}
            logs.event(
                "request",
                method=scope["method"],
                path=path,
                status=noted.status,
                milliseconds=round(seconds * 1e3, 3),
                **(facts if noted.model is not None else {}),
            )


def _no_token() -> Failure:
    message = "a token is needed: Authorization: Bearer and the token of this server"
    return Failure(401, "unauthorized", message, {"WWW-Authenticate": "Bearer"})


def _refused(failure: Failure) -> LingeringResponse:
    """The answer of no application; what is still sent is read for a moment, and forgotten."""
    headers = {**(failure.headers or {}), "Connection": "close"}
    body = error_body(failure.code, failure.message)
    return LingeringResponse(body, failure.status_code, headers, media_type="application/json")
