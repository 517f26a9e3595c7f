"""The page in a browser: typed into, compared, pointed at, moved through by keys, attacked."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("playwright")

from playwright.sync_api import Browser, Locator, Page, expect

from browsing import Watched, browser
from foreign import random_classifier
from tidegate import TextClassifier
from tidegate.interop.html_export import export_html
from tidegate.model import ModelConfig

TEXT = "A lovely film, but the end is dull."
PAIRS = [("what a lovely warm film", "good"), ("the end is a dull mess !", "bad")] * 12


@pytest.fixture(scope="module")
def opened() -> Iterator[Browser]:
    with browser() as found:
        yield found


def _trained(cell: str) -> TextClassifier:
    texts, labels = zip(*PAIRS, strict=True)
    classifier = TextClassifier(
        cell=cell,
        embedding_size=8,
        hidden_size=9,
        max_length=20,
        epochs=40,
        learning_rate=0.02,
        batch_size=8,
        masked=True,
        validation_fraction=0.0,
        calibrate=False,
    )
    return classifier.fit(texts, labels)


@pytest.fixture(scope="module")
def models() -> dict[str, TextClassifier]:
    return {"gru": _trained("gru"), "lstm": _trained("lstm")}


@pytest.fixture(scope="module")
def folder(models: dict[str, TextClassifier], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both models as files of their names, and the GRU as a page."""
    made = tmp_path_factory.mktemp("models")
    for name, classifier in models.items():
        classifier.save(made / f"{name}.safetensors")
    export_html(models["gru"], made / "gru.html")
    return made


@pytest.fixture(scope="module")
def file(folder: Path) -> str:
    return (folder / "gru.html").as_uri()


@contextmanager
def _serving(folder: Path, **environment: str) -> Iterator[str]:
    """``tidegate serve`` with both models, in a process of its own."""
    pytest.importorskip("fastapi")
    command = [sys.executable, "-m", "tidegate", "serve", "--port", "0"]
    command += [str(folder / f"{name}.safetensors") for name in ("gru", "lstm")]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **environment},
    )
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        address = re.search(r"http://127\.0\.0\.1:\d+", said)
        assert address is not None, said + process.stdout.read()
        yield address[0]
    finally:
        process.terminate()
        process.communicate(timeout=30)


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    with _serving(folder) as found:
        yield found


@contextmanager
def _visit(opened: Browser, home: str, **options: Any) -> Iterator[Page]:
    """The page, on which nothing may go wrong and from which nothing may be asked elsewhere."""
    context = opened.new_context(**options)
    watched = Watched(context.new_page(), home)
    watched.page.goto(home)
    yield watched.page
    context.close()
    assert watched.troubles == []


def _type(page: Page, text: str, panels: int = 1) -> None:
    page.get_by_label("Text", exact=True).fill(text)
    expect(page.locator(".panel:not(.busy) .results:visible")).to_have_count(panels, timeout=60_000)
    page.wait_for_timeout(300)  # longer than the pause after a key
    expect(page.locator(".panel:not(.busy) .results:visible")).to_have_count(panels, timeout=60_000)


def _word(page: Page, text: str) -> Locator:
    return page.locator(".reading .word", has_text=re.compile(f"^{re.escape(text)}$")).first


def test_the_file_says_what_python_says(
    opened: Browser, file: str, models: dict[str, TextClassifier]
) -> None:
    shares = models["gru"].predict_proba([TEXT])[0]
    label = models["gru"].classes_[shares.argmax()]
    with _visit(opened, file) as page:
        expect(page.locator("#hint")).to_be_visible()
        expect(page.locator("#checked")).to_contain_text("8 texts, largest difference")
        expect(page.locator("#checked")).not_to_contain_text("do not trust")
        _type(page, TEXT)
        expect(page.locator(".answer strong")).to_have_text(str(label))
        shown = page.locator(".answer .share").inner_text()
        assert float(shown.strip("<>% ")) == pytest.approx(100 * shares.max(), abs=0.51)
        assert page.locator(".reading").inner_text() == TEXT
        assert page.locator(".word").count() == 10 + 2  # the hint's two are hidden
        expect(page.locator(".chart .line")).to_be_visible()
        page.get_by_label("Text", exact=True).fill("  ")
        expect(page.locator("#hint")).to_be_visible()
        expect(page.locator(".results")).not_to_be_visible()


def test_the_equations_hold(opened: Browser, file: str) -> None:
    with _visit(opened, file) as page:
        _type(page, TEXT)
        _word(page, "lovely").click()
        expect(page.locator(".where bdi")).to_have_text("lovely")
        rows = page.locator(".equation .numbers")
        expect(rows).to_have_count(4)
        found = [
            row.replace("\u2212", "-").replace("\u00d7", "*") for row in rows.all_inner_texts()
        ]
        names = {"σ": lambda x: 1 / (1 + np.exp(-x)), "tanh": np.tanh}
        for row in found:
            left, right = row.split(" = ")
            assert re.fullmatch(r"[-+*(). \d]+", left.replace("σ", "").replace("tanh", "")), left
            value = eval(left, {"__builtins__": {}}, names)  # noqa: S307 (numbers and signs alone)
            assert value == pytest.approx(float(right), abs=4e-3), row


def test_keys_go_through_words_and_units(opened: Browser, file: str) -> None:
    with _visit(opened, file) as page:
        _type(page, TEXT)
        # From the text area on, Tab alone leads to the words and to the heat map.
        page.get_by_label("Text", exact=True).focus()
        for _ in range(4):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.classList.contains('word')"):
                break
        page.keyboard.press("Home")
        expect(_word(page, "A")).to_be_focused()
        page.keyboard.press("ArrowRight")
        expect(_word(page, "lovely")).to_be_focused()
        expect(_word(page, "lovely")).to_have_attribute("aria-pressed", "true")
        outline = _word(page, "lovely").evaluate("e => getComputedStyle(e).outlineStyle")
        assert outline == "solid"
        expect(page.locator(".detail")).to_contain_text("lovely")
        expect(page.locator(".where bdi")).to_have_text("lovely")
        assert page.locator(".word[tabindex='0']").count() == 1
        heat = page.locator(".scroller")
        heat.focus()
        page.keyboard.press("PageUp")
        before = page.locator(".heat .readout").inner_text()
        page.keyboard.press("ArrowDown")
        below = page.locator(".heat .readout").inner_text()
        assert below.startswith("lovely")
        assert below != before
        page.keyboard.press("ArrowUp")
        expect(page.locator(".heat .readout")).to_have_text(before)
        page.keyboard.press("ArrowRight")
        expect(page.locator(".heat .readout")).to_contain_text("film")
        expect(_word(page, "film")).to_have_attribute("aria-pressed", "true")
        expect(page.locator(".where bdi")).to_have_text("film")
        page.keyboard.press("End")
        expect(page.locator(".where bdi")).to_have_text(".")
        page.get_by_label("update", exact=True).press("Space")
        expect(page.locator(".heat .readout")).to_contain_text("update")


def test_pointing_shows_a_word_for_as_long(opened: Browser, file: str) -> None:
    with _visit(opened, file) as page:
        _type(page, TEXT)
        chosen = page.locator(".detail").inner_text()
        _word(page, "dull").hover()
        expect(page.locator(".detail")).to_contain_text("dull")
        expect(page.locator(".chart .mark circle")).to_be_visible()
        page.locator(".masthead").hover()
        expect(page.locator(".detail")).to_have_text(chosen)
        chart = page.locator(".chart")
        chart.hover(position={"x": 45, "y": 50})
        expect(page.locator(".detail")).to_contain_text("a ")
        page.locator(".plane canvas").hover(position={"x": 3, "y": 3})
        expect(page.locator(".heat .readout")).to_contain_text("<start>")


def test_no_sign_is_colour_alone(opened: Browser, file: str) -> None:
    with _visit(opened, file) as page:
        _type(page, "lovely dull warm !")
        for side, line in (("for", "solid"), ("against", "dashed")):
            words = page.locator(f".reading .{side}")
            assert words.count() > 0
            style = words.first.evaluate("e => getComputedStyle(e).textDecorationStyle")
            assert style == line
            said = words.first.get_attribute("aria-label")
            assert said is not None
            assert re.search(rf"speaks {side} \w+, [+\u2212]\d", said)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark(opened: Browser, file: str, scheme: Any) -> None:
    with _visit(opened, file, color_scheme=scheme) as page:
        _type(page, TEXT)
        for element in (".answer strong", ".detail", ".formula", ".note:visible"):
            assert _contrast(page.locator(element).first) >= 4.5, element
        dark = page.evaluate(
            "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0] < 60"
        )
        assert dark == (scheme == "dark")


def _contrast(element: Locator) -> float:
    """WCAG's ratio of an element's letters to the page's ground."""
    colours = element.evaluate(
        "e => [getComputedStyle(e).color, getComputedStyle(document.body).backgroundColor]"
    )

    def luminance(colour: str) -> float:
        parts = np.array([float(part) for part in re.findall(r"[\d.]+", colour)[:3]]) / 255
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    low, high = sorted(map(luminance, colours))
    return (high + 0.05) / (low + 0.05)


def test_on_a_phone_nothing_is_cut(opened: Browser, file: str) -> None:
    size: Any = {"width": 320, "height": 640}
    with _visit(opened, file, viewport=size, has_touch=True, reduced_motion="reduce") as page:
        _type(page, f"{TEXT} {'w' * 200}")
        assert page.evaluate("document.documentElement.scrollWidth") <= 320
        _word(page, "lovely").tap()
        expect(page.locator(".where bdi")).to_have_text("lovely")
        moved = page.locator(".results").evaluate("e => getComputedStyle(e).transitionDuration")
        assert moved in ("0s", "0s, 0s")


HOSTILE = [
    "<script>window.hacked = 1</script> lovely <img src=x onerror='window.hacked=1'>",
    "lovely \u202e\u2066dull \u2067film\u202d \u05e9\u05dc\u05d5\u05dd \u0627\u0644\u0646",
    "</textarea></script><svg onload=window.hacked=1> {{7*7}} ${7*7} &lt;b&gt; '\"`",
    "a\u0000b \ufeff\u200b\u0301\u0301 lovely \U0001f469\u200d\U0001f467 \U0001f44d\U0001f3fd dull",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_texts_stay_texts(opened: Browser, file: str, text: str) -> None:
    with _visit(opened, file) as page:
        _type(page, text)
        shown = page.locator(".reading").evaluate("e => e.textContent")
        assert shown == page.get_by_label("Text", exact=True).input_value()
        assert page.evaluate("window.hacked") is None
        assert page.locator("main :is(script, img, svg[onload])").count() == 0
        isolation = page.locator(".reading").evaluate("e => getComputedStyle(e).unicodeBidi")
        assert isolation in ("isolate", "plaintext")
        # What comes behind the text on its line is not turned round by it.
        for quoted in page.locator("bdi").all():
            assert quoted.evaluate("e => getComputedStyle(e).unicodeBidi").startswith("isolate")


def test_100_000_characters(opened: Browser, file: str) -> None:
    text = ("lovely dull film , unseen " * 5000)[:100_000]
    with _visit(opened, file) as page:
        _type(page, text)
        expect(page.locator(".panel header .note[role=status]")).to_contain_text(
            "The network reads 20 of"
        )
        assert page.locator(".reading .word").count() == 2_000
        expect(page.locator(".omitted")).to_contain_text("words not shown here")
        _type(page, TEXT)
        assert page.locator(".reading").inner_text() == TEXT


def test_what_is_typed_last_is_what_is_shown(opened: Browser, file: str) -> None:
    with _visit(opened, file) as page:
        field = page.get_by_label("Text", exact=True)
        for length in range(1, len(TEXT) + 1, 3):
            field.fill(TEXT[:length] * 20)
            page.wait_for_timeout(20 * (length % 4) ** 2)
        _type(page, TEXT)
        assert page.locator(".reading").inner_text() == TEXT


def test_many_labels_and_layers(opened: Browser, tmp_path: Path) -> None:
    config = ModelConfig(
        vocabulary_size=12,
        embedding_size=4,
        hidden_size=5,
        classes=9,
        max_length=8,
        masked=True,
        layers=2,
        bidirectional=True,
    )
    export_html(random_classifier(config), tmp_path / "m.html")
    with _visit(opened, (tmp_path / "m.html").as_uri()) as page:
        _type(page, "w0 w1 w2 w3")
        expect(page.locator(".bars li")).to_have_count(6)
        expect(page.locator(".verdict .note")).to_have_text("and 3 other labels")
        page.get_by_label("Explain").select_option("label 4")
        expect(page.locator(".detail")).to_contain_text("label 4")
        page.get_by_label("layer 2, from the end").check()
        expect(page.locator(".where")).to_contain_text("read from the end")


# --- with a server


def test_two_models_side_by_side(
    opened: Browser, address: str, models: dict[str, TextClassifier]
) -> None:
    with _visit(opened, address) as page:
        page.get_by_label("Model").select_option("gru")
        page.get_by_label("Beside it").select_option("lstm")
        _type(page, TEXT, panels=2)
        panels = page.locator(".panel")
        for i, (name, classifier) in enumerate(models.items()):
            shares = classifier.predict_proba([TEXT])[0]
            panel = panels.nth(i)
            expect(panel.locator("h2 bdi")).to_have_text(name)
            expect(panel.locator(".answer strong")).to_have_text(
                str(classifier.classes_[shares.argmax()])
            )
            shown = panel.locator(".answer .share").inner_text()
            assert float(shown.strip("<>% ")) == pytest.approx(100 * shares.max(), abs=0.51)
        expect(panels.nth(0).locator(".equation")).to_have_count(4)
        expect(panels.nth(1).locator(".equation")).to_have_count(6)
        # A word that is chosen in one is chosen in the other.
        panels.nth(0).locator(".word", has_text="dull").click()
        expect(panels.nth(1).locator(".where bdi")).to_have_text("dull")
        page.get_by_label("Beside it").select_option("nothing")
        expect(panels).to_have_count(1)


def test_the_server_and_the_file_agree(opened: Browser, address: str, file: str) -> None:
    found = []
    for home in (address, file):
        with _visit(opened, home) as page:
            _type(page, TEXT)
            labels = page.locator(".reading .word").evaluate_all(
                "words => words.map((word) => word.textContent)"
            )
            found.append((labels, page.locator(".bars .share").all_inner_texts()))
            expect(page.locator(".verdict .note")).to_have_count(0)
            _type(page, "qwfp zxcv")
            expect(page.locator(".verdict .note")).to_have_text(
                re.compile("its label means nothing")
            )
    assert found[0] == found[1]


def test_errors_are_told_in_one_line(opened: Browser, folder: Path) -> None:
    context = opened.new_context()
    page = context.new_page()
    with _serving(folder) as address:
        page.goto(address)
        page.get_by_label("Text", exact=True).fill("lovely " * 6_000)
        expect(page.locator(".panel .problem")).to_contain_text("tokens", timeout=60_000)
        expect(page.locator(".answer strong")).to_be_visible()
        expect(page.locator(".results")).not_to_be_visible()
        _type(page, TEXT)
        expect(page.locator(".panel .problem")).not_to_be_visible()
    page.get_by_label("Text", exact=True).fill("lovely")
    expect(page.locator(".panel .problem")).to_have_text(
        "the server does not answer; is it still running?", timeout=60_000
    )
    context.close()


def test_a_token_is_asked_for(opened: Browser, folder: Path) -> None:
    token = "a long enough token".replace(" ", "-")
    with _serving(folder, TIDEGATE_TOKEN=token) as address:
        context = opened.new_context()
        page = context.new_page()
        page.goto(address)
        field = page.get_by_label("This server asks for a token")
        field.fill("wrong")
        field.press("Enter")
        expect(page.locator("#problem")).to_be_visible()
        field.fill(token)
        field.press("Enter")
        expect(field).not_to_be_visible()
        _type(page, TEXT)
        context.close()
