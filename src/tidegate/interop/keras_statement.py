"""What Keras's layers compute, in NumPy float64, from Keras's documents: the other side of a proof.

Gates, masks and pooling are written here as Keras defines them and in its order; nothing is shared
with the conversion. Values are [B, T, F] or [B, F], a mask is [B, T] or None.

Sources: keras.io's pages on each layer; ``backend/*/rnn.py`` of Keras 3 for what a masked step
gives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tidegate.errors import ConversionError
from tidegate.interop.keras_file import KerasModel, Layer
from tidegate.interop.network import Array


@dataclass(frozen=True)
class Value:
    """A tensor with the mask that travels with it."""

    array: Array
    mask: Array | None = None


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), by way of tanh, which never overflows."""
    result: Array = 0.5 * (np.tanh(0.5 * x) + 1.0)
    return result


def softmax(x: Array, axis: int) -> Array:
    shares = np.exp(x - x.max(axis=axis, keepdims=True))
    result: Array = shares / shares.sum(axis=axis, keepdims=True)
    return result


def run(model: KerasModel, ids: Array) -> tuple[dict[str, Value], Array]:
    """Every layer's first output by name, and what the last layer has before its activation.

    ids: [B, T], as the model's only input.
    """
    values: dict[tuple[str, int], Value] = {}
    total = np.zeros(0)
    for layer in model.layers:
        if layer.kind == "InputLayer" or not layer.inputs:
            given = [Value(ids)]
        else:
            given = [values[source] for source in layer.inputs]
        outputs = _layer(layer, given)
        for index, value in enumerate(outputs):
            values[layer.name, index] = value
        if layer.name == model.output:
            total = _dense(layer, given[0].array)
    return {name: value for (name, index), value in values.items() if index == 0}, total


def _layer(layer: Layer, given: Sequence[Value]) -> list[Value]:
    config, x = layer.config, given[0]
    kind = layer.kind
    if kind in ("InputLayer", "Dropout", "SpatialDropout1D", "GaussianDropout", "GaussianNoise"):
        return [x]
    if kind == "Embedding":
        mask = x.array != 0 if config.get("mask_zero") else None
        return [Value(layer.weights[0].astype(np.float64)[x.array], mask)]
    if kind == "Masking":
        mask = (x.array != config.get("mask_value", 0.0)).any(axis=-1)
        return [Value(x.array * mask[..., None], mask)]
    if kind == "Bidirectional":
        return _bidirectional(layer, x)
    if kind in _CELLS:
        return _recurrent(kind, config, layer.weights, x)
    if kind == "Dense":
        return [Value(_activated(config, _dense(layer, x.array)), x.mask)]
    if kind == "LayerNormalization":
        axis, features = config.get("axis", -1), x.array.ndim - 1
        if axis not in (-1, [-1], features, [features]):
            raise ConversionError(f"layer {layer.name!r} normalises over axis={axis!r}")
        gain, bias = (w.astype(np.float64) for w in layer.weights)
        centred = x.array - x.array.mean(axis=-1, keepdims=True)
        variance = (centred**2).mean(axis=-1, keepdims=True)
        return [Value(gain * centred / np.sqrt(variance + config["epsilon"]) + bias, x.mask)]
    if kind == "GlobalMaxPooling1D":
        return [Value(x.array.max(axis=1))]
    if kind == "GlobalAveragePooling1D":
        if x.mask is None:
            return [Value(x.array.mean(axis=1))]
        share = x.mask[..., None].astype(np.float64)
        with np.errstate(invalid="ignore"):  # of nothing but padding Keras gives NaN
            return [Value((x.array * share).sum(axis=1) / share.sum(axis=1))]
    arrays = [value.array for value in given]
    if kind == "Concatenate":
        return [Value(np.concatenate(arrays, axis=-1))]
    if kind == "Add":
        return [Value(arrays[0] + arrays[1])]
    if kind == "Multiply":
        return [Value(arrays[0] * arrays[1])]
    if kind == "Rescaling":
        return [Value(x.array * config["scale"] + config["offset"])]
    if kind == "ReLU":
        return [Value(np.clip(x.array, 0.0, config["max_value"]))]
    if kind == "Reshape":  # to [B, T, 1] alone
        return [Value(x.array.reshape(*x.array.shape[:2], 1))]
    if kind == "Softmax":
        return [Value(softmax(x.array, config["axis"]))]
    if kind == "Dot":  # over the steps: [B, T, 1] and [B, T, F]
        return [Value(np.einsum("bti,btf->bif", arrays[0], arrays[1]))]
    if kind == "Flatten":
        return [Value(x.array.reshape(len(x.array), -1))]
    raise ConversionError(f"layer {layer.name!r} is a {kind}, which tidegate does not know")


def _dense(layer: Layer, x: Array) -> Array:
    kernel = layer.weights[0].astype(np.float64)
    bias = layer.weights[1].astype(np.float64) if len(layer.weights) > 1 else 0.0
    return x @ kernel + bias


def _activated(config: Mapping[str, Any], total: Array) -> Array:
    activation = config.get("activation")
    if activation == "sigmoid":
        return sigmoid(total)
    return softmax(total, -1) if activation == "softmax" else total


# --- Recurrent layers. A step gets x [B, I] and the states, and returns the new ones; the first
# state is also the output. Keras's gates lie in the order z, r, h and i, f, c, o.


_Step = Callable[[Array, tuple[Array, ...], Sequence[Array], Mapping[str, Any]], tuple[Array, ...]]


def _gru(
    x: Array, states: tuple[Array, ...], weights: Sequence[Array], config: Mapping[str, Any]
) -> tuple[Array, ...]:
    (h,) = states
    kernel, recurrent_kernel = weights[0], weights[1]
    n = len(recurrent_kernel)
    reset_after = config.get("reset_after", True)
    if len(weights) < 3:
        input_bias = recurrent_bias = np.zeros(3 * n)
    elif reset_after:
        input_bias, recurrent_bias = weights[2]
    else:
        input_bias, recurrent_bias = weights[2], np.zeros(3 * n)
    x_all = x @ kernel + input_bias
    if reset_after:
        h_all = h @ recurrent_kernel + recurrent_bias
        z = sigmoid(x_all[:, :n] + h_all[:, :n])
        r = sigmoid(x_all[:, n : 2 * n] + h_all[:, n : 2 * n])
        hh = np.tanh(x_all[:, 2 * n :] + r * h_all[:, 2 * n :])
    else:
        z = sigmoid(x_all[:, :n] + h @ recurrent_kernel[:, :n])
        r = sigmoid(x_all[:, n : 2 * n] + h @ recurrent_kernel[:, n : 2 * n])
        hh = np.tanh(x_all[:, 2 * n :] + (r * h) @ recurrent_kernel[:, 2 * n :])
    return (z * h + (1 - z) * hh,)


def _lstm(
    x: Array, states: tuple[Array, ...], weights: Sequence[Array], config: Mapping[str, Any]
) -> tuple[Array, ...]:
    h, c = states
    n = len(weights[1])
    total = x @ weights[0] + h @ weights[1] + (weights[2] if len(weights) > 2 else 0.0)
    i = sigmoid(total[:, :n])
    f = sigmoid(total[:, n : 2 * n])
    c = f * c + i * np.tanh(total[:, 2 * n : 3 * n])
    o = sigmoid(total[:, 3 * n :])
    return o * np.tanh(c), c


def _rnn(
    x: Array, states: tuple[Array, ...], weights: Sequence[Array], config: Mapping[str, Any]
) -> tuple[Array, ...]:
    bias = weights[2] if len(weights) > 2 else 0.0
    return (np.tanh(x @ weights[0] + states[0] @ weights[1] + bias),)


_CELLS: dict[str, tuple[_Step, int]] = {
    "GRU": (_gru, 1),
    "LSTM": (_lstm, 2),
    "SimpleRNN": (_rnn, 1),
}


def _recurrent(
    kind: str,
    config: Mapping[str, Any],
    given: Sequence[Array],
    x: Value,
    backwards: bool = False,
    zero_masked: bool | None = None,
) -> list[Value]:
    """Output, and the last states if the config wants them."""
    weights = [array.astype(np.float64) for array in given]
    step, count = _CELLS[kind]
    batch, steps = x.array.shape[:2]
    if zero_masked is None:
        zero_masked = bool(config.get("zero_output_for_mask"))
    states = tuple(np.zeros((batch, len(weights[1]))) for _ in range(count))
    outputs = []
    for t in reversed(range(steps)) if backwards else range(steps):
        after = step(x.array[:, t], states, weights, config)
        if x.mask is None:
            states, output = after, after[0]
        else:
            real = x.mask[:, t, None]
            output = np.where(real, after[0], 0.0 if zero_masked else states[0])
            states = tuple(np.where(real, a, b) for a, b in zip(after, states, strict=True))
        outputs.append(output)
    if config.get("return_sequences"):
        first = Value(np.stack(outputs, axis=1), x.mask)
    else:
        first = Value(outputs[-1] if outputs else states[0])
    return [first, *map(Value, states)] if config.get("return_state") else [first]


def _bidirectional(layer: Layer, x: Value) -> list[Value]:
    inner = layer.config["layer"]
    config = inner["config"]
    half = len(layer.weights) // 2
    zero = bool(config.get("return_sequences"))  # as Bidirectional sets it, whatever is in the file
    ahead = _recurrent(inner["class_name"], config, layer.weights[:half], x, False, zero)
    back = _recurrent(inner["class_name"], config, layer.weights[half:], x, True, zero)
    first, second = ahead[0].array, back[0].array
    if zero:
        second = second[:, ::-1]  # the backward layer's outputs are in the order of its steps
    joined = Value(np.concatenate([first, second], axis=-1), ahead[0].mask)
    return [joined, *ahead[1:], *back[1:]]
