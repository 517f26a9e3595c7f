"""The pooling that ``keras_export`` builds of plain layers, recognised as what it is.

Keras has no layer for it, so that an exported model is a graph and no chain. Its layers keep their
names, also where Keras has trained the model further and saved it again: from the names follows
which pooling it would be, and the export's own layers for that are compared with the file's, one by
one. Whatever stands there instead is refused, and the proof of the import computes the file's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tidegate.errors import ConversionError
from tidegate.interop.keras_export import Graph, pool_layers
from tidegate.interop.keras_file import KerasModel, Layer
from tidegate.interop.network import Array
from tidegate.model import ModelConfig

POOLING = "tidegate's pooling"  # the class of the layer that stands for all of them

_RECURRENT = ("Bidirectional", "GRU", "LSTM", "SimpleRNN")
_KINDS = {"max": "max", "max_of_words": "max", "mean": "mean", "attention": "attention"}
_SETTINGS_OF_NO_EFFECT = ("name", "trainable", "dtype")
# What the statement of Keras does not know: such settings have to be off.
_OFF = ("negative_slope", "threshold", "keepdims")


def as_chain(model: KerasModel) -> list[Layer]:
    """The layers, with one in the place of the export's pooling, if that is what stands there."""
    layers = {layer.name: layer for layer in model.layers}
    states = next((each for each in reversed(model.layers) if each.kind in _RECURRENT), None)
    pooled = _pooled(layers, model.output)
    if states is None or pooled is None or pooled == (states.name, 0):
        return list(model.layers)
    kinds = _kinds(layers, pooled, states.name)
    if kinds is None:
        return list(model.layers)
    made, arrays = _expected(layers, model.layers[0], states, kinds)
    if set(made) in ({"max"}, {"mean"}):
        return list(model.layers)  # a chain as anybody's
    for layer in made.values():
        _check_same(layers, layer)
    stand_in = Layer(pooled[0], POOLING, {"pooling": "+".join(kinds)}, ((states.name, 0),), arrays)
    chain = [stand_in if layer.name == pooled[0] else layer for layer in model.layers]
    return [layer for layer in chain if layer is stand_in or layer.name not in made]


def _pooled(layers: Mapping[str, Layer], output: str) -> tuple[str, int] | None:
    """What the output layer reads, or the layer norm before it."""
    for _ in range(2):
        layer = layers.get(output)
        if layer is None or len(layer.inputs) != 1:
            return None
        source = layer.inputs[0]
        if source[0] not in layers or layers[source[0]].kind != "LayerNormalization":
            return source
        output = source[0]
    return None


def _kinds(layers: Mapping[str, Layer], pooled: tuple[str, int], states: str) -> list[str] | None:
    """Which poolings the names tell, in order; None where other names stand there."""
    sources = layers[pooled[0]].inputs if pooled[0] == "pooled" else (pooled,)
    kinds: list[str] = []
    for name, _ in sources:
        kind = "last" if name in ("last", states) else _KINDS.get(name)
        if kind is None:
            return None
        kinds.append(kind)
    # Both directions' last states come as two tensors, if nothing else is pooled.
    return kinds if kinds != ["last", "last"] and kinds != ["last"] else None


def _expected(
    layers: Mapping[str, Layer], first: Layer, states: Layer, kinds: Sequence[str]
) -> tuple[dict[str, Layer], tuple[Array, ...]]:
    """The export's layers for these poolings, by name, and the query of attention."""
    both = states.kind == "Bidirectional"
    inner: Any = states.config.get("layer") if both else None
    settings = inner.get("config") if isinstance(inner, dict) else states.config
    cell = str(inner.get("class_name")) if isinstance(inner, dict) else states.kind
    units = settings.get("units") if isinstance(settings, dict) else None
    if not isinstance(units, int) or not 0 < units < 1 << 20:
        raise ConversionError(f"layer {states.name!r} tells no units; save the model again")
    embedding = next((layer for layer in layers.values() if layer.kind == "Embedding"), None)
    config = ModelConfig(
        cell={"LSTM": "lstm", "GRU": "gru"}.get(cell, "rnn"),
        hidden_size=units,
        bidirectional=both,
        pooling="+".join(kinds),
        masked=embedding is not None and bool(embedding.config.get("mask_zero")),
        vocabulary_size=5,
        classes=2,
    )
    scores = layers.get("attention_scores")
    arrays = () if scores is None else scores.weights
    if "attention" in kinds and (len(arrays) != 1 or arrays[0].shape != (config.state_size, 1)):
        raise ConversionError("the attention has no vector of the states' size; save it again")
    graph = Graph()
    ids, sequence = (first.name, 0), (states.name, 0)
    graph.shapes[ids] = (None, None)
    graph.shapes[sequence] = (None, None, config.state_size)
    stride = 2 if config.cell == "lstm" else 1
    last = [(states.name, 1 + stride * i) for i in range(2 if both else 1)]
    for tensor in last:
        graph.shapes[tensor] = (None, units)
    query = {"attention.query": arrays[0].reshape(-1)} if arrays else {}
    pool_layers(graph, config, query, ids, sequence, last)
    made = {layer.name: layer for layer in graph.layers}
    return made, tuple(query.values())


def _check_same(layers: Mapping[str, Layer], wanted: Layer) -> None:
    found = layers.get(wanted.name)
    same = found is not None and (found.kind, found.inputs) == (wanted.kind, wanted.inputs)
    if found is not None and same:
        settings = {k: v for k, v in wanted.config.items() if k not in _SETTINGS_OF_NO_EFFECT}
        same = all(_plain(found.config.get(k)) == _plain(v) for k, v in settings.items())
        same = same and not any(found.config.get(name) for name in _OFF if name not in settings)
    if not same:
        raise ConversionError(
            f"layer {wanted.name!r} is not the {wanted.kind} that tidegate's export has there; "
            "export the model again, or give a chain of layers"
        )


def _plain(value: Any) -> Any:
    """Tuples as lists, as JSON has them."""
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else value
