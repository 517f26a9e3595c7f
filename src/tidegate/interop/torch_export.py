"""From tidegate's network to a PyTorch module: a program of its own, and a state dict beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import safetensors.numpy

import tidegate
from tidegate.interop import gates, torch_statement
from tidegate.interop.network import Array, Stages
from tidegate.interop.proof import read_ids
from tidegate.interop.torch_statement import RESET_BEFORE, Modules
from tidegate.model import ModelConfig, TextModel
from tidegate.ops import RecurrentWeights

_KINDS = {"gru": "GRU", "lstm": "LSTM", "rnn": "RNN"}


def modules_of(config: ModelConfig) -> Modules:
    """The modules and their names. One has all layers, unless layer norms stand between them."""
    if config.layer_norm:
        layers = [(f"{names[0]}.", "l0") for names in config.recurrent_names]
    else:
        layers = [("recurrent.", f"l{number}") for number in range(config.layers)]
    norms = [
        f"{names[0]}_norm" if config.layer_norm and number else None
        for number, names in enumerate(config.recurrent_names)
    ]
    return Modules(
        RESET_BEFORE if config.kind == "gru_before" else _KINDS[config.cell],
        "embedding",
        layers,
        norms,
        config.bidirectional,
        config.pooling,
        "output",
        "attention.query" if "attention" in config.poolings else None,
        "output_norm" if config.layer_norm else None,
    )


def state_of(model: TextModel, modules: Modules) -> dict[str, Array]:
    """The state dict, in PyTorch's layout and order."""
    config, p = model.config, model.parameters
    state: dict[str, Array] = {"embedding.weight": p["embedding.weight"]}
    for (prefix, layer), names in zip(modules.recurrent, config.recurrent_names, strict=True):
        for name, end in zip(names, ("", "_reverse"), strict=False):
            weights = RecurrentWeights(
                p[f"{name}.kernel"],
                p[f"{name}.recurrent_kernel"],
                p[f"{name}.bias"],
                p.get(f"{name}.recurrent_bias"),
            )
            kernel, recurrent, bias, second = gates.theirs("torch", config.cell, weights)
            state[f"{prefix}weight_ih_{layer}{end}"] = kernel.T
            state[f"{prefix}weight_hh_{layer}{end}"] = recurrent.T
            state[f"{prefix}bias_ih_{layer}{end}"] = bias
            if modules.kind != RESET_BEFORE:
                state[f"{prefix}bias_hh_{layer}{end}"] = second
    for norm in (*modules.norms, modules.output_norm):
        if norm is not None:
            state[f"{norm}.weight"], state[f"{norm}.bias"] = p[f"{norm}.gain"], p[f"{norm}.bias"]
    if modules.query is not None:
        state[modules.query] = p["attention.query"]
    state["output.weight"], state["output.bias"] = p["output.kernel"].T, p["output.bias"]
    return {name: np.ascontiguousarray(array, np.float32) for name, array in state.items()}


def weights_bytes(state: Mapping[str, Array], metadata: Mapping[str, Any]) -> bytes:
    """The state dict as a safetensors file."""
    told = json.dumps(metadata, sort_keys=True)
    return bytes(safetensors.numpy.save(dict(state), {"tidegate": told}))


def stages_of(
    modules: Modules, state: Mapping[str, Array], config: ModelConfig, rows: Sequence[Array]
) -> Stages:
    """What the exported modules compute, by the statement of PyTorch."""
    return torch_statement.run(modules, state, [read_ids(config, row).tolist() for row in rows])


# --- The program


def source(config: ModelConfig, modules: Modules, weights_name: str) -> str:
    """The module's source. weights_name: of the file beside it."""
    parts = [_head(config, modules), _imports(config, modules)]
    if modules.kind == RESET_BEFORE:
        parts.append(_GRU_BEFORE)
    if modules.query is not None:
        parts.append(_ATTENTION)
    parts.append(_class(config, modules) + "\n" + _tail(config, weights_name))
    head, *rest = (part.strip("\n") for part in parts)
    return head + "\n\n" + "\n\n\n".join(rest) + "\n"


def _head(config: ModelConfig, modules: Modules) -> str:
    if config.masked:
        ids = "padded behind with 0 to one length"
    else:
        ids = f"padded in front with 0 to {config.max_length} ids, which the network reads, too"
    return f'''
"""A text classifier that tidegate {tidegate.__version__} exported to PyTorch.

    model = load()
    probabilities = model.probabilities(ids)  # [B, {config.classes}]

ids are [B, T] int64, {ids}. The vocabulary beside this
file says which word has which id and which class has which label.
"""
'''


def _imports(config: ModelConfig, modules: Modules) -> str:
    packed = config.masked and modules.kind != RESET_BEFORE
    lines = [
        "from __future__ import annotations",
        "",
        "from pathlib import Path",
        "",
        "import torch",
        "from safetensors.torch import load_file",
        "from torch import nn",
    ]
    if packed:
        lines.append("from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence")
    return "\n".join(lines)


_ATTENTION = '''
class Attention(nn.Module):
    """The mean of states, weighted by the softmax of their products with a learned vector."""

    def __init__(self, size):
        super().__init__()
        self.query = nn.Parameter(torch.zeros(size))

    def forward(self, states, is_word):
        scores = (states @ self.query).masked_fill(~is_word, -1e30)
        return (torch.softmax(scores, dim=1).unsqueeze(2) * states).sum(dim=1)
'''

_GRU_BEFORE = '''
class GRUBefore(nn.Module):
    """A GRU whose reset gate acts before the recurrent product, which PyTorch's does not.

    Gates lie in PyTorch's order: reset, update, candidate. Returns what nn.GRU does.
    """

    def __init__(self, inputs, hidden, num_layers=1, bidirectional=False):
        super().__init__()
        self.hidden, self.layers = hidden, num_layers
        self.ends = ("", "_reverse") if bidirectional else ("",)
        for layer in range(num_layers):
            width = hidden * len(self.ends) if layer else inputs
            for end in self.ends:
                shapes = {"weight_ih": (3 * hidden, width), "weight_hh": (3 * hidden, hidden)}
                shapes["bias_ih"] = (3 * hidden,)
                for name, shape in shapes.items():
                    self.register_parameter(
                        f"{name}_l{layer}{end}", nn.Parameter(torch.zeros(shape))
                    )

    def forward(self, x, is_word):
        last = []
        for layer in range(self.layers):
            outputs = []
            for end in self.ends:
                states, state = self._direction(x, is_word, f"l{layer}{end}", bool(end))
                outputs.append(states)
                last.append(state)
            x = torch.cat(outputs, dim=2)
        return x, torch.stack(last)

    def _direction(self, x, is_word, layer, reverse):
        weight_ih, weight_hh, bias = (
            getattr(self, f"{name}_{layer}") for name in ("weight_ih", "weight_hh", "bias_ih")
        )
        h_reset, h_update, h_candidate = weight_hh.chunk(3)
        projected = x @ weight_ih.T + bias
        h = x.new_zeros(len(x), self.hidden)
        states = [h] * x.shape[1]
        steps = range(x.shape[1])
        for t in reversed(steps) if reverse else steps:
            x_reset, x_update, x_candidate = projected[:, t].chunk(3, dim=1)
            reset = torch.sigmoid(x_reset + h @ h_reset.T)
            update = torch.sigmoid(x_update + h @ h_update.T)
            candidate = torch.tanh(x_candidate + (reset * h) @ h_candidate.T)
            h = torch.where(is_word[:, t, None], (1 - update) * candidate + update * h, h)
            states[t] = h
        return torch.stack(states, dim=1), h
'''


def _class(config: ModelConfig, modules: Modules) -> str:
    lines = ["class TextClassifier(nn.Module):", "    def __init__(self):"]

    def put(line: str, depth: int = 2) -> None:
        lines.append("    " * depth + line)

    put("super().__init__()")
    table = f"{config.vocabulary_size}, {config.embedding_size}"
    put(f"self.embedding = nn.Embedding({table}, padding_idx=0)")
    before = modules.kind == RESET_BEFORE
    maker = RESET_BEFORE if before else f"nn.{modules.kind}"
    single = not config.layer_norm
    names = ["recurrent"] if single else [n[0] for n in config.recurrent_names]
    width = config.embedding_size
    for number, name in enumerate(names):
        if number:
            put(f"self.{name}_norm = nn.LayerNorm({config.state_size})")
        options = [str(width), str(config.hidden_size)]
        if single and config.layers > 1:
            options.append(f"num_layers={config.layers}")
        if config.bidirectional:
            options.append("bidirectional=True")
        if not before:
            options.append("batch_first=True")
        put(f"self.{name} = {maker}({', '.join(options)})")
        width = config.state_size
    pooled = config.state_size * len(config.poolings)
    if modules.query is not None:
        put(f"self.attention = Attention({config.state_size})")
    if config.layer_norm:
        put(f"self.output_norm = nn.LayerNorm({pooled})")
    put(f"self.output = nn.Linear({pooled}, {config.logits})")
    lines += ["", "    def forward(self, ids):", f'        """Logits [B, {config.logits}]."""']
    _forward(config, modules, names, put)
    return "\n".join(lines)


def _forward(config: ModelConfig, modules: Modules, names: Sequence[str], put: Any) -> None:
    before, packed = modules.kind == RESET_BEFORE, config.masked
    if config.masked:
        put("if not ids.shape[1]:")
        put("ids = nn.functional.pad(ids, (0, 1))", 3)
        put("is_word = ids != 0")
        put("lengths = is_word.sum(dim=1)")
    elif before or config.poolings != ("last",):
        put("is_word = torch.ones_like(ids, dtype=torch.bool)")
    put("states = self.embedding(ids)")
    for number, name in enumerate(names):
        if number:
            put(f"states = self.{name}_norm(states)")
        if before:
            put(f"states, last = self.{name}(states, is_word)")
        elif packed:
            # PyTorch packs no text of no words: one word of padding is read, and left out below.
            put("at_least_one = lengths.clamp(min=1).cpu()")
            put("packed = pack_padded_sequence(states, at_least_one, True, enforce_sorted=False)")
            put(f"packed, last = self.{name}(packed)")
            put("states, _ = pad_packed_sequence(packed, True, total_length=ids.shape[1])")
        else:
            put(f"states, last = self.{name}(states)")
    if config.cell == "lstm":
        put("last = last[0]  # the hidden state; the other is the cell state")
    last = "torch.cat([last[-2], last[-1]], dim=1)" if config.bidirectional else "last[-1]"
    parts = {
        "last": last,
        "max": "states.masked_fill(~is_word.unsqueeze(2), -2.0).amax(dim=1)",
        "mean": "(states * is_word.unsqueeze(2)).sum(dim=1) / is_word.sum(dim=1, keepdim=True)"
        ".clamp(min=1)",
        "attention": "self.attention(states, is_word)",
    }
    pools = [f"{kind}_state" for kind in config.poolings]
    for kind, name in zip(config.poolings, pools, strict=True):
        put(f"{name} = {parts[kind]}")
    put(
        f"pooled = {pools[0]}"
        if len(pools) == 1
        else f"pooled = torch.cat([{', '.join(pools)}], dim=1)"
    )
    if config.masked:
        put("pooled = pooled * (lengths > 0).unsqueeze(1)  # of no words, nothing")
    if config.layer_norm:
        put("pooled = self.output_norm(pooled)")
    put("return self.output(pooled)")


def _tail(config: ModelConfig, weights_name: str) -> str:
    if config.logits == 1:
        body = """second = torch.sigmoid(self(ids))
        return torch.cat([1 - second, second], dim=1)"""
    elif config.targets == "many":
        body = "return torch.sigmoid(self(ids))  # each label is a question of its own"
    else:
        body = "return torch.softmax(self(ids), dim=1)"
    return f'''
    def probabilities(self, ids):
        """[B, {config.classes}], in the order of the labels."""
        {body}


def load():
    """The model with its weights, which lie beside this file."""
    model = TextClassifier()
    model.load_state_dict(load_file(Path(__file__).with_name({weights_name!r})))
    return model.eval()
'''
