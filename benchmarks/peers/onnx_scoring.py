"""The lecture's network in ONNX Runtime, scoring when asked to: the peer of scoring.py.

Needs onnx, onnxruntime and NumPy, and nothing of tidegate. The graph is the one that a user would
export: Gather, one GRU, LSTM or RNN operator, Gemm.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from processes import serve

OPSET = 17


def build(cell: str, weights: dict[str, Any]) -> onnx.ModelProto:
    """ids [batch, time] int64 to logits [batch, 1].

    ONNX orders a GRU's gates update, reset, candidate, and its update gate is the share of the
    OLD state; an LSTM's are input, output, forget, candidate. Weights are transposed.
    """
    hidden = len(weights["recurrent.recurrent_kernel"])

    def gates(name: str) -> list[Any]:
        values = weights[name]
        parts = np.split(values, values.shape[-1] // hidden, axis=-1)
        if cell.startswith("gru"):
            return [-parts[0], parts[1], parts[2]]
        if cell == "lstm":
            return [parts[0], parts[3], parts[1], parts[2]]
        return parts

    bias = np.concatenate(gates("recurrent.bias"))
    if cell == "gru_after":
        recurrent_bias = np.concatenate(gates("recurrent.recurrent_bias"))
    else:
        recurrent_bias = np.zeros_like(bias)
    tensors = {
        "embedding": weights["embedding.weight"],
        "W": np.concatenate([part.T for part in gates("recurrent.kernel")])[None],
        "R": np.concatenate([part.T for part in gates("recurrent.recurrent_kernel")])[None],
        "B": np.concatenate([bias, recurrent_bias])[None],
        "output": weights["output.kernel"],
        "output_bias": weights["output.bias"],
        "first": np.array([0], np.int64),
    }
    operator = {"gru_after": "GRU", "gru_before": "GRU", "lstm": "LSTM", "rnn": "RNN"}[cell]
    options: dict[str, Any] = {"hidden_size": hidden}
    if operator == "GRU":
        options["linear_before_reset"] = int(cell == "gru_after")
    nodes = [
        helper.make_node("Gather", ["embedding", "ids"], ["vectors"]),
        helper.make_node("Transpose", ["vectors"], ["steps"], perm=[1, 0, 2]),
        helper.make_node(operator, ["steps", "W", "R", "B"], ["", "last"], **options),
        helper.make_node("Squeeze", ["last", "first"], ["state"]),
        helper.make_node("Gemm", ["state", "output", "output_bias"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "lecture",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "time"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 1])],
        [
            numpy_helper.from_array(np.ascontiguousarray(value), name)
            for name, value in tensors.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = 8  # old enough for every runtime
    onnx.checker.check_model(model)
    return model


class Scorer:
    """The session, and what can be asked of it."""

    def __init__(self, options: argparse.Namespace) -> None:
        with np.load(options.data, allow_pickle=False) as file:
            data = dict(file)
        self.ids = data["ids"].astype(np.int64)
        weights = {
            name.removeprefix("weight/"): values
            for name, values in data.items()
            if name.startswith("weight/")
        }
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = options.threads
        settings.inter_op_num_threads = 1
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        settings.add_session_config_entry("session.set_denormal_as_zero", "1")
        model = build(options.cell, weights).SerializeToString()
        self.session = onnxruntime.InferenceSession(
            model, settings, providers=["CPUExecutionProvider"]
        )

    def handle(self, request: dict[str, Any]) -> dict[str, Any]:
        actions: dict[str, Any] = {"about": self.about, "score": self.score, "one": self.one}
        answer: dict[str, Any] = actions[request.pop("do")](**request)
        return answer

    def about(self) -> dict[str, Any]:
        return {"versions": {"onnxruntime": onnxruntime.__version__, "onnx": onnx.__version__}}

    def _logits(self, ids: Any) -> Any:
        return self.session.run(None, {"ids": ids})[0][:, 0]

    def score(self, batch_size: int, check: bool = False) -> dict[str, Any]:
        """All texts; every one has the full length, so the order makes no difference."""
        begun = time.perf_counter()
        logits = np.concatenate(
            [
                self._logits(self.ids[start : start + batch_size])
                for start in range(0, len(self.ids), batch_size)
            ]
        )
        seconds = time.perf_counter() - begun
        return {"seconds": seconds, "logits": logits.tolist() if check else []}

    def one(self, row: int, calls: int) -> dict[str, Any]:
        """One text again and again: seconds of each call."""
        ids = self.ids[row : row + 1]
        seconds = []
        for _ in range(calls):
            begun = time.perf_counter()
            self._logits(ids)
            seconds.append(time.perf_counter() - begun)
        return {"seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", help=".npz that scoring.py wrote")
    parser.add_argument("--cell", choices=("gru_after", "gru_before", "lstm", "rnn"), required=True)
    parser.add_argument("--threads", type=int, required=True)
    serve(Scorer(parser.parse_args()).handle)


if __name__ == "__main__":
    main()
