"""Files as streams of bytes, with gzip and zstd taken off or put on piece by piece.

What is unpacked is never held as a whole: a file that claims to be small and is not takes time,
and no memory.
"""

from __future__ import annotations

import gzip
import io
import sys
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, Protocol, cast

from tidegate.data.formats import Source
from tidegate.errors import DataError

_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}  # no text in UTF-8 begins with one
# Of zstandard: four bytes may become 128 KiB, so that this many become 8 MiB at most.
_ZSTD_PIECE = 256


class Stream(Protocol):
    """What is read of a stream of bytes; ``sys.stdin.buffer`` and files have it."""

    def read1(self, size: int, /) -> bytes:
        """At most about ``size`` bytes by at most one read; none at the end."""

    def fileno(self) -> int:
        """The descriptor to wait on; OSError without one."""


@contextmanager
def open_stream(source: Source) -> Iterator[Stream]:
    """The bytes of a source, unpacked, while the context lasts.

    Standard input is unpacked, too, if it begins like a compressed file. Raises DataError for a
    file that is not there or can't be read, also later, while it is read.
    """
    if source.path is None:
        if sys.stdin is None:
            raise DataError("standard input is closed: give a file or a pipe")
        yield _unpacked(cast("io.BufferedReader", sys.stdin.buffer), source)
        return
    try:
        file = open(source.path, "rb")  # noqa: SIM115 (closed below)
    except FileNotFoundError as error:
        raise DataError(f"{source.name!r} does not exist: check the path") from error
    except IsADirectoryError as error:
        raise DataError(f"{source.name!r} is a folder: give the path of a file in it") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{source.name!r} can't be read: {reason}; check the path") from error
    with file:
        yield _unpacked(file, source)


def _unpacked(file: io.BufferedReader, source: Source) -> Stream:
    try:
        begin = file.peek(4)[:4] if hasattr(file, "peek") else b""
    except OSError as error:
        raise _unreadable(source.name, error) from error
    found = next((kind for magic, kind in _MAGIC.items() if begin.startswith(magic)), None)
    if found is None:
        if source.compression is not None and begin:
            raise DataError(
                f"{source.name} is named as a {source.compression} file, but is none: rename it, "
                "or fetch it again if it is damaged"
            )
        return Checked(file, source.name, None)
    unpacking = gzip.GzipFile(fileobj=file, mode="rb") if found == "gzip" else _zstd(file, source)
    return Checked(cast("Stream", unpacking), source.name, found)


class Checked:
    """A stream whose errors are one kind of error."""

    def __init__(self, stream: Stream, name: str, compression: str | None) -> None:
        self._stream = stream
        self._name = name
        self._compression = compression

    def read1(self, size: int, /) -> bytes:
        try:
            return self._stream.read1(size)
        except EOFError as error:
            raise DataError(
                f"{self._name} is cut off: its {self._compression} data end too early; copy or "
                "download it again"
            ) from error
        except Exception as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise _unreadable(self._name, error) from error
            if isinstance(error, (gzip.BadGzipFile, zlib.error, *_zstd_errors())):
                raise DataError(
                    f"{self._name} is damaged: its {self._compression} data can't be unpacked "
                    f"({error}); copy or download it again"
                ) from error
            raise

    def fileno(self) -> int:
        return self._stream.fileno()


def _unreadable(name: str, error: OSError) -> DataError:
    reason = error.strerror or error
    return DataError(f"{name} can't be read: {reason}; give a file or a pipe of text")


def zstd_module(name: str) -> Any:
    """Python's own zstd (from 3.14 on) or the package zstandard, for the file called ``name``."""
    if sys.version_info >= (3, 14):
        from compression import zstd

        return zstd
    try:
        import zstandard
    except ImportError as error:
        raise DataError(
            f"{name} is a zstd file, for which Python before 3.14 needs the package zstandard: "
            "pip install 'tidegate[data]'"
        ) from error
    return zstandard


def _zstd_errors() -> tuple[type[Exception], ...]:
    module = sys.modules.get("compression.zstd") or sys.modules.get("zstandard")
    return () if module is None else (module.ZstdError,)


def _zstd(file: BinaryIO, source: Source) -> Any:
    zstd = zstd_module(source.name)
    if sys.version_info >= (3, 14):
        return zstd.ZstdFile(file)
    return io.BufferedReader(_ZstdReader(file, zstd), 1 << 16)


class _ZstdReader(io.RawIOBase):
    """The package's own reader can't tell a file that is cut off from one that ends."""

    def __init__(self, file: BinaryIO, zstandard: Any) -> None:
        self._file = file
        self._zstandard = zstandard
        self._frame: Any = None
        self._packed = b""
        self._unpacked = memoryview(b"")

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._file.fileno()

    def readinto(self, target: Any, /) -> int:
        while not self._unpacked:
            packed = self._packed or self._file.read(_ZSTD_PIECE)
            if not packed:
                if self._frame is not None:
                    raise EOFError
                return 0
            if self._frame is None:
                self._frame = self._zstandard.ZstdDecompressor().decompressobj()
            self._unpacked = memoryview(self._frame.decompress(packed))
            self._packed = b""
            if self._frame.eof:
                self._packed = self._frame.unused_data
                self._frame = None
        count = min(len(target), len(self._unpacked))
        target[:count] = self._unpacked[:count]
        self._unpacked = self._unpacked[count:]
        return count


def compressed(pieces: Iterable[bytes], compression: str | None, name: str) -> Iterator[bytes]:
    """The pieces packed by "gzip" or "zstd" (None: as they are), for the file called ``name``.

    The same pieces give the same bytes: no time and no name is written into them. Both kinds hold
    a checksum.
    """
    if compression is None:
        yield from pieces
        return
    packer: Any
    if compression == "gzip":
        packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    elif sys.version_info >= (3, 14):
        zstd = zstd_module(name)
        packer = zstd.ZstdCompressor(options={zstd.CompressionParameter.checksum_flag: 1})
    else:
        packer = zstd_module(name).ZstdCompressor(write_checksum=True).compressobj()
    for piece in pieces:
        if packed := packer.compress(piece):
            yield packed
    yield packer.flush()
