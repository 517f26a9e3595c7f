"""Files of other frameworks, taken for hostile: sizes are known before anything is allocated.

Nothing in them is run or unpickled, no name in them leads to another file, and whatever is wrong
is one ModelFileError.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from tidegate import storage
from tidegate.errors import ConfigError, ModelFileError

MAX_JSON_BYTES = 16 << 20
MAX_ENTRIES = 100_000


def unreadable(path: Path, what: str, mend: str = "save it again") -> ModelFileError:
    """The error of a file that can't be used."""
    return ModelFileError(f"{str(path)!r} {what}; {mend}")


@contextmanager
def refusing(path: Path, *kinds: type[Exception]) -> Iterator[None]:
    """Turn a library's own errors about a file's content into one ModelFileError."""
    try:
        yield
    except kinds as error:
        reason = " ".join(str(error).split())[:200]
        told = f"{type(error).__name__}: {reason}" if reason else type(error).__name__
        raise unreadable(path, f"is damaged ({told})", "copy it or save it again") from error
    except MemoryError as error:
        raise unreadable(
            path, "does not fit into memory", "free some memory or use a larger machine"
        ) from error


def read_bytes(path: Path) -> bytes:
    """The file's bytes. ModelFileError if it is no regular file, or larger than a model may be."""
    return storage.read_bytes(path)


def extra(name: str, module: str) -> Any:
    """The module of an extra. ConfigError that names the extra if it is not installed."""
    try:
        return import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"{module} is not installed ({error}); install it with: pip install 'tidegate[{name}]'"
        ) from error


class Archive:
    """A zip file whose entries are read one by one, each no larger than the file says it may be."""

    def __init__(self, path: Path, data: bytes) -> None:
        self.path = path
        self._left = len(
            data
        )  # a bomb's entries overlap, or say that they are larger than they are
        with refusing(path, *_ZIP_ERRORS):
            self._zip = zipfile.ZipFile(io.BytesIO(data))
            infos = self._zip.infolist()
        if len(infos) > MAX_ENTRIES:
            raise unreadable(path, f"has {len(infos)} entries, more than {MAX_ENTRIES}")
        self._infos = {info.filename: info for info in infos}
        if len(self._infos) < len(infos):
            raise unreadable(path, "has two entries of one name")

    @property
    def names(self) -> list[str]:
        """The entries' names, in the file's order."""
        return list(self._infos)

    def read(self, name: str, most: int | None = None) -> bytes:
        """An entry's bytes. most: how many it may have if it is compressed; else it may not be."""
        info = self._infos.get(name)
        if info is None:
            raise unreadable(self.path, f"has no entry {name!r}")
        stored = info.compress_type == zipfile.ZIP_STORED
        if info.flag_bits & 1:
            raise unreadable(self.path, f"has an encrypted entry {name!r}", "save it unencrypted")
        if not stored and (most is None or info.compress_type != zipfile.ZIP_DEFLATED):
            raise unreadable(self.path, f"has a compressed entry {name!r}", "save it uncompressed")
        limit = self._left if stored else most
        if most is not None:
            limit = min(most, limit or 0)
        if limit is None or info.file_size > limit:
            raise unreadable(self.path, f"says that its entry {name!r} has {info.file_size} bytes")
        with refusing(self.path, *_ZIP_ERRORS), self._zip.open(info) as entry:
            data = entry.read(info.file_size + 1)
        if len(data) != info.file_size:
            raise unreadable(self.path, f"has an entry {name!r} that is cut off")
        if stored:
            self._left -= len(data)
        return data

    def json(self, name: str) -> Any:
        """An entry of JSON."""
        return parse_json(self.path, self.read(name, MAX_JSON_BYTES))


_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    struct.error,
    OSError,
    EOFError,
    ValueError,
    NotImplementedError,
    RuntimeError,
    KeyError,
    IndexError,
    OverflowError,
)


def parse_json(path: Path, data: bytes | str) -> Any:
    """JSON of a bounded size and depth."""
    if len(data) > MAX_JSON_BYTES:
        raise unreadable(path, f"has {len(data)} bytes of JSON, more than {MAX_JSON_BYTES}")
    with refusing(path, ValueError, RecursionError):
        return json.loads(data)
