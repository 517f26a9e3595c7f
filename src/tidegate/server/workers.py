"""Processes: one that serves, or one that watches over several that do.

Several workers are forked from a process that has loaded the models, and share its listening
socket: the system gives a connection to whoever takes it first, and a worker that replaces a dead
one has the models at once, also when their files have become garbage meanwhile.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import importlib
import os
import select
import shutil
import signal
import socket
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, cast

import uvicorn

from tidegate import ops
from tidegate.errors import ConfigError
from tidegate.server import hosts, logs
from tidegate.server.models import Models
from tidegate.server.settings import Settings

METRICS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"  # prometheus-client's name
_LOOK_SECONDS = 1.0  # between two looks at the models' files
_BACKLOG = 2_048
# Bytes of an answer that the system keeps for a slow reader. Without a bound these are megabytes,
# which the server's limits would not count, and taken in steps too large to see a pace.
_UNSENT = 131_072
# A worker that dies at once is replaced later and later, up to so many seconds.
_LONGEST_PAUSE = 30.0
_STOPS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


def serve(settings: Settings, started: Callable[[str], None]) -> None:
    """Serve until SIGINT, SIGTERM or SIGHUP, then finish what was accepted.

    started: called with the address when connections are taken. Raises ModelFileError for a model
    that can't be loaded, ConfigError for an address that can't be listened on.
    """
    share = max(1, ops.usable_processors() // settings.workers)
    ops.set_threads(1)  # while loading: a process with threads is better not forked
    models = Models(settings.models)
    listener = listen(settings.host, settings.port)
    threads = settings.threads or _asked_threads() or share
    logs.capture_uvicorn()
    address = _address(listener)
    if settings.workers == 1:
        ops.set_threads(threads)
        _run(settings, models, listener, lambda: started(address))
    else:
        _Supervisor(settings, models, listener, threads).run(lambda: started(address))


def _asked_threads() -> int | None:
    """What TIDEGATE_THREADS says, which has been checked when ``ops`` was imported."""
    asked = os.environ.get("TIDEGATE_THREADS")
    return int(asked) if asked else None


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. ConfigError if there can be none."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"host={host!r} is no address of this machine: {error}") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(AttributeError, OSError):  # its connections inherit it, on Linux
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"port={port} on {host} can't be listened on: {error.strerror or error}; choose "
            "another one, or 0 for any that is free"
        ) from None
    return listener


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


class _Server(uvicorn.Server):
    """uvicorn's, which ends quietly when it was asked to: that is what was wanted."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        before = {}
        for number in _STOPS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
                before[number] = signal.signal(number, self.handle_exit)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _run(
    settings: Settings,
    models: Models,
    listener: socket.socket,
    started: Callable[[], None],
    parent: int | None = None,
) -> None:
    """Serve in this process until it is asked to stop, or until its parent is gone."""
    from tidegate.server.app import create
    from tidegate.server.metrics import Metrics
    from tidegate.server.protocol import LimitedProtocol
    from tidegate.server.unread import Unread

    metrics = Metrics()
    limits = settings.limits
    names = hosts.accepted(listener.getsockname()[0], settings.host, settings.allowed_hosts)
    config = uvicorn.Config(
        cast(Any, create(settings, models, metrics, names)),
        http=cast(
            Any, functools.partial(LimitedProtocol, limits, metrics, Unread(limits, metrics))
        ),
        ws="none",
        loop="auto",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        timeout_keep_alive=limits.idle_seconds + 1,  # the protocol has a timer of its own
        timeout_graceful_shutdown=limits.stopping_seconds,
    )
    server = _Server(config)

    async def beside() -> None:
        """Look at the files, one after another, off the event loop: loading takes a while."""
        while not server.started:
            await asyncio.sleep(0.01)
        started()
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            if parent is not None and os.getppid() != parent:
                server.should_exit = True
            try:
                changes = await asyncio.to_thread(models.reload)
            except Exception as error:
                logs.failure(error)
                continue
            for change in changes:
                result = "failed" if change.error else "loaded"
                metrics.reloads.labels(change.name, result).inc()
                told = {} if change.error is None else {"error": change.error}
                logs.event("model", model=change.name, result=result, **told)

    async def main() -> None:
        watch = asyncio.create_task(beside())
        try:
            await server.serve(sockets=[listener])
        finally:
            watch.cancel()
            logs.flush()

    factory = config.get_loop_factory()
    if factory is None:
        asyncio.run(main())
    else:
        loop = factory()
        try:
            loop.run_until_complete(main())
        finally:
            loop.close()


class _Supervisor:
    """The parent of several workers: it starts, replaces and stops them, and serves nothing."""

    def __init__(
        self, settings: Settings, models: Models, listener: socket.socket, threads: int
    ) -> None:
        self._settings = settings
        self._models = models
        self._listener = listener
        self._threads = threads
        self._begun: dict[int, float] = {}  # when each worker did, by its process
        self._stopping = False
        self._pause, self._resume_at = 0.0, 0.0

    def run(self, started: Callable[[], None]) -> None:
        """Until a signal stops it and all workers have ended."""
        folder = tempfile.mkdtemp(prefix="tidegate-metrics-")
        before = {number: signal.getsignal(number) for number in _STOPS}
        # A byte for each signal wakes the loop below at once.
        read, write = os.pipe()
        os.set_blocking(write, False)
        woken = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        os.environ[METRICS_VARIABLE] = folder  # before prometheus-client is imported
        importlib.import_module("tidegate.server.app")  # once, for all workers
        try:
            for number, handler in before.items():
                if handler is not signal.SIG_IGN:
                    signal.signal(number, self._stop)
            signal.signal(signal.SIGCHLD, _nothing)
            gc.collect()
            gc.freeze()  # what is there now is shared with the workers, and stays
            self._fill()
            started()
            while not self._stopping:
                if select.select([read], [], [], _LOOK_SECONDS)[0]:
                    os.read(read, 4_096)
                self._reap()
                self._fill()
                self._models.reload()  # so that the next worker begins with the newest
            self._end()
        finally:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(woken)
            os.close(read)
            os.close(write)
            del os.environ[METRICS_VARIABLE]
            shutil.rmtree(folder, ignore_errors=True)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True

    def _fill(self) -> None:
        """Start the workers that are missing."""
        while len(self._begun) < self._settings.workers and not self._stopping:
            if time.monotonic() < self._resume_at:
                return
            worker = self._fork()
            self._begun[worker] = time.monotonic()
            logs.event("worker", started=worker)

    def _fork(self) -> int:
        parent = os.getpid()
        sys.stdout.flush()
        sys.stderr.flush()
        # A signal must find the parent's handlers in the parent and none of them in the worker.
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
        with warnings.catch_warnings():
            # Of other threads: those of BLAS look after themselves, and there are none of ours.
            warnings.simplefilter("ignore", DeprecationWarning)
            worker = os.fork()
        if worker:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
            return worker
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, *_STOPS):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
            ops.set_threads(self._threads)
            _run(self._settings, self._models, self._listener, _nothing, parent)
            status = 0
        except BaseException as error:
            logs.failure(error)
        finally:
            os._exit(status)  # not into what the parent would do next

    def _reap(self) -> None:
        """Take note of workers that have ended."""
        from prometheus_client import multiprocess

        for worker, begun in list(self._begun.items()):
            ended, status = os.waitpid(worker, os.WNOHANG)
            if not ended:
                continue
            del self._begun[worker]
            multiprocess.mark_process_dead(worker)  # type: ignore[no-untyped-call]
            logs.event("worker", ended=worker, status=os.waitstatus_to_exitcode(status))
            lived = time.monotonic() - begun
            self._pause = 0.0 if lived > 5.0 else min(_LONGEST_PAUSE, 2 * self._pause + 0.1)
            self._resume_at = time.monotonic() + self._pause

    def _end(self) -> None:
        """Ask all workers to finish; end those that don't."""
        self._listener.close()  # else the system goes on taking connections that nobody answers
        for worker in self._begun:
            os.kill(worker, signal.SIGTERM)
        until = time.monotonic() + self._settings.limits.stopping_seconds + 5.0
        while self._begun and time.monotonic() < until:
            self._reap()
            time.sleep(0.02)
        for worker in self._begun:
            os.kill(worker, signal.SIGKILL)
            os.waitpid(worker, 0)


def _nothing(*_: object) -> None:
    pass
