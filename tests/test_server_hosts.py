"""The names under which a server answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving import raw, serving
from test_estimator import make, reviews
from tidegate.errors import ConfigError
from tidegate.server import Settings, is_loopback, model_files
from tidegate.server.hosts import accepted, admitted

OWN = [
    *("localhost", "LocalHost", "localhost:8000", "localhost.", "localhost:", "127.0.0.1"),
    *("127.0.0.1:65535", "127.9.9.9", "[::1]", "[::1]:8000", "[::ffff:127.0.0.1]:8000"),
    *("reviews.example.org", "REVIEWS.example.org:443", "reviews.example.org.", "[fd00::1]"),
]
OTHERS = [
    *("", " ", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "0.0.0.0"),  # noqa: S104
    *("192.168.0.1", "::1", "[::1", "[::2]", "localhost:x", "localhost:80:80", "localhost@evil"),
    *(
        "evil.example:localhost",
        "example.org",
        "a.reviews.example.org",
        "reviews.example.org,",
        ".",
    ),
    *("localhost evil.example", "127.1", "2130706433", "\xff", "[::1%eth0]", "localhost\t"),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    make(epochs=1).fit(*reviews(40)).save(path)
    return str(path)


def test_which_names_are_its_own() -> None:
    names = accepted("127.0.0.1", "localhost", ["Reviews.Example.org", "[FD00:0::1]"])
    assert names is not None
    for name in OWN:
        assert admitted([(b"host", name.encode("latin-1"))], names), name
    for name in OTHERS:
        assert not admitted([(b"host", name.encode("latin-1"))], names), name
    assert admitted([(b"accept", b"*/*")], names)  # as old programs ask, and no browser
    assert not admitted([(b"host", b"localhost"), (b"host", b"localhost")], names)


def test_where_names_are_checked() -> None:
    assert accepted("0.0.0.0", "0.0.0.0", []) is None  # noqa: S104
    assert accepted("192.168.0.1", "192.168.0.1", []) is None
    assert accepted("192.168.0.1", "192.168.0.1", ["a"]) == frozenset({"a"})
    for address in ("127.0.0.1", "127.0.0.2", "::1"):
        assert accepted(address, "my-name", ["a"]) == frozenset({"a", "my-name"})
        assert is_loopback(address)
    for address in ("0.0.0.0", "::", "fe80::1%eth0", "10.0.0.1", "example.org"):  # noqa: S104
        assert not is_loopback(address)


@pytest.mark.parametrize(
    "name", ["", "*", "http://a.example", "a.example:80", "a b", "a..b", "é.example", "[::1]:80"]
)
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(ConfigError, match="without https:// and port"):
        Settings(model_files(["a"]), allowed_hosts=(name,))


def test_other_names_are_refused_everywhere(model: str, tmp_path: Path) -> None:
    token = "0123456789abcdef-secret"  # noqa: S105
    typed = "kw8zq.example"
    with serving(tmp_path / "log", [model], token=token) as served:
        for path in ("/", "/healthz", "/readyz", "/metrics", "/v1/models", "/docs", "/nothing"):
            for headers in (
                {"Host": typed},
                {"Host": f"{typed}:{served.port}", "Authorization": ""},
            ):
                answer = served.get(path, headers)
                assert (answer.status, answer.code) == (421, "unknown_host"), path
                assert "--allowed-host" in answer.json["error"]["message"]
                assert typed not in answer.body.decode()
        body = {"texts": ["a"]}
        assert served.post("/v1/predict", body, {"Host": typed}).status == 421
        large = {"texts": ["a" * 3_900_000]}  # who sends all of it first can read why
        assert served.post("/v1/predict", large, {"Host": typed}).code == "unknown_host"
        assert served.post("/v1/predict", large, {"Authorization": ""}).code == "unauthorized"
        assert served.post("/v1/predict", body, {"Host": "localhost:1"}).status == 200
        with served.connect() as connection:
            connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            assert raw(connection).status == 200
        refused = 'tidegate_requests_total{path="/v1/predict",status="421"}'
        assert served.metric(refused) == 2
    assert typed not in (tmp_path / "log" / "log").read_text()


def test_names_that_are_allowed(model: str, tmp_path: Path) -> None:
    allowed = ["reviews.example.org", "other.example"]
    with serving(tmp_path / "log", [model], allowed_hosts=allowed) as served:
        for name in ("localhost", "Reviews.Example.org:443", "other.example"):
            assert served.get("/healthz", {"Host": name}).status == 200
        assert served.get("/healthz", {"Host": "example.org"}).status == 421
