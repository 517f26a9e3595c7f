"""fastText on the reviews, training and scoring when asked to: the peer of bag_of_words.py.

Needs fasttext and NumPy, and nothing of tidegate.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import fasttext
from processes import serve

ATTEMPTS = 5  # now and then its training ends with a number that is none


class Bag:
    """The words of the texts, a line each, and the model."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.training = folder / "train.txt"
        lines = (folder / "test.txt").read_text(encoding="utf-8").split("\n")[:-1]
        pairs = [line.partition(" ") for line in lines]
        self.labels = [label for label, _, _ in pairs]
        self.texts = [text for _, _, text in pairs]

    def handle(self, request: dict[str, Any]) -> dict[str, Any]:
        actions: dict[str, Any] = {"about": self.about, "train": self.train, "score": self.score}
        answer: dict[str, Any] = actions[request.pop("do")](**request)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return {**answer, "peak_mb": peak * 1024 / 1e6}

    def about(self) -> dict[str, Any]:
        return {"versions": {"fasttext": metadata.version("fasttext")}, **self.settings}

    def train(self, seed: int) -> dict[str, Any]:
        """From the file to the model; on several threads it is not the same one each time."""
        for failed in range(ATTEMPTS):
            begun = time.perf_counter()
            try:
                self.model = fasttext.train_supervised(
                    str(self.training), verbose=0, seed=seed, **self.settings
                )
            except RuntimeError as error:
                print(f"fastText: {error}; once more", file=sys.stderr)
                continue
            seconds = time.perf_counter() - begun
            return {"seconds": seconds, "failed_before": failed}
        raise SystemExit(f"fastText's training failed {ATTEMPTS} times")

    def score(self) -> dict[str, Any]:
        """The label of every test text, on one thread: it has no more for that."""
        begun = time.perf_counter()
        found, _ = self.model.predict(self.texts)
        seconds = time.perf_counter() - begun
        right = sum(best == label for (best,), label in zip(found, self.labels, strict=True))
        return {"seconds": seconds, "accuracy": right / len(self.labels)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="with the files that bag_of_words.py wrote")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--dimensions", type=int, required=True)
    parser.add_argument("--learning-rate", type=float, required=True)
    parser.add_argument("--buckets", type=int, required=True)
    options = parser.parse_args()
    settings = {
        "thread": options.threads,
        "epoch": options.epochs,
        "wordNgrams": 2,
        "dim": options.dimensions,
        "lr": options.learning_rate,
        "bucket": options.buckets,
    }
    serve(Bag(options.folder, settings).handle)


if __name__ == "__main__":
    main()
