"""One safetensors file of tensors and a JSON header: the model file and the checkpoint.

All of the header is one metadata entry, ``tidegate``, in canonical JSON (sorted keys, no
spaces, ASCII), because safetensors keeps several entries in random order and the bits of a
file must depend on its content alone:

    {"checksum": "...", "format_version": 1, ...what the caller gave}

The checksum is SHA-256 over the header without it, then each tensor's name, dtype, shape and
bytes in the order of names. So it is about content, not about where the bytes lie.

Reading takes the file for hostile: nothing is allocated before sizes were checked, and
everything that is wrong is one ModelFileError. Writing is atomic (see ``atomic``).
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import reprlib
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeAlias

import numpy as np
import safetensors
import safetensors.numpy

from tidegate import atomic
from tidegate.errors import ConfigError, ModelFileError, ShapeError

FORMAT_VERSION = 1
MAX_HEADER_BYTES = 4 << 20  # parsed JSON takes some twenty times its text
MAX_FILE_BYTES = 4 << 30

JSON: TypeAlias = bool | int | float | str | Sequence["JSON"] | Mapping[str, "JSON"] | None

_ENTRY = "tidegate"
_RESERVED = ("checksum", "format_version")
_DTYPES = {"F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U8": "|u1", "I8": "|i1"}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}

DAMAGED_MEND = "copy or download it again, or train it anew"
FOREIGN_MEND = "give a file that tidegate saved"


def write_tensors(
    path: Path,
    tensors: Mapping[str, np.ndarray],
    header: Mapping[str, JSON],
    *,
    replace: bool = True,
) -> str:
    """Write a file atomically and return the SHA-256 of its bytes in hexadecimal.

    tensors: float32, float16, int64, int32, uint8 or int8, of any shape and layout; else
    ShapeError. header: what JSON can hold, without NaN and without the keys ``checksum`` and
    ``format_version``; else ConfigError. The same content gives the same bytes everywhere.

    Raises OutputError if the file can't be written; then nothing is left behind and a file
    that was there before is as it was. A symbolic link is followed, and a file that is
    replaced hands on its permissions. Without ``replace``, OutputExistsError for a file that
    is there, unless it has the same bytes.
    """
    data = _serialize(tensors, header)
    atomic.write(path, [data], replace=replace)
    return hashlib.sha256(data).hexdigest()


def read_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read what ``write_tensors`` wrote: the tensors, writable, and the caller's header.

    Raises ModelFileError for everything else: no file, no regular file, another format or a
    newer one, and damage anywhere, down to a single changed byte.
    """
    _, tensors, header = _read_file(path)
    return tensors, header


class Stored(NamedTuple):
    """A file's content, with the size and SHA-256 of just the bytes that it was read from."""

    tensors: dict[str, np.ndarray]
    header: dict[str, Any]
    size: int
    sha256: str


def read_stored(path: Path) -> Stored:
    """Like ``read_tensors``, and what the file's bytes are."""
    data, tensors, header = _read_file(path)
    return Stored(tensors, header, len(data), hashlib.sha256(data).hexdigest())


def read_bytes(path: Path) -> bytes:
    """All of a regular file of any kind. ModelFileError if it can't be read or is too large."""
    with _reporting(path), _open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_FILE_BYTES:
            raise _unreadable(
                path, f"has {size} bytes, more than {MAX_FILE_BYTES}", "make a smaller model"
            )
        return file.read(size)


def _read_file(path: Path) -> tuple[bytes, dict[str, np.ndarray], dict[str, Any]]:
    with _reporting(path), _open_regular(path) as file:
        return _read(path, file)


@contextmanager
def _reporting(path: Path) -> Iterator[None]:
    """Turn the system's refusals into ModelFileError."""
    try:
        yield
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            mend = "check the path, or save a model there first"
        elif isinstance(error, IsADirectoryError):
            mend = "give the path of the model file itself"
        else:
            mend = "check the path and its permissions"
        raise _unreadable(path, f"can't be read: {_reason(error)}", mend) from error
    except MemoryError as error:
        raise _unreadable(
            path, "does not fit into memory", "free some memory or use a larger machine"
        ) from error


# Content


def _canonical(value: JSON) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _checksum(header: Mapping[str, JSON], tensors: Mapping[str, np.ndarray]) -> str:
    """header: with the format version, without the checksum. tensors: little-endian, C order."""
    digest = hashlib.sha256(_canonical(header).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        # JSON has no bare newline, and it says how many bytes follow: nothing is ambiguous.
        label = _canonical([name, _CODES[tensor.dtype.str], tensor.shape])
        digest.update(f"\n{label}\n".encode())
        digest.update(tensor.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _serialize(tensors: Mapping[str, np.ndarray], header: Mapping[str, JSON]) -> bytes:
    arrays = {name: _portable(name, tensor) for name, tensor in tensors.items()}
    reserved = [key for key in _RESERVED if key in header]
    if reserved:
        raise ConfigError(f"header key {reserved[0]!r} is reserved; choose another name")
    versioned: dict[str, JSON] = {**header, "format_version": FORMAT_VERSION}
    try:
        checksum = _checksum(versioned, arrays)
        entry = _canonical({**versioned, "checksum": checksum})
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"the header can't be written as JSON ({error}); give only None, bool, int, "
            "finite float, str, lists and dicts with str keys"
        ) from error
    data = safetensors.numpy.save(arrays, {_ENTRY: entry})
    header_bytes = int.from_bytes(data[:8], "little")
    check_size(len(data) - header_bytes, header_bytes)
    return data


def check_size(tensor_bytes: int, header_bytes: int, what: str = "file") -> None:
    """ConfigError if ``what`` would be a file that is too large to be read again."""
    if header_bytes > MAX_HEADER_BYTES:
        raise ConfigError(
            f"the {what}'s header would have {header_bytes:,} bytes, more than "
            f"{MAX_HEADER_BYTES:,}; use fewer epochs, or fewer and shorter labels"
        )
    size = tensor_bytes + header_bytes
    if size > MAX_FILE_BYTES:
        raise ConfigError(
            f"the {what} would have {size:,} bytes, more than {MAX_FILE_BYTES:,}; choose a "
            "smaller vocabulary_size, embedding_size or hidden_size"
        )


def header_size(header: Mapping[str, JSON] | Sequence[JSON]) -> int:
    """At most how many bytes of a file's header these values take, tensors' names included."""
    return len(json.dumps(_canonical(header))) + 16_384


def _portable(name: str, tensor: np.ndarray) -> np.ndarray:
    """The tensor in the file's layout: little-endian, C order. ShapeError if it has none."""
    if name == "__metadata__" or not _is_utf8(name):
        raise ShapeError(f"tensor name {name!r} can't be stored; choose another name")
    array = np.asarray(tensor)
    array = array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)
    if array.dtype.str not in _CODES:
        known = ", ".join(np.dtype(dtype).name for dtype in _CODES)
        raise ShapeError(f"tensor {name!r} is {array.dtype}; convert it to one of {known}")
    return array


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


# Reading


def _unreadable(path: Path, what: str, mend: str) -> ModelFileError:
    return ModelFileError(f"{str(path)!r} {what}; {mend}")


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def _open_regular(path: Path) -> BinaryIO:
    """Open for reading; OSError for anything but a regular file: a pipe would never end."""
    try:
        mode = os.stat(path).st_mode
    except ValueError as error:  # a NUL in the path
        raise OSError(errno.EINVAL, str(error)) from error
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "Is a directory")
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "Not a regular file")
    return open(path, "rb")


def _read(path: Path, file: BinaryIO) -> tuple[bytes, dict[str, np.ndarray], dict[str, Any]]:
    size = os.fstat(file.fileno()).st_size
    if size == 0:
        raise _unreadable(path, "is empty", DAMAGED_MEND)
    prefix = file.read(8)
    header_bytes = int.from_bytes(prefix, "little")
    if size < 8 or (header_bytes > size - 8 and header_bytes <= MAX_HEADER_BYTES):
        raise _unreadable(path, f"is cut off after {size} bytes", DAMAGED_MEND)
    if header_bytes > MAX_HEADER_BYTES:
        raise _unreadable(
            path,
            f"is no model file: its first bytes ask for a header of {header_bytes} bytes, more "
            f"than {MAX_HEADER_BYTES}",
            FOREIGN_MEND,
        )
    layout = file.read(header_bytes)
    metadata, entries = _parse_layout(path, layout)
    header = _parse_header(path, metadata)
    expected = 8 + header_bytes + _check_entries(path, entries)
    if size != expected:
        how = "is cut off" if size < expected else "has bytes behind its end"
        raise _unreadable(path, f"{how}: {size} bytes where {expected} belong", DAMAGED_MEND)
    if size > MAX_FILE_BYTES:
        raise _unreadable(
            path, f"has {size} bytes, more than {MAX_FILE_BYTES}", "make a smaller model"
        )

    file.seek(0)
    data = file.read(size + 1)
    if len(data) != size or not data.startswith(prefix + layout):
        raise _unreadable(path, "changed while it was read", "try again")
    try:
        # The library checks again what was checked above, and that the tensors lie end to end.
        views = safetensors.deserialize(data)  # type: ignore[no-untyped-call]
        tensors = {name: _from_view(view) for name, view in views}
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise _unreadable(path, f"is damaged: {_one_line(error)}", DAMAGED_MEND) from error
    checksum = header.pop("checksum", None)
    if checksum != _checksum(header, tensors):
        raise _unreadable(path, "is damaged: its checksum does not fit its content", DAMAGED_MEND)
    del header["format_version"]
    native = {name: t.astype(t.dtype.newbyteorder("="), copy=False) for name, t in tensors.items()}
    return data, native, header


def _from_view(view: Mapping[str, Any]) -> np.ndarray:
    """[...] little-endian and writable, from what the library gives for a tensor."""
    array = np.frombuffer(view["data"], _DTYPES[view["dtype"]]).reshape(view["shape"])
    return array if array.flags.writeable else array.copy()


def _parse_layout(path: Path, layout: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """The library's own header: the metadata, and dtype, shape and place of each tensor."""
    try:
        text = layout.decode()
        entries = json.loads(text)
        # The checksum is about content. This leaves no freedom to what is not content: no
        # spaces, no other spelling of a character or number, no key twice.
        compact = json.dumps(entries, separators=(",", ":"), ensure_ascii=False)
    except (ValueError, RecursionError) as error:
        raise _unreadable(
            path,
            f"is no model file or is damaged: its header is no JSON ({_one_line(error)})",
            f"{FOREIGN_MEND}, or {DAMAGED_MEND}",
        ) from error
    if not isinstance(entries, dict):
        raise _unreadable(path, "is no model file: its header is no JSON object", FOREIGN_MEND)
    metadata = entries.pop("__metadata__", None)
    if not isinstance(metadata, dict) or not isinstance(metadata.get(_ENTRY), str):
        raise _unreadable(path, "is a safetensors file, but none of tidegate's", FOREIGN_MEND)
    padding = text[len(compact) :]  # the library aligns what follows to 8 bytes
    aligned = len(layout) % 8 == 0 and len(padding) < 8 and not padding.strip(" ")
    if not text.startswith(compact) or not aligned:
        raise _unreadable(path, "is damaged: its header is not as it was written", DAMAGED_MEND)
    return metadata, entries


def _parse_header(path: Path, metadata: dict[str, Any]) -> dict[str, Any]:
    """Our header with version and checksum, in canonical form."""
    text = metadata[_ENTRY]
    try:
        header = json.loads(text)
        canonical = _canonical(header)  # refuses NaN and infinity, and 1e999 too
    except (ValueError, RecursionError) as error:
        raise _unreadable(
            path, f"is damaged: its tidegate entry is no JSON ({_one_line(error)})", DAMAGED_MEND
        ) from error
    version = header.get("format_version") if isinstance(header, dict) else None
    if type(version) is int and version > FORMAT_VERSION:
        raise _unreadable(
            path,
            f"has format version {reprlib.repr(version)}, made by a newer tidegate than "
            f"this one, which reads up to {FORMAT_VERSION}",
            "upgrade with: pip install --upgrade tidegate",
        )
    if type(version) is not int or version < 1 or canonical != text or len(metadata) > 1:
        raise _unreadable(path, "is damaged: its tidegate entry is not as written", DAMAGED_MEND)
    return header  # type: ignore[no-any-return]


def _check_entries(path: Path, entries: dict[str, Any]) -> int:
    """The bytes that the tensors take; ModelFileError for an entry that is not sound."""
    end = 0
    for name, entry in entries.items():
        if not isinstance(entry, dict) or sorted(entry) != ["data_offsets", "dtype", "shape"]:
            raise _unreadable(
                path, f"is damaged: tensor {reprlib.repr(name)} is not described", DAMAGED_MEND
            )
        if not isinstance(entry["dtype"], str) or entry["dtype"] not in _DTYPES:
            raise _unreadable(
                path,
                f"is damaged: tensor {reprlib.repr(name)} has dtype "
                f"{reprlib.repr(entry['dtype'])}, which is none of {', '.join(_DTYPES)}",
                DAMAGED_MEND,
            )
        for numbers in (entry["shape"], entry["data_offsets"]):
            if not isinstance(numbers, list) or not all(
                type(number) is int and 0 <= number < 1 << 63 for number in numbers
            ):
                raise _unreadable(
                    path,
                    f"is damaged: tensor {reprlib.repr(name)} has a wrong shape or place",
                    DAMAGED_MEND,
                )
        end = max(end, *entry["data_offsets"], 0)
    return end


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]  # it may quote the file
