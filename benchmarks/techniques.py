"""What do the kernels' speed and the work that is saved gain, each for itself?

Two techniques save work: the input product once for each distinct word of a batch, and padding as
one trajectory that all texts branch off. The recurrent layer runs forward and backward over the
same batches of 64 with both, with one of them and with neither, in turns; that the last states are
the same is checked. Neither is what a framework computes: 64 rows of 200 vectors. Words are IMDB's
reviews', and beside them the same texts with every word drawn anew, all words alike: that leaves
few repetitions, and so little to save.

Gathering the words' vectors is on the clock. Adding up gradients word by word is where it belongs
to the layer, which is with distinct words; the other side hands out a gradient for each position.
GFLOP/s count what is multiplied; the needed share of it is what both techniques leave.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from machine import add_output, busy_seconds, spread, usable_cores, versions, write_result
from peak import Peak
from reviews import official_reviews
from variants import filled, unshared_padding, work

from tidegate import ops
from tidegate.batch import PackedBatch, TokenizedTexts
from tidegate.model import ModelConfig, TextModel
from tidegate.text import FIRST_WORD_ID, Tokenizer

BATCH = 64


@dataclass(frozen=True)
class Variant:
    """Which techniques are used."""

    distinct_words: bool
    shared_padding: bool


VARIANTS = {
    "both": Variant(distinct_words=True, shared_padding=True),
    "words": Variant(distinct_words=True, shared_padding=False),
    "padding": Variant(distinct_words=False, shared_padding=True),
    "neither": Variant(distinct_words=False, shared_padding=False),
}


def main() -> None:
    options = parse_options()
    real = imdb_texts(options)
    config = ModelConfig(cell=options.cell)
    texts = {"imdb": real, "uniform": uniform_words(real, config.vocabulary_size)}
    runs: list[dict[str, Any]] = []
    with Peak(options.threads) as peak:
        for name, found in texts.items():
            layers = {
                variant: Layer(config, found, chosen, options.precision)
                for variant, chosen in VARIANTS.items()
            }
            differences = compare(layers)
            print(f"{name}: last states differ by at most {max(differences.values()):.0e}")
            for i in range(options.rounds):
                for threads in options.threads[:: 1 if i % 2 == 0 else -1]:
                    about = {"round": i + 1, "texts": name, "threads": threads}
                    runs += turns(layers, about, reverse=bool(i % 2))
                    peak.multiply(threads)
        library, peaks = peak.library, peak.by_threads()
    summary: dict[str, Any] = {"peak_gflops": peaks, "variants": summarize(runs, peaks)}
    for figures in summary["variants"]:
        print(describe(figures))
    for threads, gflops in peaks.items():
        print(f"peak on {threads} threads: {gflops:.0f} GFLOP/s ({library})")
    write_result(
        options.output,
        versions=versions("tidegate", "numpy"),
        settings={
            "cell": config.kind,
            "precision": options.precision,
            "batches": options.batches,
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
    parser.add_argument(
        "--threads", type=int, nargs="+", default=sorted({1, usable_cores()}), metavar="N"
    )
    parser.add_argument("--batches", type=int, default=8, help="different ones (default 8)")
    parser.add_argument("--rounds", type=int, default=9, help="times through them (default 9)")
    parser.add_argument("--quick", action="store_true", help="three rounds of four batches")
    parser.add_argument("--data", type=Path, help="the IMDB archive, as in `tidegate train`")
    add_output(parser)
    options = parser.parse_args()
    if options.quick:
        options.batches, options.rounds = 4, 3
    return options


def imdb_texts(options: argparse.Namespace) -> TokenizedTexts:
    """Reviews of the training set, as many as the batches take."""
    config = ModelConfig()
    train, _ = official_reviews(options.data)
    chosen = np.random.default_rng(0).permutation(len(train))[: BATCH * options.batches]
    tokenizer = Tokenizer.fit(train.texts, config.vocabulary_size)
    return tokenizer.encode_all(train.select(chosen.tolist()).texts, config.max_length)


def uniform_words(texts: TokenizedTexts, vocabulary: int) -> TokenizedTexts:
    """Texts of the same lengths."""
    ids = np.random.default_rng(1).integers(FIRST_WORD_ID, vocabulary, len(texts.token_ids))
    return TokenizedTexts(ids.astype(np.int32), texts.offsets)


class Layer:
    """Embedding and recurrent layer with some techniques, over all batches of some texts."""

    def __init__(
        self,
        config: ModelConfig,
        texts: TokenizedTexts,
        variant: Variant,
        precision: ops.Precision,
    ) -> None:
        if not variant.shared_padding:
            texts, config = filled(texts, config.max_length), unshared_padding(config)
        self.variant, self.precision, self.kind = variant, precision, config.kind
        model = TextModel.initialize(config, 0)
        parameters = model.parameters
        self.table = parameters["embedding.weight"]
        self.weights = ops.RecurrentWeights(
            parameters["recurrent.kernel"],
            parameters["recurrent.recurrent_kernel"],
            parameters["recurrent.bias"],
            parameters.get("recurrent.recurrent_bias"),
        )
        self.tape = ops.RecurrentTape()
        rows = np.arange(len(texts)).reshape(-1, BATCH)
        self.batches = [model.pack(texts, some) for some in rows]
        dense = not variant.distinct_words
        each = [work(batch, config, per_position=dense) for batch in self.batches]
        self.work = {name: sum(one[name] for one in each) / len(each) for name in each[0]}
        shape = (BATCH, config.hidden_size)
        self.d_last = np.random.default_rng(1).standard_normal(shape, np.float32)
        self.round()  # fetches the memory

    def forward(self, batch: PackedBatch) -> np.ndarray:
        """Last states [B, H], in the batch's order."""
        dense = not self.variant.distinct_words
        inputs = ops.gather_rows(self.table, batch.words[batch.index] if dense else batch.words)
        _, last, _ = ops.recurrent_forward(
            self.kind,
            batch,
            inputs,
            self.weights,
            dense=dense,
            tape=self.tape,
            precision=self.precision,
        )
        return last

    def round(self) -> dict[str, float]:
        """Mean milliseconds of a batch."""
        seconds = np.zeros(2)
        for batch in self.batches:
            seconds[0] += timed(partial(self.forward, batch))
            seconds[1] += timed(partial(ops.recurrent_backward, self.tape, self.d_last))
        forward, backward = 1e3 * seconds / len(self.batches)
        return {"forward_ms": float(forward), "backward_ms": float(backward)}


def timed(call: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def compare(layers: dict[str, Layer]) -> dict[str, float]:
    """How far each variant's last states are from the first one's. SystemExit if too far."""
    found: dict[str, float] = {}
    states = {}
    for name, layer in layers.items():
        batch = layer.batches[0]
        states[name] = layer.forward(batch)[np.argsort(batch.rows)]
    first = next(iter(states.values()))
    for name, last in states.items():
        found[name] = float(np.abs(last - first).max())
        if found[name] > 1e-4:
            raise SystemExit(f"{name}: last states differ by {found[name]}: not the same layer")
    return found


def turns(
    layers: dict[str, Layer], about: dict[str, Any], *, reverse: bool
) -> list[dict[str, Any]]:
    """Every variant once."""
    ops.set_threads(about["threads"])
    found = []
    for name, layer in reversed(layers.items()) if reverse else layers.items():
        layer.forward(layer.batches[0])  # its memory, and its threads awake
        before, own_before = busy_seconds(), time.process_time()
        measured = layer.round()
        own = time.process_time() - own_before
        others = {"others_cpu_seconds": busy_seconds() - before - own}
        found.append({**about, "variant": name, **measured, **others, **layer.work})
    return found


def summarize(runs: list[dict[str, Any]], peaks: dict[str, float]) -> list[dict[str, Any]]:
    found = []
    for texts, threads, variant in dict.fromkeys(
        (run["texts"], run["threads"], run["variant"])
        for run in sorted(runs, key=lambda run: list(VARIANTS).index(run["variant"]))
    ):
        own = of(runs, texts, threads, variant)
        best = of(runs, texts, threads, "both")
        figures: dict[str, Any] = {"texts": texts, "threads": threads, "variant": variant}
        figures["words"], figures["positions"] = own[0]["words"], own[0]["positions"]
        figures["ms"] = spread(layer_ms(run) for run in own)
        figures["gflop"] = gflop(own[0])
        figures["needed"] = gflop(best[0]) / figures["gflop"]
        for way in ("forward", "backward"):
            figures[f"{way}_ms"] = spread(run[f"{way}_ms"] for run in own)
            rate = own[0][f"{way}_gflop"] / figures[f"{way}_ms"]["median"] * 1e3
            figures[f"{way}_share_of_peak"] = rate / peaks[str(threads)]
        figures["gflops"] = figures["gflop"] / figures["ms"]["median"] * 1e3
        figures["share_of_peak"] = figures["gflops"] / peaks[str(threads)]
        pairs = zip(own, best, strict=True)  # of the same rounds
        figures["times_both"] = spread(layer_ms(a) / layer_ms(b) for a, b in pairs)
        found.append(figures)
    return sorted(found, key=lambda each: (each["texts"], each["threads"]))


def of(runs: list[dict[str, Any]], texts: str, threads: int, variant: str) -> list[dict[str, Any]]:
    """The rounds of one variant."""
    wanted = {"texts": texts, "threads": threads, "variant": variant}
    found = [run for run in runs if wanted.items() <= run.items()]
    return sorted(found, key=lambda run: run["round"])


def layer_ms(run: dict[str, Any]) -> float:
    return float(run["forward_ms"] + run["backward_ms"])


def gflop(run: dict[str, Any]) -> float:
    return float(run["forward_gflop"] + run["backward_gflop"])


def describe(figures: dict[str, Any]) -> str:
    ms, ratio = figures["ms"], figures["times_both"]
    return (
        f"{figures['texts']}, {figures['threads']} threads, techniques used: "
        f"{figures['variant']}: {ms['median']:.2f} ms ({ms['min']:.2f} to {ms['max']:.2f}), "
        f"{ratio['median']:.2f} times as long as with both; {figures['words']:.0f} words at "
        f"{figures['positions']:.0f} positions, {figures['gflop']:.2f} GFLOP, of which "
        f"{figures['needed']:.0%} are needed; {figures['gflops']:.0f} GFLOP/s, "
        f"{figures['share_of_peak']:.0%} of peak"
    )


if __name__ == "__main__":
    main()
