"""Real servers on loopback for tests, and requests to them."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Settings from a line of JSON: limits that the command line does not have are tested, too.
PROGRAM = """
import json, sys
from pathlib import Path
from tidegate.server import Limits, Settings, model_files, workers
given = json.loads(sys.argv[1])
limits = Limits(**given.pop("limits", {}))
models = model_files(given.pop("models"))
settings = Settings(models=models, port=0, limits=limits, **given)
workers.serve(settings, lambda address: print(address, flush=True))
"""
JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Answer:
    """status, headers (names in lower case) and body of a response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """Of an error, which must have the one form that there is."""
        assert self.headers["content-type"] == "application/json"
        assert set(self.json) == {"error"}
        assert set(self.json["error"]) == {"code", "message"}
        assert self.json["error"]["message"]
        return str(self.json["error"]["code"])


@dataclass
class Served:
    """A server process."""

    process: subprocess.Popen[str]
    port: int
    folder: Path
    headers: dict[str, str] = field(default_factory=dict)

    def connect(self, seconds: float = 20.0) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), seconds)

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        return self.send("GET", path, None, headers or {})

    def post(self, path: str, value: Any, headers: Mapping[str, str] | None = None) -> Answer:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        return self.send("POST", path, body, {**JSON, **(headers or {})})

    def send(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, {**self.headers, **headers})
            return _answer(connection.getresponse())
        finally:
            connection.close()

    def labels(self, texts: list[str], model: str | None = None) -> list[str]:
        answer = self.post("/v1/predict", {"texts": texts, "model": model})
        assert answer.status == 200, answer
        return [result["label"] for result in answer.json["results"]]

    def metric(self, line: str) -> float:
        """The number behind what begins a line of /metrics, 0 if there is none."""
        text = self.get("/metrics").body.decode()
        found = re.search(rf"^{re.escape(line)} (\S+)$", text, flags=re.MULTILINE)
        return float(found[1]) if found else 0.0

    def logged(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "log").read_text().splitlines()]

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask it to stop; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(30)


def raw(connection: socket.socket) -> Answer:
    """The response that comes over a connection."""
    response = http.client.HTTPResponse(connection)
    response.begin()
    return _answer(response)


def _answer(response: http.client.HTTPResponse) -> Answer:
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, headers, response.read())


def wait_until(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)


@contextmanager
def serving(folder: Path, models: list[str], **settings: Any) -> Iterator[Served]:
    """A server of these models, with a log in ``folder``; it must end well when it is stopped."""
    folder.mkdir(exist_ok=True)
    environment = {**os.environ, "TIDEGATE_THREADS": "1"}
    environment.pop("TIDEGATE_TOKEN", None)
    given = json.dumps({"models": models, **settings})
    with open(folder / "log", "w", encoding="utf-8") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, given],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment,
        )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line.startswith("http://127.0.0.1:"), (line, (folder / "log").read_text())
        token = settings.get("token")
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        yield Served(process, int(line.rpartition(":")[2]), folder, headers)
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, (folder / "log").read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        process.stdout.close()
