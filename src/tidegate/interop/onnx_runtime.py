"""ONNX Runtime as the other side of a proof, where it is installed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tidegate.errors import ConversionError
from tidegate.interop.network import Array


def version() -> str | None:
    """ONNX Runtime's version, or None without it."""
    try:
        import onnxruntime
    except ImportError:
        return None
    return str(onnxruntime.__version__)


def run(data: bytes, given: Mapping[str, Array]) -> dict[str, Array]:
    """The graph's outputs by name. ConversionError if ONNX Runtime refuses it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(
            data,
            options,
            providers=["CPUExecutionProvider"],
            enable_fallback=0,  # which prints, and tries the same again
        )
        names = [output.name for output in session.get_outputs()]
        outputs: Any = session.run(names, dict(given))
    except Exception as error:  # its errors have no base of their own
        reason = " ".join(str(error).split())[:200]
        raise ConversionError(f"ONNX Runtime can't run the graph ({reason})") from error
    return dict(zip(names, outputs, strict=True))
