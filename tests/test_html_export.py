"""The exported page as a file: what it holds, what it allows, what is refused."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foreign import random_classifier, random_config
from tidegate import TextClassifier, cli, page
from tidegate.errors import (
    ConfigError,
    ConversionError,
    NotFittedError,
    OutputExistsError,
)
from tidegate.interop import html_characters
from tidegate.interop.html_export import WEIGHTS, export_html, unpack
from tidegate.model import ModelConfig
from tidegate.tokens import spaced

SMALL = ModelConfig(
    vocabulary_size=11, embedding_size=3, hidden_size=4, max_length=6, masked=True, classes=3
)


def _element(content: str, name: str) -> str:
    return content.split(f'id="{name}">')[1].split("</script>")[0]


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    content = path.read_text(encoding="utf-8")
    description = json.loads(_element(content, "tidegate-model"))
    return description, unpack(description["tensors"], _element(content, "tidegate-weights"))


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("seed", range(12))
def test_every_shape_is_proven(seed: int, weights: str, tmp_path: Path) -> None:
    classifier = random_classifier(random_config(seed), seed)
    made = export_html(classifier, tmp_path / "m.html", weights=weights)
    assert 0 <= made.difference < 5e-6
    description, tensors = _read(made.paths[0])
    assert description["classes"] == classifier.classes_.tolist()
    for name, value in classifier.model_.parameters.items():
        if weights == "float32":
            assert (tensors[name] == value).all()
        elif weights == "float16":
            np.testing.assert_allclose(tensors[name], value, rtol=1e-3, atol=1e-7, err_msg=name)


def test_int8_is_the_model_that_a_quantised_file_gives(tmp_path: Path) -> None:
    classifier = random_classifier(SMALL)
    classifier.save(tmp_path / "m.safetensors", quantize="int8")
    loaded = TextClassifier.load(tmp_path / "m.safetensors")
    export_html(classifier, tmp_path / "m.html", weights="int8")
    description, tensors = _read(tmp_path / "m.html")
    for name, value in loaded.model_.parameters.items():
        assert (tensors[name] == value).all(), name
    texts = [sample["text"] for sample in description["samples"]]
    wanted = loaded.predict_proba(texts)
    assert [s["probabilities"] for s in description["samples"]] == wanted.tolist()


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    classifier = random_classifier(SMALL)
    first = export_html(classifier, tmp_path / "m.html").paths[0].read_bytes()
    assert export_html(classifier, tmp_path / "m.html").paths[0].read_bytes() == first


def test_the_policy_allows_its_own_script_and_style_alone(tmp_path: Path) -> None:
    path = export_html(random_classifier(SMALL), tmp_path / "m.html").paths[0]
    content = path.read_text(encoding="utf-8")
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', content)
    (script,) = re.findall(r'<script type="module">(.*?)</script>', content, flags=re.DOTALL)
    (style,) = re.findall(r"<style>(.*?)</style>", content, flags=re.DOTALL)
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    for name, inside in (("script-src", script), ("style-src", style)):
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert rules[name] == f"'sha256-{digest}'"
    assert rules["default-src"] == "'none'"
    assert "connect-src" not in rules
    assert not re.search(r"^import |^export ", script, flags=re.MULTILINE)
    # Addresses of anything: the SVG namespace is a name, not a place.
    assert set(re.findall(r"https?://[^\"'` ]+", content)) == {"http://www.w3.org/2000/svg"}


def test_words_and_labels_can_not_leave_their_element(tmp_path: Path) -> None:
    texts = ["</script><script>alert(1)</script> <!-- a", "b b"] * 10
    hostile = "</script><script>alert(2)</script>"
    classifier = TextClassifier(
        epochs=1, embedding_size=2, hidden_size=2, masked=True, validation_fraction=0.0
    ).fit(texts, [hostile, "b"] * 10)
    path = export_html(classifier, tmp_path / "a<b&.html").paths[0]
    content = path.read_text(encoding="utf-8")
    assert "alert(" not in re.sub(r'"classes":\[[^]]*\]|"words":\[[^]]*\]', "", content)
    assert "<title>a&lt;b&amp; \u00b7 tidegate</title>" in content
    assert content.count("<script") == content.count("</script>") == 3
    assert _read(path)[0]["classes"] == sorted([hostile, "b"])


def test_all_modules_are_joined_once() -> None:
    joined = page._joined("local/main.js")
    names = re.findall(r'^modules\["([^"]+)"\] = ', joined, flags=re.MULTILINE)
    assert len(set(names)) == len(names)
    files = {path.relative_to(page.FOLDER).as_posix() for path in page.FOLDER.rglob("*.js")}
    assert set(names) == files - {"app.js", "http.js"}
    for name in re.findall(r'= modules\["([^"]+)"\];', joined):
        assert joined.index(f'modules["{name}"] = ') < joined.index(f'= modules["{name}"];')


def test_the_tables_hold_all_of_pythons_unicode() -> None:
    tables = html_characters.character_tables()
    lower = {
        first + i * step: first + i * step + difference
        for first, count, step, difference in tables["lower"]
        for i in range(count)
    }
    changed = {c: low for c in range(0x80, sys.maxunicode + 1) if (low := chr(c).lower()) != chr(c)}
    assert changed.pop(0x130) == "i\u0307"  # which characters.js knows by itself
    assert lower == {code: ord(lowered) for code, lowered in changed.items()}
    begins, kinds = np.array(tables["kinds"]).T
    codes = np.arange(0x80, sys.maxunicode + 1)
    places = np.searchsorted(begins, codes, side="right")
    found = np.where(places > 0, kinds[places - 1], 0)
    shown = {0: "{}", 1: "", 2: " ", 3: " {} ", 4: "'"}
    assert all(
        spaced(code) == shown[kind].format(chr(code))
        for code, kind in zip(codes.tolist(), found.tolist(), strict=True)
    )


def test_weights_that_float16_can_not_hold(tmp_path: Path) -> None:
    classifier = random_classifier(SMALL)
    parameters = {name: value.copy() for name, value in classifier.model_.parameters.items()}
    parameters["embedding.weight"][4] = 1e5
    classifier.model_ = type(classifier.model_)(SMALL, parameters)
    with pytest.raises(ConversionError, match=r"embedding.weight .* use --weights float32"):
        export_html(classifier, tmp_path / "m.html")
    assert list(tmp_path.iterdir()) == []
    export_html(classifier, tmp_path / "m.html", weights="float32")


def test_what_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = random_classifier(replace(SMALL, classes=2))
    with pytest.raises(ConfigError, match=r"does not end in \.html"):
        export_html(classifier, tmp_path / "m.htm")
    with pytest.raises(ConfigError, match="weights='int4' is not one of float16, int8, float32"):
        export_html(classifier, tmp_path / "m.html", weights="int4")
    with pytest.raises(NotFittedError, match="not trained"):
        export_html(TextClassifier(), tmp_path / "m.html")
    windows = random_classifier(SMALL)
    windows.tokenizer_ = replace(windows.tokenizer_, keep="windows")
    with pytest.raises(ConversionError, match="keep='windows', and a page only by end, start"):
        export_html(windows, tmp_path / "m.html")
    monkeypatch.setattr("tidegate.interop.html_export._LARGEST_BYTES", 100)
    with pytest.raises(ConversionError, match=r"--without-ngrams .* --weights int8"):
        export_html(classifier, tmp_path / "m.html")
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []
    export_html(classifier, tmp_path / "m.html")
    with pytest.raises(OutputExistsError):
        export_html(random_classifier(SMALL, 5), tmp_path / "m.html", replace=False)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tmp_path / "m.safetensors"
    random_classifier(SMALL).save(model)
    assert cli.main(["export", str(model), "--to", "html"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("proven against the file's own numbers")
    assert said[1].startswith(f"{tmp_path / 'm.html'}  ")
    first = (tmp_path / "m.html").read_bytes()
    assert cli.main(["export", str(model), "--to", "html", "--weights", "int8"]) == 2
    assert "--force" in capsys.readouterr().err
    assert (tmp_path / "m.html").read_bytes() == first
    assert cli.main(["export", str(model), "--to", "html", "--weights", "int8", "--force"]) == 0
    assert (tmp_path / "m.html").read_bytes() != first
    assert cli.main(["export", str(model), "--to", "onnx", "--weights", "int8"]) == 2
    assert "--weights int8 is for --to html" in capsys.readouterr().err
    assert cli.main(["export", str(model), "--to", "html", "--weights", "int4", "--force"]) == 2
    assert "--weights='int4' is not one of" in capsys.readouterr().err


def test_the_documents_commands_and_snippet_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (Path(__file__).parent.parent / "docs" / "page.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    classifier = random_classifier(SMALL)
    classifier.save("model.safetensors")
    (commands,) = re.findall(r"^```sh\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    for line in commands.splitlines():
        assert cli.main(line.split()[1:]) == 0, line
    assert capsys.readouterr().err == ""
    (snippet,) = re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    exec(compile(snippet, "docs/page.md", "exec"), {})  # noqa: S102 (our own file)
    assert {path.name for path in tmp_path.glob("*.html")} == {
        *("model.html", "small.html", "network.html"),
    }
