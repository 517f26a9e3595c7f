"""The model file: round trips, equal bits, every kind of damage, disks that refuse."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tidegate import storage
from tidegate.atomic import check_writable
from tidegate.errors import ConfigError, ModelFileError, OutputError, ShapeError
from tidegate.storage import read_stored, read_tensors, write_tensors

DTYPES = ("float32", "float16", "int64", "int32", "uint8", "int8")
NAMES = st.text(max_size=8).filter(lambda name: name != "__metadata__")
ARRAYS = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0))
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
HEADERS = st.dictionaries(
    st.text(max_size=8).filter(lambda key: key not in ("checksum", "format_version")),
    JSON,
    max_size=3,
)
# A slow disk is no failure.
at_any_speed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def write_small(path: Path) -> str:
    """Every kind of content in a few hundred bytes."""
    tensors: dict[str, np.ndarray] = {
        "weight": np.array([[1.5, -0.0, np.nan], [np.inf, 2.0, 3.0]], np.float32),
        "words": np.frombuffer(b"the\nfilm", np.uint8),
        "step": np.array(7, np.int64),
    }
    return write_tensors(path, tensors, {"classes": ["neg", "pös"], "rate": 1e-7})


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    write_small(path)
    return path


def assert_one_line(error: BaseException, path: Path) -> None:
    message = str(error)
    assert repr(str(path)) in message
    assert "\n" not in message
    assert "; " in message  # the mend


# Round trips


@at_any_speed
@given(st.dictionaries(NAMES, ARRAYS, max_size=4), HEADERS)
@example({}, {})
@example({"": np.zeros((3, 0, 2), np.float16), '\x7f"\\\n\u2028é😀': np.array(1, np.int8)}, {})
@example({}, {"label": "\ud800", "nested": {"b": [1, {"a": -0.0}], "a": None}, "é\n": 1e300})
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory,
    tensors: dict[str, np.ndarray],
    header: dict[str, Any],
) -> None:
    path = tmp_path_factory.getbasetemp() / "round-trip.safetensors"
    digest = write_tensors(path, tensors, header)
    data = path.read_bytes()
    assert digest == hashlib.sha256(data).hexdigest() == read_stored(path).sha256

    read, read_header = read_tensors(path)
    assert json.dumps(read_header, sort_keys=True) == json.dumps(header, sort_keys=True)
    assert sorted(read) == sorted(tensors)
    for name, tensor in tensors.items():
        assert read[name].dtype == tensor.dtype
        assert read[name].shape == tensor.shape
        assert read[name].tobytes() == tensor.tobytes()  # bit for bit: NaN and -0.0 too
        assert read[name].flags.writeable
        assert read[name].flags.c_contiguous

    shuffled = dict(reversed(tensors.items()))
    assert write_tensors(path, shuffled, dict(reversed(header.items()))) == digest
    assert path.read_bytes() == data


def test_strided_and_big_endian_tensors_are_stored_by_value(tmp_path: Path) -> None:
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    path = tmp_path / "m"
    plain = write_tensors(path, {"t": np.ascontiguousarray(values.T[::2])}, {})
    assert write_tensors(path, {"t": values.T[::2]}, {}) == plain
    assert write_tensors(path, {"t": values.astype(">f4").T[::2]}, {}) == plain
    read, _ = read_tensors(path)
    assert read["t"].tolist() == [[0, 4, 8], [2, 6, 10]]
    assert read["t"].dtype.isnative


def test_other_tools_can_read_the_tensors(small: Path) -> None:
    tensors = safetensors.numpy.load_file(small)
    assert tensors["words"].tobytes() == b"the\nfilm"
    assert tensors["step"] == 7


def test_bits_are_equal_in_every_process(tmp_path: Path) -> None:
    program = textwrap.dedent("""
        import sys, pathlib, numpy as np
        from tidegate.storage import write_tensors
        names = set("alpha beta gamma delta epsilon".split())  # in the order of this process
        tensors = {name: np.full((2, 3), len(name), np.float32) for name in names}
        header = {name: {other: name for other in names} for name in names}
        print(list(names), write_tensors(pathlib.Path(sys.argv[1]), tensors, header))
    """)
    outputs = []
    for hash_seed in ("1", "2"):
        path = tmp_path / hash_seed
        process = subprocess.run(
            [sys.executable, "-c", program, str(path)],
            env={
                **os.environ,
                "PYTHONHASHSEED": hash_seed,
                "PYTHONPATH": os.pathsep.join(sys.path),
            },
            capture_output=True,
            text=True,
            check=True,
        )
        outputs.append(process.stdout)
    assert outputs[0] != outputs[1]  # the two did see other orders
    assert outputs[0].split()[-1] == outputs[1].split()[-1]
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_format_version_1_never_changes(small: Path) -> None:
    # A change of these bits is a new format version.
    assert (
        read_stored(small).sha256
        == "8d4c3ca1af75666a3ff510b63bdffae62cf939c2bdc4cd3396bc311d6d714925"
    )


# Content that can't be stored


@pytest.mark.parametrize("dtype", ["float64", "bool", "complex64", "U3", "O", "M8[s]"])
def test_dtype_that_has_no_place(tmp_path: Path, dtype: str) -> None:
    with pytest.raises(ShapeError, match=r"tensor 't' is .*; convert it to one of float32, "):
        write_tensors(tmp_path / "m", {"t": np.zeros(2, dtype)}, {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["__metadata__", "\ud800"])
def test_tensor_name_that_has_no_place(tmp_path: Path, name: str) -> None:
    with pytest.raises(ShapeError, match="can't be stored; choose another name"):
        write_tensors(tmp_path / "m", {name: np.zeros(2, np.int8)}, {})


def nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"loss": float("nan")}, "can't be written as JSON"),
        ({"loss": float("-inf")}, "can't be written as JSON"),
        ({"path": Path("x")}, "can't be written as JSON"),
        ({"value": np.float32(1)}, "can't be written as JSON"),
        ({"deep": nested(200_000)}, "can't be written as JSON"),
        ({"checksum": "x"}, "'checksum' is reserved"),
        ({"format_version": 1}, "'format_version' is reserved"),
        ({"long": "x" * (4 << 20)}, "header would have"),
    ],
)
def test_header_that_has_no_place(tmp_path: Path, header: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        write_tensors(tmp_path / "m", {}, header)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_file_that_would_be_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "MAX_FILE_BYTES", 1000)
    with pytest.raises(ConfigError, match=r"the file would have 1,\d+ bytes, more than 1,000"):
        write_tensors(tmp_path / "m", {"t": np.zeros(1000, np.uint8)}, {})


# Damage


def refused(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    with pytest.raises(ModelFileError) as caught:
        read_tensors(path)
    assert_one_line(caught.value, path)
    return str(caught.value)


def test_cut_at_any_byte(small: Path) -> None:
    data = small.read_bytes()
    assert "is empty" in refused(small, b"")
    for length in range(1, len(data)):
        assert f"is cut off: {length} bytes" in refused(small, data[:length]) or (
            f"is cut off after {length} bytes" in refused(small, data[:length])
        )


def test_bytes_behind_the_end(small: Path) -> None:
    data = small.read_bytes()
    for tail in (b"\0", b" ", data):
        assert "has bytes behind its end" in refused(small, data + tail)


def test_any_bit_flipped(small: Path) -> None:
    data = small.read_bytes()
    for position in range(len(data)):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[position] ^= 1 << bit
            refused(small, bytes(damaged))


@at_any_speed
@given(st.data())
def test_any_byte_changed(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.getbasetemp() / "byte-changed.safetensors"
    write_small(path)
    whole = path.read_bytes()
    position = data.draw(st.integers(0, len(whole) - 1))
    value = data.draw(st.integers(0, 255).filter(lambda value: value != whole[position]))
    refused(path, whole[:position] + bytes([value]) + whole[position + 1 :])


def test_white_space_of_another_kind_in_the_header(small: Path) -> None:
    data = small.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    assert data[end - 1 : end] == b" "
    for space in (b"\n", b"\t", b"\r"):
        assert "not as it was written" in refused(small, data[: end - 1] + space + data[end:])


@pytest.mark.parametrize("spaces", [-1, 1, 8])
def test_other_number_of_spaces_in_the_header(small: Path, spaces: int) -> None:
    data = small.read_bytes()
    layout, body = data[8 : 8 + int.from_bytes(data[:8], "little")], split(data)[1]
    layout = layout[:spaces] if spaces < 0 else layout + b" " * spaces
    damaged = len(layout).to_bytes(8, "little") + layout + body
    assert "not as it was written" in refused(small, damaged)


@at_any_speed
@given(st.binary(max_size=200))
@example(b"PK\x03\x04" + bytes(60))
@example(b"label,text\nneg,dreadful\n")
@example((2).to_bytes(8, "little") + b"{}")
@example((2).to_bytes(8, "little") + b"[]")
@example((20).to_bytes(8, "little") + b"\xff" * 20)
@example(b"\xff" * 8)
@example(b"\xff" * 80)
def test_any_bytes(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    refused(tmp_path_factory.getbasetemp() / "any-bytes.safetensors", data)


def split(data: bytes) -> tuple[dict[str, Any], bytes]:
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), data[end:]


def join(layout: Any, body: bytes) -> bytes:
    """A file as the library would lay it out, whatever ``layout`` says."""
    text = layout if isinstance(layout, str) else json.dumps(layout, separators=(",", ":"))
    header = text.encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + body


def canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def test_join_writes_what_the_library_writes(small: Path) -> None:
    data = small.read_bytes()
    assert join(*split(data)) == data


@pytest.mark.parametrize(
    "value", [None, True, -1, 0, 1.5, "x", "F32", [], {}, [[]], "1", 10**30, nested(50)]
)
def test_any_header_field_changed(small: Path, value: Any) -> None:
    layout, body = split(small.read_bytes())

    def edits(node: Any) -> list[Callable[[], Callable[[], None]]]:
        """Each sets one field to ``value`` or drops it, and returns what undoes that."""
        found = []
        for key in list(node) if isinstance(node, dict) else range(len(node)):
            old = node[key]
            if isinstance(old, (dict, list)):
                found += edits(old)

            def change(key: Any = key, old: Any = old) -> Callable[[], None]:
                node[key] = value
                return lambda: node.__setitem__(key, old)

            if canonical(old) != canonical(value):
                found.append(change)
        return found

    entry = json.loads(layout["__metadata__"]["tidegate"])
    count = 0
    for change in edits(entry):
        undo = change()
        layout["__metadata__"]["tidegate"] = canonical(entry)
        refused(small, join(layout, body))
        undo()
        count += 1
    layout["__metadata__"]["tidegate"] = canonical(entry)
    for change in edits(layout):
        undo = change()
        refused(small, join(layout, body))
        undo()
        count += 1
    assert count > 20
    small.write_bytes(join(layout, body))
    assert read_tensors(small)[1] == {"classes": ["neg", "pös"], "rate": 1e-7}


def test_any_header_field_dropped_added_or_renamed(small: Path) -> None:
    data = small.read_bytes()
    sections: list[Callable[[dict[str, Any]], dict[str, Any]]] = [
        lambda layout: layout,
        lambda layout: layout["__metadata__"],
        lambda layout: layout["weight"],
    ]
    for section in sections:
        layout, body = split(data)
        for key in list(section(layout)):
            layout, body = split(data)
            value = section(layout).pop(key)
            refused(small, join(layout, body))
            section(layout)[key + "s"] = value
            refused(small, join(layout, body))
        layout, body = split(data)
        section(layout)["more"] = {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}
        refused(small, join(layout, body))
        section(layout)["more"] = "text"
        refused(small, join(layout, body))


def with_entry(data: bytes, text: str) -> bytes:
    layout, body = split(data)
    layout["__metadata__"]["tidegate"] = text
    return join(layout, body)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("1e-07", "NaN"), "is no JSON"),
        (lambda text: text.replace("1e-07", "Infinity"), "is no JSON"),
        (lambda text: text.replace("1e-07", "1e999"), "is no JSON"),
        (lambda text: text.replace("1e-07", "0.0000001"), "not as written"),
        (lambda text: text.replace("1e-07", "9" * 5000), "is no JSON"),
        (lambda text: text.replace("1e-07", "[" * 100_000 + "]" * 100_000), "is no JSON"),
        (lambda text: text.replace(":", ": "), "not as written"),
        (lambda text: text.replace("neg", "\\u006eeg"), "not as written"),
        (lambda text: text[:-1] + ',"rate":1e-07}', "not as written"),
        (lambda text: "[]", "not as written"),
        (lambda text: "", "is no JSON"),
        (lambda text: text.replace('"format_version":1', '"format_version":0'), "not as written"),
        (
            lambda text: text.replace('"format_version":1', '"format_version":true'),
            "not as written",
        ),
    ],
)
def test_entry_spelled_otherwise(small: Path, change: Callable[[str], str], message: str) -> None:
    data = small.read_bytes()
    text = split(data)[0]["__metadata__"]["tidegate"]
    assert message in refused(small, with_entry(data, change(text)))


@pytest.mark.parametrize("version", [2, 10, 10**4000])
def test_newer_format_version(small: Path, version: int) -> None:
    data = small.read_bytes()
    text = split(data)[0]["__metadata__"]["tidegate"]
    newer = text.replace('"format_version":1', f'"format_version":{version}')
    message = refused(small, with_entry(data, newer))
    assert "made by a newer tidegate" in message
    assert "pip install --upgrade tidegate" in message
    assert len(message) < 400 + len(str(small))


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_safetensors_of_someone_else(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    data = safetensors.numpy.save({"weight": np.zeros((2, 3))}, metadata)
    message = refused(tmp_path / "llama.safetensors", data)
    assert "is a safetensors file, but none of tidegate's" in message


def test_layout_with_a_lone_surrogate(small: Path) -> None:
    layout, body = split(small.read_bytes())
    layout["\ud800"] = {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}
    assert "not as it was written" in refused(small, join(layout, body))


def test_layout_that_nests_too_deep(tmp_path: Path) -> None:
    message = refused(tmp_path / "m", join("[" * 500_000 + "]" * 500_000, b""))
    assert "its header is no JSON" in message


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("shape", [1 << 62, 0]),
        ("shape", [1 << 62, 1 << 62]),
        ("shape", [10**4299]),
        ("shape", [1] * 100 + [6]),
        ("shape", [6, 1]),
        ("data_offsets", [8, 10**4299]),
        ("data_offsets", [8, (1 << 63) - 1]),
        ("data_offsets", [32, 8]),
        ("data_offsets", [0, 24]),
        ("data_offsets", [0]),
        ("data_offsets", []),
        ("data_offsets", [0, 24, 48]),
        ("dtype", "F64"),
        ("dtype", "I32"),
        ("dtype", "x" * 100_000),
    ],
)
def test_hostile_tensor_entry(small: Path, field: str, value: Any) -> None:
    layout, body = split(small.read_bytes())
    layout["weight"][field] = value
    assert len(refused(small, join(layout, body))) < 400 + len(str(small))


def test_sizes_are_checked_before_reading(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = small.stat().st_size
    monkeypatch.setattr(storage, "MAX_FILE_BYTES", size)
    read_tensors(small)
    monkeypatch.setattr(storage, "MAX_FILE_BYTES", size - 1)
    with pytest.raises(ModelFileError, match=f"has {size} bytes, more than {size - 1}"):
        read_tensors(small)


def test_sparse_giant_is_not_read(small: Path) -> None:
    layout, body = split(small.read_bytes())
    data = (storage.MAX_HEADER_BYTES + 1).to_bytes(8, "little") + bytes(100)
    small.write_bytes(data)
    os.truncate(small, 1 << 40)  # would not fit into memory
    with pytest.raises(ModelFileError, match="ask for a header of 4194305 bytes"):
        read_tensors(small)

    layout["weight"] = {"dtype": "U8", "shape": [1 << 40], "data_offsets": [16, 16 + (1 << 40)]}
    data = join(layout, body)
    small.write_bytes(data)
    os.truncate(small, len(data) - len(body) + 16 + (1 << 40))
    with pytest.raises(ModelFileError, match="more than 4294967296; make a smaller model"):
        read_tensors(small)


# Paths that can't be read


@pytest.mark.parametrize("read", [read_tensors, read_stored])
def test_paths_that_are_no_file(tmp_path: Path, read: Callable[[Path], object]) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    cases = {
        "missing": "No such file",
        "missing/deeper": "No such file",
        ".": "Is a directory",
        "pipe": "Not a regular file",
        "loop": "symbolic links",
        "x" * 300: "File name too long",
        "a\0b": "embedded null",
        "two\nlines": "No such file",
    }
    for name, message in cases.items():
        path = tmp_path / name
        with pytest.raises(ModelFileError, match=message) as caught:
            read(path)
        assert_one_line(caught.value, path)


# Writing


def failing(error: OSError) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> Any:
        raise error

    return fail


@pytest.mark.parametrize("call", ["fsync", "open", "fdopen"])
@pytest.mark.parametrize(
    ("code", "message"),
    [
        (errno.ENOSPC, "No space left on device; free some space"),
        (errno.EROFS, "Read-only file system; choose a path that you may write to"),
        (errno.EACCES, "Permission denied; choose a path that you may write to"),
        (errno.EIO, "Input/output error; choose a path"),
    ],
)
def test_system_refuses(
    small: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int, message: str
) -> None:
    old = small.read_bytes()
    for path in (small, small.with_name("new")):
        for write in (check_writable, write_small):
            with monkeypatch.context() as patch:
                patch.setattr(os, call, failing(OSError(code, os.strerror(code))))
                with pytest.raises(OutputError, match=message) as caught:
                    write(path)
            assert_one_line(caught.value, path)
    assert small.read_bytes() == old
    assert list(small.parent.iterdir()) == [small]


def test_rename_that_fails(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = small.read_bytes()
    monkeypatch.setattr(Path, "replace", failing(OSError(errno.EPERM, "Operation not permitted")))
    with pytest.raises(OutputError, match="Operation not permitted"):
        write_tensors(small, {}, {})
    assert small.read_bytes() == old
    assert list(small.parent.iterdir()) == [small]


def test_interrupted_write_leaves_nothing(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = small.read_bytes()

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_tensors(small, {}, {})
    assert small.read_bytes() == old
    assert list(small.parent.iterdir()) == [small]


def test_folder_that_can_not_be_synced_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    assert write_small(tmp_path / "m") == read_stored(tmp_path / "m").sha256


def test_data_is_synced_before_and_folder_after_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m"
    synced = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        synced.append(("folder" if folder else os.fstat(descriptor).st_size, path.exists()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write_small(path)
    assert synced == [(path.stat().st_size, False), ("folder", True)]


WRITE_UNDER_A_LIMIT = """
import pathlib, resource, sys, numpy as np
from tidegate.errors import OutputError
from tidegate.atomic import check_writable
from tidegate.storage import write_tensors
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
path = pathlib.Path(sys.argv[1])
tensors = {"t": np.ones(99_999, np.int8)}
for write in (check_writable, lambda path: write_tensors(path, tensors, {})):
    try:
        write(path)
        print("written")
    except OutputError as error:
        print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_FSIZE as Linux has it")
@pytest.mark.parametrize(("limit", "outcomes"), [(50_000, ["ok", "large"]), (100, ["large"] * 2)])
def test_disk_that_takes_no_more(small: Path, limit: int, outcomes: list[str]) -> None:
    old = small.read_bytes()
    process = subprocess.run(
        [sys.executable, "-c", WRITE_UNDER_A_LIMIT, str(small), str(limit)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    large = f"can't write {str(small)!r}: File too large; raise the limit"
    lines = process.stdout.splitlines()
    assert [line.startswith(large) for line in lines] == [o == "large" for o in outcomes]
    assert small.read_bytes() == old
    assert list(small.parent.iterdir()) == [small]


@pytest.mark.skipif(sys.platform != "linux", reason="needs a file system that refuses files")
@pytest.mark.parametrize("write", [check_writable, write_small])
def test_file_system_that_refuses_files(write: Callable[[Path], object]) -> None:
    for folder in ("/proc", "/sys"):
        path = Path(folder) / "model.safetensors"
        with pytest.raises(OutputError) as caught:
            write(path)
        assert_one_line(caught.value, path)


@pytest.mark.parametrize("write", [check_writable, write_small])
def test_read_only_folder_and_file(small: Path, write: Callable[[Path], object]) -> None:
    small.chmod(0o400)
    if os.access(small, os.W_OK):
        pytest.skip("this user may write to read-only files")
    with pytest.raises(OutputError, match="The file is read-only"):
        write(small)
    small.parent.chmod(0o500)
    try:
        with pytest.raises(OutputError, match="Permission denied"):
            write(small.with_name("new"))
    finally:
        small.parent.chmod(0o700)
    assert list(small.parent.iterdir()) == [small]


@pytest.mark.parametrize("write", [check_writable, write_small])
def test_paths_that_can_not_be_written(tmp_path: Path, write: Callable[[Path], object]) -> None:
    (tmp_path / "file").write_bytes(b"kept")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    before = sorted(tmp_path.iterdir())
    cases = {
        "missing/m": "No such file or directory; create the folder first",
        "file/m": "Not a directory; choose a path whose folders are folders",
        "folder": "Is a directory; add a file name to it",
        "": "Is a directory; add a file name to it",
        "pipe": "Not a regular file",
        "loop": "symbolic links",
        "x" * 300: "File name too long; choose a shorter name",
        "a\0b": "embedded null .*; choose another name",
    }
    for name, message in cases.items():
        path = tmp_path / name
        with pytest.raises(OutputError, match=message) as caught:
            write(path)
        assert_one_line(caught.value, path)
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "file").read_bytes() == b"kept"


@pytest.mark.skipif(not Path("/dev/null").is_char_device(), reason="needs /dev/null")
@pytest.mark.parametrize("write", [check_writable, write_small])
def test_device_is_not_replaced(write: Callable[[Path], object]) -> None:
    with pytest.raises(OutputError, match="Not a regular file"):
        write(Path("/dev/null"))
    assert Path("/dev/null").is_char_device()


def test_check_writable_leaves_no_trace(small: Path) -> None:
    before = small.stat()
    check_writable(small)
    check_writable(small.with_name("new"))
    check_writable(small.with_name("x" * 255))
    assert list(small.parent.iterdir()) == [small]
    after = small.stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)


@pytest.fixture
def umask_027() -> Any:
    old = os.umask(0o027)
    yield
    os.umask(old)


@pytest.mark.usefixtures("umask_027")
def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    path = tmp_path / "m"
    write_small(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    path.chmod(0o606)
    write_small(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o606


def test_symbolic_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    link = tmp_path / "latest"
    link.symlink_to("models/m")
    digest = write_small(link)  # it points nowhere yet
    assert link.is_symlink()
    assert read_stored(tmp_path / "models" / "m").sha256 == digest
    write_tensors(link, {}, {"second": True})
    assert link.is_symlink()
    assert read_tensors(tmp_path / "models" / "m") == ({}, {"second": True})
    assert os.listdir(tmp_path / "models") == ["m"]
