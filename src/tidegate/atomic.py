"""Files that appear whole or not at all.

What is written goes to a temporary file in the same folder, is flushed to the disk, and then takes
the name. A process killed in between leaves at worst a hidden ``.tidegate-*.tmp`` beside an
untouched old file.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from tidegate.errors import OutputError, TidegateError

_MENDS = {
    errno.ENOSPC: "free some space or choose another disk",
    errno.EDQUOT: "free some space or choose another disk",
    errno.EFBIG: "raise the limit on file sizes or choose another disk",
    errno.ENOENT: "create the folder first or choose another one",
    errno.ENOTDIR: "choose a path whose folders are folders",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EISDIR: "add a file name to it",
}


def write(path: Path, pieces: Iterable[bytes]) -> None:
    """Write the pieces to ``path``, one after another.

    Raises OutputError if that can't be done; then nothing is left behind and a file that was there
    before is as it was. A symbolic link is followed, and a file that is replaced hands on its
    permissions.
    """
    with _reporting(path), _temporary_beside(path) as (target, temporary, file):
        file.writelines(pieces)
        file.flush()
        os.fsync(file.fileno())
        file.close()
        temporary.replace(target)
        _sync_folder(target.parent)


def check_writable(path: Path) -> None:
    """Raise OutputError if a file could not be written to ``path`` now; leave no trace.

    For use before hours of work whose result goes there. A block is really written, so a full
    disk is seen too.
    """
    with _reporting(path), _temporary_beside(path) as (_, _, file):
        file.write(bytes(4096))
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _reporting(path: Path) -> Iterator[None]:
    """Turn the system's refusals into OutputError."""
    try:
        yield
    except TidegateError:  # some are OSErrors too
        raise
    except ValueError as error:  # a NUL in the path
        raise OutputError(f"can't write {str(path)!r}: {error}; choose another name") from error
    except OSError as error:
        mend = _MENDS.get(error.errno or 0, "choose a path that you may write to")
        raise OutputError(
            f"can't write {str(path)!r}: {error.strerror or error}; {mend}"
        ) from error


@contextmanager
def _temporary_beside(path: Path) -> Iterator[tuple[Path, Path, BinaryIO]]:
    """The file that ``path`` means, and a new one in its folder, which is gone afterwards."""
    target = Path(os.path.realpath(path))  # renaming onto a link would replace the link
    mode = None
    with suppress(FileNotFoundError):
        mode = target.stat().st_mode
        if stat.S_ISDIR(mode):
            raise OSError(errno.EISDIR, "Is a directory")
        if not stat.S_ISREG(mode):  # a rename would put a file in the place of /dev/null
            raise OSError(errno.EINVAL, "Not a regular file")
        if not os.access(target, os.W_OK):  # a rename would not mind
            raise OSError(errno.EACCES, "The file is read-only")
    # Short and its own, so that it fits wherever the target's name does.
    temporary = target.parent / f".tidegate-{os.urandom(8).hex()}.tmp"
    # Not tempfile: that would give 0600, where the system applies the user's umask here.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    descriptor = os.open(temporary, flags, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if mode is not None:
                with suppress(OSError):  # some file systems have no permissions
                    temporary.chmod(stat.S_IMODE(mode))
            yield target, temporary, file
    finally:
        with suppress(OSError):  # renamed
            temporary.unlink()


def _sync_folder(folder: Path) -> None:
    """Make a rename last. The file is in place already, so a refusal is no failure."""
    if os.name == "nt":
        return  # folders can't be opened there
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
