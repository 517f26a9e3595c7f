"""Rows of numbers on disk, for texts that are too many for memory.

A row is written once, with its checksum behind it, and read whenever a batch wants it. The file has
no name: the system frees it with the last process that has it open, however that ends, so that no
run leaves anything behind. Rows are read and not mapped into memory, because a disk that fails then
is an error and no crash, and because what was read long ago takes no memory.
"""

from __future__ import annotations

import tempfile
import zlib
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tidegate.batch import TokenizedTexts
from tidegate.errors import DataError, OutputError

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

BLOCK_ROWS = 4096  # read at a time where all are wanted
_CHECKSUM_BYTES = 4
_WRITTEN_TOGETHER = 1 << 20  # bytes


class StoredRows:
    """Ragged rows of whole numbers from 0 to ``largest``, first written, then read.

    file: theirs alone. In memory are 8 bytes for each row.
    """

    def __init__(self, file: WorkFile, largest: int) -> None:
        self._dtype = np.dtype(np.uint16 if largest < 2**16 else np.uint32)
        self.file = file
        self._ends = array("q", [0])  # in bytes

    def __len__(self) -> int:
        return len(self._ends) - 1

    def append(self, values: Int32, offsets: Int64) -> None:
        """Write rows: row i is values[offsets[i]:offsets[i + 1]]."""
        numbers = values.astype(self._dtype).tobytes()
        pieces = []
        end = self._ends[-1]
        places = (offsets * self._dtype.itemsize).tolist()
        for begin, stop in pairwise(places):
            row = numbers[begin:stop]
            pieces += [row, zlib.crc32(row).to_bytes(_CHECKSUM_BYTES, "little")]
            end += len(row) + _CHECKSUM_BYTES
            self._ends.append(end)
        self.file.write(b"".join(pieces))

    def lengths(self, rows: Int64) -> Int64:
        """[rows] numbers in each of the given rows."""
        ends = np.frombuffer(self._ends, np.int64)
        found: Int64 = (ends[rows + 1] - ends[rows] - _CHECKSUM_BYTES) // self._dtype.itemsize
        return found

    def read(self, rows: Int64) -> tuple[Int32, Int64]:
        """The given rows, in their order: values [total] and offsets [rows + 1].

        DataError for rows that are not what was written.
        """
        ends, pieces = self._ends, []
        for row in rows.tolist():
            begin = ends[row]
            piece = self.file.read(begin, ends[row + 1] - begin)
            numbers = piece[:-_CHECKSUM_BYTES]
            if zlib.crc32(numbers).to_bytes(_CHECKSUM_BYTES, "little") != piece[len(numbers) :]:
                raise DataError(
                    f"the ids of text {row} in {self.file.place} are not those that were written: "
                    "the disk is failing; choose another one by --work-folder (folder=)"
                )
            pieces.append(numbers)
        offsets = np.zeros(len(rows) + 1, np.int64)
        np.cumsum([len(piece) // self._dtype.itemsize for piece in pieces], out=offsets[1:])
        joined = np.frombuffer(b"".join(pieces), self._dtype)
        return joined.astype(np.int32), offsets


class StoredTexts:
    """Texts as ids that lie on disk, in the order of ``rows``: see ``batch.TokenizedTexts``."""

    def __init__(self, stored: StoredRows, rows: Int64) -> None:
        self._stored = stored
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def lengths(self) -> Int64:
        """[texts] int64: tokens in each row."""
        return self._stored.lengths(self._rows)

    def select(self, rows: npt.ArrayLike) -> TokenizedTexts:
        """The given rows in the given order, read."""
        return TokenizedTexts(*self._stored.read(self._rows[np.asarray(rows)]))

    def blocks(self) -> Iterator[TokenizedTexts]:
        """All rows in order, some thousand at a time; one block of none if there are none."""
        for start in range(0, max(1, len(self)), BLOCK_ROWS):
            yield self.select(np.arange(start, min(start + BLOCK_ROWS, len(self))))


Texts = TokenizedTexts | StoredTexts


class WorkFile:
    """A file without a name, which is gone when it is closed or its process ends.

    folder: where it lies, None for the system's folder for such files. OutputError, which names the
    folder, for what the system refuses.
    """

    def __init__(self, folder: Path | None) -> None:
        self.place = str(tempfile.gettempdir() if folder is None else folder)
        with self._reporting():
            # Not buffered: rows are read here and there.
            self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 (kept open)
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0

    def write(self, piece: bytes) -> None:
        """Put the piece behind all others."""
        self._waiting.append(piece)
        self._waiting_bytes += len(piece)
        if self._waiting_bytes >= _WRITTEN_TOGETHER:
            self._flush()

    def read(self, begin: int, count: int) -> bytes:
        """``count`` bytes from ``begin`` on; fewer where the file ends."""
        if self._waiting:
            self._flush()
        with self._reporting():
            self._file.seek(begin)
            return self._file.read(count)

    def mapped(self, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """All that was written, as an array whose values are read when they are looked at.

        What is in memory of it is the system's cache of the file, and gives way to other needs.
        """
        self._flush()
        with self._reporting():
            if not self._file.seek(0, 2):
                return np.zeros(0, dtype)  # nothing can't be mapped
            return np.asarray(np.memmap(self._file, dtype, mode="r"))

    def close(self) -> None:
        """Free the disk."""
        self._file.close()

    def _flush(self) -> None:
        data = memoryview(b"".join(self._waiting))
        self._waiting, self._waiting_bytes = [], 0
        with self._reporting():
            self._file.seek(0, 2)
            while data:  # a disk that is nearly full takes a part
                data = data[self._file.write(data) :]

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(
                f"can't keep texts as ids in {self.place!r}: {error.strerror or error}; free some "
                "space, or choose another folder by --work-folder (folder=)"
            ) from error


class Work:
    """The files of one training, which are gone when the context ends.

    folder: where they lie, see ``WorkFile``.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._files: list[WorkFile] = []

    def file(self) -> WorkFile:
        """A new one."""
        self._files.append(WorkFile(self._folder))
        return self._files[-1]

    def __enter__(self) -> Work:
        return self

    def __exit__(self, *error: object) -> None:
        for file in self._files:
            file.close()
