"""The lecture's network in OpenVINO, scoring when asked to: a peer of scoring.py.

Needs openvino, onnx and NumPy, and nothing of tidegate. It reads the same ONNX graph as ONNX
Runtime, and compiles it for each batch size. Many texts are scored in as many streams as there are
threads, each on one thread, which is faster than one stream on all of them. One text is scored on
one thread or on all, whichever is faster when it is tried.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import openvino
from onnx_graph import build
from scorer import answer, load, parser

HINTS = {"float32": "f32", "bfloat16": "bf16"}
TRIED = 200  # calls, to choose between numbers of threads


class OpenVino:
    """The compiled models, by batch size and precision."""

    def __init__(self, cell: str, weights: dict[str, Any], length: int, threads: int) -> None:
        self.length, self.threads = length, threads
        self.core = openvino.Core()
        self.graph = build(cell, weights).SerializeToString()
        can = self.core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        self.precisions = tuple(name for name in HINTS if name == "float32" or "BF16" in can)
        self.many: dict[tuple[int, str], Any] = {}
        self.single: dict[str, Any] = {}
        self.threads_of_one: dict[str, int] = {}

    def about(self) -> dict[str, Any]:
        for precision in self.precisions:
            self.prepare(1, precision)
        return {
            "versions": {
                "openvino": openvino.__version__.partition("-")[0],
                "onnx": onnx.__version__,
            },
            "streams": self.threads,
            "threads": self.threads,
            "threads_of_one_text": self.threads_of_one,
        }

    def _compile(self, texts: int, precision: str, streams: int, threads: int) -> Any:
        model = self.core.read_model(self.graph)
        model.reshape([texts, self.length])
        settings = {
            "INFERENCE_PRECISION_HINT": HINTS[precision],
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": streams,
            "CPU_DENORMALS_OPTIMIZATION": True,
        }
        return self.core.compile_model(model, "CPU", settings)

    def prepare(self, texts: int, precision: str) -> None:
        key = texts, precision
        if key not in self.many:
            compiled = self._compile(texts, precision, self.threads, self.threads)
            queue = openvino.AsyncInferQueue(compiled, self.threads)
            queue.set_callback(keep)
            self.many[key] = queue
        if texts == 1 and precision not in self.single:
            self._choose(precision)

    def _choose(self, precision: str) -> None:
        """The request for one text, with the better number of threads."""
        best = float("inf")
        for threads in sorted({1, self.threads}):
            request = self._compile(1, precision, 1, threads).create_infer_request()
            ids = np.ones((1, self.length), np.int64)  # any word will do: all take as long
            seconds = []
            for _ in range(TRIED):
                begun = time.perf_counter()
                request.infer([ids])
                seconds.append(time.perf_counter() - begun)
            median = sorted(seconds)[TRIED // 2]
            if median < best:
                best, self.single[precision] = median, request
                self.threads_of_one[precision] = threads

    def logits(self, batches: Sequence[Any], precision: str) -> list[Any]:
        found: list[Any] = [None] * len(batches)
        used = {len(ids): self.many[len(ids), precision] for ids in batches}
        for i, ids in enumerate(batches):
            used[len(ids)].start_async([ids], (found, i))
        for queue in used.values():
            queue.wait_all()
        return found

    def one(self, ids: Any, precision: str) -> Any:
        return self.single[precision].infer([ids])[0][:, 0]


def keep(request: Any, place: tuple[list[Any], int]) -> None:
    """A batch is done: its logits go to their place."""
    found, i = place
    found[i] = request.get_output_tensor(0).data[:, 0].copy()


def main() -> None:
    options = parser(__doc__).parse_args()
    ids, weights = load(options.data)
    answer(OpenVino(options.cell, weights, ids.shape[1], options.threads), ids)


if __name__ == "__main__":
    main()
