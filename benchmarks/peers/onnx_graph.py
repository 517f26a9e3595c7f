"""The lecture's network as an ONNX graph, for the peers of scoring.py that read one.

It is the one that a user would export: Gather, one GRU, LSTM or RNN operator, Gemm.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

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
