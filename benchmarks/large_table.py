"""Does `tidegate train` need more memory for more rows, and how many does it read and learn from?

Tables of made-up texts of about 40 words are written to a temporary folder and trained on by the
command line as a process, streamed from disk. A text's label is the one of two lists of words that
it has more words of; a twentieth of the labels are then turned round, so that no model can be right
more often than 0.95. A smaller table is the beginning of a larger one.

Memory is read from /proc (so on Linux alone) ten times a second: what is resident in all, and what
of it is the process's own (anonymous), which can't give way to others. The n-grams of the linear
model are a mapped file: resident while memory is free, and not its own. A million rows take about
250 MB of disk for the table, 200 MB for the texts' ids and 600 MB for their n-grams.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from machine import add_output, versions, write_result

WORDS = (20, 61)  # of a text, the least and one more than the most
VOCABULARY = 30_000
TELLING = (1_000, 3_000)  # words that belong to the labels, every second one to each
NOISE = 0.05
LABELS = ("negative", "positive")
MODEL = ("--embedding-size", "32", "--hidden-size", "32", "--max-length", "64", "--epochs", "1")
SAMPLED_EVERY = 0.1  # seconds
CURVE_POINTS = 60


def main() -> None:
    options = parse_options()
    tidegate = str(Path(sysconfig.get_path("scripts")) / "tidegate")
    runs: list[dict[str, Any]] = []
    commands: list[list[str]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for rows in options.rows:
            table = folder / "texts.csv"
            write_table(table, rows, options.seed)
            model, report = folder / "model.safetensors", folder / "report.json"
            command = [
                *(tidegate, "train", str(table), "--stream", "--force", "--quiet"),
                *("--output", str(model), "--report", str(report)),
                *MODEL,
                *options.train_options,
            ]
            samples, seconds = watched(command)
            told = json.loads(report.read_text(encoding="utf-8"))
            commands.append(command)
            runs.append(measured(rows, table.stat().st_size, samples, seconds, told))
            show(runs[-1])
            table.unlink()
    first, last = runs[0], runs[-1]
    more_rows = last["rows"] - first["rows"]
    grown = (last["own_peak_mb"] - first["own_peak_mb"]) * 1e6 / max(1, more_rows)
    print(f"{grown:.0f} bytes of own memory for each row more")
    write_result(
        options.output,
        versions=versions("tidegate", "numpy"),
        settings={
            "rows": options.rows,
            "seed": options.seed,
            "words": [WORDS[0], WORDS[1] - 1],
            "vocabulary": VOCABULARY,
            "noise": NOISE,
        },
        commands=commands,
        runs=runs,
        summary={
            "own_peak_mb": {str(run["rows"]): run["own_peak_mb"] for run in runs},
            "peak_mb": {str(run["rows"]): run["peak_mb"] for run in runs},
            "own_bytes_for_each_row_more": grown,
            "rows_per_second": {str(run["rows"]): run["rows_per_second"] for run in runs},
            "val_accuracy": {str(run["rows"]): run["val_accuracy"] for run in runs},
        },
    )


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rows",
        type=int,
        nargs="+",
        default=[100_000, 300_000, 1_000_000],
        metavar="N",
        help="of each table (default 100,000, 300,000 and a million)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the made-up texts (default 0)")
    add_output(parser)
    parser.add_argument(
        "train_options",
        nargs="*",
        metavar="OPTION",
        help="after --: more options of `tidegate train`, such as -- --ngrams 0",
    )
    return parser.parse_args()


def write_table(path: Path, rows: int, seed: int) -> None:
    """A CSV file with columns text and label; frequent words have low numbers."""
    names = [f"word{i}" for i in range(VOCABULARY)]
    with path.open("w", encoding="utf-8") as file:
        file.write("text,label\n")
        for start in range(0, rows, 10_000):
            generator = np.random.default_rng([seed, start])
            count = min(10_000, rows - start)
            lengths = generator.integers(*WORDS, 10_000)
            ids = (VOCABULARY ** generator.random((10_000, WORDS[1]))).astype(np.int64) - 1
            telling = (ids >= TELLING[0]) & (ids < TELLING[1])  # about four in a text
            sides = np.where(telling, 2 * (ids % 2) - 1, 0)
            sides[np.arange(WORDS[1]) >= lengths[:, None]] = 0
            label = sides.sum(axis=1) + generator.random(10_000) > 0.5
            numbers = (label ^ (generator.random(10_000) < NOISE)).astype(int).tolist()
            for row in range(count):
                words = " ".join(map(names.__getitem__, ids[row, : lengths[row]].tolist()))
                file.write(f"{words},{LABELS[numbers[row]]}\n")


def watched(command: list[str]) -> tuple[list[tuple[float, float, float]], float]:
    """Run a command; (seconds, resident MB, own MB) over its time, and seconds in all."""
    samples = []
    begun = time.perf_counter()
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stderr=errors, stdout=subprocess.DEVNULL)
        while process.poll() is None:
            status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii").split("\n")
            sizes = dict(line.split(":", 1) for line in status if line.startswith(("VmRSS", "Rss")))
            if "VmRSS" in sizes:  # not once it has ended
                kilobytes = [int(sizes[name].split()[0]) for name in ("VmRSS", "RssAnon")]
                resident, own = (size * 1024 / 1e6 for size in kilobytes)
                samples.append((time.perf_counter() - begun, resident, own))
            time.sleep(SAMPLED_EVERY)
        if process.returncode:
            errors.seek(0)
            message = errors.read().decode(errors="replace")
            raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{message}")
    return samples, time.perf_counter() - begun


def measured(
    rows: int,
    table_bytes: int,
    samples: list[tuple[float, float, float]],
    seconds: float,
    told: dict[str, Any],
) -> dict[str, Any]:
    """What a run took, phase by phase, and its memory over time."""
    readings = [reading["seconds"] for reading in told["source"]["readings"]]
    epochs = sum(epoch["seconds"] for epoch in told["epochs"])
    phases = {
        "count": readings[0],
        "encode": readings[1],
        "epochs": epochs,
        "rest": seconds - sum(readings) - epochs,
    }
    step = max(1, len(samples) // CURVE_POINTS)
    return {
        "rows": rows,
        "table_mb": table_bytes / 1e6,
        "seconds": seconds,
        "phase_seconds": phases,
        "phase_rows_per_second": {name: rows / max(spent, 1e-9) for name, spent in phases.items()},
        "rows_per_second": rows / seconds,
        "peak_mb": max(sample[1] for sample in samples),
        "own_peak_mb": max(sample[2] for sample in samples),
        "memory": [[round(value, 1) for value in sample] for sample in samples[::step]],
        "val_accuracy": told["validation"]["accuracy"],
        "sha256": told["sha256"],
    }


def show(run: dict[str, Any]) -> None:
    phases = "  ".join(f"{name} {spent:.1f} s" for name, spent in run["phase_seconds"].items())
    print(
        f"{run['rows']:10,} rows  {run['table_mb']:7.1f} MB in {run['seconds']:6.1f} s ({phases})  "
        f"peak {run['peak_mb']:.0f} MB, its own {run['own_peak_mb']:.0f} MB  "
        f"accuracy {run['val_accuracy']:.4f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
