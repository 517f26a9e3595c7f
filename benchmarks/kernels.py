"""How many milliseconds does the recurrent layer need for a batch, and what share of the peak?

Times packing, forward and backward of one layer for each cell, size, instruction set and number of
threads, as training calls them: 64 texts of up to 200 words, unmasked. Texts are made up, with
IMDB's lengths and word frequencies; --imdb takes the real ones. With --against, the tidegate of
another environment runs the same batches in turns with this one: that is how two commits compare.

Work counts the matrix products that the method needs (input products once for each distinct word,
no padded steps but the padding row's), a multiplication and an addition being two operations. The
peak is the best that NumPy's BLAS does, in turns with the layer and on as many threads, with
float32 products of 2048 x 2048 x 2048, for every precision. OpenBLAS takes its AVX2 kernels on
processors that it does not know, so where there is AVX-512 a second BLAS is told to use it, and the
faster one counts. A case on AVX2 is judged by another peak as well: that of a BLAS which is told to
use its AVX2 kernels.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from machine import add_output, busy_seconds, spread, usable_cores, versions, write_result
from processes import Peer, serve
from reviews import official_reviews

from tidegate import __version__, ops
from tidegate.batch import TokenizedTexts
from tidegate.model import ModelConfig, TextModel
from tidegate.text import FIRST_WORD_ID, START_ID, UNKNOWN_ID, Tokenizer

CELLS = {
    "gru_after": ModelConfig(cell="gru", reset="after"),
    "gru_before": ModelConfig(cell="gru", reset="before"),
    "lstm": ModelConfig(cell="lstm"),
    "rnn": ModelConfig(cell="rnn"),
}
MAX_LENGTH, VOCABULARY = 200, 10_000
PARTS = ("pack_ms", "forward_ms", "backward_ms")
BLAS_THREADS = (
    "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
BLAS, BLAS_SIZE = "blas", 2048
# What makes OpenBLAS use one instruction set's kernels.
BLAS_KERNELS = {"avx512": "SKYLAKEX", "avx2": "HASWELL"}
OWN_PEAK = ("avx2",)  # judged by a peak of their own, too


def main() -> None:
    options = parse_options()
    if options.worker is not None:
        serve((Worker(options.worker) if options.worker.name != BLAS else Blas()).handle)
        return
    texts = imdb_texts(options) if options.imdb else made_up_texts(options)
    pythons = {"this": sys.executable}
    if options.against:
        pythons["against"] = options.against
    with ExitStack() as stack:
        data = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "texts.npz"
        np.savez(data, token_ids=texts.token_ids, offsets=texts.offsets)

        def start(python: str, work: str, environment: dict[str, str] | None = None) -> Peer:
            command = [python, str(Path(__file__).resolve()), "--worker", work]
            return stack.enter_context(Peer(command, environment))

        sides = {side: start(python, str(data)) for side, python in pythons.items()}

        def multiplier(threads: int, kernels: dict[str, str]) -> Peer:
            environment = {**dict.fromkeys(BLAS_THREADS, str(threads)), **kernels}
            return start(sys.executable, BLAS, environment)

        about = {side: peer.ask(do="describe") for side, peer in sides.items()}
        wanted = cases(options, default_isa=about["this"]["isa"])
        # By number of threads: those of the machine's peak, and those of an instruction set's.
        blas = {n: [multiplier(n, kernels) for kernels in blas_kernels()] for n in options.threads}
        own_blas = {
            (n, isa): multiplier(n, {"OPENBLAS_CORETYPE": BLAS_KERNELS[isa]})
            for n in options.threads
            for isa in OWN_PEAK
            if any(case["isa"] == isa for case in wanted)
        }
        library = blas[options.threads[0]][0].ask(do="describe")["blas"]
        runs = []
        for case in wanted:
            own = own_blas.get((case["threads"], case["isa"]))
            runs.append(measure(sides, blas[case["threads"]], own, case, options.rounds))
            print(".", end="", flush=True)
    print()
    summary = summarize(runs)
    for name, figures in summary["layer"].items():
        print(describe(name, figures))
    for threads, gflops in summary["peak_gflops"].items():
        print(f"peak on {threads} threads: {gflops:.0f} GFLOP/s ({library})")
    for isa, peaks in summary["isa_peak_gflops"].items():
        for threads, gflops in peaks.items():
            print(f"peak of {isa} on {threads} threads: {gflops:.0f} GFLOP/s ({library})")
    first = runs[0]["rounds"]["this"][0]
    print(f"a batch has {first['words']:.0f} words at {first['positions']:.0f} positions")
    write_result(
        options.output,
        versions=versions("tidegate", "numpy"),
        settings={
            "texts": "imdb" if options.imdb else "made up",
            "batches": options.batches,
            "rounds": options.rounds,
            "tidegate": {side: answer["tidegate"] for side, answer in about.items()},
            "blas": library,
        },
        commands=[peer.command for peer in sides.values()],
        runs=runs,
        summary=summary,
    )


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", nargs="+", choices=tuple(CELLS), default=list(CELLS))
    parser.add_argument("--hidden", type=int, nargs="+", default=[128], metavar="N")
    parser.add_argument("--embedding", type=int, default=128, metavar="N")
    parser.add_argument(
        "--threads", type=int, nargs="+", default=sorted({1, usable_cores()}), metavar="N"
    )
    parser.add_argument(
        "--isa",
        nargs="+",
        choices=ops.available_isas(),
        help="default: what TIDEGATE_ISA says, or the best one",
    )
    parser.add_argument("--precision", nargs="+", choices=ops.PRECISIONS, default=["float32"])
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--batches", type=int, default=8, help="different ones (default 8)")
    parser.add_argument("--rounds", type=int, default=5, help="times through them (default 5)")
    parser.add_argument("--imdb", action="store_true", help="real reviews instead of made-up ids")
    parser.add_argument("--data", type=Path, help="the IMDB archive, as in `tidegate train`")
    parser.add_argument(
        "--against",
        metavar="PATH",
        help="the Python of an environment with another tidegate, to run in turns with this one",
    )
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    add_output(parser)
    return parser.parse_args()


def cases(options: argparse.Namespace, default_isa: str) -> list[dict[str, Any]]:
    return [
        {
            "cell": cell,
            "embedding": options.embedding,
            "hidden": hidden,
            "isa": isa,
            "precision": precision,
            "threads": threads,
            "batch_size": options.batch_size,
        }
        for cell in options.cells
        for hidden in options.hidden
        for isa in options.isa or [default_isa]
        for precision in options.precision
        for threads in options.threads
    ]


# --- texts -----------------------------------------------------------------------------------


def made_up_texts(options: argparse.Namespace) -> TokenizedTexts:
    """Rows as IMDB's: half of them longer than 177 words, and few words that make up most."""
    generator = np.random.default_rng(0)
    count = options.batch_size * options.batches
    lengths = np.maximum(10, 177 * np.exp(0.65 * generator.standard_normal(count)))
    # Mandelbrot's law, and one word in twenty unknown.
    weight = 1.0 / (np.arange(FIRST_WORD_ID, VOCABULARY) + 6.0) ** 1.25
    rows = []
    for length in np.minimum(lengths, MAX_LENGTH).astype(int):
        ids = generator.choice(
            np.arange(FIRST_WORD_ID, VOCABULARY), length, p=weight / weight.sum()
        )
        ids[generator.random(length) < 0.05] = UNKNOWN_ID
        if length < MAX_LENGTH:
            ids[0] = START_ID
        rows.append(ids)
    return TokenizedTexts.from_rows(rows)


def imdb_texts(options: argparse.Namespace) -> TokenizedTexts:
    train, _ = official_reviews(options.data)
    chosen = np.random.default_rng(0).permutation(len(train))
    texts = train.select(chosen[: options.batch_size * options.batches].tolist()).texts
    return Tokenizer.fit(train.texts, VOCABULARY).encode_all(texts, MAX_LENGTH)


# --- the side that is measured ---------------------------------------------------------------


class Worker:
    """Runs a layer's batches on request."""

    def __init__(self, data: Path) -> None:
        with np.load(data, allow_pickle=False) as file:
            self.texts = TokenizedTexts(file["token_ids"], file["offsets"])

    def handle(self, request: dict[str, Any]) -> dict[str, Any]:
        if request["do"] == "describe":
            return {"tidegate": __version__, "isa": ops.isa()}
        case = request["case"]
        ops.use_isa(case["isa"])
        ops.set_threads(case["threads"])
        layer = RecurrentLayer(case["cell"], case["embedding"], case["hidden"], case["precision"])
        size = case["batch_size"]
        batches = np.arange(len(self.texts)).reshape(-1, size)
        for rows in batches:  # each that is larger than those before it fetches new memory
            layer.run(self.texts, rows)
        measured = [layer.run(self.texts, rows) for rows in batches]
        means = {name: statistics.mean(each[name] for each in measured) for name in measured[0]}
        return {**means, "products": ops.isa(case["precision"])}


class RecurrentLayer:
    """An embedding and a recurrent layer, with a new model's weights."""

    def __init__(
        self, cell: str, embedding: int, hidden: int, precision: ops.Precision = "float32"
    ) -> None:
        config = replace(CELLS[cell], embedding_size=embedding, hidden_size=hidden)
        self.kind, self.precision = config.kind, precision
        parameters = TextModel.initialize(config, seed=0).parameters
        self.table = parameters["embedding.weight"]
        self.weights = ops.RecurrentWeights(
            parameters["recurrent.kernel"],
            parameters["recurrent.recurrent_kernel"],
            parameters["recurrent.bias"],
            parameters.get("recurrent.recurrent_bias"),
        )
        self.tape = ops.RecurrentTape()

    def run(self, texts: TokenizedTexts, rows: np.ndarray) -> dict[str, float]:
        """One batch forward and backward: milliseconds, and what there was to do."""
        embedding, columns = self.weights.kernel.shape
        hidden = len(self.weights.recurrent_kernel)
        d_last = np.random.default_rng(1).standard_normal((len(rows), hidden), np.float32)
        times = [time.perf_counter()]
        batch = ops.pack(
            texts, rows, max_length=MAX_LENGTH, masked=False, vocabulary_size=VOCABULARY
        )
        times.append(time.perf_counter())
        inputs = ops.gather_rows(self.table, batch.words)
        ops.recurrent_forward(
            self.kind, batch, inputs, self.weights, tape=self.tape, precision=self.precision
        )
        times.append(time.perf_counter())
        ops.recurrent_backward(self.tape, d_last)
        times.append(time.perf_counter())
        milliseconds = dict(zip(PARTS, np.diff(times) * 1e3, strict=True))
        multiplied = len(batch.words) * embedding + batch.total_positions * hidden
        gflop = 2e-9 * multiplied * columns
        return {
            **milliseconds,
            "words": len(batch.words),
            "positions": batch.total_positions,
            "forward_gflop": gflop,
            "backward_gflop": 2 * gflop,  # one gradient of inputs and states, one of weights
        }


class Blas:
    """The machine's peak, as far as NumPy's BLAS reaches it.

    A process for each number of threads, because BLAS reads that number once, at its start.
    """

    def __init__(self) -> None:
        shape = (2, BLAS_SIZE, BLAS_SIZE)
        # Not zeros: they take less power, and so allow a higher clock.
        self.a, self.b = np.random.default_rng(0).standard_normal(shape, np.float32)

    def handle(self, request: dict[str, Any]) -> dict[str, Any]:
        if request["do"] == "describe":
            found = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
            return {"blas": f"{found['name']} {found['version']}"}
        begun = time.perf_counter()
        self.a @ self.b
        seconds = time.perf_counter() - begun
        time.sleep(0.1)  # until its threads sleep too
        return {"gflops": 2e-9 * BLAS_SIZE**3 / seconds}


# --- the side that asks ----------------------------------------------------------------------


def blas_kernels() -> list[dict[str, str]]:
    """Environments that make BLAS choose its own kernels, and AVX-512 where there is that."""
    best = {"OPENBLAS_CORETYPE": BLAS_KERNELS["avx512"]}
    return [{}, best] if "avx512" in ops.available_isas() else [{}]


def measure(
    sides: dict[str, Peer],
    blas: list[Peer],
    own_blas: Peer | None,
    case: dict[str, Any],
    rounds: int,
) -> dict[str, Any]:
    """All sides and BLAS in turns, every other round in the opposite order.

    own_blas: the one with kernels for the case's instruction set only, if that has its own peak.
    """
    found: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    peak, own_peak = [], []
    for i in range(rounds):
        for side in list(sides)[:: 1 if i % 2 == 0 else -1]:
            before = busy_seconds()
            answer = sides[side].ask(do="round", case=case)
            used = answer.pop("cpu_done") - answer.pop("cpu_began")
            answer["others_cpu_seconds"] = busy_seconds() - before - used
            found[side].append(answer)
        peak.append(max(one.ask(do="multiply")["gflops"] for one in blas))
        if own_blas is not None:
            own_peak.append(own_blas.ask(do="multiply")["gflops"])
    return {**case, "rounds": found, "blas_gflops": peak, "isa_blas_gflops": own_peak}


def summarize(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians by case and side, and the best that BLAS did on each number of threads."""
    peaks: dict[int, float] = {}
    own_peaks: dict[str, dict[int, float]] = {}
    for run in runs:
        threads = run["threads"]
        peaks[threads] = max(peaks.get(threads, 0.0), *run["blas_gflops"])
        if run["isa_blas_gflops"]:
            own = own_peaks.setdefault(run["isa"], {})
            own[threads] = max(own.get(threads, 0.0), *run["isa_blas_gflops"])
    layer = {}
    for run in runs:
        named = name_of(run)
        for side, rounds in run["rounds"].items():
            figures: dict[str, Any] = {
                **{what: run[what] for what in ("cell", "isa", "precision", "threads")},
                "products": rounds[0]["products"],
                **{part: spread(one[part] for one in rounds) for part in PARTS},
            }
            for way in ("forward", "backward"):
                gflops = rounds[0][f"{way}_gflop"] / figures[f"{way}_ms"]["median"] * 1e3
                figures[f"{way}_gflops"] = gflops
                figures[f"{way}_share_of_peak"] = gflops / peaks[run["threads"]]
                if run["isa"] in own_peaks:
                    own_peak = own_peaks[run["isa"]][run["threads"]]
                    figures[f"{way}_share_of_isa_peak"] = gflops / own_peak
            if side != "this":
                pairs = zip(run["rounds"]["this"], rounds, strict=True)
                figures["this_to_it"] = spread(layer_ms(a) / layer_ms(b) for a, b in pairs)
            layer[named if side == "this" else f"{named}, {side}"] = figures
    return {
        "layer": layer,
        "peak_gflops": {str(threads): peak for threads, peak in peaks.items()},
        "isa_peak_gflops": {
            isa: {str(threads): peak for threads, peak in own.items()}
            for isa, own in own_peaks.items()
        },
    }


def name_of(run: dict[str, Any]) -> str:
    """A case's name; float32 goes without saying."""
    precision = "" if run["precision"] == "float32" else f", {run['precision']}"
    sizes = f"{run['embedding']}/{run['hidden']}"
    return f"{run['cell']} {sizes}, {run['isa']}{precision}, {run['threads']} threads"


def layer_ms(answer: dict[str, Any]) -> float:
    return float(answer["forward_ms"] + answer["backward_ms"])


def describe(name: str, figures: dict[str, Any]) -> str:
    parts = [f"{name}: pack {figures['pack_ms']['median']:.2f} ms"]
    for way in ("forward", "backward"):
        ms = figures[f"{way}_ms"]
        parts.append(
            f"{way} {ms['median']:.2f} ms ({ms['min']:.2f} to {ms['max']:.2f}), "
            f"{figures[f'{way}_gflops']:.0f} GFLOP/s, "
            f"{figures[f'{way}_share_of_peak']:.0%} of peak"
            + (
                f", {figures[f'{way}_share_of_isa_peak']:.0%} of {figures['isa']}'s"
                if f"{way}_share_of_isa_peak" in figures
                else ""
            )
        )
    if ratio := figures.get("this_to_it"):
        parts.append(
            f"this takes {ratio['median']:.3f} of its time ({ratio['min']:.3f} to "
            f"{ratio['max']:.3f})"
        )
    return "; ".join(parts)


if __name__ == "__main__":
    main()
