"""What does a model file of int8 weights save in bytes, and cost in accuracy?

The lecture's model is trained on IMDB for several seeds and saved in float32 and in int8. Both
files are loaded again and score the development split: the 5,000 training reviews that the
training held out. The test set is not touched. Scoring takes as long for either file, because
loading turns both into float32; what loading takes is measured, both sides taking turns.

The exit status is 1 if a seed loses more than 0.1 point of accuracy.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from machine import add_output, shown, spread, usable_cores, versions, write_result

from tidegate import TextClassifier, ops
from tidegate.data import Dataset, load_imdb

MOST_LOST = 0.001 + 1e-9  # of accuracy: 5 of 5,000 texts, and the difference's own rounding
LOADS = 9  # of each file


def main() -> None:
    options = parse_options()
    ops.set_threads(options.threads)
    dataset = load_imdb(options.data)
    with tempfile.TemporaryDirectory() as folder:
        models = options.models or Path(folder)
        runs = [
            measure(seed, options.cell, dataset, models, Path(folder)) for seed in options.seeds
        ]
    summary = summarize(runs)
    print()
    print(table(runs))
    change = summary["accuracy_change"]
    kept = change["min"] >= -MOST_LOST
    print(
        f"\nint8 is {summary['size_ratio']['median']:.3f} of float32's size; accuracy changes by "
        f"{100 * change['min']:+.2f} to {100 * change['max']:+.2f} points"
        f"{'' if kept else ': TOO MUCH IS LOST'}"
    )
    write_result(
        options.output,
        versions=versions("tidegate", "numpy"),
        settings={
            "origin": shown(dataset.origin.split()),  # without this machine's folders
            "cell": options.cell,
            "texts": runs[0]["float32"]["texts"],
            "tidegate": ops.machine_info(),
        },
        runs=runs,
        summary=summary,
    )
    raise SystemExit(0 if kept else 1)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N")
    parser.add_argument("--cell", choices=("gru", "lstm", "rnn"), default="gru")
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--data", type=Path, help="the IMDB archive, as in `tidegate train`")
    parser.add_argument(
        "--models",
        type=Path,
        metavar="FOLDER",
        help="keep the trained models there, and take those that are there already",
    )
    add_output(parser)
    return parser.parse_args()


def measure(seed: int, cell: str, dataset: Dataset, models: Path, folder: Path) -> dict[str, Any]:
    """Both files of one seed on the texts that its training held out."""
    wide = models / f"{cell}-{seed}.safetensors"
    trained = train_or_load(wide, seed, cell, dataset)
    small = folder / f"{cell}-{seed}.int8.safetensors"
    trained.save(small, quantize="int8")
    paths = {"float32": wide, "int8": small}

    rows = trained.split(len(dataset.train))[1].tolist()
    texts = [dataset.train.texts[row] for row in rows]
    labels = [dataset.train.labels[row] for row in rows]
    result: dict[str, Any] = {"seed": seed}
    probabilities = {}
    for name, path in paths.items():
        classifier = TextClassifier.load(path)
        found = classifier.evaluate(texts, labels)
        probabilities[name] = classifier.predict_proba(texts)
        result[name] = {
            "bytes": path.stat().st_size,
            "loss": found.loss,
            "accuracy": found.accuracy,
            "texts": found.texts,
            "load_seconds": [],
        }
    if result["float32"]["accuracy"] != trained.history_[-1].val_accuracy:
        raise SystemExit(
            f"{wide} had another accuracy when it was trained: on other texts than those of "
            f"{dataset.origin}, or another machine; give another --models"
        )
    for turn in range(LOADS):
        for name in paths if turn % 2 else reversed(paths):
            begun = time.perf_counter()
            TextClassifier.load(paths[name])
            result[name]["load_seconds"].append(time.perf_counter() - begun)
    wide_p, small_p = probabilities["float32"], probabilities["int8"]
    difference = np.abs(small_p - wide_p)[:, 0]
    result["probability_difference"] = {
        "max": float(difference.max()),
        "mean": float(difference.mean()),
    }
    result["other_labels"] = int((small_p.argmax(axis=1) != wide_p.argmax(axis=1)).sum())
    print(f"seed {seed}: measured", flush=True)
    return result


def train_or_load(path: Path, seed: int, cell: str, dataset: Dataset) -> TextClassifier:
    """The model of this file, which is made unless it is there."""
    wanted = TextClassifier.from_preset("lecture", cell=cell, random_state=seed)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        wanted.fit(dataset.train.texts, dataset.train.labels).save(path)
    found = TextClassifier.load(path)
    if found.get_params() != wanted.get_params():
        raise SystemExit(f"{path} is {found}, not {wanted}; give another --models")
    return found


def table(runs: list[dict[str, Any]]) -> str:
    """Markdown: a row a seed; int8's figures beside float32's."""
    heads = [
        *("seed", "MB", "int8 MB", "val_acc", "int8 val_acc", "val_loss", "int8 val_loss"),
        *("largest difference of p", "other labels", "ms to load", "int8 ms to load"),
    ]
    lines = [heads, ["---"] * len(heads)]
    for run in runs:
        both = (run["float32"], run["int8"])
        lines.append(
            [
                str(run["seed"]),
                *(f"{side['bytes'] / 1e6:.2f}" for side in both),
                *(f"{side['accuracy']:.4f}" for side in both),
                *(f"{side['loss']:.4f}" for side in both),
                f"{run['probability_difference']['max']:.4f}",
                str(run["other_labels"]),
                *(f"{1e3 * statistics.median(side['load_seconds']):.1f}" for side in both),
            ]
        )
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def summarize(runs: list[dict[str, Any]]) -> dict[str, Any]:
    def difference(what: str) -> list[float]:
        return [run["int8"][what] - run["float32"][what] for run in runs]

    return {
        "size_ratio": spread(run["int8"]["bytes"] / run["float32"]["bytes"] for run in runs),
        "accuracy_change": spread(difference("accuracy")),
        "loss_change": spread(difference("loss")),
        "largest_probability_difference": max(run["probability_difference"]["max"] for run in runs),
        "other_labels": spread(run["other_labels"] for run in runs),
        "load_ratio": spread(
            ours / theirs
            for run in runs
            for ours, theirs in zip(
                run["int8"]["load_seconds"], run["float32"]["load_seconds"], strict=True
            )
        ),
    }


if __name__ == "__main__":
    main()
