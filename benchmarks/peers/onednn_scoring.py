"""The lecture's network on oneDNN's recurrent primitive, scoring when asked: a peer of scoring.py.

Needs NumPy, oneDNN's library and headers (`pip install onednn onednn-devel numpy`) and a C++
compiler, and nothing of tidegate. The driver, onednn_scoring.cpp, is built in a temporary folder.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scorer import KINDS, answer, load, parser

SOURCE = Path(__file__).with_suffix(".cpp")
TEXT = 256  # characters of a description
PRECISIONS = ("float32", "bfloat16")


def build(folder: Path) -> ctypes.CDLL:
    """Compile the driver against the oneDNN of this Python's environment."""
    root = Path(sys.prefix)
    driver = folder / "onednn_scoring.so"
    command = [
        *(os.environ.get("CXX", "c++"), "-std=c++20", "-O2", "-shared", "-fPIC", "-pthread"),
        *(str(SOURCE), "-o", str(driver), f"-I{root / 'include'}", f"-L{root / 'lib'}", "-ldnnl"),
        # Of the older kind, which serves the libraries that oneDNN itself needs, too.
        f"-Wl,--disable-new-dtags,-rpath,{root / 'lib'},--allow-shlib-undefined",
    ]
    subprocess.run(command, check=True, stdout=sys.stderr)
    return ctypes.CDLL(str(driver))


def use_cpu(threads: int) -> None:
    """The build on PyPI has SYCL's CPU runtime, which finds its device by this variable."""
    device = Path(sys.prefix) / "lib" / "libintelocl.so"
    if device.exists():
        os.environ.setdefault("OCL_ICD_FILENAMES", str(device))
    os.environ["DPCPP_CPU_NUM_CUS"] = os.environ["OMP_NUM_THREADS"] = str(threads)
    if hasattr(os, "sched_setaffinity"):  # its runtime's own threads obey nothing else
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def driver_weights(cell: str, weights: dict[str, Any]) -> list[Any]:
    """Embedding, [in][gate][unit] kernels, biases and output as oneDNN orders them.

    Its update gate is the share of the OLD state. A GRU that resets after the product has a fourth
    bias, the candidate's recurrent one; the other gates' two biases are added up.
    """
    hidden = len(weights["recurrent.recurrent_kernel"])
    turned = {name: values.copy() for name, values in weights.items()}
    if cell.startswith("gru"):
        for name, values in turned.items():
            if name.startswith("recurrent."):
                values[..., :hidden] *= -1
    bias = turned["recurrent.bias"]
    if cell == "gru_after":
        second = turned["recurrent.recurrent_bias"]
        both = bias[: 2 * hidden] + second[: 2 * hidden]
        bias = np.concatenate([both, bias[2 * hidden :], second[2 * hidden :]])
    found = [
        *(turned["embedding.weight"], turned["recurrent.kernel"]),
        *(turned["recurrent.recurrent_kernel"], bias, turned["output.kernel"]),
    ]
    return [np.ascontiguousarray(values, np.float32) for values in found]


class OneDnn:
    """The driver's networks, one for each precision that runs."""

    def __init__(
        self, driver: ctypes.CDLL, cell: str, weights: dict[str, Any], length: int, threads: int
    ) -> None:
        self.driver, self.threads = driver, threads
        driver.scorer_error.restype = ctypes.c_char_p
        driver.scorer_flush_denormals()
        arrays = driver_weights(cell, weights)
        vocabulary, embedding = arrays[0].shape
        self.networks: dict[str, Any] = {}
        self.implementations: dict[str, str] = {}
        self.refused: dict[str, str] = {}
        for precision in PRECISIONS:
            made = ctypes.c_void_p()
            bfloat16 = int(precision == "bfloat16")
            sizes = (threads, length, vocabulary, embedding, len(arrays[2]))
            try:
                self._check(
                    driver.scorer_make(
                        *(ctypes.byref(made), KINDS.index(cell), bfloat16, *sizes),
                        *map(pointer, arrays),
                        ctypes.c_float(float(weights["output.bias"][0])),
                    )
                )
                self.networks[precision] = made
                self.prepare(64, precision)
            except RuntimeError as error:
                self.networks.pop(precision, None)
                self.refused[precision] = str(error)
        if not self.networks:
            raise SystemExit(f"oneDNN has no such network here: {self.refused}")
        self.precisions = tuple(self.networks)

    def _check(self, status: int) -> None:
        if status:
            raise RuntimeError(self.driver.scorer_error().decode())

    def about(self) -> dict[str, Any]:
        version = ctypes.create_string_buffer(TEXT)
        self.driver.scorer_version(version, TEXT)
        return {
            "versions": {"onednn": version.value.decode()},
            "threads": self.threads,
            "implementations": self.implementations,
            **({"refused": self.refused} if self.refused else {}),
        }

    def prepare(self, texts: int, precision: str) -> None:
        name = ctypes.create_string_buffer(TEXT)
        self._check(self.driver.scorer_prepare(self.networks[precision], texts, name, TEXT))
        self.implementations[precision] = name.value.decode()

    def logits(self, batches: Sequence[Any], precision: str) -> list[Any]:
        return [self.one(ids, precision) for ids in batches]

    def one(self, ids: Any, precision: str) -> Any:
        found = np.empty(len(ids), np.float32)
        network = self.networks[precision]
        self._check(self.driver.scorer_score(network, pointer(ids), len(ids), pointer(found)))
        return found


def pointer(values: Any) -> ctypes.c_void_p:
    return ctypes.c_void_p(values.ctypes.data)


def main() -> None:
    options = parser(__doc__).parse_args()
    ids, weights = load(options.data)
    use_cpu(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        driver = build(Path(folder))
        answer(OneDnn(driver, options.cell, weights, ids.shape[1], options.threads), ids)


if __name__ == "__main__":
    main()
