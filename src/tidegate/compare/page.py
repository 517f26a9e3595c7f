"""A comparison as one page that needs nothing else, from the report alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from tidegate.compare import plots, table, words
from tidegate.compare.figures import Report, sound

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
    marked = [row["model"] == chosen for row in sound(report)]
    body = [
        f"<h1>Comparison: {escape(str(name))}</h1>",
        f'<div class="advice">{_paragraphs(words.advice(report))}</div>',
        *(f"<p>{escape(line)}.</p>" for line in words.failures(report)),
        _facts(words.setting(report)),
        "<h2>Measured</h2>",
        _table("Measured", header, rows, marked),
        _list(words.notes(report), "soft"),
        _charts(plots.accuracy_plots(report)),
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
            _charts([plots.gradient_plot(report, stage) for stage in ("trained", "initial")]),
            _table("What is left of the gradient", *gradients),
        ]
    if distances[1]:
        parts += [
            "<h2>Deciding words ever farther from the end</h2>",
            f"<p>{escape(words.distance_words(report))}</p>",
            _charts([plots.distance_plot(report)]),
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
_UNIT = re.compile(r"(?<=\d) (?=%|s\b|ms\b|kB\b|MB\b)|(?<=\d) (?=to )|(?<=\bto) |(?<=p) |(?<=<) ")
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
