"""From a PyTorch state dict to tidegate's network.

A state dict tells names and shapes, not what the program did with them: how padding was treated and
what was read of the states come from the caller (packed sequences and the last states, if nothing
else is said), and a plain RNN's activation is taken for tanh.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tidegate.errors import ConfigError, ConversionError
from tidegate.interop import gates, torch_statement
from tidegate.interop.keras_import import store
from tidegate.interop.network import Array, Foreign, check_head
from tidegate.interop.torch_file import read_state
from tidegate.interop.torch_statement import RESET_BEFORE, Modules

ROLES = ("embedding", "recurrent", "output")

_CELLS = {1: ("rnn", "RNN"), 3: ("gru", "GRU"), 4: ("lstm", "LSTM")}
_RECURRENT = re.compile(r"(.*?)(weight|bias)_(ih|hh)_l([0-9]{1,3})(_reverse)?")
_MEND = "say which module is which by --name embedding=..., --name recurrent=..., --name output=..."


def read_torch(
    path: Path,
    *,
    masked: bool | None = None,
    pooling: str | None = None,
    names: Sequence[tuple[str, str]] = (),
) -> Foreign:
    """The network in a state dict. ModelFileError or ConversionError for another.

    names: (role, prefix) pairs that replace the guess; "recurrent" may stand several times, for
    several modules one after another.
    """
    for role, _ in names:
        if role not in ROLES:
            raise ConfigError(f"name={role!r} is not one of {', '.join(ROLES)}")
    state = read_state(path)
    if "recurrent.recurrent_kernel" in state:
        raise ConversionError(f"{str(path)!r} is a model of tidegate's already; use it as it is")
    modules, cell, reset = _modules(state, dict(names), pooling or "last", list(names))
    return _network(path, state, modules, cell, reset, True if masked is None else masked)


def _natural(name: str) -> list[tuple[int, int | str]]:
    """Sorts rnn2 before rnn10."""
    return [
        (0, int(p)) if p.isdigit() else (1, p) for p in re.split(r"([0-9]+)", name.rstrip(".")) if p
    ]


def _recurrent_layers(
    state: Mapping[str, Array], given: list[str]
) -> tuple[list[tuple[str, str]], bool]:
    """Prefix and layer of each recurrent layer, in order, and whether there are two directions."""
    found: dict[str, set[tuple[int, bool]]] = {}
    for name in state:
        match = _RECURRENT.fullmatch(name)
        if match and match[2] == "weight" and match[3] == "hh":
            found.setdefault(match[1], set()).add((int(match[4]), bool(match[5])))
    if given:
        prefixes = [f"{name}." if name else "" for name in given]
        missing = [prefix for prefix in prefixes if prefix not in found]
        if missing:
            raise ConversionError(
                f"the state dict has no recurrent module {missing[0][:-1]!r}; it has "
                f"{_listed(prefix.rstrip('.') for prefix in found)}"
            )
    else:
        prefixes = sorted(found, key=_natural)
    if not prefixes:
        raise ConversionError(
            "the state dict has no weight_hh_l0, so no GRU, LSTM or RNN; it has "
            f"{_listed(list(state))}"
        )
    layers: list[tuple[str, str]] = []
    both = {reverse for prefix in prefixes for _, reverse in found[prefix]} == {False, True}
    for prefix in prefixes:
        count = 1 + max(number for number, _ in found[prefix])
        wanted = {(n, back) for n in range(count) for back in ((False, True) if both else (False,))}
        if found[prefix] != wanted:
            raise ConversionError(f"the recurrent module {prefix[:-1]!r} has not all its layers")
        layers += [(prefix, f"l{number}") for number in range(count)]
    return layers, both


def _listed(names: object) -> str:
    shown = [str(name)[:60] for name in list(names)[:8]]  # type: ignore[call-overload]
    return ", ".join(shown) if shown else "no tensor"


def _modules(
    state: Mapping[str, Array], given: Mapping[str, str], pooling: str, pairs: list[tuple[str, str]]
) -> tuple[Modules, str, str]:
    layers, both = _recurrent_layers(state, [name for role, name in pairs if role == "recurrent"])
    prefix, layer = layers[0]
    recurrent = state[f"{prefix}weight_hh_{layer}"]
    rows, hidden = recurrent.shape if recurrent.ndim == 2 else (0, 0)
    if not hidden or rows % hidden or rows // hidden not in _CELLS:
        raise ConversionError(
            f"{prefix}weight_hh_{layer} is {list(recurrent.shape)}, which is none of a GRU's, "
            "LSTM's or RNN's; save the model's state dict"
        )
    cell, kind = _CELLS[rows // hidden]
    biases = [f"{prefix}bias_{part}_{layer}" in state for part in ("ih", "hh")]
    # Only tidegate's own exports have one bias of two.
    before = cell == "gru" and biases == [True, False]
    taken = {name for name in state if _RECURRENT.fullmatch(name)}
    first_inputs = state.get(f"{prefix}weight_ih_{layer}")
    if first_inputs is None or first_inputs.ndim != 2:
        raise ConversionError(f"{prefix}weight_ih_{layer} is missing; save the whole state dict")
    matrices = {
        name.removesuffix(".weight"): array
        for name, array in state.items()
        if array.ndim == 2 and name not in taken and name.endswith(".weight")
    }
    width = hidden * (2 if both else 1)
    pooled = width * len(pooling.split("+"))
    wide = [name for name, array in matrices.items() if array.shape[1] == pooled]
    named = given.get("output") if given.get("output") in wide else None
    words = {
        name: array
        for name, array in matrices.items()
        if array.shape[1] == first_inputs.shape[1] and name != named
    }
    embedding = _choose("embedding", given, words, first_inputs.shape[1], "emb")
    heads = {
        name: array
        for name, array in matrices.items()
        if array.shape[1] == pooled and name != embedding
    }
    output = _choose("output", given, heads, pooled, "fc")
    norms: list[str | None] = [None]
    for number in range(2, len(layers) + 1):
        name = f"recurrent{number}_norm"
        norms.append(name if f"{name}.weight" in state else None)
    query = "attention.query" if "attention" in pooling.split("+") else None
    modules = Modules(
        RESET_BEFORE if before else kind,
        embedding,
        layers,
        norms,
        both,
        pooling,
        output,
        query,
        "output_norm" if "output_norm.weight" in state else None,
    )
    _check_all_used(state, modules, taken)
    return modules, cell, "before" if before else "after"


def _choose(
    role: str, given: Mapping[str, str], choices: Mapping[str, Array], width: int, hint: str
) -> str:
    if role in given:
        if given[role] not in choices:
            raise ConversionError(
                f"the state dict has no matrix {given[role]}.weight of width {width} for the "
                f"{role}; it has {_listed(list(choices))}"
            )
        return given[role]
    likely = [name for name in choices if hint in name.lower()]
    found = list(choices) if len(choices) == 1 or not likely else likely
    if len(found) != 1:
        what = f"has {len(found)} matrices of width {width}" if found else f"has none of {width}"
        raise ConversionError(
            f"for the {role} the state dict {what}: {_listed(found)}; {_MEND}, and --pooling says "
            "what the output layer reads"
        )
    return found[0]


def _check_all_used(state: Mapping[str, Array], modules: Modules, taken: set[str]) -> None:
    used = {f"{modules.embedding}.weight", f"{modules.output}.weight", f"{modules.output}.bias"}
    for norm in (*modules.norms, modules.output_norm):
        used |= {f"{norm}.weight", f"{norm}.bias"}
    used.add(str(modules.query))
    used |= {
        f"{prefix}{part}_{layer}{end}"
        for prefix, layer in modules.recurrent
        for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        for end in ("", "_reverse")
    }
    left = [name for name in state if name not in used]
    if left:
        raise ConversionError(
            f"the state dict has {_listed(left)}, which tidegate has no place for; it reads one "
            "Embedding, GRUs, LSTMs or RNNs in a chain, and one Linear"
        )


def _network(
    path: Path, state: Mapping[str, Array], modules: Modules, cell: str, reset: str, masked: bool
) -> Foreign:
    weights: dict[str, Array] = {"embedding.weight": state[f"{modules.embedding}.weight"]}
    for number, (prefix, layer) in enumerate(modules.recurrent):
        name = f"recurrent{number + 1}" if number else "recurrent"
        ends = (("", ""), ("_reverse", "_reverse")) if modules.bidirectional else (("", ""),)
        for ours, theirs in ends:
            matrices = []
            for part in ("weight_ih", "weight_hh"):
                tensor = state.get(f"{prefix}{part}_{layer}{theirs}")
                if tensor is None or tensor.ndim != 2:
                    raise ConversionError(
                        f"{prefix}{part}_{layer}{theirs} is missing or no matrix; save the whole "
                        "state dict"
                    )
                matrices.append(tensor.T)
            biases = [
                state.get(f"{prefix}{part}_{layer}{theirs}") for part in ("bias_ih", "bias_hh")
            ]
            made = gates.ours("torch", cell, reset, matrices[0], matrices[1], *biases)
            store(weights, f"{name}{ours}", made)
        norm = modules.norms[number]
        if norm is not None:
            _norm(state, weights, norm)
    if modules.output_norm is not None:
        _norm(state, weights, modules.output_norm)
    if modules.query is not None:
        if modules.query not in state:
            raise ConversionError(f"the state dict has no {modules.query}, which attention needs")
        weights["attention.query"] = state[modules.query]
    hidden = state[f"{modules.recurrent[0][0]}weight_hh_{modules.recurrent[0][1]}"].shape[1]
    kernel = state[f"{modules.output}.weight"].T
    bias = state.get(f"{modules.output}.bias", np.zeros(kernel.shape[1], np.float32))
    inputs = hidden * (2 if modules.bidirectional else 1) * len(modules.pooling.split("+"))
    return Foreign(
        source=f"PyTorch, {path.name}",
        shape={
            "cell": cell,
            "reset": reset,
            "embedding_size": weights["embedding.weight"].shape[1],
            "hidden_size": hidden,
            "layers": len(modules.recurrent),
            "bidirectional": modules.bidirectional,
            "pooling": modules.pooling,
            "layer_norm": modules.output_norm is not None,
            "masked": masked,
        },
        max_length=None,
        weights=weights,
        kernel=kernel,
        bias=bias,
        activation=check_head(kernel, bias, "linear", inputs),
        padding_id=None,
        run=lambda rows: torch_statement.run(modules, state, rows),
    )


def _norm(state: Mapping[str, Array], weights: dict[str, Array], name: str) -> None:
    if f"{name}.bias" not in state:
        raise ConversionError(f"the state dict has {name}.weight, and no {name}.bias")
    weights[f"{name}.gain"] = state[f"{name}.weight"]
    weights[f"{name}.bias"] = state[f"{name}.bias"]
