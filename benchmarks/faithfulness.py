"""Which method names the words that decide? The deletion test, on held-out training reviews.

The lecture's model and one of the preset for people's own files are trained on IMDB's training half
without 2,500 reviews, of which 500 are explained; the test set is not touched. Each method ranks a
review's words by what they say for the predicted label. Then the first 1, 2, 5, 10 and 20 % of them
are left out: by how much do the label's log-odds fall (the area over this curve is its mean), and
does the prediction change? And with these words alone: by how much do the log-odds fall short of
the whole review's?

Beside the library's methods: random words; and LIME's sampling with 1,000 samples, the 5,000 of its
package, and 10,000 (reviews without a random half of their words, and a ridge regression of the
log-odds on what was kept, weighted by an exponential kernel of the cosine distance), scored as fast
as the library scores.

The test is not neutral. Occlusion leaves out single words, which is what the test does at its
smallest number, and the stages of `staged` are texts without their strongest words, as the test's.
So there is a second measure, of another question: when a random tenth of the words goes, how well
does the sum of their contributions say by how much the log-odds fall? It is the correlation of the
two over 50 such tenths of each review.

Differences of two methods are of the same reviews, with 95 % intervals of 1,000 resamples of them.
Times are of reviews of 180 to 220 words, all methods taking turns.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from machine import add_output, spread, usable_cores, versions, write_result
from reviews import official_reviews

from tidegate import TextClassifier, initializers, ops
from tidegate.data import LabeledTexts
from tidegate.deletion import SHARES
from tidegate.erasure import Erasure, log_odds
from tidegate.explain import DEFAULT, METHODS, explain, word_contributions
from tidegate.intervals import resampled
from tidegate.tokens import tokens

Float64 = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

MODELS = ("lecture", "default")
HELD_OUT = 2_500
RANDOM_DRAWS = 10
TENTHS = 50
KERNEL_WIDTH = 0.25  # of LIME's kernel, in cosine distance
RIDGE = 1.0
LIME = {f"LIME, {samples:,} samples": samples for samples in (1_000, 5_000, 10_000)}
PACKAGE = "the package lime"
RANDOM = "random"


def main() -> None:
    options = parse_options()
    ops.set_threads(options.threads)
    train, _ = official_reviews(options.data)
    order = initializers.permutation(options.seed, "faithfulness", len(train)).tolist()
    held, rest = order[:HELD_OUT], order[HELD_OUT:]
    runs: list[dict[str, Any]] = []
    summary = {}
    classifiers = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in MODELS:
            path = (options.models or Path(folder)) / f"faithfulness-{name}.safetensors"
            classifiers[name] = train_or_load(path, name, train, rest)
    texts = [train.texts[row] for row in held]
    labels = [train.labels[row] for row in held]
    for name, classifier in classifiers.items():
        found = [
            measure(classifier, text, row, options)
            for row, text in zip(held, texts[: options.reviews], strict=False)
        ]
        runs += [{"model": name, **each, "methods": areas(each)} for each in found]
        summary[name] = {
            "accuracy": classifier.score(texts, labels),
            "methods": summarize(found),
        }
        print(f"\n{name}, accuracy {summary[name]['accuracy']:.4f}\n{table(summary[name])}")
    for name, classifier in classifiers.items():  # last, when all else is warm
        summary[name]["milliseconds"] = timed(classifier, texts, options)
        print(f"\n{name}: milliseconds of a review of about 200 words")
        for method, each in summary[name]["milliseconds"].items():
            print(f"{method:24s} {each['median']:8.2f} ({each['min']:.2f} to {each['max']:.2f})")
    write_result(
        options.output,
        versions=versions("tidegate", "numpy", *(["lime"] if options.lime_package else [])),
        settings={
            "reviews": options.reviews,
            "held_out": HELD_OUT,
            "seed": options.seed,
            "shares": SHARES,
            "random_draws": RANDOM_DRAWS,
            "lime_samples": list(LIME.values()),
            "lime_kernel_width": KERNEL_WIDTH,
            "timed_reviews": options.timed,
            "default": DEFAULT,
            "tidegate": ops.machine_info(),
        },
        runs=runs,
        summary=summary,
    )


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--reviews", type=int, default=500, metavar="N")
    parser.add_argument("--timed", type=int, default=20, metavar="N", help="reviews to time")
    parser.add_argument("--seed", type=int, default=0, help="which reviews are held out")
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--data", type=Path, help="the IMDB archive, as in `tidegate train`")
    parser.add_argument(
        "--models",
        type=Path,
        metavar="FOLDER",
        help="keep the trained models there, and take those that are there already",
    )
    parser.add_argument(
        "--lime-package",
        action="store_true",
        help="time LIME's own package as it comes, too (pip install lime==0.2.0.1)",
    )
    add_output(parser)
    return parser.parse_args()


def train_or_load(path: Path, name: str, train: LabeledTexts, rows: list[int]) -> TextClassifier:
    """The model of this file, which is made unless it is there."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        texts, labels = ([column[row] for row in rows] for column in (train.texts, train.labels))
        TextClassifier.from_preset(name).fit(texts, labels).save(path)
    return TextClassifier.load(path)


# --- the methods


class Case:
    """One review, whose predicted label is explained."""

    def __init__(self, classifier: TextClassifier, text: str) -> None:
        self.classifier, self.text = classifier, text
        self.words = tokens(classifier.tokenizer_.kind, text)
        self.erasure = Erasure(classifier, text)
        self.label = int(self.erasure.whole()[0] > 0)

    def odds(self, kept: Bools) -> Float64:
        """[V] the label's log-odds of variants [V, T]."""
        return log_odds(self.classifier.model_.config, self.erasure.kept(kept), self.label)

    def whole(self) -> float:
        return float(self.odds(np.ones((1, len(self.words)), bool))[0])

    def library(self, method: str) -> Float64:
        return word_contributions(self.erasure, self.label, method)

    def explained(self, method: str) -> object:
        return explain(self.classifier, self.text, method=method)

    def again(self, method: str) -> Float64:
        """The contributions alone, from the text's words on."""
        erasure = Erasure(self.classifier, self.text)
        return word_contributions(erasure, self.label, method)

    def lime(self, sizes: Iterable[int]) -> list[Float64]:
        """By the first so many of the same samples, for each of ``sizes``."""
        count = len(self.words)
        kept = np.random.default_rng(0).random((max(sizes), count)) < 0.5
        kept[0] = True
        odds = self.odds(kept)
        distance = 1.0 - np.sqrt(kept.mean(axis=1))
        weights = np.exp(-((distance / KERNEL_WIDTH) ** 2) / 2.0)
        return [weighted_ridge(kept[:n], odds[:n], weights[:n]) for n in sizes]


def weighted_ridge(kept: Bools, odds: Float64, weights: Float64) -> Float64:
    samples, count = kept.shape
    weights = weights / weights.sum()
    x, y = kept - weights @ kept, odds - weights @ odds
    weighted = (x * weights[:, None]).T * samples
    return np.linalg.solve(weighted @ x + RIDGE * np.eye(count), weighted @ y)


def measure(
    classifier: TextClassifier, text: str, row: int, options: argparse.Namespace
) -> dict[str, Any]:
    """The curves of every method on one review."""
    case = Case(classifier, text)
    count, whole = len(case.words), case.whole()
    scores = {method: case.library(method) for method in METHODS}
    scores |= dict(zip(LIME, case.lime(LIME.values()), strict=True))
    ranks = [np.argsort(np.argsort(-values, kind="stable")) for values in scores.values()]
    generator = np.random.default_rng(row)
    ranks += [generator.permutation(count) for _ in range(RANDOM_DRAWS)]
    most = np.array([max(1, int(np.ceil(count * share))) for share in SHARES])
    named = np.stack(ranks)[:, None] < most[:, None]  # [methods, shares, T]
    left = case.odds(~named.reshape(-1, count)).reshape(named.shape[:2])
    alone = case.odds(named.reshape(-1, count)).reshape(named.shape[:2])

    tenths = generator.random((TENTHS, count)).argsort(axis=1) < max(1, round(count / 10))
    fallen = whole - case.odds(~tenths)

    def curves(rows: slice) -> dict[str, Any]:
        return {
            "falls": rounded((whole - left[rows]).mean(axis=0)),
            "changed": rounded((left[rows] < 0).mean(axis=0)),
            "short": rounded((whole - alone[rows]).mean(axis=0)),
        }

    methods = {name: curves(slice(i, i + 1)) for i, name in enumerate(scores)}
    for name, values in scores.items():
        methods[name]["sums"] = round(correlation(tenths @ values, fallen), 4)
    methods[RANDOM] = {**curves(slice(len(scores), None)), "sums": 0.0}
    return {"review": row, "words": count, "log_odds": round(whole, 4), "methods": methods}


def correlation(first: Float64, second: Float64) -> float:
    """0 where one of them is the same everywhere."""
    a, b = first - first.mean(), second - second.mean()
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size > 0.0 else 0.0


def areas(run: dict[str, Any]) -> dict[str, float]:
    """Each method's mean fall, which is what the result file has of a single review."""
    return {name: round(float(np.mean(m["falls"])), 4) for name, m in run["methods"].items()}


def rounded(values: Float64) -> list[float]:
    return [round(value, 4) for value in values.tolist()]


# --- what it says


def summarize(found: list[dict[str, Any]]) -> dict[str, Any]:
    def of(method: str, what: str) -> Float64:
        return np.array([each["methods"][method][what] for each in found])

    summary: dict[str, Any] = {}
    for method in found[0]["methods"]:
        area = of(method, "falls").mean(axis=1)
        summary[method] = {
            "falls": rounded(of(method, "falls").mean(axis=0)),
            "changed": rounded(of(method, "changed").mean(axis=0)),
            "short": rounded(of(method, "short").mean(axis=0)),
            "area": interval(area),
            "all_short": interval(of(method, "short").mean(axis=1)),
            "sums": interval(of(method, "sums")),
            "area_below_default": interval(of(DEFAULT, "falls").mean(axis=1) - area),
        }
    return summary


def interval(values: Float64) -> dict[str, float]:
    """The mean, and its 95 % interval over resamples of the reviews."""
    means = np.concatenate([weights @ values / len(values) for weights in resampled(len(values))])
    low, high = np.quantile(means, [0.025, 0.975]).tolist()
    return {"mean": float(values.mean()), "low": low, "high": high}


def table(found: dict[str, Any]) -> str:
    heads = [
        "",
        *(f"{share:.0%}" for share in SHARES),
        "area",
        "the default's is larger by",
        "short",
        "changed",
        "sums",
    ]
    lines = [heads, ["---"] * len(heads)]
    for method, each in found["methods"].items():
        area, more = each["area"], each["area_below_default"]
        lines.append(
            [
                method,
                *(f"{fall:.2f}" for fall in each["falls"]),
                f"{area['mean']:.3f}",
                f"{more['mean']:+.3f} ({more['low']:+.3f} to {more['high']:+.3f})",
                f"{each['all_short']['mean']:.3f}",
                f"{each['changed'][-1]:.1%}",
                f"{each['sums']['mean']:.3f}",
            ]
        )
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def timed(
    classifier: TextClassifier, texts: list[str], options: argparse.Namespace
) -> dict[str, dict[str, float]]:
    """Milliseconds a review: of contributions alone, and of whole explanations."""
    cases = [Case(classifier, text) for text in texts]
    cases = [case for case in cases if 180 <= len(case.words) <= 220][: options.timed]
    ways: dict[str, Callable[[Case], object]] = {
        f"explain, {method}": lambda case, m=method: case.explained(m) for method in METHODS
    }
    ways |= {
        name: lambda case, n=samples: Case(case.classifier, case.text).lime([n])
        for name, samples in LIME.items()
    }
    if options.lime_package:
        ways[PACKAGE] = package_way()
    ways |= {method: lambda case, m=method: case.again(m) for method in METHODS}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for case in cases:
        for name, way in ways.items():
            repeats = 3 if name not in (*LIME, PACKAGE) else 1
            taken = []
            for _ in range(repeats):
                begun = time.perf_counter()
                way(case)
                taken.append(time.perf_counter() - begun)
            seconds[name].append(statistics.median(taken))
    return {name: spread(1e3 * value for value in values) for name, values in seconds.items()}


def package_way() -> Callable[[Case], object]:
    """5,000 samples for the ten words that weigh most, with the classifier's probabilities."""
    from lime.lime_text import LimeTextExplainer

    explainer = LimeTextExplainer(random_state=0)

    def way(case: Case) -> object:
        return explainer.explain_instance(case.text, case.classifier.predict_proba)

    return way


if __name__ == "__main__":
    main()
