"""The routes: each reads its form, asks the library, and writes JSON."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import pydantic_core
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

import tidegate
from tidegate import answers, page
from tidegate.errors import DataError, TidegateError
from tidegate.explain import explain as explain_text
from tidegate.server import bodies, files, schema
from tidegate.server.failures import CODES, Failure, error_body
from tidegate.server.guard import Application, Guard
from tidegate.server.lingering import LingeringResponse
from tidegate.server.metrics import CONTENT_TYPE, Metrics
from tidegate.server.models import Models, ServedModel
from tidegate.server.scoring import Explainer, Scorer
from tidegate.server.settings import Limits, Settings
from tidegate.subwords import JsonTokenizer
from tidegate.trace import cell_terms, trace_layers

if TYPE_CHECKING:
    from tidegate.estimator import TextClassifier

_NO_PATH = (
    "there is no such path; POST texts to /v1/predict or /v1/explain; /docs tells of all requests"
)


@dataclass(frozen=True)
class Parts:
    """What the routes share."""

    settings: Settings
    models: Models
    metrics: Metrics
    scorer: Scorer
    explainer: Explainer


def create(
    settings: Settings, models: Models, metrics: Metrics, hosts: frozenset[str] | None
) -> Application:
    """The application of one worker; it scores from its start-up to its shutdown.

    hosts: the names that it answers to (see ``hosts``), None for any.
    """
    limits = settings.limits
    parts = Parts(
        settings,
        models,
        metrics,
        Scorer(settings.batch, limits.waiting_texts, limits.scoring_seconds, metrics),
        Explainer(limits.explanations, limits.scoring_seconds, metrics),
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        parts.scorer.start()
        yield
        parts.explainer.stop()
        parts.scorer.stop()

    app = FastAPI(
        title="tidegate",
        version=tidegate.__version__,
        description="Classifies texts, and explains why.",
        lifespan=lifespan,
        openapi_url=None,  # see ``schema``; FastAPI's pages load scripts from elsewhere
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    _add_api(app, parts)
    _add_operations(app, parts)
    files.add_page(app, page.FOLDER)
    app.add_exception_handler(HTTPException, _failed)
    app.add_exception_handler(Exception, _broken)
    schema.finish(app, limits, guarded=settings.token is not None)
    paths = [route.path for route in app.router.routes if hasattr(route, "path")]
    return Guard(
        cast(Application, app),
        paths=paths,
        hosts=hosts,
        token=settings.token,
        held=bodies.HeldBytes(limits.held_bytes),
        metrics=metrics,
        quiet=settings.quiet,
    )


def _add_api(app: FastAPI, parts: Parts) -> None:
    limits = parts.settings.limits

    async def predict(request: Request) -> Response:
        """The label of each text and its probability, in order."""
        form = await bodies.read(request, bodies.PredictRequest, limits)
        bodies.check_texts(form.texts, limits.request_texts, limits)
        model = _model(parts, request, form, len(form.texts))
        results = await parts.scorer.predict(model.classifier, form.texts, request.receive)
        return _json({"model": model.name, "results": results})

    async def explain(request: Request) -> Response:
        """Each text's words with what they contribute to its label, in order."""
        form = await bodies.read(request, bodies.ExplainRequest, limits)
        bodies.check_texts(form.texts, limits.explained_texts, limits)
        model = _model(parts, request, form, len(form.texts))
        one = partial(_explained, model, form, limits)
        steps: list[Callable[[], Any]] = [partial(one, place) for place in range(len(form.texts))]
        results = await _computed(parts, request, steps)
        return _joined(model.name, "results", results)

    async def trace(request: Request) -> Response:
        """Every gate and state of every recurrent layer at every token of a text."""
        form = await bodies.read(request, bodies.TraceRequest, limits)
        bodies.check_texts([form.text], 1, limits)
        model = _model(parts, request, form, 1)
        step = partial(_traced, model, form.text, limits.traced_numbers)
        (layers,) = await _computed(parts, request, [step])
        return _joined(model.name, "layers", layers)

    async def cell(request: Request) -> Response:
        """The equations of one unit at one step of a text, with their numbers filled in."""
        form = await bodies.read(request, bodies.CellRequest, limits)
        bodies.check_texts([form.text], 1, limits)
        model = _model(parts, request, form, 1)
        (terms,) = await _computed(parts, request, [partial(_terms, model, form)])
        return _json({"model": model.name, "terms": terms})

    async def list_models() -> Response:
        """The models that are served; the first is the one that requests get without a name."""
        return _json({"models": [model.facts for model in parts.models]})

    schema.post(app, "/v1/predict", predict, bodies.PredictRequest)
    schema.post(app, "/v1/explain", explain, bodies.ExplainRequest)
    schema.post(app, "/v1/trace", trace, bodies.TraceRequest)
    schema.post(app, "/v1/cell", cell, bodies.CellRequest)
    schema.get(app, "/v1/models", list_models)


def _add_operations(app: FastAPI, parts: Parts) -> None:
    async def healthz() -> Response:
        """Whether this process answers at all."""
        return _json({"status": "ok"})

    async def readyz() -> Response:
        """Whether texts that are sent now will be scored."""
        if not parts.scorer.alive():
            raise Failure(503, "not_ready", "the scorer is not at work")
        return _json({"status": "ready"})

    async def metrics() -> Response:
        """Numbers for Prometheus."""
        return Response(parts.metrics.text(), media_type=CONTENT_TYPE)

    schema.get(app, "/healthz", healthz)
    schema.get(app, "/readyz", readyz)
    schema.get(app, "/metrics", metrics, media_type="text/plain")


def _model(parts: Parts, request: Request, form: Any, texts: int) -> ServedModel:
    model = parts.models.get(form.model)
    noted = request.state.noted
    noted.model, noted.texts = model.name, texts
    return model


async def _computed(parts: Parts, request: Request, steps: list[Callable[[], Any]]) -> list[Any]:
    """What the steps give, computed beside the predictions. What the library refuses is a 422."""
    try:
        return await parts.explainer.run(steps, request.receive)
    except TidegateError as error:
        raise Failure(422, "invalid_request", str(error)) from None


def _explained(
    model: ServedModel, form: bodies.ExplainRequest, limits: Limits, place: int
) -> bytes:
    """The explanation as JSON: a request's pieces, for the reason that ``_traced`` gives."""
    classifier, text = model.classifier, form.texts[place]
    _check_explained(classifier, text, place, limits)
    given: dict[str, Any] = {} if form.method is None else {"method": form.method}
    if form.label is not None:
        given["label"] = answers.named_label(classifier, answers.label_text(form.label))
    try:
        return pydantic_core.to_json(explain_text(classifier, text, **given).to_json())
    except DataError as error:
        which = f"texts.{place}: " if len(form.texts) > 1 else ""
        raise Failure(422, "invalid_request", f"{which}{error}") from None


def _check_explained(classifier: TextClassifier, text: str, place: int, limits: Limits) -> None:
    """Failure if it would take too long: the text is read once more for each of its tokens.

    Each of them, read or not: what is read of a text that ends there is other words each time.
    """
    tokenizer, most = classifier.tokenizer_, limits.explained_tokens
    found = len(tokenizer.tokens(text))
    if found > most:
        raise Failure(
            422,
            "text_too_long",
            f"text {place} has {found:,} tokens; at most {most:,} are explained",
        )
    # n-grams read all of a text; of one's own words, each beginning costs only what it adds.
    if classifier.ngrams_ is not None and isinstance(tokenizer, JsonTokenizer):
        read = found
    else:
        rows = tokenizer.read([text], classifier.model_.config.max_length).rows
        read = len(rows.token_ids)
    if found * read > limits.explained_reads:
        raise Failure(
            422,
            "text_too_long",
            f"text {place} has {found:,} tokens, of which {read:,} are read for each of them; at "
            f"most {limits.explained_reads:,} are read to explain a text",
        )


def _traced(model: ServedModel, text: str, most: int) -> list[bytes]:
    """Layers as JSON, made piece by piece: one long piece would keep the interpreter to itself."""
    config = model.classifier.model_.config
    rows = {"gru": 4, "lstm": 6, "rnn": 1}[config.cell]
    ways = 2 if config.bidirectional else 1
    numbers = config.max_length * config.hidden_size * config.layers * ways * rows
    read = len(model.classifier.tokenizer_.token_strings(text, config.max_length))
    if numbers > most and numbers // config.max_length * read > most:
        raise Failure(422, "too_large", f"the trace would have more than {most:,} numbers")
    layers = []
    for one in trace_layers(model.classifier, text):
        layers.append(b"{" + b",".join(_members(one.to_json())) + b"}")
    return layers


def _members(found: dict[str, Any]) -> Iterator[bytes]:
    for name, value in found.items():
        key = pydantic_core.to_json(name)
        if isinstance(value, dict):
            yield key + b":{" + b",".join(_members(value)) + b"}"
        else:
            yield key + b":" + pydantic_core.to_json(value)


def _terms(model: ServedModel, form: bodies.CellRequest) -> dict[str, Any]:
    return cell_terms(
        model.classifier,
        form.text,
        layer=form.layer,
        direction=form.direction,
        step=form.step,
        unit=form.unit,
    ).to_json()


def _joined(model: str, name: str, pieces: list[bytes]) -> Response:
    """An answer whose list ``name`` is JSON already."""
    begin = b'{"model":' + pydantic_core.to_json(model) + b',"' + name.encode() + b'":['
    return Response(begin + b",".join(pieces) + b"]}", media_type="application/json")


def _json(value: Any) -> Response:
    return Response(pydantic_core.to_json(value), media_type="application/json")


async def _failed(_: Request, error: Exception) -> Response:
    if isinstance(error, Failure):
        status, code, message = error.status_code, error.code, error.message
    elif isinstance(error, HTTPException):  # the framework's own
        status = error.status_code
        code, message = CODES.get(status, "error"), str(error.detail).lower()
        if status == 404:
            message = _NO_PATH
    else:
        raise error
    kind = LingeringResponse if status == 413 else Response
    headers = getattr(error, "headers", None)
    return kind(error_body(code, message), status, headers, media_type="application/json")


async def _broken(_: Request, error: Exception) -> Response:
    """A bug. Where it came from is logged; see ``guard``."""
    message = "something went wrong here; the log of the server says where"
    return Response(error_body("internal_error", message), 500, media_type="application/json")
