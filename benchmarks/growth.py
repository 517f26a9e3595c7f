"""How does the time per token grow with the sizes of the job?

Hidden size, length of the texts, batch size, vocabulary and number of texts are varied one at a
time around the lecture's job, on each number of threads in turns. Measured are training (everything
that an epoch does, divided by its tokens) and scoring by a frozen model, from ids.

Texts are made up: as long as the network reads, so that every token is work and none is padding,
and with words as frequent as in English. Work counts the matrix products of the recurrent layer
that the method needs: in training the input product once for each distinct word of a batch, in
scoring none, because it is prepared with the model. The peak is that of peak.py: float32, whatever
the precision.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from machine import add_output, busy_seconds, spread, usable_cores, versions, write_result
from peak import Peak
from variants import work

from tidegate import ops
from tidegate.batch import TokenizedTexts
from tidegate.metrics import LabeledSet
from tidegate.model import ModelConfig, TextModel
from tidegate.text import FIRST_WORD_ID
from tidegate.training import TrainConfig, train

AXES: dict[str, tuple[int, ...]] = {
    "hidden": (32, 64, 128, 256, 512, 1024),
    "length": (50, 100, 200, 500, 1000, 2000),
    "batch": (1, 4, 16, 64, 128, 256, 512),
    "vocabulary": (1_000, 3_000, 10_000, 30_000, 100_000),
    "texts": (1, 8, 64, 512, 4_096, 25_000),
}
QUICK: dict[str, tuple[int, ...]] = {
    "hidden": (32, 128, 512),
    "length": (50, 500),
    "batch": (1, 64, 256),
    "vocabulary": (1_000, 100_000),
    "texts": (1, 64, 4_096),
}
MOST_TRAINED = 4_096  # texts; what there is to see is seen by then
ASSUMED_GFLOPS = 100.0  # only to choose how much to measure


@dataclass(frozen=True)
class Case:
    """One point on an axis. texts: how many, or None for as many as take a good time."""

    axis: str
    value: int
    config: ModelConfig
    batch: int = 64
    texts: int | None = None


def main() -> None:
    options = parse_options()
    runs = []
    with Peak(options.threads) as peak:
        for case in cases(options):
            runs += measure(case, options, peak)
        library, peaks = peak.library, peak.by_threads()
    summary: dict[str, Any] = {
        "peak_gflops": peaks,
        "points": [summarize(run, peaks) for run in runs],
    }
    for threads, gflops in peaks.items():
        print(f"peak on {threads} threads: {gflops:.0f} GFLOP/s ({library})")
    for point in summary["points"]:
        print(describe(point))
    write_result(
        options.output,
        versions=versions("tidegate", "numpy"),
        settings={
            "cell": base(options).kind,
            "precision": options.precision,
            "base": {**base(options).to_json(), "batch": Case("", 0, base(options)).batch},
            "rounds": options.rounds,
            "tidegate": ops.machine_info(),
            "blas": library,
        },
        runs=runs,
        summary=summary,
    )


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cell", choices=("gru", "lstm", "rnn"), default="gru")
    parser.add_argument("--precision", choices=ops.PRECISIONS, default="float32")
    parser.add_argument("--axes", nargs="+", choices=tuple(AXES), default=list(AXES))
    parser.add_argument(
        "--threads", type=int, nargs="+", default=sorted({1, usable_cores()}), metavar="N"
    )
    parser.add_argument("--rounds", type=int, default=3, help="times of each (default 3)")
    parser.add_argument(
        "--seconds", type=float, default=0.25, help="about as long is one of them (default 0.25)"
    )
    parser.add_argument("--quick", action="store_true", help="fewer points, each shorter")
    add_output(parser)
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 2, 0.1
    return options


def base(options: argparse.Namespace) -> ModelConfig:
    return ModelConfig(cell=options.cell)


def cases(options: argparse.Namespace) -> list[Case]:
    config = base(options)
    fields = {"hidden": "hidden_size", "length": "max_length", "vocabulary": "vocabulary_size"}
    found = []
    for axis in options.axes:
        for value in (QUICK if options.quick else AXES)[axis]:
            case = Case(axis, value, config)
            if axis == "batch":
                case = replace(case, batch=value)
            elif axis == "texts":
                case = replace(case, texts=value)
            else:
                changed = ModelConfig.from_json({**config.to_json(), fields[axis]: value})
                case = replace(case, config=changed)
            found.append(case)
    return found


def made_up_texts(count: int, length: int, vocabulary: int) -> TokenizedTexts:
    """Words as frequent as Mandelbrot's law has it; every text has the full length."""
    generator = np.random.default_rng(0)
    weight = 1.0 / (np.arange(FIRST_WORD_ID, vocabulary) + 6.0) ** 1.25
    limits = np.cumsum(weight / weight.sum())
    drawn = np.searchsorted(limits, generator.random(count * length))
    ids = (np.minimum(drawn, len(limits) - 1) + FIRST_WORD_ID).astype(np.int32)
    return TokenizedTexts(ids, np.arange(0, count * length + 1, length, dtype=np.int64))


def measure(case: Case, options: argparse.Namespace, peak: Peak) -> list[dict[str, Any]]:
    """Training and scoring on every number of threads, in turns."""
    sides = [side for side in (training(case, options), scoring(case, options)) if side is not None]
    found: dict[int, dict[str, Any]] = {}
    ops.set_threads(max(options.threads))
    for side in sides:
        side.call()  # touches the memory
    for threads in options.threads:
        found[threads] = {"axis": case.axis, "value": case.value, "threads": threads}
        for side in sides:
            found[threads][side.name] = {**side.about, "seconds": [], "others_cpu_seconds": []}
    for i in range(options.rounds):
        for threads in options.threads[:: 1 if i % 2 == 0 else -1]:
            ops.set_threads(threads)
            for side in sides:
                before, own_before = busy_seconds(), time.process_time()
                begun = time.perf_counter()
                for _ in range(side.repeat):
                    side.call()
                seconds = time.perf_counter() - begun
                own = time.process_time() - own_before
                figures = found[threads][side.name]
                figures["seconds"].append(seconds / side.repeat)
                figures["others_cpu_seconds"].append(busy_seconds() - before - own)
            found[threads].setdefault("blas_gflops", []).append(peak.multiply(threads))
    print(".", end="" if case.value != AXES[case.axis][-1] else "\n", flush=True)
    return list(found.values())


@dataclass(frozen=True)
class Measured:
    """What is measured. about: its tokens and work. repeat: calls that are timed together."""

    name: str
    call: Callable[[], object]
    about: dict[str, Any]
    repeat: int = 1


def training(case: Case, options: argparse.Namespace) -> Measured | None:
    """Epochs of a few batches."""
    config = case.config
    texts = case.texts
    if texts is None:
        one = 6e-9 * case.batch * config.max_length * recurrent_size(config)
        batches = min(256, max(2, round(options.seconds * ASSUMED_GFLOPS / one)))
        texts = batches * case.batch
    elif texts > MOST_TRAINED:
        return None
    ids = made_up_texts(texts, config.max_length, config.vocabulary_size)
    targets = (np.arange(texts) % 2).astype(np.int32)
    model = TextModel.initialize(config, 0, options.precision)
    epochs = train(
        model,
        LabeledSet(ids, targets),
        None,
        TrainConfig(epochs=10_000, batch_size=case.batch, learning_rate=1e-5),
    )
    # Each batch has about as many distinct words as this one.
    needed = work(model.pack(ids, np.arange(min(case.batch, texts))), config)
    gflop = needed["forward_gflop"] + needed["backward_gflop"]
    about = {
        "texts": texts,
        "tokens": texts * config.max_length,
        "gflop": gflop * texts / min(case.batch, texts),
        "words_a_batch": needed["words"],
    }
    return Measured("train", lambda: next(epochs), about, repeats(about["gflop"], options))


def scoring(case: Case, options: argparse.Namespace) -> Measured | None:
    if case.axis == "batch":
        return None  # the scorer chooses its own
    config = case.config
    one = 2e-9 * config.max_length * recurrent_size(config)
    texts = case.texts or min(25_000, max(8, round(options.seconds * ASSUMED_GFLOPS / one)))
    ids = made_up_texts(texts, config.max_length, config.vocabulary_size)
    model = TextModel.initialize(config, 0, options.precision)
    model.freeze()
    # The words' products are made for good once as many tokens as words were scored.
    enough = -(-config.vocabulary_size // config.max_length)
    model.predict_logits(made_up_texts(enough, config.max_length, config.vocabulary_size))
    about = {"texts": texts, "tokens": texts * config.max_length, "gflop": one * texts}
    return Measured(
        "score", lambda: model.predict_logits(ids), about, repeats(about["gflop"], options)
    )


def recurrent_size(config: ModelConfig) -> int:
    """Numbers in the recurrent kernel."""
    rows, columns = config.parameter_shapes()["recurrent.recurrent_kernel"]
    return rows * columns


def repeats(gflop: float, options: argparse.Namespace) -> int:
    """Calls that take about as long as was asked for; small ones take longer than their work."""
    return min(100, max(1, round(float(options.seconds) * ASSUMED_GFLOPS / gflop)))


def summarize(run: dict[str, Any], peaks: dict[str, float]) -> dict[str, Any]:
    found: dict[str, Any] = {key: run[key] for key in ("axis", "value", "threads")}
    for side in ("train", "score"):
        if side in run:
            figures = run[side]
            seconds = spread(figures["seconds"])
            gflops = figures["gflop"] / seconds["median"]
            found[side] = {
                "us_per_token": {k: 1e6 * v / figures["tokens"] for k, v in seconds.items()},
                "gflops": gflops,
                "share_of_peak": gflops / peaks[str(run["threads"])],
            }
    return found


def describe(point: dict[str, Any]) -> str:
    parts = [f"{point['axis']} {point['value']:,}, {point['threads']} threads"]
    for side, name in (("train", "training"), ("score", "scoring")):
        if figures := point.get(side):
            time_ = figures["us_per_token"]
            parts.append(
                f"{name} {time_['median']:.3f} us a token ({time_['min']:.3f} to "
                f"{time_['max']:.3f}), {figures['gflops']:.0f} GFLOP/s, "
                f"{figures['share_of_peak']:.0%} of peak"
            )
    return "; ".join(parts)


if __name__ == "__main__":
    main()
