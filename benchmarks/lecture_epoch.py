"""How long does an epoch of the lecture's job take, beside Keras, PyTorch and JAX?

All sides take turns in one run. They start from the same weights and train on the same ids in the
same order: batches of 64, 20,000 reviews of 200 ids, embedding 128, hidden 128, Adam. Only training
is timed: no validation, no reading of files, no compiling (the peers are warmed up before; tidegate
is not). While one side works the others wait, and the CPU time that they use meanwhile is recorded.

Before, every side trains on the first batches from the initial weights, unless --curve 0. Their
losses, batch by batch, show that all do the same.

A peer named by --part trains only on the first batches of the first epoch, each time from the
initial weights. Its seconds are then scaled to the texts of an epoch, and the result file says so.

--study names a folder outside of this repository with a program that was written for exactly this
job (see peers/study_lecture.py): it shows what can be reached, and is no peer that anybody can use.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from machine import ROOT, add_output, busy_seconds, spread, usable_cores, versions, write_result
from processes import Peer
from reviews import official_reviews
from variants import PerPosition, filled, padded, unshared_padding

from tidegate import initializers, ops
from tidegate.batch import TokenizedTexts
from tidegate.metrics import LabeledSet, evaluate
from tidegate.model import ModelConfig, TextModel
from tidegate.text import Tokenizer
from tidegate.training import EpochResult, StepResult, TrainConfig, train_steps

PEERS = ROOT / "benchmarks" / "peers"
VALIDATION_FRACTION = 0.2
NAMES = {
    "tidegate": "tidegate",
    "tidegate_bfloat16": "tidegate, bfloat16",
    "tidegate_plain": "tidegate, no work saved",
    "keras": "Keras",
    "torch": "PyTorch",
    "jax": "JAX",
    "study": "the study",
}


def main() -> None:
    options = parse_options()
    ops.set_threads(options.threads)
    job = Job(options)
    with ExitStack() as stack:
        data = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "lecture.npz"
        job.write(data)
        theirs = [
            Theirs(name, stack.enter_context(Peer(command)), options.part.get(name), job)
            for name, command in commands(options, job, data).items()
        ]
        ours = [Ours("tidegate", job, "float32")] if "float32" in options.precision else []
        ours += [
            Ours(f"tidegate_{precision}", job, precision)
            for precision in options.precision
            if precision != "float32"
        ]
        plain = [Ours("tidegate_plain", job, "float32", plain=True)] if options.plain else []
        sides: list[Side] = [*ours, *plain, *theirs]
        print("warming up ...", flush=True)
        curve = {side.name: side.warm_up(options.curve) for side in sides}
        print(describe_curve(curve), end="", flush=True)
        turns = Turns(options.pause)
        trained = [turns.round(run, "train", sides) for run in range(options.runs)]
        scored = []
        if options.score:
            scorers: list[Side] = [*ours, *theirs]
            scored = [turns.round(run, "score", scorers) for run in range(options.runs)]
    summary = {"train": summarize(trained)}
    if scored:
        summary["score"] = summarize(scored)
    for what, found in summary.items():
        print(describe_summary(what, found))
    about = {side.name: side.about for side in theirs}
    peer_versions = [found.pop("versions") for found in about.values()]
    write_result(
        options.output,
        versions={
            **versions("tidegate", "numpy"),
            **{name: version for found in peer_versions for name, version in found.items()},
        },
        settings={
            "cell": job.config.kind,
            "texts": len(job.examples),
            "test_texts": len(job.test or ()),
            "whole_epoch": options.batches is None,
            "batches_of_scaled_sides": {
                side.name: side.batches for side in theirs if side.batches is not None
            },
            "seed": options.seed,
            "tidegate": ops.machine_info(),
            **about,
        },
        commands=[side.peer.command for side in theirs],
        runs=trained + scored,
        summary={**summary, "curve": curve},
    )


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, needed in (("keras", "keras and tensorflow"), ("torch", "torch"), ("jax", "jax")):
        parser.add_argument(
            f"--{name}-python",
            metavar="PATH",
            help=f"the Python of an environment with {needed}; without it, {NAMES[name]} is left "
            "out",
        )
    parser.add_argument(
        "--study",
        type=Path,
        metavar="FOLDER",
        help="where the study was built (its libgru.so); only for the GRU, on two threads of "
        "AVX-512",
    )
    parser.add_argument("--cell", choices=("gru", "lstm", "rnn"), default="gru")
    parser.add_argument("--reset", choices=("after", "before"), default="after")
    parser.add_argument(
        "--precision", nargs="+", choices=ops.PRECISIONS, default=["float32"], help="of tidegate"
    )
    parser.add_argument(
        "--plain",
        action="store_true",
        help="tidegate once more, without the techniques that save work: see variants.py",
    )
    parser.add_argument("--runs", type=int, default=3, help="epochs of each side (default 3)")
    parser.add_argument(
        "--batches",
        type=int,
        metavar="N",
        help="batches in an epoch, for a quick look (default: all 313)",
    )
    parser.add_argument(
        "--part",
        type=peer_and_batches,
        nargs="*",
        default=[("torch", 40)],
        metavar="PEER=N",
        help="peers that train only on the first N batches, scaled (default torch=40)",
    )
    parser.add_argument(
        "--curve", type=int, default=40, metavar="N", help="batches whose losses are compared"
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="two turns of 20 batches for each peer and of 100 for tidegate",
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
        "TensorFlow; summed adds first, as Adam is defined, and all sides then have one curve",
    )
    parser.add_argument("--jax-unroll", type=int, default=1, help="steps of JAX's scan in one")
    parser.add_argument("--score", action="store_true", help="time the 25,000 test reviews too")
    parser.add_argument(
        "--score-batch-size", type=int, default=256, help="of the peers (default 256)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pause", type=float, default=1.0, help="seconds between turns")
    parser.add_argument("--data", type=Path, help="the IMDB archive, as in `tidegate train`")
    add_output(parser)
    options = parser.parse_args()
    options.part = dict(options.part)
    if options.quick:
        options.runs, options.batches, options.curve = 2, 100, min(options.curve, 20)
        options.part = dict.fromkeys(("keras", "torch", "jax"), 20)
    return options


def peer_and_batches(argument: str) -> tuple[str, int]:
    name, _, batches = argument.partition("=")
    if name not in NAMES or not batches.isdigit():
        raise argparse.ArgumentTypeError(f"{argument!r} is not like torch=40")
    return name, int(batches)


def commands(options: argparse.Namespace, job: Job, data: Path) -> dict[str, list[str]]:
    """How the peers that were asked for are started."""
    own = {
        "keras": ["--keras-jit", options.keras_jit, "--keras-adam", options.keras_adam],
        "torch": [],
        "jax": ["--unroll", str(options.jax_unroll)],
    }
    pythons = {name: getattr(options, f"{name}_python") for name in own}
    if options.study is not None:
        own["study"] = ["--library", str((options.study / "libgru.so").resolve())]
        pythons["study"] = sys.executable
    found = {}
    for name, more in own.items():
        python = pythons[name]
        if python is not None:
            found[name] = [
                *(python, str(PEERS / f"{name}_lecture.py"), str(data)),
                *("--cell", job.config.kind, "--threads", str(options.threads)),
                *("--batch-size", str(options.batch_size)),
                *("--score-batch-size", str(options.score_batch_size), *more),
            ]
    return found


class Job:
    """The texts and their order, and the network."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.runs, self.seed = options.runs, options.seed
        self.config = ModelConfig(cell=options.cell, reset=options.reset)
        training, test = official_reviews(options.data)
        tokenizer = Tokenizer.fit(training.texts, self.config.vocabulary_size)
        rows = initializers.permutation(options.seed, "split", len(training))
        rows = rows[: int(len(rows) * (1 - VALIDATION_FRACTION))]
        if options.batches is not None:
            rows = rows[: options.batches * options.batch_size]

        def labeled(texts: list[str], labels: list[str]) -> LabeledSet:
            targets = np.array([label == "positive" for label in labels], np.int32)
            return LabeledSet(tokenizer.encode_all(texts, self.config.max_length), targets)

        everything = labeled(training.texts, training.labels)
        self.examples = LabeledSet(everything.texts.select(rows), everything.targets[rows])
        self.test = labeled(test.texts, test.labels) if options.score else None
        self.train_config = TrainConfig(
            epochs=self.runs, batch_size=options.batch_size, seed=self.seed
        )

    def write(self, path: Path) -> None:
        """What the peers need: ids, targets, the order of every epoch, initial weights."""
        length = self.config.max_length
        empty = LabeledSet(TokenizedTexts.from_rows([]), np.zeros(0, np.int32))
        test = self.test or empty
        orders = [  # those that tidegate.training draws
            initializers.permutation(self.seed, f"shuffle epoch {epoch + 1}", len(self.examples))
            for epoch in range(self.runs)
        ]
        initial = TextModel.initialize(self.config, self.seed).parameters
        arrays: dict[str, Any] = {
            "ids": padded(self.examples.texts, length),
            "targets": self.examples.targets.astype(np.float32),
            "test_ids": padded(test.texts, length),
            "test_targets": test.targets,
            "orders": np.stack(orders),
            **{f"initial/{name}": value for name, value in initial.items()},
        }
        np.savez(path, **arrays)


class Side(Protocol):
    """One of those who take turns."""

    name: str

    def warm_up(self, batches: int) -> list[float]:
        """The losses of the first batches of the first epoch, then undone."""

    def turn(self, what: str, run: int) -> dict[str, Any]:
        """Train or score: seconds, and the CPU seconds that it used."""


class Ours:
    """tidegate, in this process."""

    def __init__(
        self, name: str, job: Job, precision: ops.Precision, *, plain: bool = False
    ) -> None:
        self.name, self._job, self._precision, self._plain = name, job, precision, plain
        self._examples = job.examples
        if plain:
            texts = filled(job.examples.texts, job.config.max_length)
            self._examples = LabeledSet(texts, job.examples.targets)
        self._model = self._new_model()
        self._epochs = self._events(self._model)

    def _new_model(self) -> TextModel:
        config = self._job.config
        if self._plain:
            return PerPosition.initialize(unshared_padding(config), self._job.seed, self._precision)
        return TextModel.initialize(config, self._job.seed, self._precision)

    def _events(self, model: TextModel) -> Iterator[StepResult | EpochResult]:
        return train_steps(model, self._examples, None, self._job.train_config)

    def warm_up(self, batches: int) -> list[float]:
        sums = [0.0]
        if batches:
            for event in self._events(self._new_model()):
                if isinstance(event, EpochResult) or event.step > batches:
                    break
                sums.append(event.loss * event.texts)
        texts = self._job.train_config.batch_size
        return [float(total) / texts for total in np.diff(sums)]

    def turn(self, what: str, run: int) -> dict[str, Any]:
        cpu_before = time.process_time()
        found = self._train() if what == "train" else self._score()
        return {**found, "cpu_seconds": time.process_time() - cpu_before}

    def _train(self) -> dict[str, Any]:
        begun = time.perf_counter()
        result = next(event for event in self._epochs if isinstance(event, EpochResult))
        seconds = time.perf_counter() - begun
        return {"seconds": seconds, "loss": result.loss, "accuracy": result.accuracy}

    def _score(self) -> dict[str, Any]:
        if self._job.test is None:
            raise SystemExit("imdb has no test set")
        result = evaluate(self._model, self._job.test)
        return {"seconds": result.seconds, "accuracy": result.accuracy}


class Theirs:
    """A peer, in a process of its own."""

    def __init__(self, name: str, peer: Peer, batches: int | None, job: Job) -> None:
        self.name, self.peer, self.batches = name, peer, batches
        self._texts = len(job.examples)
        self.about: dict[str, Any] = {}
        self._cpu_done = 0.0

    def warm_up(self, batches: int) -> list[float]:
        self.about = self.peer.ask(do="warm_up", batches=batches)
        self._cpu_done = self.about.pop("cpu_done")
        del self.about["cpu_began"]
        self.about["warm_up_seconds"] = self.about.pop("seconds")
        return [float(loss) for loss in self.about.pop("losses")]

    def turn(self, what: str, run: int) -> dict[str, Any]:
        training = {"epoch": run, "batches": self.batches} if what == "train" else {}
        found = self.peer.ask(do=what, **training)
        began, done = found.pop("cpu_began"), found.pop("cpu_done")
        # Used since its last answer, so while others worked and in the pauses.
        found["idle_cpu_seconds"], self._cpu_done = began - self._cpu_done, done
        found["cpu_seconds"] = done - began
        if what == "train" and self.batches is not None:
            scale = self._texts / found["texts"]
            found["measured_seconds"] = found["seconds"]
            found["measured_cpu_seconds"] = found["cpu_seconds"]
            found["seconds"] *= scale
            found["cpu_seconds"] *= scale
        return found


class Turns:
    """Lets the sides work one after the other and keeps account of whose CPU time it was."""

    def __init__(self, pause: float) -> None:
        self._pause = pause

    def round(self, run: int, what: str, sides: Sequence[Side]) -> dict[str, Any]:
        """Every side once; every other time the last one begins."""
        result: dict[str, Any] = {"run": run + 1, "what": what}
        order = list(sides) if run % 2 == 0 else list(sides)[::-1]
        result["order"] = [side.name for side in order]
        result["tidegate_idle_cpu_seconds"] = 0.0
        for side in order:
            time.sleep(self._pause)
            before, own_before = busy_seconds(), time.process_time()
            found = side.turn(what, run)
            used = found.get("measured_cpu_seconds", found["cpu_seconds"])
            found["others_cpu_seconds"] = busy_seconds() - before - used
            if isinstance(side, Theirs):
                result["tidegate_idle_cpu_seconds"] += time.process_time() - own_before
            result[side.name] = found
            print(describe_turn(what, run, side.name, found), flush=True)
        return result


def describe_turn(what: str, run: int, name: str, found: dict[str, Any]) -> str:
    loss = f", loss {found['loss']:.4f}" if "loss" in found else ""
    accuracy = f", accuracy {found['accuracy']:.4f}" if found["accuracy"] is not None else ""
    part = ""
    if "measured_seconds" in found:
        part = f", scaled from {found['texts']} texts in {found['measured_seconds']:.2f} s"
    return (
        f"{what} {run + 1}: {NAMES[name]} {found['seconds']:.2f} s{part}{loss}{accuracy} "
        f"(others' CPU {found['others_cpu_seconds']:.1f} s)"
    )


def describe_curve(curve: dict[str, list[float]]) -> str:
    """Every tenth batch's loss, side beside side; how far the peers' are from tidegate's."""
    lines = []
    own = next(iter(curve.values()))
    for name, losses in curve.items():
        if losses:
            shown = " ".join(f"{loss:.5f}" for loss in [losses[0], *losses[9::10]])
            far = np.abs(np.subtract(losses, own)).max()
            lines.append(f"  {NAMES[name]}: {shown}; differs by at most {far:.0e}\n")
    return "losses of batches 1, 10, 20 ...\n" + "".join(lines) if lines else ""


def summarize(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Seconds of all sides; the others' time as a multiple of each of tidegate's, turn by turn."""
    names = [name for name in NAMES if name in rounds[0]]

    def ratios(of: str) -> dict[str, Any]:
        return {
            own: {
                other: spread(each[other][of] / each[own][of] for each in rounds)
                for other in names
                if other != own
            }
            for own in names
            if own.startswith("tidegate")
        }

    return {
        **{f"{name}_s": spread(each[name]["seconds"] for each in rounds) for name in names},
        "ratio": ratios("seconds"),
        # Of all threads, waiting ones included; less sensitive to other processes than seconds.
        "cpu_ratio": ratios("cpu_seconds"),
    }


def describe_summary(what: str, found: dict[str, Any]) -> str:
    seconds = [
        f"{name} {found[f'{key}_s']['median']:.2f} s"
        for key, name in NAMES.items()
        if f"{key}_s" in found
    ]
    lines = [f"{what}: " + ", ".join(seconds)]
    for side, others in found["ratio"].items():
        for other, ratio in others.items():
            if not other.startswith("tidegate"):
                lines.append(
                    f"  {NAMES[side]} is {ratio['median']:.2f} times as fast as {NAMES[other]} "
                    f"({ratio['min']:.2f} to {ratio['max']:.2f})"
                )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
