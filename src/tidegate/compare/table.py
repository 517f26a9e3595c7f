"""A comparison in tables: for a terminal and as Markdown, from the report alone."""

from __future__ import annotations

from collections.abc import Sequence

from tidegate.compare.figures import (
    Report,
    interval,
    label,
    megabytes,
    p_value,
    percent,
    points,
    seconds,
    share,
    sound,
)
from tidegate.compare.words import (
    advice,
    distance_words,
    fading_words,
    failures,
    method,
    notes,
    scattered,
    setting,
    test_words,
)

Row = list[str]

NONE = "–"


def lines(report: Report) -> list[str]:
    """For a terminal: the table, the tests and the recommendation."""
    header, rows = figures(report)
    # The tests have lines of their own.
    keep = [i for i, name in enumerate(header) if not name.startswith("against")]
    table = [[row[i] for i in keep] for row in (header, *rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(keep))]
    shown = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]
    return [
        *shown,
        *failures(report),
        *(test_words(report, test) for test in report["tests"]),
        *scattered(report),
        *advice(report),
    ]


def markdown(report: Report) -> str:
    """All of it as Markdown."""
    header, rows = figures(report)
    parts = ["# Comparison", "", *_bullets(setting(report)), "", *_table(header, rows), ""]
    parts += [*(f"- {line}" for line in notes(report)), ""]
    parts += [f"{line}." for line in failures(report)]
    parts += ["## Which one to take", "", " ".join(advice(report)), ""]
    parts += ["## Differences on the test texts", "", *_table(*tests(report))]
    for line in method(report):
        parts += ["", line]
    header, rows = fading(report)
    if rows:
        parts += ["", "## How far back the gradient reaches", ""]
        for line in fading_words(report):
            parts += [line, ""]
        parts += _table(header, rows)
    header, rows = distances(report)
    if rows:
        parts += ["", "## Deciding words ever farther from the end", "", distance_words(report), ""]
        parts += _table(header, rows)
    return "\n".join([*parts, ""])


def _bullets(found: Sequence[tuple[str, str]]) -> list[str]:
    return [f"- {name}: {_cell(value)}" for name, value in found]


def _table(header: Row, rows: Sequence[Row]) -> list[str]:
    marks = ["---", *["---:"] * (len(header) - 1)]
    return [f"| {' | '.join(_cell(cell) for cell in row)} |" for row in (header, marks, *rows)]


def _cell(text: str) -> str:
    """A cell that no character of a file's name or an error's message breaks."""
    escaped = text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
    return " ".join(escaped.split())


def figures(report: Report) -> tuple[Row, list[Row]]:
    """The table with a row for each model."""
    pairs = [name for name in _tested_against(report) if len(sound(report)) > 1]
    header = ["model", "gates", "state", "parameters", "epoch", "training", "validation", "test"]
    header += [f"against {label(report, name)}" for name in pairs]
    header += ["one text", "file", "memory", "calibration", "cost"]
    rows = []
    for row in sound(report):
        rows.append(
            [
                row["label"],
                NONE if row["gates"] is None else str(row["gates"]),
                NONE if row["state"] is None else str(row["state"]),
                f"{row['parameters']:,}",
                NONE if row["epoch_seconds"] is None else seconds(row["epoch_seconds"]["median"]),
                seconds(row["train_seconds"]["median"]),
                percent(row["validation"]["accuracy"]),
                f"{percent(row['test']['accuracy'])} ({interval(row['test']['interval'])})",
                *(_against(report, row["model"], name) for name in pairs),
                f"{row['text_milliseconds']['median']:.3f} ms",
                megabytes(row["file_bytes"]),
                megabytes(row["memory_peak"]),
                f"{row['test']['calibration_error']:.3f}",
                f"{row['cost']:.1f}",
            ]
        )
    return header, rows


def _tested_against(report: Report) -> list[str]:
    """The models that others were tested against, in the order of the tests."""
    return list(dict.fromkeys(test["second"] for test in report["tests"]))


def _against(report: Report, first: str, second: str) -> str:
    for test in report["tests"]:
        if {test["first"], test["second"]} == {first, second} and first != second:
            sign = 1.0 if test["first"] == first else -1.0
            return f"{points(sign * test['difference'])}, p {p_value(test['p_holm'])}"
    return NONE


def tests(report: Report) -> tuple[Row, list[Row]]:
    """The paired tests."""
    header = ["against", "difference, points", "95 % interval", "p", "p after Holm"]
    header += ["right alone, each seed"]
    rows = []
    for test in report["tests"]:
        only = zip(test["first_only"], test["second_only"], strict=True)
        rows.append(
            [
                f"{label(report, test['first'])} against {label(report, test['second'])}",
                points(test["difference"]),
                f"{points(test['interval'][0])} to {points(test['interval'][1])}",
                p_value(test["p"]),
                p_value(test["p_holm"]),
                ", ".join(f"{first}:{second}" for first, second in only),
            ]
        )
    return header, rows


def fading(report: Report) -> tuple[Row, list[Row]]:
    """What is left of the gradient at some distances, of the median text."""
    rows: list[Row] = []
    header: Row = []
    for row in sound(report):
        for stage, found in (row["gradients"] or {}).items():
            if found is None:
                continue
            places = _some([*range(len(found["distances"]))], found["distances"])
            header = ["share of the last step's", *(str(found["distances"][i]) for i in places)]
            when = "before training" if stage == "initial" else "trained"
            name = f"{row['label']}, {when}"
            rows.append([name, *(share(found["median"][i]) for i in places)])
    return header, rows


def _some(places: list[int], distances: Sequence[int]) -> list[int]:
    """Some places: distances that about double."""
    chosen = [0]
    for place in places:
        if distances[place] >= max(1, 2 * distances[chosen[-1]]):
            chosen.append(place)
    if chosen[-1] != places[-1]:
        chosen.append(places[-1])
    return chosen


def distances(report: Report) -> tuple[Row, list[Row]]:
    """Accuracy on the probes."""
    rows: list[Row] = []
    header: Row = []
    for row in sound(report):
        found = row["distances"]
        if found is None:
            continue
        header = ["words behind", *(str(distance) for distance in found["distances"])]
        header.append(f"{found['distances'][-1]} in front")
        rows.append(
            [row["label"], *(percent(one) for one in (*found["accuracy"], found["in_front"]))]
        )
    return header, rows
