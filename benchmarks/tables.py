"""Fills the tables of the documents from benchmarks/results: nobody types a figure.

Between `<!-- table: NAME begin -->` and `<!-- table: NAME end -->` goes what a function here makes
of the result files; between the same with `figure:`, the picture that plot.py drew. What has not
been measured says so. With --check nothing is written, and the exit status is 1 if a document does
not hold what the results say.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from machine import ROOT

DOCUMENTS = [
    ROOT / "docs" / name
    for name in ("performance.md", "explaining.md", "models.md", "data.md", "lecture.md")
]
FIGURES = ROOT / "docs" / "figures"
RESULTS = ROOT / "benchmarks" / "results"
CELLS = {"gru": "GRU", "lstm": "LSTM", "rnn": "plain RNN"}
SIDES = {
    "tidegate_bfloat16": "tidegate, bfloat16",
    "tidegate": "tidegate, float32",
    "tidegate_plain": "tidegate, no work saved",
    "keras": "Keras, TensorFlow",
    "jax": "JAX",
    "torch": "PyTorch",
}
STUDY_SIDES = {**SIDES, "study": "the study, float32"}
SCORERS = {
    "tidegate_bfloat16": "tidegate, bfloat16",
    "tidegate": "tidegate, float32",
    "onnxruntime": "ONNX Runtime, float32",
    "openvino": "OpenVINO, float32",
    "openvino_bfloat16": "OpenVINO, bfloat16",
    "onednn": "oneDNN, float32",
    "onednn_bfloat16": "oneDNN, bfloat16",
}
OTHER_KINDS = {
    "tidegate_bfloat16": "tidegate's GRU, bfloat16",
    "tidegate": "tidegate's GRU, float32",
    "fasttext": "fastText, another kind of model: no recurrent network",
}
VARIANTS = {
    "both": ("yes", "yes"),
    "words": ("yes", "no"),
    "padding": ("no", "yes"),
    "neither": ("no", "no"),
}
TEXTS = {"imdb": "IMDB's", "uniform": "uniform"}
AXES = {
    "hidden": "hidden size",
    "length": "tokens in a text",
    "batch": "texts in a batch",
    "vocabulary": "vocabulary",
    "texts": "texts",
}
MISSING = "Not measured yet.\n"
MARKED = re.compile(
    r"(?P<begin><!-- (?P<kind>table|figure): (?P<name>[\w-]+) begin -->\n).*?"
    r"(?P<end><!-- (?P=kind): (?P=name) end -->)",
    re.DOTALL,
)


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


class Results:
    """The result files of a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.missing: dict[str, None] = {}

    def get(self, name: str) -> dict[str, Any] | None:
        """A file's contents, or None if it is not there."""
        path = self._folder / name
        if not path.exists():
            self.missing[name] = None
            return None
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found

    def by_cell(self, name: str) -> dict[str, dict[str, Any]]:
        """The files of all cells that were measured; name: "scoring_{}.json"."""
        found = {cell: self.get(name.format(cell)) for cell in CELLS}
        return {cell: result for cell, result in found.items() if result is not None}


def fill(match: re.Match[str], results: Results, figures: Path) -> str:
    name = match["name"]
    if match["kind"] == "table":
        inside = TABLES[name](results) or MISSING
    elif (figures / f"{name}.svg").exists():
        inside = f"![{name.replace('-', ' ')}](figures/{name}.svg)\n"
    else:
        inside = MISSING
    return f"{match['begin']}{inside}{match['end']}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; empty if there are no rows."""
    lines = [list(row) for row in rows]
    if not lines:
        return ""
    rule = [
        "---" if any(cell and not cell[0].isdigit() for cell in column) else "---:"
        for column in zip(*lines, strict=True)
    ]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (head, rule, *lines))


def digits(value: float) -> str:
    """Three significant digits, without an exponent."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def between(found: dict[str, float]) -> str:
    """A median, and between which values the runs lay."""
    shown = [digits(found[key]) for key in ("median", "min", "max")]
    return f"{shown[0]} ({shown[1]} to {shown[2]})"


def times(found: dict[str, float] | None) -> str:
    return "" if found is None else f"{between(found)} ×"


# --- the tables --------------------------------------------------------------------------------


def machine(results: Results) -> str:
    """What it was measured on: one line for each kind of machine and set of versions."""
    lines: dict[str, None] = {}
    for name in (
        *("lecture_epoch_gru.json", "lecture_epoch_study.json", "scoring_gru.json"),
        *("fasttext.json", "growth.json", "techniques.json", "kernels.json"),
    ):
        found = results.get(name)
        if found is not None:
            about, packages = found["machine"], dict(found["versions"])
            commit = packages.pop("commit")
            memory = f", {about['memory_gb']:.0f} GB" if "memory_gb" in about else ""
            listed = ", ".join(f"{package} {version}" for package, version in packages.items())
            lines[
                f"- `{name}`: {about['cpu']}, {about['cores']} cores{memory}, {about['kernel']}; "
                f"{listed}; commit {commit}, {found['date'][:10]}\n"
            ] = None
    return "".join(lines)


def lecture(what: str) -> Callable[[Results], str]:
    def make(results: Results) -> str:
        found = results.by_cell("lecture_epoch_{}.json")
        rows = []
        for cell, result in found.items():
            summary = result["summary"].get(what)
            if summary is None:
                continue
            scaled = result["settings"]["batches_of_scaled_sides"] if what == "train" else {}
            for side, name in SIDES.items():
                seconds = summary.get(f"{side}_s")
                if seconds is None:
                    continue
                ratio = [
                    times(summary["ratio"].get(own, {}).get(side))
                    for own in ("tidegate", "tidegate_bfloat16", "tidegate_plain")
                ]
                note = f" (from {scaled[side]} batches)" if side in scaled else ""
                rows.append([CELLS[cell], name + note, between(seconds), *ratio])
        head = ["cell", "", "seconds", "of float32's", "of bfloat16's", "of no work saved"]
        return table(head, rows)

    return make


def losses(results: Results) -> str:
    rows = []
    for cell, result in results.by_cell("lecture_epoch_{}.json").items():
        curve = result["summary"]["curve"]
        own = curve.get("tidegate") or []
        for side, name in SIDES.items():
            if own and curve.get(side) and side != "tidegate":
                pairs = zip(curve[side], own, strict=True)
                most = max(abs(a - b) for a, b in pairs)
                rows.append([CELLS[cell], name, f"{len(own)}", f"{most:.1e}"])
    return table(["cell", "", "batches", "largest difference of a batch's loss"], rows)


def study(results: Results) -> str:
    """The lecture's epoch and its test set, beside the program that shows what can be reached."""
    found = results.get("lecture_epoch_study.json")
    if found is None:
        return ""
    rows = []
    tested = f"{found['settings']['test_texts']:,} test reviews"
    for what, shown in (("train", "an epoch"), ("score", tested)):
        summary = found["summary"].get(what)
        if summary is None:
            continue
        for side, name in STUDY_SIDES.items():
            if f"{side}_s" in summary:
                ratio = [
                    times(summary["ratio"].get(own, {}).get(side))
                    for own in ("tidegate", "tidegate_bfloat16")
                ]
                rows.append([shown, name, between(summary[f"{side}_s"]), *ratio])
    return table(["", "", "seconds", "of float32's", "of bfloat16's"], rows)


def scoring(results: Results) -> str:
    """All reviews: texts a second, and each side's time as a multiple of tidegate's."""
    rows = []
    for cell, result in results.by_cell("scoring_{}.json").items():
        texts, count = result["summary"]["texts"], f"{result['settings']['texts']:,}"
        sizes, ratios = texts.get("best_batch_sizes", {}), texts.get("ratios", {})
        for side, name in SCORERS.items():
            rate = texts.get(f"{side}_per_s")
            if rate is None:
                continue
            ratio = [
                times(ratios.get(own, {}).get(side)) for own in ("tidegate", "tidegate_bfloat16")
            ]
            size = str(sizes.get(side, ""))
            rows.append([CELLS[cell], name, count, size, between(rate), *ratio])
    head = ["cell", "", "reviews", "batch", "texts a second", "of float32's", "of bfloat16's"]
    return table(head, rows)


def one_text(results: Results) -> str:
    """One review again and again: microseconds from its ids, and from its string."""
    rows = []
    for cell, result in results.by_cell("scoring_{}.json").items():
        one = result["summary"]["one"]
        for side, name in SCORERS.items():
            if f"{side}_us" in one:
                text = one.get(f"{side}_from_text_us")
                from_text = "" if text is None else between(text)
                rows.append([CELLS[cell], name, between(one[f"{side}_us"]), from_text])
    return table(["cell", "", "from ids, µs", "from a string, µs"], rows)


def other_kinds(results: Results) -> str:
    found = results.get("fasttext.json")
    if found is None:
        return ""
    rows = []
    for side, name in OTHER_KINDS.items():
        figures = found["summary"]["sides"].get(side)
        if figures is not None:
            accuracy = figures["accuracy"]
            percent = [f"{100 * accuracy[key]:.2f}" for key in ("median", "min", "max")]
            rows.append(
                [
                    name,
                    between(figures["train_s"]),
                    between(figures["score_s"]),
                    f"{percent[0]} ({percent[1]} to {percent[2]}) %",
                ]
            )
    return table(["", "training, s", "scoring, s", "test accuracy"], rows)


def techniques(results: Results) -> str:
    found = results.get("techniques.json")
    if found is None:
        return ""
    most = max(each["threads"] for each in found["summary"]["variants"])
    rows = [
        [
            TEXTS[each["texts"]],
            *VARIANTS[each["variant"]],
            between(each["ms"]),
            times(each["times_both"]),
            digits(each["gflop"]),
            f"{each['gflops']:.0f}",
            f"{each['share_of_peak']:.0%}",
        ]
        for each in found["summary"]["variants"]
        if each["threads"] == most
    ]
    head = [
        *("words", "product once a word", "padding shared", "ms a batch", "of both"),
        *("GFLOP multiplied", "GFLOP/s", "of peak"),
    ]
    return table(head, rows)


def layers(results: Results) -> dict[str, dict[str, Any]]:
    """The cases of kernels.json by name, without another commit's."""
    found = results.get("kernels.json")
    if found is None:
        return {}
    layer: dict[str, dict[str, Any]] = found["summary"]["layer"]
    return {name: each for name, each in layer.items() if "this_to_it" not in each}


def kernels(results: Results) -> str:
    rows = []
    for name, figures in layers(results).items():
        if figures.get("precision", "float32") != "float32":
            continue
        row = [name]
        for way in ("forward", "backward"):
            row += [between(figures[f"{way}_ms"]), f"{figures[f'{way}_share_of_peak']:.0%}"]
        rows.append(row)
    return table(["", "forward, ms", "of peak", "backward, ms", "of peak"], rows)


def kernels_avx2(results: Results) -> str:
    """What has a peak of its own, whose kernels use the same instructions."""
    rows = []
    for name, figures in layers(results).items():
        if "forward_share_of_isa_peak" not in figures or figures["precision"] != "float32":
            continue
        row = [name]
        for way in ("forward", "backward"):
            share = figures[f"{way}_share_of_isa_peak"]
            row += [f"{figures[f'{way}_gflops']:.0f}", f"{share:.0%}"]
        rows.append(row)
    head = ["", "forward, GFLOP/s", "of AVX2's peak", "backward, GFLOP/s", "of AVX2's peak"]
    return table(head, rows)


def kernels_bfloat16(results: Results) -> str:
    found = layers(results)
    rows = []
    for name, figures in found.items():
        if figures.get("precision") != "bfloat16":
            continue
        wide = found.get(name.replace(", bfloat16", ""))
        row = [name.replace(", bfloat16", ""), figures["products"]]
        for way in ("forward", "backward"):
            gflops = figures[f"{way}_gflops"]
            row += [between(figures[f"{way}_ms"]), f"{gflops:.0f}"]
            row.append(f"{gflops / wide[f'{way}_gflops']:.2f} ×" if wide else "")
        rows.append(row)
    head = [
        *("", "products by", "forward, ms", "GFLOP/s", "of float32's"),
        *("backward, ms", "GFLOP/s", "of float32's"),
    ]
    return table(head, rows)


def growth(results: Results) -> str:
    found = results.get("growth.json")
    if found is None:
        return ""
    points = found["summary"]["points"]
    most = max(point["threads"] for point in points)
    rows = []
    for point in points:
        if point["threads"] != most:
            continue
        row = [AXES[point["axis"]], f"{point['value']:,}"]
        for side in ("train", "score"):
            figures = point.get(side)
            row += (
                ["", ""]
                if figures is None
                else [digits(figures["us_per_token"]["median"]), f"{figures['share_of_peak']:.0%}"]
            )
        rows.append(row)
    head = ["varied", "value", "training, µs a token", "of peak", "scoring, µs a token", "of peak"]
    return table(head, rows)


def deletion(model: str) -> Callable[[Results], str]:
    """What each method's words are worth when they are left out."""

    def make(results: Results) -> str:
        found = results.get("faithfulness.json")
        if found is None:
            return ""
        rows = []
        for method, each in found["summary"][model]["methods"].items():
            area, less = each["area"], each["area_below_default"]
            own = method == found["settings"]["default"]
            more = f"{less['mean']:+.3f} ({less['low']:+.3f} to {less['high']:+.3f})"
            rows.append(
                [
                    f"**{method}**" if own else method,
                    *(f"{fall:.2f}" for fall in each["falls"]),
                    f"{area['mean']:.3f} ({area['low']:.3f} to {area['high']:.3f})",
                    "" if own else more,
                    f"{each['changed'][-1]:.1%}",
                    f"{each['all_short']['mean']:.2f}",
                ]
            )
        heads = [f"{share:.0%}" for share in found["settings"]["shares"]]
        heads += ["mean", "the default's is larger by", "other label without 20 %", "short alone"]
        return table(["", *heads], rows)

    return make


def explain_times(results: Results) -> str:
    found = results.get("faithfulness.json")
    if found is None:
        return ""
    models = found["summary"]
    first = next(iter(models.values()))["milliseconds"]
    rows = [
        [way, *(between(each["milliseconds"][way]) for each in models.values())] for way in first
    ]
    return table(["", *(f"{name}, ms" for name in models)], rows)


def explain_machine(results: Results) -> str:
    found = results.get("faithfulness.json")
    if found is None:
        return ""
    about, load = found["machine"], found["machine"].get("load_average", [])
    accuracy = ", ".join(f"{k} {v['accuracy']:.3f}" for k, v in found["summary"].items())
    return (
        f"{found['settings']['reviews']} reviews, seed {found['settings']['seed']}, "
        f"{found['settings']['lime_samples']:,} samples for LIME; accuracy of the models on all "
        f"{found['settings']['held_out']:,} held-out reviews: {accuracy}. {about['cpu']}, "
        f"{found['settings']['tidegate']['threads']} threads, load average "
        f"{', '.join(map(str, load)) or 'unknown'} when it began; "
        f"commit {found['versions']['commit']}, {found['date'][:10]}.\n"
    )


def accurate(results: Results) -> str:
    """The accurate preset on IMDB, its parts beside it."""
    found = results.get("accurate.json")
    if found is None:
        return ""
    sides = {"both": "both together", "network": "the network alone", "linear": "the n-grams alone"}
    summary = found["summary"]
    rows = []
    for side, name in sides.items():
        each = summary[f"{side} accuracy"]
        accuracies = [run["accuracy"][side] for run in found["runs"]]
        rows.append(
            [
                name,
                f"{each['mean']:.4f} ± {each['standard_deviation']:.4f}",
                ", ".join(f"{accuracy:.4f}" for accuracy in accuracies),
            ]
        )
    return table(["on 25,000 test reviews", "mean, standard deviation", "seeds 0 to 4"], rows)


def accurate_tests(results: Results) -> str:
    """What the paired tests say, and what the preset costs."""
    found = results.get("accurate.json")
    if found is None:
        return ""
    runs = found["runs"]
    largest = {name: max(run["mcnemar_p"][name] for run in runs) for name in runs[0]["mcnemar_p"]}
    epochs = [epoch["seconds"] for run in runs for epoch in run["epochs"]]
    # Not the runs' own seconds: of one that was resumed they lack what came before.
    trained = [sum(epoch["seconds"] for epoch in run["epochs"]) for run in runs]
    tests = "; ".join(f"{name} {p:.1g}" for name, p in largest.items())
    load = ", ".join(map(str, found["machine"].get("load_average", []))) or "unknown"
    return (
        f"McNemar's exact test on the same reviews, the largest p of the {len(runs)} seeds: "
        f"{tests}. An epoch took {statistics.median(epochs):.0f} s, all of a training together "
        f"{statistics.median(trained):.0f} s ({min(trained):.0f} to {max(trained):.0f}), on "
        f"{found['settings']['threads']} threads of {found['machine']['cpu']} with other work "
        f"beside it (load average {load} when it began); the file has "
        f"{runs[0]['file_bytes'] / 1e6:.0f} MB.\n"
    )


def own_files(results: Results) -> str:
    """The default preset on other data than IMDB, TF-IDF with logistic regression beside it."""
    found = results.get("own_files.json")
    if found is None:
        return ""
    rows = []
    for name, systems in found["summary"].items():
        theirs = systems["TF-IDF"]
        for system, ours in systems.items():
            if system == "TF-IDF":
                continue
            seeds, test = ours["accuracy"], ours["mcnemar"]
            rows.append(
                [
                    name.replace("_", " "),
                    system,
                    f"{seeds['mean']:.4f} ({seeds['min']:.4f} to {seeds['max']:.4f})",
                    f"{theirs['accuracy']['mean']:.4f}",
                    f"{test['p']:.2g}",
                    f"{ours['train_seconds']['median']:.0f} s",
                    f"{theirs['choose_seconds']:.0f} s",
                ]
            )
    heads = ["set", "preset", "accuracy, range of the seeds", "TF-IDF", "p", "training"]
    return table([*heads, "TF-IDF's choosing"], rows)


def large_table(results: Results) -> str:
    """Training on a table that is larger than memory needs to be."""
    found = results.get("large_table.json")
    if found is None:
        return ""
    rows = [
        [
            f"{run['rows']:,}",
            f"{run['table_mb']:,.0f}",
            f"{run['seconds']:.0f}",
            f"{run['rows_per_second']:,.0f}",
            f"{run['own_peak_mb']:.0f}",
            f"{run['peak_mb']:.0f}",
        ]
        for run in found["runs"]
    ]
    heads = ["rows", "MB of CSV", "s in all"]
    return table([*heads, "rows a second", "own MB", "resident MB"], rows)


# --- docs/lecture.md


def lecture_step(results: Results) -> str:
    """One step of a GRU with the reset gate after the product: its terms, then the equations."""
    found = results.get("lecture_gates.json")
    if found is None:
        return ""
    terms = found["summary"]["gates"]["terms"]
    rows = [
        [gate["name"]]
        + [f"{gate[key]:.4f}" for key in ("input", "recurrent", "bias", "recurrent_bias", "value")]
        for gate in terms["gates"]
    ]
    update, reset, candidate = terms["gates"]
    keys = ("input", "recurrent", "bias", "recurrent_bias")
    lines = [f"unit {terms['unit']} at {terms['token']!r}, before: h = {terms['previous']:.4f}", ""]
    for letter, gate in (("z", update), ("r", reset)):
        numbers = " + ".join(signed(gate[key]) for key in keys)
        total = sum(gate[key] for key in keys)
        lines.append(f"{letter} = σ({numbers}) = σ({total:.4f}) = {gate['value']:.4f}")
    w, u, b, second = (signed(candidate[key]) for key in keys)
    r, z, c = (f"{gate['value']:.4f}" for gate in (reset, update, candidate))
    lines.append(f"c = tanh({w} + {b} + {r} * ({u} + {second})) = {c}")
    lines.append(
        f"h = (1 - {z}) * {signed(terms['previous'])} + {z} * {signed(candidate['value'])}"
    )
    lines[-1] += f" = {terms['state']:.4f}"
    shown = "".join(f"    {line}".rstrip() + "\n" for line in lines)
    return table(["gate", "W x", "U h", "b", "b′", "value"], rows) + "\n" + shown


def signed(value: float) -> str:
    """With four decimals; below 0 in brackets."""
    return f"{value:.4f}" if value >= 0 else f"({value:.4f})"


def lecture_words(results: Results) -> str:
    found = results.get("lecture_gates.json")
    if found is None:
        return ""
    gates = found["summary"]["gates"]
    tokens, after = gates["tokens"], [f"{each:.2f}" for each in gates["probabilities"]]
    # The mark of the beginning is no word of the text.
    after = [""] * (len(tokens) - len(after)) + after
    columns = [[f"{each:.2f}" for each in gates[key]] for key in ("moved", "mean_update")]
    rows = zip([f"`{token}`" for token in tokens], after, *columns, strict=True)
    return table(["word", "positive", "state moved by", "mean update gate"], rows)


def lecture_seeds(results: Results) -> str:
    found = results.get("lecture_seeds.json")
    if found is None:
        return ""
    accuracy = found["summary"]["test accuracy"]
    accuracies = f"{accuracy['mean']:.4f}, the least {accuracy['min']:.4f}"
    return f"{accuracies}, the greatest {accuracy['max']:.4f}.\n"


def lecture_epochs(results: Results) -> str:
    rows = []
    found = results.by_cell("lecture_epoch_{}.json")
    sides = ("tidegate", "keras", "torch", "jax")
    for side in sides:
        seconds = [each["summary"]["train"].get(f"{side}_s") for each in found.values()]
        rows.append([SIDES[side], *(between(each) if each else "" for each in seconds)])
    return table(["seconds for an epoch", *(CELLS[cell] for cell in found)], rows)


def lecture_far_back(results: Results) -> str:
    found = results.get("lecture_gates.json")
    if found is None:
        return ""
    rows = [
        [
            CELLS[cell],
            ", ".join(f"{100 * each:.0f} %" for each in each_cell["accuracies"]),
            *(
                ", ".join(
                    f"{run['shares'][which][-1]:.0e}"
                    for run in found["runs"]
                    if run["cell"] == cell
                )
                for which in ("untrained", "trained")
            ),
        ]
        for cell, each_cell in found["summary"]["far_back"].items()
    ]
    head = ["", "right, for each seed", "gradient left, untrained", "gradient left, trained"]
    return table(head, rows)


TABLES: dict[str, Callable[[Results], str]] = {
    "machine": machine,
    "epoch": lecture("train"),
    "test-set": lecture("score"),
    "losses": losses,
    "study": study,
    "scoring": scoring,
    "one-text": one_text,
    "other-kinds": other_kinds,
    "techniques": techniques,
    "kernels": kernels,
    "kernels-avx2": kernels_avx2,
    "kernels-bfloat16": kernels_bfloat16,
    "growth": growth,
    "deletion-lecture": deletion("lecture"),
    "deletion-default": deletion("default"),
    "explain-times": explain_times,
    "explain-machine": explain_machine,
    "accurate": accurate,
    "accurate-tests": accurate_tests,
    "own-files": own_files,
    "large-table": large_table,
    "lecture-step": lecture_step,
    "lecture-words": lecture_words,
    "lecture-seeds": lecture_seeds,
    "lecture-epochs": lecture_epochs,
    "lecture-far-back": lecture_far_back,
}


if __name__ == "__main__":
    main()
