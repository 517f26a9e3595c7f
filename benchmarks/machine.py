"""What every result file says of its machine, versions and numbers. Standard library only."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
# Read at once, because later the load is the benchmark's own.
_LOAD = os.getloadavg() if hasattr(os, "getloadavg") else ()


def usable_cores() -> int:
    """Processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def machine() -> dict[str, Any]:
    """Processor, cores, memory, system, and how many processes were at work at the start."""
    facts: dict[str, Any] = {
        "cpu": _cpu_model(),
        "cores": usable_cores(),
        "architecture": platform.machine(),
        "kernel": f"{platform.system()} {platform.release()}",
    }
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        facts["memory_gb"] = round(memory / 1e9, 1)
    if _LOAD:
        facts["load_average"] = [round(value, 2) for value in _LOAD]
    return facts


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def versions(*packages: str) -> dict[str, str]:
    """Python, the commit of this checkout ("+" if it has changes) and the packages' versions."""
    found = {"python": platform.python_version(), "commit": _commit()}
    for package in packages:
        found[package] = metadata.version(package)
    return found


def _commit() -> str:
    def git(*arguments: str) -> str:
        run = subprocess.run(
            ["git", "-C", str(ROOT), *arguments], check=True, capture_output=True, text=True
        )
        return run.stdout.strip()

    try:
        # Results of earlier benchmarks do not change what is measured.
        changes = git("status", "--porcelain", "--", ":!benchmarks/results")
        return git("rev-parse", "--short=12", "HEAD") + ("+" if changes else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def busy_seconds() -> float:
    """CPU seconds that the whole machine has worked, for anybody; NaN where it does not say."""
    try:
        fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    except OSError:
        return float("nan")
    user, nice, system, _idle, _wait, interrupts, soft, stolen = map(int, fields)
    ticks = user + nice + system + interrupts + soft + stolen
    return ticks / float(os.sysconf("SC_CLK_TCK"))


def spread(values: Iterable[float]) -> dict[str, float]:
    """Median, least and largest."""
    listed = list(values)
    return {"median": statistics.median(listed), "min": min(listed), "max": max(listed)}


def shown(command: Sequence[str | os.PathLike[str]]) -> str:
    """A command for a result file: where things lie on this machine is nobody's business."""
    return " ".join(_without_folder(os.fspath(argument)) for argument in command)


def _without_folder(argument: str) -> str:
    option, equals, value = argument.partition("=")
    if equals and option.startswith("-"):
        return f"{option}={_without_folder(value)}"
    return Path(argument).name if os.path.isabs(argument) else argument


def add_output(parser: argparse.ArgumentParser) -> None:
    """Give a benchmark its option ``--output``."""
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="write everything measured there, as JSON"
    )


def write_result(
    output: Path | None,
    *,
    versions: dict[str, str],
    settings: dict[str, Any],
    commands: Iterable[Sequence[str]] = (),
    runs: list[dict[str, Any]],
    summary: dict[str, Any],
) -> None:
    """Write the result file, unless no file was asked for."""
    if output is None:
        return
    result = {
        "benchmark": Path(sys.argv[0]).stem,
        "command": shown(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions,
        "settings": settings,
        "commands": list(dict.fromkeys(map(shown, commands))),
        "summary": summary,
        "runs": runs,
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"written: {output}")


def main() -> None:
    print(json.dumps({"machine": machine(), "versions": versions("tidegate", "numpy")}, indent=2))


if __name__ == "__main__":
    main()
