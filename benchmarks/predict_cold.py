"""How long does a single command take, from nothing to its end, and how large is the package?

Run it with the Python of the environment to be measured. Every command is a new process; they are
run in turns, after one unmeasured turn that brings the files into memory. Sizes are the sums of
the files of each distribution: tidegate and all that it requires, without extras.
"""

from __future__ import annotations

import argparse
import re
import sys
import sysconfig
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

from generated import write_reviews
from machine import add_output, spread, versions, write_result
from processes import run

# Words of both sources of models: IMDB's, and the made-up ones.
TEXT = "a film that was not at all bad word1 word2 word3"


def main() -> None:
    options = parse_options()
    with tempfile.TemporaryDirectory() as folder:
        model = options.model or train_model(Path(folder))
        tidegate = str(Path(sysconfig.get_path("scripts")) / "tidegate")
        commands = {
            "python": [sys.executable, "-c", "pass"],
            "import numpy": [sys.executable, "-c", "import numpy"],
            "import tidegate": [sys.executable, "-c", "import tidegate"],
            "import TextClassifier": [sys.executable, "-c", "from tidegate import TextClassifier"],
            "tidegate --version": [tidegate, "--version"],
            "tidegate --help": [tidegate, "--help"],
            "tidegate predict": [tidegate, "predict", str(model), TEXT],
        }
        runs: list[dict[str, Any]] = []
        for turn in range(options.runs + 1):
            for name, command in commands.items():
                finished = run(command)
                if turn:
                    runs.append(
                        {
                            "what": name,
                            "seconds": finished.seconds,
                            "cpu_seconds": finished.cpu_seconds,
                            "peak_mb": finished.peak_mb,
                        }
                    )
        model_bytes = model.stat().st_size
    summary: dict[str, Any] = {}
    for name in commands:
        mine = [each for each in runs if each["what"] == name]
        summary[name] = {
            "seconds": spread(each["seconds"] for each in mine),
            "peak_mb": max(each["peak_mb"] for each in mine),
        }
        s = summary[name]["seconds"]
        print(
            f"{name:22} {s['median']:.3f} s ({s['min']:.3f} to {s['max']:.3f}), "
            f"{summary[name]['peak_mb']:.0f} MB"
        )
    summary["installed_mb"] = sizes = installed_mb("tidegate")
    summary["installed_mb_in_all"] = sum(sizes.values())
    summary["model_mb"] = model_bytes / 1e6
    editable = is_editable("tidegate")
    for name, size in sizes.items():
        print(f"{name:22} {size:7.2f} MB")
    print(f"{'in all':22} {summary['installed_mb_in_all']:7.2f} MB")
    if editable:
        print("tidegate is installed editable here: its own size and import time are not a user's")
    write_result(
        options.output,
        versions=versions(*sizes),
        settings={"runs": options.runs, "editable": editable},
        commands=commands.values(),
        runs=runs,
        summary=summary,
    )


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model",
        type=Path,
        metavar="FILE",
        help="the model that predicts (default: one of the lecture's size, trained on made-up "
        "texts)",
    )
    parser.add_argument("--runs", type=int, default=15, help="of each command (default 15)")
    add_output(parser)
    return parser.parse_args()


def train_model(folder: Path) -> Path:
    """10,000 words, 128 numbers each, 128 units: as large as the lecture's model."""
    source, model = folder / "reviews.csv", folder / "model.safetensors"
    write_reviews(source, texts=1_000, words=200, vocabulary=10_000)
    run(
        [
            *(sys.executable, "-m", "tidegate", "train", str(source), "--output", str(model)),
            *("--epochs", "1", "--quiet"),
        ]
    )
    return model


def requirements(name: str) -> set[str]:
    """The distribution and, transitively, all installed ones that it requires without extras."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        current = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if current in found:
            continue
        try:
            requires = metadata.distribution(current).requires or []
        except metadata.PackageNotFoundError:
            continue  # not for this system or this Python
        found.add(current)
        for requirement in requires:
            wanted, _, condition = requirement.partition(";")
            match = re.match(r"[\w.-]+", wanted.strip())
            if match and not re.search(r"\bextra\b", condition):
                waiting.append(match[0])
    return found


def installed_mb(name: str) -> dict[str, float]:
    """10^6 bytes by distribution, the largest first."""
    sizes = {}
    for package in requirements(name):
        files = metadata.distribution(package).files or []
        paths = [Path(str(file.locate())) for file in files]
        sizes[package] = sum(path.stat().st_size for path in paths if path.is_file()) / 1e6
    return dict(sorted(sizes.items(), key=lambda item: -item[1]))


def is_editable(name: str) -> bool:
    return '"editable"' in (metadata.distribution(name).read_text("direct_url.json") or "")


if __name__ == "__main__":
    main()
