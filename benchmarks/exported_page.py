"""Does an exported page give real reviews the probabilities that Python gives them?

Each model file becomes a page with each kind of weights, which a browser opens from disk; the page
then scores the first N test reviews of IMDB. What float16 and float32 weights give is compared with
the model itself, what int8 weights give with what a model saved with ``quantize="int8"`` gives.

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

MOST = 1e-3
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SCORE = """async (texts) =>
  (await tidegate.predict(texts)).map((result) => Object.values(result.probabilities))"""


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
                run = {"model": model.stem, **measure(browser, model, weights, chosen, folder)}
                print(
                    f"{run['model']:<12}{weights:<9}{run['megabytes']:>6.1f} MB  largest "
                    f"difference {run['difference']:.2g}"
                )
                runs.append(run)
        version = browser.version
        browser.close()
    write_result(
        options.output,
        versions={**versions("tidegate", "numpy", "playwright"), "chromium": version},
        settings={"tolerance": MOST, "texts": options.texts},
        runs=runs,
        summary={"largest": max(run["difference"] for run in runs)},
    )
    raise SystemExit(0 if all(run["difference"] <= MOST for run in runs) else 1)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL")
    parser.add_argument("--texts", type=int, default=1_000, metavar="N")
    add_output(parser)
    return parser.parse_args()


def measure(
    browser: Browser, model: Path, weights: str, texts: list[str], folder: str
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
    page.close()
    difference = np.abs(np.array(found) - classifier.predict_proba(texts)).max()
    return {
        "weights": weights,
        "megabytes": path.stat().st_size / 1e6,
        "difference": float(difference),
    }


if __name__ == "__main__":
    main()
