"""Does an exported page say of real reviews what Python says of them?

Each model file becomes a page with each kind of weights, which a browser opens from disk; the page
then scores N test reviews of IMDB. What float16 and float32 weights give is compared with the model
itself, what int8 weights give with what a model saved with ``quantize="int8"`` gives. Fewer of the
reviews are explained, too, and each word's contribution is compared with the one that Python's
default method finds with the very weights that the page has.

Contributions are ranked on the way, and the browser's float64 can decide otherwise than float32
between two words that weigh the same but for rounding: then one context has the other one of them.
So beside the largest difference stands how many reviews have one above 1e-3 nats.

The exit status is 1 if a probability differs by more than 1e-3.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from machine import add_output, versions, write_result
from playwright.sync_api import Browser, sync_playwright
from reviews import official_reviews

from tidegate import TextClassifier
from tidegate.interop.html_export import WEIGHTS, export_html
from tidegate.model import TextModel

MOST = 1e-3
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SCORE = """async (texts) =>
  (await tidegate.predict(texts)).map((result) => Object.values(result.probabilities))"""
EXPLAIN = """async (text) => {
  const begun = performance.now();
  const { label, words } = await tidegate.explain(text);
  const milliseconds = performance.now() - begun;
  return { label, milliseconds, contributions: words.map((word) => word.contribution) };
}"""


def main() -> None:
    options = parse_options()
    _, reviews = official_reviews(None)
    texts = reviews.texts
    chosen = [texts[i] for i in np.linspace(0, len(texts) - 1, options.texts).astype(int)]
    runs = []
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        path = next(filter(None, map(shutil.which, BROWSERS)))
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for model in options.models:
            for weights in WEIGHTS:
                measured = measure(browser, model, weights, chosen, options.explained, folder)
                run = {"model": model.stem, **measured}
                print(
                    f"{run['model']:<12}{weights:<9}{run['megabytes']:>6.1f} MB  largest "
                    f"differences {run['difference']:.2g}, {run['contributions']:.2g} nats "
                    f"({run['apart']} reviews above {MOST:g}); "
                    f"{run['milliseconds']:.0f} ms an explanation",
                    flush=True,
                )
                runs.append(run)
        version = browser.version
        browser.close()
    write_result(
        options.output,
        versions={**versions("tidegate", "numpy", "playwright"), "chromium": version},
        settings={"tolerance": MOST, "texts": options.texts, "explained": options.explained},
        runs=runs,
        summary={
            "largest": max(run["difference"] for run in runs),
            "contributions": max(run["contributions"] for run in runs),
        },
    )
    raise SystemExit(0 if all(run["difference"] <= MOST for run in runs) else 1)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL")
    parser.add_argument("--texts", type=int, default=1_000, metavar="N")
    parser.add_argument("--explained", type=int, default=100, metavar="N")
    add_output(parser)
    return parser.parse_args()


def measure(
    browser: Browser, model: Path, weights: str, texts: list[str], explained: int, folder: str
) -> dict[str, Any]:
    classifier = TextClassifier.load(model)
    path = Path(folder) / f"{model.stem}.html"
    export_html(classifier, path, weights=weights)
    if weights == "int8":
        classifier.save(Path(folder) / "int8.safetensors", quantize="int8")
        classifier = TextClassifier.load(Path(folder) / "int8.safetensors")
    page = browser.new_page()
    page.goto(path.as_uri())
    page.locator("#checked:not(:empty)").wait_for()
    found = page.evaluate(SCORE, texts)
    difference = np.abs(np.array(found) - classifier.predict_proba(texts)).max()
    if weights == "float16":
        classifier.model_ = halved(classifier.model_)
    chosen = [texts[i] for i in np.linspace(0, len(texts) - 1, explained).astype(int)]
    explanations = [page.evaluate(EXPLAIN, text) for text in chosen]
    page.close()
    gaps = [gap(classifier, *pair) for pair in zip(chosen, explanations, strict=True)]
    return {
        "weights": weights,
        "megabytes": path.stat().st_size / 1e6,
        "difference": float(difference),
        "contributions": max(gaps),
        "apart": sum(gap > MOST for gap in gaps),
        "milliseconds": float(np.median([found["milliseconds"] for found in explanations])),
    }


def halved(model: TextModel) -> TextModel:
    """The model with the weights that a page has in 16 bits."""
    parameters = {
        name: value.astype(np.float16).astype(np.float32) if value.ndim == 2 else value
        for name, value in model.parameters.items()
    }
    return TextModel(model.config, parameters, model.precision)


def gap(classifier: TextClassifier, text: str, found: dict[str, Any]) -> float:
    """The largest difference of a word's contribution, in nats."""
    wanted = classifier.explain(text, label=found["label"])
    return float(np.abs(wanted.contributions - found["contributions"]).max())


if __name__ == "__main__":
    main()
