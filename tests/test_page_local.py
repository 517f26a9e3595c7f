"""What the exported page computes in a browser is what Python computes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("playwright")

from browsing import Watched, browser, served
from foreign import random_classifier, random_config
from tidegate import TextClassifier, answers, page
from tidegate.explain import explain
from tidegate.interop.html_characters import character_tables
from tidegate.interop.html_export import _KEEPS, export_html, unpack
from tidegate.model import ModelConfig, TextModel
from tidegate.ngrams import NgramModel
from tidegate.tokens import TOKENIZERS, TokenizerKind, place_tokens, tokens
from tidegate.trace import cell_terms, trace_layers

_LOAD = """async ([kinds, characters]) => {
  const { Tokenizer } = await import("/local/tokenizer.js");
  const { Characters } = await import("/local/characters.js");
  const { LocalBackend } = await import("/local/local.js");
  const known = new Characters(characters);
  window.tokenizers = Object.fromEntries(kinds.map((kind) =>
    [kind, new Tokenizer({ kind, keep: "end", start: true, unknown: true, words: [] }, known)]));
  window.open = (html) => {
    const get = (id) => html.split(`id="${id}">`)[1].split("</script>")[0];
    window.backend = new LocalBackend(JSON.parse(get("tidegate-model")), get("tidegate-weights"));
  };
}"""


@pytest.fixture(scope="module")
def watched() -> Iterator[Watched]:
    """A page with the modules of the exported file, which can be called one by one."""
    with served(page.FOLDER) as address, browser() as opened:
        found = Watched(opened.new_page(), address)
        found.page.goto(f"{address}/style.css")  # a page of that address that runs nothing itself
        found.page.evaluate(_LOAD, [list(TOKENIZERS), character_tables()])
        yield found
        assert found.troubles == []


def _tokens_of(watched: Watched, kind: TokenizerKind, texts: list[str]) -> list[Any]:
    """Tokens and spans; texts go as numbers, which lone surrogates survive."""
    call = """([kind, texts]) => texts.map((codes) => {
      const text = codes.map((code) => String.fromCodePoint(code)).join("");
      const { tokens, spans } = window.tokenizers[kind].tokens(text);
      return [tokens.map((token) => Array.from(token, (c) => c.codePointAt(0))), spans];
    })"""
    codes = [[ord(character) for character in text] for text in texts]
    found: list[Any] = watched.page.evaluate(call, [kind, codes])
    return found


def _expected(kind: TokenizerKind, texts: list[str]) -> list[Any]:
    return [
        [
            [[ord(c) for c in token] for token in tokens(kind, text)],
            [list(place) for place in place_tokens(kind, text)],
        ]
        for text in texts
    ]


# Letters, marks and signs that rules treat by themselves are drawn often enough to meet.
_PIECES = st.one_of(
    st.characters(),
    st.sampled_from("ΣςẞǄⒶ𐐀𝔸ªⅷⅧꭰᎠ'\u2019aB0.,!- \t\n\r\x1c\x85\xa0\u0301\u200d\u2028\u3000\ufe0f"),
    st.sampled_from(["ΑΣ", "İ", "I\u0307", "<br />", "<BR>", "<br", "👍🏽", "日本", "ไทย"]),
)
_TEXTS = st.lists(st.lists(_PIECES, max_size=12).map("".join), min_size=40, max_size=60)


@pytest.mark.parametrize("kind", TOKENIZERS)
@settings(max_examples=15)
@given(texts=_TEXTS)
def test_tokens_are_pythons(watched: Watched, kind: TokenizerKind, texts: list[str]) -> None:
    assert _tokens_of(watched, kind, texts) == _expected(kind, texts)


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_every_character_is_treated_as_python_does(watched: Watched, kind: TokenizerKind) -> None:
    # Private characters and those of no script yet are alike; surrogates can't be paired by chance.
    for first, end in ((0, 0xD800), (0xF900, 0x32400), (0xE0000, 0xE0200)):
        text = "a".join(map(chr, range(first, end)))
        call = """([kind, first, end]) => {
          const codes = Array.from({ length: end - first }, (_, i) => first + i);
          const text = codes.map((code) => String.fromCodePoint(code)).join("a");
          const { tokens, spans } = window.tokenizers[kind].tokens(text);
          return [tokens.join(" "), spans.join(" ")];
        }"""
        found = watched.page.evaluate(call, [kind, first, end])
        assert found[0] == " ".join(tokens(kind, text))
        assert found[1] == " ".join(f"{a},{b}" for a, b in place_tokens(kind, text))


def test_halves_of_surrogate_pairs(watched: Watched) -> None:
    texts = ["a\ud800b", "\udc00", "x \ud83d y", "\ud800\u0301Σ"]
    for kind in TOKENIZERS:
        assert _tokens_of(watched, kind, texts) == _expected(kind, texts)


def _open(watched: Watched, classifier: TextClassifier, folder: Path) -> None:
    path = export_html(classifier, folder / "m.html", weights="float32").paths[0]
    watched.page.evaluate("(html) => window.open(html)", path.read_text(encoding="utf-8"))


def _call(watched: Watched, call: str, *arguments: Any) -> Any:
    return watched.page.evaluate(f"(given) => window.backend.{call}(...given)", list(arguments))


def _probe_texts(seed: int, classifier: TextClassifier) -> list[str]:
    draw = np.random.default_rng(seed)
    words = [*classifier.tokenizer_.vocabulary.words, "<br />", "unknown", "."]
    lengths = [0, 1, classifier.max_length, classifier.max_length + 5, 17]
    return [" ".join([words[0], *draw.choice(words, length)]) for length in lengths]


def _varied(seed: int) -> TextClassifier:
    """A random classifier with a tokeniser's choices, n-grams or several labels of its own."""
    config = random_config(seed)
    many = seed % 3 == 1
    classifier = random_classifier(replace(config, classes=3) if many else config, seed)
    if many:
        config = replace(classifier.model_.config, targets="many")
        classifier.model_ = TextModel(config, classifier.model_.parameters)
        classifier.thresholds_ = np.array([0.3, 0.5, 0.7])
    elif config.classes == 2:
        classifier.thresholds_ = np.array([0.42])
    draw = np.random.default_rng(seed)
    if seed % 2:
        weights = draw.standard_normal((1 << 10, config.logits)).astype(np.float16)
        bias = draw.standard_normal(config.logits).astype(np.float32)
        longest = 1 + seed % 4
        classifier.ngrams_ = NgramModel("words", longest, weights.astype(np.float32), bias)
        classifier.mix_ = (0.7, 0.4)
    classifier.tokenizer_ = replace(
        classifier.tokenizer_, keep=_KEEPS[seed % 3], start=seed % 4 != 2, unknown=seed % 5 != 3
    )
    return classifier


@pytest.mark.parametrize("seed", range(24))
def test_answers_explanations_and_traces_are_pythons(
    watched: Watched, seed: int, tmp_path: Path
) -> None:
    classifier = _varied(seed)
    config: ModelConfig = classifier.model_.config
    _open(watched, classifier, tmp_path)
    texts = _probe_texts(seed, classifier)
    for said, wanted in zip(
        _call(watched, "predict", ["", *texts]),
        answers.predictions(classifier, ["", *texts]),
        strict=True,
    ):
        assert said.get("label") == wanted.get("label")
        assert said.get("labels") == json.loads(json.dumps(wanted.get("labels")))
        assert said["probability"] == pytest.approx(wanted["probability"], abs=2e-5)
        assert said["probabilities"] == pytest.approx(wanted["probabilities"], abs=2e-5)
        assert said["words"] == wanted["words"]
    for text in texts:
        label = classifier.classes_.tolist()[-1]
        _near(
            _call(watched, "explain", text, {"label": label}),
            explain(classifier, text, label=label).to_json(),
            1e-4,
        )
    if classifier.tokenizer_.unknown and classifier.tokenizer_.start:
        text = texts[-1]
        layers = trace_layers(classifier, text)
        _near(_call(watched, "trace", text, {}), [layer.to_json() for layer in layers], 1e-4)
        for layer in layers:
            place = {
                "layer": layer.layer,
                "direction": layer.direction,
                "step": len(layer.tokens) - 1,
                "unit": config.hidden_size - 1,
            }
            wanted_terms = cell_terms(classifier, text, **place)  # type: ignore[arg-type]
            _near(_call(watched, "cell", text, place), wanted_terms.to_json(), 2e-4)


def _near(found: Any, wanted: Any, tolerance: float) -> None:
    """The same JSON but for rounding."""
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys()
        for key in wanted:
            _near(found[key], wanted[key], tolerance)
    elif isinstance(wanted, (list, tuple)):
        # Arrays of numbers come from the browser as objects of their own.
        listed = list(found.values()) if isinstance(found, dict) else found
        assert len(listed) == len(wanted)
        for one, other in zip(listed, wanted, strict=True):
            _near(one, other, tolerance)
    elif isinstance(wanted, float):
        assert found == pytest.approx(wanted, abs=tolerance)
    else:
        assert found == wanted


def test_the_lectures_tokens_and_padding(watched: Watched, tmp_path: Path) -> None:
    texts = ["what a lovely film", "a dreadful bore it was", "I don't know<br />at all"] * 8
    classifier = TextClassifier(
        tokenizer="lecture", masked=False, max_length=30, epochs=2, embedding_size=6, hidden_size=5
    ).fit(texts, ["good", "bad", "bad"] * 8)
    _open(watched, classifier, tmp_path)
    for text in ("A LOVELY film!", "don't", "it was " * 30 + "lovely"):
        found = _call(watched, "explain", text, {})
        _near(found, explain(classifier, text).to_json(), 1e-4)


def test_a_text_without_words_is_told(watched: Watched, tmp_path: Path) -> None:
    _open(watched, _varied(0), tmp_path)
    call = "window.backend.explain('', {}).then(() => '', (error) => error.message)"
    assert watched.page.evaluate(call) == "the text has no words; give at least one"


def test_the_file_checks_itself(watched: Watched, tmp_path: Path) -> None:
    _open(watched, _varied(5), tmp_path)
    checked = watched.page.evaluate("window.backend.check()")
    assert checked["texts"] == 8
    assert 0 < checked["largest"] < 1e-5


_SIZES = {"vocabulary_size": 29, "embedding_size": 5, "hidden_size": 7, "max_length": 23}

_CONTRIBUTION_CASES: dict[str, dict[str, Any]] = {
    "gru, reset after": {},
    "gru, reset before, three classes": {"reset": "before", "classes": 3},
    "lstm": {"cell": "lstm"},
    "rnn, padding": {"cell": "rnn", "masked": False},
    "gru, padding, from both ends": {"masked": False, "bidirectional": True, "pooling": "mean"},
    "lstm, two layers, normalised": {"cell": "lstm", "layers": 2, "layer_norm": True},
    "gru, both directions, pooled": {"bidirectional": True, "pooling": "max+mean"},
    "gru, reset before, three layers": {
        **{"reset": "before", "layers": 3, "bidirectional": True, "layer_norm": True},
        **{"pooling": "attention+last+max", "classes": 4},
    },
    "rnn, both directions, attention": {
        **{"cell": "rnn", "bidirectional": True, "pooling": "attention"}
    },
    "n-grams": {"ngrams": 3},
    "n-grams, three classes": {"ngrams": 2, "classes": 3, "bidirectional": True},
    "n-grams, several labels": {"ngrams": 4, "classes": 3, "targets": "many", "cell": "lstm"},
    "the start of long texts": {"keep": "start", "ngrams": 1},
    "both ends of long texts": {"keep": "both", "bidirectional": True, "pooling": "max"},
    "known words alone": {"unknown": False, "start": False, "bidirectional": True},
}


def _case(
    *,
    keep: str = "end",
    start: bool = True,
    unknown: bool = True,
    ngrams: int = 0,
    targets: str = "one",
    **shape: Any,
) -> TextClassifier:
    config = ModelConfig(**{"masked": True, "classes": 2, **_SIZES, **shape})
    classifier = random_classifier(config, 5)
    if targets == "many":
        config = replace(config, targets="many")
        classifier.model_ = TextModel(config, classifier.model_.parameters)
    if ngrams:
        draw = np.random.default_rng(ngrams)
        weights = draw.standard_normal((1 << 10, config.logits)).astype(np.float16)
        bias = draw.standard_normal(config.logits).astype(np.float32)
        classifier.ngrams_ = NgramModel("words", ngrams, weights.astype(np.float32), bias)
        classifier.mix_ = (0.8, 0.3)
    classifier.tokenizer_ = replace(classifier.tokenizer_, keep=keep, start=start, unknown=unknown)
    return classifier


_CONTRIBUTION_TEXTS = (
    "w3",
    "zz",
    "w1 w2",
    "w4 w4 w4 zz w4 w5 w4 w4",
    "w1 w2\nw3<br /><br />w4 zz\r\n\r\n w5 , w6 .\nw7",
    " ".join(f"w{i * i % 31}" for i in range(22)),  # 31 is more than the vocabulary has
    " ".join(f"w{i * i * i % 23}" + "\n" * (i % 7 == 3) for i in range(61)),
)


@pytest.mark.parametrize("case", _CONTRIBUTION_CASES)
def test_contributions_are_those_of_pythons_default(
    watched: Watched, case: str, tmp_path: Path
) -> None:
    classifier = _case(**_CONTRIBUTION_CASES[case])
    _open(watched, classifier, tmp_path)
    for text in _CONTRIBUTION_TEXTS:
        for label in (None, *classifier.classes_.tolist()[:2]):
            wanted = explain(classifier, text, label=label)
            found = _call(watched, "explain", text, {"label": label})
            assert (found["label"], found["method"]) == (wanted.label, "staged")
            contributions = [word["contribution"] for word in found["words"]]
            np.testing.assert_allclose(contributions, wanted.contributions, atol=1e-4, err_msg=text)


@pytest.mark.parametrize("weights", ["float16", "int8"])
def test_contributions_of_weights_as_they_are_stored(
    watched: Watched, weights: str, tmp_path: Path
) -> None:
    classifier = _case(ngrams=2)
    path = export_html(classifier, tmp_path / "m.html", weights=weights).paths[0]
    content = path.read_text(encoding="utf-8")
    layout = json.loads(content.split('id="tidegate-model">')[1].split("</script>")[0])["tensors"]
    stored = unpack(layout, content.split('id="tidegate-weights">')[1].split("</script>")[0])
    names = classifier.model_.parameters
    classifier.model_ = TextModel(classifier.model_.config, {name: stored[name] for name in names})
    watched.page.evaluate("(html) => window.open(html)", content)
    text = _CONTRIBUTION_TEXTS[-1]
    wanted = explain(classifier, text).to_json()
    _near(_call(watched, "explain", text, {}), wanted, 1e-4)


def test_places_and_weights_are_gausss(watched: Watched) -> None:
    call = """async (points) =>
      (await import("/local/explaining.js")).quadrature(points)"""
    for points in (1, 4, 8, 32, 128):
        found = np.array(watched.page.evaluate(call, points))
        places, weights = np.polynomial.legendre.leggauss(points)
        wanted = np.stack([(places + 1.0) / 2.0, weights / 2.0], axis=1)
        np.testing.assert_allclose(found[::-1], wanted, atol=1e-13)


_SAMPLED = """async ([text, mostWork]) => {
  const { growthOf } = await import("/local/explaining.js");
  const { Chart } = await import("/chart.js");
  const { tokens } = window.backend.model.tokenizer.tokens(text);
  const steps = growthOf(window.backend.model, tokens, 1, mostWork);
  let step;
  do step = steps.next(); while (!step.done);
  const explanation = await window.backend.explain(text, { label: "label 1" });
  const whole = explanation.words.map((word) => word.probability_after);
  explanation.words.forEach((word, i) => (word.probability_after = step.value[i]));
  const chart = new Chart({});
  chart.element.style.width = "300px";
  document.body.append(chart.element);
  chart.show(explanation, "label 1");
  const line = chart.element.querySelector(".line").getAttribute("d");
  const said = chart.element.getAttribute("aria-label");
  chart.element.remove();
  return { sampled: step.value, whole, points: line.match(/[ML]/g).length, said };
}"""


def test_the_probability_is_sampled_where_it_is_much_work(watched: Watched, tmp_path: Path) -> None:
    _open(watched, _case(bidirectional=True), tmp_path)
    text = " ".join(f"w{i}" for i in range(20))
    work = 2 * 7 * 21 * 20 * 21 / 2  # directions, a step's products, beginnings, half their length
    for share, known in ((1, [*range(20)]), (6, [0, 6, 12, 18, 19]), (1e9, [0, 19])):
        found = watched.page.evaluate(_SAMPLED, [text, work / share])
        shown = [i for i, value in enumerate(found["sampled"]) if value is not None]
        assert shown == known
        assert [found["sampled"][i] for i in known] == [found["whole"][i] for i in known]
        assert found["points"] == len(known)
        place = "after each word" if share == 1 else f"after {len(known)} of 20 words"
        assert found["said"].startswith(f"Probability of label 1 {place}: first")


def test_what_is_read_again_is_not_sampled(watched: Watched, tmp_path: Path) -> None:
    _open(watched, _case(keep="start", bidirectional=True, ngrams=2), tmp_path)
    text = " ".join(f"w{i}" for i in range(40))
    found = watched.page.evaluate(_SAMPLED, [text, 2e4])
    shown = [i for i, value in enumerate(found["sampled"]) if value is not None]
    assert 1 < shown[1] - shown[0] < 6
    assert {*range(26, 40)} <= set(shown)
