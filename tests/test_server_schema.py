"""Requests made up from the server's own OpenAPI document: good, bad and odd ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import CHECKS
from schemathesis.generation import GenerationMode

from serving import Served, serving
from test_estimator import make, reviews
from tidegate import ops

# Which labels, words, layers and units there are, a document can't say: such requests may be
# refused though their form is right.
_BY_CONTENT = ("/v1/explain", "/v1/trace", "/v1/cell")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("schema")
    before = ops.threads()
    ops.set_threads(1)
    make(epochs=1).fit(*reviews(60)).save(folder / "model.safetensors")
    ops.set_threads(before)
    limits = {"characters": 200, "request_texts": 20, "explained_texts": 5}  # requests stay small
    with serving(folder / "log", [str(folder / "model.safetensors")], limits=limits) as server:
        yield server
        events = [line for line in server.logged() if line["event"] in ("error", "server")]
        assert not events, events


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_the_document_is_kept(served: Served, mode: GenerationMode) -> None:
    """Status, headers and body of each answer are as the document says, and none is a bug's."""
    document = schemathesis.openapi.from_url(f"http://127.0.0.1:{served.port}/openapi.json")
    tried = set()
    for found in document.get_all_operations():
        operation = found.ok()  # type: ignore[union-attr]
        if mode == GenerationMode.NEGATIVE and operation.method == "get":
            continue  # nothing in them can be wrong
        tried.add(operation.path)
        excluded: list[Any] = []
        if operation.path in _BY_CONTENT:
            excluded = [check for check in CHECKS.get_all() if "positive" in check.__name__]

        @settings(max_examples=10, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(generation_mode=mode))
        def check(case: schemathesis.Case[Any]) -> None:
            case.call_and_validate(excluded_checks=excluded)  # noqa: B023

        check()
    assert {"/v1/predict", "/v1/explain", "/v1/trace", "/v1/cell"} <= tried
