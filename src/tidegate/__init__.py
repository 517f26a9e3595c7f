"""tidegate trains gated recurrent text classifiers on an ordinary CPU.

from tidegate import TextClassifier

classifier = TextClassifier(cell="gru").fit(texts, labels)
classifier.predict_proba(["what a film"])
classifier.save("model.safetensors")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tidegate.encoder import GRUEncoder
    from tidegate.errors import TidegateError
    from tidegate.estimator import TextClassifier

__version__ = "0.1.0"

__all__ = ["GRUEncoder", "TextClassifier", "TidegateError", "__version__"]

# Where a public name lives: looked up when it is first used, so that importing stays cheap.
_HOMES = {
    "GRUEncoder": "tidegate.encoder",
    "TextClassifier": "tidegate.estimator",
    "TidegateError": "tidegate.errors",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'tidegate' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
