"""Files of other frameworks that mean harm: one error, no code run, no memory taken."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tidegate.errors import ConversionError, ModelFileError
from tidegate.interop import (
    keras_file,
    keras_import,
    keras_statement,
    onnx_graph,
    onnx_statement,
    torch_file,
)
from tidegate.interop.importing import ImportOptions, import_model

DATA = Path(__file__).parent / "data"
FILES = sorted(path.name for path in DATA.glob("foreign_*") if path.suffix != ".json")
REFUSALS = (ModelFileError, ConversionError)

pytest.importorskip("h5py")
onnx = pytest.importorskip("onnx")


@pytest.fixture
def words(tmp_path: Path) -> Path:
    path = tmp_path / "words.txt"
    path.write_text("\n".join(["", "[UNK]", *(f"w{i}" for i in range(2, 12))]), encoding="utf-8")
    return path


def refused(path: Path, words: Path, *errors: type[Exception]) -> str:
    """The message, of one line, with which the file is refused."""
    tracemalloc.start()
    try:
        with pytest.raises(errors or REFUSALS) as caught:
            import_model(path, words, ImportOptions(max_length=9, padding_id=0))
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600
    return message


def refusal(path: Path, words: Path) -> str | None:
    """The message of one line with which the file is refused, or None if it is not."""
    message = None
    with contextlib.suppress(*REFUSALS):
        try:
            import_model(path, words, ImportOptions(max_length=9, padding_id=0))
        except REFUSALS as error:
            message = str(error)
            raise
    assert message is None or "\n" not in message
    return message


# --- Damage


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_cut_off(name: str, words: Path, tmp_path: Path) -> None:
    data = (DATA / name).read_bytes()
    path = tmp_path / f"cut{Path(name).suffix}"
    for share in (0.0, 0.01, 0.3, 0.7, 0.95, 1 - 1.5 / len(data)):
        path.write_bytes(data[: int(share * len(data))])
        # HDF5 may have room at the end.
        assert refusal(path, words) is not None or share > 0.9


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=8)
)
@example(changes=[(0.00390625, 128)])  # a name of ONNX's that is no text
def test_bytes_that_changed(
    name: str, changes: list[tuple[float, int]], words: Path, tmp_path: Path
) -> None:
    data = bytearray((DATA / name).read_bytes())
    for place, value in changes:
        data[int(place * len(data))] = value
    path = tmp_path / f"changed{Path(name).suffix}"
    path.write_bytes(data)
    # Weights of another value are another model; no format but the zip can know.
    refusal(path, words)


@pytest.mark.parametrize("suffix", [".keras", ".h5", ".pt", ".safetensors", ".onnx"])
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    start=st.sampled_from([b"", b"PK\x03\x04", b"\x89HDF\r\n\x1a\n", b"\x80\x02", b"\x08\x08"]),
    data=st.binary(max_size=300),
)
def test_bytes_of_no_format(
    suffix: str, start: bytes, data: bytes, words: Path, tmp_path: Path
) -> None:
    path = tmp_path / f"random{suffix}"
    path.write_bytes(start + data)
    refused(path, words)


# --- Zips


def make_zip(path: Path, entries: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return path


def test_bombs_are_not_unpacked(words: Path, tmp_path: Path) -> None:
    zeros = bytes(60_000_000)
    deflated = zipfile.ZIP_DEFLATED
    bomb = make_zip(tmp_path / "a.keras", {"config.json": zeros}, deflated)
    assert "says that its entry 'config.json' has 60000000 bytes" in refused(bomb, words)
    config = zipfile.ZipFile(DATA / "foreign_rnn_max.keras").read("config.json")
    entries = {"config.json": config, "model.weights.h5": zeros}
    assert "compressed" in refused(make_zip(tmp_path / "b.keras", entries, deflated), words)
    bomb = make_zip(tmp_path / "c.pt", {"a/data.pkl": zeros}, deflated)
    assert "has 60000000 bytes" in refused(bomb, words)
    with zipfile.ZipFile(DATA / "foreign_gru.pt") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    assert "compressed" in refused(make_zip(tmp_path / "d.pt", parts, deflated), words)


def test_sizes_that_a_zip_only_tells(words: Path, tmp_path: Path) -> None:
    """A stored entry that is said to have 3 GB, in a file of some kB."""
    data = bytearray((DATA / "foreign_gru.pt").read_bytes())
    place = data.rindex(b"PK\x01\x02")
    while place >= 0:
        data[place + 20 : place + 28] = struct.pack("<II", 3_000_000_000, 3_000_000_000)
        place = data.rfind(b"PK\x01\x02", 0, place)
    path = tmp_path / "told.pt"
    path.write_bytes(data)
    assert "says that its entry" in refused(path, words, ModelFileError)


def test_names_of_entries_lead_nowhere(words: Path, tmp_path: Path) -> None:
    """Nothing is unpacked to the disk; a storage's key is letters and digits."""
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(48))
    make_zip(tmp_path / "a.keras", {"../secret": b"x", "/etc/passwd": b"x", "config.json": b"{}"})
    refused(tmp_path / "a.keras", words)
    program = state_pickle(("../../secret", 12), (3, 4), (4, 1))
    assert "storage that is none" in refused(torch_zip(tmp_path, program), words)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("a.keras", "made.pt", "secret", "words.txt"),
    ]


# --- Pickles


class Runs:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.path),)


def torch_zip(folder: Path, program: bytes, storages: dict[str, bytes] | None = None) -> Path:
    entries = {"a/data.pkl": program}
    entries |= {f"a/data/{key}": data for key, data in (storages or {"0": bytes(48)}).items()}
    return make_zip(folder / "made.pt", entries)


def test_no_code_of_a_pickle_is_run(words: Path, tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    for protocol in range(6):
        for value in (Runs(trace), {"embed.weight": Runs(trace)}, [Runs(trace)] * 2):
            program = pickle.dumps(value, protocol)
            pickle.loads(program)  # noqa: S301 (it would run)
            assert trace.exists()
            trace.rmdir()
            message = refused(torch_zip(tmp_path, program), words, ModelFileError)
            assert "is no state dict" in message
            assert not trace.exists()


@pytest.mark.parametrize(
    "program",
    [
        b"cos\nsystem\n(S'touch ran'\ntR.",
        b"(S'touch ran'\nios\nsystem\n.",
        b"\x80\x02cbuiltins\neval\nX\x01\x00\x00\x001\x85R.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x08\x00\x00\x00__code__Nsb.",
        b"\x80\x02ccollections\nOrderedDict\n}X\x01\x00\x00\x00aK\x01sb.",
        b"\x80\x02ctorch\nFloatStorage.__class__\n.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
        b"\x80\x02]q\x00h\x00a.",
        b"\x80\x02ccollections\nOrderedDict\n)R\x85q\x00h\x00R.",
        b"\x80\x02K\x01K\x02s.",
        b"\x80\x02.",
        b"\x80\x02}",
        b"\x80\x02h\x09.",
        b"\x80\x02t.",
        b"\x80\x02N(u.",
        b"\x8a\xff" + bytes(255) + b".",
        b"\x80\x02\x8b\xff\xff\xff\x7f.",
        b"X\xff\xff\xff\xffa.",
    ],
)
def test_instructions_that_no_state_dict_needs(program: bytes, words: Path, tmp_path: Path) -> None:
    before = sorted(os.listdir())
    refused(torch_zip(tmp_path, program), words, ModelFileError)
    assert sorted(os.listdir()) == before


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_the_machine_only_ever_refuses(program: bytes) -> None:
    errors = (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError)
    with contextlib.suppress(*errors):
        torch_file._Machine(program).run()


def state_pickle(
    storage: tuple[str, int], shape: tuple[int, ...], strides: tuple[int, ...], offset: int = 0
) -> bytes:
    """A state dict of one tensor, as torch.save writes it."""

    def number(n: int) -> bytes:
        return pickle.dumps(n, 2)[2:-1]

    def numbers(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(map(number, values)) + b"t"

    def text(value: str) -> bytes:
        return b"X" + struct.pack("<I", len(value)) + value.encode()

    key, size = storage
    told = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text(key) + text("cpu")
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + told + number(size) + b"tQ" + number(offset)
    tensor += numbers(shape) + numbers(strides) + b"\x89NtR"
    return b"\x80\x02}" + text("embed.weight") + tensor + b"s."


@pytest.mark.parametrize(
    ("size", "shape", "strides", "offset"),
    [
        (12, (4, 4), (4, 1), 0),
        (12, (3, 4), (4, 1), 1),
        (12, (3, 4), (-4, 1), 11),
        (12, (3, 4), (4, 1), -1),
        (12, (1 << 40, 4), (0, 1), 0),
        (12, (1 << 62, 1 << 62), (0, 0), 0),
        (12, (-3, -4), (4, 1), 0),
        (13, (3, 4), (4, 1), 0),
        (12, (1,) * 40, (1,) * 40, 0),
    ],
)
def test_tensors_outside_of_their_storage(
    size: int,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    offset: int,
    words: Path,
    tmp_path: Path,
) -> None:
    program = state_pickle(("0", size), shape, strides, offset)
    assert "outside of its storage" in refused(torch_zip(tmp_path, program), words, ModelFileError)


def test_a_sound_tensor_is_read(tmp_path: Path) -> None:
    storage = np.arange(12, dtype="<f4").tobytes()
    path = torch_zip(tmp_path, state_pickle(("0", 12), (2, 3), (1, 4), 1), {"0": storage})
    np.testing.assert_array_equal(
        torch_file.read_state(path)["embed.weight"], [[1, 5, 9], [2, 6, 10]]
    )


def test_many_names_of_one_tensor(words: Path, tmp_path: Path) -> None:
    """Each would be a copy."""
    size = 100_000
    one = state_pickle(("0", size), (size,), (1,))
    head, tensor = one[: len(b"\x80\x02}")], one[len(b"\x80\x02}X....embed.weight") : -2]

    def program(count: int) -> bytes:
        # The tensor is made once, and then got from the memo.
        names = [b"X" + struct.pack("<I", 6) + b"%06d" % number for number in range(count)]
        first = names[0] + tensor + b"q\x00s"
        return head + first + b"".join(name + b"h\x00s" for name in names[1:]) + b"."

    storage = {"0": bytes(4 * size)}
    assert len(torch_file.read_state(torch_zip(tmp_path, program(2), storage))) == 2
    path = torch_zip(tmp_path, program(100_000), storage)
    assert "far more bytes than the file" in refused(path, words, ModelFileError)


# --- Keras


def keras_zip(folder: Path, change: Callable[[Any], Any], weights: bytes | None = None) -> Path:
    with zipfile.ZipFile(DATA / "foreign_rnn_max.keras") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    tree = json.loads(parts["config.json"])
    parts["config.json"] = json.dumps(change(tree)).encode()
    if weights is not None:
        parts["model.weights.h5"] = weights
    return make_zip(folder / "made.keras", parts)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), value=json_values)
def test_configs_of_any_content(
    data: st.DataObject, value: Any, words: Path, tmp_path: Path
) -> None:
    """Somewhere in the config stands something else."""

    def change(tree: Any) -> Any:
        place = tree
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                return tree
            key = data.draw(st.sampled_from(keys))
            if isinstance(place[key], (dict, list)) and data.draw(st.integers(0, 4)):
                place = place[key]
            else:
                place[key] = value
                return tree

    refusal(keras_zip(tmp_path, change), words)


def h5(make: Callable[[Any], None]) -> bytes:
    import h5py

    with zipfile.ZipFile(DATA / "foreign_rnn_max.keras") as archive:
        buffer = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(buffer, "a") as file:
        del file["layers/embedding/vars/0"]
        make(file)
    return buffer.getvalue()


def test_hdf5_that_leads_elsewhere(words: Path, tmp_path: Path) -> None:
    import h5py

    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["x"] = np.zeros((12, 3), np.float32)
    raw = tmp_path / "raw"
    raw.write_bytes(bytes(144))
    place = "layers/embedding/vars/0"

    def external_link(file: Any) -> None:
        file[place] = h5py.ExternalLink(str(other), "/x")

    def soft_link(file: Any) -> None:
        file[place] = h5py.SoftLink("/layers/dense/vars/0")

    def external_data(file: Any) -> None:
        file.create_dataset(place, (12, 3), "f4", external=[(str(raw), 0, 144)])

    def virtual(file: Any) -> None:
        layout = h5py.VirtualLayout((12, 3), "f4")
        layout[:] = h5py.VirtualSource(str(other), "x", (12, 3))
        file.create_virtual_dataset(place, layout)

    def compressed(file: Any) -> None:
        file.create_dataset(place, (100_000, 10_000), "f4", compression="gzip", chunks=(1000, 1000))

    def never_written(file: Any) -> None:
        file.create_dataset(place, (1_000_000_000, 3), "f4")

    def text(file: Any) -> None:
        file[place] = "text"

    def group(file: Any) -> None:
        file.create_group(place)

    for make in (
        *(external_link, soft_link, external_data, virtual, compressed, never_written, text, group),
    ):
        refused(keras_zip(tmp_path, lambda tree: tree, h5(make)), words)


def test_shapes_that_do_not_fit(words: Path, tmp_path: Path) -> None:
    for shape in ((12,), (12, 4), (0, 3), (12, 3, 1), (1, 3)):

        def make(file: Any, shape: tuple[int, ...] = shape) -> None:
            file["layers/embedding/vars/0"] = np.zeros(shape, np.float32)

        refused(keras_zip(tmp_path, lambda tree: tree, h5(make)), words, Exception)


def test_numbers_that_are_none(words: Path, tmp_path: Path) -> None:
    def make(file: Any) -> None:
        file["layers/embedding/vars/0"] = np.full((12, 3), np.nan, np.float32)

    message = refused(keras_zip(tmp_path, lambda tree: tree, h5(make)), words)
    assert "embedding.weight has weights that are not finite" in message


@pytest.mark.parametrize(
    ("kind", "field", "value", "message"),
    [
        ("SimpleRNN", "activation", "relu", "has activation='relu'"),
        ("SimpleRNN", "go_backwards", True, "go_backwards=True"),
        ("SimpleRNN", "stateful", True, "stateful=True"),
        ("Dense", "activation", "tanh", "activation 'tanh'"),
        ("Embedding", "mask_zero", True, "takes masked steps for states"),
    ],
)
def test_layers_that_tidegate_has_not(
    kind: str, field: str, value: Any, message: str, words: Path, tmp_path: Path
) -> None:
    def change(tree: Any) -> Any:
        for layer in tree["config"]["layers"]:
            if layer["class_name"] == kind:
                layer["config"][field] = value
        return tree

    assert message in refused(keras_zip(tmp_path, change), words, ConversionError)


def test_other_masks_than_the_embeddings(words: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(DATA / "foreign_lstm_mean.keras") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    tree = json.loads(parts["config.json"])
    layers = {layer["class_name"]: layer for layer in tree["config"]["layers"]}
    layers["NotEqual"]["inbound_nodes"][0]["args"][1] = 5
    parts["config.json"] = json.dumps(tree).encode()
    assert "not its Embedding's" in refused(make_zip(tmp_path / "a.keras", parts), words)
    layers["NotEqual"]["inbound_nodes"][0]["args"][1] = 0
    layers["Embedding"]["config"]["mask_zero"] = False
    parts["config.json"] = json.dumps(tree).encode()
    assert "not its Embedding's" in refused(make_zip(tmp_path / "b.keras", parts), words)


def test_lambdas_are_no_layers(words: Path, tmp_path: Path) -> None:
    def change(tree: Any) -> Any:
        code = {"class_name": "__lambda__", "config": {"value": "4wEAAAA="}}
        layer = {"class_name": "Lambda", "config": {"name": "x", "function": code}}
        tree["config"]["layers"].insert(2, layer)
        return tree

    assert "Lambda" in refused(keras_zip(tmp_path, change), words)


@pytest.mark.parametrize(
    ("offset", "value"),
    [(8, 16), (8, 1 << 40), (24, (1 << 64) - 16), (24, 1 << 63), (24, 1 << 20)],
)
def test_heaps_that_have_no_end(offset: int, value: int, words: Path, tmp_path: Path) -> None:
    """libhdf5 would walk them for ever."""
    data = bytearray((DATA / "foreign_lstm.h5").read_bytes())
    place = data.index(b"GCOL") + offset
    data[place : place + 8] = struct.pack("<Q", value)
    path = tmp_path / "made.h5"
    path.write_bytes(data)
    assert "heap at" in refused(path, words, ModelFileError)


def test_heaps_beside_the_rule(words: Path, tmp_path: Path) -> None:
    """A heap in another one, free space of no size, and sizes of another width."""
    sound = (DATA / "foreign_lstm.h5").read_bytes()
    heap = sound.index(b"GCOL")
    path = tmp_path / "made.h5"
    for place, value in (
        (heap + 40, b"GCOL\x01"),
        (heap + 16, bytes(16)),
        (len(sound) - 5, b"GCOL\x01"),
        (13, b"\x08\x04"),
    ):
        path.write_bytes(sound[:place] + value + sound[place + len(value) :])
        assert "is damaged (ValueError" in refused(path, words, ModelFileError)


def test_texts_that_are_one_object_many_times(words: Path, tmp_path: Path) -> None:
    """A thousand references of 16 bytes to a text of 1 MB would be read as 1 GB."""
    import h5py

    path, length, count = tmp_path / "bomb.h5", 1_000_003, 1_000
    path.write_bytes((DATA / "foreign_lstm.h5").read_bytes())
    with h5py.File(path, "a") as file:
        name = next(name for name, group in file["model_weights"].items() if len(group))
        texts = ["x" * length, *["y"] * count]
        attributes = file[f"model_weights/{name}"].attrs
        attributes.create("weight_names", texts, dtype=h5py.string_dtype())
    data = bytearray(path.read_bytes())
    place = data.index(struct.pack("<I", length))
    data[place + 16 : place + 16 * (count + 1)] = data[place : place + 16] * count
    path.write_bytes(data)
    assert "'weight_names' is too large" in refused(path, words, ModelFileError)


@pytest.mark.parametrize("value", [3, 2.5, b"names", "names", None])
def test_weight_names_that_are_no_list(value: Any, words: Path, tmp_path: Path) -> None:
    import h5py

    path = tmp_path / "made.h5"
    path.write_bytes((DATA / "foreign_lstm.h5").read_bytes())
    with h5py.File(path, "a") as file:
        group = file["model_weights"]
        layer = next(name for name in group if "weight_names" in group[name].attrs)
        group[layer].attrs["weight_names"] = h5py.Empty("f4") if value is None else value
    assert "that are no list" in refused(path, words, ModelFileError)


@pytest.mark.parametrize(("name", "features"), [("recurrent2_norm", 2), ("output_norm", 1)])
def test_layers_normalised_over_the_steps(name: str, features: int) -> None:
    def take(axis: Any) -> None:
        config = {"axis": axis, "epsilon": 1e-5}
        weights = (np.ones(3), np.zeros(3))
        layer = keras_file.Layer("norm", "LayerNormalization", config, (), weights)
        model = keras_file.KerasModel((layer,), "norm")
        keras_import._Reader(model, [layer])._take_norm(layer, name)

    good: tuple[Any, ...] = (-1, [-1], features, [features])
    for axis in good:
        take(axis)
    bad: tuple[Any, ...] = (3 - features, [3 - features], 0, [1, 2], [[2]], "1", None)
    for axis in bad:
        with pytest.raises(ConversionError, match="and axis="):
            take(axis)


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4)])
def test_keras_normalises_over_the_features(shape: tuple[int, ...]) -> None:
    weights = (np.ones(shape[-1]), np.zeros(shape[-1]))
    array = np.random.default_rng(0).normal(size=shape)

    def computed(axis: Any) -> Any:
        config = {"axis": axis, "epsilon": 1e-5}
        layer = keras_file.Layer("norm", "LayerNormalization", config, (), weights)
        return keras_statement._layer(layer, [keras_statement.Value(array)])[0].array

    last = len(shape) - 1
    good: tuple[Any, ...] = ([-1], last, [last])
    for axis in good:
        np.testing.assert_array_equal(computed(axis), computed(-1))
    bad: tuple[Any, ...] = (last - 1, [last - 1], [last, last], None)
    for axis in bad:
        with pytest.raises(ConversionError, match="normalises over axis="):
            computed(axis)


# --- ONNX


def changed_onnx(folder: Path, change: Callable[[Any], None]) -> Path:
    model = onnx.load(DATA / "foreign_gru.onnx")
    change(model.graph)
    path = folder / "made.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_onnx_tensors_lie_in_the_file(words: Path, tmp_path: Path) -> None:
    def outside(graph: Any) -> None:
        tensor = graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = 1
        tensor.external_data.add(key="location", value="../../etc/passwd")

    assert "other files" in refused(changed_onnx(tmp_path, outside), words, ModelFileError)

    def larger(graph: Any) -> None:
        graph.initializer[0].dims[0] = 1 << 40

    refused(changed_onnx(tmp_path, larger), words, ModelFileError)

    def negative(graph: Any) -> None:
        graph.initializer[0].dims[0] = -1

    refused(changed_onnx(tmp_path, negative), words, ModelFileError)


def test_onnx_graphs_that_make_large_tensors(words: Path, tmp_path: Path) -> None:
    helper, numbers = onnx.helper, onnx.numpy_helper

    def add(graph: Any, op: str, inputs: list[str]) -> None:
        shape = np.array([1 << 20, 1 << 20], np.int64)
        graph.initializer.append(numbers.from_array(shape, "huge"))
        graph.initializer.append(numbers.from_array(np.zeros(1, np.float32), "zero"))
        graph.node.insert(0, helper.make_node(op, inputs, ["bomb"]))

    for op, inputs in (("ConstantOfShape", ["huge"]), ("Expand", ["zero", "huge"])):
        path = changed_onnx(tmp_path, lambda graph, op=op, inputs=inputs: add(graph, op, inputs))  # type: ignore[misc]
        assert "too large" in refused(path, words, ConversionError)


def nodes_of(*shapes: tuple[int, ...]) -> dict[str, Any]:
    """Tensors named 0, 1, 2, ... that take no memory."""
    return {str(i): np.broadcast_to(np.float64(1.0), shape) for i, shape in enumerate(shapes)}


LONG = 1 << 20


@pytest.mark.parametrize(
    ("op", "shapes", "attributes"),
    [
        ("MatMul", [(LONG, 1, 1), (1, 1, LONG)], {}),
        ("MatMul", [(1, LONG, 1, 2), (LONG, 1, 2, 1)], {}),
        ("Gemm", [(LONG, 1), (1, LONG)], {}),
        ("Gemm", [(1, LONG), (LONG, 1)], {"transA": 1, "transB": 1}),
        ("Gemm", [(1, 1), (1, LONG), (LONG, 1)], {}),
        ("LayerNormalization", [(LONG, 1), (1, LONG)], {}),
        ("LayerNormalization", [(LONG, 1), (1,), (LONG,)], {}),
        ("ReduceSum", [(1 << 40, 0)], {"axes": [1]}),
        ("GRU", [(1 << 12, 1 << 12, 0), (1, 3 << 12, 0), (1, 3 << 12, 1 << 12)], {}),
    ],
)
def test_onnx_operators_that_make_large_tensors(
    op: str, shapes: list[tuple[int, ...]], attributes: dict[str, Any]
) -> None:
    values = nodes_of(*shapes)
    node = onnx_graph.Node(op, tuple(values), ("out",), attributes)
    tracemalloc.start()
    try:
        with pytest.raises(ConversionError, match="makes a tensor that is too large"):
            onnx_statement.compute(node, values)
        assert tracemalloc.get_traced_memory()[1] < 1e6
    finally:
        tracemalloc.stop()


def test_onnx_expands_what_it_is_given() -> None:
    """The wanted shape is broadcast with the data's own."""
    values = nodes_of((LONG, 1)) | {"wanted": np.array([LONG], np.int64)}
    node = onnx_graph.Node("Expand", ("0", "wanted"), ("out",), {})
    with pytest.raises(ConversionError, match="makes a tensor that is too large"):
        onnx_statement.compute(node, values)


def test_onnx_splits_into_its_outputs() -> None:
    values = {"0": np.arange(6.0), "sizes": np.zeros(1000, np.int64)}

    def split(*names: str, outputs: int = 3, **attributes: Any) -> dict[str, Any]:
        made = dict(values)
        out = tuple(f"out{i}" for i in range(outputs))
        onnx_statement.compute(onnx_graph.Node("Split", names, out, attributes), made)
        return made

    np.testing.assert_array_equal(split("0", num_outputs=3)["out2"], [4, 5])
    for count in (2, 4, 1 << 40):
        with pytest.raises(ConversionError, match="parts and has 3 outputs"):
            split("0", num_outputs=count)
    with pytest.raises(ConversionError, match="makes 1000 parts"):
        split("0", "sizes")
    with pytest.raises(ConversionError, match="can't be computed"):
        split("0", outputs=4, num_outputs=4)


def test_onnx_without_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(given: Any, attributes: Any) -> Any:
        raise MemoryError

    monkeypatch.setitem(onnx_statement._OPERATORS, "Neg", fail)
    with pytest.raises(ConversionError, match="does not fit into memory"):
        onnx_statement.compute(onnx_graph.Node("Neg", ("0",), ("out",), {}), nodes_of((2,)))


def test_onnx_operators_of_others(words: Path, tmp_path: Path) -> None:
    def domain(graph: Any) -> None:
        graph.node[0].domain = "com.evil"

    refused(changed_onnx(tmp_path, domain), words, ModelFileError)

    def unknown(graph: Any) -> None:
        graph.node[0].op_type = "StringNormalizer"

    refused(changed_onnx(tmp_path, unknown), words)

    def loop(graph: Any) -> None:
        node = next(node for node in graph.node if node.input)
        node.input[0] = graph.node[-1].output[0]

    refused(changed_onnx(tmp_path, loop), words)
    assert onnx_graph.read(DATA / "foreign_gru.onnx").nodes
