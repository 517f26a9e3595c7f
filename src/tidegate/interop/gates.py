"""Gate order and sense: converted here, at the border, and nowhere else.

tidegate's order and sense are ``ops.GATES``; its update gate is the share of the NEW state.
Keras's, PyTorch's and ONNX's is the share of the old one: as 1 - sigmoid(x) is sigmoid(-x), all
that goes into that gate is negated. Matrices here have Keras's layout, inputs first; PyTorch and
ONNX store the transposed ones.

Sources: Keras's GRUCell, LSTMCell and SimpleRNNCell; PyTorch's documents of GRU, LSTM and RNN;
ONNX's operators GRU, LSTM and RNN.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tidegate.errors import ConversionError
from tidegate.ops import GATES, RecurrentWeights

Array = npt.NDArray[Any]
Framework = Literal["keras", "torch", "onnx"]

ORDERS: dict[str, dict[str, tuple[str, ...]]] = {
    "keras": {
        "gru": ("update", "reset", "candidate"),
        "lstm": ("input", "forget", "candidate", "output"),
        "rnn": ("hidden",),
    },
    "torch": {
        "gru": ("reset", "update", "candidate"),
        "lstm": ("input", "forget", "candidate", "output"),
        "rnn": ("hidden",),
    },
    "onnx": {
        "gru": ("update", "reset", "candidate"),
        "lstm": ("input", "output", "forget", "candidate"),
        "rnn": ("hidden",),
    },
}


def _reordered(array: Array, given: tuple[str, ...], wanted: tuple[str, ...]) -> Array:
    """The array [..., G*H] with its gates in another order, and the update gate's sense turned."""
    parts = dict(zip(given, np.split(array, len(given), axis=-1), strict=True))
    if "update" in parts:
        parts["update"] = -parts["update"]
    return np.concatenate([parts[gate] for gate in wanted], axis=-1)


def ours(
    framework: Framework,
    cell: str,
    reset: str,
    kernel: Array,
    recurrent_kernel: Array,
    input_bias: Array | None,
    recurrent_bias: Array | None,
) -> RecurrentWeights:
    """Tidegate's weights of one layer and direction.

    kernel: [I, G*H]. recurrent_kernel: [H, G*H]. The biases, [G*H] or None for zeros, are what is
    added to the product with the inputs and to that with the state. Only a GRU with reset after
    tells the two apart; the others have their sum. ConversionError for shapes that don't fit.
    """
    order = ORDERS[framework][cell]
    hidden = recurrent_kernel.shape[0] if recurrent_kernel.ndim == 2 else 0
    width = hidden * len(order)
    zeros = np.zeros(width)
    biases = [zeros if bias is None else bias for bias in (input_bias, recurrent_bias)]
    shapes = [a.shape for a in (kernel, recurrent_kernel, *biases)]
    inputs = kernel.shape[0] if kernel.ndim == 2 else 0
    if not hidden or shapes != [(inputs, width), (hidden, width), (width,), (width,)]:
        listed = ", ".join(str(list(shape)) for shape in shapes)
        raise ConversionError(
            f"weights of shapes {listed} are none of a {cell} layer's kernel, recurrent kernel and "
            "biases; save the model again"
        )

    def convert(array: Array) -> Array:
        return _reordered(array.astype(np.float64), order, GATES[cell]).astype(np.float32)

    if cell == "gru" and reset == "after":
        return RecurrentWeights(convert(kernel), convert(recurrent_kernel), *map(convert, biases))
    total = biases[0].astype(np.float64) + biases[1]
    return RecurrentWeights(convert(kernel), convert(recurrent_kernel), convert(total))


def theirs(
    framework: Framework, cell: str, weights: RecurrentWeights
) -> tuple[Array, Array, Array, Array]:
    """Kernel, recurrent kernel, and the biases of both products, as the framework orders them."""
    order = ORDERS[framework][cell]
    recurrent_bias = weights.recurrent_bias
    if recurrent_bias is None:
        recurrent_bias = np.zeros_like(weights.bias)
    kernel, recurrent_kernel, bias, second = (
        np.ascontiguousarray(_reordered(array, GATES[cell], order), np.float32)
        for array in (weights.kernel, weights.recurrent_kernel, weights.bias, recurrent_bias)
    )
    return kernel, recurrent_kernel, bias, second
