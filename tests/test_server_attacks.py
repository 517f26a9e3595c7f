"""What clients do that mean no good, or can't do better: all get answers, and it still serves."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving import Served, raw, serving, wait_until
from test_estimator import make, reviews
from tidegate import TextClassifier, ops
from tidegate.server import model_files
from tidegate.server.models import Models, Reloaded

TOKEN = "0123456789abcdef-secret"  # noqa: S105
LIMITS = {
    "body_bytes": 50_000,
    "held_bytes": 120_000,
    "connections": 40,
    "header_bytes": 4_000,
    "header_seconds": 1,
    "body_seconds": 1,
    "idle_seconds": 1,
    "sending_seconds": 1,
}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    before = ops.threads()
    ops.set_threads(1)
    make().fit(*reviews(100)).save(path)
    ops.set_threads(before)
    return path


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that reads all of a long text, and takes its time."""
    path = tmp_path_factory.mktemp("model") / "slow.safetensors"
    before = ops.threads()
    ops.set_threads(1)
    make(max_length=1_000, hidden_size=64, epochs=1).fit(*reviews(100)).save(path)
    ops.set_threads(before)
    return path


@pytest.fixture(scope="module")
def served(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("log"), [str(small)], limits=LIMITS) as server:
        yield server
        assert server.labels(["a lovely film"]) == ["pos"]  # after all that


def head(length: int | None, *more: str, path: str = "/v1/predict") -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json", *more]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return "\r\n".join([*lines, "", ""]).encode()


# --- sizes


def test_a_declared_body_that_is_too_large_is_not_waited_for(served: Served) -> None:
    for length in ("50001", "99999999999999999999999"):
        with served.connect() as connection:
            connection.sendall(head(None, f"Content-Length: {length}"))
            answer = raw(connection)
            if len(length) < 20:  # the other is no length to the parser
                assert (answer.status, answer.code) == (413, "too_large")
                assert answer.headers["connection"] == "close"
            else:
                assert answer.status in (400, 413)


def test_a_sent_body_that_is_too_large_gets_its_answer(served: Served) -> None:
    """The client that sends all of it first must be able to read why."""
    answer = served.post("/v1/predict", {"texts": ["a" * 3_000_000]})
    assert (answer.status, answer.code) == (413, "too_large")


def test_chunks_without_end_are_stopped(served: Served) -> None:
    chunk = b"4000\r\n" + b"a" * 0x4000 + b"\r\n"
    with served.connect() as connection:
        connection.sendall(head(None, "Transfer-Encoding: chunked"))
        try:
            for _ in range(1_000):
                connection.sendall(chunk)
        except OSError:
            return  # cut off: also an answer, to who does not stop
        answer = raw(connection)
        assert (answer.status, answer.code) == (413, "too_large")


def test_headers_without_end_are_stopped(served: Served) -> None:
    attacks = [
        b"GET /healthz HTTP/1.1\r\n" + b"X-A: b\r\n" * 100_000,
        b"GET /healthz HTTP/1.1\r\nX-A: " + b"a" * 1_000_000,
        b"GET /" + b"a" * 1_000_000,
        b"GET /healthz HTTP/1.1\r\nX-A: " + b"a" * 5_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 5_000 + b" HTTP/1.1\r\n\r\n",
    ]
    for attack in attacks:
        with served.connect() as connection:
            try:
                connection.sendall(attack)
            except OSError:
                continue
            try:
                answer = raw(connection)
            except (OSError, ConnectionError):
                continue  # reset while it was still sending
            assert answer.status in (400, 431), attack[:40]
            assert answer.code in ("headers_too_large", "bad_request")
    with served.connect() as connection:
        connection.sendall(attacks[-2])
        assert (raw(connection).status) == 431


def test_what_all_bodies_hold_together_is_bounded(served: Served) -> None:
    """Two requests that wait with most of their bodies leave no room for a third one."""
    body = json.dumps({"texts": ["a" * 45_000]}).encode()
    waiting = [served.connect() for _ in range(2)]
    try:
        for connection in waiting:
            connection.sendall(head(len(body)) + body[:-1])
        time.sleep(0.2)
        answer = served.post("/v1/predict", {"texts": ["a" * 45_000]})
        assert (answer.status, answer.code) == (503, "overloaded")
        assert int(answer.headers["retry-after"]) >= 1
        assert served.labels(["a lovely film"]) == ["pos"]  # a small one still fits in
        for connection in waiting:
            connection.sendall(body[-1:])
            assert raw(connection).status == 200
    finally:
        for connection in waiting:
            connection.close()
    assert served.post("/v1/predict", {"texts": ["a" * 45_000]}).status == 200


# --- slowness


def test_slow_clients_are_told_and_closed(served: Served) -> None:
    begun = time.monotonic()
    cases = {
        b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\n": 408,  # headers that never end
        head(100) + b'{"texts"': 408,  # a body that never ends
        head(None, "Transfer-Encoding: chunked") + b"2\r\n{": 408,
    }
    opened = [(served.connect(), sent, status) for sent, status in cases.items()]
    for connection, sent, _ in opened:
        connection.sendall(sent)
    silent = served.connect()
    blank = served.connect()
    for connection, _, status in opened:
        answer = raw(connection)
        assert (answer.status, answer.code) == (status, "timed_out")
        assert connection.recv(1) == b""
        connection.close()
    assert silent.recv(1) == b""  # who says nothing is told nothing
    wait_until(lambda: _gone(blank))  # a line break now and then is no request either
    assert time.monotonic() - begun < 20.0
    silent.close()
    blank.close()


def _gone(connection: socket.socket) -> bool:
    try:
        connection.sendall(b"\r\n")
    except OSError:
        return True
    return False


def test_drops_of_a_header_do_not_buy_time(served: Served) -> None:
    """The time is for all of it, not for each byte."""
    with served.connect() as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nX: ")
        begun = time.monotonic()
        connection.settimeout(0.1)
        received = b""
        while not received and time.monotonic() - begun < 15.0:
            try:
                connection.sendall(b"a")
                received = connection.recv(100)
            except TimeoutError:
                continue
        assert received.startswith(b"HTTP/1.1 408 ")


def test_who_does_not_read_the_answer_is_dropped(served: Served) -> None:
    """Many answers are asked for at once, and none is taken."""
    request = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        connection.settimeout(10.0)
        connection.connect(("127.0.0.1", served.port))
        connection.sendall(request * 900)
        assert served.get("/healthz").status == 200
        wait_until(lambda: _gone(connection))


def test_connections_are_bounded(served: Served) -> None:
    opened = [served.connect() for _ in range(60)]
    try:
        refused = 0
        for connection in opened:
            connection.settimeout(0.05)
            with contextlib.suppress(TimeoutError):
                refused += connection.recv(100).startswith(b"HTTP/1.1 503 ")
        assert refused >= 15
    finally:
        for connection in opened:
            connection.close()

    def recovered() -> bool:
        try:
            return served.get("/healthz").status == 200
        except OSError:
            return False

    wait_until(recovered)


# --- what is no HTTP, or ambiguous


def test_what_is_no_http_is_refused(served: Served) -> None:
    attacks = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 50,  # TLS
        b"GET\r\n\r\n",
        b"hello\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
        head(5, "Content-Length: 6") + b"[1,2]",
        head(5, "Transfer-Encoding: chunked") + b"0\r\n\r\n",  # two ends: requests in requests
        head(None, "Transfer-Encoding: chunked") + b"zz\r\n",
        head(None, "Content-Length: -5") + b"[1,2]",
    ]
    for attack in attacks:
        with served.connect() as connection:
            connection.sendall(attack)
            answer = raw(connection)
            assert (answer.status, answer.code) == (400, "bad_request"), attack
            assert connection.recv(1) == b""


def test_clients_that_leave_are_no_trouble(served: Served) -> None:
    body = json.dumps({"texts": ["a lovely film"] * 200}).encode()
    for sent in (
        b"",
        b"POST",
        head(len(body)),
        head(len(body)) + body[:50],
        head(len(body)) + body,
    ):
        for _ in range(5):
            connection = served.connect()
            connection.sendall(sent)
            connection.close()
    assert served.labels(["a lovely film"]) == ["pos"]
    errors = [line for line in served.logged() if line["event"] in ("error", "server")]
    assert not errors, json.dumps(errors)


def test_requests_in_a_row_are_answered_in_a_row(served: Served) -> None:
    texts = ["a lovely film", "an awful film", "great", "dull"]
    received = b""
    with served.connect() as connection:
        for text in texts:
            body = json.dumps({"texts": [text]}).encode()
            connection.sendall(head(len(body)) + body)
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        while part := connection.recv(65_536):
            received += part
    found = re.findall(rb'"label":"(\w+)"', received)
    assert found == [b"pos", b"neg", b"pos", b"neg"]
    assert received.count(b"HTTP/1.1 200 OK") == 5


# --- the token


def test_the_token_is_asked_for(small: Path, tmp_path: Path) -> None:
    with serving(tmp_path / "log", [str(small)], token=TOKEN) as served:
        body = {"texts": ["a lovely film"]}
        assert served.post("/v1/predict", body).status == 200
        assert served.get("/metrics").status == 200
        assert served.get("/openapi.json").json["components"]["securitySchemes"]
        good = served.headers.pop("Authorization")
        for path in ("/healthz", "/readyz", "/openapi.json", "/docs"):
            assert served.get(path).status == 200
        bad: list[dict[str, str]] = [
            {},
            {"Authorization": ""},
            {"Authorization": TOKEN},
            {"Authorization": f"Basic {TOKEN}"},
            {"Authorization": good + "x"},
            {"Authorization": good[:-1]},
            {"Authorization": "Bearer"},
            {"Authorization": "Bearer \xe4\xf6\xfc"},
            {"X-Authorization": good},
        ]
        for headers in bad:
            for answer in (
                served.post("/v1/predict", body, headers),
                served.get("/v1/models", headers),
                served.get("/v1/nothing", headers),
                served.get("/metrics", headers),
            ):
                assert (answer.status, answer.code) == (401, "unauthorized"), headers
                assert answer.headers["www-authenticate"] == "Bearer"
        assert served.post("/v1/predict", body, {"Authorization": f"bearer {TOKEN}"}).status == 200
    assert TOKEN not in (tmp_path / "log" / "log").read_text()


# --- too much at once


def test_a_full_queue_says_so_and_recovers(slow: Path, tmp_path: Path) -> None:
    limits = {"waiting_texts": 1}
    many = ["lovely " * 500] * 900
    answers = []
    with serving(tmp_path / "log", [str(slow)], limits=limits, batch=1) as served:
        large = threading.Thread(
            target=lambda: answers.append(served.post("/v1/predict", {"texts": many}))
        )
        large.start()
        wait_until(lambda: served.metric("tidegate_waiting_texts") > 1)
        refused = served.post("/v1/predict", {"texts": ["a lovely film"]})
        assert (refused.status, refused.code) == (503, "overloaded")
        assert refused.headers["retry-after"] == "1"
        assert served.get("/readyz").status == 200
        large.join()
        assert answers[0].status == 200  # what was accepted is answered
        assert len(answers[0].json["results"]) == 900
        assert len(served.labels(["a lovely film"])) == 1


def test_predictions_do_not_wait_for_explanations(slow: Path, tmp_path: Path) -> None:
    limits = {"explanations": 1}
    answers = []
    body = {"texts": ["a lovely film but " * 250] * 3}
    with serving(tmp_path / "log", [str(slow)], limits=limits) as served:
        long = threading.Thread(target=lambda: answers.append(served.post("/v1/explain", body)))
        long.start()
        wait_until(lambda: served.metric("tidegate_explanations") == 1)
        refused = served.post("/v1/explain", {"texts": ["fine"]})
        assert (refused.status, refused.code) == (503, "overloaded")
        assert len(served.labels(["a lovely film", "dull"])) == 2
        assert long.is_alive()  # it was answered while the explanation went on
        long.join()
        assert answers[0].status == 200


def test_what_takes_too_long_is_given_up(slow: Path, tmp_path: Path) -> None:
    limits = {"scoring_seconds": 1}
    with serving(tmp_path / "log", [str(slow)], limits=limits) as served:
        answer = served.post("/v1/explain", {"texts": ["a lovely film but " * 250] * 16})
        assert (answer.status, answer.code) == (503, "timed_out")
        assert len(served.labels(["a lovely film"])) == 1


def test_models_of_the_test_know_their_words(small: Path) -> None:
    classifier = TextClassifier.load(small)
    said = classifier.predict(["a lovely film", "an awful film", "great", "dull"]).tolist()
    assert said == ["pos", "neg", "pos", "neg"]


def test_a_file_that_finds_a_bug_leaves_its_model_and_hides_no_other(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        shutil.copy(small, tmp_path / f"{name}.safetensors")
    files = model_files([str(tmp_path / f"{name}.safetensors") for name in ("one", "two")])
    models = Models(files)
    before = list(models)

    def broken(*_: object) -> None:
        raise ZeroDivisionError("of a text")

    monkeypatch.setattr(TextClassifier, "from_tensors", broken)
    for file in files:
        os.utime(file.path, ns=(1, 1))
    assert models.reload() == [Reloaded(name, "ZeroDivisionError") for name in ("one", "two")]
    assert list(models) == before
    assert models.reload() == []  # not tried again
