"""What PyTorch's modules compute, in NumPy float64, from PyTorch's documents: the other side.

Weights are those of a state dict, with PyTorch's layout and order; nothing is shared with the
conversion. Every text is computed alone, which is what packed sequences mean.

Source: the pages of torch.nn.GRU, LSTM, RNN, Linear and LayerNorm at pytorch.org.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tidegate.interop.network import Array, Stages

RESET_BEFORE = "GRUBefore"  # the cell that an exported module brings along: PyTorch has none


@dataclass(frozen=True)
class Modules:
    """A network of modules, in PyTorch's terms.

    kind: GRU, LSTM, RNN or RESET_BEFORE. recurrent: for each layer, the state dict's prefix of its
    weights and their suffix of the layer ("l0"). norms: prefix of the layer norm before each layer,
    or None. pooling: as in ModelConfig. query, output_norm: names of a tensor, a prefix.
    """

    kind: str
    embedding: str
    recurrent: Sequence[tuple[str, str]]
    norms: Sequence[str | None]
    bidirectional: bool
    pooling: str
    output: str
    query: str | None = None
    output_norm: str | None = None


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), by way of tanh, which never overflows."""
    result: Array = 0.5 * (1.0 + np.tanh(0.5 * x))
    return result


def run(modules: Modules, given: Mapping[str, Array], rows: Sequence[Sequence[int]]) -> Stages:
    """What the network computes of texts of ids. An empty text's states are zeros."""
    state = {name: array.astype(np.float64) for name, array in given.items()}
    pooled = []
    stages: dict[str, list[Array]] = {}
    for row in rows:
        x = state[f"{modules.embedding}.weight"][np.array(row, np.int64)]
        stages.setdefault("embedding", []).append(x)
        last = np.zeros(0)
        for number, (prefix, layer) in enumerate(modules.recurrent):
            name = f"recurrent{number + 1}" if number else "recurrent"
            norm = modules.norms[number]
            if norm is not None:
                x = layer_norm(state, norm, x)
                stages.setdefault(f"{name}_norm", []).append(x)
            ahead, last = _direction(modules.kind, state, prefix, layer, x)
            if modules.bidirectional:
                back, end = _direction(modules.kind, state, prefix, f"{layer}_reverse", x[::-1])
                ahead = np.concatenate([ahead, back[::-1]], axis=1)
                last = np.concatenate([last, end])
            x = ahead
            stages.setdefault(name, []).append(x)
        pooled.append(_pool(modules, state, x, last))
    made: Stages = {**stages}
    made["pooled"] = total = np.stack(pooled)
    if modules.output_norm is not None:
        made["output_norm"] = total = layer_norm(state, modules.output_norm, total)
    made["logits"] = total @ state[f"{modules.output}.weight"].T
    bias = state.get(f"{modules.output}.bias")
    if bias is not None:
        made["logits"] = made["logits"] + bias
    return made


def layer_norm(state: Mapping[str, Array], prefix: str, x: Array) -> Array:
    """torch.nn.LayerNorm of the last axis, with its default eps."""
    mean = x.mean(axis=-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(axis=-1, keepdims=True)
    scaled = (x - mean) / np.sqrt(variance + 1e-5)
    result: Array = scaled * state[f"{prefix}.weight"] + state[f"{prefix}.bias"]
    return result


def _pool(modules: Modules, state: Mapping[str, Array], states: Array, last: Array) -> Array:
    parts = []
    for kind in modules.pooling.split("+"):
        if kind == "last":
            parts.append(last)
        elif not len(states):
            parts.append(np.zeros_like(last))
        elif kind == "max":
            parts.append(states.max(axis=0))
        elif kind == "mean":
            parts.append(states.mean(axis=0))
        else:
            scores = states @ state[str(modules.query)]
            shares = np.exp(scores - scores.max())
            parts.append((shares / shares.sum()) @ states)
    return np.concatenate(parts)


def _direction(
    kind: str, state: Mapping[str, Array], prefix: str, layer: str, x: Array
) -> tuple[Array, Array]:
    """All states [T, H] and the last one [H] of one layer in one direction."""
    w_ih, w_hh = (state[f"{prefix}weight_{part}_{layer}"] for part in ("ih", "hh"))
    zeros = np.zeros(len(w_ih))
    b_ih, b_hh = (state.get(f"{prefix}bias_{part}_{layer}", zeros) for part in ("ih", "hh"))
    size = w_hh.shape[1]
    h, c = np.zeros(size), np.zeros(size)
    outputs = np.zeros((len(x), size))
    for t in range(len(x)):
        i = w_ih @ x[t] + b_ih
        if kind == "GRU":
            hidden = w_hh @ h + b_hh
            r = sigmoid(i[:size] + hidden[:size])
            z = sigmoid(i[size : 2 * size] + hidden[size : 2 * size])
            n = np.tanh(i[2 * size :] + r * hidden[2 * size :])
            h = (1 - z) * n + z * h
        elif kind == RESET_BEFORE:
            r = sigmoid(i[:size] + w_hh[:size] @ h)
            z = sigmoid(i[size : 2 * size] + w_hh[size : 2 * size] @ h)
            n = np.tanh(i[2 * size :] + w_hh[2 * size :] @ (r * h))
            h = (1 - z) * n + z * h
        elif kind == "LSTM":
            total = i + w_hh @ h + b_hh
            input_, forget = sigmoid(total[:size]), sigmoid(total[size : 2 * size])
            g, o = np.tanh(total[2 * size : 3 * size]), sigmoid(total[3 * size :])
            c = forget * c + input_ * g
            h = o * np.tanh(c)
        else:
            h = np.tanh(i + w_hh @ h + b_hh)
        outputs[t] = h
    return outputs, h
