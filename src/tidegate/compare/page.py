"""A comparison as one page that needs nothing else, from the report alone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from tidegate.compare import table, words
from tidegate.compare.charts import Axis, Series, interval_chart, line_chart, span

Report = Mapping[str, Any]

_STYLE = """
:root { color-scheme: light dark; --text: #1b1f24; --soft: #59636e; --back: #fff; --line: #d1d9e0;
  --box: #f6f8fa; --gru: #0068a8; --gru-before: #7a6200; --lstm: #b84a00; --rnn: #00795a;
  --linear: #8a3d8f; }
@media (prefers-color-scheme: dark) { :root { --text: #e6edf3; --soft: #9198a1; --back: #0d1117;
  --line: #3d444d; --box: #151b23; --gru: #5fb4ff; --gru-before: #e3c34c; --lstm: #ffa657;
  --rnn: #4fd6a5; --linear: #e0a0e6; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 80rem; padding: 1.5rem 1rem 4rem; background: var(--back);
  color: var(--text); font: 1rem/1.55 system-ui, sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 .5rem; } h2 { font-size: 1.25rem; margin: 2.5rem 0 .5rem; }
p { max-width: 46rem; margin: .5rem 0; } .soft, figcaption { color: var(--soft); }
.advice { background: var(--box); border-left: .3rem solid var(--gru); padding: .8rem 1.2rem;
  margin: 1rem 0; max-width: 50rem; } .advice p:first-child { font-size: 1.15rem; }
.scroll { overflow-x: auto; margin: .5rem 0; }
table { border-collapse: collapse; font-size: .86rem; }
th, td { padding: .3rem .45rem; text-align: right; border-bottom: 1px solid var(--line);
  vertical-align: top; font-variant-numeric: tabular-nums; }
th:first-child { text-align: left; padding-left: 0; white-space: nowrap; position: sticky; left: 0;
  background: var(--back); }
th { font-weight: 600; } tbody th { font-weight: 400; }
tr.chosen, tr.chosen th { background: var(--box); } tr.chosen th { font-weight: 600; }
tr.chosen th::before { content: "➜ "; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: .5rem 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 32rem), 1fr));
  gap: 1.5rem; } figure { margin: 0; max-width: 40rem; min-width: 0; }
figcaption { font-size: .92rem; max-width: 40rem; }
svg { width: 100%; height: auto; display: block;
  font: 12px system-ui, sans-serif; }
svg text { fill: var(--text); } .mid { text-anchor: middle; } .end { text-anchor: end; }
.grid { stroke: var(--line); stroke-width: 1; opacity: .6; } .axis { stroke: var(--soft); }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; } .line.thin { stroke-width: 1.2; }
.band { stroke: none; opacity: .12; }
ul { max-width: 46rem; padding-left: 1.2rem; margin: .5rem 0; font-size: .92rem; }
@media (max-width: 40rem) { svg { font-size: 16px; } dl { grid-template-columns: 1fr; }
  dd { margin-bottom: .4rem; } th, td { white-space: nowrap; } }
@media print { body { max-width: none; } }
"""

_COLOURS = "".join(
    f".{name} {{ stroke: var(--{name}); }} .mark.{name}, .band.{name} {{ fill: var(--{name}); }} "
    for name in ("gru", "gru-before", "lstm", "rnn", "linear")
)


def page(report: Report) -> str:
    """The page, UTF-8."""
    name = report["source"]["name"] if "source" in report else "texts"
    header, rows = table.figures(report)
    chosen = None if report["choice"] is None else report["choice"]["chosen"]
    marked = [row["model"] == chosen for row in words.sound(report)]
    body = [
        f"<h1>Comparison: {escape(str(name))}</h1>",
        f'<div class="advice">{_paragraphs(words.advice(report))}</div>',
        *(f"<p>{escape(line)}.</p>" for line in words.failures(report)),
        _facts(words.setting(report)),
        "<h2>Measured</h2>",
        _table("Measured", header, rows, marked),
        _list(words.notes(report), "soft"),
        _charts(_accuracy_charts(report)),
        "<h2>Differences on the test texts</h2>",
        _table("Differences on the test texts", *table.tests(report)),
        *(f'<p class="soft">{escape(line)}</p>' for line in words.method(report)),
        *_forgetting(report),
    ]
    joined = "\n".join(filter(None, body))
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>Comparison: {escape(str(name))}</title>\n"
        f"<style>{_STYLE}{_COLOURS}</style>\n<body>\n{joined}\n</body>\n"
        "</html>\n"
    )


def _forgetting(report: Report) -> list[str]:
    gradients, distances = table.fading(report), table.distances(report)
    parts = []
    if gradients[1]:
        parts += [
            "<h2>How far back the gradient reaches</h2>",
            _paragraphs(words.fading_words(report)),
            _charts([_gradient_chart(report, "trained"), _gradient_chart(report, "initial")]),
            _table("What is left of the gradient", *gradients),
        ]
    if distances[1]:
        parts += [
            "<h2>Deciding words ever farther from the end</h2>",
            f"<p>{escape(words.distance_words(report))}</p>",
            _charts([_distance_chart(report)]),
            _table("Accuracy by the number of words behind", *distances),
        ]
    return parts


def _paragraphs(lines: Sequence[str]) -> str:
    """With commands, which stand between backticks, as such."""
    marked = (_COMMAND.sub(r"<code>\1</code>", escape(line)) for line in lines)
    return "".join(f"<p>{line}</p>" for line in marked)


def _list(lines: Sequence[str], kind: str) -> str:
    return f'<ul class="{kind}">{"".join(f"<li>{escape(line)}</li>" for line in lines)}</ul>'


def _facts(found: Sequence[tuple[str, str]]) -> str:
    rows = (f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in found)
    return f"<dl>{''.join(rows)}</dl>"


def _table(
    title: str,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    marked: Sequence[bool] = (),
) -> str:
    """A table. title: what it is for those who don't see it. marked: the rows that are chosen."""
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in header)
    body = []
    for i, row in enumerate(rows):
        name, *others = row
        cells = f'<th scope="row">{_unbroken(name)}</th>'
        cells += "".join(f"<td>{_unbroken(cell)}</td>" for cell in others)
        chosen = ' class="chosen"' if i < len(marked) and marked[i] else ""
        body.append(f"<tr{chosen}>{cells}</tr>")
    # Reached by keyboard, because it may have to be scrolled.
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(title)}">'
        f"<table><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


# Blanks between a number and its unit, in an interval and in a p-value.
_UNIT = re.compile(r"(?<=\d) (?=%|s\b|ms\b|MB\b)|(?<=\d) (?=to )|(?<=\bto) |(?<=p) |(?<=<) ")


_COMMAND = re.compile("`([^`]+)`")


def _unbroken(cell: str) -> str:
    """A cell in which no number is torn from its unit."""
    return escape(_UNIT.sub("\N{NO-BREAK SPACE}", cell))


def _charts(found: Sequence[tuple[str, str] | None]) -> str:
    """Each plot with what it shows below it."""
    figures = (
        f"<figure>{chart}<figcaption>{escape(caption)}</figcaption></figure>"
        for chart, caption in filter(None, found)
    )
    return f'<div class="charts">{"".join(figures)}</div>'


# --- plots ---------------------------------------------------------------------------------------


def _share(value: float) -> str:
    return f"{100.0 * value:g} %"


def _accuracy_charts(report: Report) -> list[tuple[str, str] | None]:
    rows = words.sound(report)
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
        _progress_chart(report, by_seconds=False),
        _progress_chart(report, by_seconds=True),
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


def _progress_chart(report: Report, *, by_seconds: bool) -> tuple[str, str]:
    """Validation accuracy after each epoch: the seeds' mean, and their range."""
    series = []
    for row in words.sound(report):
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
    for row in words.sound(report):
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


def _gradient_chart(report: Report, stage: str) -> tuple[str, str] | None:
    series, shares, reach = [], [0.1, 1.0], 1
    for row in words.sound(report):
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


def _distance_chart(report: Report) -> tuple[str, str] | None:
    series = []
    for row in words.sound(report):
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
