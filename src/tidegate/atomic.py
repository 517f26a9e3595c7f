"""Files that appear whole or not at all, and that one run at a time works on.

What is written goes to a temporary file in the same folder, is flushed to the disk, and then takes
the name. A process killed in between leaves at worst a hidden ``.tidegate-*.tmp`` beside an
untouched old file; whoever next has the file's lock removes it if it was written under the lock.
A lock is an empty hidden file, ``.tidegate-*.lock``; what counts is not that it
is there but that the system holds it for a process, so that one which was killed stands in
nobody's way.
"""

from __future__ import annotations

import errno
import filecmp
import hashlib
import os
import stat
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tidegate.errors import OutputError, OutputExistsError, TidegateError

try:
    import fcntl
except ImportError:  # Windows: nothing is locked there
    fcntl = None  # type: ignore[assignment]

_MENDS = {
    errno.ENOSPC: "free some space or choose another disk",
    errno.EDQUOT: "free some space or choose another disk",
    errno.EFBIG: "raise the limit on file sizes or choose another disk",
    errno.ENOENT: "create the folder first or choose another one",
    errno.ENOTDIR: "choose a path whose folders are folders",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EINVAL: "choose an ordinary file",
    errno.EISDIR: "add a file name to it",
}


def write(path: Path, pieces: Iterable[bytes], *, replace: bool = True) -> None:
    """Write the pieces to ``path``, one after another.

    Raises OutputError if that can't be done; then nothing is left behind and a file that was there
    before is as it was. A symbolic link is followed, and a file that is replaced hands on its
    permissions. Without ``replace``, a file that is there is kept, however late it came, and
    OutputExistsError raised, unless it has just these bytes.
    """
    with _reporting(path), _temporary_beside(path, replace=replace) as (target, temporary, file):
        file.writelines(pieces)
        file.flush()
        os.fsync(file.fileno())
        file.close()
        if replace:
            temporary.replace(target)
        else:
            try:
                _give_new_name(temporary, target)
            except FileExistsError as error:
                if not filecmp.cmp(temporary, target, shallow=False):
                    raise OutputExistsError(
                        f"{str(path)!r} is there already and has another content"
                    ) from error
        _sync_folder(target.parent)


def _give_new_name(temporary: Path, target: Path) -> None:
    """Let the file have the name ``target``. FileExistsError if that is taken."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise
    except (OSError, AttributeError):  # the file system has no links, or Python knows none
        # An empty file holds the name, for whoever creates it has it alone. A process that is
        # killed here leaves it empty, which is why links come first.
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        try:
            temporary.replace(target)
        finally:
            if temporary.exists():
                target.unlink()


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
def locked(path: Path) -> Iterator[None]:
    """Keep every other process and thread that asks for the same lock away from ``path``.

    Raises OutputError if one has it, or if the folder takes no file. The thread that has the lock
    may take it again. The system ends a lock with its process. Where it has no locks, as on
    Windows or some network disks, nothing is locked.
    """
    if fcntl is None:
        yield
        return
    with _reporting(path):
        target = os.path.normcase(os.path.realpath(path))
        lock = _enter(path, target)
    try:
        yield
    finally:
        _leave(target, lock)


@dataclass
class _Lock:
    owner: tuple[int, int]  # process (a fork has a copy of what is below) and thread
    depth: int  # how often the owner has it
    file: Path
    descriptor: int | None  # None where the file system has no locks


_locks: dict[str, _Lock] = {}
_locks_guard = threading.Lock()


def _enter(path: Path, target: str) -> _Lock:
    owner = os.getpid(), threading.get_ident()
    with _locks_guard:
        lock = _locks.get(target)
        if lock is not None and lock.owner[0] == owner[0]:
            if lock.owner != owner:
                raise _busy(path)
        else:
            file = _hidden(target, "lock")
            lock = _locks[target] = _Lock(owner, 0, file, _acquire(path, file))
            if lock.descriptor is not None:
                with suppress(OSError):  # none was killed while it wrote
                    _hidden(target, "tmp").unlink()
        lock.depth += 1
        return lock


def _hidden(target: str, kind: str) -> Path:
    """The one file of this kind beside ``target``."""
    # Short and of a length of its own, so that it fits wherever the target's name does.
    folder, name = os.path.split(target)
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:16]
    return Path(folder, f".tidegate-{digest}.{kind}")


def _temporary_name(target: Path) -> Path:
    """A name that no other writer of ``target`` has: for the lock's owner always the same one."""
    key = os.path.normcase(target)
    with _locks_guard:
        lock = _locks.get(key)
        owner = os.getpid(), threading.get_ident()
        if lock is not None and lock.owner == owner and lock.descriptor is not None:
            return _hidden(key, "tmp")
    return target.parent / f".tidegate-{os.urandom(8).hex()}.tmp"


def _leave(target: str, lock: _Lock) -> None:
    with _locks_guard:
        lock.depth -= 1
        if lock.depth or lock.owner[0] != os.getpid():  # a fork does not end its parent's lock
            return
        del _locks[target]
        if lock.descriptor is not None:
            with suppress(OSError):  # while it is held, so that nobody else's is removed
                lock.file.unlink()
            os.close(lock.descriptor)


def _acquire(path: Path, file: Path) -> int | None:
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Who had it before may have removed the file after it was opened here.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.stat(file)):
                    return descriptor
            os.close(descriptor)
        except BlockingIOError:
            os.close(descriptor)
            raise _busy(path) from None
        except OSError:
            os.close(descriptor)
            with suppress(OSError):
                file.unlink()
            return None
        except BaseException:
            os.close(descriptor)
            raise


def _busy(path: Path) -> OutputError:
    return OutputError(
        f"{str(path)!r} is in use by another run; wait for its end, or choose another path"
    )


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
def _temporary_beside(path: Path, *, replace: bool = True) -> Iterator[tuple[Path, Path, BinaryIO]]:
    """The file that ``path`` means, and a new one in its folder, which is gone afterwards."""
    target = Path(os.path.realpath(path))  # renaming onto a link would replace the link
    mode = None
    with suppress(FileNotFoundError):
        mode = target.stat().st_mode
        if stat.S_ISDIR(mode):
            raise OSError(errno.EISDIR, "Is a directory")
        if not stat.S_ISREG(mode):  # a rename would put a file in the place of /dev/null
            raise OSError(errno.EINVAL, "Not a regular file")
        if replace and not os.access(target, os.W_OK):  # a rename would not mind
            raise OSError(errno.EACCES, "The file is read-only")
    temporary = _temporary_name(target)
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
