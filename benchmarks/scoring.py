"""How fast are reviews scored, beside ONNX Runtime, OpenVINO and oneDNN, in one interleaved run?

All sides hold the same weights of the lecture's network and get the same ids of IMDB's 25,000 test
reviews, 200 of each with zeros in front. The peers flush denormals and are asked with several batch
sizes; ratios are against the best of each. Then one review of 200 words is scored again and again:
by the peers from its ids, by tidegate from its ids and from its text. That all compute the same is
checked first. With --precision bfloat16 those that have it run in it, too, as sides of their own.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from machine import ROOT, add_output, busy_seconds, spread, usable_cores, versions, write_result
from processes import Peer
from reviews import official_reviews
from variants import padded

from tidegate import ops
from tidegate.batch import TokenizedTexts
from tidegate.model import ModelConfig, TextModel
from tidegate.text import Tokenizer

PEERS = ROOT / "benchmarks" / "peers"
# The options that name their Pythons, what these need, and which script runs there.
RUNTIMES = {
    "onnxruntime": ("onnx", "onnx and onnxruntime"),
    "openvino": ("openvino", "onnx and openvino"),
    "onednn": ("onednn", "onednn and onednn-devel"),
}
NAMES = {
    "tidegate": "tidegate",
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
    "onednn": "oneDNN",
}
BATCH_SIZES = (8, 16, 32, 64, 256)
CALLS = 500  # of one review
# Of a logit, relative to the largest: rounding, by precision.
MOST_DIFFERENT = {"float32": 1e-4, "bfloat16": 0.05}


def main() -> None:
    options = parse_options()
    ops.set_threads(options.threads)
    job = Job(options)
    with ExitStack() as stack:
        data = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "scoring.npz"
        job.write(data)
        peers = {
            name: stack.enter_context(Peer(command))
            for name, command in commands(options, job, data).items()
        }
        about = {name: peer.ask(do="about") for name, peer in peers.items()}
        ours = [Ours(precision, job) for precision in options.precision]
        theirs = [
            Theirs(name, precision, peer)
            for name, peer in peers.items()
            for precision in options.precision
            if precision in about[name]["precisions"]
        ]
        sides: list[Side] = [*ours, *theirs]
        differences = {side.name: job.difference(side) for side in sides}
        for name, found in differences.items():
            print(f"{label(name)}: a logit differs by at most {found:.1e} of the largest")
        runs = []
        for run in range(options.runs):
            for size in options.batch_sizes[:: 1 if run % 2 == 0 else -1]:
                runs.append(turn(run, "texts", sides, options.pause, batch_size=size))
        for run in range(options.runs):
            runs.append(turn(run, "one", sides, options.pause, row=job.long_row, calls=CALLS))
    summary = summarize(runs, len(job.texts), [side.name for side in sides])
    print(describe(summary, len(job.texts)))
    peer_versions = [found.pop("versions") for found in about.values()]
    for found in about.values():
        del found["cpu_began"], found["cpu_done"]
    write_result(
        options.output,
        versions={
            **versions("tidegate", "numpy"),
            **{name: version for found in peer_versions for name, version in found.items()},
        },
        settings={
            "cell": job.config.kind,
            "texts": len(job.texts),
            "largest_difference": differences,
            "batch_sizes": options.batch_sizes,
            "tidegate": ops.machine_info(),
            **about,
        },
        commands=[peer.command for peer in peers.values()],
        runs=runs,
        summary=summary,
    )


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, (option, needed) in RUNTIMES.items():
        parser.add_argument(
            f"--{option}-python",
            metavar="PATH",
            help=f"the Python of an environment with {needed}; without it, {NAMES[name]} is left "
            "out",
        )
    parser.add_argument("--cell", choices=("gru", "lstm", "rnn"), default="gru")
    parser.add_argument("--reset", choices=("after", "before"), default="after")
    parser.add_argument(
        "--precision",
        nargs="+",
        choices=ops.PRECISIONS,
        default=["float32"],
        help="of tidegate, and of the peers that have it",
    )
    parser.add_argument("--runs", type=int, default=3, help="turns of each side (default 3)")
    parser.add_argument(
        "--batch-sizes", type=int, nargs="+", default=list(BATCH_SIZES), metavar="N"
    )
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--texts", type=int, help="fewer texts, for a quick look")
    parser.add_argument("--quick", action="store_true", help="1,000 texts, two batch sizes")
    parser.add_argument("--pause", type=float, default=0.5, help="seconds between turns")
    parser.add_argument("--data", type=Path, help="the IMDB archive, as in `tidegate train`")
    add_output(parser)
    options = parser.parse_args()
    if not any(getattr(options, f"{option}_python") for option, _ in RUNTIMES.values()):
        parser.error("name at least one peer's Python")
    if options.quick:
        options.texts, options.batch_sizes = 1_000, [16, 64]
    return options


def commands(options: argparse.Namespace, job: Job, data: Path) -> dict[str, list[str]]:
    """How the peers that were asked for are started."""
    found = {}
    for name, (option, _) in RUNTIMES.items():
        python = getattr(options, f"{option}_python")
        if python is not None:
            found[name] = [
                *(python, str(PEERS / f"{option}_scoring.py"), str(data)),
                *("--cell", job.config.kind, "--threads", str(options.threads)),
            ]
    return found


class Job:
    """The network, the reviews as ids, and one of them as a text."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.config = ModelConfig(cell=options.cell, reset=options.reset)
        training, test = official_reviews(options.data)
        self.tokenizer = Tokenizer.fit(training.texts, self.config.vocabulary_size)
        listed = test.texts[: options.texts]
        self.texts = self.tokenizer.encode_all(listed, self.config.max_length)
        # A review that fills the network's length and no more than that.
        lengths = [len(self.tokenizer.token_strings(text, 1_000)) for text in listed]
        self.long_row = int(np.abs(np.array(lengths) - self.config.max_length).argmin())
        self.long_text = listed[self.long_row]
        self._expected = self.model().predict_logits(self.texts)[:, 0]

    def model(self, precision: ops.Precision = "float32") -> TextModel:
        return TextModel.initialize(self.config, 0, precision)

    def encode(self, texts: list[str]) -> TokenizedTexts:
        return self.tokenizer.encode_all(texts, self.config.max_length)

    def write(self, path: Path) -> None:
        arrays: dict[str, Any] = {
            "ids": padded(self.texts, self.config.max_length),
            **{f"weight/{name}": value for name, value in self.model().parameters.items()},
        }
        np.savez(path, **arrays)

    def difference(self, side: Side) -> float:
        """The largest difference of a logit from tidegate's in float32, relative to the largest.

        SystemExit if it is more than rounding.
        """
        found = float(np.abs(side.logits() - self._expected).max() / np.abs(self._expected).max())
        if not found <= MOST_DIFFERENT[side.precision]:
            raise SystemExit(f"{label(side.name)}'s logits differ by {found}: not the same network")
        return found


class Side(Protocol):
    """One of those who take turns, in one precision."""

    name: str
    precision: str

    def logits(self) -> Any:
        """[texts], of all reviews; not on the clock."""

    def score(self, batch_size: int) -> dict[str, Any]:
        """Score all reviews: seconds, and CPU seconds in all."""

    def one(self, row: int, calls: int) -> dict[str, Any]:
        """Score one again and again: seconds of each call, and CPU seconds in all."""


class Ours:
    """tidegate, in this process, prepared as a loaded model is."""

    def __init__(self, precision: ops.Precision, job: Job) -> None:
        self.name, self.precision = side_name("tidegate", precision), precision
        self._job = job
        self._model = job.model(precision)
        self._model.freeze()

    def logits(self) -> Any:
        return self._model.predict_logits(self._job.texts)[:, 0]

    def score(self, batch_size: int) -> dict[str, Any]:
        began, begun = time.process_time(), time.perf_counter()
        self._model.predict_logits(self._job.texts)
        seconds = time.perf_counter() - begun
        return {"seconds": seconds, "cpu_seconds": time.process_time() - began}

    def one(self, row: int, calls: int) -> dict[str, Any]:
        began = time.process_time()
        ids = self._job.encode([self._job.long_text])
        return {
            "seconds": timed(lambda: self._model.predict_logits(ids), calls),
            "from_text_seconds": timed(self._from_text, calls),
            "cpu_seconds": time.process_time() - began,
        }

    def _from_text(self) -> Any:
        ids = self._job.encode([self._job.long_text])
        return self._model.probabilities(self._model.predict_logits(ids))


class Theirs:
    """A peer, in a process of its own, in one precision."""

    def __init__(self, name: str, precision: ops.Precision, peer: Peer) -> None:
        self.name, self.precision = side_name(name, precision), precision
        self._peer = peer

    def logits(self) -> Any:
        return np.array(self._ask("score", batch_size=64, check=True)["logits"])

    def score(self, batch_size: int) -> dict[str, Any]:
        found = self._ask("score", batch_size=batch_size)
        del found["logits"]
        return found

    def one(self, row: int, calls: int) -> dict[str, Any]:
        return self._ask("one", row=row, calls=calls)

    def _ask(self, what: str, **request: Any) -> dict[str, Any]:
        found = self._peer.ask(do=what, precision=self.precision, **request)
        # With what it compiles and warms up, which is not on its clock.
        found["turn_cpu_seconds"] = found.pop("cpu_done") - found.pop("cpu_began")
        return found


def side_name(system: str, precision: str) -> str:
    return system if precision == "float32" else f"{system}_{precision}"


def label(name: str) -> str:
    system, _, precision = name.partition("_")
    return NAMES[system] + (f", {precision}" if precision else "")


def timed(call: Callable[[], Any], calls: int) -> list[float]:
    seconds = []
    for _ in range(calls):
        begun = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begun)
    return seconds


def turn(
    run: int, what: str, sides: Sequence[Side], pause: float, **request: int
) -> dict[str, Any]:
    """Every side once; every other time the last one begins."""
    order = list(sides) if run % 2 == 0 else list(sides)[::-1]
    result: dict[str, Any] = {"run": run + 1, "what": what, **request}
    result["order"] = [side.name for side in order]
    for side in order:
        time.sleep(pause)
        before = busy_seconds()
        found = side.score(**request) if what == "texts" else side.one(**request)
        used = found.pop("turn_cpu_seconds", found["cpu_seconds"])
        found["others_cpu_seconds"] = busy_seconds() - before - used
        result[side.name] = found
    if what == "texts":
        shown = ", ".join(f"{label(s.name)} {result[s.name]['seconds']:.3f} s" for s in sides)
        others = sum(result[side.name]["others_cpu_seconds"] for side in sides)
        print(
            f"texts {run + 1}, batch size {request['batch_size']}: {shown} "
            f"(others' CPU {others:.1f} s)",
            flush=True,
        )
    return result


def summarize(runs: list[dict[str, Any]], texts: int, names: Sequence[str]) -> dict[str, Any]:
    """Of every side; a peer's with its best batch size, and ratios turn by turn."""
    own = [name for name in names if name.startswith("tidegate")]
    by_size: dict[int, list[dict[str, Any]]] = {}
    for run in runs:
        if run["what"] == "texts":
            by_size.setdefault(run["batch_size"], []).append(run)
    everything = [run for found in by_size.values() for run in found]
    ones = [run for run in runs if run["what"] == "one"]
    of_texts: dict[str, Any] = {"best_batch_sizes": {}, "s_by_batch_size": {}}
    of_one: dict[str, Any] = {}
    chosen = {}
    for name in names:
        chosen[name] = everything
        if name not in own:  # tidegate makes its batches itself
            medians = {
                size: spread(run[name]["seconds"] for run in found)["median"]
                for size, found in by_size.items()
            }
            best = min(medians, key=lambda size: medians[size])
            of_texts["best_batch_sizes"][name] = best
            of_texts["s_by_batch_size"][name] = medians
            chosen[name] = by_size[best]
        of_texts[f"{name}_per_s"] = spread(texts / run[name]["seconds"] for run in chosen[name])
        of_one[f"{name}_us"] = spread(1e6 * middle(run[name]["seconds"]) for run in ones)
        if name in own:
            of_one[f"{name}_from_text_us"] = spread(
                1e6 * middle(run[name]["from_text_seconds"]) for run in ones
            )
    of_texts["ratios"] = {
        side: {
            name: spread(run[name]["seconds"] / run[side]["seconds"] for run in chosen[name])
            for name in names
            if name != side
        }
        for side in own
    }
    of_one["ratios_from_text"] = {
        side: {
            name: spread(
                middle(run[name]["seconds"]) / middle(run[side]["from_text_seconds"])
                for run in ones
            )
            for name in names
            if name not in own
        }
        for side in own
    }
    return {"texts": of_texts, "one": of_one}


def middle(seconds: Sequence[float]) -> float:
    return float(np.median(seconds))


def describe(summary: dict[str, Any], texts: int) -> str:
    of_texts, of_one = summary["texts"], summary["one"]
    lines = []
    for key, rates in of_texts.items():
        if not key.endswith("_per_s"):
            continue
        name = key.removesuffix("_per_s")
        size = of_texts["best_batch_sizes"].get(name)
        ratios = [
            f"{label(side)} is {found[name]['median']:.2f} times as fast "
            f"({found[name]['min']:.2f} to {found[name]['max']:.2f})"
            for side, found in of_texts["ratios"].items()
            if size is not None
        ]
        text = of_one.get(f"{name}_from_text_us")
        lines.append(
            f"{label(name)}: {texts:,} texts, {rates['median']:,.0f} a second"
            + (f" in batches of {size}; " if size is not None else "")
            + ", ".join(ratios)
            + f"; one text of 200 words {of_one[f'{name}_us']['median']:.0f} us from ids"
            + (f", {text['median']:.0f} us from text" if text is not None else "")
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
