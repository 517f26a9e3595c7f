"""Keras's files: .keras (a zip of JSON and HDF5) and the older .h5, read and written without Keras.

A layer of a file is its class, its config and its arrays; what they mean is for ``keras_model``.
"""

from __future__ import annotations

import io
import json
import re
import struct
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tidegate.errors import ModelFileError
from tidegate.interop.hostile import (
    Archive,
    extra,
    parse_json,
    read_bytes,
    refusing,
    unreadable,
)
from tidegate.interop.network import Array

WEIGHTS = "model.weights.h5"
CONFIG = "config.json"
METADATA = "metadata.json"

_NO_LAYERS = ("NotEqual", "Any")  # Keras writes masks as operations of the graph
_MAX_LAYERS = 1_000
_LARGEST_ATTRIBUTE = 1 << 26  # bytes
_H5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_HEAP = b"GCOL\x01"  # with the only version there is
# What h5py raises for damage of every kind.
_H5_ERRORS = (
    OSError,
    KeyError,
    ValueError,
    RuntimeError,
    TypeError,
    IndexError,
    AttributeError,
    OverflowError,
    NotImplementedError,
    SystemError,
)


@dataclass(frozen=True)
class Layer:
    """One layer of a graph. inputs: (layer's name, which of its outputs), in order.

    weights: float arrays, in the order in which Keras stores them; for a Bidirectional layer those
    of the forward layer and then those of the backward one.
    """

    name: str
    kind: str
    config: Mapping[str, Any]
    inputs: tuple[tuple[str, int], ...] = ()
    weights: tuple[Array, ...] = field(default=())


@dataclass(frozen=True)
class KerasModel:
    """A graph in an order in which it can be computed. output: the name of its last layer."""

    layers: tuple[Layer, ...]
    output: str
    version: str = "?"


# --- Reading


def read(path: Path) -> KerasModel:
    """The model in a .keras or .h5 file. ModelFileError for anything else."""
    h5py = extra("keras", "h5py")
    data = read_bytes(path)
    if data[:4] == b"PK\x03\x04":
        archive = Archive(path, data)
        tree = archive.json(CONFIG)
        metadata = archive.json(METADATA) if METADATA in archive.names else {}
        version = metadata.get("keras_version") if isinstance(metadata, dict) else None
        layers, output = _layers(path, tree)
        with _h5(path, h5py, archive.read(WEIGHTS)) as file:
            weights = _zip_weights(path, file, layers)
    elif data[:8] == _H5_SIGNATURE:
        with _h5(path, h5py, data) as file:
            text = file.attribute("", "model_config")
            if not isinstance(text, (str, bytes)):
                raise unreadable(
                    path, "holds no model_config", "save the whole model: model.save('FILE.keras')"
                )
            layers, output = _layers(path, parse_json(path, text))
            version = file.attribute("", "keras_version")
            weights = _h5_weights(path, file, layers)
    else:
        raise unreadable(path, "is neither a .keras nor an .h5 file", "give a file saved by Keras")
    if isinstance(version, bytes):
        version = version.decode("utf-8", "replace")
    made = tuple(
        Layer(layer.name, layer.kind, layer.config, layer.inputs, weights.get(layer.name, ()))
        for layer in layers
    )
    return KerasModel(made, output, version if isinstance(version, str) else "?")


def _check_heaps(data: bytes) -> int:
    """The size of the largest object in the global heaps, where strings of any length lie.

    ValueError for heaps on which libhdf5 may not end: objects must fit, one by one.

    Source: HDF5's file format specification, III.E; sizes are of 8 bytes, as h5py writes them.
    """
    sizes = data[13:15] if data[8:9] in (b"\0", b"\1") else data[9:11]
    if data[:8] != _H5_SIGNATURE or sizes != b"\x08\x08":
        raise ValueError("no HDF5 file with sizes of 8 bytes")
    end = largest = 0
    place = data.find(_HEAP)
    while place >= 0:
        if place < end or len(data) - place < 16:
            raise ValueError(f"a heap at {place} that is none")
        (size,) = struct.unpack_from("<Q", data, place + 8)
        end = place + size
        if size < 4096 or end > len(data):
            raise ValueError(f"a heap at {place} of {size} bytes")
        at = place + 16
        while end - at >= 16:
            index, size = struct.unpack_from("<H6xQ", data, at)
            # Free space, of index 0, counts its own header.
            size = 16 + (size + 7) // 8 * 8 if index else size
            if not 16 <= size <= end - at:
                raise ValueError(f"an object of {size} bytes in the heap at {place}")
            at += size
            largest = max(largest, size)
        place = data.find(_HEAP, place + 1)
    return largest


class _h5:  # noqa: N801 (used as a function)
    """An HDF5 file in memory, of which only plain, uncompressed arrays of numbers are read."""

    def __init__(self, path: Path, h5py: Any, data: bytes) -> None:
        self.path, self._h5py = path, h5py
        with refusing(path, *_H5_ERRORS):
            self._largest_string = _check_heaps(data)
            self._file = h5py.File(io.BytesIO(data), "r")
        self._left = len(data)

    def __enter__(self) -> _h5:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _at(self, place: str) -> Any:
        """A group or dataset, reached by hard links alone: others may lead out of the file."""
        found = self._file
        for part in filter(None, place.split("/")):
            if not isinstance(found, self._h5py.Group):
                return None
            link = found.get(part, getlink=True)
            if link is None:
                return None
            if not isinstance(link, self._h5py.HardLink):
                raise unreadable(self.path, f"has a link at {place!r} that is not its own")
            found = found[part]
        return found

    def attribute(self, place: str, name: str) -> Any:
        """An attribute's value, or None."""
        with refusing(self.path, *_H5_ERRORS):
            found = self._at(place)
            if found is None or name not in found.attrs:
                return None
            told = found.attrs.get_id(name)
            kind, count = told.get_type(), told.get_space().get_simple_extent_npoints()
            types = self._h5py.h5t
            text = isinstance(kind, types.TypeStringID)
            if not text and not isinstance(kind, (types.TypeFloatID, types.TypeIntegerID)):
                raise ValueError(f"the attribute {name!r} is neither text nor number")
            # Any number of texts may be the same object of a heap, and each is read as its own.
            of_heap = text and kind.is_variable_str()
            size = self._largest_string if of_heap else kind.get_size()
            if count > 100_000 or count * size > _LARGEST_ATTRIBUTE:
                raise ValueError(f"the attribute {name!r} is too large")
            return found.attrs[name]

    def keys(self, place: str) -> list[str]:
        """The names in a group; none if it is not there."""
        with refusing(self.path, *_H5_ERRORS):
            found = self._at(place)
            return list(found) if isinstance(found, self._h5py.Group) else []

    def array(self, place: str) -> Array | None:
        """A dataset's numbers as float32, or None if there is no dataset."""
        with refusing(self.path, ModelFileError, *_H5_ERRORS):
            found = self._at(place)
            if not isinstance(found, self._h5py.Dataset):
                return None
            plain = found.external is None and not found.is_virtual and found.chunks is None
            if not plain or found.dtype.kind != "f" or found.id.get_storage_size() != found.nbytes:
                raise ValueError(f"{place} is no plain array of numbers")
            self._left -= found.nbytes
            if self._left < 0:
                raise ValueError(f"{place} has more numbers than the file")
            return np.asarray(found[()], np.float32)

    def numbered(self, place: str) -> tuple[Array, ...]:
        """The arrays named 0, 1, 2, ... in a group."""
        found: list[Array] = []
        while (array := self.array(f"{place}/{len(found)}")) is not None:
            found.append(array)
        return tuple(found)


def _layers(path: Path, tree: Any) -> tuple[list[Layer], str]:
    """The graph of a model's config, without weights. Inner models are not taken apart."""
    try:
        config = tree["config"]
        kind = tree["class_name"]
        listed = config if isinstance(config, list) else config["layers"]
        if kind not in ("Sequential", "Functional", "Model") or not isinstance(listed, list):
            raise ValueError(f"it is a {str(kind)[:60]}, not a Sequential or Functional model")
        if len(listed) > _MAX_LAYERS:
            raise ValueError(f"it has {len(listed)} layers")
        layers: list[Layer] = []
        _check_masks(listed)
        for entry in listed:
            name = entry.get("name") or entry["config"]["name"]
            if kind == "Sequential":
                inputs: tuple[tuple[str, int], ...] = ((layers[-1].name, 0),) if layers else ()
            else:
                inputs = tuple(_inputs(entry["inbound_nodes"]))
            if entry["class_name"] in _NO_LAYERS:
                continue
            if not isinstance(name, str) or not isinstance(entry["class_name"], str):
                raise ValueError("a layer has no name")
            if not isinstance(entry["config"], dict):
                raise ValueError(f"layer {name!r} has no config")
            layers.append(Layer(name, entry["class_name"], entry["config"], inputs))
        names = {layer.name for layer in layers}
        if len(names) < len(layers) or not layers:
            raise ValueError("its layers have no names of their own")
        if kind == "Sequential":
            return layers, layers[-1].name
        outputs = config["output_layers"]
        while len(outputs) == 1 and isinstance(outputs[0], list):
            outputs = outputs[0]
        if len(outputs) != 3 or outputs[0] not in names:
            raise ValueError("it has several outputs, or none")
        return layers, outputs[0]
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError) as error:
        reason = error.args[0] if isinstance(error, ValueError) and error.args else repr(error)
        raise unreadable(path, f"holds no model that can be read: {str(reason)[:200]}") from error


def _check_masks(listed: Sequence[Mapping[str, Any]]) -> None:
    """ValueError if a layer is given more than its input and the mask of its Embedding or Masking.

    Keras writes these masks into functional models: that of mask_zero is NotEqual of the ids and
    0, that of Masking is Any of NotEqual of the vectors and mask_value.
    """
    entries = {entry["config"].get("name"): entry for entry in listed}

    def settings(kind: str, name: str) -> list[Any]:
        return [entry["config"].get(name) for entry in listed if entry["class_name"] == kind]

    def is_own_mask(name: str) -> bool:
        node = entries[name]["inbound_nodes"][0]
        if entries[name]["class_name"] == "Any":
            name = _source(node["args"][0])
            node = entries[name]["inbound_nodes"][0]
            values = settings("Masking", "mask_value")
            return entries[name]["class_name"] == "NotEqual" and values == [node["args"][1]]
        source = entries[_source(node["args"][0])]
        of_ids = source["class_name"] == "InputLayer" and node["args"][1] == 0
        return (
            entries[name]["class_name"] == "NotEqual"
            and of_ids
            and settings("Embedding", "mask_zero") == [True]
        )

    for entry in listed:
        nodes = entry.get("inbound_nodes")
        node = nodes[0] if isinstance(nodes, list) and nodes else None
        if not isinstance(node, dict) or entry["class_name"] in _NO_LAYERS:
            continue
        for name, value in node.get("kwargs", {}).items():
            given = [_source(tensor) for tensor in _tensors(value, 0)]
            if given and not (name == "mask" and len(given) == 1 and is_own_mask(given[0])):
                raise ValueError(
                    f"layer {entry['config'].get('name')!r} is given a {name[:40]} that is not its "
                    "Embedding's"
                )


def _source(tensor: Mapping[str, Any]) -> str:
    return str(tensor["config"]["keras_history"][0])


def _inputs(nodes: Any) -> Iterator[tuple[str, int]]:
    """The tensors that a layer of a functional model reads, in Keras 3's and Keras 2's form."""
    if not nodes:
        return
    if len(nodes) > 1:
        raise ValueError("a layer is used more than once")
    node = nodes[0]
    if isinstance(node, dict):
        for tensor in _tensors(node["args"], 0):
            name, _, index = tensor["config"]["keras_history"]
            yield str(name), int(index)
    else:
        for name, _, index, *_rest in node:
            yield str(name), int(index)


def _tensors(value: Any, depth: int) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
        yield value
    elif isinstance(value, list) and depth < 3:
        for part in value:
            yield from _tensors(part, depth + 1)


def snake_case(kind: str) -> str:
    """As Keras makes a layer's place in the file of its class. Source: ``to_snake_case``."""
    name = re.sub(r"\W+", "", kind)
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def places(layers: Sequence[Layer]) -> dict[str, str]:
    """Where each layer's arrays are in the file, by name: its class, numbered if it is not alone.

    Source: ``_save_container_state`` of Keras 3.
    """
    counts: dict[str, int] = {}
    found = {}
    for layer in layers:
        name = snake_case(layer.kind)
        number = counts.get(name, 0)
        counts[name] = number + 1
        found[layer.name] = f"layers/{name}_{number}" if number else f"layers/{name}"
    return found


_RECURRENT = ("GRU", "LSTM", "SimpleRNN")


def _zip_weights(path: Path, file: _h5, layers: Sequence[Layer]) -> dict[str, tuple[Array, ...]]:
    by_place = places(layers)
    # Newer files tell each place's layer; the order of a class's layers need not be the config's.
    for place in file.keys("layers"):
        told = file.attribute(f"layers/{place}/vars", "name")
        if isinstance(told, str) and told in by_place:
            by_place[told] = f"layers/{place}"
    weights = {}
    for layer in layers:
        place = by_place[layer.name]
        if layer.kind == "Bidirectional":
            weights[layer.name] = file.numbered(f"{place}/forward_layer/cell/vars") + file.numbered(
                f"{place}/backward_layer/cell/vars"
            )
        elif layer.kind in _RECURRENT:
            weights[layer.name] = file.numbered(f"{place}/cell/vars")
        else:
            weights[layer.name] = file.numbered(f"{place}/vars")
    return weights


def _h5_weights(path: Path, file: _h5, layers: Sequence[Layer]) -> dict[str, tuple[Array, ...]]:
    weights = {}
    for layer in layers:
        place = f"model_weights/{layer.name}"
        names = file.attribute(place, "weight_names")
        if names is not None and np.ndim(names) != 1:
            raise unreadable(path, f"has weight_names of layer {layer.name!r} that are no list")
        found = []
        for name in () if names is None else names:
            told = name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
            array = file.array(f"{place}/{told}")
            if array is None:
                raise unreadable(path, f"has no array {told!r} of layer {layer.name!r}")
            found.append(array)
        weights[layer.name] = tuple(found)
    return weights


# --- Writing


def write_bytes(model: KerasModel, graph: Mapping[str, Any], metadata: Mapping[str, Any]) -> bytes:
    """A .keras file's bytes. graph: its config.json. The same model gives the same bytes."""
    h5py = extra("keras", "h5py")
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        by_place = places(model.layers)
        for layer in model.layers:
            place = by_place[layer.name]
            groups = {f"{place}/vars": layer.weights}
            if layer.kind == "Bidirectional":
                half = len(layer.weights) // 2
                groups = {
                    f"{place}/forward_layer/cell/vars": layer.weights[:half],
                    f"{place}/backward_layer/cell/vars": layer.weights[half:],
                }
            elif layer.kind in _RECURRENT:
                groups = {f"{place}/cell/vars": layer.weights}
            for group, arrays in groups.items():
                made = file.require_group(group)
                for i, array in enumerate(arrays):
                    made.create_dataset(str(i), data=np.asarray(array, np.float32))
            file.require_group(f"{place}/vars").attrs["name"] = layer.name
        file.require_group("vars")
    parts = {
        METADATA: json.dumps(metadata).encode(),
        CONFIG: json.dumps(graph).encode(),
        WEIGHTS: buffer.getvalue(),
    }
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, data in parts.items():
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))  # the same bits at any time
            info.external_attr = 0o644 << 16
            archive.writestr(info, data)
    return packed.getvalue()
