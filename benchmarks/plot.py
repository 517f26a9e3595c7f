"""Draws the pictures of docs/performance.md from benchmarks/results.

Needs matplotlib, which tidegate does not: `pip install matplotlib` in any environment. A picture
whose results are missing is not drawn. Afterwards, tables.py puts the pictures into the document.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl  # type: ignore[import-not-found,import-untyped,unused-ignore]
from result_files import AXES, CELLS, FIGURES, RESULTS, SIDES, TEXTS, VARIANTS, Results, digits

mpl.use("agg")

import matplotlib.pyplot as plt  # type: ignore[import-not-found,import-untyped,unused-ignore]

# Okabe and Ito's, which the colour-blind tell apart.
COLOURS = {
    "tidegate": "#0072b2",
    "tidegate_bfloat16": "#56b4e9",
    "tidegate_plain": "#009e73",
    "keras": "#d55e00",
    "jax": "#e69f00",
    "torch": "#cc79a7",
}
GREY = "#777777"
STYLE = {
    "figure.facecolor": "white",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "legend.frameon": False,
    "svg.hashsalt": "tidegate",  # the same results give the same file
}
WIDTH = 9.0  # inches


def main() -> None:
    options = parse_options()
    results = Results(options.results)
    options.figures.mkdir(parents=True, exist_ok=True)
    with plt.style.context(["default", STYLE]):
        for name, draw in PICTURES.items():
            figure = draw(results)
            if figure is None:
                print(f"not drawn, results are missing: {name}")
                continue
            path = options.figures / f"{name}.{options.format}"
            metadata = {"Date": None} if options.format == "svg" else {}
            figure.savefig(path, metadata=metadata, dpi=110)
            plt.close(figure)
            print(f"drawn: {path}")


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER")
    parser.add_argument("--figures", type=Path, default=FIGURES, metavar="FOLDER")
    parser.add_argument("--format", choices=("svg", "png"), default="svg")
    return parser.parse_args()


def bars(axes: Any, names: list[str], found: list[dict[str, float]], colours: list[str]) -> None:
    """Horizontal bars, the first on top, with medians written beside and runs' spread drawn."""
    places = range(len(names))
    medians = [each["median"] for each in found]
    below = [each["median"] - each["min"] for each in found]
    above = [each["max"] - each["median"] for each in found]
    axes.barh(places, medians, xerr=[below, above], color=colours, height=0.7, ecolor=GREY)
    longest = max(each["max"] for each in found)
    for place, each in zip(places, found, strict=True):
        axes.text(each["max"] + 0.02 * longest, place, digits(each["median"]), va="center")
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.15 * longest)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)


def epoch(results: Results) -> Any:
    found = results.by_cell("lecture_epoch_{}.json")
    if not found:
        return None
    sides = {
        cell: [side for side in SIDES if f"{side}_s" in result["summary"]["train"]]
        for cell, result in found.items()
    }
    heights = [len(listed) for listed in sides.values()]
    figure, grid = plt.subplots(
        len(found),
        1,
        figsize=(WIDTH, 0.6 + 0.34 * sum(heights) + 0.55 * len(heights)),
        height_ratios=heights,
        squeeze=False,
        layout="constrained",
    )
    for axes, (cell, result) in zip(grid[:, 0], found.items(), strict=True):
        train = result["summary"]["train"]
        bars(
            axes,
            [SIDES[side] for side in sides[cell]],
            [train[f"{side}_s"] for side in sides[cell]],
            [COLOURS[side] for side in sides[cell]],
        )
        axes.set_title(CELLS[cell], loc="left")
    grid[-1, 0].set_xlabel("seconds for an epoch of 20,000 reviews (less is better)")
    return figure


def losses(results: Results) -> Any:
    found = results.by_cell("lecture_epoch_{}.json")
    found = {cell: each for cell, each in found.items() if any(each["summary"]["curve"].values())}
    if not found:
        return None
    figure, grid = plt.subplots(
        1, len(found), figsize=(WIDTH, 3.4), squeeze=False, sharey=True, layout="constrained"
    )
    # The widest lines first, so that those under others are seen.
    order = ("torch", "jax", "keras", "tidegate_plain", "tidegate_bfloat16", "tidegate")
    for axes, (cell, result) in zip(grid[0], found.items(), strict=True):
        curve = result["summary"]["curve"]
        drawn = [side for side in order if curve.get(side)]
        for i, side in enumerate(drawn):
            width = 1.2 + 1.8 * (len(drawn) - 1 - i)
            batches = range(1, len(curve[side]) + 1)
            axes.plot(batches, curve[side], color=COLOURS[side], lw=width, label=SIDES[side])
        axes.set_title(CELLS[cell], loc="left")
        axes.set_xlabel("batch")
    grid[0, 0].set_ylabel("loss of the batch, nats")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


def techniques(results: Results) -> Any:
    result = results.get("techniques.json")
    if result is None:
        return None
    variants = result["summary"]["variants"]
    most = max(each["threads"] for each in variants)
    figure, grid = plt.subplots(1, 2, figsize=(WIDTH, 2.9), sharex=True, layout="constrained")
    longest = max(each["ms"]["median"] for each in variants if each["threads"] == most)
    names = {
        "both": "both",
        "words": "product once a word",
        "padding": "shared padding",
        "neither": "neither",
    }
    for axes, texts in zip(grid, TEXTS, strict=True):
        chosen = [
            next(
                each
                for each in variants
                if (each["texts"], each["threads"], each["variant"]) == (texts, most, variant)
            )
            for variant in VARIANTS
        ]
        places = range(len(chosen))
        forward = [each["forward_ms"]["median"] for each in chosen]
        backward = [each["backward_ms"]["median"] for each in chosen]
        axes.barh(places, forward, color=COLOURS["tidegate_bfloat16"], label="forward", height=0.7)
        axes.barh(
            places,
            backward,
            left=forward,
            color=COLOURS["tidegate"],
            label="backward",
            height=0.7,
        )
        for place, each, end in zip(
            places, chosen, map(sum, zip(forward, backward, strict=True)), strict=True
        ):
            note = f"{digits(each['gflop'])} GFLOP, {each['share_of_peak']:.0%} of peak"
            axes.text(end + 0.02 * longest, place, note, va="center", fontsize=8.5)
        axes.set_yticks(places, [names[each["variant"]] for each in chosen])
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.set_title(f"{TEXTS[texts]} words", loc="left")
        axes.set_xlim(0, 1.75 * longest)
        axes.set_xlabel("ms a batch, median")
    grid[1].set_yticklabels([])
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure


def growth(what: str) -> Callable[[Results], Any]:
    """One panel an axis: time per token, or the share of the peak."""

    def draw(results: Results) -> Any:
        result = results.get("growth.json")
        if result is None:
            return None
        points = result["summary"]["points"]
        axes_names = [axis for axis in AXES if any(point["axis"] == axis for point in points)]
        threads = sorted({point["threads"] for point in points})
        figure, grid = plt.subplots(
            2, 3, figsize=(WIDTH, 5.4), squeeze=False, sharey=True, layout="constrained"
        )
        panels = list(grid.flat)
        for axes, axis in zip(panels, axes_names, strict=False):
            for side, colour, name in (
                ("train", COLOURS["tidegate"], "training"),
                ("score", COLOURS["keras"], "scoring"),
            ):
                for count in threads:
                    chosen = [
                        point
                        for point in points
                        if (point["axis"], point["threads"]) == (axis, count) and side in point
                    ]
                    axes.plot(
                        [point["value"] for point in chosen],
                        [value_of(point[side], what) for point in chosen],
                        color=colour,
                        marker="o",
                        ms=3.5,
                        ls="-" if count == threads[-1] else ":",
                        label=f"{name}, {count} thread{'s' if count > 1 else ''}",
                    )
            axes.set_xscale("log", base=10 if axis in ("vocabulary", "texts") else 2)
            ticks = sorted({point["value"] for point in points if point["axis"] == axis})
            axes.set_xticks(ticks, labels_of(ticks))
            axes.minorticks_off()
            axes.set_xlabel(AXES[axis])
            if what == "time":
                axes.set_yscale("log")
                axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
            else:
                axes.set_ylim(0, max(105, axes.get_ylim()[1]))
        for axes in panels[len(axes_names) :]:
            axes.set_axis_off()
        handles, labels = panels[0].get_legend_handles_labels()
        panels[-1].legend(handles, labels, loc="center")
        for row in grid:
            row[0].set_ylabel("µs a token" if what == "time" else "% of the float32 peak")
        return figure

    return draw


def value_of(figures: dict[str, Any], what: str) -> float:
    if what == "time":
        return float(figures["us_per_token"]["median"])
    return 100.0 * float(figures["share_of_peak"])


def labels_of(ticks: list[int]) -> list[str]:
    """Short ones on a logarithmic axis, from the last on, leaving out those that would overlap."""
    labels: list[str] = []
    least = (ticks[-1] / ticks[0]) ** 0.13  # between two labels, as a ratio
    last = math.inf
    for tick in reversed(ticks):
        near = tick * least > last
        last = last if near else tick
        short = f"{tick // 1000}k" if tick >= 1000 and tick % 1000 == 0 else f"{tick:,}"
        labels.insert(0, "" if near else short)
    return labels


PICTURES: dict[str, Callable[[Results], Any]] = {
    "epoch": epoch,
    "losses": losses,
    "techniques": techniques,
    "growth": growth("time"),
    "growth-share": growth("share"),
}


if __name__ == "__main__":
    main()
