"""How long does an epoch of the lecture's job take, beside Keras, in one interleaved run?

Both sides start from the same weights and train on the same ids in the same order: batches of 64,
20,000 reviews of 200 ids, embedding 128, hidden 128, Adam. Only training is timed: no validation,
no reading of files, no compiling (Keras is warmed up before; tidegate is not). While one side
works the other waits, and the CPU time that it uses meanwhile is recorded.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from machine import ROOT, add_output, busy_seconds, spread, usable_cores, versions, write_result
from processes import Peer

from tidegate import initializers, ops
from tidegate.batch import TokenizedTexts
from tidegate.data import load_imdb
from tidegate.metrics import LabeledSet, evaluate
from tidegate.model import ModelConfig, TextModel
from tidegate.text import Tokenizer
from tidegate.training import EpochResult, TrainConfig, train

PEER = ROOT / "benchmarks" / "peers" / "keras_lecture.py"
VALIDATION_FRACTION = 0.2


def main() -> None:
    options = parse_options()
    ops.set_threads(options.threads)
    job = Job(options)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "lecture.npz"
        job.write(data)
        command = [
            *(options.keras_python, str(PEER), str(data), "--cell", job.model.config.kind),
            *("--threads", str(options.threads), "--batch-size", str(options.batch_size)),
            *("--score-batch-size", str(options.score_batch_size)),
            *("--keras-jit", options.keras_jit, "--keras-adam", options.keras_adam),
        ]
        with Peer(command) as keras:
            print("Keras traces and compiles ...", flush=True)
            turns = Turns(keras, options.pause)
            trained = [
                turns.pair(run, "train", job.train, epoch=run) for run in range(options.runs)
            ]
            scored = []
            if options.score:
                scored = [turns.pair(run, "score", job.score) for run in range(options.runs)]
    summary = {"train": summarize(trained)}
    if scored:
        summary["score"] = summarize(scored)
    for what, found in summary.items():
        ours, theirs, ratio = found["tidegate_s"], found["keras_s"], found["ratio"]
        print(
            f"{what}: tidegate {ours['median']:.2f} s, Keras {theirs['median']:.2f} s; tidegate is "
            f"{ratio['median']:.2f} times as fast ({ratio['min']:.2f} to {ratio['max']:.2f})"
        )
    write_result(
        options.output,
        versions={**versions("tidegate", "numpy"), **turns.keras.pop("versions")},
        settings={
            "cell": job.model.config.kind,
            "texts": len(job.examples),
            "test_texts": len(job.test or ()),
            "whole_epoch": options.batches is None,
            "seed": options.seed,
            "tidegate": ops.machine_info(),
            "keras": {**turns.keras, "adam": options.keras_adam},
        },
        commands=[command],
        runs=trained + scored,
        summary=summary,
    )


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--keras-python",
        required=True,
        metavar="PATH",
        help="the Python of an environment with keras and tensorflow",
    )
    parser.add_argument("--cell", choices=("gru", "lstm", "rnn"), default="gru")
    parser.add_argument("--reset", choices=("after", "before"), default="after")
    parser.add_argument("--runs", type=int, default=3, help="epochs of each side (default 3)")
    parser.add_argument(
        "--batches",
        type=int,
        metavar="N",
        help="batches in an epoch, for a quick look (default: all 313)",
    )
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument(
        "--keras-jit",
        choices=("auto", "true", "false"),
        default="auto",
        help="Keras's jit_compile; true turns the layer's cuDNN path off, which forbids XLA",
    )
    parser.add_argument(
        "--keras-adam",
        choices=("stock", "summed"),
        default="stock",
        help="stock squares the gradients of a word's occurrences before it adds them up, on "
        "TensorFlow; summed adds first, as Adam is defined, and both sides then have one curve",
    )
    parser.add_argument("--score", action="store_true", help="time the 25,000 test reviews too")
    parser.add_argument(
        "--score-batch-size", type=int, default=256, help="of Keras's predict (default 256)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pause", type=float, default=1.0, help="seconds between turns")
    parser.add_argument("--data", type=Path, help="the IMDB archive, as in `tidegate train`")
    add_output(parser)
    return parser.parse_args()


class Job:
    """tidegate's side, and the same data for Keras."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.runs = options.runs
        self.model = TextModel.initialize(
            ModelConfig(cell=options.cell, reset=options.reset), options.seed
        )
        config = self.model.config
        dataset = load_imdb(options.data)
        if dataset.test is None:
            raise SystemExit("imdb has no test set")
        tokenizer = Tokenizer.fit(dataset.train.texts, config.vocabulary_size)
        rows = initializers.permutation(options.seed, "split", len(dataset.train))
        rows = rows[: int(len(rows) * (1 - VALIDATION_FRACTION))]
        if options.batches is not None:
            rows = rows[: options.batches * options.batch_size]

        def labeled(texts: list[str], labels: list[str]) -> LabeledSet:
            targets = np.array([label == "positive" for label in labels], np.int32)
            return LabeledSet(tokenizer.encode_all(texts, config.max_length), targets)

        everything = labeled(dataset.train.texts, dataset.train.labels)
        self.examples = LabeledSet(everything.texts.select(rows), everything.targets[rows])
        self.test = labeled(dataset.test.texts, dataset.test.labels) if options.score else None
        self.seed = options.seed
        self._epochs: Iterator[EpochResult] = train(
            self.model,
            self.examples,
            None,
            TrainConfig(epochs=self.runs, batch_size=options.batch_size, seed=self.seed),
        )

    def write(self, path: Path) -> None:
        """What Keras needs: ids, targets, the order of every epoch, initial weights."""
        length = self.model.config.max_length
        empty = LabeledSet(TokenizedTexts.from_rows([]), np.zeros(0, np.int32))
        test = self.test or empty
        orders = [  # those that tidegate.training draws
            initializers.permutation(self.seed, f"shuffle epoch {epoch + 1}", len(self.examples))
            for epoch in range(self.runs)
        ]
        arrays: dict[str, Any] = {
            "ids": padded(self.examples.texts, length),
            "targets": self.examples.targets.astype(np.float32),
            "test_ids": padded(test.texts, length),
            "test_targets": test.targets,
            "orders": np.stack(orders),
            **{f"initial/{name}": value for name, value in self.model.parameters.items()},
        }
        np.savez(path, **arrays)

    def train(self) -> dict[str, Any]:
        begun = time.perf_counter()
        result = next(self._epochs)
        seconds = time.perf_counter() - begun
        return {"seconds": seconds, "loss": result.loss, "accuracy": result.accuracy}

    def score(self) -> dict[str, Any]:
        if self.test is None:
            raise SystemExit("imdb has no test set")
        result = evaluate(self.model, self.test)
        return {"seconds": result.seconds, "accuracy": result.accuracy}


def padded(texts: TokenizedTexts, length: int) -> np.ndarray:
    """[texts, length] int32, zeros in front."""
    ids = np.zeros((len(texts), length), np.int32)
    for i in range(len(texts)):
        row = texts.row(i)
        ids[i, length - len(row) :] = row
    return ids


class Turns:
    """Lets the two sides work one after the other and keeps account of whose CPU time it was."""

    def __init__(self, keras: Peer, pause: float) -> None:
        self._peer, self._pause = keras, pause
        self.keras = keras.ask(do="warm_up")
        self._keras_cpu = self.keras.pop("cpu_done")
        del self.keras["cpu_began"]
        self.keras["warm_up_seconds"] = self.keras.pop("seconds")

    def pair(self, run: int, what: str, ours: Any, **request: int) -> dict[str, Any]:
        """Both sides once; every other time Keras begins."""
        result: dict[str, Any] = {"run": run + 1, "what": what}
        sides = ("tidegate", "keras") if run % 2 == 0 else ("keras", "tidegate")
        result["first"] = sides[0]
        for side in sides:
            time.sleep(self._pause)
            before, own_before = busy_seconds(), time.process_time()
            if side == "tidegate":
                found = ours()
                found["cpu_seconds"] = time.process_time() - own_before
            else:
                found = self._peer.ask(do=what, **request)
                began, done = found.pop("cpu_began"), found.pop("cpu_done")
                # Used since its last answer, so while tidegate worked and in the pauses.
                result["keras_idle_cpu_seconds"] = began - self._keras_cpu
                self._keras_cpu = done
                found["cpu_seconds"] = done - began
                result["tidegate_idle_cpu_seconds"] = time.process_time() - own_before
            found["others_cpu_seconds"] = busy_seconds() - before - found["cpu_seconds"]
            result[side] = found
        result["ratio"] = result["keras"]["seconds"] / result["tidegate"]["seconds"]
        print(describe(result), flush=True)
        return result


def describe(result: dict[str, Any]) -> str:
    parts = [f"{result['what']} {result['run']}"]
    for side in ("tidegate", "keras"):
        found = result[side]
        loss = f" loss {found['loss']:.4f}" if "loss" in found else ""
        parts.append(
            f"{side} {found['seconds']:.2f} s{loss} accuracy {found['accuracy']:.4f} "
            f"(others' CPU {found['others_cpu_seconds']:.1f} s)"
        )
    parts.append(f"ratio {result['ratio']:.2f}")
    idle = result["keras_idle_cpu_seconds"], result["tidegate_idle_cpu_seconds"]
    parts.append(f"CPU used while idle: Keras {idle[0]:.2f} s, tidegate {idle[1]:.2f} s")
    return "; ".join(parts)


def summarize(pairs: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "tidegate_s": spread(pair["tidegate"]["seconds"] for pair in pairs),
        "keras_s": spread(pair["keras"]["seconds"] for pair in pairs),
        "ratio": spread(pair["ratio"] for pair in pairs),
        # Of all threads, waiting ones included; less sensitive to other processes than seconds.
        "cpu_ratio": spread(
            pair["keras"]["cpu_seconds"] / pair["tidegate"]["cpu_seconds"] for pair in pairs
        ),
    }


if __name__ == "__main__":
    main()
