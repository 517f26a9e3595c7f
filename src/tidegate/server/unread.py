"""Answers that wait for their readers: each must be taken at some pace, and all have a bound.

A server that waits for slow clients keeps their answers meanwhile. What a client asks for costs it
a line; without a bound, some hundred clients that read a byte now and then would take all memory.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from tidegate.server import logs

if TYPE_CHECKING:
    from tidegate.server.metrics import Metrics
    from tidegate.server.settings import Limits

_AT_ONCE = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)  # to linger: yes, for no second
_YOUNG = 1.0  # seconds in which nobody's pace can be told from the first packets'


class Unread:
    """The connections of a worker whose transports are full: what they keep, together."""

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self.limits = limits
        self.metrics = metrics
        self._full: set[Outbox] = set()
        self._looking = False

    def add(self, outbox: Outbox) -> None:
        """From now on it counts. Called by the transport as it is written to, so look later."""
        self._full.add(outbox)
        self.look_soon()

    def discard(self, outbox: Outbox) -> None:
        """It does not count any more."""
        self._full.discard(outbox)

    def look_soon(self) -> None:
        """Something was added: see whether there is room for it."""
        if not self._looking:
            self._looking = True
            asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        """Drop the slowest until the rest has room. An answer that is alone has it always."""
        self._looking = False
        most, kept = self.limits.unread_bytes, {each: each.kept() for each in self._full}
        total = sum(kept.values())
        if total <= most:
            return
        for outbox in sorted(kept, key=Outbox.pace)[:-1]:
            outbox.drop("room")
            total -= kept[outbox]
            if total <= most:
                break


class Outbox:
    """A connection's transport, which knows what its client has not taken yet.

    What is written when the client has gone is forgotten: asyncio's transports do so by themselves,
    uvloop's raise until the protocol has been told.
    """

    def __init__(self, transport: asyncio.Transport, unread: Unread) -> None:
        self._transport = transport
        self._unread = unread
        self._written = 0
        self._held = 0  # bytes of an answer that waits until the transport has room for it
        self._due = 0  # how much must be taken when it is looked at next
        self._timer: asyncio.TimerHandle | None = None
        self._full_since: float | None = None
        self._taken_before = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """As a transport's."""
        if not self._transport.is_closing():
            self._written += len(data)
            self._transport.write(data)

    def kept(self) -> int:
        """Bytes that this process keeps for the client."""
        return self._transport.get_write_buffer_size() + self._held

    def pace(self) -> tuple[bool, float]:
        """How fast it is taken, to be compared: bytes a second, the youngest last."""
        now = asyncio.get_running_loop().time()
        seconds = now - self._full_since if self._full_since is not None else 0.0
        if seconds < _YOUNG:
            return True, -seconds
        return False, (self._taken() - self._taken_before) / seconds

    @contextmanager
    def holding(self, message: Mapping[str, Any]) -> Iterator[None]:
        """While this ASGI message waits for the transport, count the answer that it is part of."""
        if self._full_since is None:  # it goes into the transport at once
            yield
            return
        count = _bytes_of(message)
        self._held += count
        self._unread.look_soon()
        try:
            yield
        finally:
            self._held -= count

    def filled(self) -> None:
        """The transport has more than it wants: nothing more is written for now."""
        self._full_since, self._taken_before = asyncio.get_running_loop().time(), self._taken()
        self._unread.add(self)
        self.watch()

    def emptied(self) -> None:
        """The transport takes more again."""
        self._full_since = None
        self._unread.discard(self)

    def watch(self) -> None:
        """See to it that what is there now is taken at the least pace."""
        left = self._transport.get_write_buffer_size()
        if left and self._timer is None:
            limits = self._unread.limits
            self._due = self._taken() + min(left, limits.sending_bytes)
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(limits.sending_seconds, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._taken() < self._due:
            self.drop("pace")
        else:
            self.watch()

    def _taken(self) -> int:
        """Bytes that have left this process."""
        return self._written - self._transport.get_write_buffer_size()

    def drop(self, reason: str) -> None:
        """End the connection with what is still to be taken."""
        logs.event("dropped", reason=reason, bytes=self.kept())
        self._unread.metrics.dropped.labels(reason).inc()
        self.end()
        # Reset: what the system keeps goes, too, and the client can't take half for the whole.
        connection = self._transport.get_extra_info("socket")
        with suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        self._transport.abort()

    def end(self) -> None:
        """The connection is at its end: nothing is watched any more."""
        self._unread.discard(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _bytes_of(message: Mapping[str, Any]) -> int:
    """Of the body, which is there already when the headers are sent."""
    if message["type"] == "http.response.body":
        return len(message.get("body", b""))
    return next((int(v) for name, v in message["headers"] if name == b"content-length"), 0)
