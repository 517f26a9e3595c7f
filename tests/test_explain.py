"""Explanations: words' contributions, where the words stand, the gates, and what is shown."""

from __future__ import annotations

import copy
import inspect
import json
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreign import random_classifier
from tidegate import TextClassifier, cli, slopes
from tidegate.errors import ConfigError, DataError, NotFittedError
from tidegate.explain import METHODS, explain, strength, words_and_gaps
from tidegate.model import ModelConfig, TextModel
from tidegate.text import START_MARK, UNKNOWN_ID, Tokenizer
from tidegate.tokens import BREAK, TOKENIZERS, TokenizerKind, place_tokens, tokens

TEXTS = [
    "a lovely film", "lovely and warm", "so lovely", "a warm film", "warm",
    "a dreadful film", "dreadful and cold", "so dreadful", "a cold film", "cold",
] * 12  # fmt: skip
LABELS = ["good"] * 5 + ["bad"] * 5
OPTIONS: dict[str, Any] = {
    "embedding_size": 8,
    "hidden_size": 8,
    "epochs": 30,
    "learning_rate": 0.02,
    "validation_fraction": 0.1,
}


def train(**options: Any) -> TextClassifier:
    return TextClassifier(**{**OPTIONS, **options}).fit(TEXTS, LABELS * 12)


@pytest.fixture(scope="module")
def classifier() -> TextClassifier:
    return train()


@pytest.fixture(scope="module")
def deep() -> TextClassifier:
    return train(bidirectional=True, pooling="max+mean", ngrams=2, layers=2)


def log_odds(classifier: TextClassifier, text: str, label: str) -> float:
    share = classifier.predict_proba([text])[0, classifier.classes_.tolist().index(label)]
    return float(np.log(share / (1 - share)))


@pytest.fixture(scope="module")
def three() -> tuple[TextClassifier, TextClassifier]:
    """With a class for texts without a telling word, so that every other needs one."""
    texts = [*TEXTS[:10], "a film", "so and", "a", "and a film", "so"] * 12
    labels = [*LABELS, *["fair"] * 5] * 12
    shapes: list[dict[str, Any]] = [
        {},
        {"bidirectional": True, "pooling": "max+mean", "ngrams": 2, "layers": 2},
    ]
    first, second = (TextClassifier(**OPTIONS, **shape).fit(texts, labels) for shape in shapes)
    return first, second


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("which", [0, 1], ids=["plain", "deep"])
@pytest.mark.parametrize(("word", "label"), [("LOVELY", "good"), ("Cold", "bad")])
def test_the_word_that_decides_is_named(
    which: int, method: str, word: str, label: str, three: tuple[TextClassifier, ...]
) -> None:
    found = explain(three[which], f"So a {word} film", method=method)
    assert found.tokens == ["so", "a", word.lower(), "film"]
    assert found.label == label
    assert found.contributions.argmax() == 2
    against = explain(three[which], found.text, label="fair", method=method)
    assert against.contributions.argmin() == 2
    assert against.probability < found.probability


@pytest.mark.parametrize("method", METHODS)
def test_of_two_labels_one_is_the_other_turned_round(deep: TextClassifier, method: str) -> None:
    found = explain(deep, "so cold a film", method=method)
    other = "good" if found.label == "bad" else "bad"
    opposite = explain(deep, found.text, label=other, method=method)
    np.testing.assert_allclose(opposite.contributions, -found.contributions, rtol=1e-3, atol=1e-3)
    assert opposite.probability == pytest.approx(1 - found.probability, abs=1e-6)


def test_occlusion_is_what_leaving_out_changes(deep: TextClassifier) -> None:
    words = ["a", "lovely", "film", "and", "cold"]
    found = explain(deep, " ".join(words), method="occlusion")
    whole = log_odds(deep, " ".join(words), found.label)
    for i in range(len(words)):
        without = log_odds(deep, " ".join(words[:i] + words[i + 1 :]), found.label)
        assert found.contributions[i] == pytest.approx(whole - without, abs=1e-5)


@pytest.mark.parametrize("which", ["classifier", "deep"])
def test_the_probability_grows_word_by_word(which: str, request: pytest.FixtureRequest) -> None:
    model: TextClassifier = request.getfixturevalue(which)
    found = explain(model, "a film, so dreadful")
    column = model.classes_.tolist().index(found.label)
    prefixes = ["a", "a film", "a film,", "a film, so", "a film, so dreadful"]
    expected = model.predict_proba(prefixes)[:, column]
    np.testing.assert_allclose(found.probabilities, expected, rtol=1e-6)
    assert found.probabilities[-1] == pytest.approx(found.probability)


def without_content(classifier: TextClassifier) -> TextClassifier:
    """The same model with nothing but zeros for every word."""
    parameters = {name: value.copy() for name, value in classifier.model_.parameters.items()}
    parameters["embedding.weight"][UNKNOWN_ID:] = 0.0
    other = copy.copy(classifier)
    other.model_ = TextModel(classifier.model_.config, parameters)
    return other


@pytest.mark.parametrize("label", ["good", "bad", "fair"])
@pytest.mark.parametrize("which", [0, 1], ids=["plain", "deep"])
def test_integrated_slopes_add_up(
    three: tuple[TextClassifier, ...], which: int, label: str
) -> None:
    """To the change of the log-odds from a text of words without content."""
    text = "a lovely film and warm"
    model = copy.copy(three[which])
    model.ngrams_ = None  # whose part is not on the way
    found = explain(model, text, method="integrated", label=label)
    change = log_odds(model, text, label) - log_odds(without_content(model), text, label)
    assert abs(change) > 0.5
    assert found.contributions.sum() == pytest.approx(change, rel=0.01, abs=0.01)


@pytest.mark.parametrize("method", ["gradient", "integrated"])
def test_ngrams_are_shared_by_their_words(deep: TextClassifier, method: str) -> None:
    """A network that says nothing: each occurrence of an n-gram has its part of the weight."""
    model = copy.copy(deep)
    model.mix_ = (0.0, 0.7)
    assert model.ngrams_ is not None
    scores = model.ngrams_.scores(["lovely", "film", "lovely lovely", "lovely film", "zzz"])
    lovely, film, twice, both = scores[:4, 0] - model.ngrams_.bias[0]
    twice, both = twice - lovely, both - lovely - film
    expected = np.array([lovely + twice, lovely + twice + both, 2 * film + both]) / 2 * 0.7
    assert abs(expected).min() > 0.01
    for label, sign in (("good", 1.0), ("bad", -1.0)):
        found = explain(model, "lovely lovely film", method=method, label=label)
        sign *= 1.0 if model.classes_[1] == "good" else -1.0
        np.testing.assert_allclose(found.contributions, sign * expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("label", ["good", "bad", "fair"])
def test_integrated_slopes_add_up_with_ngrams(
    three: tuple[TextClassifier, ...], label: str
) -> None:
    """To the change from words without content, of which no n-gram says anything."""
    model = three[1]
    text = "a lovely film and warm"
    assert model.ngrams_ is not None
    found = explain(model, text, method="integrated", label=label)
    empty = without_content(model)
    empty.ngrams_ = replace(model.ngrams_, weights=np.zeros_like(model.ngrams_.weights))
    change = log_odds(model, text, label) - log_odds(empty, text, label)
    assert abs(change) > 0.5
    assert found.contributions.sum() == pytest.approx(change, rel=0.01, abs=0.01)


@pytest.mark.parametrize("label", ["good", "bad", "fair"])
@pytest.mark.parametrize("which", ["plain", "deep", "ngrams"])
def test_stages_are_texts_without_their_strongest_words(
    three: tuple[TextClassifier, ...],
    deep: TextClassifier,
    which: str,
    label: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for choices in ("_POINTS", "_STAGE_POINTS"):  # what is enough for each text is another matter
        monkeypatch.setattr(slopes, choices, (128,))
    if which == "ngrams" and label == "fair":
        return  # of two classes
    model = {"plain": three[0], "deep": three[1], "ngrams": deep}[which]
    words = "a lovely film and so warm a dreadful film and cold so lovely and a warm cold film"
    text = words + " so a film and a film so and a film and so a film so a film and a"
    count = len(text.split())

    def worth(kept: list[int]) -> dict[int, float]:
        left = " ".join(text.split()[i] for i in kept)
        found = explain(model, left, label=label, method="integrated").contributions
        return dict(zip(kept, found.tolist(), strict=True))

    stages = [worth(list(range(count)))]
    by_strength = sorted(range(count), key=lambda i: -abs(stages[0][i]))
    stages += [worth(sorted(by_strength[gone:])) for gone in (1, 2, 4, 9)]  # of 37 words
    expected = [np.mean([stage[i] for stage in stages if i in stage]) for i in range(count)]
    found = explain(model, text, label=label)
    assert found.method == "staged"
    assert np.abs(found.contributions - list(stages[0].values())).max() > 0.05
    np.testing.assert_allclose(found.contributions, expected, rtol=1e-3, atol=1e-4)


def test_stages_are_of_what_is_read(three: tuple[TextClassifier, ...]) -> None:
    """Words that are cut are no strong ones, however many they are."""
    model = copy.copy(three[0])
    config = replace(model.model_.config, max_length=40)
    model.model_ = TextModel(config, dict(model.model_.parameters))
    words = "so a warm film and cold so lovely and a warm cold film so a lovely dreadful film and a"
    read = " ".join([words, words])
    assert len(read.split()) == 40
    for text in (read, "film " * 200 + read):
        staged, first = (
            explain(model, text, label="good", method=method).contributions
            for method in ("staged", "integrated")
        )
        assert np.abs(staged - first)[-40:].max() > 0.05
        assert not staged[:-40].any()


@pytest.mark.parametrize("count", [1, 5, 31])
def test_few_words_have_one_stage(classifier: TextClassifier, count: int) -> None:
    text = " ".join((["so", "lovely", "a", "cold", "film"] * 7)[:count])
    found, expected = (
        explain(classifier, text, method=method) for method in ("staged", "integrated")
    )
    np.testing.assert_array_equal(found.contributions, expected.contributions)


@pytest.fixture(scope="module")
def several() -> TextClassifier:
    """Of texts that may have several labels."""
    labels = [[word for word in ("lovely", "warm", "film") if word in text] for text in TEXTS]
    return TextClassifier(**OPTIONS).fit(TEXTS, labels)


def test_of_several_labels_each_has_its_own_probability(several: TextClassifier) -> None:
    text = "a lovely film"
    shares = several.predict_proba([text])[0]
    assert shares.sum() > 1.5
    likeliest = explain(several, text)
    assert likeliest.label == several.classes_[shares.argmax()]
    for number, label in enumerate(several.classes_.tolist()):
        found = explain(several, text, label=label, method="occlusion")
        assert found.probability == shares[number]
        assert found.probabilities[-1] == pytest.approx(shares[number], rel=1e-5)
        without = several.predict_proba(["lovely film", "a film", "a lovely"])[:, number]
        fall = np.log(shares[number] / (1 - shares[number])) - np.log(without / (1 - without))
        np.testing.assert_allclose(found.contributions, fall, atol=1e-4)


@pytest.mark.parametrize("which", ["two classes", "three classes", "several labels"])
def test_gradients_are_slopes(
    which: str,
    classifier: TextClassifier,
    three: tuple[TextClassifier, ...],
    several: TextClassifier,
) -> None:
    """Finite differences along each word's own vector, of the log-odds that are said."""
    models = {"two classes": classifier, "three classes": three[0], "several labels": several}
    model = models[which]
    assert model.mix_[0] != 1.0
    text = "a lovely film"
    found = explain(model, text, method="gradient")
    table = model.model_.parameters["embedding.weight"]
    parameters = {name: value.copy() for name, value in model.model_.parameters.items()}
    for word, value in zip(found.tokens, found.contributions.tolist(), strict=True):
        number = model.tokenizer_.vocabulary.id_of(word)
        odds = []
        for factor in (1.01, 0.99):
            parameters["embedding.weight"][...] = table
            parameters["embedding.weight"][number] *= np.float32(factor)
            moved = copy.copy(model)
            moved.model_ = type(model.model_)(model.model_.config, parameters)
            odds.append(log_odds(moved, text, found.label))
        assert value == pytest.approx((odds[0] - odds[1]) / 0.02, rel=0.02, abs=2e-3)


def test_padding_that_is_read_from_the_end_is_no_word() -> None:
    config = ModelConfig(
        vocabulary_size=9,
        embedding_size=3,
        hidden_size=5,
        max_length=7,
        masked=False,
        bidirectional=True,
    )
    model = random_classifier(config, 3)
    moved = copy.copy(model)
    for text in ("w1", "w3 w1 zz w2", "w4 w2 w1 w0 w3"):
        found = explain(model, text, method="gradient")
        for word, value in zip(found.tokens, found.contributions.tolist(), strict=True):
            odds = []
            for factor in (1.01, 0.99):
                parameters = {name: each.copy() for name, each in model.model_.parameters.items()}
                number = model.tokenizer_.vocabulary.id_of(word)
                parameters["embedding.weight"][number] *= np.float32(factor)
                moved.model_ = TextModel(config, parameters)
                odds.append(log_odds(moved, text, found.label))
            assert value == pytest.approx((odds[0] - odds[1]) / 0.02, rel=0.01, abs=2e-4)
    vocabulary = model.tokenizer_.vocabulary
    model.tokenizer_ = Tokenizer("words", vocabulary, start=False, unknown=False)
    assert explain(model, "zz zz").contributions.tolist() == [0.0, 0.0]


def test_several_classes(isa: str) -> None:
    texts = ["red apple", "green apple", "blue sky", "red sky", "green sky", "blue apple"] * 15
    labels = ["red", "green", "blue", "red", "green", "blue"] * 15
    model = TextClassifier(**OPTIONS).fit(texts, labels)
    for method in METHODS:
        found = explain(model, "a green apple", method=method)
        assert found.label == "green"
        assert found.tokens[int(found.contributions.argmax())] == "green"
        against = explain(model, "a green apple", label="red", method=method)
        assert against.tokens[int(against.contributions.argmin())] == "green"


def test_a_long_text_is_explained_where_it_is_read() -> None:
    model = train(max_length=5)
    text = "lovely lovely " + "film " * 10 + "cold"
    for method in METHODS:
        found = explain(model, text, method=method)
        assert found.label == "bad"
        assert found.contributions[0] == pytest.approx(0.0, abs=1e-9)
        assert found.contributions.argmax() == len(found.tokens) - 1


@pytest.mark.parametrize("keep", ["end", "start", "both"])
@pytest.mark.parametrize("start", [True, False])
@pytest.mark.parametrize("unknown", [True, False])
@pytest.mark.parametrize("method", ["gradient", "integrated", "staged"])
def test_each_word_gets_its_own_slope(
    classifier: TextClassifier, method: str, unknown: bool, start: bool, keep: str
) -> None:
    """Only what is read can matter: what is left out of the text changes nothing there."""
    other = copy.copy(classifier)
    vocabulary = classifier.tokenizer_.vocabulary
    other.tokenizer_ = Tokenizer("words", vocabulary, keep, start=start, unknown=unknown)
    config = replace(classifier.model_.config, max_length=4)
    other.model_ = TextModel(config, dict(classifier.model_.parameters))
    for words in ("cold zzz lovely", "lovely cold zzz warm dreadful so film a"):
        found = explain(other, words, method=method)
        shown = other.tokenizer_.token_strings(words, 4)
        for token, value in zip(found.tokens, found.contributions.tolist(), strict=True):
            assert (value != 0.0) == (token in shown) or abs(value) < 1e-12, (token, shown)
        read = [token for token in shown if token != START_MARK]
        expected = explain(other, " ".join(read), method=method)
        if len(shown) == len(read) + (start and len(words.split()) < 4):
            kept = dict(zip(found.tokens, found.contributions.tolist(), strict=True))
            for token, value in zip(expected.tokens, expected.contributions, strict=True):
                if not start and method != "staged":  # whose shorter contexts read other words
                    assert kept[token] == pytest.approx(value, abs=1e-5)


def test_the_classifier_explains(deep: TextClassifier) -> None:
    text = "A lovely,\nlovely film"
    found = deep.explain(text, traces=True)
    plain = explain(deep, text)
    assert plain.method == "staged"
    np.testing.assert_array_equal(found.contributions, plain.contributions)
    assert plain.traces == ()
    assert [(trace.layer, trace.direction) for trace in found.traces] == [
        (0, "forward"), (0, "backward"), (1, "forward"), (1, "backward"),
    ]  # fmt: skip
    assert found.traces[0].tokens == [START_MARK, *found.tokens]
    records = found.records()
    assert records["token"].tolist() == found.tokens
    assert records["contribution"].tolist() == found.contributions.tolist()
    assert records[1].tolist()[:3] == ("lovely", 2, 8)
    told = found.to_json()["words"]
    assert [word["probability_after"] for word in told] == records["probability_after"].tolist()
    ours, theirs = (inspect.signature(f).parameters for f in (explain, TextClassifier.explain))
    for name in ("label", "method", "traces"):
        assert ours[name].default == theirs[name].default
    with pytest.raises(NotFittedError):
        TextClassifier().explain("a film")


def test_a_text_of_many_words_takes_little_memory(deep: TextClassifier) -> None:
    text = "lovely film " * 1_500
    tracemalloc.start()
    found = explain(deep, text, method="occlusion")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found.tokens) == 3_000
    assert peak < 60e6  # all variants together are 54 MB of characters, and as much in a list


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"text": " \n"}, DataError, "the text has no words to explain"),
        ({"text": "a", "label": "fair"}, DataError, "label 'fair' is not one of the model's: bad"),
        ({"text": "a", "method": "lime"}, ConfigError, "method='lime' is not one of staged"),
    ],
)
def test_what_cannot_be_explained(
    classifier: TextClassifier, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        explain(classifier, **arguments)


# --- where words stand


ODD = st.text("aBé .,'’<br/>\n\tİΣσ😀我ไ\u0301\u00ad\ufe0fß-", max_size=40)


@pytest.mark.parametrize("kind", TOKENIZERS)
@given(text=ODD | st.text(max_size=30))
def test_places_are_those_of_the_tokens(kind: TokenizerKind, text: str) -> None:
    found, places = tokens(kind, text), place_tokens(kind, text)
    assert len(places) == len(found)
    at = 0
    for token, (begin, end) in zip(found, places, strict=True):
        assert at <= begin < end <= len(text)
        at = end
        if token == BREAK and kind == "words":
            assert text[begin] in "\n\r<"
        elif text.isascii():
            assert text[begin:end].lower() == token


def test_pieces_are_the_text(classifier: TextClassifier) -> None:
    text = "  A lovely,\n\nLOVELY film’s end 😀 "
    found = explain(classifier, text)
    assert "".join(piece for piece, _ in words_and_gaps(found)) == text
    assert [piece for piece, value in words_and_gaps(found) if value is not None] == [
        "A", "lovely", ",", "\n", "LOVELY", "film’s", "end", "😀",
    ]  # fmt: skip
    assert [strength(value, 2.0) for value in (2.0, -2.0, 0.2, 0.7, -1.4)] == [3, -3, 0, 1, -2]
    assert strength(1.0, 0.0) == 0


# --- the command line


@pytest.fixture(scope="module")
def saved(classifier: TextClassifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    classifier.save(path)
    return path


def run(*arguments: object) -> int:
    return cli.main([str(argument) for argument in arguments])


def test_the_command_shows_signs(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("explain", saved, "so lovely") == 0
    text, _, label, heads, *words = capsys.readouterr().out.splitlines()
    assert "lovely+++" in text
    assert label.startswith("good  0.9")
    assert heads == "log-odds  probability after  word"
    assert {line.split()[2] for line in words} == {"so", "lovely"}
    assert any(line.split()[1] == label.split()[1] for line in words)


def test_the_command_writes_json_and_a_page(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "why.html"
    hostile = "<script>alert(1)</script> & lovely \u202e\n\u2066"
    assert run("explain", saved, hostile, "--json", "--html", page, "--label", "bad") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["label"] == "bad"
    assert told["text"] == hostile
    assert [word["token"] for word in told["words"]] == tokens("words", hostile)
    assert all(hostile[word["begin"] : word["end"]] for word in told["words"])
    written = page.read_text(encoding="utf-8")
    assert "<script" not in written
    assert "&lt;" in written
    assert 'class="against3">lovely<' in written
    assert "default-src 'none'" in written
    # Marks that would turn the page's own words round are spelt out.
    assert "\u202e" not in written
    assert "\u2066" not in written
    assert "\\u202e\n\\u2066" in written


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--label", "fair"], "--label 'fair' is not one of bad, good"),
        (["--method", "lime"], "--method='lime' is not one of staged"),
        (["--html", "/nowhere/page.html"], "/nowhere"),
    ],
)
def test_the_command_refuses_in_one_line(
    saved: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("explain", saved, "a film", *arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
