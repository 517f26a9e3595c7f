"""Does `tidegate predict --input` need more memory for more rows, and how many does it score?

A table of short made-up texts is written to a temporary folder, a tenth of it first and then all,
and scored into another file by the command line as a process. Ten million rows take about 2 GB of
disk there (TMPDIR names the folder) and some minutes.
"""

from __future__ import annotations

import argparse
import random
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from machine import add_output, versions, write_result
from predict_cold import train_model
from processes import run

WORDS = (3, 16)  # of a text, the least and the most
VOCABULARY = 10_000
SUFFIXES = (".csv", ".tsv", ".jsonl")


def main() -> None:
    options = parse_options()
    runs: list[dict[str, Any]] = []
    commands: list[list[str]] = []
    tidegate = str(Path(sysconfig.get_path("scripts")) / "tidegate")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = options.model or train_model(folder)
        for rows in dict.fromkeys((max(1, options.rows // 10), options.rows)):
            table, scored = folder / f"texts{options.suffix}", folder / f"scored{options.suffix}"
            write_table(table, rows, options.seed)
            command = [
                *(tidegate, "predict", str(model)),
                *("--input", str(table), "--output", str(scored)),
            ]
            finished = run(command)
            header = 0 if options.suffix == ".jsonl" else 1
            written = count_lines(scored) - header
            if written != rows:
                raise SystemExit(f"{written:,} rows were written for {rows:,}")
            commands.append(command)
            runs.append(
                {
                    "rows": rows,
                    "seconds": finished.seconds,
                    "cpu_seconds": finished.cpu_seconds,
                    "peak_mb": finished.peak_mb,
                    "rows_per_second": rows / finished.seconds,
                    "table_mb": table.stat().st_size / 1e6,
                    "scored_mb": scored.stat().st_size / 1e6,
                }
            )
            print(
                f"{rows:12,} rows  {runs[-1]['table_mb']:8.1f} MB in  {finished.seconds:7.1f} s  "
                f"{runs[-1]['rows_per_second']:9,.0f} rows/s  peak {finished.peak_mb:.0f} MB"
            )
            table.unlink()
            scored.unlink()
    first, last = runs[0], runs[-1]
    summary = {
        "peak_mb": {str(each["rows"]): each["peak_mb"] for each in runs},
        "rows_per_second": {str(each["rows"]): each["rows_per_second"] for each in runs},
        "peak_ratio": last["peak_mb"] / first["peak_mb"],
        "table_to_peak": last["table_mb"] / last["peak_mb"],
    }
    print(
        f"{last['rows'] / first['rows']:.0f} times the rows: {summary['peak_ratio']:.3f} the peak"
    )
    write_result(
        options.output,
        versions=versions("tidegate", "numpy"),
        settings={
            "rows": options.rows,
            "suffix": options.suffix,
            "seed": options.seed,
            "words": WORDS,
            "vocabulary": VOCABULARY,
        },
        commands=commands,
        runs=runs,
        summary=summary,
    )


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rows", type=int, default=10_000_000, help="of the large table (default 10 million)"
    )
    parser.add_argument(
        "--suffix", choices=SUFFIXES, default=".csv", help="format of both files (default .csv)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the made-up texts (default 0)")
    parser.add_argument(
        "--model",
        type=Path,
        metavar="FILE",
        help="the model that scores (default: one of the lecture's size, trained on made-up texts)",
    )
    add_output(parser)
    return parser.parse_args()


def write_table(path: Path, rows: int, seed: int) -> None:
    """Rows of a number and a text; a smaller table is the beginning of a larger one."""
    generator = random.Random(seed)  # noqa: S311
    names = [f"word{i}" for i in range(VOCABULARY)]
    formats = {".csv": "{},{}\n", ".tsv": "{}\t{}\n", ".jsonl": '{{"id": {}, "text": "{}"}}\n'}
    line = formats[path.suffix]
    with path.open("w", encoding="utf-8") as file:
        if path.suffix != ".jsonl":
            file.write(line.format("id", "text"))
        for row in range(rows):
            text = " ".join(generator.choices(names, k=generator.randint(*WORDS)))
            file.write(line.format(row, text))


def count_lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(piece.count(b"\n") for piece in iter(lambda: file.read(1 << 20), b""))


if __name__ == "__main__":
    main()
