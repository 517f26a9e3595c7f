"""Epochs, scoring and the other systems beside: what took how long."""

from __future__ import annotations

from result_files import (
    CELLS,
    SIDES,
    Result,
    Results,
    Table,
    between,
    made_by,
    of,
    ratios,
    spread,
    table,
)

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
            del packages["commit"]
            memory = f", {about['memory_gb']:.0f} GB" if "memory_gb" in about else ""
            listed = ", ".join(f"{package} {version}" for package, version in packages.items())
            lines[
                f"- `{name}`: {about['cpu']}, {about['cores']} cores{memory}, {about['kernel']}; "
                f"{listed}; {made_by(found)}\n"
            ] = None
    return "".join(lines)


def lecture(what: str) -> Table:
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
                own = ("tidegate", "tidegate_bfloat16", "tidegate_plain")
                ratio = ratios(summary["ratio"], side, own)
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


@of("lecture_epoch_study.json")
def study(found: Result) -> str:
    """The lecture's epoch and its test set, beside the program that shows what can be reached."""
    rows = []
    tested = f"{found['settings']['test_texts']:,} test reviews"
    for what, shown in (("train", "an epoch"), ("score", tested)):
        summary = found["summary"].get(what)
        if summary is None:
            continue
        for side, name in STUDY_SIDES.items():
            if f"{side}_s" in summary:
                ratio = ratios(summary["ratio"], side)
                rows.append([shown, name, between(summary[f"{side}_s"]), *ratio])
    return table(["", "", "seconds", "of float32's", "of bfloat16's"], rows)


def scoring(results: Results) -> str:
    """All reviews: texts a second, and each side's time as a multiple of tidegate's."""
    rows = []
    for cell, result in results.by_cell("scoring_{}.json").items():
        texts, count = result["summary"]["texts"], f"{result['settings']['texts']:,}"
        sizes = texts.get("best_batch_sizes", {})
        for side, name in SCORERS.items():
            rate = texts.get(f"{side}_per_s")
            if rate is None:
                continue
            ratio = ratios(texts.get("ratios", {}), side)
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


@of("fasttext.json")
def other_kinds(found: Result) -> str:
    rows = []
    for side, name in OTHER_KINDS.items():
        figures = found["summary"]["sides"].get(side)
        if figures is not None:
            keys = ("median", "min", "max")
            accuracy = spread(figures["accuracy"], keys, lambda share: f"{100 * share:.2f}")
            rows.append(
                [
                    name,
                    between(figures["train_s"]),
                    between(figures["score_s"]),
                    f"{accuracy} %",
                ]
            )
    return table(["", "training, s", "scoring, s", "test accuracy"], rows)


TABLES: dict[str, Table] = {
    "machine": machine,
    "epoch": lecture("train"),
    "test-set": lecture("score"),
    "losses": losses,
    "study": study,
    "scoring": scoring,
    "one-text": one_text,
    "other-kinds": other_kinds,
}
