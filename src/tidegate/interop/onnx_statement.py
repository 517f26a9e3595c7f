"""What ONNX's operators compute, in NumPy float64, from their documents: the other side of a proof.

Nothing is shared with the conversion. Operators that no text classifier of recurrent layers needs
are refused.

Source: github.com/onnx/onnx/blob/main/docs/Operators.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tidegate.errors import ConversionError
from tidegate.interop.network import Array
from tidegate.interop.onnx_graph import Graph, Node

_MOST_NUMBERS = 1 << 26  # of one tensor: 512 MB, far above what the proof's texts need
_MOST_IN_ALL = 1 << 28

Outputs = Sequence[Array]


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), by way of tanh, which never overflows."""
    result: Array = (np.tanh(x / 2) + 1) / 2
    return result


def softmax(x: Array, axis: int) -> Array:
    shares = np.exp(x - x.max(axis=axis, keepdims=True))
    result: Array = shares / shares.sum(axis=axis, keepdims=True)
    return result


def run(graph: Graph, given: Mapping[str, Array]) -> dict[str, Array]:
    """Every tensor of the graph by name; floating ones in float64. given: the inputs."""
    values = {name: _wide(array) for name, array in {**graph.constants, **given}.items()}
    spent = 0
    for node in graph.nodes:
        compute(node, values)
        spent = _count(node, values, spent)
    return values


def _count(node: Node, values: Mapping[str, Array], spent: int) -> int:
    """The numbers computed so far. ConversionError if they are too many."""
    spent += sum(values[name].size for name in node.outputs if name in values)
    if spent > _MOST_IN_ALL:
        raise ConversionError("the graph's tensors are too large all together")
    return spent


def fold(graph: Graph) -> None:
    """Compute once what depends on no input, and make it constants."""
    left = []
    spent = 0
    for node in graph.nodes:
        known = all(name in graph.constants for name in node.inputs if name)
        if known and node.op not in ("GRU", "LSTM", "RNN"):
            values = {name: graph.constants[name] for name in node.inputs if name}
            compute(node, values)
            spent = _count(node, values, spent)
            graph.constants.update({name: values[name] for name in node.outputs if name in values})
        else:
            left.append(node)
    graph.nodes[:] = left


def compute(node: Node, values: dict[str, Array]) -> None:
    """Put a node's outputs among the values. ConversionError if that can't be done."""
    operator = _OPERATORS.get(node.op)
    if operator is None:
        raise ConversionError(
            f"the graph has the operator {node.op[:40]!r}, which tidegate does not know"
        )
    try:
        arguments = [values[name] if name else None for name in node.inputs]
        _check_size(node, arguments)
        with np.errstate(all="ignore"):
            outputs = [_wide(np.asarray(a)) for a in operator(arguments, node.attributes)]
    except ConversionError:
        raise
    except MemoryError as error:
        raise ConversionError(
            f"the graph's {node.op} makes a tensor that does not fit into memory"
        ) from error
    except (
        *(KeyError, ValueError, TypeError, IndexError, AttributeError, OverflowError),
        ZeroDivisionError,
    ) as error:
        reason = " ".join(str(error).split())[:100]
        raise ConversionError(
            f"the graph's {node.op[:40]} {node.outputs[:1]} can't be computed "
            f"({type(error).__name__}: {reason}); export it again"
        ) from error
    for name, array in zip(node.outputs, outputs, strict=False):
        if name:
            values[name] = array


def _wide(array: Array) -> Array:
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def _check_size(node: Node, arguments: Sequence[Array | None]) -> None:
    """Refuse what would make a tensor that is far too large of small ones."""
    given = [np.asarray(a) for a in arguments if a is not None]
    shapes = [array.shape for array in given]
    # Of no numbers, but long: what is made of it may have numbers.
    size = max((math.prod(max(n, 1) for n in shape) for shape in shapes if 0 in shape), default=0)
    if size > _MOST_NUMBERS:
        pass
    elif node.op == "ConstantOfShape":
        size = math.prod(max(abs(int(n)), 1) for n in given[-1].reshape(-1)[:64])
    elif node.op == "Expand":
        wanted = tuple(int(n) for n in given[1].reshape(-1)[:64])
        size = math.prod(np.broadcast_shapes(shapes[0], wanted))
    elif node.op == "Range":
        start, limit, step = (float(array) for array in given)
        size = math.ceil(abs((limit - start) / step))
    elif node.op == "Concat":
        size = sum(array.size for array in given)
    elif node.op == "Gather":
        size = math.prod(shapes[1] + shapes[0]) // max(1, shapes[0][node.attributes.get("axis", 0)])
    elif node.op == "MatMul":
        size = math.prod(_product(shapes[0], shapes[1]))
    elif node.op == "Gemm":
        a = shapes[0][::-1] if node.attributes.get("transA") else shapes[0]
        b = shapes[1][::-1] if node.attributes.get("transB") else shapes[1]
        size = math.prod(np.broadcast_shapes(_product(a, b), *shapes[2:]))
    elif node.op in ("GRU", "LSTM", "RNN"):
        size = math.prod(shapes[0][:2]) * 2 * shapes[2][2]
    elif node.op == "Split":
        sizes = arguments[1] if len(arguments) > 1 else node.attributes.get("split")
        parts = node.attributes["num_outputs"] if sizes is None else np.asarray(sizes).size
        if parts != len(node.outputs):
            raise ValueError(f"it makes {parts} parts and has {len(node.outputs)} outputs")
    elif node.op in _BROADCASTING:
        size = math.prod(np.broadcast_shapes(*shapes))
    if size > _MOST_NUMBERS:
        raise ConversionError(f"the graph's {node.op} makes a tensor that is too large")


_BROADCASTING = (
    *("Add", "Sub", "Mul", "Div", "Where", "Max", "Min", "And", "Greater", "Less", "Equal"),
    "LayerNormalization",
)


def _product(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a matrix product."""
    return np.broadcast_shapes(a[:-2], b[:-2]) + a[-2:-1] + (b[-1:] if len(b) > 1 else ())


# --- Operators: what they get is a list of tensors (None where one is left out) and attributes


def _axes(given: Sequence[Any], attributes: Mapping[str, Any], place: int = 1) -> Any:
    """The axes, which are an input in newer and an attribute in older operators."""
    axes = given[place] if len(given) > place else attributes.get("axes")
    return None if axes is None else tuple(int(axis) for axis in np.asarray(axes).reshape(-1))


def _reduce(function: Callable[..., Array]) -> Callable[[Any, Any], Outputs]:
    def reduce(given: Any, attributes: Any) -> Outputs:
        keep = bool(attributes.get("keepdims", 1))
        return [function(given[0], axis=_axes(given, attributes), keepdims=keep)]

    return reduce


def _binary(function: Callable[..., Array]) -> Callable[[Any, Any], Outputs]:
    return lambda given, _: [function(given[0], given[1])]


def _gemm(given: Any, attributes: Any) -> Outputs:
    a = given[0].T if attributes.get("transA") else given[0]
    b = given[1].T if attributes.get("transB") else given[1]
    product = attributes.get("alpha", 1.0) * (a @ b)
    if len(given) > 2 and given[2] is not None:
        product = product + attributes.get("beta", 1.0) * given[2]
    return [product]


def _reshape(given: Any, attributes: Any) -> Outputs:
    shape = [int(n) for n in given[1]]
    if not attributes.get("allowzero"):
        shape = [given[0].shape[i] if n == 0 else n for i, n in enumerate(shape)]
    return [given[0].reshape(shape)]


def _unsqueeze(given: Any, attributes: Any) -> Outputs:
    return [np.expand_dims(given[0], _axes(given, attributes))]


def _squeeze(given: Any, attributes: Any) -> Outputs:
    return [np.squeeze(given[0], _axes(given, attributes))]


def _slice(given: Any, attributes: Any) -> Outputs:
    data = given[0]
    if len(given) == 1:
        given = [data, attributes["starts"], attributes["ends"], attributes.get("axes")]
    starts, ends = (np.asarray(part).reshape(-1) for part in given[1:3])
    axes = given[3] if len(given) > 3 and given[3] is not None else range(len(starts))
    steps = given[4] if len(given) > 4 and given[4] is not None else [1] * len(starts)
    places = [slice(None)] * data.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        low, high, by = int(start), int(end), int(step)
        size = data.shape[int(axis)]
        low = max(0, low + size) if low < 0 else min(low, size)
        if by < 0:
            low = min(low, size - 1)
            stop = None if high < -size else (high + size if high < 0 else high)
        else:
            stop = max(0, high + size) if high < 0 else min(high, size)
        places[int(axis)] = slice(low, stop, by)
    return [data[tuple(places)]]


def _split(given: Any, attributes: Any) -> Outputs:
    axis = attributes.get("axis", 0)
    sizes = given[1] if len(given) > 1 else attributes.get("split")
    if sizes is None:  # ONNX makes the last of unequal parts smaller, which np.split refuses
        return np.split(given[0], attributes["num_outputs"], axis)
    return np.split(given[0], np.cumsum(sizes)[:-1], axis)


def _cast(given: Any, attributes: Any) -> Outputs:
    kinds = {1: np.float64, 10: np.float64, 11: np.float64, 6: np.int32, 7: np.int64, 9: np.bool_}
    return [given[0].astype(kinds[attributes["to"]])]


def _constant(given: Any, attributes: Any) -> Outputs:
    for name in ("value", "value_float", "value_int", "value_floats", "value_ints"):
        if name in attributes:
            return [np.asarray(attributes[name])]
    raise ValueError("it has no value")


def _constant_of_shape(given: Any, attributes: Any) -> Outputs:
    value = attributes.get("value", np.zeros(1))
    return [np.full([int(n) for n in given[0]], value.reshape(-1)[0])]


def _layer_normalization(given: Any, attributes: Any) -> Outputs:
    axis = attributes.get("axis", -1)
    axes = tuple(range(axis % given[0].ndim, given[0].ndim))
    mean = given[0].mean(axis=axes, keepdims=True)
    variance = ((given[0] - mean) ** 2).mean(axis=axes, keepdims=True)
    scaled = (given[0] - mean) / np.sqrt(variance + attributes.get("epsilon", 1e-5)) * given[1]
    return [scaled if len(given) < 3 or given[2] is None else scaled + given[2]]


def _expand(given: Any, attributes: Any) -> Outputs:
    shape = np.broadcast_shapes(given[0].shape, tuple(int(n) for n in given[1]))
    return [np.broadcast_to(given[0], shape)]


def _flatten(given: Any, attributes: Any) -> Outputs:
    axis = attributes.get("axis", 1)
    return [given[0].reshape(math.prod(given[0].shape[:axis]), -1)]


def _shape(given: Any, attributes: Any) -> Outputs:
    shape = np.array(given[0].shape, np.int64)
    return [shape[attributes.get("start", 0) : attributes.get("end", len(shape))]]


def _range(given: Any, attributes: Any) -> Outputs:
    return [np.arange(*(part.item() for part in given))]


def _fold_all(function: Callable[..., Array]) -> Callable[[Any, Any], Outputs]:
    def apply(given: Any, attributes: Any) -> Outputs:
        result = given[0]
        for other in given[1:]:
            result = function(result, other)
        return [result]

    return apply


def _dropout(given: Any, attributes: Any) -> Outputs:
    return [given[0], np.ones(given[0].shape, bool)]


def _reverse_sequence(given: Any, attributes: Any) -> Outputs:
    batch_axis, time_axis = attributes.get("batch_axis", 1), attributes.get("time_axis", 0)
    moved = np.moveaxis(given[0], (time_axis, batch_axis), (0, 1)).copy()
    for row, length in enumerate(given[1]):
        moved[: int(length), row] = moved[: int(length), row][::-1]
    return [np.moveaxis(moved, (0, 1), (time_axis, batch_axis))]


# --- Recurrent operators. X is [T, B, I], W [D, G*H, I], R [D, G*H, H], B [D, 2*G*H]


def _recurrent(gates: int) -> Callable[[Any, Any], Outputs]:
    def apply(given: Any, attributes: Any) -> Outputs:
        if attributes.get("layout", 0) or "clip" in attributes:
            raise ConversionError("a recurrent operator has layout=1 or clip, which are not known")
        given = [*given, *[None] * (8 - len(given))]
        x, w, r, b, lengths, initial = given[:6]
        directions = _directions(attributes)
        _check_activations(attributes, gates, len(directions))
        steps, batch = x.shape[:2]
        hidden = r.shape[2]
        if w.shape[:2] != (len(directions), gates * hidden):
            raise ValueError(f"W is {w.shape}")
        if b is None:
            b = np.zeros((len(directions), 2 * gates * hidden))
        if lengths is None:
            lengths = np.full(batch, steps)
        if lengths.shape != (batch,) or (lengths < 0).any() or (lengths > steps).any():
            raise ValueError("sequence_lens are none")
        cells = given[6] if gates == 4 else None
        y = np.zeros((steps, len(directions), batch, hidden))
        ends = np.zeros((2, len(directions), batch, hidden))
        for d, reverse in enumerate(directions):
            for row in range(batch):
                h = np.zeros(hidden) if initial is None else initial[d, row]
                c = np.zeros(hidden) if cells is None else cells[d, row]
                order = range(int(lengths[row]))
                for t in reversed(order) if reverse else order:
                    h, c = _STEPS[gates](x[t, row], h, c, w[d], r[d], b[d], attributes)
                    y[t, d, row] = h
                ends[0, d, row], ends[1, d, row] = h, c
        return [y, ends[0], ends[1]][: 3 if gates == 4 else 2]

    return apply


def _directions(attributes: Mapping[str, Any]) -> list[bool]:
    """Whether each direction is reversed."""
    known = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}
    return known[attributes.get("direction", "forward")]


def _check_activations(attributes: Mapping[str, Any], gates: int, directions: int) -> None:
    usual = {3: ["Sigmoid", "Tanh"], 4: ["Sigmoid", "Tanh", "Tanh"], 1: ["Tanh"]}[gates]
    found = attributes.get("activations", usual * directions)
    if [str(name).lower() for name in found] != [name.lower() for name in usual] * directions:
        raise ConversionError(
            f"a recurrent operator has the activations {', '.join(map(str, found))[:80]}; tidegate "
            f"knows {', '.join(usual)}"
        )


def _gru_step(
    x: Array, h: Array, c: Array, w: Array, r: Array, b: Array, attributes: Mapping[str, Any]
) -> tuple[Array, Array]:
    n = len(h)
    wz, wr, wh = w[:n], w[n : 2 * n], w[2 * n :]
    rz, rr, rh = r[:n], r[n : 2 * n], r[2 * n :]
    wbz, wbr, wbh, rbz, rbr, rbh = np.split(b, 6)
    zt = sigmoid(wz @ x + rz @ h + wbz + rbz)
    rt = sigmoid(wr @ x + rr @ h + wbr + rbr)
    if attributes.get("linear_before_reset", 0):
        ht = np.tanh(wh @ x + rt * (rh @ h + rbh) + wbh)
    else:
        ht = np.tanh(wh @ x + rh @ (rt * h) + rbh + wbh)
    return (1 - zt) * ht + zt * h, c


def _lstm_step(
    x: Array, h: Array, c: Array, w: Array, r: Array, b: Array, attributes: Mapping[str, Any]
) -> tuple[Array, Array]:
    if attributes.get("input_forget"):
        raise ConversionError("an LSTM has input_forget=1, which tidegate does not know")
    n = len(h)
    total = w @ x + r @ h + b[: 4 * n] + b[4 * n :]
    it, ot = sigmoid(total[:n]), sigmoid(total[n : 2 * n])
    ft, ct = sigmoid(total[2 * n : 3 * n]), np.tanh(total[3 * n :])
    c = ft * c + it * ct
    return ot * np.tanh(c), c


def _rnn_step(
    x: Array, h: Array, c: Array, w: Array, r: Array, b: Array, attributes: Mapping[str, Any]
) -> tuple[Array, Array]:
    n = len(h)
    return np.tanh(w @ x + r @ h + b[:n] + b[n:]), c


_STEPS = {3: _gru_step, 4: _lstm_step, 1: _rnn_step}

_OPERATORS: Mapping[str, Callable[[Any, Any], Outputs]] = {
    "Add": _binary(np.add),
    "And": _binary(np.logical_and),
    "Cast": _cast,
    "Concat": lambda given, a: [np.concatenate(given, a["axis"])],
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Div": lambda given, _: [
        given[0] / given[1] if given[0].dtype.kind == "f" else given[0] // given[1]
    ],
    "Dropout": _dropout,
    "Equal": _binary(np.equal),
    "Expand": _expand,
    "Flatten": _flatten,
    "GRU": _recurrent(3),
    "Gather": lambda given, a: [np.take(given[0], given[1], a.get("axis", 0))],
    "Gemm": _gemm,
    "Greater": _binary(np.greater),
    "Identity": lambda given, _: [given[0]],
    "LSTM": _recurrent(4),
    "LayerNormalization": _layer_normalization,
    "Less": _binary(np.less),
    "LogSoftmax": lambda given, a: [np.log(softmax(given[0], a.get("axis", -1)))],
    "MatMul": _binary(np.matmul),
    "Max": _fold_all(np.maximum),
    "Min": _fold_all(np.minimum),
    "Mul": _binary(np.multiply),
    "Neg": lambda given, _: [-given[0]],
    "Not": lambda given, _: [np.logical_not(given[0])],
    "RNN": _recurrent(1),
    "Range": _range,
    "ReduceMax": _reduce(np.max),
    "ReduceMean": _reduce(np.mean),
    "ReduceSum": _reduce(np.sum),
    "Reshape": _reshape,
    "ReverseSequence": _reverse_sequence,
    "Shape": _shape,
    "Sigmoid": lambda given, _: [sigmoid(given[0])],
    "Slice": _slice,
    "Softmax": lambda given, a: [softmax(given[0], a.get("axis", -1))],
    "Split": _split,
    "Squeeze": _squeeze,
    "Sub": _binary(np.subtract),
    "Tanh": lambda given, _: [np.tanh(given[0])],
    "Transpose": lambda given, a: [np.transpose(given[0], a.get("perm"))],
    "Unsqueeze": _unsqueeze,
    "Where": lambda given, _: [np.where(given[0], given[1], given[2])],
}
