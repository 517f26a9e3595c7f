"""A server's processes and files: stops, workers that die, models that are replaced."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from serving import Answer, Served, raw, serving, wait_until
from test_estimator import make, reviews
from tidegate import TextClassifier, ops

TEXTS, LABELS = reviews(100)
OTHER = {"neg": "bad", "pos": "good"}  # labels of the model that takes the first one's place


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two models that say the same in other words, and one that is slow."""
    folder = tmp_path_factory.mktemp("models")
    before = ops.threads()
    ops.set_threads(1)
    make().fit(TEXTS, LABELS).save(folder / "first")
    make().fit(TEXTS, [OTHER[label] for label in LABELS]).save(folder / "second")
    make(max_length=1_000, hidden_size=64, epochs=1).fit(TEXTS, LABELS).save(folder / "slow")
    ops.set_threads(before)
    return folder


@pytest.fixture
def model(kept: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(kept / "first", tmp_path / "model.safetensors"))


def put(source: Path | bytes, target: Path) -> None:
    """Replace a file as people should: written beside it, then renamed."""
    beside = target.with_name("beside")
    beside.write_bytes(source if isinstance(source, bytes) else source.read_bytes())
    os.replace(beside, target)


def workers(served: Served) -> list[int]:
    """Those that have started and not ended, by the log."""
    found: list[int] = []
    for line in served.logged():
        if line["event"] == "worker":
            if "started" in line:
                found.append(line["started"])
            else:
                found.remove(line["ended"])
    return found


# --- replaced files


def test_a_replaced_model_is_loaded_without_losing_a_request(
    kept: Path, model: Path, tmp_path: Path
) -> None:
    """Requests come all the time; each is answered by the old or the new model, in this order."""
    said: list[str] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            said.extend(served.labels(["a lovely film"]))

    with serving(tmp_path / "log", [str(model)]) as served:
        asking = threading.Thread(target=ask)
        asking.start()
        try:
            before = served.get("/v1/models").json["models"][0]["sha256"]
            wait_until(lambda: len(said) > 5)
            put(kept / "second", model)
            wait_until(lambda: said[-1] == "good")
        finally:
            done.set()
            asking.join()
        assert set(said) == {"pos", "good"}
        assert said == sorted(said, reverse=True)  # "pos" first
        assert served.get("/v1/models").json["models"][0]["sha256"] != before
        assert served.metric('tidegate_model_reloads_total{model="model",result="loaded"}') == 1


def test_garbage_leaves_the_old_model(kept: Path, model: Path, tmp_path: Path) -> None:
    failed = 'tidegate_model_reloads_total{model="model",result="failed"}'
    half = (kept / "second").read_bytes()[:-100]
    with serving(tmp_path / "log", [str(model)]) as served:
        for number, garbage in enumerate((b"", b"garbage", half, None)):
            if garbage is None:
                model.unlink()
            else:
                put(garbage, model)
            wait_until(lambda: served.metric(failed) == number + 1)  # noqa: B023
            assert served.labels(["a lovely film"]) == ["pos"]
            assert served.get("/readyz").status == 200
        put(kept / "second", model)
        wait_until(lambda: served.labels(["a lovely film"]) == ["good"])
        wait_until(lambda: len(told(served)) == 5)
        assert [line["result"] for line in told(served)] == ["failed"] * 4 + ["loaded"]
        assert "model.safetensors" in told(served)[0]["error"]


def told(served: Served) -> list[dict[str, Any]]:
    """What the log says of models."""
    return [line for line in served.logged() if line["event"] == "model"]


# --- stops


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("count", [1, 2])
def test_what_was_accepted_is_answered_before_it_ends(
    kept: Path, tmp_path: Path, number: int, count: int
) -> None:
    answers: list[Answer] = []
    body: dict[str, Any] = {"texts": ["lovely " * 500] * 700}
    with serving(tmp_path / "log", [str(kept / "slow")], workers=count) as served:
        long = threading.Thread(target=lambda: answers.append(served.post("/v1/predict", body)))
        half = served.connect()
        idle = served.connect()
        whole = json.dumps({"texts": ["a lovely film"]}).encode()
        half.sendall(
            b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n" % len(whole) + whole[:-1]
        )
        long.start()
        wait_until(lambda: served.metric("tidegate_waiting_texts") > 0)
        served.process.send_signal(number)
        wait_until(lambda: refused(served.port))
        half.sendall(whole[-1:])
        assert raw(half).status == 200
        assert idle.recv(1) == b""
        assert served.process.wait(30) == 0
        long.join()
        assert answers[0].status == 200
        assert len(answers[0].json["results"]) == 700
        half.close()
        idle.close()


def refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except OSError:
        return True
    return False


# --- workers


def test_workers_share_the_port_and_their_numbers(model: Path, tmp_path: Path) -> None:
    classifier = TextClassifier.load(model)
    with serving(tmp_path / "log", [str(model)], workers=2) as served:
        expected = classifier.predict(TEXTS[:40]).tolist()
        for text, label in zip(TEXTS[:40], expected, strict=True):
            assert served.labels([text]) == [label]
        texts = 'tidegate_texts_total{model="model",path="/v1/predict"}'
        assert served.metric(texts) == 40
        served.get("/healthz")
        assert len(workers(served)) == 2


def test_a_killed_worker_is_replaced(kept: Path, model: Path, tmp_path: Path) -> None:
    """Also while its model's file is garbage: the new one has what the others have."""
    with serving(tmp_path / "log", [str(model)], workers=2) as served:
        wait_until(lambda: len(workers(served)) == 2)
        put(b"garbage", model)
        for _ in range(2):
            victim = workers(served)[0]
            os.kill(victim, signal.SIGKILL)
            wait_until(lambda: len(workers(served)) == 2 and victim not in workers(served))  # noqa: B023
            for _ in range(20):
                assert served.labels(["a lovely film"]) == ["pos"]
            assert served.get("/readyz").status == 200
        put(kept / "second", model)
        # Each worker looks for itself: until both have, either may answer.
        wait_until(lambda: {served.labels(["a lovely film"])[0] for _ in range(20)} == {"good"})
        ended = [line for line in served.logged() if "ended" in line]
        assert [line["status"] for line in ended] == [-signal.SIGKILL] * 2


def test_workers_end_with_their_parent(model: Path, tmp_path: Path) -> None:
    with serving(tmp_path / "log", [str(model)], workers=2) as served:
        wait_until(lambda: len(workers(served)) == 2)
        served.process.kill()
        served.process.wait()
        wait_until(lambda: refused(served.port))
        served.process.returncode = 0  # as wanted
