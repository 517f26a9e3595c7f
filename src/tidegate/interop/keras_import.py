"""From a Keras model's layers to tidegate's network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tidegate.errors import ConversionError
from tidegate.interop import gates, keras_statement
from tidegate.interop.keras_file import KerasModel, Layer, read
from tidegate.interop.keras_pooling import POOLING, as_chain
from tidegate.interop.network import Array, Foreign, Stages, check_head
from tidegate.ops import RecurrentWeights

_CELLS = {"GRU": "gru", "LSTM": "lstm", "SimpleRNN": "rnn"}
_IGNORED = ("Dropout", "SpatialDropout1D", "GaussianDropout", "GaussianNoise")
_KNOWN = (
    "Embedding, Masking, GRU, LSTM, SimpleRNN, Bidirectional, LayerNormalization, "
    "GlobalMaxPooling1D, GlobalAveragePooling1D, Dropout and Dense"
)
_NORM_EPSILON = 1e-5  # sequence.NORM_EPSILON, which is the same for every model


def read_keras(path: Path) -> Foreign:
    """The network in a .keras or .h5 file. ModelFileError or ConversionError for another."""
    model = read(path)
    layers = [layer for layer in _chain(model) if layer.kind not in _IGNORED]
    return _Reader(model, layers).network(f"Keras {model.version}, {path.name}")


def _refused(layer: Layer, what: str, mend: str) -> ConversionError:
    return ConversionError(f"layer {layer.name!r} ({layer.kind}) {what}; {mend}")


def _chain(model: KerasModel) -> Iterator[Layer]:
    """The layers one after another. ConversionError for a graph that branches."""
    before = None
    for layer in as_chain(model):
        if layer.kind == "InputLayer" and before is not None:
            raise _refused(layer, "is a second input", "give a model of token ids alone")
        if before is not None and layer.inputs != ((before.name, 0),):
            raise _refused(
                layer,
                f"does not read layer {before.name!r} alone, which stands before it",
                f"give a chain of {_KNOWN}",
            )
        before = layer
        yield layer
    if before is None or before.name != model.output:
        raise ConversionError(f"the model's output is not that of its last layer, {before!r:.80}")


class _Reader:
    """Takes the layers in their order."""

    def __init__(self, model: KerasModel, layers: Sequence[Layer]) -> None:
        self._model = model
        self._left = list(layers)
        self._max_length: int | None = None
        self.stage_names: dict[str, str] = {}  # of Keras's layers, by tidegate's stages
        self._weights: dict[str, Array] = {}

    def _next(self, *kinds: str) -> Layer | None:
        if self._left and self._left[0].kind in kinds:
            return self._left.pop(0)
        return None

    def network(self, source: str) -> Foreign:
        first = self._next("InputLayer")
        shape = None if first is None else first.config.get("batch_shape")
        embedding = self._next("Embedding")
        if embedding is None:
            found = self._left[0] if self._left else first
            raise ConversionError(
                f"the model begins with {found.kind if found else 'nothing'}, not with an "
                "Embedding; give the part of it that reads token ids"
            )
        if shape is None and first is not None:
            shape = first.config.get("batch_input_shape")
        shape = embedding.config.get("batch_input_shape") if shape is None else shape
        length = shape[1] if isinstance(shape, list) and len(shape) == 2 else None
        table = self._arrays(embedding, 1)[0]
        if table.ndim != 2:
            raise _refused(embedding, f"has weights of {list(table.shape)}", "save it again")
        self._weights["embedding.weight"] = table
        self.stage_names["embedding"] = embedding.name
        masked = self._masked(embedding, table)
        shape_fields = self._recurrent_layers(table.shape[1])
        pooled = self._pool(masked)
        shape_fields["pooling"] = pooled
        self._output_norm(shape_fields)
        kernel, bias, activation = self._head()
        inputs = shape_fields["hidden_size"] * (2 if shape_fields["bidirectional"] else 1)
        inputs *= len(pooled.split("+"))
        return Foreign(
            source=source,
            shape={**shape_fields, "masked": masked},
            max_length=length if isinstance(length, int) and length > 0 else None,
            weights=self._weights,
            kernel=kernel,
            bias=bias,
            activation=check_head(kernel, bias, activation, inputs),
            padding_id=0,
            run=self._run,
        )

    def _arrays(self, layer: Layer, *counts: int) -> tuple[Array, ...]:
        if len(layer.weights) not in counts:
            raise _refused(
                layer, f"has {len(layer.weights)} arrays, not {counts[0]}", "save the model again"
            )
        return layer.weights

    def _masked(self, embedding: Layer, table: Array) -> bool:
        masked = bool(embedding.config.get("mask_zero"))
        masking = self._next("Masking")
        if masking is None:
            return masked
        value = masking.config.get("mask_value", 0.0)
        hidden = np.flatnonzero((table == value).all(axis=1)).tolist()
        if hidden != [0]:
            raise _refused(
                masking,
                f"leaves out the ids {hidden[:5]}, where tidegate leaves out 0 alone",
                "use mask_zero=True of the Embedding",
            )
        return True

    def _recurrent_layers(self, width: int) -> dict[str, Any]:
        """Fields of the config; the weights are kept."""
        found: list[tuple[Layer, str, bool, Mapping[str, Any]]] = []
        norms: list[Layer | None] = []
        while True:
            norm = self._next("LayerNormalization")
            layer = self._next("Bidirectional", *_CELLS)
            if layer is None:
                if norm is not None:
                    self._left.insert(0, norm)
                break
            both = layer.kind == "Bidirectional"
            kind, config = self._cell(layer) if both else (layer.kind, layer.config)
            self._check_cell(layer, kind, config)
            found.append((layer, kind, both, config))
            norms.append(norm)
        if not found:
            kind = self._left[0].kind if self._left else "nothing"
            raise ConversionError(
                f"after the Embedding stands {kind}, not a recurrent layer; tidegate reads a chain "
                f"of {_KNOWN}"
            )
        first, kind, both, config = found[0]
        cell, units = _CELLS[kind], config.get("units")
        reset = "before" if kind == "GRU" and config.get("reset_after") is False else "after"
        alike = ("units", "reset_after")
        for index, (layer, other, other_both, other_config) in enumerate(found):
            same = all(other_config.get(name) == config.get(name) for name in alike)
            if (other, other_both) != (kind, both) or not same:
                raise _refused(
                    layer,
                    f"is not of the same class and size as {first.name!r}",
                    "all recurrent layers of a tidegate model are alike",
                )
            last = index + 1 == len(found)
            if not last and not other_config.get("return_sequences"):
                raise _refused(layer, "returns no sequences", "the next layer needs them")
            self._layer_weights(layer, index, cell, reset, both)
            self._norm_before(index, norms)
        normed = {norm is not None for norm in norms[1:]}
        if len(normed) > 1 or norms[0] is not None:
            raise _refused(
                found[-1][0],
                "has layers before it of which some are normalised and some are not",
                "tidegate normalises before all recurrent layers but the first, or before none",
            )
        self._sequences = bool(found[-1][3].get("return_sequences"))
        self._last = found[-1][0]
        return {
            "cell": cell,
            "reset": reset,
            "embedding_size": width,
            "hidden_size": units,
            "layers": len(found),
            "bidirectional": both,
            "layer_norm": normed == {True},
        }

    def _cell(self, layer: Layer) -> tuple[str, Mapping[str, Any]]:
        """The inner layers' class and config. ConversionError for two that differ."""
        config = layer.config
        if config.get("merge_mode") != "concat":
            raise _refused(
                layer, f"merges by {config.get('merge_mode')!r}", "tidegate knows 'concat' alone"
            )
        inner, back = config.get("layer"), config.get("backward_layer")
        if not isinstance(inner, dict) or not isinstance(inner.get("config"), dict):
            raise _refused(layer, "has no inner layer", "save the model again")
        ahead = inner["config"]
        if isinstance(back, dict):
            names = (
                "units",
                "reset_after",
                "activation",
                "recurrent_activation",
                "return_sequences",
            )
            other = back.get("config")
            same = isinstance(other, dict) and all(ahead.get(n) == other.get(n) for n in names)
            if not same or back.get("class_name") != inner.get("class_name"):
                raise _refused(layer, "has two unlike inner layers", "make both of one kind")
        return str(inner.get("class_name")), ahead

    def _check_cell(self, layer: Layer, kind: str, config: Mapping[str, Any]) -> None:
        if kind not in _CELLS:
            raise _refused(layer, f"is of {kind[:40]!r}", "tidegate knows GRU, LSTM and SimpleRNN")
        wanted = {"activation": "tanh", "go_backwards": False, "stateful": False}
        if kind != "SimpleRNN":
            wanted["recurrent_activation"] = "sigmoid"
        for name, value in wanted.items():
            if config.get(name, value) != value:
                raise _refused(layer, f"has {name}={config[name]!r}", f"tidegate needs {value!r}")
        if not isinstance(config.get("units"), int):
            raise _refused(layer, "tells no units", "save the model again")

    def _layer_weights(self, layer: Layer, index: int, cell: str, reset: str, both: bool) -> None:
        name = "recurrent" if index == 0 else f"recurrent{index + 1}"
        names = (name, f"{name}_reverse") if both else (name,)
        arrays = self._arrays(layer, 3 * len(names), 2 * len(names))
        size = len(arrays) // len(names)
        for i, each in enumerate(names):
            kernel, recurrent_kernel, *bias = arrays[i * size : (i + 1) * size]
            biases: Sequence[Array | None] = (None, None)
            if bias:
                two = cell == "gru" and reset == "after"
                if bias[0].ndim != (2 if two else 1) or (two and len(bias[0]) != 2):
                    raise _refused(
                        layer, f"has a bias of {list(bias[0].shape)}", "save the model again"
                    )
                biases = (bias[0][0], bias[0][1]) if two else (bias[0], None)
            store(
                self._weights,
                each,
                gates.ours("keras", cell, reset, kernel, recurrent_kernel, *biases),
            )
        self.stage_names[name] = layer.name

    def _norm_before(self, index: int, norms: Sequence[Layer | None]) -> None:
        norm = norms[index]
        if norm is not None and index:
            self._take_norm(norm, f"recurrent{index + 1}_norm")

    def _take_norm(self, norm: Layer, name: str) -> None:
        epsilon, axis = norm.config.get("epsilon"), norm.config.get("axis", -1)
        features = 1 if name == "output_norm" else 2  # of pooled vectors and of sequences
        if epsilon != _NORM_EPSILON or axis not in (-1, [-1], features, [features]):
            raise _refused(
                norm, f"has epsilon={epsilon!r} and axis={axis!r}", "tidegate's are 1e-05 and -1"
            )
        gain, bias = self._arrays(norm, 2)
        self._weights[f"{name}.gain"], self._weights[f"{name}.bias"] = gain, bias
        self.stage_names[name] = norm.name

    def _pool(self, masked: bool) -> str:
        pool = self._next("GlobalMaxPooling1D", "GlobalAveragePooling1D", POOLING)
        if pool is None:
            if self._sequences:
                raise _refused(
                    self._last,
                    "returns sequences that nothing pools",
                    "set return_sequences=False, or add a GlobalMaxPooling1D",
                )
            return "last"
        if not self._sequences:
            raise _refused(pool, "has no sequences to pool", "set return_sequences=True")
        if pool.kind == POOLING:
            self.stage_names["pooled"] = pool.name
            if pool.weights:
                self._weights["attention.query"] = pool.weights[0]
            return str(pool.config["pooling"])
        if pool.kind == "GlobalMaxPooling1D" and masked:
            raise _refused(
                pool,
                "takes masked steps for states, which tidegate never does",
                "train it without mask_zero, or with GlobalAveragePooling1D",
            )
        self.stage_names["pooled"] = pool.name
        return "max" if pool.kind == "GlobalMaxPooling1D" else "mean"

    def _output_norm(self, fields: dict[str, Any]) -> None:
        norm = self._next("LayerNormalization")
        if norm is not None and fields["layers"] == 1:
            fields["layer_norm"] = True
        if (norm is not None) != fields["layer_norm"]:
            raise ConversionError(
                "some of the model's layers are normalised and some are not; tidegate normalises "
                "between all recurrent layers and before the output layer, or nowhere"
            )
        if norm is not None:
            self._take_norm(norm, "output_norm")

    def _head(self) -> tuple[Array, Array, str]:
        dense = self._next("Dense")
        if dense is None:
            found = self._left[0] if self._left else self._last
            raise _refused(
                found, "stands where the output layer is wanted", f"tidegate reads {_KNOWN}"
            )
        activation = dense.config.get("activation")
        if self._left:  # Dense and its activation may be two layers
            layer = self._left.pop(0)
            known = layer.kind in ("Activation", "Softmax") and activation == "linear"
            if not known or self._left:
                raise _refused(
                    layer, f"follows the output layer {dense.name!r}", "one Dense layer ends it"
                )
            raise _refused(
                layer,
                "stands behind the output layer",
                f"give {dense.name!r} the activation itself",
            )
        arrays = self._arrays(dense, 2, 1)
        kernel = arrays[0]
        bias = arrays[1] if len(arrays) > 1 else np.zeros(kernel.shape[-1], np.float32)
        return kernel, bias, str(activation)

    def _run(self, rows: Sequence[Sequence[int]]) -> Stages:
        """Keras's numbers, of texts padded in front, as its pad_sequences does."""
        longest = max(map(len, rows), default=0)
        ids = np.zeros((len(rows), max(longest, 1)), np.int64)
        for padded, row in zip(ids, rows, strict=True):
            if len(row):
                padded[-len(row) :] = row
        values, logits = keras_statement.run(self._model, ids)
        stages: Stages = {}
        for stage, name in self.stage_names.items():
            array = values[name].array
            if array.ndim == 3:
                stages[stage] = [
                    line[ids.shape[1] - len(row) :] for line, row in zip(array, rows, strict=True)
                ]
            else:
                stages["pooled" if stage.startswith("recurrent") else stage] = array
        stages["logits"] = logits
        return stages


def store(weights: dict[str, Array], name: str, layer: RecurrentWeights) -> None:
    """Put a layer's weights under tidegate's names."""
    weights[f"{name}.kernel"] = layer.kernel
    weights[f"{name}.recurrent_kernel"] = layer.recurrent_kernel
    weights[f"{name}.bias"] = layer.bias
    if layer.recurrent_bias is not None:
        weights[f"{name}.recurrent_bias"] = layer.recurrent_bias
