"""The deletion test: what goes when the named words go, and when random ones do."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tidegate import TextClassifier, cli
from tidegate.deletion import deletion_test
from tidegate.errors import ConfigError
from tidegate.explain import METHODS

TEXT = "so lovely a film and warm as the day was long and the end of it is near to a warm film!"


@pytest.fixture(scope="module")
def classifier() -> TextClassifier:
    texts = [
        "a lovely film", "lovely and warm", "so lovely", "a warm film", "warm",
        "a dreadful film", "dreadful and cold", "so dreadful", "a cold film", "cold",
    ] * 12  # fmt: skip
    options: dict[str, Any] = {"embedding_size": 8, "hidden_size": 8, "learning_rate": 0.02}
    options |= {"epochs": 20, "ngrams": 2}
    return TextClassifier(**options).fit(texts, (["good"] * 5 + ["bad"] * 5) * 12)


def log_odds(classifier: TextClassifier, text: str, label: str) -> float:
    share = classifier.predict_proba([text])[0, classifier.classes_.tolist().index(label)]
    return float(np.log(share / (1 - share)))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("label", ["good", "bad"])
def test_falls_are_those_of_the_text_without_the_named_words(
    classifier: TextClassifier, method: str, label: str
) -> None:
    found = classifier.explain(TEXT, label=label, method=method)
    tested = deletion_test(classifier, found, draws=5)
    assert len(found.tokens) == 23
    assert tested.words.tolist() == [1, 2, 3, 5]
    order = sorted(range(23), key=lambda i: -found.contributions[i])
    whole = log_odds(classifier, TEXT, label)
    for i, count in enumerate(tested.words.tolist()):
        left = " ".join(found.tokens[place] for place in sorted(order[count:]))
        odds = log_odds(classifier, left, label)
        assert tested.falls[i] == pytest.approx(whole - odds, abs=1e-4)
        assert tested.probabilities[i] == pytest.approx(1 / (1 + np.exp(-odds)), abs=1e-5)
    assert tested.gain == pytest.approx((tested.falls - tested.random).mean())


def test_random_words_are_drawn_by_the_seed(classifier: TextClassifier) -> None:
    found = classifier.explain(TEXT)
    tested = deletion_test(classifier, found)
    assert tested.draws == 50
    assert tested.to_json() == deletion_test(classifier, found, seed=0).to_json()
    other = deletion_test(classifier, found, seed=1)
    assert (other.random != tested.random).all()
    np.testing.assert_array_equal(other.falls, tested.falls)
    # Of many draws of one word, the mean is that of all words.
    alone = classifier.explain(TEXT, method="occlusion").contributions
    many = deletion_test(classifier, found, draws=2_000)
    assert many.random[0] == pytest.approx(alone.mean(), abs=4 * alone.std() / 2_000**0.5)
    assert many.spread[0] == pytest.approx(alone.std(), rel=0.15)


def test_words_that_say_nothing_gain_nothing(classifier: TextClassifier) -> None:
    found = classifier.explain(TEXT)
    assert deletion_test(classifier, found).gain > 0.5
    contrary = replace(found, contributions=-found.contributions)
    assert deletion_test(classifier, contrary).gain < 0.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"draws": 0}, "draws=0 is not between 1"), ({"seed": -1}, "seed=-1 is not between 0")],
)
def test_what_is_no_test(
    classifier: TextClassifier, arguments: dict[str, int], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        deletion_test(classifier, classifier.explain("a film"), **arguments)


def test_the_command_checks(
    classifier: TextClassifier, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, page = tmp_path / "model.safetensors", tmp_path / "why.html"
    classifier.save(model)
    arguments = ["explain", str(model), TEXT, "--check"]
    assert cli.main([*arguments, "--html", str(page)]) == 0
    lines = capsys.readouterr().out.splitlines()
    tested = deletion_test(classifier, classifier.explain(TEXT))
    assert lines[-6].startswith("words left out  log-odds fall by")
    for line, count, fall in zip(lines[-5:], tested.words, tested.falls, strict=False):
        assert line.split()[:2] == [str(count), f"{fall:.3f}"]
    assert f"weigh {tested.gain:.2f} nats more than random ones" in lines[-1]
    assert lines[-1] in page.read_text(encoding="utf-8")
    assert cli.main(["explain", str(model), TEXT.split()[0], "--check"]) == 0
    assert "nothing to compare" in capsys.readouterr().out.splitlines()[-1]
    assert cli.main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["deletion"] == tested.to_json()
