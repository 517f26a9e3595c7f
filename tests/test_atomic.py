"""Files that are published once, and locks that end with their process."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tidegate import atomic
from tidegate.errors import OutputError, OutputExistsError


def failing(code: int) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> Any:
        raise OSError(code, os.strerror(code))

    return fail


@pytest.fixture(params=["links", "no links", "no os.link"])
def linking(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """File systems of both kinds, and a Python without the function."""
    if request.param == "no links":
        monkeypatch.setattr(os, "link", failing(errno.EPERM))
    if request.param == "no os.link":
        monkeypatch.delattr(os, "link")


# --- publishing --------------------------------------------------------------------------------


@pytest.mark.usefixtures("linking")
def test_a_new_name_is_given_once(tmp_path: Path) -> None:
    path = tmp_path / "new"
    atomic.write(path, [b"fir", b"st"], replace=False)
    assert path.read_bytes() == b"first"
    with pytest.raises(OutputExistsError, match=r"new' is there already and has another content"):
        atomic.write(path, [b"second"], replace=False)
    atomic.write(path, [b"first"], replace=False)  # as good as written
    assert path.read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["new"]
    assert path.stat().st_nlink == 1
    atomic.write(path, [b"third"])
    assert path.read_bytes() == b"third"


@pytest.mark.usefixtures("linking")
def test_of_many_writers_one_wins_and_the_others_are_told(tmp_path: Path) -> None:
    path = tmp_path / "new"
    start = threading.Barrier(8)
    outcomes: list[str] = []

    def publish(number: int) -> None:
        content = b"%d" % number * 10_000
        start.wait()
        try:
            atomic.write(path, [content], replace=False)
        except OutputExistsError:
            outcomes.append("told")
        else:
            outcomes.append("won")
            assert path.read_bytes() == content

    threads = [threading.Thread(target=publish, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["told"] * 7 + ["won"]
    assert os.listdir(tmp_path) == ["new"]


@pytest.mark.usefixtures("linking")
def test_what_has_the_name_is_kept_whatever_it_is(tmp_path: Path) -> None:
    path = tmp_path / "new"
    path.write_bytes(b"kept")
    path.chmod(0o400)
    with pytest.raises(OutputExistsError):
        atomic.write(path, [b"other"], replace=False)
    assert path.read_bytes() == b"kept"
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="Is a directory"):
        atomic.write(tmp_path / "folder", [b"other"], replace=False)
    (tmp_path / "link").symlink_to("elsewhere")
    atomic.write(tmp_path / "link", [b"followed"], replace=False)
    assert (tmp_path / "elsewhere").read_bytes() == b"followed"
    assert sorted(os.listdir(tmp_path)) == ["elsewhere", "folder", "link", "new"]


def test_a_name_that_was_held_is_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", failing(errno.EOPNOTSUPP))
    monkeypatch.setattr(Path, "replace", failing(errno.EIO))
    with pytest.raises(OutputError, match="Input/output error"):
        atomic.write(tmp_path / "new", [b"lost"], replace=False)
    assert os.listdir(tmp_path) == []


# --- locks -------------------------------------------------------------------------------------

HOLD = """
import sys, time
from pathlib import Path
from tidegate import atomic
with atomic.locked(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""
locks = pytest.mark.skipif(sys.platform == "win32", reason="the system has no such locks")


def holder(path: Path) -> subprocess.Popen[str]:
    """A process that has the lock until its standard input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    return process


@locks
def test_another_process_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    path = tmp_path / "run"
    process = holder(path)
    (tmp_path / "alias").symlink_to("run")
    for name in ("run", "alias"):
        with (
            pytest.raises(OutputError, match="is in use by another run"),
            atomic.locked(tmp_path / name),
        ):
            pass
    with atomic.locked(tmp_path / "another"):
        pass
    process.communicate()
    assert process.returncode == 0
    with atomic.locked(path):
        pass
    assert os.listdir(tmp_path) == ["alias"]


@locks
def test_a_killed_process_stands_in_nobody_s_way(tmp_path: Path) -> None:
    path = tmp_path / "run"
    process = holder(path)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    (left,) = os.listdir(tmp_path)
    with atomic.locked(path):
        assert os.listdir(tmp_path) == [left]
    assert os.listdir(tmp_path) == []


@locks
def test_what_a_killed_writer_left_is_gone_with_its_lock(tmp_path: Path) -> None:
    path = tmp_path / "run"
    code = """
import os, signal, sys
from pathlib import Path
from tidegate import atomic
def pieces():
    yield b"half"
    os.kill(os.getpid(), signal.SIGKILL)
with atomic.locked(Path(sys.argv[1])):
    atomic.write(Path(sys.argv[1]), pieces())
"""
    for _ in range(3):
        subprocess.run([sys.executable, "-c", code, str(path)], check=False)
        assert len([name for name in os.listdir(tmp_path) if name.endswith(".tmp")]) == 1
    with atomic.locked(path):
        atomic.write(path, [b"whole"])
    assert os.listdir(tmp_path) == ["run"]


@locks
def test_a_lock_leaves_no_trace_however_it_ends(tmp_path: Path) -> None:
    for error in (KeyboardInterrupt, ValueError):
        with pytest.raises(error), atomic.locked(tmp_path / ("x" * 255)):
            raise error
        assert os.listdir(tmp_path) == []


@locks
def test_a_thread_takes_its_lock_again_and_others_do_not(tmp_path: Path) -> None:
    path = tmp_path / "run"
    refused: list[bool] = []

    def ask() -> None:
        try:
            with atomic.locked(path):
                refused.append(False)
        except OutputError:
            refused.append(True)

    def ask_in_a_thread() -> None:
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()

    with atomic.locked(path):
        with atomic.locked(path):
            ask_in_a_thread()
        ask_in_a_thread()
    ask_in_a_thread()
    assert refused == [True, True, False]
    assert os.listdir(tmp_path) == []


@locks
def test_a_fork_neither_has_nor_ends_its_parent_s_lock(tmp_path: Path) -> None:
    path = tmp_path / "run"
    code = f"""
import os
from pathlib import Path
from tidegate import atomic
path = Path({str(path)!r})
with atomic.locked(path):
    if not (child := os.fork()):
        try:
            with atomic.locked(path):
                os._exit(1)
        except OSError:
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    if not (child := os.fork()):
        pass  # and leaves the block
    else:
        assert os.waitpid(child, 0)[1] == 0
        assert len(os.listdir(path.parent)) == 1
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert os.listdir(tmp_path) == []


@locks
def test_a_lock_that_was_removed_as_it_was_opened_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last owner removes the file; whoever opened it before would hold a file of no name."""
    path = tmp_path / "run"
    import fcntl

    flock, calls = fcntl.flock, iter(range(9))

    def late(descriptor: int, operation: int) -> None:
        if next(calls) == 0:
            (file,) = tmp_path.iterdir()
            file.unlink()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with atomic.locked(path):
        assert next(calls) == 2
        assert len(os.listdir(tmp_path)) == 1


@locks
@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_without_locks_nothing_is_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr("fcntl.flock", failing(code))
    with atomic.locked(tmp_path / "run"):
        assert os.listdir(tmp_path) == []
    monkeypatch.setattr(atomic, "fcntl", None)
    with atomic.locked(tmp_path / "run"):
        assert os.listdir(tmp_path) == []


def test_a_folder_that_takes_no_lock(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match="create the folder first"),
        atomic.locked(tmp_path / "missing" / "run"),
    ):
        pass
