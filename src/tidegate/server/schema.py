"""What /openapi.json says, and a page that shows it without a script."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pydantic_core
from fastapi import FastAPI
from pydantic import BaseModel
from starlette.responses import HTMLResponse, Response

from tidegate.server import replies

if TYPE_CHECKING:
    from tidegate.server.settings import Limits

_ERROR = {"$ref": "#/components/schemas/Error"}
_REASONS = {
    "400": "The body is not JSON.",
    "401": "The token is missing or wrong.",
    "404": "There is no such model.",
    "408": "The body did not arrive in time.",
    "413": "The body is too large.",
    "415": "The body's Content-Type is not application/json.",
    "421": "The Host header has a name that is not the server's.",
    "422": "The body is JSON, but not of the right form, or too much for one request.",
    "431": "The headers are too large.",
    "500": "A bug.",
    "503": "Too much is waiting, or it took too long; Retry-After says when to try again.",
}


def post(app: FastAPI, path: str, endpoint: Callable[..., Any], form: type[BaseModel]) -> None:
    """A route that reads this form itself, and is told in the document."""
    body = form.model_json_schema(ref_template="#/components/schemas/{model}")
    _add(
        app,
        path,
        endpoint,
        "POST",
        tuple(_REASONS),
        {"requestBody": {"required": True, "content": {"application/json": {"schema": body}}}},
    )


def get(
    app: FastAPI, path: str, endpoint: Callable[..., Any], media_type: str = "application/json"
) -> None:
    """A route without a body."""
    _add(app, path, endpoint, "GET", ("401", "421", "500", "503"), {}, media_type)


def _add(
    app: FastAPI,
    path: str,
    endpoint: Callable[..., Any],
    method: str,
    failures: tuple[str, ...],
    more: dict[str, Any],
    media_type: str = "application/json",
) -> None:
    answer = {"schema": {"type": "string"}}
    if path in replies.BY_PATH:
        answer = {"schema": replies.BY_PATH[path]}
    responses: dict[str, Any] = {
        "200": {"description": "The answer.", "content": {media_type: answer}}
    }
    for status in failures:
        responses[status] = {
            "description": _REASONS[status],
            "content": {"application/json": {"schema": _ERROR}},
        }
    app.add_api_route(
        path,
        endpoint,
        methods=[method],
        operation_id=path.rpartition("/")[2],
        response_class=Response,
        openapi_extra={**more, "responses": responses},
    )


def finish(app: FastAPI, limits: Limits, *, guarded: bool) -> None:
    """Put limits, errors and the token into the document, and add /docs."""
    document = app.openapi()
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas.update(replies.SCHEMAS)
    most = {"/v1/predict": limits.request_texts, "/v1/explain": limits.explained_texts}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            _finish_operation(operation, most.get(path, 1), limits)
            if guarded and path.startswith(("/v1/", "/metrics")):
                operation["security"] = [{"token": []}]
    if guarded:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    content = pydantic_core.to_json(document)
    page = HTMLResponse(_page(document)).body

    async def docs() -> Response:
        return HTMLResponse(page)

    async def openapi() -> Response:
        return Response(content, media_type="application/json")

    app.add_api_route("/openapi.json", openapi, methods=["GET"], include_in_schema=False)
    app.add_api_route("/docs", docs, methods=["GET"], include_in_schema=False)


def _finish_operation(operation: dict[str, Any], texts: int, limits: Limits) -> None:
    operation["summary"] = operation.pop("description", operation.get("summary", ""))
    if "requestBody" not in operation:
        return
    fields = operation["requestBody"]["content"]["application/json"]["schema"]["properties"]
    if "texts" in fields:
        fields["texts"]["maxItems"] = texts
        fields["texts"]["items"]["maxLength"] = limits.characters
    else:
        fields["text"]["maxLength"] = limits.characters


def _page(document: dict[str, Any]) -> str:
    parts = []
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            parts.append(f"<h2>{method.upper()} {html.escape(path)}</h2>")
            parts.append(f"<p>{html.escape(operation['summary'])}</p>")
            if "requestBody" in operation:
                body = operation["requestBody"]["content"]["application/json"]["schema"]
                parts.append(_table(body))
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<title>tidegate: requests</title><h1>Requests</h1>"
        '<p>The whole document: <a href="/openapi.json">/openapi.json</a>.</p>' + "".join(parts)
    )


def _table(body: dict[str, Any]) -> str:
    rows = []
    for name, field in body["properties"].items():
        kinds = [kind.get("type", "") for kind in field.get("anyOf", [field])]
        choices = [
            str(choice) for kind in field.get("anyOf", [field]) for choice in kind.get("enum", [])
        ]
        needed = "needed" if name in body.get("required", ()) else ""
        cells = (
            name,
            " or ".join(choices or [kind for kind in kinds if kind != "null"]),
            needed,
            field.get("description", ""),
        )
        rows.append("".join(f"<td>{html.escape(cell)}</td>" for cell in cells))
    return "<table><tr>" + "</tr><tr>".join(rows) + "</tr></table>"
