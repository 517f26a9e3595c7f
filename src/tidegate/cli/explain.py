"""``tidegate explain``."""

from __future__ import annotations

import html
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tidegate import atomic
from tidegate.cli import options, terminal

if TYPE_CHECKING:
    from tidegate.deletion import DeletionTest
    from tidegate.explain import Explanation

_SHOWN = 10  # words of the table in the terminal

# A word's share in steps: signs for those who see no colours, colours for those who do.
_SIGNS = {-3: "---", -2: "--", -1: "-", 0: "", 1: "+", 2: "++", 3: "+++"}
_COLOURS = {-3: "1;31", -2: "31", -1: "2;31", 1: "2;32", 2: "32", 3: "1;32"}

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 1.1rem/1.9 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto;
  padding: 0 1rem; }}
h1 {{ overflow-wrap: anywhere; line-height: 1.2; }} h2 {{ font-size: 1.2rem; }}
.text {{ white-space: pre-wrap; overflow-wrap: anywhere; }}
p span {{ border-radius: .25em; padding: .1em .15em; border-bottom: .15em solid transparent; }}
.for1, .for2, .for3 {{ border-bottom-color: #15803d !important; }}
.against1, .against2, .against3 {{ border-bottom: .15em dashed #b91c1c !important; }}
.for1 {{ background: #16a34a22; }}
.for2 {{ background: #16a34a55; }}
.for3 {{ background: #16a34a99; }}
.against1 {{ background: #dc262622; }}
.against2 {{ background: #dc262655; }}
.against3 {{ background: #dc262699; }}
table {{ border-collapse: collapse; line-height: 1.4; }}
td, th {{ padding: .1rem .8rem .1rem 0; text-align: left; }}
td, th {{ vertical-align: top; }} td:first-child {{ overflow-wrap: anywhere; }}
td:nth-child(n+2), .test td {{ font-variant-numeric: tabular-nums; text-align: right; }}
</style>
<h1><bdi>{label}</bdi>: {probability:.4f}</h1>
<p><span class="for2">Solid lines and green</span> speak for the label,
<span class="against2">dashed lines and red</span> against it ({method}).</p>
<p class="text" dir="auto">{words}</p>
{test}<h2>Word by word</h2>
<table><tr><th>word</th><th>log-odds</th><th>probability after it</th></tr>
{rows}
</table>
"""


def explain(
    model: options.Model,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The text to explain.")],
    label: Annotated[
        str | None,
        typer.Option("--label", metavar="LABEL", help="Explain this label, not the likeliest."),
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            "--method",
            help="staged: slopes in the text and in what is left of it without its strongest "
            "words; integrated: slopes on the way from words without content; occlusion: what each "
            "word's absence changes; gradient: slopes at the text.",
        ),
    ] = "staged",
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Leave the named words out, and random ones, and tell what changes."
        ),
    ] = False,
    page: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a page that shows it.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Show which words speak for a text's label, and which against it.

    \b
    Example:
      tidegate explain model.safetensors "a lovely film with a dreadful end"
      tidegate explain model.safetensors "a lovely film" --check --html why.html
    """
    from tidegate.deletion import deletion_test
    from tidegate.errors import DataError
    from tidegate.estimator import TextClassifier
    from tidegate.explain import explain as explain_text

    if page is not None:
        atomic.check_writable(page)
    classifier = TextClassifier.load(model)
    chosen = None
    if label is not None:
        named = {terminal.label_text(known): known for known in classifier.classes_.tolist()}
        if label not in named:
            raise DataError(f"--label {label!r} is not one of {', '.join(list(named)[:10])}")
        chosen = named[label]
    found = explain_text(classifier, text, label=chosen, method=method)
    tested = deletion_test(classifier, found) if check else None
    if page is not None:
        atomic.write(page, [_page(found, tested).encode("utf-8", "backslashreplace")])
    if as_json:
        told = found.to_json()
        if tested is not None:
            told["deletion"] = tested.to_json()
        terminal.write(terminal.json_text(told) + "\n")
    else:
        _show(found, coloured=sys.stdout.isatty())
        if tested is not None:
            _show_test(found, tested)


def _steps(found: Explanation) -> list[tuple[str, int | None]]:
    from tidegate.explain import strength, words_and_gaps

    largest = max(map(abs, found.contributions.tolist()))
    return [
        (piece, None if value is None else strength(value, largest))
        for piece, value in words_and_gaps(found)
    ]


def _show(found: Explanation, *, coloured: bool) -> None:
    """The text with each word's signs, then the words that say most."""
    shown = []
    for piece, step in _steps(found):
        piece = terminal.printable(piece)
        if step and coloured:
            piece = f"\x1b[{_COLOURS[step]}m{piece}\x1b[0m{_SIGNS[step]}"
        elif step:
            piece += _SIGNS[step]
        shown.append(piece)
    terminal.write("".join(shown) + "\n")
    label = terminal.printable(terminal.label_text(found.label))
    terminal.write(f"\n{label}  {found.probability:.4f}\n")
    terminal.write("log-odds  probability after  word\n")
    order = sorted(range(len(found.tokens)), key=lambda i: -abs(found.contributions[i]))
    for i in order[:_SHOWN]:
        value, after = found.contributions[i], found.probabilities[i]
        terminal.write(f"{value:+8.3f}  {after:17.4f}  {terminal.printable(found.tokens[i])}\n")
    if not found.contributions.any():
        terminal.write("No word counts: the model knows none of them, or they say nothing to it.\n")
    terminal.flush()


_TEST_HEADS = ("words left out", "log-odds fall by", "to probability", "random words")


def _test_rows(tested: DeletionTest) -> list[tuple[str, str, str, str]]:
    return [
        (
            f"{row['words']:,}",
            f"{row['fall']:.3f}",
            f"{row['probability']:.4f}",
            f"{row['random_fall']:.3f} ± {row['random_spread']:.3f}",
        )
        for row in tested.to_json()["left_out"]
    ]


def _test_verdict(found: Explanation, tested: DeletionTest) -> str:
    label = terminal.printable(terminal.label_text(found.label))
    if len(found.tokens) == 1:
        return "One word is all there is: no other can be left out, so there is nothing to compare."
    if tested.gain <= 0:
        return f"The words named for {label} weigh no more than random ones: don't trust them."
    return (
        f"The words named for {label} weigh {tested.gain:.2f} nats more than random ones "
        f"(mean of {tested.draws} draws, seed {tested.seed})."
    )


def _show_test(found: Explanation, tested: DeletionTest) -> None:
    terminal.write("\n" + "  ".join(_TEST_HEADS) + "\n")
    for row in _test_rows(tested):
        cells = (cell.rjust(len(head)) for cell, head in zip(row, _TEST_HEADS, strict=True))
        terminal.write("  ".join(cells) + "\n")
    terminal.write(_test_verdict(found, tested) + "\n")
    terminal.flush()


def _page(found: Explanation, tested: DeletionTest | None) -> str:
    words = []
    for piece, step in _steps(found):
        escaped = _shown(piece)
        if step:
            side = "for" if step > 0 else "against"
            escaped = f'<span class="{side}{abs(step)}">{escaped}</span>'
        words.append(escaped)
    rows = [
        f'<tr><td dir="auto">{_shown(token)}</td><td>{value:+.3f}</td><td>{after:.4f}</td></tr>'
        for token, value, after in zip(
            found.tokens, found.contributions.tolist(), found.probabilities.tolist(), strict=True
        )
    ]
    label = html.escape(terminal.printable(terminal.label_text(found.label)))
    return _PAGE.format(
        title=f"tidegate explain: {label}",
        label=label,
        probability=found.probability,
        method=found.method,
        words="".join(words),
        rows="\n".join(rows),
        test="" if tested is None else _page_test(found, tested),
    )


def _page_test(found: Explanation, tested: DeletionTest) -> str:
    def row(cells: tuple[str, ...], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{cell}</{tag}>" for cell in cells) + "</tr>"

    rows = [row(_TEST_HEADS, "th"), *(row(cells, "td") for cells in _test_rows(tested))]
    verdict = html.escape(_test_verdict(found, tested))
    return f'<h2>Left out</h2>\n<p>{verdict}</p>\n<table class="test">{"".join(rows)}</table>\n'


def _shown(piece: str) -> str:
    """Escaped, with its line breaks; marks that would turn the page's text round are spelt out."""
    return html.escape("\n".join(map(terminal.printable, piece.split("\n"))))
