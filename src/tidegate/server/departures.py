"""Clients that leave before they are answered: nobody should work for them any more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeVar

from tidegate.server.failures import Failure

Answer = TypeVar("Answer")
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_SOON = 0.05  # seconds: what is answered sooner is not worth a task that looks after its client


async def answer(work: asyncio.Future[Answer], receive: Receive, seconds: float) -> Answer:
    """What comes of the work. receive: of a request whose body has been read.

    Failure if there is nothing after so many seconds, or if the client has left; to end the work is
    then the caller's.
    """
    soon = min(_SOON, seconds)
    await asyncio.wait({work}, timeout=soon)
    if not work.done():
        leaving = asyncio.ensure_future(_left(receive))
        either: set[asyncio.Future[Any]] = {work, leaving}
        try:
            await asyncio.wait(either, timeout=seconds - soon, return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
        if not work.done() and leaving.done():
            leaving.result()  # not even that can be told, if it raises
            # Nobody reads it; 499 is what proxies write into their logs for it.
            raise Failure(499, "client_left", "the client left before it was answered")
    if not work.done():
        raise Failure(
            503,
            "timed_out",
            f"not answered within {seconds:g} seconds; send fewer texts at once, or later",
            {"Retry-After": "1"},
        )
    return work.result()


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
