"""JSON schemas of what is answered: docs/serving.md in the words of OpenAPI."""

from __future__ import annotations

from typing import Any

_TEXT = {"type": "string"}
_NUMBER = {"type": "number"}
_COUNT = {"type": "integer", "minimum": 0}
_LABEL = {"type": ["string", "number", "boolean"]}
_SHARE = {"type": "number", "minimum": 0, "maximum": 1}
_MATRIX = {"type": "array", "items": {"type": "array", "items": _NUMBER}}


def _object(needed: dict[str, Any], **optional: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {**needed, **optional},
        "required": list(needed),
    }


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


_PREDICTION = _object(
    {
        "probability": _SHARE,
        "probabilities": {"type": "object", "additionalProperties": _SHARE},
        "words": _COUNT,
    },
    label=_LABEL,
    labels=_list(_LABEL),
)
_WORD = _object(
    {
        "token": _TEXT,
        "begin": _COUNT,
        "end": _COUNT,
        "contribution": _NUMBER,
        "probability_after": _SHARE,
    }
)
_EXPLANATION = _object(
    {
        "text": _TEXT,
        "label": _LABEL,
        "probability": _SHARE,
        "method": _TEXT,
        "words": _list(_WORD),
    }
)
_LAYER = _object(
    {
        "layer": _COUNT,
        "direction": _TEXT,
        "cell": _TEXT,
        "reset": {"type": ["string", "null"]},
        "tokens": _list(_TEXT),
        "gates": {"type": "object", "additionalProperties": _MATRIX},
        "states": _MATRIX,
    },
    cells=_MATRIX,
)
_TERMS = _object(
    {
        "layer": _COUNT,
        "direction": _TEXT,
        "step": _COUNT,
        "unit": _COUNT,
        "token": _TEXT,
        "cell": _TEXT,
        "reset": {"type": ["string", "null"]},
        "previous": _NUMBER,
        "gates": _list({"type": "object"}),
        "state": _NUMBER,
    },
    cell_before=_NUMBER,
    cell_after=_NUMBER,
)
_MODEL = _object(
    {
        "name": _TEXT,
        "cell": _TEXT,
        "reset": {"type": ["string", "null"]},
        "labels": _list(_LABEL),
        "targets": {"enum": ["one", "many"]},
        "layers": _COUNT,
        "bidirectional": {"type": "boolean"},
        "pooling": _TEXT,
        "hidden_size": _COUNT,
        "embedding_size": _COUNT,
        "max_length": _COUNT,
        "tokenizer": _TEXT,
        "words": _COUNT,
        "ngrams": _COUNT,
        "sha256": _TEXT,
    }
)

SCHEMAS: dict[str, Any] = {
    "Error": _object({"error": _object({"code": _TEXT, "message": _TEXT})}),
    "Prediction": _PREDICTION,
    "Explanation": _EXPLANATION,
    "Layer": _LAYER,
    "Terms": _TERMS,
    "Model": _MODEL,
}


def _of(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


BY_PATH: dict[str, dict[str, Any]] = {
    "/v1/predict": _object({"model": _TEXT, "results": _list(_of("Prediction"))}),
    "/v1/explain": _object({"model": _TEXT, "results": _list(_of("Explanation"))}),
    "/v1/trace": _object({"model": _TEXT, "layers": _list(_of("Layer"))}),
    "/v1/cell": _object({"model": _TEXT, "terms": _of("Terms")}),
    "/v1/models": _object({"models": _list(_of("Model"))}),
    "/healthz": _object({"status": _TEXT}),
    "/readyz": _object({"status": _TEXT}),
}
