"""How good is `--preset accurate` on IMDB, for several seeds, and what does each of its parts do?

Each seed trains on the training half with the preset alone. The test half is then scored once, by
both models together, by the network alone and by the linear model alone, and the same reviews
decide between them (McNemar's test). The preset was chosen without the test half: by training on
four fifths of the training half and scoring the last fifth, of other films.

A seed's result is kept in --work: the same command goes on where it was stopped. Seconds are wall
time on whatever else the machine did.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from machine import add_output, spread, usable_cores, versions, write_result
from reviews import official_reviews

from tidegate import TextClassifier, ops
from tidegate.data.dataset import LabeledTexts
from tidegate.intervals import mcnemar, wilson

PRESET = "accurate"
SIDES = ("both", "network", "linear")


def main() -> None:
    options = parse_options()
    ops.set_threads(options.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    train, test = official_reviews(options.data)
    runs = []
    for seed in options.seeds:
        kept = options.work / f"seed_{seed}.json"
        if not kept.exists():
            kept.write_text(json.dumps(one_seed(seed, train, test, options.work)), encoding="utf-8")
        runs.append(json.loads(kept.read_text(encoding="utf-8")))
        accuracies = "  ".join(f"{side} {runs[-1]['accuracy'][side]:.4f}" for side in SIDES)
        print(f"seed {seed}: {accuracies}  {runs[-1]['seconds']:.0f} s", flush=True)
    write_result(
        options.output,
        versions=versions("tidegate", "numpy"),
        settings={
            "preset": PRESET,
            "config": {
                name: value
                for name, value in TextClassifier.from_preset(PRESET).get_params().items()
                if name not in ("random_state", "threads")
            },
            "threads": options.threads,
            "isa": ops.machine_info()["isa"],
            "texts": {"train": len(train), "test": len(test)},
        },
        runs=runs,
        summary=summarize(runs),
    )


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], metavar="N")
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--data", type=Path, metavar="PATH", help="the archive or its folder")
    parser.add_argument(
        "--work",
        type=Path,
        default=Path(tempfile.gettempdir()) / "tidegate-accurate",
        metavar="FOLDER",
        help="where finished seeds are kept",
    )
    add_output(parser)
    return parser.parse_args()


def one_seed(seed: int, train: LabeledTexts, test: LabeledTexts, work: Path) -> dict[str, Any]:
    classifier = TextClassifier.from_preset(PRESET, random_state=seed)
    begun = time.perf_counter()
    checkpoint = work / f"seed_{seed}.checkpoint.safetensors"
    for event in classifier.fit_steps(
        train.texts, train.labels, checkpoint=checkpoint, resume=checkpoint.exists()
    ):
        if hasattr(event, "val_accuracy"):
            print(f"  epoch {event.epoch}  {event.seconds:.0f} s  {event.val_accuracy}", flush=True)
    seconds = time.perf_counter() - begun
    model = work / f"seed_{seed}.safetensors"
    sha256 = classifier.save(model, replace=True)
    checkpoint.unlink(missing_ok=True)
    begun = time.perf_counter()
    right = {"both": classifier.predict(test.texts) == np.array(test.labels)}
    scoring_seconds = time.perf_counter() - begun
    ngrams, mix = classifier.ngrams_, classifier.mix_
    if ngrams is None:
        raise SystemExit(f"preset {PRESET} has no linear model to compare with")
    linear = ngrams.scores(test.texts)[:, 0] > 0
    right["linear"] = classifier.classes_[linear.astype(int)] == np.array(test.labels)
    classifier.ngrams_, classifier.mix_ = None, (1.0, 0.0)
    right["network"] = classifier.predict(test.texts) == np.array(test.labels)
    return {
        "seed": seed,
        "epochs": [
            {"seconds": e.seconds, "loss": e.loss, "val_accuracy": e.val_accuracy}
            for e in classifier.history_
        ],
        "seconds": seconds,
        "scoring_seconds": scoring_seconds,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "file_bytes": model.stat().st_size,
        "sha256": sha256,
        "mix": list(mix),
        "validation_accuracy": classifier.validation_.accuracy,
        "accuracy": {side: float(right[side].mean()) for side in SIDES},
        "interval_95": list(wilson(int(right["both"].sum()), len(test))),
        "mcnemar_p": {
            "both against linear": mcnemar(right["both"], right["linear"]).exact,
            "both against network": mcnemar(right["both"], right["network"]).exact,
            "network against linear": mcnemar(right["network"], right["linear"]).exact,
        },
    }


def summarize(runs: list[dict[str, Any]]) -> dict[str, Any]:
    values = {f"{side} accuracy": [run["accuracy"][side] for run in runs] for side in SIDES}
    values["seconds"] = [run["seconds"] for run in runs]
    values["file_mb"] = [run["file_bytes"] / 1e6 for run in runs]
    return {
        name: {
            "mean": statistics.mean(found),
            "standard_deviation": statistics.stdev(found) if len(found) > 1 else None,
            **spread(found),
        }
        for name, found in values.items()
    }


if __name__ == "__main__":
    main()
