"""ONNX graphs as plain records, read from and written to files by the package onnx."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tidegate.interop.hostile import extra, read_bytes, refusing, unreadable
from tidegate.interop.network import Array

OPSET = 17  # the first one with LayerNormalization
_IR_VERSION = 8  # what came with it

_MAX_NODES = 10_000
_TYPES = {1: "<f4", 10: "<f2", 11: "<f8", 6: "<i4", 7: "<i8", 9: "|b1"}  # TensorProto.DataType
_ERRORS = (
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    OverflowError,
    RuntimeError,
    OSError,
)


@dataclass(frozen=True)
class Node:
    """One operator. inputs: names, "" where an optional one is left out."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Graph:
    """A graph in an order in which it can be computed.

    inputs: name and dims (a number, or None where any will do). constants: tensors by name.
    """

    inputs: dict[str, tuple[int | None, ...]]
    outputs: tuple[str, ...]
    nodes: list[Node]
    constants: dict[str, Array]
    producer: str = "?"

    def maker(self, name: str) -> Node | None:
        """The node whose output this is."""
        return next((node for node in self.nodes if name in node.outputs), None)


def read(path: Path) -> Graph:
    """The graph in a file. ModelFileError for another; tensors outside of the file are refused."""
    onnx = extra("onnx", "onnx")
    data = read_bytes(path)
    from google.protobuf.message import DecodeError

    with refusing(path, DecodeError, *_ERRORS):
        model = onnx.ModelProto.FromString(data)
        graph = model.graph
    if not graph.node or not graph.output:
        raise unreadable(path, "is no ONNX model", "export it again")
    if len(graph.node) > _MAX_NODES:
        raise unreadable(path, f"has {len(graph.node)} nodes, more than {_MAX_NODES}")
    if graph.sparse_initializer:
        raise unreadable(path, "has sparse tensors", "export it without them")
    with refusing(path, *_ERRORS):
        constants = {tensor.name: _tensor(path, tensor) for tensor in graph.initializer}
        nodes = [_node(path, node) for node in graph.node]
        inputs = {
            value.name: tuple(
                dim.dim_value if dim.HasField("dim_value") else None
                for dim in value.type.tensor_type.shape.dim
            )
            for value in graph.input
            if value.name not in constants
        }
    # protobuf gives bytes where a damaged name is no text.
    parts = (part for part in (model.producer_name, model.producer_version) if type(part) is str)
    producer = " ".join(filter(None, parts))
    outputs = tuple(value.name for value in graph.output)
    return Graph(inputs, outputs, nodes, constants, producer[:60] or "?")


def _tensor(path: Path, tensor: Any) -> Array:
    """A tensor's numbers. They must lie in the file itself, as many as the shape says."""
    if tensor.data_location == 1 or tensor.external_data:
        raise unreadable(path, "keeps tensors in other files", "export it as one file")
    dtype = _TYPES.get(tensor.data_type)
    if dtype is None:
        raise unreadable(path, f"has a tensor {tensor.name[:60]!r} of an unknown type")
    shape = tuple(tensor.dims)
    if len(shape) > 8 or any(n < 0 for n in shape):
        raise unreadable(path, f"has a tensor {tensor.name[:60]!r} of shape {list(shape)[:9]}")
    if tensor.raw_data:
        numbers: Array = np.frombuffer(tensor.raw_data, dtype)
    else:
        fields = {"<f4": "float_data", "<f8": "double_data", "<i8": "int64_data"}
        numbers = np.array(getattr(tensor, fields.get(dtype, "int32_data")))
        numbers = (
            numbers.astype(np.uint16).view(np.float16) if dtype == "<f2" else numbers.astype(dtype)
        )
    return numbers.reshape(shape)  # ValueError if there are more or fewer


def _node(path: Path, node: Any) -> Node:
    if node.domain not in ("", "ai.onnx"):
        raise unreadable(path, f"has an operator of {node.domain[:60]!r}", "export it without")
    return Node(
        node.op_type,
        tuple(node.input),
        tuple(node.output),
        {attribute.name: _attribute(path, attribute) for attribute in node.attribute},
    )


def _attribute(path: Path, attribute: Any) -> Any:
    kinds = {1: "f", 2: "i", 3: "s", 4: "t", 6: "floats", 7: "ints", 8: "strings"}
    kind = kinds.get(attribute.type)
    if kind is None:
        raise unreadable(path, f"has an attribute {attribute.name[:60]!r} that is a graph")
    value = getattr(attribute, kind)
    if kind == "t":
        return _tensor(path, value)
    if kind == "s":
        return value.decode("utf-8", "replace")
    if kind == "strings":
        return [text.decode("utf-8", "replace") for text in value]
    return value if kind in "fi" else list(value)


def to_bytes(
    graph: Graph, output_dims: Mapping[str, tuple[Any, ...]], metadata: Mapping[str, Any]
) -> bytes:
    """A file of this graph, which onnx's own checker has passed."""
    onnx = extra("onnx", "onnx")
    helper, numbers = onnx.helper, onnx.numpy_helper
    nodes = [
        helper.make_node(node.op, node.inputs, node.outputs, **node.attributes)
        for node in graph.nodes
    ]
    inputs = [
        helper.make_tensor_value_info(
            name,
            onnx.TensorProto.INT64,
            [free if n is None else n for n, free in zip(dims, ("batch", "time"), strict=True)],
        )
        for name, dims in graph.inputs.items()
    ]
    outputs = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, list(output_dims[name]))
        for name in graph.outputs
    ]
    tensors = [numbers.from_array(array, name) for name, array in graph.constants.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "tidegate", inputs, outputs, tensors),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=_IR_VERSION,
        producer_name="tidegate",
        producer_version=str(metadata["tidegate"]),
    )
    helper.set_model_props(model, {"tidegate": json.dumps(metadata, sort_keys=True)})
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))
