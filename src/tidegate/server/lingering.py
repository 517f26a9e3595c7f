"""An answer to a client that is still sending what nobody wants."""

from __future__ import annotations

import asyncio
import contextlib

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

_SECONDS = 1.0


class LingeringResponse(Response):
    """Takes and forgets what still comes for a moment before the connection is closed.

    A connection that is closed while something unread lies in it is reset, and many clients would
    then report that and not the answer.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer; linger; end."""
        headers = {"type": "http.response.start", "status": self.status_code}
        await send({**headers, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(_drained(receive), _SECONDS)
        await send({"type": "http.response.body", "body": b""})


async def _drained(receive: Receive) -> None:
    while (await receive()).get("more_body"):
        pass
