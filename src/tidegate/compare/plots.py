"""A comparison's plots, from the report alone: each as SVG and what it shows."""

from __future__ import annotations

import numpy as np

from tidegate.compare.charts import Axis, Series, interval_chart, line_chart, span
from tidegate.compare.figures import Report, sound

Plot = tuple[str, str]


def _share(value: float) -> str:
    return f"{100.0 * value:g} %"


def accuracy_plots(report: Report) -> list[Plot]:
    """Accuracy over epochs, seconds and cost, and with its intervals."""
    rows = sound(report)
    if not rows:
        return []
    intervals = [
        (row["label"], row["model"], row["test"]["accuracy"], tuple(row["test"]["interval"]))
        for row in rows
    ]
    low, high = span([end for *_, interval in intervals for end in interval])
    test = Axis("accuracy on the test texts", max(0.0, low), min(1.0, high), show=_share)
    costs = [
        Series(row["label"], row["model"], [(row["cost"], row["test"]["accuracy"])]) for row in rows
    ]
    most = max(row["cost"] for row in rows)
    values = span([row["test"]["accuracy"] for row in rows])
    accuracy = Axis("test accuracy", max(0.0, values[0]), min(1.0, values[1]), show=_share)
    return [
        _progress(report, by_seconds=False),
        _progress(report, by_seconds=True),
        (
            line_chart(
                "Test accuracy over cost",
                costs,
                Axis("cost: training, one text, file; times the cheapest", 0.0, 1.1 * most),
                accuracy,
            ),
            "What accuracy costs: high on the left is best.",
        ),
        (
            interval_chart("Test accuracy of each model with its interval", intervals, test),
            "Test accuracy with its 95 % interval.",
        ),
    ]


def _progress(report: Report, *, by_seconds: bool) -> Plot:
    """Validation accuracy after each epoch: the seeds' mean, and their range."""
    series = []
    for row in sound(report):
        runs = [seed["epochs"] for seed in row["seeds"]]
        if not runs[0]:  # the linear model has no epochs
            continue
        points, band = [], []
        for i in range(min(map(len, runs))):
            spent = [sum(epoch["seconds"] for epoch in epochs[: i + 1]) for epochs in runs]
            x = float(np.mean(spent)) if by_seconds else i + 1.0
            values = [epochs[i]["val_accuracy"] for epochs in runs]
            points.append((x, float(np.mean(values))))
            band.append((x, min(values), max(values)))
        series.append(Series(row["label"], row["model"], points, band))
    longest = max([1.0, *(one.points[-1][0] for one in series)])
    for row in sound(report):
        if row["kind"] == "linear":
            trained, accuracy = row["train_seconds"]["median"], row["validation"]["accuracy"]
            # By epochs it has no place, and is what the others are held against.
            places = [trained] if by_seconds else sorted({1.0, longest})
            line = [(place, accuracy) for place in places]
            series.append(Series(row["label"], row["model"], line))
    values = [y for one in series for _, y in one.points]
    values += [y for one in series for _, *ends in one.band for y in ends]
    low, high = span(values)
    name = "seconds of training" if by_seconds else "epoch"
    x_axis = Axis(name, 0.0, 1.03 * longest)
    if not by_seconds:
        x_axis = Axis(name, 1.0, max(longest, 2.0), whole=True)
    chart = line_chart(
        f"Validation accuracy over {name}",
        series,
        x_axis,
        Axis("validation accuracy", max(0.0, low), min(1.0, high), show=_share),
    )
    over = "over the seconds of training" if by_seconds else "after each epoch"
    return chart, f"Validation accuracy {over}; {_seeds(report)}."


def _seeds(report: Report) -> str:
    seeds = report["plan"]["seeds"]
    return f"mean of {seeds} seeds, with their range" if seeds > 1 else "one seed"


def gradient_plot(report: Report, stage: str) -> Plot | None:
    """What is left of the gradient. stage: "initial" or "trained"."""
    series, shares, reach = [], [0.1, 1.0], 1
    for row in sound(report):
        found = (row["gradients"] or {}).get(stage)
        if found is None:
            continue
        far = [float(d) for d in found["distances"]]
        points = list(zip(far, found["median"], strict=True))
        # Seeds can differ by more than texts do: where there are several, they are what is shown.
        seeds = found["seeds"] if len(found["seeds"]) > 1 else []
        band = [] if seeds else list(zip(far, found["low"], found["high"], strict=True))
        each = [list(zip(far, seed, strict=True)) for seed in seeds]
        series.append(Series(row["label"], row["model"], points, band, each))
        shares += [share for line in (points, *each) for _, share in line]
        shares += [share for _, *ends in band for share in ends]
        reach = max(reach, found["distances"][-1])
    if not series:
        return None
    when = "after training" if stage == "trained" else "before training, with its first weights"
    chart = line_chart(
        f"What is left of the gradient over the distance from the end, {when}",
        series,
        Axis("steps from the end", 0.0, float(reach)),
        Axis(
            "share of the norm at the end",
            min(share for share in shares if share > 0.0) / 2.0,
            2.0 * max(shares),
            log=True,
        ),
    )
    shown = "median text, and the range from 10 to 90 % of the texts"
    if report["plan"]["seeds"] > 1:
        shown = "thin, the median text of each seed; thick, the median of the seeds"
    return chart, f"{when[0].upper()}{when[1:]}: {shown}. Logarithmic scale."


def distance_plot(report: Report) -> Plot | None:
    """Accuracy over the number of words behind the deciding ones."""
    series = []
    for row in sound(report):
        found = row["distances"]
        if found is None:
            continue
        far = [float(d) for d in found["distances"]]
        ranges = list(zip(*found["seeds"], strict=True))
        series.append(
            Series(
                row["label"],
                row["model"],
                list(zip(far, found["accuracy"], strict=True)),
                [(d, min(r), max(r)) for d, r in zip(far, ranges, strict=True)],
            )
        )
    if not series:
        return None
    values = [y for one in series for _, *ends in one.band for y in ends]
    low, high = span(values)
    reach = max(one.points[-1][0] for one in series)
    chart = line_chart(
        "Accuracy over the number of words behind the deciding ones",
        series,
        Axis("words behind the deciding ones", 0.0, reach),
        Axis("accuracy", max(0.0, low), min(1.0, high), show=_share),
    )
    return chart, f"After training; {_seeds(report)}."
