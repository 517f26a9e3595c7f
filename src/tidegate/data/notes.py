"""What is to be known of a data set before it is learnt from, because a model will suffer from it.

A note is a sentence for people; the figures behind it are those of the survey.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from tidegate.data.survey import Survey

FEWEST_TEXTS = 10  # of a label, to be learnt from
FEWEST_VALIDATED = 200  # texts; of fewer, a measured accuracy says little
LARGEST_SHARE = 0.7  # of texts with the most frequent label
RARER = 10  # times as frequent is the label of which another may be a slip of the keys
SHORTEST_SLIP = 4  # letters of the longer one; "cat" and "car" are two words

_SHOWN = 5
_LONGEST_LABEL = 100  # characters; a longer one is a text, and not looked at for slips
_MOST_NEAR = 50  # labels that are the same but for one letter; more are no slips


def notes(found: Survey) -> list[str]:
    """All that is to be said of these figures; none for a data set without trouble."""
    return [
        *_rare(found),
        *_not_validated(found),
        *_few_validated(found),
        *_dominating(found),
        *_alike(found),
        *_slips(found),
    ]


def _rare(found: Survey) -> list[str]:
    training = found.parts.get("training", {})
    few = {
        label: training.get(label, 0)
        for label in found.classes
        if training.get(label, 0) < FEWEST_TEXTS
    }
    if not few:
        return []
    return [
        f"{_counted(len(few), 'label')} with fewer than {FEWEST_TEXTS} training texts: "
        f"{_listed(few)}; too few to learn: find more, or put labels together"
    ]


def _not_validated(found: Survey) -> list[str]:
    validation = found.parts.get("validation", {})
    missing = {label: count for label, count in found.classes.items() if label not in validation}
    if not found.measured.get("validation") or not missing:
        return []
    return [
        f"{_counted(len(missing), 'label')} without a validation text: {_listed(missing)}; "
        "the validation says nothing of them"
    ]


def _few_validated(found: Survey) -> list[str]:
    count = found.measured.get("validation", 0)
    if not 0 < count < FEWEST_VALIDATED:
        return []
    # The normal interval of 95 % where it is widest, at an accuracy of a half.
    off = min(1.96 * math.sqrt(0.25 / count), 0.5)
    return [
        f"{_counted(count, 'validation text')}: their accuracy is good to {off:.2f} either way; "
        "compare models on more texts"
    ]


def _dominating(found: Survey) -> list[str]:
    if found.several or not found.classes:
        return []
    label, count = next(iter(found.classes.items()))
    share = count / found.rows
    if share < LARGEST_SHARE:
        return []
    return [
        f"{share:.1%} of the texts are {label!r}: always saying so is right as often, and that is "
        "the accuracy to beat; look at each label's F1 (tidegate evaluate)"
    ]


def _alike(found: Survey) -> list[str]:
    same: dict[str, dict[str, int]] = {}
    for label, count in found.classes.items():
        same.setdefault(" ".join(label.casefold().split()), {})[label] = count
    groups = [_listed(group, quoted=True) for group in same.values() if len(group) > 1]
    if not groups:
        return []
    more = f", and {len(groups) - _SHOWN} more" if len(groups) > _SHOWN else ""
    return [
        f"labels that differ only in case or blanks: {', or '.join(groups[:_SHOWN])}{more}; write "
        "them alike if they are the same"
    ]


def _slips(found: Survey) -> list[str]:
    """Labels that look like a frequent one with a letter too many, too few, wrong or swapped."""
    near: dict[str, list[str]] = {}  # labels by themselves and by themselves less one letter
    groups = []
    for label, count in found.classes.items():  # the most frequent first
        name = " ".join(label.casefold().split())
        if not SHORTEST_SLIP - 1 <= len(name) <= _LONGEST_LABEL:
            continue
        keys = {name, *(name[:i] + name[i + 1 :] for i in range(len(name)))}
        others = dict.fromkeys(other for key in keys for other in near.get(key, ()))
        alike = [other for other in others if _is_slip(name, " ".join(other.casefold().split()))]
        frequent = max(alike, key=found.classes.__getitem__, default=None)
        if frequent is not None and found.classes[frequent] >= RARER * count:
            groups.append(
                f"{label!r} ({count:,}) beside {frequent!r} ({found.classes[frequent]:,})"
            )
        for key in keys:
            found_near = near.setdefault(key, [])
            if len(found_near) < _MOST_NEAR:  # the most frequent ones
                found_near.append(label)
    if not groups:
        return []
    more = f", and {len(groups) - _SHOWN} more" if len(groups) > _SHOWN else ""
    return [
        "rare labels that are a letter away from a frequent one: "
        f"{', '.join(groups[:_SHOWN])}{more}; write them alike if they are the same"
    ]


def _is_slip(one: str, other: str) -> bool:
    """Whether one letter makes the other of it, or two neighbours that are swapped do.

    Numbers tell labels apart by one sign, and short words do.
    """
    if max(len(one), len(other)) < SHORTEST_SLIP or _digits(one) != _digits(other):
        return False
    begin = 0
    while begin < min(len(one), len(other)) and one[begin] == other[begin]:
        begin += 1
    end = 0
    while end < min(len(one), len(other)) - begin and one[-1 - end] == other[-1 - end]:
        end += 1
    left, right = (name[begin : len(name) - end] for name in (one, other))
    swapped = len(left) == 2 and left == right[::-1]
    return swapped or max(len(left), len(right)) == 1


def _digits(name: str) -> str:
    return "".join(filter(str.isdigit, name))


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _listed(counts: Mapping[str, int], *, quoted: bool = False) -> str:
    shown = [
        f"{label!r} ({count:,})" if quoted else f"{label} ({count:,})"
        for label, count in list(counts.items())[:_SHOWN]
    ]
    more = len(counts) - len(shown)
    return ", ".join([*shown, f"and {more:,} more"] if more else shown)
