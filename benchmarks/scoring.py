"""How fast are reviews scored, beside ONNX Runtime, in one interleaved run?

Both sides hold the same weights of the lecture's network and get the same ids of IMDB's 25,000
test reviews, 200 of each with zeros in front. ONNX Runtime, with denormals flushed, is asked with
several batch sizes; the ratio is against the best of them. Then one review of 200 words is scored
again and again: by ONNX Runtime from its ids, by tidegate from its ids and from its text. That
both compute the same is checked first.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from machine import ROOT, add_output, busy_seconds, spread, usable_cores, versions, write_result
from processes import Peer
from reviews import official_reviews
from variants import padded

from tidegate import ops
from tidegate.batch import TokenizedTexts
from tidegate.model import ModelConfig, TextModel
from tidegate.text import Tokenizer

PEER = ROOT / "benchmarks" / "peers" / "onnx_scoring.py"
BATCH_SIZES = (8, 16, 32, 64, 256)
CALLS = 500  # of one review


def main() -> None:
    options = parse_options()
    ops.set_threads(options.threads)
    job = Job(options)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "scoring.npz"
        job.write(data)
        kind = job.model.config.kind
        command = [
            *(options.onnx_python, str(PEER), str(data)),
            *("--cell", kind, "--threads", str(options.threads)),
        ]
        with Peer(command) as peer:
            about = peer.ask(do="about")
            difference = job.compare(peer)
            print(f"largest relative difference of a logit: {difference:.1e}")
            runs = []
            for run in range(options.runs):
                sizes = BATCH_SIZES if run % 2 == 0 else BATCH_SIZES[::-1]
                for size in sizes:
                    runs.append(pair(run, "texts", job.score, peer, options.pause, batch_size=size))
            for run in range(options.runs):
                row = job.long_row
                runs.append(pair(run, "one", job.one, peer, options.pause, row=row, calls=CALLS))
    summary = summarize(runs, len(job.texts))
    texts, one = summary["texts"], summary["one"]
    print(
        f"{len(job.texts):,} texts: tidegate {texts['tidegate_per_s']['median']:,.0f} texts/s; "
        f"ONNX Runtime's best batch size, {texts['best_batch_size']}: "
        f"{texts['onnxruntime_per_s']['median']:,.0f}; ratio {texts['ratio']['median']:.2f} "
        f"({texts['ratio']['min']:.2f} to {texts['ratio']['max']:.2f})"
    )
    print(
        f"one text of 200 words: tidegate {one['tidegate_us']['median']:.0f} us from ids, "
        f"{one['tidegate_from_text_us']['median']:.0f} us from text; ONNX Runtime "
        f"{one['onnxruntime_us']['median']:.0f} us from ids"
    )
    write_result(
        options.output,
        versions={**versions("tidegate", "numpy"), **about["versions"]},
        settings={
            "cell": kind,
            "texts": len(job.texts),
            "largest_difference": difference,
            "tidegate": ops.machine_info(),
            "onnxruntime": {"intra_op_threads": options.threads, "batch_sizes": BATCH_SIZES},
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
        "--onnx-python",
        required=True,
        metavar="PATH",
        help="the Python of an environment with onnx and onnxruntime",
    )
    parser.add_argument("--cell", choices=("gru", "lstm", "rnn"), default="gru")
    parser.add_argument("--reset", choices=("after", "before"), default="after")
    parser.add_argument("--runs", type=int, default=3, help="turns of each side (default 3)")
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--texts", type=int, help="fewer texts, for a quick look")
    parser.add_argument("--pause", type=float, default=0.5, help="seconds between turns")
    parser.add_argument("--data", type=Path, help="the IMDB archive, as in `tidegate train`")
    add_output(parser)
    return parser.parse_args()


class Job:
    """tidegate's side, and the same data for ONNX Runtime."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.model = TextModel.initialize(ModelConfig(cell=options.cell, reset=options.reset), 0)
        config = self.model.config
        training, test = official_reviews(options.data)
        self.tokenizer = Tokenizer.fit(training.texts, config.vocabulary_size)
        listed = test.texts[: options.texts]
        self.texts = self.tokenizer.encode_all(listed, config.max_length)
        self.model.freeze()
        # A review that fills the network's length and no more than that.
        lengths = [len(self.tokenizer.token_strings(text, 1_000)) for text in listed]
        self.long_row = int(np.abs(np.array(lengths) - config.max_length).argmin())
        self.long_text = listed[self.long_row]

    def write(self, path: Path) -> None:
        arrays: dict[str, Any] = {
            "ids": padded(self.texts, self.model.config.max_length),
            **{f"weight/{name}": value for name, value in self.model.parameters.items()},
        }
        np.savez(path, **arrays)

    def compare(self, peer: Peer) -> float:
        """The largest difference of a logit, relative to the largest of them.

        SystemExit if it is more than rounding.
        """
        theirs = np.array(peer.ask(do="score", batch_size=64, check=True)["logits"])
        ours = self.model.predict_logits(self.texts)[:, 0]
        difference = float(np.abs(theirs - ours).max() / np.abs(ours).max())
        if difference > 1e-4:
            raise SystemExit(f"the two sides' logits differ by {difference}: not the same network")
        return difference

    def score(self) -> dict[str, Any]:
        begun = time.perf_counter()
        self.model.predict_logits(self.texts)
        return {"seconds": time.perf_counter() - begun}

    def one(self) -> dict[str, Any]:
        length = self.model.config.max_length
        ids = self.tokenizer.encode_all([self.long_text], length)
        return {
            "seconds": timed(lambda: self.model.predict_logits(ids)),
            "from_text_seconds": timed(lambda: self._from_text(length)),
        }

    def _from_text(self, length: int) -> Any:
        ids: TokenizedTexts = self.tokenizer.encode_all([self.long_text], length)
        return self.model.probabilities(self.model.predict_logits(ids))


def timed(call: Callable[[], Any]) -> list[float]:
    seconds = []
    for _ in range(CALLS):
        begun = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begun)
    return seconds


def pair(
    run: int,
    what: str,
    ours: Callable[[], dict[str, Any]],
    peer: Peer,
    pause: float,
    **request: int,
) -> dict[str, Any]:
    """Both sides once; every other time ONNX Runtime begins."""
    result: dict[str, Any] = {"run": run + 1, "what": what, **request}
    sides = ("tidegate", "onnxruntime") if run % 2 == 0 else ("onnxruntime", "tidegate")
    result["first"] = sides[0]
    before, own_before, peer_cpu = busy_seconds(), time.process_time(), 0.0
    for side in sides:
        time.sleep(pause)
        if side == "tidegate":
            result[side] = ours()
        else:
            result[side] = found = peer.ask(do="score" if what == "texts" else what, **request)
            peer_cpu = found.pop("cpu_done") - found.pop("cpu_began")
            found.pop("logits", None)
    own_cpu = time.process_time() - own_before
    result["others_cpu_seconds"] = busy_seconds() - before - own_cpu - peer_cpu
    if what == "texts":
        print(
            f"{what} {run + 1}, batch size {request['batch_size']}: tidegate "
            f"{result['tidegate']['seconds']:.3f} s, ONNX Runtime "
            f"{result['onnxruntime']['seconds']:.2f} s "
            f"(others' CPU {result['others_cpu_seconds']:.1f} s)",
            flush=True,
        )
    return result


def summarize(runs: list[dict[str, Any]], texts: int) -> dict[str, Any]:
    by_size = {size: [run for run in runs if run.get("batch_size") == size] for size in BATCH_SIZES}
    medians = {
        size: spread(run["onnxruntime"]["seconds"] for run in found)["median"]
        for size, found in by_size.items()
    }
    best = min(medians, key=lambda size: medians[size])
    ones = [run for run in runs if run["what"] == "one"]

    def microseconds(side: str, what: str) -> dict[str, float]:
        return spread(1e6 * float(np.median(run[side][what])) for run in ones)

    return {
        "texts": {
            "tidegate_per_s": spread(
                texts / run["tidegate"]["seconds"] for found in by_size.values() for run in found
            ),
            "onnxruntime_per_s": spread(
                texts / run["onnxruntime"]["seconds"] for run in by_size[best]
            ),
            "best_batch_size": best,
            "onnxruntime_s_by_batch_size": medians,
            "ratio": spread(
                run["onnxruntime"]["seconds"] / run["tidegate"]["seconds"] for run in by_size[best]
            ),
        },
        "one": {
            "tidegate_us": microseconds("tidegate", "seconds"),
            "tidegate_from_text_us": microseconds("tidegate", "from_text_seconds"),
            "onnxruntime_us": microseconds("onnxruntime", "seconds"),
            "ratio_from_text": spread(
                float(np.median(run["onnxruntime"]["seconds"]))
                / float(np.median(run["tidegate"]["from_text_seconds"]))
                for run in ones
            ),
        },
    }


if __name__ == "__main__":
    main()
