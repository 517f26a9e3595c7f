"""Plots as inline SVG: lines that differ in colour, dashes and marks, with their names beside.

Colours are classes that the page's style sheet fills, so that they follow its light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

# Small, so that letters are large enough on a telephone.
WIDTH, HEIGHT = 520, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 78, 134, 16, 50
_MARKS = 8  # on a line of many points
_LINE = 19  # between two names beside the lines

Point = tuple[float, float]
Ticks = list[tuple[float, str]]

# For each style: dashes of the line, and the mark on it.
STYLES: dict[str, tuple[str, str]] = {
    "gru": ("", "circle"),
    "gru-before": ("14 3", "diamond"),
    "lstm": ("8 4", "square"),
    "rnn": ("2 4", "triangle"),
    "linear": ("10 3 2 3", "cross"),
}


@dataclass(frozen=True)
class Series:
    """A line. style: of STYLES. points: x ascending. band: (x, low, high) around it, or none.

    each: thin lines of which it is the middle, or none.
    """

    name: str
    style: str
    points: Sequence[Point]
    band: Sequence[tuple[float, float, float]] = ()
    each: Sequence[Sequence[Point]] = ()


@dataclass(frozen=True)
class Axis:
    """label: what it says. low, high: its ends. log: whether powers of ten lie equally apart.

    whole: whether only whole numbers have ticks. show: a tick's number as text.
    """

    label: str
    low: float
    high: float
    log: bool = False
    whole: bool = False
    show: Callable[[float], str] = "{:g}".format

    def place(self, value: float) -> float:
        """Where a value lies, from 0 to 1; beyond the ends, at them."""
        low, high = self.low, self.high
        if self.log:
            low, high = math.log10(low), math.log10(high)
            value = math.log10(value) if value > 0.0 else low
        return min(1.0, max(0.0, (value - low) / (high - low))) if high > low else 0.5

    def ticks(self) -> Ticks:
        """Values and their texts."""
        if self.log:
            low, high = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
            every = max(1, math.ceil((high - low) / 7))
            powers = range(math.ceil(low / every) * every, high + 1, every)  # with 1 among them
            return [(10.0**power, power_of_ten(power)) for power in powers]
        step = _nice_step((self.high - self.low) / 5)
        if self.whole:
            step = max(1.0, step)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [(i * step, self.show(round(i * step, 10))) for i in range(first, last + 1)]


def span(values: Sequence[float], *, least: float | None = None) -> tuple[float, float]:
    """Ends of an axis with a little room around the values."""
    low, high = min(values), max(values)
    room = 0.06 * (high - low) or 0.05 * abs(high) or 0.5
    return (low - room if least is None else min(least, low)), high + room


def _nice_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(max(rough, 1e-300)))
    return next(power * m for m in (1.0, 2.0, 2.5, 5.0, 10.0) if power * m >= rough * 0.999)


_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def power_of_ten(exponent: int) -> str:
    """``10⁻⁹``."""
    return "1" if exponent == 0 else f"10{str(exponent).translate(_SUPERSCRIPTS)}"


def line_chart(title: str, series: Sequence[Series], x: Axis, y: Axis) -> str:
    """The plot of lines over x. title: what it is for those who don't see it."""
    parts = [_frame(x, y)]

    def at(point: Point) -> Point:
        return _across(x.place(point[0])), _up(y.place(point[1]))

    ends: list[tuple[float, Series]] = []
    for one in series:
        if not one.points:
            continue
        if len(one.band) > 1:
            above = [at((px, high)) for px, _, high in one.band]
            below = [at((px, low)) for px, low, _ in reversed(one.band)]
            parts.append(f'<polygon class="band {one.style}" points="{_path(above + below)}"/>')
        places = [at(point) for point in one.points]
        dashes, mark = STYLES[one.style]
        dash = f' stroke-dasharray="{dashes}"' if dashes else ""
        for thin in one.each:
            path = _path([at(point) for point in thin])
            parts.append(f'<polyline class="line thin {one.style}"{dash} points="{path}"/>')
        if len(places) > 1:
            parts.append(f'<polyline class="line {one.style}"{dash} points="{_path(places)}"/>')
        every = max(1, -(-len(places) // _MARKS))
        # From behind, so that the last point has its mark.
        parts += [_mark(mark, one.style, place) for place in places[::-1][::every]]
        ends.append((places[-1][1], one))
    parts += _names(ends, WIDTH - _RIGHT + 12)
    return _svg(title, HEIGHT, parts)


def interval_chart(
    title: str, rows: Sequence[tuple[str, str, float, tuple[float, float]]], x: Axis
) -> str:
    """A row for each (name, style, value, interval)."""
    height = _TOP + 34 * len(rows) + _BOTTOM
    bottom = height - _BOTTOM
    parts = [_x_axis(x, bottom)]
    for i, (name, style, value, (low, high)) in enumerate(rows):
        across, y = [_across(x.place(v)) for v in (low, value, high)], _TOP + 34 * i + 17
        ends = "".join(f"M{end:.1f} {y - 7}v14" for end in (across[0], across[2]))
        d = f"M{across[0]:.1f} {y}H{across[2]:.1f}{ends}"
        parts.append(f'<path class="line {style}" d="{d}"/>')
        parts.append(_mark(STYLES[style][1], style, (across[1], y)))
        parts.append(f'<text x="{WIDTH - _RIGHT + 12}" y="{y + 4}">{escape(name)}</text>')
    return _svg(title, height, parts)


def _svg(title: str, height: float, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg>"
    )


def _across(share: float) -> float:
    return _LEFT + share * (WIDTH - _LEFT - _RIGHT)


def _up(share: float) -> float:
    return HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM)


def _path(points: Sequence[Point]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _frame(x: Axis, y: Axis) -> str:
    parts = [_x_axis(x, HEIGHT - _BOTTOM)]
    for value, text in y.ticks():
        up = _up(y.place(value))
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{up:.1f}" y2="{up:.1f}"/>'
            f'<text class="end" x="{_LEFT - 8}" y="{up + 4:.1f}">{escape(text)}</text>'
        )
    middle = (_TOP + HEIGHT - _BOTTOM) / 2
    parts.append(
        f'<text class="mid" transform="translate(16 {middle:.0f}) rotate(-90)">'
        f"{escape(y.label)}</text>"
    )
    return "".join(parts)


def _x_axis(x: Axis, bottom: float) -> str:
    parts = []
    for value, text in x.ticks():
        across = _across(x.place(value))
        parts.append(
            f'<line class="grid" x1="{across:.1f}" x2="{across:.1f}" y1="{_TOP}" '
            f'y2="{bottom + 5:.1f}"/>'
            f'<text class="mid" x="{across:.1f}" y="{bottom + 19:.1f}">{escape(text)}</text>'
        )
    parts.append(
        f'<line class="axis" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{bottom}" y2="{bottom}"/>'
        f'<text class="mid" x="{_across(0.5):.0f}" y="{bottom + 40:.1f}">{escape(x.label)}</text>'
    )
    return "".join(parts)


def _names(ends: list[tuple[float, Series]], x: float) -> list[str]:
    """Each line's name at its end, moved apart where lines end together."""
    ends = sorted(ends, key=lambda end: end[0])
    places: list[float] = []
    for up, _ in ends:
        places.append(max(up, places[-1] + _LINE) if places else up)
    low = HEIGHT - _BOTTOM + 4.0
    for i in range(len(places) - 1, -1, -1):
        places[i] = min(places[i], low)
        low = places[i] - _LINE
    parts = []
    for place, (_, one) in zip(places, ends, strict=True):
        mark = STYLES[one.style][1]
        parts.append(_mark(mark, one.style, (x + 4, place)))
        parts.append(f'<text x="{x + 14:.0f}" y="{place + 4:.1f}">{escape(one.name)}</text>')
    return parts


def _mark(kind: str, style: str, place: Point) -> str:
    x, y = place
    if kind == "circle":
        return f'<circle class="mark {style}" cx="{x:.1f}" cy="{y:.1f}" r="4"/>'
    if kind == "cross":
        d = f"M{x - 4:.1f} {y - 4:.1f}l8 8m0-8l-8 8"
        return f'<path class="line {style}" d="{d}"/>'
    shapes = {
        "square": f"M{x - 3.5:.1f} {y - 3.5:.1f}h7v7h-7z",
        "triangle": f"M{x:.1f} {y - 4.5:.1f}l4.5 8h-9z",
        "diamond": f"M{x:.1f} {y - 5:.1f}l5 5l-5 5l-5-5z",
    }
    return f'<path class="mark {style}" d="{shapes[kind]}"/>'
