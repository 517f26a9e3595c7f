"""The lecture's job in the study, an epoch or a part of one on request. lecture_epoch.py starts it.

The study is a program for exactly this network, kept outside of this repository: a GRU with reset
after, sizes as constants in the code, float32, AVX-512, two threads pinned to two cores. It has the
same techniques as tidegate and serves nothing but to show what can be reached. It is a library with
the functions called below. It needs NumPy, and nothing of tidegate.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from lecture import answer, load, parser, update_gate_turned

VOCABULARY, SIZE, LENGTH, BATCH, THREADS = 10_000, 128, 200, 64, 2
DENSE_ADAM = 0  # every word in every step, as tidegate does at this vocabulary
TIMES = 64  # numbers that it reports of each epoch, by part
ROWS = 32  # texts that it scores together


class Study:
    """The network and its training, with Adam as Keras defines it."""

    def __init__(self, library: str, weights: dict[str, Any]) -> None:
        self.library = ctypes.CDLL(library)
        self.library.epoch.restype = self.library.infer.restype = ctypes.c_double
        turned = update_gate_turned("gru_after", weights)
        self.initial = [
            np.ascontiguousarray(turned[name], np.float32)
            for name in (
                *("embedding.weight", "recurrent.kernel", "recurrent.recurrent_kernel"),
                *("recurrent.bias", "recurrent.recurrent_bias", "output.kernel"),
            )
        ]
        self.output_bias = float(turned["output.bias"][0])
        shapes = [values.shape for values in self.initial[:3]]
        if shapes != [(VOCABULARY, SIZE), (SIZE, 3 * SIZE), (SIZE, 3 * SIZE)]:
            raise SystemExit(f"the study is for the lecture's sizes only, not {shapes}")
        self.library.init()
        self.reset()

    def about(self) -> dict[str, Any]:
        return {"versions": {}, "threads": THREADS, "precision": "float32", "isa": "avx512"}

    def reset(self) -> None:
        bias = ctypes.c_float(self.output_bias)
        self.library.set_params(*map(pointer, self.initial), bias)

    def _epoch(self, ids: Any, targets: Any) -> float:
        order = np.arange(len(ids), dtype=np.int32)
        times = np.zeros(TIMES)
        loss = self.library.epoch(
            *(pointer(ids), pointer(targets), pointer(order), len(ids)),
            *(DENSE_ADAM, 1, pointer(times)),
        )
        return float(loss)

    def fit(self, ids: Any, targets: Any) -> tuple[float, None]:
        return self._epoch(ids, targets), None

    def curve(self, ids: Any, targets: Any) -> list[float]:
        starts = range(0, len(ids), BATCH)
        return [self._epoch(ids[i : i + BATCH], targets[i : i + BATCH]) for i in starts]

    def predict(self, ids: Any) -> Any:
        found, times = np.empty(len(ids), np.float32), np.zeros(TIMES)
        self.library.infer(pointer(ids), len(ids), pointer(found), ROWS, pointer(times))
        return found


def pointer(values: Any) -> ctypes.c_void_p:
    return ctypes.c_void_p(values.ctypes.data)


def main() -> None:
    options_of = parser(__doc__, ("gru_after",))
    options_of.add_argument("--library", required=True, help="the study, built")
    options = options_of.parse_args()
    if (options.batch_size, options.threads) != (BATCH, THREADS):
        raise SystemExit(f"the study has batches of {BATCH} and {THREADS} threads, and no others")
    data, weights = load(options.data)
    for name in ("ids", "test_ids"):
        data[name] = np.ascontiguousarray(data[name], np.int32)
        if data[name].shape[1] != LENGTH:
            raise SystemExit(f"the study is for texts of {LENGTH} tokens only")
    answer(Study(options.library, weights), data, options)


if __name__ == "__main__":
    main()
