"""Clients that take their answers slowly or not at all, and clients that leave without them."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from serving import Answer, Served, raw, serving, wait_until
from test_estimator import make, reviews
from tidegate import ops

# The trace of this text takes 1.8 MB.
LARGE = {"text": "lovely " * 999}
LONG = {"texts": ["a lovely film but " * 250] * 3}  # to explain them takes seconds
ROOM = 'tidegate_dropped_connections_total{reason="room"}'
PACE = 'tidegate_dropped_connections_total{reason="pace"}'


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that reads all of a long text, and takes its time."""
    path = tmp_path_factory.mktemp("model") / "slow.safetensors"
    before = ops.threads()
    ops.set_threads(1)
    make(max_length=1_000, hidden_size=64, epochs=1).fit(*reviews(100)).save(path)
    ops.set_threads(before)
    return path


def request(path: str, value: Any) -> bytes:
    body = json.dumps(value).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


TRACE = request("/v1/trace", LARGE)


@contextmanager
def reader(served: Served, sent: bytes = TRACE) -> Iterator[socket.socket]:
    """A connection over which something was asked, whose system takes little by itself."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        connection.settimeout(20.0)
        connection.connect(("127.0.0.1", served.port))
        connection.sendall(sent)
        yield connection


def answered(served: Served, count: int) -> None:
    """Wait until so many traces were answered, whether somebody reads them or not."""
    wait_until(
        lambda: served.metric('tidegate_requests_total{path="/v1/trace",status="200"}') >= count
    )


def take(connection: socket.socket, count: int) -> int:
    """Read so many bytes, or all that come before the connection ends; how many there were."""
    found = 0
    try:
        while found < count and (part := connection.recv(min(65_536, count - found))):
            found += len(part)
    except ConnectionResetError:
        pass
    return found


def is_whole(connection: socket.socket, before: int = 0) -> bool:
    """Whether the whole answer can be read, of which so many bytes have been."""
    return take(connection, 1_800_000 - before) >= 1_800_000 - before


# --- answers that nobody takes


def test_all_answers_that_wait_have_a_bound(slow: Path, tmp_path: Path) -> None:
    """A hundred and twenty are asked for, of 1.8 MB each, and none is read; who reads gets his."""
    limits = {"unread_bytes": 4_000_000, "explanations": 200}
    with serving(tmp_path / "log", [str(slow)], limits=limits) as served, ExitStack() as opened:
        assert len(served.post("/v1/trace", LARGE).body) > 1_800_000
        before = served.metric("process_resident_memory_bytes")
        connections = [opened.enter_context(reader(served)) for _ in range(120)]
        wait_until(lambda: served.metric(ROOM) >= 118)
        # Not 200 MB; asyncio's own transports copy what they keep, and leave holes in the memory.
        assert served.metric("process_resident_memory_bytes") - before < 100e6
        assert len(served.post("/v1/trace", LARGE).body) > 1_800_000
        assert 1 <= sum(map(is_whole, connections)) <= 2
        dropped = [line for line in served.logged() if line["event"] == "dropped"]
        assert {line["reason"] for line in dropped} == {"room"}
        assert served.metric(PACE) == 0


def test_the_slowest_reader_is_dropped(slow: Path, tmp_path: Path) -> None:
    limits = {"unread_bytes": 4_000_000}
    with serving(tmp_path / "log", [str(slow)], limits=limits) as served:
        with reader(served) as none, reader(served) as some:
            assert take(some, 500_000) == 500_000
            answered(served, 2)
            time.sleep(1.1)  # by then a pace can be told
            with reader(served) as young:
                wait_until(lambda: served.metric(ROOM) == 1)
                assert not is_whole(none)
                assert is_whole(some, 500_000)
                assert is_whole(young)
        assert served.metric(ROOM) == 1


def test_an_answer_behind_one_that_is_not_taken_counts_too(slow: Path, tmp_path: Path) -> None:
    """Of two requests over one connection, the second's answer waits outside of the transport."""
    limits = {"unread_bytes": 4_500_000}
    log = tmp_path / "log"
    with (
        serving(log, [str(slow)], limits=limits) as served,
        reader(served, 2 * TRACE) as both,
    ):
        answered(served, 1)
        time.sleep(0.2)  # in which the second one is computed
        wait_until(lambda: served.metric("tidegate_explanations") == 0)
        with reader(served) as other:
            wait_until(lambda: served.metric(ROOM) == 1)
            assert is_whole(other)
        assert not is_whole(both)


def test_an_answer_must_be_taken_at_some_pace(slow: Path, tmp_path: Path) -> None:
    """Some progress is not enough; who is fast enough has all the time that he needs."""
    limits = {"sending_seconds": 1, "sending_bytes": 250_000}
    with serving(tmp_path / "log", [str(slow)], limits=limits) as served:
        with reader(served) as slowly, reader(served) as quickly:
            for _ in range(25):
                time.sleep(0.1)
                assert take(quickly, 60_000) == 60_000
                take(slowly, 10_000)
            assert is_whole(quickly, 1_500_000)
            assert not is_whole(slowly, 250_000)
        assert served.metric(PACE) == 1
        (line,) = [line for line in served.logged() if line["event"] == "dropped"]
        assert line["reason"] == "pace"
        assert 1_000_000 < line["bytes"] < 1_800_000


def test_who_takes_all_at_once_is_never_dropped(slow: Path, tmp_path: Path) -> None:
    """Also over one connection that is at work for many times the seconds in which to take some."""
    limits = {"sending_seconds": 1, "sending_bytes": 10_000_000, "unread_bytes": 1}
    with serving(tmp_path / "log", [str(slow)], limits=limits) as served:
        with served.connect() as connection:
            until = time.monotonic() + 2.5
            while time.monotonic() < until:
                connection.sendall(TRACE)
                assert raw(connection).status == 200
                connection.sendall(request("/v1/predict", {"texts": ["a"]}))
                assert raw(connection).status == 200
            for _ in range(2):
                connection.sendall(TRACE)
                assert raw(connection).status == 200
                time.sleep(1.5)  # nothing is left to be taken
        assert served.metric(PACE) == served.metric(ROOM) == 0


# --- clients that leave


def left(path: str) -> str:
    return f'tidegate_requests_total{{path="{path}",status="499"}}'


def test_what_a_client_left_is_not_begun(slow: Path, tmp_path: Path) -> None:
    """Its place in the queue is free while the explanation before it goes on."""
    answers: list[Answer] = []
    limits = {"explanations": 2}
    with serving(tmp_path / "log", [str(slow)], limits=limits) as served:
        long = threading.Thread(target=lambda: answers.append(served.post("/v1/explain", LONG)))
        long.start()
        wait_until(lambda: served.metric("tidegate_explanations") == 1)
        with reader(served, request("/v1/explain", LONG)):
            wait_until(lambda: served.metric("tidegate_explanations") == 2)
            assert served.post("/v1/explain", {"texts": ["fine"]}).status == 503
        wait_until(lambda: served.metric("tidegate_explanations") == 1)
        assert served.metric(left("/v1/explain")) == 1
        assert long.is_alive()
        assert served.post("/v1/explain", {"texts": ["fine"]}).status == 200
        long.join()
        assert answers[0].status == 200
        assert len(answers[0].json["results"]) == 3


def test_what_has_begun_ends_with_its_text(slow: Path, tmp_path: Path) -> None:
    limits = {"explanations": 1}
    with serving(tmp_path / "log", [str(slow)], limits=limits) as served:
        many = {"texts": LONG["texts"][:1] * 16}
        with reader(served, request("/v1/explain", many)):
            wait_until(lambda: served.metric("tidegate_explanations") == 1)
            time.sleep(0.2)  # so that its client is looked after
        wait_until(lambda: served.metric(left("/v1/explain")) == 1)
        wait_until(lambda: served.metric("tidegate_explanations") == 0)
        assert served.post("/v1/explain", {"texts": ["fine"]}).status == 200


def test_texts_of_a_client_that_left_are_not_scored(slow: Path, tmp_path: Path) -> None:
    answers: list[Answer] = []
    large = {"texts": ["lovely " * 500] * 900}
    with serving(tmp_path / "log", [str(slow)], batch=1) as served:
        long = threading.Thread(target=lambda: answers.append(served.post("/v1/predict", large)))
        long.start()
        wait_until(lambda: served.metric("tidegate_waiting_texts") > 1)
        with reader(served, request("/v1/predict", {"texts": ["lovely " * 500] * 1_000})):
            wait_until(lambda: served.metric("tidegate_waiting_texts") > 1_000)
        wait_until(lambda: served.metric(left("/v1/predict")) == 1)
        assert served.metric("tidegate_waiting_texts") < 900
        long.join()
        assert answers[0].status == 200
        assert len(answers[0].json["results"]) == 900
        wait_until(lambda: served.metric("tidegate_waiting_texts") == 0)
        assert served.metric('tidegate_texts_total{model="slow",path="/v1/predict"}') == 900
        assert not [line for line in served.logged() if line["event"] in ("error", "server")]
