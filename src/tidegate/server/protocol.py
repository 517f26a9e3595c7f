"""A connection: uvicorn's protocol with the limits that it leaves to a proxy in front.

Headers and bodies that never end, clients that never read, headers without bound, and too many
connections end here, with an error in the form of all others.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tidegate.server import logs
from tidegate.server.failures import CODES, error_body
from tidegate.server.unread import Outbox, Unread

if TYPE_CHECKING:
    from tidegate.server.metrics import Metrics
    from tidegate.server.settings import Limits

_LAST_WORDS = 0.25  # seconds in which a stopping server still takes what is already on its way


class LimitedProtocol(HttpToolsProtocol):
    """One timer at a time runs for whatever the client is expected to do next."""

    _outbox: Outbox  # from connection_made on

    def __init__(self, limits: Limits, metrics: Metrics, unread: Unread, **given: Any) -> None:
        super().__init__(**given)
        self._limits = limits
        self._metrics = metrics
        self._unread = unread
        self._timer: asyncio.TimerHandle | None = None
        self._begun = False  # a request of which something has arrived, but not all
        self._in_headers = True
        self._header_bytes = 0
        self._stopping = False
        self._refused = False

    # --- the connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._outbox = Outbox(transport, self._unread)
        self.transport = cast(asyncio.Transport, self._outbox)
        if len(self.connections) > self._limits.connections:
            self._refuse(503, "too many connections; try again in a second", b"retry-after: 1\r\n")
        else:
            self._expect(self._limits.header_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._outbox.end()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._outbox.filled()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._outbox.emptied()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return  # it is not read any more
        super().data_received(data)
        if self._in_headers and not self._refused:
            # What the parser holds back until a line has ended is not bounded by the parser.
            self._header_bytes += len(data)
            self._check_headers()

    def shutdown(self) -> None:
        """The server stops: answer what has arrived or is on its way, then close."""
        self._stopping = True
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False
        elif not self._begun:
            self._stop_timer()
            self._timer = self.loop.call_later(_LAST_WORDS, self._close)

    # --- the parser's events

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["state"]["outbox"] = self._outbox
        self._begun = self._in_headers = True
        self._header_bytes = 0
        self._expect(self._limits.header_seconds)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._refused:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_headers = False
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > self._limits.header_bytes:
            self._header_bytes = size
            self._check_headers()
        if self._refused:
            return
        super().on_headers_complete()
        if self._stopping:
            self.cycle.keep_alive = False
        self._expect(self._limits.body_seconds)

    def on_body(self, body: bytes) -> None:
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._begun = False
        self._stop_timer()
        if not self._refused:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        self._outbox.watch()
        super().on_response_complete()
        if not self._begun and not self.pipeline and not self.transport.is_closing():
            self._stop_timer()
            self._timer = self.loop.call_later(self._limits.idle_seconds, self._close)

    # --- what ends a connection

    def _expect(self, seconds: float) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(seconds, self._too_slow)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        if self._begun:
            self._refuse(408, "the request did not arrive in time")
        else:
            self._close()

    def _check_headers(self) -> None:
        if self._header_bytes > self._limits.header_bytes:
            most = self._limits.header_bytes
            self._refuse(431, f"the first line and headers have more than {most:,} bytes")

    def _close(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, "this is not HTTP")

    def _refuse(self, status: int, message: str, more: bytes = b"") -> None:
        """Answer without the application, unless it has begun to answer, and close."""
        self._refused = True
        self._stop_timer()
        if self.transport.is_closing():
            return
        cycle = self.cycle
        waiting = cycle is not None and not cycle.response_complete
        if waiting and self._in_headers:  # an earlier request's: it is answered, and then we close
            cycle.keep_alive = False
            return
        if not (waiting and cycle.response_started):
            logs.event("refused", status=status)
            self._metrics.requests.labels("other", str(status)).inc()
            body = error_body(CODES[status], message)
            self.transport.write(
                f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
                f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
                "connection: close\r\n".encode()
                + more
                + b"\r\n"
                + body
            )
        if waiting:  # whoever reads its body or answers it finds the client gone
            cycle.disconnected = True
            cycle.message_event.set()
        self._close()
