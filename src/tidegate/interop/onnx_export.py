"""From tidegate's network to an ONNX graph, written node by node.

``ids`` [batch, time] int64 go in; ``logits`` [batch, L] and ``probabilities`` [batch, classes] come
out. Where padding is left out, texts begin in the first column and zeros follow, because that is
what ``sequence_lens`` means; where it is read, it stands in front.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tidegate.interop import gates, onnx_statement
from tidegate.interop.network import Array, Stages
from tidegate.interop.onnx_graph import Graph, Node
from tidegate.interop.proof import read_ids
from tidegate.model import ModelConfig, TextModel
from tidegate.ops import RecurrentWeights

_OPERATORS = {"gru": "GRU", "lstm": "LSTM", "rnn": "RNN"}


class _Writer:
    """Nodes as they are added. A tensor is called by its name."""

    def __init__(self, model: TextModel) -> None:
        self.config, self.parameters = model.config, model.parameters
        self.nodes: list[Node] = []
        self.constants: dict[str, Array] = {}

    def add(self, op: str, name: str, *inputs: str, **attributes: Any) -> str:
        """A new node's only output, of the given name."""
        self.nodes.append(Node(op, inputs, (name,), attributes))
        return name

    def constant(self, name: str, value: Any, dtype: Any = np.float32) -> str:
        self.constants[name] = np.asarray(value, dtype)
        return name

    def graph(self) -> Graph:
        config = self.config
        masked = config.masked
        if masked:
            self._lengths()
        self.constant("embedding.weight", self.parameters["embedding.weight"])
        words = self.add("Gather", "words", "embedding.weight", "ids")
        states = self.add("Transpose", "embedding", words, perm=[1, 0, 2])
        last = ""
        for number, names in enumerate(config.recurrent_names):
            if number and config.layer_norm:
                states = self._norm(f"{names[0]}_norm", states)
            states, last = self._recurrent(names, states)
        pooled = self._pool(states, last)
        if config.layer_norm:
            pooled = self._norm("output_norm", pooled)
        self.constant("output.kernel", self.parameters["output.kernel"])
        self.constant("output.bias", self.parameters["output.bias"])
        self.add("Gemm", "logits", pooled, "output.kernel", "output.bias")
        if config.logits == 1:
            self.add("Sigmoid", "second", "logits")
            self.add("Sub", "first", self.constant("one", 1.0), "second")
            self.add("Concat", "probabilities", "first", "second", axis=1)
        elif config.targets == "many":
            self.add("Sigmoid", "probabilities", "logits")
        else:
            self.add("Softmax", "probabilities", "logits", axis=1)
        steps = None if masked else config.max_length
        used = {name for node in self.nodes for name in node.inputs}
        constants = {name: array for name, array in self.constants.items() if name in used}
        outputs = ("logits", "probabilities")
        return Graph({"ids": (None, steps)}, outputs, self.nodes, constants, "tidegate")

    def _lengths(self) -> None:
        """How many words each text has, and where they are, [T, B, 1]."""
        self.constant("axis_0", [0], np.int64)
        self.constant("axis_1", [1], np.int64)
        self.constant("axis_2", [2], np.int64)
        padding = self.add("Equal", "is_padding", "ids", self.constant("padding", 0, np.int64))
        is_word = self.add("Not", "is_word", padding)
        counts = self.add("Cast", "counts", is_word, to=7)
        words = self.add("ReduceSum", "number_of_words", counts, "axis_1", keepdims=0)
        # No runtime promises what a text of no steps gives: one of padding is read, and left out.
        one = self.constant("one_step", 1, np.int64)
        self.add("Cast", "lengths", self.add("Max", "steps", words, one), to=6)
        zero = self.constant("no_words", 0, np.int64)
        some = self.add("Cast", "some", self.add("Greater", "has_words", words, zero), to=1)
        self.add("Unsqueeze", "share_of_words", some, "axis_1")
        turned = self.add("Transpose", "is_word_by_time", is_word, perm=[1, 0])
        self.add("Unsqueeze", "at_words", turned, "axis_2")

    def _norm(self, name: str, tensor: str) -> str:
        gain, bias = f"{name}.gain", f"{name}.bias"
        self.constant(gain, self.parameters[gain])
        self.constant(bias, self.parameters[bias])
        return self.add("LayerNormalization", name, tensor, gain, bias, axis=-1, epsilon=1e-5)

    def _recurrent(self, names: Sequence[str], states: str) -> tuple[str, str]:
        """All states [T, B, F], and the last ones [B, F]."""
        config, name = self.config, names[0]
        kernels, recurrent_kernels, biases = [], [], []
        for each in names:
            weights = RecurrentWeights(
                self.parameters[f"{each}.kernel"],
                self.parameters[f"{each}.recurrent_kernel"],
                self.parameters[f"{each}.bias"],
                self.parameters.get(f"{each}.recurrent_bias"),
            )
            kernel, recurrent, bias, second = gates.theirs("onnx", config.cell, weights)
            kernels.append(kernel.T)
            recurrent_kernels.append(recurrent.T)
            biases.append(np.concatenate([bias, second]))
        parts = {"W": kernels, "R": recurrent_kernels, "B": biases}
        given = [self.constant(f"{name}.{part}", np.stack(a)) for part, a in parts.items()]
        attributes: dict[str, Any] = {
            "hidden_size": config.hidden_size,
            "direction": "bidirectional" if config.bidirectional else "forward",
        }
        if config.cell == "gru":
            attributes["linear_before_reset"] = int(config.reset == "after")
        outputs = (f"{name}.Y", f"{name}.Y_h")
        lengths = "lengths" if config.masked else ""
        inputs = (states, *given, lengths)
        self.nodes.append(Node(_OPERATORS[config.cell], inputs, outputs, attributes))
        if "by_row" not in self.constants:
            self.constant("by_row", [0, -1], np.int64)
            self.constant("by_step_and_row", [0, 0, -1], np.int64)
        turned = self.add("Transpose", f"{name}.by_row", outputs[0], perm=[0, 2, 1, 3])
        every = self.add("Reshape", name, turned, "by_step_and_row")
        ends = self.add("Transpose", f"{name}.ends", outputs[1], perm=[1, 0, 2])
        return every, self.add("Reshape", f"{name}.last", ends, "by_row")

    def _pool(self, states: str, last: str) -> str:
        pools = []
        masked = self.config.masked
        for kind in self.config.poolings:
            if kind == "last":
                pools.append(last)
            elif kind == "max":
                seen = self._where("max", states, -2.0) if masked else states  # states are in -1..1
                pools.append(self.add("ReduceMax", "max", seen, axes=[0], keepdims=0))
            elif kind == "mean" and not masked:
                pools.append(self.add("ReduceMean", "mean", states, axes=[0], keepdims=0))
            elif kind == "mean":
                seen = self._where("mean", states, 0.0)
                total = self.add("ReduceSum", "mean_sum", seen, "axis_0", keepdims=0)
                count = self.add("Cast", "mean_steps", "steps", to=1)
                count = self.add("Unsqueeze", "mean_count", count, "axis_1")
                pools.append(self.add("Div", "mean", total, count))
            else:
                self.constant("attention.query", self.parameters["attention.query"].reshape(-1, 1))
                scores = self.add("MatMul", "attention_scores", states, "attention.query")
                seen = self._where("attention", scores, -1e30)
                shares = self.add("Softmax", "attention_shares", seen, axis=0)
                parts = self.add("Mul", "attention_parts", shares, states)
                pools.append(self.add("ReduceSum", "attention", parts, "axis_0", keepdims=0))
        pooled = pools[0] if len(pools) == 1 else self.add("Concat", "pools", *pools, axis=1)
        return self.add("Mul", "pooled", pooled, "share_of_words") if masked else pooled

    def _where(self, name: str, tensor: str, instead: float) -> str:
        self.constant(f"{name}_of_padding", instead)
        return self.add("Where", f"{name}_of_words", "at_words", tensor, f"{name}_of_padding")


def to_onnx(model: TextModel) -> Graph:
    """The graph."""
    return _Writer(model).graph()


def output_dims(config: ModelConfig) -> dict[str, tuple[Any, ...]]:
    """The shapes of the graph's outputs."""
    return {"logits": ("batch", config.logits), "probabilities": ("batch", config.classes)}


def ids_of(config: ModelConfig, rows: Sequence[Array]) -> Array:
    """[B, T] what the graph is given of texts in tidegate's ids."""
    read = [read_ids(config, row) for row in rows]
    ids = np.zeros((len(rows), max(1, *map(len, read))), np.int64)
    for line, row in zip(ids, read, strict=True):
        line[: len(row)] = row
    return ids


def stages_of(graph: Graph, config: ModelConfig, rows: Sequence[Array]) -> Stages:
    """What the graph computes, by the statement of ONNX's operators."""
    values = onnx_statement.run(graph, {"ids": ids_of(config, rows)})
    stages: Stages = {}
    for name, value in values.items():
        if value.ndim == 3 and value.shape[1] == len(rows):
            lengths = [len(read_ids(config, row)) for row in rows]
            stages[name] = [value[:n, row] for row, n in enumerate(lengths)]
        else:
            stages[name] = value
    if len(config.poolings) == 1 and not config.masked:
        name = f"{config.recurrent_names[-1][0]}.last"
        stages["pooled"] = values[name if config.pooling == "last" else config.pooling]
    return stages
