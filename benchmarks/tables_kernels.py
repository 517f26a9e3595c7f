"""The kernels alone, and what each technique saves."""

from __future__ import annotations

from typing import Any

from result_files import AXES, TEXTS, VARIANTS, Result, Table, between, digits, of, table, times


@of("techniques.json")
def techniques(found: Result) -> str:
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


def layers(found: Result) -> dict[str, dict[str, Any]]:
    """The cases of kernels.json by name, without another commit's."""
    layer: dict[str, dict[str, Any]] = found["summary"]["layer"]
    return {name: each for name, each in layer.items() if "this_to_it" not in each}


@of("kernels.json")
def kernels(found: Result) -> str:
    rows = []
    for name, figures in layers(found).items():
        if figures.get("precision", "float32") != "float32":
            continue
        row = [name]
        for way in ("forward", "backward"):
            row += [between(figures[f"{way}_ms"]), f"{figures[f'{way}_share_of_peak']:.0%}"]
        rows.append(row)
    return table(["", "forward, ms", "of peak", "backward, ms", "of peak"], rows)


@of("kernels.json")
def kernels_avx2(found: Result) -> str:
    """What has a peak of its own, whose kernels use the same instructions."""
    rows = []
    for name, figures in layers(found).items():
        if "forward_share_of_isa_peak" not in figures or figures["precision"] != "float32":
            continue
        row = [name]
        for way in ("forward", "backward"):
            share = figures[f"{way}_share_of_isa_peak"]
            row += [f"{figures[f'{way}_gflops']:.0f}", f"{share:.0%}"]
        rows.append(row)
    head = ["", "forward, GFLOP/s", "of AVX2's peak", "backward, GFLOP/s", "of AVX2's peak"]
    return table(head, rows)


@of("kernels.json")
def kernels_bfloat16(found: Result) -> str:
    cases = layers(found)
    rows = []
    for name, figures in cases.items():
        if figures.get("precision") != "bfloat16":
            continue
        wide = cases.get(name.replace(", bfloat16", ""))
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


@of("growth.json")
def growth(found: Result) -> str:
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


TABLES: dict[str, Table] = {
    "techniques": techniques,
    "kernels": kernels,
    "kernels-avx2": kernels_avx2,
    "kernels-bfloat16": kernels_bfloat16,
    "growth": growth,
}
