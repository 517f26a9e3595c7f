"""`tidegate compare imdb --seeds 3`: how long does it take, and what does it say?

The command as a user gives it, from its start to its end. The result file holds its report; the
pages that it wrote can be kept to be looked at.
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

from machine import add_output, versions, write_result


def main() -> None:
    options = parse_options()
    with tempfile.TemporaryDirectory() as name:
        folder = options.pages or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        files = {kind: folder / f"imdb.{kind}" for kind in ("json", "md", "html")}
        command = [str(Path(sysconfig.get_path("scripts")) / "tidegate"), "compare", "imdb"]
        command += ["--seeds", str(options.seeds), "--report", str(files["json"]), "--force"]
        command += ["--markdown", str(files["md"]), "--html", str(files["html"])]
        if options.data is not None:
            command += ["--data", str(options.data)]
        begun = time.perf_counter()
        subprocess.run(command, check=True)
        seconds = time.perf_counter() - begun
        report: dict[str, Any] = json.loads(files["json"].read_text(encoding="utf-8"))
    # Where the archive lay on this machine is nobody's concern.
    report["source"]["origin"] = report["source"]["origin"].rpartition(" from ")[0]
    print(f"{seconds:.1f} s")
    write_result(
        options.output,
        versions=versions("tidegate", "numpy"),
        settings={"seeds": options.seeds},
        runs=[],
        summary={"seconds": seconds, "report": report},
    )


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3, metavar="N")
    parser.add_argument("--data", type=Path, help="the IMDB archive, as in `tidegate train`")
    parser.add_argument(
        "--pages", type=Path, metavar="FOLDER", help="keep the report, Markdown and HTML there"
    )
    add_output(parser)
    return parser.parse_args()


if __name__ == "__main__":
    main()
