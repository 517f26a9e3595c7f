"""The server's answers against the models' own, and what it says of itself."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

import test_targets
from serving import Served, serving, wait_until
from test_estimator import make, reviews
from tidegate import TextClassifier, ops
from tidegate.answers import predictions
from tidegate.cli.serve import serve
from tidegate.explain import explain
from tidegate.server import Limits
from tidegate.server.failures import CODES
from tidegate.trace import cell_terms, trace_layers

TEXTS = [
    "a lovely film",
    "an awful plot and dull actors",
    "",
    "née Ωmega 映画 \U0001f600 <script>alert(1)</script>",
    "fine " * 40,
]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Model files of several kinds, by name."""
    folder = tmp_path_factory.mktemp("models")
    before = ops.threads()
    ops.set_threads(1)
    texts, labels = reviews(120)
    models = {
        "plain": make().fit(texts, labels),
        "numbers": make(cell="rnn").fit(texts, [len(text) % 3 for text in texts]),
        "deep": make(cell="lstm", layers=2, bidirectional=True, epochs=1).fit(texts, labels),
        "beside": make(ngrams=2).fit(texts, labels),
        "several": test_targets.make(epochs=2).fit(test_targets.TEXTS, test_targets.LABELS),
    }
    ops.set_threads(before)
    for name, model in models.items():
        model.save(folder / f"{name}.safetensors")
    return {name: folder / f"{name}.safetensors" for name in models}


@pytest.fixture(scope="module")
def models(files: dict[str, Path]) -> dict[str, TextClassifier]:
    return {name: TextClassifier.load(path) for name, path in files.items()}


@pytest.fixture(scope="module")
def served(files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("log"), [str(path) for path in files.values()]) as server:
        yield server


# --- answers


@pytest.mark.parametrize("name", ["plain", "numbers", "deep", "beside", "several"])
def test_predictions_are_the_models_own(
    served: Served, models: dict[str, TextClassifier], name: str
) -> None:
    answer = served.post("/v1/predict", {"texts": TEXTS, "model": name})
    assert answer.status == 200
    expected = json.loads(json.dumps(predictions(models[name], TEXTS)))  # tuples become lists
    assert answer.json == {"model": name, "results": expected}
    assert ("labels" in expected[0]) == (name == "several")
    assert expected[2]["words"] == 0
    if name != "several":
        assert [result["words"] for result in expected] == [3, 5, 0, 0, 12]


def test_the_first_model_is_the_default(served: Served) -> None:
    assert served.post("/v1/predict", {"texts": ["a"]}).json["model"] == "plain"
    assert served.post("/v1/predict", {"texts": ["a"], "model": None}).json["model"] == "plain"


def test_requests_at_once_get_their_own_answers(
    served: Served, models: dict[str, TextClassifier]
) -> None:
    """Whatever was scored together: each has the bits that it has alone."""
    texts = reviews(60, seed=5)[0]
    names = ["plain", "numbers", "beside"]

    def ask(number: int) -> Any:
        chosen = texts[number : number + 1 + number % 4]
        model = names[number % 3]
        return model, chosen, served.post("/v1/predict", {"texts": chosen, "model": model}).json

    before = served.metric("tidegate_batch_texts_count")
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(len(texts))))
    for model, chosen, answer in answers:
        assert answer == {"model": model, "results": predictions(models[model], chosen)}
    assert 0 < served.metric("tidegate_batch_texts_count") - before <= len(answers)


@pytest.mark.parametrize(
    ("name", "given", "own"),
    [
        ("plain", {}, {}),
        ("plain", {"label": "neg"}, {"label": "neg"}),
        ("plain", {"method": "gradient"}, {"method": "gradient"}),
        ("numbers", {"label": 2}, {"label": 2}),
        ("numbers", {"label": "2"}, {"label": 2}),  # as the page and forms write it
        ("beside", {"method": "integrated"}, {"method": "integrated"}),
    ],
)
def test_explanations_are_the_librarys(
    served: Served,
    models: dict[str, TextClassifier],
    name: str,
    given: dict[str, Any],
    own: dict[str, Any],
) -> None:
    texts = ["a lovely film", "the plot was awful"]
    answer = served.post("/v1/explain", {"texts": texts, "model": name, **given})
    expected = [explain(models[name], text, **own).to_json() for text in texts]
    assert answer.status == 200, answer
    assert answer.json == {"model": name, "results": expected}


@pytest.mark.parametrize("name", ["plain", "numbers", "deep"])
def test_traces_and_terms_are_the_librarys(
    served: Served, models: dict[str, TextClassifier], name: str
) -> None:
    text = "a lovely <b>film</b>"
    answer = served.post("/v1/trace", {"text": text, "model": name})
    layers = [layer.to_json() for layer in trace_layers(models[name], text)]
    assert answer.json == {"model": name, "layers": layers}
    place: dict[str, Any] = {"layer": 0, "direction": "forward", "step": 1, "unit": 3}
    if name == "deep":
        place |= {"layer": 1, "direction": "backward"}
    answer = served.post("/v1/cell", {"text": text, "model": name, **place})
    terms = cell_terms(models[name], text, **place).to_json()
    assert answer.json == {"model": name, "terms": terms}


def test_the_models_are_told(served: Served, files: dict[str, Path]) -> None:
    told = served.get("/v1/models").json["models"]
    assert [each["name"] for each in told] == list(files)
    by = {each["name"]: each for each in told}
    assert by["numbers"]["labels"] == [0, 1, 2]
    assert (by["numbers"]["cell"], by["numbers"]["reset"]) == ("rnn", None)
    assert (by["deep"]["layers"], by["deep"]["bidirectional"]) == (2, True)
    assert by["several"]["targets"] == "many"
    assert (by["plain"]["ngrams"], by["beside"]["ngrams"]) == (0, 2)


# --- refusals


@pytest.mark.parametrize(
    ("path", "body", "status", "code", "needle"),
    [
        ("/v1/predict", b"", 400, "bad_json", "line 1, column 1"),
        ("/v1/predict", b"{", 400, "bad_json", "column 2"),
        ("/v1/predict", b'{"texts": ["a"],}', 400, "bad_json", "column 17"),
        ("/v1/predict", b'{"texts": ["\xff"]}', 400, "bad_json", "not UTF-8 at byte 12"),
        ("/v1/predict", b'{"texts": ["\xed\xa0\x80"]}', 400, "bad_json", "not UTF-8"),
        ("/v1/predict", '\ufeff{"texts": ["a"]}'.encode(), 400, "bad_json", "BOM"),
        ("/v1/predict", '{"texts": ["a"]}'.encode("utf-16"), 400, "bad_json", "not UTF-8"),
        ("/v1/predict", b'{"texts": ["a"], "texts": ["b"]}', 400, "bad_json", "twice"),
        ("/v1/predict", b'{"texts": NaN}', 400, "bad_json", "NaN"),
        ("/v1/predict", b'{"texts": [' + b"9" * 5000 + b"]}", 400, "bad_json", "too many digits"),
        ("/v1/predict", b"[" * 60_000, 400, "bad_json", "too deeply"),
        ("/v1/predict", b'{"a":' * 12_000, 400, "bad_json", "too deeply"),
        ("/v1/predict", b'{"texts": ["\\ud800"]}', 422, "invalid_request", "texts.0 has half"),
        ("/v1/predict", b'{"texts": ["a"], "model": "\\udc00"}', 422, "invalid_request", "half"),
        ("/v1/predict", b'{"\\ud800": 1, "texts": ["a"]}', 422, "invalid_request", "half"),
        ("/v1/predict", b"null", 422, "invalid_request", "the body"),
        ("/v1/predict", b"[]", 422, "invalid_request", "the body"),
        ("/v1/predict", {}, 422, "invalid_request", "texts is missing"),
        ("/v1/predict", {"text": "a"}, 422, "invalid_request", "texts is missing"),
        ("/v1/predict", {"texts": "a"}, 422, "invalid_request", "texts: "),
        ("/v1/predict", {"texts": {"0": "a"}}, 422, "invalid_request", "texts: "),
        ("/v1/predict", {"texts": []}, 422, "invalid_request", "texts: "),
        ("/v1/predict", {"texts": ["a", 5]}, 422, "invalid_request", "texts.1: "),
        ("/v1/predict", {"texts": ["a", None]}, 422, "invalid_request", "texts.1: "),
        ("/v1/predict", {"texts": ["a"], "secret": 1}, 422, "invalid_request", "not known"),
        ("/v1/predict", {"texts": ["a"], "model": 1}, 422, "invalid_request", "model: "),
        ("/v1/predict", {"texts": ["a"], "model": "none"}, 404, "unknown_model", "plain, numb"),
        ("/v1/predict", {"texts": ["a"] * 1001}, 422, "too_many_texts", "more than 1,000"),
        ("/v1/predict", {"texts": ["a" * 70] * 1001}, 422, "too_many_texts", "more than 1,000"),
        ("/v1/predict", {"texts": ["a"], "other": "a" * 70_000}, 422, "invalid_request", "known"),
        ("/v1/predict", b'{"texts": ["' + b"a" * 70_000, 400, "bad_json", "column 12"),
        ("/v1/predict", {"texts": ["a" * 200_001]}, 422, "text_too_long", "200,001"),
        ("/v1/explain", {"texts": ["a"] * 17}, 422, "too_many_texts", "16"),
        ("/v1/explain", {"texts": ["a " * 5001]}, 422, "text_too_long", "5,001 tokens"),
        ("/v1/explain", {"texts": [" "]}, 422, "invalid_request", "no words"),
        ("/v1/explain", {"texts": ["a film", " "]}, 422, "invalid_request", "texts.1: the text"),
        ("/v1/explain", {"texts": ["a", "b " * 5001]}, 422, "text_too_long", "text 1 has 5,001"),
        ("/v1/explain", {"texts": ["a"], "label": "x"}, 422, "invalid_request", "'x' is not one"),
        ("/v1/explain", {"texts": ["a"], "label": []}, 422, "invalid_request", "label"),
        ("/v1/explain", {"texts": ["a"], "method": "x"}, 422, "invalid_request", "method: "),
        ("/v1/trace", {"text": ""}, 422, "invalid_request", "word"),
        ("/v1/trace", {"texts": ["a"]}, 422, "invalid_request", "text is missing"),
        (
            "/v1/cell",
            {"text": "a", "layer": 1, "direction": "forward", "step": 0, "unit": 0},
            *(422, "invalid_request", "layer=1"),
        ),
        (
            "/v1/cell",
            {"text": "a", "layer": 0, "direction": "forward", "step": 9, "unit": 0},
            *(422, "invalid_request", "step=9"),
        ),
        (
            "/v1/cell",
            {"text": "a", "layer": 0, "direction": "forward", "step": 1.0, "unit": 0},
            *(422, "invalid_request", "step: "),
        ),
        (
            "/v1/cell",
            {"text": "a", "layer": 0, "direction": "forward", "step": -1, "unit": 10**30},
            *(422, "invalid_request", "step: "),
        ),
    ],
)
def test_bad_requests_are_told_in_one_line(
    served: Served, path: str, body: Any, status: int, code: str, needle: str
) -> None:
    answer = served.post(path, body)
    assert (answer.status, answer.code) == (status, code)
    assert needle in answer.json["error"]["message"]
    assert "\n" not in answer.json["error"]["message"]


def test_other_paths_methods_and_kinds(served: Served) -> None:
    body = b'{"texts": ["a"]}'
    for path in ("/v1", "/v1/", "/nothing", "/../etc/passwd", "/%2e%2e/app.py", "//"):
        answer = served.get(path)
        assert (answer.status, answer.code) == (404, "not_found"), path
        for named in ("/v1/predict", "/v1/explain", "/docs"):
            assert named in answer.json["error"]["message"]
    answer = served.get("/v1/predict")
    assert (answer.status, answer.code) == (405, "method_not_allowed")
    assert answer.headers["allow"] == "POST"
    assert served.post("/v1/models", {}).status == 405
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        answer = served.send("POST", "/v1/predict", body, {"Content-Type": kind})
        assert (answer.status, answer.code) == (415, "unsupported_media_type"), kind
    assert served.send("POST", "/v1/predict", body, {}).status == 415
    kind = "Application/JSON; charset=utf-8"
    assert served.send("POST", "/v1/predict", body, {"Content-Type": kind}).status == 200


def test_no_error_repeats_what_was_sent(served: Served) -> None:
    """Neither in its answer nor in the log."""
    typed = "Kw8zQ"
    bodies: list[Any] = [
        {"texts": [typed, 5]},
        {"texts": {typed: typed}},
        {typed: ["a"]},
        f'{{"texts": ["{typed}"'.encode(),
        {"texts": ["a"], "model": typed},
    ]
    for body in bodies:
        assert typed.encode() not in served.post("/v1/predict", body).body
    served.post("/v1/predict", {"texts": [typed]})
    served.post("/v1/trace", {"text": typed})
    served.get(f"/{typed}?{typed}")
    served.get("/healthz", {"X-Text": typed})
    assert typed not in (served.folder / "log").read_text()
    assert typed not in served.get("/metrics").body.decode()


@pytest.mark.parametrize(
    ("settings", "reads"),
    [
        ({"keep": "end"}, 16),
        ({"keep": "both", "ngrams": 2}, 16),
        ({"keep": "windows"}, 4 * 16),  # 41 ids in windows of 16, at steps of at most 12
        ({"keep": "end", "max_length": 50}, 41),
    ],
)
def test_explanations_are_limited_by_what_is_read_for_them(
    settings: dict[str, Any], reads: int, tmp_path: Path
) -> None:
    """40 tokens are read as often as there are tokens; one read more than allowed is refused."""
    path = tmp_path / "model.safetensors"
    make(**{"max_length": 16, "epochs": 1, **settings}).fit(*reviews(40)).save(path)
    body = {"texts": ["fine " * 40]}
    limits = {"explained_reads": 40 * reads}
    with serving(tmp_path / "exact", [str(path)], limits=limits) as served:
        assert served.post("/v1/explain", body).status == 200
    limits = {"explained_reads": 40 * reads - 1}
    with serving(tmp_path / "less", [str(path)], limits=limits) as served:
        answer = served.post("/v1/explain", body)
        assert (answer.status, answer.code) == (422, "text_too_long")
        assert f"40 tokens, of which {reads} are read" in answer.json["error"]["message"]


# --- what it says of itself


def test_health_and_readiness(served: Served) -> None:
    assert served.get("/healthz").json == {"status": "ok"}
    assert served.get("/readyz").json == {"status": "ready"}


def test_metrics_count_what_was_answered(served: Served) -> None:
    texts = 'tidegate_texts_total{model="several",path="/v1/predict"}'
    refused = 'tidegate_requests_total{path="/v1/predict",status="422"}'
    other = 'tidegate_requests_total{path="other",status="404"}'
    before = [served.metric(line) for line in (texts, refused, other)]
    served.post("/v1/predict", {"texts": ["a", "b", "c"], "model": "several"})
    served.post("/v1/predict", {"texts": 5})
    served.get("/what")
    after = [served.metric(line) for line in (texts, refused, other)]
    assert [b - a for a, b in zip(before, after, strict=True)] == [3, 1, 1]
    answer = served.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    names = {family.name for family in text_string_to_metric_families(answer.body.decode())}
    assert {"tidegate_batch_texts", "tidegate_waiting_texts", "process_resident_memory_bytes"} <= (
        names
    )


def test_a_line_is_logged_for_each_request(served: Served) -> None:
    served.post("/v1/predict", {"texts": ["a", "b"], "model": "deep"})
    served.get("/healthz")  # logged after the former one

    def of_deep() -> list[dict[str, Any]]:
        return [
            line
            for line in served.logged()
            if line.get("model") == "deep" and line.get("texts") == 2 and line["status"] == 200
        ]

    wait_until(lambda: bool(of_deep()))
    line = of_deep()[-1]
    assert list(line) == [
        *("time", "event", "worker", "method", "path", "status", "milliseconds", "model", "texts"),
    ]
    assert (line["event"], line["method"], line["path"]) == ("request", "POST", "/v1/predict")
    assert 0.0 < line["milliseconds"] < 60_000


def test_every_answer_has_the_headers_that_protect(served: Served) -> None:
    for answer in (
        served.get("/v1/models"),
        served.get("/nothing"),
        served.get("/docs"),
        served.post("/v1/predict", b"{"),
    ):
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; ")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "server" not in answer.headers
        assert "access-control-allow-origin" not in answer.headers


def test_the_documents_ask_nothing_of_others(served: Served) -> None:
    document = served.get("/openapi.json").json
    assert set(document["paths"]) == {
        *("/v1/predict", "/v1/explain", "/v1/trace", "/v1/cell", "/v1/models"),
        *("/healthz", "/readyz", "/metrics"),
    }
    body = document["paths"]["/v1/predict"]["post"]["requestBody"]
    texts = body["content"]["application/json"]["schema"]["properties"]["texts"]
    assert (texts["maxItems"], texts["items"]["maxLength"]) == (1_000, 200_000)
    page = served.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    shown = page.body.decode()
    assert re.findall(r"<(script|link|img|style)\b", shown) == []
    assert re.findall(r'(?:src|href)="([^"]*)"', shown) == ["/openapi.json"]
    assert "POST /v1/predict" in shown


# --- docs/serving.md

DOCUMENT = (Path(__file__).parent.parent / "docs" / "serving.md").read_text(encoding="utf-8")


def _rows(first: str) -> list[list[str]]:
    """The cells of the table whose head begins so."""
    table = DOCUMENT.split(f"| {first} |", 1)[1].split("\n\n")[0]
    return [[cell.strip() for cell in row.split("|")[1:-1]] for row in table.splitlines()[2:]]


def test_the_limits_are_those_of_the_document() -> None:
    told = [int(row[2].replace(",", "")) for row in _rows("what | option | limit")]
    assert sorted(told) == sorted(vars(Limits()).values())
    options = {row[1].strip("`") for row in _rows("what | option | limit")} - {""}
    shown = inspect.getsource(serve)
    assert options
    assert all(f'"{option}"' in shown for option in options)


def test_the_statuses_and_paths_are_those_of_the_document(served: Served) -> None:
    assert [int(row[0]) for row in _rows("status | code")] == list(CODES)
    told = re.findall(r"`(?:GET|POST) (/\S+?)`", DOCUMENT)
    paths = served.get("/openapi.json").json["paths"]
    assert sorted(told[: len(paths) + 1]) == sorted([*paths, "/openapi.json"])


def test_the_metrics_are_those_of_the_document(served: Served) -> None:
    served.post("/v1/predict", {"texts": ["a"]})
    families = text_string_to_metric_families(served.get("/metrics").body.decode())
    own = {f.name for f in families if f.name.startswith("tidegate_")}
    told = {row[0].strip("`").removesuffix("_total") for row in _rows("name | what")}
    assert told - {"process_..."} == own
