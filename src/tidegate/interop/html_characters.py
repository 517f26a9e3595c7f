"""Python's Unicode as tables for a browser, whose own may be older or newer."""

from __future__ import annotations

from functools import cache

from tidegate.tokens import spaced

# No character behind these has a lower case or is treated by itself; the tests look at all.
_LAST_CASED = 0x1FFFF
_RANGES = (range(0x80, 0x32400), range(0xE0000, 0xE0200))


@cache
def character_tables() -> dict[str, list[list[int]]]:
    """``lower`` and ``kinds``, as static/local/characters.js reads them."""
    return {"lower": _lower_runs(), "kinds": _kind_changes()}


def _lower_runs() -> list[list[int]]:
    """Runs [first, count, step, difference] of characters with one character as lower case."""
    pairs = [
        (code, ord(lowered) - code)
        for code in range(0x80, _LAST_CASED + 1)
        if len(lowered := chr(code).lower()) == 1 and ord(lowered) != code
    ]
    runs: list[list[int]] = []
    for code, difference in pairs:
        if runs:
            first, count, step, of_run = runs[-1]
            gap = code - (first + (count - 1) * step)
            if of_run == difference and (gap == step if count > 1 else gap <= 2):
                runs[-1] = [first, count + 1, gap, difference]
                continue
        runs.append([code, 1, 1, difference])
    return runs


def _kind_changes() -> list[list[int]]:
    """[first, kind] wherever the kind of character changes, by code point."""
    changes: list[list[int]] = []
    last = 0
    for codes in _RANGES:
        for code in codes:
            kind = _kind(code)
            if kind != last:
                changes.append([code, kind])
                last = kind
        if last:
            changes.append([codes.stop, 0])
            last = 0
    return changes


def _kind(code: int) -> int:
    """0: part of a word. 1: left out. 2: a space. 3: a token by itself. 4: an apostrophe."""
    shown = spaced(code)
    if shown == chr(code):
        return 0
    return {"": 1, " ": 2, "'": 4}.get(shown, 3)
