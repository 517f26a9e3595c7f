"""The page's files, read once: nothing that a request says becomes a path on the disk."""

from __future__ import annotations

import hashlib
import mimetypes
from pathlib import Path

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

_TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".svg": "image/svg+xml"}


def add_page(app: FastAPI, folder: Path) -> None:
    """Routes to every file below ``folder``; index.html is / itself."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.startswith("."):
            name = path.relative_to(folder).as_posix()
            _add(app, "/" if name == "index.html" else f"/{name}", path)


def _add(app: FastAPI, address: str, path: Path) -> None:
    content = path.read_bytes()
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    kind = _TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0]
    # no-cache: asked for each time, and answered in one line while it is the same.
    headers = {"ETag": tag, "Cache-Control": "no-cache"}

    async def file(request: Request) -> Response:
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers, media_type=kind or "application/octet-stream")

    app.router.add_route(address, file, methods=["GET", "HEAD"], include_in_schema=False)
