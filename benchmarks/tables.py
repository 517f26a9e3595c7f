"""Fills the tables of the documents from benchmarks/results: nobody types a figure.

Between `<!-- table: NAME begin -->` and `<!-- table: NAME end -->` goes what a function of
tables_*.py makes of the result files; between the same with `figure:`, the picture that plot.py
drew. What has not been measured says so. With --check nothing is written, and the exit status is 1
if a document does not hold what the results say.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import tables_kernels
import tables_lecture
import tables_models
import tables_speed
from machine import ROOT
from result_files import FIGURES, RESULTS, Results, Table

NAMES = (
    *("performance", "explaining", "models", "data", "lecture", "serving", "comparing"),
    "page",
)
DOCUMENTS = [ROOT / "docs" / f"{name}.md" for name in NAMES]
MISSING = "Not measured yet.\n"
MARKED = re.compile(
    r"(?P<begin><!-- (?P<kind>table|figure): (?P<name>[\w-]+) begin -->\n).*?"
    r"(?P<end><!-- (?P=kind): (?P=name) end -->)",
    re.DOTALL,
)
TABLES: dict[str, Table] = {
    **tables_speed.TABLES,
    **tables_kernels.TABLES,
    **tables_models.TABLES,
    **tables_lecture.TABLES,
}


def main() -> None:
    options = parse_options()
    results = Results(options.results)
    for document in options.document:
        text = document.read_text(encoding="utf-8")
        filled = MARKED.sub(lambda match: fill(match, results, options.figures), text)
        if not options.check:
            document.write_text(filled, encoding="utf-8")
        elif filled != text:
            sys.exit(f"{document} differs from the results; run benchmarks/tables.py")
    for name in results.missing:
        print(f"not measured: {options.results / name}")


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER")
    parser.add_argument("--document", type=Path, nargs="+", default=DOCUMENTS, metavar="FILE")
    parser.add_argument("--figures", type=Path, default=FIGURES, metavar="FOLDER")
    parser.add_argument("--check", action="store_true", help="write nothing, only compare")
    return parser.parse_args()


def fill(match: re.Match[str], results: Results, figures: Path) -> str:
    name = match["name"]
    if match["kind"] == "table":
        inside = TABLES[name](results) or MISSING
    elif (figures / f"{name}.svg").exists():
        inside = f"![{name.replace('-', ' ')}](figures/{name}.svg)\n"
    else:
        inside = MISSING
    return f"{match['begin']}{inside}{match['end']}"


if __name__ == "__main__":
    main()
