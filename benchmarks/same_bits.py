"""Is the model file the same, bit for bit, for any number of threads and after any kill -9?

One seed is trained undisturbed with each number of threads. Then runs with --resume are killed at
random moments: each process gets a lifetime drawn from the time of a whole run, and a random one of
the numbers of threads. It ends by SIGKILL or, for --interrupts of them, by Ctrl-C's SIGINT, which
keeps a checkpoint in mid-epoch; the next process goes on from what is left. A run that reaches its
end sooner counts as one more file to compare, and a new run begins. The last one is left alone.

With --own it is not IMDB but a made-up table, which trains by the preset for people's own files:
both directions, dropout, the linear model of n-grams. Each process then also draws whether it holds
the table in memory or streams it from disk. --several: with several labels a text.

The exit status is 1 if any file differs from the first.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from generated import write_reviews
from machine import add_output, usable_cores, versions, write_result
from processes import run

from tidegate import storage

MODEL, CHECKPOINT = "model.safetensors", "model.checkpoint.safetensors"


def main() -> None:
    options = parse_options()
    with tempfile.TemporaryDirectory() as folder:
        proof = Proof(options, Path(folder))
        for way in proof.ways:
            proof.undisturbed(way)
        proof.stopped(options.kills, options.interrupts)
    different = [each for each in proof.runs if each["sha256"] != proof.runs[0]["sha256"]]
    same = not different
    stops = [stop for each in proof.runs for stop in each["stops"]]
    kills = sum(stop["signal"] == "SIGKILL" for stop in stops)
    print(
        f"{'the same' if same else 'DIFFERENT'}: {len(proof.runs)} model files with "
        f"{' and '.join(map(str, options.threads))} threads, {kills} kills and "
        f"{len(stops) - kills} interrupts between them; sha256 {proof.runs[0]['sha256']}"
    )
    write_result(
        options.output,
        versions=versions("tidegate", "numpy"),
        settings={
            "source": "generated" if options.own else "imdb",
            "several": options.several,
            "seed": options.seed,
        },
        commands=[proof.command(folder=Path(folder), way=way) for way in proof.ways],
        runs=proof.runs,
        summary={
            "same": same,
            "sha256": sorted({each["sha256"] for each in proof.runs}),
            "files": len(proof.runs),
            "kills": kills,
            "interrupts": len(stops) - kills,
        },
    )
    raise SystemExit(0 if same else 1)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=10, help="processes to kill (default 10)")
    parser.add_argument(
        "--interrupts", type=int, default=3, help="processes to stop by Ctrl-C (default 3)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the training")
    parser.add_argument("--moments-seed", type=int, default=0, help="of the moments and threads")
    parser.add_argument(
        "--threads", type=int, nargs="+", default=sorted({1, usable_cores()}), metavar="N"
    )
    parser.add_argument(
        "--own", action="store_true", help="a made-up table instead of imdb: in memory and streamed"
    )
    parser.add_argument("--several", action="store_true", help="with --own: several labels a text")
    add_output(parser)
    parser.add_argument(
        "train_options",
        nargs="*",
        metavar="OPTION",
        help="after --: more options of `tidegate train`, such as -- --cell lstm",
    )
    return parser.parse_args()


@dataclass(frozen=True)
class Way:
    """How a process trains. place: "" where there is no choice."""

    threads: int
    place: str

    def __str__(self) -> str:
        return f"{self.threads} {self.place}".strip()


class Proof:
    """Trains again and again, and collects what came of it.

    ways: what a process may draw: a number of threads, and the option that says where a table is.
    Each of ``runs`` is one model file: its sha256, the way of every process that worked on it, the
    stops between them, and seconds in all.
    """

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.seed, self.train_options = options.seed, options.train_options
        places = ["--in-memory", "--stream"] if options.own else [""]
        self.ways = [Way(threads, place) for threads in options.threads for place in places]
        self.folder = folder
        self.source = "imdb"
        if options.own:
            self.source = str(folder / "reviews.csv")
            several = ";" if options.several else None
            write_reviews(
                Path(self.source), texts=4_000, words=120, vocabulary=3_000, several=several
            )
            if several:
                self.train_options = ["--label-separator", several, *self.train_options]
        self.generator = random.Random(options.moments_seed)  # noqa: S311
        self.runs: list[dict[str, Any]] = []

    def command(self, *, folder: Path, way: Way) -> list[str]:
        return [
            *(sys.executable, "-m", "tidegate", "train", self.source),
            *("--output", str(folder / MODEL), "--resume"),
            *("--seed", str(self.seed), "--threads", str(way.threads), "--quiet"),
            *([way.place] if way.place else []),
            *self.train_options,
        ]

    def new_folder(self) -> Path:
        folder = self.folder / f"run{len(self.runs)}"
        folder.mkdir()
        return folder

    def collect(self, folder: Path, **facts: Any) -> None:
        """Take the finished model's digest, and note which other files its run has left."""
        sha256 = hashlib.sha256((folder / MODEL).read_bytes()).hexdigest()
        left = sorted(file.name for file in folder.iterdir() if file.name != MODEL)
        self.runs.append({"sha256": sha256, **facts, "files_left": left})
        print(
            f"{sha256}  {', '.join(facts['ways'])}: {len(facts['stops'])} stops, "
            f"{facts['seconds']:.1f} s",
            flush=True,
        )

    def undisturbed(self, way: Way) -> None:
        folder = self.new_folder()
        finished = run(self.command(folder=folder, way=way))
        self.collect(folder, ways=[str(way)], stops=[], seconds=finished.seconds)

    def stopped(self, kills: int, interrupts: int) -> None:
        """Runs that are stopped, until every stop has been made and the last run is complete."""
        whole = min(each["seconds"] for each in self.runs)
        stops = [signal.SIGKILL] * kills + [signal.SIGINT] * interrupts
        self.generator.shuffle(stops)
        while stops:
            folder = self.new_folder()
            ways: list[str] = []
            made: list[dict[str, Any]] = []
            begun = time.perf_counter()
            while not (folder / MODEL).exists():
                way = self.generator.choice(self.ways)
                ways.append(str(way))
                command = self.command(folder=folder, way=way)
                if not stops:
                    run(command)
                    continue
                after = self.generator.uniform(0.0, whole)
                if stop_process(command, stops[0], after):
                    made.append(
                        {
                            "signal": stops.pop(0).name,
                            "after_seconds": after,
                            "left": what_is_left(folder),
                        }
                    )
                    print(f"  {made[-1]}", flush=True)
            seconds = time.perf_counter() - begun
            self.collect(folder, ways=ways, stops=made, seconds=seconds)


def stop_process(command: list[str], how: signal.Signals, after: float) -> bool:
    """Start a process and stop it after so many seconds. False if it had ended before."""
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        _, errors = process.communicate(timeout=after)
    except subprocess.TimeoutExpired:
        os.kill(process.pid, how)
        _, errors = process.communicate()
        # Ctrl-C in the last moments comes too late to be heard.
        if process.returncode == 0:
            return False
        if process.returncode in (-signal.SIGKILL, -signal.SIGINT, 130):
            return True
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{errors}")
    return False


def what_is_left(folder: Path) -> str:
    """What the next process finds. A damaged file is an error here already."""
    if (folder / MODEL).exists():
        return "the model"
    if not (folder / CHECKPOINT).exists():
        return "nothing"
    _, header = storage.read_tensors(folder / CHECKPOINT)
    progress = header["progress"]
    return f"a checkpoint in epoch {progress['epoch']} after {progress['step']} steps"


if __name__ == "__main__":
    main()
