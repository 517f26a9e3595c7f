"""On people's own files: is tidegate as accurate as TF-IDF bigrams with logistic regression?

Each set of own_data.py is learnt by tidegate, with every preset of --presets and every set of
arguments of --try, and by scikit-learn: TF-IDF of words and pairs of words, with the C and the
least number of texts to have a word in that cross-validation on the training texts finds best. All
that is chosen is chosen on the training texts; each final model scores the test texts once.

--development leaves the test texts alone and scores texts that it holds out of the training ones.
That is for choosing presets.
"""

from __future__ import annotations

import argparse
import json
import math
import pickle
import statistics
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from machine import add_output, spread, usable_cores, versions, write_result
from own_data import NAMES, own_texts
from scipy.stats import binomtest
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline

from tidegate import TextClassifier, ops
from tidegate.data import LabeledTexts
from tidegate.estimator import PRESETS

BASELINE = "TF-IDF"
COSTS = (1.0, 4.0, 16.0, 64.0)
LEAST_TEXTS = (1, 2)
FOLDS = ((5_000, 10), (20_000, 5), (math.inf, 3))  # up to so many texts, so many folds
FOLD_COUNTS = {"up to 5,000 texts": 10, "up to 20,000": 5, "more": 3}
MOST_ROUNDS = 300
Z = 1.959964  # of the 95 % interval

Labels = npt.NDArray[np.str_]


def main() -> None:
    options = parse_options()
    ops.set_threads(options.threads)
    systems = {name: TextClassifier.from_preset(name) for name in options.presets}
    systems |= {json.dumps(given): TextClassifier(**given) for given in options.tries}
    runs: list[dict[str, Any]] = []
    made = {}
    for name in options.sets:
        texts = own_texts(name, options.folder, options.data)
        made[name] = texts.made
        train, scored = texts.development() if options.development else (texts.train, texts.test)
        print(f"{name}: {len(train):,} training texts, {len(scored):,} scored", flush=True)
        truth = np.array(scored.labels)
        theirs = None
        if options.baseline:
            theirs, figures = baseline(train, scored)
            runs.append({"set": name, "system": BASELINE, **figures})
            print(line(runs[-1]), flush=True)
        for system, classifier in systems.items():
            for seed in options.seeds:
                ours, figures = tidegate(classifier, seed, train, scored)
                runs.append({"set": name, "system": system, "seed": seed, **figures})
                if theirs is not None and seed == options.seeds[0]:
                    runs[-1]["mcnemar"] = mcnemar(ours == truth, theirs == truth)
                print(line(runs[-1]), flush=True)
    summary = summarize(runs)
    print()
    print(table(summary))
    write_result(
        options.output,
        versions=versions("tidegate", "numpy", "scikit-learn"),
        settings={
            "scored": "held out of the training texts" if options.development else "test texts",
            "sets": made,
            "systems": {name: classifier.get_params() for name, classifier in systems.items()},
            "seeds": options.seeds,
            "baseline": {"C": COSTS, "min_df": LEAST_TEXTS, "folds": FOLD_COUNTS},
            "tidegate": ops.machine_info(),
        },
        runs=runs,
        summary=summary,
    )


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where the sets are kept, outside of this clone")
    parser.add_argument("--sets", nargs="+", choices=NAMES, default=NAMES, metavar="SET")
    parser.add_argument(
        "--presets", nargs="*", choices=PRESETS, default=None, metavar="NAME", help="of tidegate"
    )
    parser.add_argument(
        "--try",
        dest="tries",
        action="append",
        type=arguments,
        default=[],
        metavar="JSON",
        help="arguments of TextClassifier, such as '{\"ngrams\": 2}'",
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N")
    parser.add_argument("--development", action="store_true")
    parser.add_argument("--no-baseline", dest="baseline", action="store_false")
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--data", type=Path, help="the IMDB archive, as in `tidegate train`")
    add_output(parser)
    options = parser.parse_args()
    if options.presets is None:
        options.presets = [] if options.tries else ["default"]
    return options


def arguments(text: str) -> dict[str, Any]:
    """What --try gives; argparse tells of a ValueError in one line."""
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("not a JSON object")
    return found


# --- both sides


def tidegate(
    classifier: TextClassifier, seed: int, train: LabeledTexts, scored: LabeledTexts
) -> tuple[Labels, dict[str, Any]]:
    """Predicted labels, and the run's figures."""
    ours = TextClassifier(**{**classifier.get_params(), "random_state": seed})
    begun = time.perf_counter()
    ours.fit(train.texts, train.labels)
    trained = time.perf_counter()
    predicted = ours.predict(scored.texts)
    ended = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        ours.save(path)
        size = path.stat().st_size
    last = ours.history_[-1]
    return predicted, {
        **scores(np.array(scored.labels), predicted),
        "train_seconds": trained - begun,
        "predict_seconds": ended - trained,
        "bytes": size,
        "epochs": last.epoch,
        "val_accuracy": last.val_accuracy,
        "mix": list(ours.mix_),
    }


def baseline(train: LabeledTexts, scored: LabeledTexts) -> tuple[Labels, dict[str, Any]]:
    """The same of scikit-learn's model."""
    begun = time.perf_counter()
    texts, labels = np.array(train.texts, object), np.array(train.labels)
    folds = next(count for most, count in FOLDS if len(texts) <= most)
    right: dict[tuple[int, float], int] = {}
    splits = StratifiedKFold(folds, shuffle=True, random_state=0).split(texts, labels)
    for kept, held_out in splits:
        for least in LEAST_TEXTS:
            words = vectorizer(least)
            x, x_held_out = words.fit_transform(texts[kept]), words.transform(texts[held_out])
            for cost in COSTS:
                predicted = regression(cost).fit(x, labels[kept]).predict(x_held_out)
                found = int((predicted == labels[held_out]).sum())
                right[least, cost] = right.get((least, cost), 0) + found
    least, cost = max(right, key=lambda pair: right[pair])
    chosen = time.perf_counter()
    model = make_pipeline(vectorizer(least), regression(cost)).fit(texts, labels)
    trained = time.perf_counter()
    predicted = model.predict(scored.texts)
    ended = time.perf_counter()
    return predicted, {
        **scores(np.array(scored.labels), predicted),
        "choose_seconds": chosen - begun,
        "train_seconds": trained - chosen,
        "predict_seconds": ended - trained,
        "bytes": len(pickle.dumps(model)),
        "chosen": {"min_df": least, "C": cost},
        "validation": {f"{m}, {c:g}": n / len(texts) for (m, c), n in right.items()},
    }


def vectorizer(least: int) -> TfidfVectorizer:
    return TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=least)


def regression(cost: float) -> LogisticRegression:
    warnings.simplefilter("ignore", ConvergenceWarning)  # it has learnt enough by then
    return LogisticRegression(C=cost, max_iter=MOST_ROUNDS, random_state=0)


# --- figures


def scores(truth: Labels, predicted: Labels) -> dict[str, Any]:
    right = int((truth == predicted).sum())
    return {
        "accuracy": right / len(truth),
        "interval": wilson(right, len(truth)),
        "macro_f1": float(f1_score(truth, predicted, average="macro")),
        "texts": len(truth),
    }


def wilson(right: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share. Source: Wilson 1927."""
    share = right / count
    centre = share + Z**2 / (2 * count)
    half = Z * math.sqrt(share * (1 - share) / count + Z**2 / (4 * count**2))
    scale = 1 + Z**2 / count
    return (centre - half) / scale, (centre + half) / scale


def mcnemar(ours: npt.NDArray[np.bool_], theirs: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """Texts that one side alone has right, and how likely a difference this large is by chance."""
    alone, others = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    p = float(binomtest(alone, alone + others).pvalue) if alone + others else 1.0
    return {"ours_alone": alone, "theirs_alone": others, "p": p}


def line(run: dict[str, Any]) -> str:
    seed = f" seed {run['seed']}" if "seed" in run else f" {run['chosen']}"
    mix = f"  mix {run['mix'][0]:.2f} {run['mix'][1]:.2f}" if "mix" in run else ""
    return (
        f"  {run['accuracy']:.4f}  F1 {run['macro_f1']:.4f}  {run['train_seconds']:.1f} s"
        f"{mix}  {run['system']}{seed}"
    )


def summarize(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """By set and system: means over the seeds, and the first seed beside the baseline."""
    result: dict[str, dict[str, Any]] = {}
    for name, system in dict.fromkeys((run["set"], run["system"]) for run in runs):
        mine = [run for run in runs if (run["set"], run["system"]) == (name, system)]
        accuracies = [run["accuracy"] for run in mine]
        found = {
            "accuracy": {"mean": statistics.mean(accuracies), **spread(accuracies)},
            "interval": wilson_of_mean(mine),
            "macro_f1": statistics.mean(run["macro_f1"] for run in mine),
            "train_seconds": spread(run["train_seconds"] for run in mine),
            "bytes": mine[0]["bytes"],
        }
        if "mcnemar" in mine[0]:
            found["mcnemar"] = mine[0]["mcnemar"]
        if "choose_seconds" in mine[0]:
            found["choose_seconds"] = mine[0]["choose_seconds"]
        result.setdefault(name, {})[system] = found
    return result


def wilson_of_mean(runs: Sequence[dict[str, Any]]) -> tuple[float, float]:
    """Of the texts alone: as for one seed with the mean accuracy."""
    count = runs[0]["texts"]
    return wilson(round(statistics.mean(run["accuracy"] for run in runs) * count), count)


def table(summary: dict[str, Any]) -> str:
    """Markdown: a row for each system of each set."""
    heads = [
        *("set", "system", "accuracy", "95 % interval", "least to largest", "macro F1"),
        *("s to train", "MB", "right alone, baseline's", "p"),
    ]
    lines = [heads, ["---"] * len(heads)]
    for name, systems in summary.items():
        for system, found in systems.items():
            accuracy, test = found["accuracy"], found.get("mcnemar")
            seconds = f"{found['train_seconds']['median']:.1f}"
            if "choose_seconds" in found:
                seconds += f", and {found['choose_seconds']:.1f} to choose"
            lines.append(
                [
                    *(name, system, f"{accuracy['mean']:.4f}"),
                    "{:.4f} to {:.4f}".format(*found["interval"]),
                    f"{accuracy['min']:.4f} to {accuracy['max']:.4f}",
                    f"{found['macro_f1']:.4f}",
                    seconds,
                    f"{found['bytes'] / 1e6:.1f}",
                    f"{test['ours_alone']}, {test['theirs_alone']}" if test else "",
                    f"{test['p']:.2g}" if test else "",
                ]
            )
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


if __name__ == "__main__":
    main()
