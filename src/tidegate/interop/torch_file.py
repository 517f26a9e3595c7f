"""PyTorch's state dicts, read without PyTorch: from safetensors, or from the zip of torch.save.

The zip holds a pickle, and a pickle is a program. Here it is read by a machine of its own that
knows the few instructions that make dicts, lists, tuples and numbers, and of all functions in the
world the two that make a tensor. It calls nothing, imports nothing, and refuses the rest.

Sources: ``pickletools`` for the instructions; ``torch/serialization.py`` and ``torch/_utils.py``
for what they are in such a file.
"""

from __future__ import annotations

import math
import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors

from tidegate.interop.hostile import Archive, read_bytes, refusing, unreadable
from tidegate.interop.network import Array

_MAX_PICKLE_BYTES = 16 << 20
_SPARE_BYTES = 1 << 20
_SAVE_STATE = "save the weights alone: torch.save(model.state_dict(), FILE), or safetensors"

_BFLOAT16 = "bfloat16"
_STORAGES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "BFloat16Storage": _BFLOAT16,
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "|i1",
    "ByteStorage": "|u1",
    "BoolStorage": "|b1",
}
_SAFETENSORS = {"F32": "<f4", "F64": "<f8", "F16": "<f2", "BF16": _BFLOAT16}
_IGNORED_SAFETENSORS = ("I64", "I32", "I16", "I8", "U8", "BOOL", "U16", "U32", "U64")


def read_state(path: Path) -> dict[str, Array]:
    """The tensors of floating point by name, in float32, in the file's order.

    ModelFileError for what is neither a safetensors file nor a state dict.
    """
    data = read_bytes(path)
    if data[:4] == b"PK\x03\x04":
        return _from_zip(path, data)
    if path.suffix.lower() == ".safetensors":
        return _from_safetensors(path, data)
    if data[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        raise unreadable(path, "is a bare pickle, or of a PyTorch before 1.6", _SAVE_STATE)
    raise unreadable(path, "is no file of torch.save", _SAVE_STATE)


def _float32(data: bytes | memoryview, dtype: str) -> Array:
    if dtype == _BFLOAT16:  # the upper half of a float32
        halves = np.frombuffer(data, "<u2").astype(np.uint32) << 16
        return halves.view(np.float32)
    return np.frombuffer(data, dtype).astype(np.float32)


def _from_safetensors(path: Path, data: bytes) -> dict[str, Array]:
    found = {}
    kinds = (safetensors.SafetensorError, ValueError, KeyError, TypeError, OverflowError)
    with refusing(path, *kinds):
        for name, view in safetensors.deserialize(data):  # type: ignore[no-untyped-call]
            if view["dtype"] in _IGNORED_SAFETENSORS:
                continue
            array = _float32(bytes(view["data"]), _SAFETENSORS[view["dtype"]])
            found[name] = array.reshape(view["shape"])
    return found


# --- The zip of torch.save


@dataclass(frozen=True)
class _Name:
    """A function or class that the pickle names; nothing but a name here."""

    module: str
    name: str


@dataclass(frozen=True)
class _Storage:
    """A storage that the pickle names: an entry of the archive and what is in it."""

    key: str
    dtype: str
    numbers: int


@dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Dict(dict[Any, Any]):
    """An OrderedDict of the pickle."""


_ORDERED = _Name("collections", "OrderedDict")
_REBUILD = _Name("torch._utils", "_rebuild_tensor_v2")
_PARAMETER = _Name("torch._utils", "_rebuild_parameter")
_MARK = object()


class _PickleError(ValueError):
    """Something in the pickle that no state dict has."""


def _from_zip(path: Path, data: bytes) -> dict[str, Array]:
    archive = Archive(path, data)
    pickles = [name for name in archive.names if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise unreadable(path, "is a zip, but none of torch.save", _SAVE_STATE)
    root = pickles[0].removesuffix("data.pkl")
    if f"{root}constants.pkl" in archive.names:
        raise unreadable(path, "is a TorchScript program", _SAVE_STATE)
    order = archive.read(f"{root}byteorder", 16) if f"{root}byteorder" in archive.names else b""
    if order not in (b"", b"little"):
        raise unreadable(path, "was saved on a big-endian machine", "save it on another one")
    try:
        tree = _Machine(archive.read(pickles[0], _MAX_PICKLE_BYTES)).run()
    except _PickleError as error:
        raise unreadable(path, f"is no state dict: {error}", _SAVE_STATE) from error
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError) as error:
        reason = " ".join(str(error).split())[:120]
        raise unreadable(path, f"is damaged ({type(error).__name__}: {reason})") from error
    storages: dict[str, Array] = {}
    left = 2 * len(data) + _SPARE_BYTES  # tensors may share their numbers, but not without end

    def load(tensor: _Tensor) -> Array:
        nonlocal left
        storage = tensor.storage
        if storage.key not in storages:
            content = archive.read(f"{root}data/{storage.key}")
            with refusing(path, ValueError):
                storages[storage.key] = _float32(content, storage.dtype)
        view = _strided(path, tensor, storages[storage.key])
        left -= view.size * (2 if storage.dtype == _BFLOAT16 else np.dtype(storage.dtype).itemsize)
        if left < 0:
            raise unreadable(path, "has tensors of far more bytes than the file", _SAVE_STATE)
        return np.array(view, np.float32)

    found = {
        name: load(tensor)
        for name, tensor in _state(path, tree).items()
        if tensor.storage.dtype[1:2] == "f" or tensor.storage.dtype == _BFLOAT16
    }
    return found


def _strided(path: Path, tensor: _Tensor, numbers: Array) -> Array:
    """The tensor's numbers, where they lie in its storage."""
    shape, strides, offset = tensor.shape, tensor.strides, tensor.offset
    size = math.prod(shape)
    reach = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    sound = len(numbers) == tensor.storage.numbers and len(shape) <= 8 and offset >= 0
    sound = sound and all(n >= 0 for n in shape) and all(s >= 0 for s in strides)
    # A tensor larger than its storage would be numbers that stand for many: a bomb.
    if not sound or size > len(numbers) or (size and reach >= len(numbers)):
        raise unreadable(path, f"has a tensor of shape {list(shape)} outside of its storage")
    if not size:
        return np.zeros(shape, np.float32)
    return np.lib.stride_tricks.as_strided(
        numbers[offset:], shape, [stride * numbers.itemsize for stride in strides]
    )


def _state(path: Path, tree: Any) -> dict[str, _Tensor]:
    """The dict of tensors: the whole file, or what a checkpoint has under a usual name."""
    for _ in range(3):
        if not isinstance(tree, dict):
            break
        tensors = {
            name: tensor
            for name, tensor in tree.items()
            if isinstance(name, str) and isinstance(tensor, _Tensor)
        }
        if tensors:
            return tensors
        inner = ("state_dict", "model_state_dict", "model", "model_state", "net", "weights")
        tree = next((tree[name] for name in inner if name in tree), None)
    raise unreadable(path, "holds no dict of tensors", _SAVE_STATE)


class _Machine:
    """Runs a pickle's instructions, of which each one that is not here ends it."""

    def __init__(self, program: bytes) -> None:
        self._program = program
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        """What the pickle makes. _PickleError for instructions that no state dict needs."""
        for instruction, argument, _ in pickletools.genops(self._program):
            name = instruction.name
            if name == "STOP":
                return self._stack.pop()
            if name in _CONSTANTS:
                self._stack.append(_CONSTANTS[name]())
            elif name in _LITERALS:
                self._stack.append(argument)
            elif name in _ACTIONS:
                _ACTIONS[name](self, argument)
            else:
                raise _PickleError(f"its pickle has the instruction {name}")
        raise _PickleError("its pickle has no end")

    def since_mark(self) -> list[Any]:
        """What lies above the last mark, which goes too."""
        place = len(self._stack) - 1
        while self._stack[place] is not _MARK:
            place -= 1
            if place < 0:
                raise _PickleError("its pickle has no mark")
        found = self._stack[place + 1 :]
        del self._stack[place:]
        return found

    def push(self, value: Any) -> None:
        self._stack.append(value)

    def pop(self) -> Any:
        return self._stack.pop()

    def put(self, place: int | None) -> None:
        self._memo[len(self._memo) if place is None else place] = self._stack[-1]

    def get(self, place: int) -> None:
        self._stack.append(self._memo[place])

    def name(self, argument: str | None) -> None:
        """GLOBAL and STACK_GLOBAL: a name that is looked at, and never looked up."""
        if argument is None:
            function = self.pop()
            module = self.pop()
        else:
            module, _, function = argument.partition(" ")
        if not isinstance(module, str) or not isinstance(function, str):
            raise _PickleError("its pickle has a name that is none")
        known = _Name(module, function)
        storage = module in ("torch", "torch.storage") and function in _STORAGES
        if known not in (_ORDERED, _REBUILD, _PARAMETER) and not storage:
            raise _PickleError(f"its pickle names {module[:60]}.{function[:60]}, which is not run")
        self.push(known)

    def call(self, _: Any) -> None:
        """REDUCE, for the few functions of a state dict."""
        arguments, function = self.pop(), self.pop()
        if not isinstance(arguments, tuple) or not isinstance(function, _Name):
            raise _PickleError("its pickle calls something that is no function")
        if function == _ORDERED and not arguments:
            self.push(_Dict())
        elif function == _REBUILD and len(arguments) >= 4:
            self.push(_tensor(*arguments[:4]))
        elif function == _PARAMETER and arguments and isinstance(arguments[0], _Tensor):
            self.push(arguments[0])
        else:
            raise _PickleError(f"its pickle calls {function.module}.{function.name} otherwise")

    def persistent(self, _: Any) -> None:
        """BINPERSID: a storage."""
        told = self.pop()
        if not isinstance(told, tuple) or len(told) != 5 or told[0] != "storage":
            raise _PickleError("its pickle refers to something that is no storage")
        _, kind, key, _, numbers = told
        sound = isinstance(kind, _Name) and kind.name in _STORAGES and isinstance(key, str)
        if not sound or not key.isalnum() or type(numbers) is not int:
            raise _PickleError("its pickle has a storage that is none")
        self.push(_Storage(key, _STORAGES[kind.name], numbers))

    def append(self, _: Any) -> None:
        value = self.pop()
        self._list().append(value)

    def appends(self, _: Any) -> None:
        values = self.since_mark()
        self._list().extend(values)

    def _list(self) -> list[Any]:
        if not isinstance(self._stack[-1], list):
            raise _PickleError("its pickle appends to what is no list")
        found: list[Any] = self._stack[-1]
        return found

    def items(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, dict) or len(values) % 2:
            raise _PickleError("its pickle sets items of what is no dict")
        for key, value in zip(values[::2], values[1::2], strict=True):
            if not isinstance(key, (str, int)):
                raise _PickleError("its pickle has a key that is no text")
            target[key] = value

    def item(self, _: Any) -> None:
        value, key = self.pop(), self.pop()
        self.items([key, value])

    def state(self, _: Any) -> None:
        """BUILD: attributes, of which state dicts have ``_metadata``. Nobody needs them."""
        self.pop()
        if not isinstance(self._stack[-1], _Dict):
            raise _PickleError("its pickle sets the state of an object")


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any) -> _Tensor:
    numbers = isinstance(shape, tuple) and isinstance(strides, tuple)
    if (
        not numbers
        or not isinstance(storage, _Storage)
        or not all(type(n) is int for n in (offset, *shape, *strides))
        or len(shape) != len(strides)
    ):
        raise _PickleError("its pickle makes a tensor of what is none")
    return _Tensor(storage, offset, shape, strides)


_CONSTANTS: Mapping[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "MARK": lambda: _MARK,
}
_LITERALS = (
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "SHORT_BINSTRING", "BINSTRING"),
)
_ACTIONS: Mapping[str, Callable[[_Machine, Any], None]] = {
    "PROTO": lambda machine, _: None,
    "FRAME": lambda machine, _: None,
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "MEMOIZE": _Machine.put,
    "BINGET": _Machine.get,
    "LONG_BINGET": _Machine.get,
    "GLOBAL": _Machine.name,
    "STACK_GLOBAL": _Machine.name,
    "REDUCE": _Machine.call,
    "BINPERSID": _Machine.persistent,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.appends,
    "SETITEM": _Machine.item,
    "SETITEMS": lambda machine, _: machine.items(machine.since_mark()),
    "BUILD": _Machine.state,
    "TUPLE": lambda machine, _: machine.push(tuple(machine.since_mark())),
    "TUPLE1": lambda machine, _: machine.push((machine.pop(),)),
    "TUPLE2": lambda machine, _: machine.push((machine.pop(), machine.pop())[::-1]),
    "TUPLE3": lambda machine, _: machine.push((machine.pop(), machine.pop(), machine.pop())[::-1]),
}
