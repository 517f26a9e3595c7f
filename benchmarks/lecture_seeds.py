"""What does `tidegate train imdb` reach, in what time and memory, for several seeds?

Each seed is a process of its own, one after another. Seconds are wall time: of each epoch with its
validation, and of the whole command; memory is the most that the process had resident.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from machine import add_output, spread, usable_cores, versions, write_result
from processes import run


def main() -> None:
    options = parse_options()
    runs, commands, facts = [], [], {}
    for seed in options.seeds:
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder) / "report.json"
            command = [
                *(sys.executable, "-m", "tidegate", "train", options.source),
                *("--seed", str(seed), "--threads", str(options.threads)),
                *("--output", str(Path(folder) / "model.safetensors")),
                *("--report", str(report), "--quiet", *options.train_options),
            ]
            finished = run(command)
            found = json.loads(report.read_text(encoding="utf-8"))
        facts = {
            "texts": {part: found["source"][part] for part in ("train", "validation", "test")},
            "config": {k: v for k, v in found["config"].items() if k != "random_state"},
            "machine": found["machine"],
        }
        commands.append(command)
        runs.append(
            {
                "seed": seed,
                "epochs": found["epochs"],
                "test": found["test"],
                "seconds": finished.seconds,
                "cpu_seconds": finished.cpu_seconds,
                "peak_mb": finished.peak_mb,
                "sha256": found["sha256"],
            }
        )
        print(f"seed {seed}: {finished.seconds:.1f} s, {finished.peak_mb:.0f} MB", flush=True)
    print()
    print(table(runs))
    write_result(
        options.output,
        versions=versions("tidegate", "numpy"),
        settings={"source": Path(options.source).name, **facts},
        commands=commands,
        runs=runs,
        summary=summarize(runs),
    )


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], metavar="N")
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--source", default="imdb", help="imdb (the default) or a file")
    add_output(parser)
    parser.add_argument(
        "train_options",
        nargs="*",
        metavar="OPTION",
        help="after --: more options of `tidegate train`, such as -- --cell lstm",
    )
    return parser.parse_args()


def columns(run: dict[str, Any]) -> dict[str, tuple[float, str]]:
    """One run's figures by heading, each with its format."""
    epochs = {
        f"val_acc, epoch {epoch['epoch']}": (epoch["val_accuracy"], ".4f")
        for epoch in run["epochs"]
        if epoch["val_accuracy"] is not None
    }
    test = {"test accuracy": (run["test"]["accuracy"], ".4f")} if run["test"] else {}
    return {
        **epochs,
        **test,
        "s an epoch": (statistics.median(epoch["seconds"] for epoch in run["epochs"]), ".1f"),
        "s in all": (run["seconds"], ".1f"),
        "peak MB": (run["peak_mb"], ".0f"),
    }


def table(runs: list[dict[str, Any]]) -> str:
    """Markdown: a row a seed, then mean and standard deviation."""
    heads = list(columns(runs[0]))
    lines = [["seed", *heads], ["---"] * (len(heads) + 1)]
    for run_ in runs:
        figures = columns(run_).values()
        lines.append([str(run_["seed"]), *(format(value, form) for value, form in figures)])
    for name, function in (("mean", statistics.mean), ("standard deviation", deviation)):
        row = [name]
        for head in heads:
            values = [columns(run_)[head] for run_ in runs]
            row.append(format(function([value for value, _ in values]), values[0][1]))
        lines.append(row)
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def deviation(values: list[float]) -> float:
    """Of the sample; NaN for a single value."""
    return statistics.stdev(values) if len(values) > 1 else float("nan")


def summarize(runs: list[dict[str, Any]]) -> dict[str, Any]:
    result = {}
    for head in columns(runs[0]):
        values = [columns(run_)[head][0] for run_ in runs]
        result[head] = {"mean": statistics.mean(values), **spread(values)}
        if len(values) > 1:
            result[head]["standard_deviation"] = deviation(values)
    return result


if __name__ == "__main__":
    main()
