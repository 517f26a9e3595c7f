"""Make tests/data/torch_recurrent.npz: values and gradients of PyTorch's recurrent layers.

Made with Python 3.11, PyTorch 2.13.0 (CPU, float64) and NumPy 2.4.6; run with
``python tests/golden/make_torch_golden.py`` where these are installed. It takes seconds.

nn.GRU, nn.LSTM and nn.RNN run over a table of inputs indexed by word, and autograd gives the
gradients of ``sum(outputs * d_outputs) + sum(last * d_last)``. The GRU that resets before the
product has no module in PyTorch: here it is a loop over rows and steps, also under autograd.
Weights and their gradients are stored in tidegate's conventions: PyTorch's gates are reset,
update, candidate, and its update gate is the share of the *old* state, so that gate's weights
are negated; its LSTM has the order input, forget, candidate, output; where it has two biases
and one is enough, the sum is stored.

The file holds

    settings                       JSON: versions and sizes (T = longest text)
    token_ids [N], offsets [B+1]   int32, int64: the texts, none longer than T, no id being 0
    empty_row                      which text is empty; left out of packed runs (PyTorch can't)
    table [V, I]                   float64: the input of each word, row 0 being padding
    d_outputs [N, H]               in the order of token_ids
    d_padding [T, H]               gradient of the padding states, which text empty_row runs
    d_last [B, H]
    initial, initial_cell [B, H]
    KIND/WEIGHT                    kernel, recurrent_kernel, bias, recurrent_bias (gru_after only)
    KIND/RUN/outputs [N, H]        the state after each id of the texts
    KIND/RUN/last [B, H]
    KIND/RUN/padding [T, H]        (RUN = padded) the states of the row of padding alone
    KIND/RUN/d_WEIGHT, d_table     gradients; d_table [V, I]
    KIND/RUN/d_initial, d_initial_cell   [B, H] (RUN = packed; d_initial_cell for lstm)

KIND is gru_after, gru_before, lstm or rnn. RUN is "packed" (ragged rows, each beginning with its
initial state; the empty row has last 0 and d_initial 0, for it is left out) or "padded" (all
rows T long with padding in front that the layer reads, beginning at zero).
"""

from __future__ import annotations

import json
import platform
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch  # type: ignore[import-not-found,import-untyped,unused-ignore]
from torch import nn  # type: ignore[import-not-found,import-untyped,unused-ignore]

DATA = Path(__file__).resolve().parent.parent / "data"
SEED = 4
LENGTHS = (4, 9, 0, 6, 9, 1, 6)
V, INPUTS, HIDDEN = 13, 5, 8  # V words with padding
T, B = max(LENGTHS), len(LENGTHS)
EMPTY = LENGTHS.index(0)
# PyTorch's gate g is our gate ORDER[g], and back
ORDER = {"gru_after": [1, 0, 2], "gru_before": [1, 0, 2], "lstm": [0, 1, 2, 3], "rnn": [0]}

Arrays = dict[str, Any]


class GruResetBefore(nn.Module):  # type: ignore[misc,unused-ignore]
    """A GRU that resets before the product, with PyTorch's weights and senses of the gates."""

    def __init__(self) -> None:
        super().__init__()
        self.weight_ih_l0 = nn.Parameter(torch.empty(3 * HIDDEN, INPUTS))
        self.weight_hh_l0 = nn.Parameter(torch.empty(3 * HIDDEN, HIDDEN))
        self.bias_ih_l0 = nn.Parameter(torch.empty(3 * HIDDEN))
        self.bias_hh_l0 = nn.Parameter(torch.empty(3 * HIDDEN))

    def row(self, inputs: Any, hidden: Any) -> Any:
        """inputs [steps, I], hidden [H] -> the states after each step, [steps, H]."""
        states = []
        reset_h, update_h, new_h = self.weight_hh_l0.chunk(3)
        for x in inputs:
            total = self.weight_ih_l0 @ x + self.bias_ih_l0 + self.bias_hh_l0
            reset_x, update_x, new_x = total.chunk(3)
            reset = torch.sigmoid(reset_x + reset_h @ hidden)
            update = torch.sigmoid(update_x + update_h @ hidden)
            new = torch.tanh(new_x + new_h @ (reset * hidden))
            hidden = (1 - update) * new + update * hidden
            states.append(hidden)
        return torch.stack(states)


def make_layer(kind: str) -> Any:
    if kind == "gru_after":
        return nn.GRU(INPUTS, HIDDEN)
    if kind == "gru_before":
        return GruResetBefore()
    if kind == "lstm":
        return nn.LSTM(INPUTS, HIDDEN)
    return nn.RNN(INPUTS, HIDDEN, nonlinearity="tanh")


def to_tidegate(kind: str, values: Any) -> Any:
    """[G*H, ...] in PyTorch's gate order -> [..., G*H] in ours, the update gate negated."""
    gates = np.split(values.detach().numpy(), len(ORDER[kind]))
    ours = [np.array(gates[gate]) for gate in ORDER[kind]]
    if kind.startswith("gru"):
        ours[0] *= -1
    return np.concatenate(ours).T.copy()


def weights_of(kind: str, layer: Any, *, gradients: bool) -> Arrays:
    def value(name: str) -> Any:
        parameter = getattr(layer, name)
        return to_tidegate(kind, parameter.grad if gradients else parameter)

    named = {"kernel": value("weight_ih_l0"), "recurrent_kernel": value("weight_hh_l0")}
    bias, second = value("bias_ih_l0"), value("bias_hh_l0")
    if kind == "gru_after":
        named["recurrent_bias"] = second
    elif not gradients:  # gradients of the two are the same, and of their sum too
        bias = bias + second
    return {**named, "bias": bias}


def run_rows(layer: Any, rows: list[Any], initial: Any, initial_cell: Any) -> list[Any]:
    """States after each step of rows [steps, I] that begin with these states, per row."""
    if isinstance(layer, GruResetBefore):
        return [layer.row(row, initial[number]) for number, row in enumerate(rows)]
    packed = nn.utils.rnn.pack_sequence(rows, enforce_sorted=False)
    state = initial[None]
    if isinstance(layer, nn.LSTM):
        state = (state, initial_cell[None])
    outputs, _ = layer(packed, state)
    padded, lengths = nn.utils.rnn.pad_packed_sequence(outputs, batch_first=True)
    return [row[:length] for row, length in zip(padded, lengths, strict=True)]


def main() -> None:
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    generator = np.random.default_rng(SEED)
    offsets = np.concatenate([[0], np.cumsum(LENGTHS)])
    shared = {
        "table": generator.normal(0, 1, (V, INPUTS)),
        "d_outputs": generator.normal(0, 1, (offsets[-1], HIDDEN)),
        "d_padding": generator.normal(0, 1, (T, HIDDEN)),
        "d_last": generator.normal(0, 1, (B, HIDDEN)),
        "initial": generator.uniform(-1, 1, (B, HIDDEN)),
        "initial_cell": generator.uniform(-1, 1, (B, HIDDEN)),
    }
    arrays: Arrays = dict(shared)
    arrays["token_ids"] = generator.integers(1, V, offsets[-1]).astype(np.int32)
    arrays["offsets"] = offsets.astype(np.int64)
    arrays["empty_row"] = np.array(EMPTY)
    texts = [arrays["token_ids"][a:b] for a, b in pairwise(offsets)]

    for kind in ORDER:
        layer = make_layer(kind)
        for parameter in layer.parameters():
            nn.init.uniform_(parameter, -0.8, 0.8)
        for name, values in weights_of(kind, layer, gradients=False).items():
            arrays[f"{kind}/{name}"] = values

        for run in ("packed", "padded"):
            layer.zero_grad()
            given = {name: torch.tensor(values) for name, values in shared.items()}
            table = given["table"].requires_grad_()
            initial, cell = given["initial"], given["initial_cell"]
            d_outputs = [given["d_outputs"][a:b] for a, b in pairwise(offsets)]
            results: Arrays = {}
            last = torch.zeros(B, HIDDEN)
            states = [torch.zeros(0, HIDDEN) for _ in texts]
            if run == "packed":
                initial.requires_grad_()
                cell.requires_grad_()
                chosen = [row for row in range(B) if row != EMPTY]
                rows = [table[torch.tensor(texts[row]).long()] for row in chosen]
                run_states = run_rows(layer, rows, initial[chosen], cell[chosen])
            else:
                chosen = list(range(B))
                padded = [np.concatenate([np.zeros(T - len(t), int), t]) for t in texts]
                rows = [table[torch.tensor(ids).long()] for ids in padded]
                zero = torch.zeros(B, HIDDEN)
                run_states = run_rows(layer, rows, zero, zero)
                padding = run_states[EMPTY]
                results["padding"] = padding
            for row, row_states in zip(chosen, run_states, strict=True):
                states[row] = row_states[len(row_states) - LENGTHS[row] :]
                last[row] = row_states[-1]
            objective = (last * given["d_last"]).sum()
            for row_states, d_states in zip(states, d_outputs, strict=True):
                objective = objective + (row_states * d_states).sum()
            if run == "padded":
                objective = objective + (padding * given["d_padding"]).sum()
            objective.backward()

            results.update(outputs=torch.cat(states), last=last, d_table=table.grad)
            if run == "packed":
                results["d_initial"] = initial.grad
                if kind == "lstm":
                    results["d_initial_cell"] = cell.grad
            for name, values in results.items():
                arrays[f"{kind}/{run}/{name}"] = values.detach().numpy()
            for name, values in weights_of(kind, layer, gradients=True).items():
                arrays[f"{kind}/{run}/d_{name}"] = values

    settings = {
        "sizes": {"words": V, "inputs": INPUTS, "hidden": HIDDEN, "length": T, "batch": B},
        "seed": SEED,
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
    }
    arrays["settings"] = np.array(json.dumps(settings, sort_keys=True))
    np.savez_compressed(DATA / "torch_recurrent.npz", **arrays)


if __name__ == "__main__":
    main()
