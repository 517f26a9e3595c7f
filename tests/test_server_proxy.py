"""What docs/serving.md gives to nginx and systemd, tried with them where they are installed."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from serving import Served, serving, wait_until
from test_estimator import make, reviews

DOCUMENT = (Path(__file__).parent.parent / "docs" / "serving.md").read_text(encoding="utf-8")
NAME = "reviews.example.org"
# Around the document's part. One process, and all its files in one folder.
NGINX = """
daemon off; master_process off; pid nginx.pid; error_log stderr;
events {}
http {
    access_log off;
    client_body_temp_path a; proxy_temp_path b; fastcgi_temp_path c; uwsgi_temp_path d;
    scgi_temp_path e;
    %s
}
"""


def _block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", DOCUMENT, flags=re.MULTILINE | re.DOTALL)
    return str(found)


def _tool(name: str) -> str:
    path = shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/bin:/opt/homebrew/bin")
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


@contextmanager
def _nginx(served: Served, folder: Path) -> Iterator[int]:
    """nginx as the document has it but for addresses and files; its port."""
    nginx, openssl = _tool("nginx"), _tool("openssl")
    folder.mkdir()
    certificate = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    certificate += ["-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}"]
    certificate += ["-keyout", str(folder / "key"), "-out", str(folder / "pem")]
    subprocess.run(certificate, check=True, capture_output=True)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = int(taken.getsockname()[1])
    part = _block("nginx")
    for old, new in (
        ("127.0.0.1:8000", f"127.0.0.1:{served.port}"),
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("/etc/ssl/certs/reviews.pem", str(folder / "pem")),
        ("/etc/ssl/private/reviews.key", str(folder / "key")),
    ):
        assert old in part
        part = part.replace(old, new)
    (folder / "nginx.conf").write_text(NGINX % part)
    command = [nginx, "-e", "stderr", "-p", str(folder), "-c", str(folder / "nginx.conf")]
    with open(folder / "log", "w", encoding="utf-8") as log:
        process = subprocess.Popen(command, stderr=log)
    try:
        wait_until(lambda: process.poll() is not None or _open(port))
        assert process.poll() is None, (folder / "log").read_text()
        yield port
        process.send_signal(signal.SIGQUIT)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()


def _open(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except OSError:
        return False
    return True


def test_nginx_passes_on_what_the_server_takes(tmp_path: Path) -> None:
    model = tmp_path / "reviews.safetensors"
    make(max_length=1_000, hidden_size=64, epochs=1).fit(*reviews(60)).save(model)
    with (
        serving(tmp_path / "served", [str(model)], allowed_hosts=[NAME]) as served,
        _nginx(served, tmp_path / "nginx") as port,
    ):
        context = ssl.create_default_context(cafile=tmp_path / "nginx" / "pem")
        plain = socket.create_connection(("127.0.0.1", port), 30)
        connection = http.client.HTTPConnection(NAME)
        connection.sock = context.wrap_socket(plain, server_hostname=NAME)

        def ask(path: str, value: Any) -> tuple[int, Any]:
            headers = {"Content-Type": "application/json"}
            connection.request("POST", path, json.dumps(value), headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

        for texts in (["a lovely film"], ["lovely film " * 300] * 1_000):  # the latter is 3.6 MB
            direct = served.post("/v1/predict", {"texts": texts}).json
            assert ask("/v1/predict", {"texts": texts}) == (200, direct)
        trace = {"text": "lovely " * 999}  # its answer is 1.8 MB
        assert ask("/v1/trace", trace) == (200, served.post("/v1/trace", trace).json)
        status, refused = ask("/v1/predict", {"texts": ["a" * 4_050_000]})
        assert (status, refused["error"]["code"]) == (413, "too_large")
        connection.close()


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    analyze, unit = _tool("systemd-analyze"), _block("ini")
    installed = "/opt/tidegate/bin/tidegate"
    assert installed in unit
    unit = unit.replace(installed, sys.executable)  # a command must be there

    def told(unit: str) -> list[str]:
        """What is said of it, and not of units that are installed."""
        path = tmp_path / "tidegate.service"
        path.write_text(unit)
        command = [analyze, "verify", "--man=no", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return [line for line in done.stderr.splitlines() if "tidegate" in line]

    if not told(unit.replace("Restart=on-failure", "Restart=sometimes")):
        pytest.skip("systemd-analyze does not work here")
    assert told(unit) == []
