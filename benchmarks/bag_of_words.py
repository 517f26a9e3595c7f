"""How fast and how good is a model of ANOTHER KIND, fastText, on the same reviews?

fastText adds up the vectors of a text's words and pairs of neighbours and forgets their order: no
recurrent network, so this says what the order is worth and costs, and nothing of the kernels. Both
sides learn from the same 20,000 reviews and are judged by IMDB's 25,000 test reviews, in turns.

tidegate trains the lecture's network, three epochs, from the texts themselves. fastText reads whole
reviews, tidegate the last 200 words of each. fastText gets their words, as tidegate's tokeniser
finds them, from a file; making that file is not on its clock. It trains on all threads and scores
on one. Its settings were chosen on the 5,000 training reviews that are held out here.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from machine import ROOT, add_output, busy_seconds, spread, usable_cores, versions, write_result
from processes import Peer
from reviews import official_reviews

from tidegate import TextClassifier, ops
from tidegate.data import LabeledTexts
from tidegate.tokens import lecture_tokens

PEER = ROOT / "benchmarks" / "peers" / "fasttext_bag.py"
NAMES = {
    "tidegate_bfloat16": "tidegate, bfloat16",
    "tidegate": "tidegate",
    "fasttext": "fastText, another kind of model",
}


def main() -> None:
    options = parse_options()
    ops.set_threads(options.threads)
    training, test = official_reviews(options.data)
    held_out = TextClassifier.from_preset("lecture")
    training = training.select(held_out.split(len(training))[0].tolist())
    if options.texts is not None:
        training, test = (part.select(list(range(options.texts))) for part in (training, test))
    with tempfile.TemporaryDirectory() as folder:
        for name, part in (("train", training), ("test", test)):
            write_words(Path(folder) / f"{name}.txt", part)
        command = [
            *(options.fasttext_python, str(PEER), folder, "--threads", str(options.threads)),
            *("--epochs", str(options.epochs), "--dimensions", str(options.dimensions)),
            *("--learning-rate", str(options.learning_rate), "--buckets", str(options.buckets)),
        ]
        with Peer(command) as peer:
            about = peer.ask(do="about")
            sides: list[Ours | Theirs] = [
                *(Ours(precision, training, test) for precision in options.precision),
                Theirs(peer),
            ]
            runs = [turn(run, sides, options.pause) for run in range(options.runs)]
    summary = summarize(runs)
    for name, found in summary["sides"].items():
        print(
            f"{NAMES[name]}: trained in {found['train_s']['median']:.2f} s, {len(test):,} texts "
            f"scored in {found['score_s']['median']:.2f} s, accuracy "
            f"{found['accuracy']['median']:.4f} ({found['accuracy']['min']:.4f} to "
            f"{found['accuracy']['max']:.4f})"
        )
    write_result(
        options.output,
        versions={**versions("tidegate", "numpy"), **about.pop("versions")},
        settings={
            "texts": len(training),
            "test_texts": len(test),
            "tidegate": {**ops.machine_info(), "preset": "lecture"},
            "fasttext": {
                name: value
                for name, value in about.items()
                if name not in ("cpu_began", "cpu_done", "peak_mb")
            },
        },
        commands=[command],
        runs=runs,
        summary=summary,
    )


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--fasttext-python",
        required=True,
        metavar="PATH",
        help="the Python of an environment with fasttext",
    )
    parser.add_argument("--precision", nargs="+", choices=ops.PRECISIONS, default=["float32"])
    parser.add_argument("--runs", type=int, default=3, help="of each side (default 3)")
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--texts", type=int, help="fewer texts, for a quick look")
    parser.add_argument("--quick", action="store_true", help="one run with 2,000 texts")
    fasttext = parser.add_argument_group("fastText's settings")
    fasttext.add_argument("--epochs", type=int, default=10)
    fasttext.add_argument("--dimensions", type=int, default=10)
    fasttext.add_argument("--learning-rate", type=float, default=0.5)
    fasttext.add_argument("--buckets", type=int, default=500_000, help="of pairs of words")
    parser.add_argument("--pause", type=float, default=1.0, help="seconds between turns")
    parser.add_argument("--data", type=Path, help="the IMDB archive, as in `tidegate train`")
    add_output(parser)
    options = parser.parse_args()
    if options.quick:
        options.runs, options.texts = 1, 2_000
    return options


def write_words(path: Path, part: LabeledTexts) -> None:
    """fastText's format: a label and the words of a text, a line each."""
    lines = (
        f"__label__{label} {' '.join(lecture_tokens(text))}\n"
        for text, label in zip(part.texts, part.labels, strict=True)
    )
    path.write_text("".join(lines), encoding="utf-8", newline="\n")


class Ours:
    """tidegate, in this process. Seed by seed, as each run of fastText is another one too."""

    def __init__(
        self, precision: ops.Precision, training: LabeledTexts, test: LabeledTexts
    ) -> None:
        self.name = "tidegate" if precision == "float32" else f"tidegate_{precision}"
        self._precision, self._training, self._test = precision, training, test

    def train(self, seed: int) -> dict[str, Any]:
        self._classifier = TextClassifier.from_preset(
            "lecture", validation_fraction=0, random_state=seed, precision=self._precision
        )
        return self._timed(
            lambda: self._classifier.fit(self._training.texts, self._training.labels)
        )[0]

    def score(self) -> dict[str, Any]:
        figures, found = self._timed(lambda: self._classifier.predict(self._test.texts))
        return {**figures, "accuracy": float((found == np.array(self._test.labels)).mean())}

    @staticmethod
    def _timed(call: Any) -> tuple[dict[str, Any], Any]:
        began, begun = time.process_time(), time.perf_counter()
        found = call()
        seconds = time.perf_counter() - begun
        return {"seconds": seconds, "cpu_seconds": time.process_time() - began}, found


class Theirs:
    """fastText, in a process of its own."""

    name = "fasttext"

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    def train(self, seed: int) -> dict[str, Any]:
        return self._ask(do="train", seed=seed)

    def score(self) -> dict[str, Any]:
        return self._ask(do="score")

    def _ask(self, **request: Any) -> dict[str, Any]:
        found = self._peer.ask(**request)
        found["cpu_seconds"] = found.pop("cpu_done") - found.pop("cpu_began")
        return found


def turn(run: int, sides: Sequence[Ours | Theirs], pause: float) -> dict[str, Any]:
    """Every side trains and scores; every other time the last one begins."""
    order = list(sides) if run % 2 == 0 else list(sides)[::-1]
    result: dict[str, Any] = {"run": run + 1, "order": [side.name for side in order]}
    for side in order:
        result[side.name] = {}
        for what, call in (("train", lambda side=side: side.train(run)), ("score", side.score)):
            time.sleep(pause)
            before = busy_seconds()
            found = call()
            found["others_cpu_seconds"] = busy_seconds() - before - found["cpu_seconds"]
            result[side.name][what] = found
        trained, scored = result[side.name]["train"], result[side.name]["score"]
        others = trained["others_cpu_seconds"] + scored["others_cpu_seconds"]
        print(
            f"{run + 1}: {NAMES[side.name]} trained in {trained['seconds']:.2f} s, scored in "
            f"{scored['seconds']:.2f} s, accuracy {scored['accuracy']:.4f} "
            f"(others' CPU {others:.1f} s)",
            flush=True,
        )
    return result


def summarize(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Of every side; fastText's seconds as a multiple of tidegate's, turn by turn."""
    names = [name for name in NAMES if name in runs[0]]
    return {
        "sides": {
            name: {
                "train_s": spread(run[name]["train"]["seconds"] for run in runs),
                "score_s": spread(run[name]["score"]["seconds"] for run in runs),
                "accuracy": spread(run[name]["score"]["accuracy"] for run in runs),
            }
            for name in names
        },
        "ratio": {
            name: {
                what: spread(
                    run["fasttext"][what]["seconds"] / run[name][what]["seconds"] for run in runs
                )
                for what in ("train", "score")
            }
            for name in names
            if name != "fasttext"
        },
    }


if __name__ == "__main__":
    main()
