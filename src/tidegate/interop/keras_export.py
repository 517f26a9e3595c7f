"""From tidegate's network to a Keras 3 model: the graph of its config, and its arrays.

Texts may be padded on either side where padding is left out; id 0 is padding and nothing else.
Keras has no layer for the pooling of masked steps that says something of no steps at all, so that
it is built of plain layers: of each id the number 1, or 0 for padding, from which padding gets -2
for the maximum (states are never below -1) or -1e9 for a softmax.

No class of layers with weights may stand in two branches of the graph: a file's arrays are found by
class and number, and Keras numbers layers by their depth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tidegate.interop import gates, keras_statement
from tidegate.interop.keras_file import KerasModel, Layer
from tidegate.interop.network import Array, Stages
from tidegate.interop.proof import read_ids
from tidegate.model import ModelConfig, TextModel
from tidegate.ops import RecurrentWeights

KERAS_VERSION = "3.15.1"  # the newest one that the files were tried with

_CLASSES = {"gru": "GRU", "lstm": "LSTM", "rnn": "SimpleRNN"}
_MODULES = {"Functional": "keras.src.models.functional"}

_AS_IT_IS: dict[str, Any] = {"scale": 1.0, "offset": 0.0}

Tensor = tuple[str, int]  # a layer's name, and which of its outputs


class Graph:
    """Layers as they are added; a tensor's shape is known, for Keras keeps it in its config."""

    def __init__(self) -> None:
        self.layers: list[Layer] = []
        self.shapes: dict[Tensor, tuple[int | None, ...]] = {}
        self.types: dict[str, str] = {}

    def add(
        self,
        kind: str,
        name: str,
        inputs: Sequence[Tensor],
        shapes: Sequence[tuple[int | None, ...]],
        weights: Sequence[Array] = (),
        **config: Any,
    ) -> Tensor:
        """The new layer's first output. shapes: of all its outputs."""
        settings = {"name": name, "trainable": True, "dtype": "float32", **config}
        self.layers.append(Layer(name, kind, settings, tuple(inputs), tuple(weights)))
        for index, shape in enumerate(shapes):
            self.shapes[name, index] = shape
        return name, 0

    def joined(self, name: str, inputs: Sequence[Tensor]) -> Tensor:
        """Tensors side by side; a single one as it is."""
        if len(inputs) == 1:
            return inputs[0]
        width = sum(self.shapes[tensor][-1] or 0 for tensor in inputs)
        return self.add("Concatenate", name, inputs, [(None, width)], axis=-1)

    def config(self, output: Tensor) -> dict[str, Any]:
        """The content of config.json."""
        return {
            "module": _MODULES["Functional"],
            "class_name": "Functional",
            "config": {
                "name": "tidegate",
                "trainable": True,
                "layers": [self._layer_config(layer) for layer in self.layers],
                "input_layers": [self.layers[0].name, 0, 0],
                "output_layers": [output[0], 0, output[1]],
            },
            "registered_name": "Functional",
            "build_config": {"input_shape": None},
        }

    def _layer_config(self, layer: Layer) -> dict[str, Any]:
        tensors = [self._tensor(source) for source in layer.inputs]
        merges = layer.kind in ("Concatenate", "Add", "Multiply", "Dot")
        arguments = [tensors] if merges else tensors
        return {
            "module": "keras.layers",
            "class_name": layer.kind,
            "config": layer.config,
            "registered_name": None,
            "name": layer.name,
            "inbound_nodes": [{"args": arguments, "kwargs": {}}] if tensors else [],
        }

    def _tensor(self, source: Tensor) -> dict[str, Any]:
        return {
            "class_name": "__keras_tensor__",
            "config": {
                "shape": list(self.shapes[source]),
                "dtype": self.types.get(source[0], "float32"),
                "keras_history": [source[0], 0, source[1]],
            },
        }


def to_keras(model: TextModel) -> tuple[KerasModel, dict[str, Any]]:
    """The layers, and the content of config.json."""
    config = model.config
    p = model.parameters
    graph = Graph()
    steps = None if config.masked else config.max_length
    graph.types["ids"] = "int32"
    ids = graph.add("InputLayer", "ids", [], [(None, steps)], batch_shape=[None, steps])
    graph.layers[0] = Layer("ids", "InputLayer", _input_config(steps))
    table = p["embedding.weight"]
    states = graph.add(
        *("Embedding", "embedding", [ids], [(None, steps, config.embedding_size)], [table]),
        input_dim=len(table),
        output_dim=config.embedding_size,
        mask_zero=config.masked,
    )
    last: list[Tensor] = []
    for index, names in enumerate(config.recurrent_names):
        if index and config.layer_norm:
            states = _norm(graph, p, f"{names[0]}_norm", states)
        final = index + 1 == config.layers
        every = not final or config.poolings != ("last",)
        ends = final and every and "last" in config.poolings
        states = _recurrent(graph, config, p, names, states, every, ends)
        if final:
            last = _last_states(config, states, every, ends)
    pooled = pool_layers(graph, config, p, ids, states, last)
    if config.layer_norm:
        pooled = _norm(graph, p, "output_norm", pooled)
    output = graph.add(
        *("Dense", "output", [pooled], [(None, config.logits)]),
        [p["output.kernel"], p["output.bias"]],
        units=config.logits,
        # Of one output, or where each label is a question of its own.
        activation="sigmoid" if config.logits == 1 or config.targets == "many" else "softmax",
        use_bias=True,
    )
    return KerasModel(tuple(graph.layers), output[0], KERAS_VERSION), graph.config(output)


def _input_config(steps: int | None) -> dict[str, Any]:
    return {
        "name": "ids",
        "batch_shape": [None, steps],
        "dtype": "int32",
        "sparse": False,
        "ragged": False,
    }


def _norm(graph: Graph, p: Mapping[str, Array], name: str, tensor: Tensor) -> Tensor:
    return graph.add(
        *("LayerNormalization", name, [tensor], [graph.shapes[tensor]]),
        [p[f"{name}.gain"], p[f"{name}.bias"]],
        axis=-1,
        epsilon=1e-5,
    )


def _recurrent(
    graph: Graph,
    config: ModelConfig,
    p: Mapping[str, Array],
    names: Sequence[str],
    inputs: Tensor,
    every: bool,
    ends: bool,
) -> Tensor:
    """One layer of the chain, with all its states or the last one, and with both if ``ends``."""
    kind, units = _CLASSES[config.cell], config.hidden_size
    inner = {
        "units": units,
        "activation": "tanh",
        "use_bias": True,
        "return_sequences": every,
        "return_state": ends,
        "go_backwards": False,
        "stateful": False,
        "dtype": "float32",
        "trainable": True,
    }
    if config.cell != "rnn":
        inner["recurrent_activation"] = "sigmoid"
    if config.cell == "gru":
        inner["reset_after"] = config.reset == "after"
    weights = [array for name in names for array in _arrays(config, p, name)]
    out = (None, graph.shapes[inputs][1]) if every else (None,)
    state_shapes = [(None, units)] * ((2 if config.cell == "lstm" else 1) * len(names))
    shapes = [(*out, config.state_size), *(state_shapes if ends else ())]
    if len(names) == 1:
        return graph.add(kind, names[0], [inputs], shapes, weights, **inner)
    layers: dict[str, Any] = {
        side: {
            "module": "keras.layers",
            "class_name": kind,
            "config": {**inner, "name": name, "go_backwards": back},
            "registered_name": None,
        }
        for side, name, back in (("layer", names[0], False), ("backward_layer", names[1], True))
    }
    return graph.add(
        *("Bidirectional", f"{names[0]}_both", [inputs], shapes, weights),
        merge_mode="concat",
        **layers,
    )


def _arrays(config: ModelConfig, p: Mapping[str, Array], name: str) -> list[Array]:
    kernel, recurrent_kernel, bias, second = gates.theirs(
        "keras",
        config.cell,
        RecurrentWeights(
            p[f"{name}.kernel"],
            p[f"{name}.recurrent_kernel"],
            p[f"{name}.bias"],
            p.get(f"{name}.recurrent_bias"),
        ),
    )
    two = config.kind == "gru_after"
    return [kernel, recurrent_kernel, np.stack([bias, second]) if two else bias]


def _last_states(config: ModelConfig, states: Tensor, every: bool, ends: bool) -> list[Tensor]:
    """The tensors that are the states after the last step, both directions'."""
    if not every:
        return [states]
    if not ends:
        return []
    stride = 2 if config.cell == "lstm" else 1  # an LSTM hands its cell state over, too
    count = 2 if config.bidirectional else 1
    return [(states[0], 1 + stride * i) for i in range(count)]


def pool_layers(
    graph: Graph,
    config: ModelConfig,
    p: Mapping[str, Array],
    ids: Tensor,
    states: Tensor,
    last: list[Tensor],
) -> Tensor:
    """Add what the output layer reads of the states, from the last ones or all of them."""
    width = config.state_size
    if config.poolings == ("last",):
        return last[0]
    steps = graph.shapes[states][1]
    is_word: Tensor | None = None
    if config.masked:
        numbers = graph.add("Rescaling", "ids_as_numbers", [ids], [(None, steps)], **_AS_IT_IS)
        flags = graph.add("ReLU", "words", [numbers], [(None, steps)], max_value=1.0)
        is_word = graph.add(
            *("Reshape", "is_word", [flags], [(None, steps, 1)]), target_shape=[-1, 1]
        )

    def shifted(name: str, tensor: Tensor, by: float) -> Tensor:
        """The tensor, and ``by`` less of it where there is padding."""
        if is_word is None:
            return tensor
        less = graph.add(
            *("Rescaling", f"{name}_padding", [is_word], [(None, steps, 1)]), scale=by, offset=-by
        )
        return graph.add("Add", f"{name}_left_out", [tensor, less], [graph.shapes[tensor]])

    def weighted(name: str, scores: Tensor) -> Tensor:
        shares = graph.add("Softmax", f"{name}_shares", [scores], [(None, steps, 1)], axis=1)
        summed = graph.add(
            *("Dot", f"{name}_sum", [shares, states], [(None, 1, width)]), axes=1, normalize=False
        )
        return graph.add("Flatten", name, [summed], [(None, width)])

    pools: list[Tensor] = []
    for kind in config.poolings:
        if kind == "last":
            pools.append(graph.joined("last", last))
        elif kind == "max":
            top = graph.add(
                *("GlobalMaxPooling1D", "max", [shifted("max", states, 2.0)], [(None, width)])
            )
            if is_word is not None:
                has_words = graph.add("GlobalMaxPooling1D", "has_words", [is_word], [(None, 1)])
                top = graph.add("Multiply", "max_of_words", [top, has_words], [(None, width)])
            pools.append(top)
        elif kind == "mean" and is_word is not None:
            scores = graph.add(
                *("Rescaling", "mean_scores", [is_word], [(None, steps, 1)]), scale=1e9, offset=-1e9
            )
            pools.append(weighted("mean", scores))
        elif kind == "mean":
            pools.append(graph.add("GlobalAveragePooling1D", "mean", [states], [(None, width)]))
        else:
            scores = graph.add(
                *("Dense", "attention_scores", [states], [(None, steps, 1)]),
                [p["attention.query"].reshape(-1, 1)],
                units=1,
                activation="linear",
                use_bias=False,
            )
            pools.append(weighted("attention", shifted("attention", scores, 1e9)))
    return graph.joined("pooled", pools)


def stages_of(made: KerasModel, config: ModelConfig, rows: Sequence[Array]) -> Stages:
    """What the exported model computes of texts in tidegate's ids, by the statement of Keras."""
    # Where padding is left out it may stand on either side; the import's proof has it in front.
    read = [read_ids(config, row) for row in rows]
    ids = np.zeros((len(rows), max(1, *map(len, read))), np.int64)
    for line, row in zip(ids, read, strict=True):
        line[: len(row)] = row
    values, logits = keras_statement.run(made, ids)
    stages: Stages = {}
    for name, value in values.items():
        stage = name.removesuffix("_both")
        if value.array.ndim == 3:
            stages[stage] = [line[: len(row)] for line, row in zip(value.array, read, strict=True)]
        else:
            stages["pooled" if stage.startswith("recurrent") else stage] = value.array
    stages["logits"] = logits
    return stages
