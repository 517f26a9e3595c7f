"""From an ONNX graph to tidegate's network.

A graph is arithmetic, not layers: an embedding is recognised by the table that the ids choose from,
the recurrent operators by their kind, the output layer as the last product with constant weights,
and pooling by the operators in between. What was recognised wrongly can't pass the proof, which
computes the graph itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tidegate.errors import ConversionError
from tidegate.interop import gates, onnx_runtime, onnx_statement
from tidegate.interop.hostile import read_bytes
from tidegate.interop.keras_import import store
from tidegate.interop.network import Array, Foreign, Stages, check_head
from tidegate.interop.onnx_graph import Graph, Node, read

_CELLS = {"GRU": "gru", "LSTM": "lstm", "RNN": "rnn"}
# Operators that hand on what they get, in another shape.
_THROUGH = (
    *("Identity", "Dropout", "Squeeze", "Unsqueeze", "Reshape", "Flatten", "Transpose", "Cast"),
    *("Mul", "LayerNormalization"),
)
_EPSILON = 1e-5


def read_onnx(path: Path, *, pooling: str | None = None) -> Foreign:
    """The network in a file. ModelFileError or ConversionError for another."""
    graph = read(path)
    onnx_statement.fold(graph)
    return _Reader(path, graph, pooling).network()


class _Reader:
    def __init__(self, path: Path, graph: Graph, pooling: str | None) -> None:
        self._path, self._graph, self._pooling = path, graph, pooling
        self._weights: dict[str, Array] = {}
        self._makers = {name: node for node in graph.nodes for name in node.outputs}

    def network(self) -> Foreign:
        graph = self._graph
        ids, lengths = self._inputs()
        recurrent = [node for node in graph.nodes if node.op in _CELLS]
        if not recurrent:
            operators = ", ".join(sorted({node.op for node in graph.nodes})[:12])
            raise ConversionError(f"the graph has no GRU, LSTM or RNN; it has {operators}")
        table, by_time = self._embedding(ids, recurrent[0])
        fields = self._recurrent(recurrent)
        head, kernel, bias, activation, logits = self._head()
        pooling = self._pooling or self._guess_pooling(head.inputs[0], recurrent[-1])
        self._attention(pooling)
        fields["layer_norm"] = self._norms(len(recurrent))
        masked = {len(node.inputs) > 4 and bool(node.inputs[4]) for node in recurrent}
        if len(masked) > 1:
            raise ConversionError("some recurrent operators have sequence_lens and some have none")
        steps = graph.inputs[ids][0 if by_time else 1]
        inputs = fields["hidden_size"] * (2 if fields["bidirectional"] else 1)
        is_masked = masked == {True}
        data = read_bytes(self._path)
        return Foreign(
            source=f"ONNX of {graph.producer}, {self._path.name}",
            shape={
                **fields,
                "embedding_size": table.shape[1],
                "pooling": pooling,
                "masked": is_masked,
            },
            max_length=None if is_masked else steps,
            weights=self._weights,
            kernel=kernel,
            bias=bias,
            activation=check_head(kernel, bias, activation, inputs * len(pooling.split("+"))),
            padding_id=0 if is_masked and lengths is None else None,
            run=lambda rows: self._run(rows, ids, lengths, by_time, logits, data),
        )

    def _inputs(self) -> tuple[str, str | None]:
        """The input of ids, and that of the texts' lengths if there is one."""
        dims = self._graph.inputs
        ids = [name for name, shape in dims.items() if len(shape) == 2]
        lengths = [name for name, shape in dims.items() if len(shape) == 1]
        if len(ids) != 1 or len(lengths) > 1 or len(ids) + len(lengths) != len(dims):
            listed = ", ".join(f"{name[:30]} {list(shape)[:6]}" for name, shape in dims.items())
            raise ConversionError(
                f"the graph's inputs are {listed[:200] or 'none'}; tidegate gives ids [batch, time]"
                " and, if asked for, lengths [batch]"
            )
        return ids[0], lengths[0] if lengths else None

    def _before(self, name: str) -> Iterator[Node]:
        """The nodes that a tensor is made from, in the order of the graph."""
        wanted, found = {name}, []
        for node in reversed(self._graph.nodes):
            if wanted.intersection(node.outputs):
                found.append(node)
                wanted.update(node.inputs)
        yield from reversed(found)

    def _embedding(self, ids: str, first: Node) -> tuple[Array, bool]:
        """The table, and whether ids are [time, batch]."""
        turns = 0
        table = None
        for node in self._before(first.inputs[0]):
            if node.op == "Gather" and table is None and node.inputs[0] in self._graph.constants:
                found = self._graph.constants[node.inputs[0]]
                if (
                    found.ndim == 2
                    and found.dtype.kind == "f"
                    and node.attributes.get("axis", 0) == 0
                ):
                    table = found
            elif node.op == "Transpose":
                turns += 1
            elif node.op not in ("Identity", "Cast", "Dropout"):
                raise ConversionError(
                    f"between the ids and the recurrent operator stands a {node.op[:40]}; tidegate "
                    "reads a Gather and Transposes there"
                )
        if table is None:
            raise ConversionError("the graph chooses no rows of a constant table by its ids")
        self._weights["embedding.weight"] = table
        return table, turns % 2 == 0

    def _recurrent(self, nodes: Sequence[Node]) -> dict[str, Any]:
        alike = {
            (
                node.op,
                node.attributes.get("direction", "forward"),
                node.attributes.get("linear_before_reset", 0),
            )
            for node in nodes
        }
        if len(alike) > 1:
            raise ConversionError("the graph's recurrent operators differ; tidegate's are alike")
        op, direction, linear_before_reset = alike.pop()
        if direction not in ("forward", "bidirectional"):
            raise ConversionError(
                f"a recurrent operator has the direction {str(direction)[:30]!r}; tidegate knows "
                "forward and bidirectional"
            )
        cell = _CELLS[op]
        reset = "before" if cell == "gru" and not linear_before_reset else "after"
        hidden = 0
        for number, node in enumerate(nodes):
            name = f"recurrent{number + 1}" if number else "recurrent"
            ends = ("", "_reverse") if direction == "bidirectional" else ("",)
            w, r, b = self._constants(node)
            hidden = r.shape[2]
            if number and hidden != self._weights["recurrent.recurrent_kernel"].shape[0]:
                raise ConversionError("the recurrent operators have states of several sizes")
            for d, end in enumerate(ends):
                biases = (None, None) if b is None else np.split(b[d], 2)
                made = gates.ours("onnx", cell, reset, w[d].T, r[d].T, biases[0], biases[1])
                store(self._weights, f"{name}{end}", made)
        return {
            "cell": cell,
            "reset": reset,
            "hidden_size": hidden,
            "layers": len(nodes),
            "bidirectional": direction == "bidirectional",
        }

    def _constants(self, node: Node) -> tuple[Array, Array, Array | None]:
        """W, R and B. ConversionError if they aren't constant or don't fit one another."""
        names = [*node.inputs, *[""] * 8][1:8]
        missing = [n for n in names[:3] if n and n not in self._graph.constants]
        if missing or not names[0] or not names[1] or names[6]:
            raise ConversionError(
                f"the weights of a {node.op} are no constants, or it has peepholes; export the "
                "graph anew"
            )
        found = [self._graph.constants[name] if name else None for name in names[:3]]
        w, r, b = found
        directions = 2 if node.attributes.get("direction") == "bidirectional" else 1
        sound = w is not None and r is not None and w.ndim == r.ndim == 3
        sound = sound and len(w) == len(r) == directions and r.shape[2] > 0  # type: ignore[union-attr,arg-type]
        if b is not None:
            sound = sound and b.ndim == 2 and len(b) == directions and b.shape[1] % 2 == 0
        if not sound or w is None or r is None:
            raise ConversionError(f"the weights of a {node.op} have no such shapes")
        return w, r, b

    def _head(self) -> tuple[Node, Array, Array, str, str]:
        """The last product, its weights, the activation behind it, and the logits' name."""
        nodes, constants = self._graph.nodes, self._graph.constants
        heads = [
            place
            for place, node in enumerate(nodes)
            if node.op in ("Gemm", "MatMul")
            and node.inputs[1] in constants
            and constants[node.inputs[1]].ndim == 2
        ]
        if not heads:
            raise ConversionError("the graph has no output layer: no Gemm or MatMul by constants")
        node = nodes[heads[-1]]
        kernel, logits = constants[node.inputs[1]], node.outputs[0]
        bias = np.zeros(kernel.shape[1], np.float32)
        if node.op == "Gemm":
            usual = node.attributes.get("alpha", 1.0) == node.attributes.get("beta", 1.0) == 1.0
            if not usual or node.attributes.get("transA"):
                raise ConversionError("the output layer's Gemm has alpha, beta or transA")
            if node.attributes.get("transB"):
                kernel = kernel.T
                bias = np.zeros(kernel.shape[1], np.float32)
            if len(node.inputs) > 2 and node.inputs[2]:
                bias = self._constant_of(node, node.inputs[2], bias)
        behind: list[str] = []
        for later in nodes[heads[-1] + 1 :]:
            if later.op == "Add" and logits in later.inputs and not behind:
                other = next(name for name in later.inputs if name != logits)
                bias = self._constant_of(later, other, bias)
                logits = later.outputs[0]
            else:
                behind.append(later.op)
        known = ("Sigmoid", "Softmax", "LogSoftmax", "Sub", "Concat", *_THROUGH)
        strange = [op for op in behind if op not in known]
        if strange:
            raise ConversionError(f"behind the output layer stands a {strange[0][:40]}")
        activation = "linear"
        for op in behind:
            if op in ("Sigmoid", "Softmax", "LogSoftmax"):
                activation = "sigmoid" if op == "Sigmoid" else "softmax"
        return node, kernel, bias, activation, logits

    def _constant_of(self, node: Node, name: str, like: Array) -> Array:
        found = self._graph.constants.get(name)
        if found is None or found.size not in (1, like.size):
            raise ConversionError(f"the output layer's {node.op} has no constant bias")
        return np.broadcast_to(found.reshape(-1), like.shape)

    def _guess_pooling(self, name: str, top: Node) -> str:
        """What of the last operator's states the output layer reads."""
        while True:
            node = self._makers.get(name)
            if node is None or node is top:
                return self._kind(name, top)
            if node.op == "Concat":
                kinds = [self._kind(part, top) for part in node.inputs]
                # Both directions' last states are joined, too.
                return "last" if set(kinds) == {"last"} else "+".join(dict.fromkeys(kinds))
            if node.op not in _THROUGH:
                return self._kind(name, top)
            name = node.inputs[0]

    def _kind(self, name: str, top: Node) -> str:
        between: list[Node] = []
        for node in self._before(name):
            if node is top:
                between = []
            else:
                between.append(node)
        used = {name} | {given for node in between for given in node.inputs}
        operators = {node.op for node in between}
        if top.outputs[0] not in used:
            return "last"
        if "ReduceMax" in operators:
            return "max"
        if "Softmax" in operators:
            return "attention"
        return "mean" if operators & {"ReduceMean", "ReduceSum"} else "last"

    def _attention(self, pooling: str) -> None:
        if "attention" not in pooling.split("+"):
            return
        for node in self._graph.nodes:
            if node.op == "MatMul" and node.inputs[1] in self._graph.constants:
                self._weights["attention.query"] = self._graph.constants[node.inputs[1]].reshape(-1)
                return
        raise ConversionError("the graph's attention has no constant query")

    def _norms(self, layers: int) -> bool:
        found = [node for node in self._graph.nodes if node.op == "LayerNormalization"]
        if not found:
            return False
        names = [*(f"recurrent{n}_norm" for n in range(2, layers + 1)), "output_norm"]
        if len(found) != len(names):
            raise ConversionError(
                f"the graph has {len(found)} layer norms; tidegate's stand between all recurrent "
                "layers and before the output layer, or nowhere"
            )
        for node, name in zip(found, names, strict=True):
            arrays = [self._graph.constants.get(given) for given in node.inputs[1:3]]
            epsilon = node.attributes.get("epsilon", _EPSILON)
            usual = abs(epsilon - _EPSILON) < 1e-9
            if len(arrays) != 2 or arrays[0] is None or arrays[1] is None or not usual:
                raise ConversionError(
                    f"a layer norm has epsilon={epsilon:g} or no constant weights"
                )
            self._weights[f"{name}.gain"], self._weights[f"{name}.bias"] = arrays[0], arrays[1]
        return True

    def _run(
        self,
        rows: Sequence[Sequence[int]],
        ids: str,
        lengths: str | None,
        by_time: bool,
        logits: str,
        data: bytes,
    ) -> Stages:
        """The graph's numbers of texts that stand in front, as sequence_lens wants them."""
        steps = max(1, *map(len, rows))
        table = np.zeros((len(rows), steps), np.int64)
        for line, row in zip(table, rows, strict=True):
            line[: len(row)] = row
        given = {ids: table.T if by_time else table}
        if lengths is not None:
            given[lengths] = np.array([len(row) for row in rows], np.int64)
        values = onnx_statement.run(self._graph, given)
        if values[logits].shape[:1] != (len(rows),) or values[logits].size % len(rows):
            raise ConversionError(f"the graph's logits are {list(values[logits].shape)}")
        self._check_runtime(data, given, values)
        stages: Stages = {"logits": values[logits].reshape(len(rows), -1)}
        number = 0
        for node in self._graph.nodes:
            if node.op in _CELLS:
                number += 1
                y = values.get(node.outputs[0])
                if y is not None:
                    turned = np.moveaxis(y, 2, 0).reshape(len(rows), len(y), -1)
                    name = f"recurrent{number}" if number > 1 else "recurrent"
                    stages[name] = [a[: len(row)] for a, row in zip(turned, rows, strict=True)]
        return stages

    def _check_runtime(
        self, data: bytes, given: dict[str, Array], values: dict[str, Array]
    ) -> None:
        """Where ONNX Runtime is installed, it has to give what the statement does."""
        if onnx_runtime.version() is None or len(self._graph.inputs) > 1:
            return  # no runtime promises what a text of no steps gives
        for name, found in onnx_runtime.run(data, given).items():
            wanted = values.get(name)
            if wanted is not None and found.shape == wanted.shape:
                gap = np.abs(found - wanted) / np.maximum(1.0, np.abs(wanted))
                if not gap.max(initial=0.0) <= 1e-5:
                    raise ConversionError(
                        f"ONNX Runtime and ONNX's documents differ by {gap.max():.2g} in {name!r}; "
                        "update onnxruntime"
                    )
