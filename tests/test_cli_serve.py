"""``tidegate serve`` as it is typed: what it prints, refuses and needs."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from test_estimator import make, reviews
from tidegate import ops
from tidegate.cli import main
from tidegate.errors import ConfigError
from tidegate.server import Limits, Settings, model_files, read_token

TOKEN = "0123456789abcdef"  # noqa: S105


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("serve")
    before = ops.threads()
    ops.set_threads(1)
    make(epochs=1).fit(*reviews(60)).save(folder / "reviews.safetensors")
    ops.set_threads(before)
    (folder / "copy.safetensors").write_bytes((folder / "reviews.safetensors").read_bytes())
    (folder / "garbage.safetensors").write_bytes(b"garbage")
    (folder / "token").write_text(TOKEN + "\n")
    (folder / "short").write_text("secret\n")
    (folder / "odd").write_text("a token with blanks in it\n")
    return folder


@pytest.fixture(autouse=True)
def inside(folder: Path, monkeypatch: pytest.MonkeyPatch, restored_threads: None) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.delenv("TIDEGATE_TOKEN", raising=False)


def test_it_serves_until_it_is_stopped(folder: Path) -> None:
    command = [sys.executable, "-m", "tidegate", "serve", "reviews.safetensors"]
    command += ["other=copy.safetensors", "--port", "0", "--host", "0.0.0.0"]  # noqa: S104
    environment = {**os.environ, "TIDEGATE_THREADS": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.fullmatch(
                r"serving reviews, other on http://0\.0\.0\.0:(\d+) \(Ctrl-C stops it\)\n", line
            )
            assert found is not None, line
            port = found[1]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=30) as answer:
                names = [model["name"] for model in json.load(answer)["models"]]
            asked = urllib.request.Request(f"http://127.0.0.1:{port}/", headers={"Host": "any"})
            with urllib.request.urlopen(asked, timeout=30) as answer:
                page = answer.read().decode()
            process.send_signal(signal.SIGINT)
            rest, errors = process.communicate(timeout=30)
        finally:
            process.kill()  # a server that does not stop must not stop the tests
    assert names == ["reviews", "other"]
    assert page.startswith("<!doctype html>")
    assert (process.returncode, rest) == (0, "")
    lines = errors.splitlines()
    assert lines[0].startswith("tidegate: note: whoever reaches http://0.0.0.0:")
    assert [json.loads(line)["path"] for line in lines[1:]] == ["/v1/models", "/"]


@pytest.mark.parametrize(
    ("arguments", "needles"),
    [
        ([], ["'MODEL...'"]),
        (["none.safetensors"], ["none.safetensors"]),
        (["garbage.safetensors"], ["garbage.safetensors"]),
        (["a=reviews.safetensors", "a=copy.safetensors"], ["'a'", "NAME=PATH"]),
        (["reviews.safetensors", "./reviews.safetensors"], ["'reviews'", "NAME=PATH"]),
        (["a="], ["'a='", "NAME=PATH"]),
        (["reviews.safetensors", "--port", "65536"], ["--port=65536"]),
        (["reviews.safetensors", "--port", "x"], ["'x'", "--port"]),
        (["reviews.safetensors", "--workers", "0"], ["--workers=0"]),
        (["reviews.safetensors", "--batch", "0"], ["--batch=0"]),
        (["reviews.safetensors", "--threads", "0"], ["--threads=0"]),
        (["reviews.safetensors", "--max-body", "0"], ["--max-body=0"]),
        (["reviews.safetensors", "--max-texts", "0"], ["--max-texts=0"]),
        (["reviews.safetensors", "--timeout", "0"], ["--timeout=0"]),
        (["reviews.safetensors", "--host", "nowhere.invalid"], ["--host='nowhere.invalid'"]),
        (["reviews.safetensors", "--host", "192.0.2.1", "--port", "0"], ["192.0.2.1"]),
        (["reviews.safetensors", "--allowed-host", "http://a"], ["--allowed-host='http://a'"]),
        (["reviews.safetensors", "--token-file", "none"], ["--token-file='none'"]),
        (["reviews.safetensors", "--token-file", "short"], ["6 characters", "16"]),
        (["reviews.safetensors", "--token-file", "odd"], ["blanks"]),
    ],
)
def test_what_it_refuses(
    arguments: list[str], needles: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    for needle in needles:
        assert needle in printed.err


def test_a_port_that_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", "reviews.safetensors", "--port", str(port)]) == 2
    message = capsys.readouterr().err
    assert f"--port={port} on 127.0.0.1 can't be listened on" in message
    assert "choose another one" in message


def test_without_its_packages_it_says_what_to_install(folder: Path) -> None:
    program = (
        "import sys\n"
        "sys.modules['fastapi'] = None\n"
        "from tidegate.cli import main\n"
        "raise SystemExit(main(['serve', 'reviews.safetensors']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        "tidegate: error: serve needs the package fastapi; pip install 'tidegate[serve]'\n"
    )


def test_no_other_command_loads_its_packages(folder: Path) -> None:
    program = (
        "import sys\n"
        "from tidegate.cli import main\n"
        "assert main(['serve', '--help']) == 0\n"
        "assert main(['predict', 'reviews.safetensors', 'a lovely film']) == 0\n"
        "heavy = {'fastapi', 'uvicorn', 'pydantic', 'prometheus_client', 'asyncio'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_names_of_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a=b.safetensors").touch()
    arguments = ["models/x.y.safetensors", "n=models/x", "a=b.safetensors", "./c=d"]
    found = [(each.name, str(each.path)) for each in model_files(arguments)]
    assert found == [
        ("x.y", "models/x.y.safetensors"),
        ("n", "models/x"),
        ("a=b", "a=b.safetensors"),
        ("c=d", "c=d"),
    ]
    with pytest.raises(ConfigError, match="gives no name"):
        model_files(["\udcff.safetensors"])


def test_where_the_token_comes_from(folder: Path) -> None:
    assert read_token(None, {}) is None
    assert read_token(None, {"TIDEGATE_TOKEN": TOKEN}) == TOKEN
    assert read_token(Path("token"), {"TIDEGATE_TOKEN": "other"}) == TOKEN
    with pytest.raises(ConfigError, match="TIDEGATE_TOKEN is empty"):
        read_token(None, {"TIDEGATE_TOKEN": " "})


def test_settings_check_themselves() -> None:
    with pytest.raises(ConfigError, match="idle_seconds=0"):
        Limits(idle_seconds=0)
    with pytest.raises(ConfigError, match="workers=True"):
        Settings(model_files(["a"]), workers=True)
