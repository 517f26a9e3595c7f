"""The lecture's network in ONNX Runtime, scoring when asked to: a peer of scoring.py.

Needs onnx, onnxruntime and NumPy, and nothing of tidegate. It has no bfloat16 operators on CPUs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx
import onnxruntime
from onnx_graph import build
from scorer import answer, load, parser


class OnnxRuntime:
    """The session: one for all batch sizes, which it takes as they come."""

    precisions = ("float32",)

    def __init__(self, cell: str, weights: dict[str, Any], threads: int) -> None:
        self.threads = threads
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = threads
        settings.inter_op_num_threads = 1
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        settings.add_session_config_entry("session.set_denormal_as_zero", "1")
        model = build(cell, weights).SerializeToString()
        self.session = onnxruntime.InferenceSession(
            model, settings, providers=["CPUExecutionProvider"]
        )

    def about(self) -> dict[str, Any]:
        return {
            "versions": {"onnxruntime": onnxruntime.__version__, "onnx": onnx.__version__},
            "intra_op_threads": self.threads,
        }

    def prepare(self, texts: int, precision: str) -> None:
        pass

    def logits(self, batches: Sequence[Any], precision: str) -> list[Any]:
        return [self.one(ids, precision) for ids in batches]

    def one(self, ids: Any, precision: str) -> Any:
        return self.session.run(None, {"ids": ids})[0][:, 0]


def main() -> None:
    options = parser(__doc__).parse_args()
    ids, weights = load(options.data)
    answer(OnnxRuntime(options.cell, weights, options.threads), ids)


if __name__ == "__main__":
    main()
