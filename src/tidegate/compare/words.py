"""A comparison in sentences, from the report alone."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from tidegate.compare.figures import (
    Report,
    duration,
    interval,
    label,
    megabytes,
    p_value,
    percent,
    points,
    share,
    sound,
)
from tidegate.intervals import wilson

METHODS = {
    "wilson": "One seed says nothing of what another would give: intervals (Wilson's, and of "
    "differences the normal one of the paired counts) and tests (McNemar's mid-p) allow for "
    "another test set alone.",
    "seeds and texts": "Another seed would give other weights, and another test set has other "
    "texts: intervals and tests allow for both (Student's t).",
}
_SEEDS_DECIDE = 3.0  # times as wide as by the texts alone: an interval that seeds have made
_FAR_APART = 1_000.0  # times, of two seeds' shares


def setting(report: Report) -> list[tuple[str, str]]:
    """What was compared on what."""
    texts, plan, machine = report["texts"], report["plan"], report["machine"]
    found = []
    if "source" in report:
        found.append(("texts", f"{report['source']['name']}: {report['source']['origin']}"))
    found.append(
        (
            "parts",
            f"{texts['train']:,} texts to train on, {texts['validation']:,} to choose by"
            f"{'' if texts['validation_shared'] else ' (others for each seed)'}, "
            f"{texts['test']:,} to test on",
        )
    )
    first, last = plan["first_seed"], plan["first_seed"] + plan["seeds"] - 1
    seeds = f"seed {first}" if first == last else f"{plan['seeds']} seeds, {first} to {last}"
    options = "".join(f", {name}={value}" for name, value in plan["options"].items())
    found.append(("networks", f"preset {plan['preset']}{options}, {_length(report)}, {seeds}"))
    threads = f"{machine['threads']} thread{'s' if machine['threads'] > 1 else ''}"
    computed = f"{machine['architecture']}, instructions {machine['isa']}, {threads}"
    precisions = {row["precision"] for row in sound(report) if row["kind"] == "network"}
    found.append(("machine", ", ".join([computed, *sorted(precisions)])))
    found.append(("made by", f"tidegate {report['tidegate']} in {duration(report['seconds'])}"))
    return found


def _length(report: Report) -> str:
    """How long networks were trained."""
    budget = report["plan"]["budget"]
    epochs = {row["label"]: row["epochs"] for row in sound(report) if row["kind"] == "network"}
    each = ", ".join(f"{name} {count}" for name, count in epochs.items())
    if len(set(epochs.values())) == 1:
        count = next(iter(epochs.values()))
        each = f"{count} epoch{'s' if count > 1 else ''} each"
    if budget is None:
        return each or "equal epochs"
    return f"{budget:g} s of training in whole epochs" + (f" ({each})" if each else "")


def notes(report: Report) -> list[str]:
    """What the table's columns mean."""
    found = [
        "gates: what opens and closes in a cell; state: numbers handed from step to step",
        "test: accuracy with its 95 % interval; always saying the most frequent label would be "
        f"right in {percent(report['texts']['guessing'])} of the test texts",
        "epoch, training, one text: medians; an epoch with its validation, one text alone and warm",
        "against: points of test accuracy, and the paired test's p after Holm's correction; p is "
        "how often chance alone would make a difference at least as great",
        "memory: the most that the process had that trained it, with Python and all texts "
        f"({_before(report)} before training)",
        "calibration: by how much the probabilities of the test texts miss how often they come "
        "true, on average; 0 is best",
        "cost: training, one text and the file, each as a multiple of the least, and of these the "
        "geometric mean; the one with the least in all three has 1.0",
        *scattered(report),
    ]
    if any(row["model"] == "gru-before" for row in sound(report)):
        found.insert(0, "GRU (before): its reset gate acts before the recurrent product")
    return found


def scattered(report: Report) -> list[str]:
    """The models whose seeds differ so much that few of them tell little."""
    found = []
    for row in sound(report):
        texts = report["texts"]["test"]
        low, high = wilson(round(row["test"]["accuracy"] * texts), texts)
        reach = row["test"]["interval"][1] - row["test"]["interval"][0]
        seeds = [seed["test_accuracy"] for seed in row["seeds"]]
        if len(seeds) > 1 and reach > _SEEDS_DECIDE * (high - low):
            found.append(
                f"{row['label']}: its seeds lie far apart on the test texts, from "
                f"{percent(min(seeds))} to {percent(max(seeds))}, and so its interval is wide and "
                "its tests can tell little; more seeds would say more"
            )
    return found


def _before(report: Report) -> str:
    return megabytes(max((row["memory_before"] for row in sound(report)), default=0))


def failures(report: Report) -> list[str]:
    """What did not train."""
    return [
        f"{row['label']} could not be trained and is left out: {row['failure']}"
        for row in report["models"]
        if row["failure"] is not None
    ]


def test_words(report: Report, test: Mapping[str, Any]) -> str:
    """One test as a line."""
    first, second = label(report, test["first"]), label(report, test["second"])
    if not any([*test["first_only"], *test["second_only"]]):
        return f"{first} against {second}: the same texts are right, in every seed"
    reach = f"{points(test['interval'][0])} to {points(test['interval'][1])}"
    return (
        f"{first} against {second}: {points(test['difference'])} points ({reach}), "
        f"p {p_value(test['p_holm'])} after Holm"
    )


def method(report: Report) -> list[str]:
    """How intervals and tests were made, in paragraphs."""
    found = [METHODS["wilson" if report["plan"]["seeds"] == 1 else "seeds and texts"]]
    count = len(report["tests"])
    if count:
        found[0] += " p-values are two-sided."
    if count > 1:
        found.append(
            f"Each interval, and each p, is of one difference by itself. Of {count} tests one may "
            "well find something by chance; p after Holm's correction allows for that, and so it "
            "can be above 0.05 where the interval leaves out 0."
        )
    found.append("The choice was made before, by the validation texts and tests on them alone.")
    return found


def advice(report: Report) -> list[str]:
    """Which model to take, and why, in sentences."""
    choice = report["choice"]
    if choice is None:
        return ["No model could be trained, and none is recommended."]
    best, chosen = choice["best"], choice["chosen"]
    by_name = {one["model"]: one for one in choice["candidates"]}
    margin = f"{100.0 * choice['margin']:g} point{'' if choice['margin'] == 0.01 else 's'}"
    counted = f"{report['texts']['validation']:,} validation texts"
    uncertainty = f"±{100.0 * choice['uncertainty']:.2f} points on {counted}"
    if chosen == best:
        first = (
            f"Take the {label(report, chosen)}: it has the best validation accuracy, "
            f"{percent(by_name[best]['accuracy'])} ({uncertainty}), "
        )
        cheaper = [one for one in choice["candidates"] if one["cost"] < by_name[chosen]["cost"]]
        first += (
            "and nothing that costs less is good enough." if cheaper else "and nothing costs less."
        )
    else:
        one = by_name[chosen]
        within = f"the margin of {margin}"
        if one["behind"] > choice["margin"]:
            within = "the uncertainty of that accuracy"
        first = (
            f"Take the {label(report, chosen)}: its validation accuracy, "
            f"{percent(one['accuracy'])}, is {100.0 * one['behind']:.2f} points below that of the "
            f"best, the {label(report, best)} ({uncertainty}), which is within {within} and not "
            f"significant (p {p_value(one['p_holm'])}), and it costs "
            f"{by_name[best]['cost'] / one['cost']:.1f} times less."
        )
    found = [first]
    if by_name[chosen]["behind"] > choice["margin"]:
        found.append("More validation texts may show that the best is worth its cost.")
    worse = [one for one in choice["candidates"] if not one["good_enough"]]
    if worse:
        reasons = []
        for one in worse:
            why = f"{100.0 * one['behind']:.2f} points behind"
            if one["p_holm"] < choice["level"]:
                why += f", p {p_value(one['p_holm'])} after Holm"
            reasons.append(f"{label(report, one['model'])} ({why})")
        found.append(f"Not good enough on the validation texts: {', '.join(reasons)}.")
    rows = {row["model"]: row for row in sound(report)}
    test = rows[chosen]["test"]
    last = (
        f"On the test texts it is right in {percent(test['accuracy'])} "
        f"({interval(test['interval'])})"
    )
    for one in report["tests"]:
        if {one["first"], one["second"]} == {chosen, best}:
            sign = 1.0 if one["first"] == chosen else -1.0
            low, high = sorted(sign * end for end in one["interval"])
            last += (
                f", {points(sign * one['difference'])} points against the {label(report, best)} "
                f"({points(low)} to {points(high)})"
            )
    found.append(f"{last}.")
    found.append(_to_have(report, rows[chosen]))
    return found


def _to_have(report: Report, row: Mapping[str, Any]) -> str:
    """How to train what is recommended."""
    if row["kind"] == "linear":
        return (
            "No command trains the linear model alone; `tidegate train SOURCE --preset fast` puts "
            "it beside a small network."
        )
    plan = report["plan"]
    command = f"`tidegate train SOURCE --preset {plan['preset']} --ngrams 0"
    cell, _, before = row["model"].partition("-")
    command += f" --cell {cell}" + (" --reset before" if before else "")
    if plan["budget"] is not None:
        command += f" --epochs {row['epochs']}"
    for name, value in plan["options"].items():
        said = value if isinstance(value, str) else json.dumps(value)
        command += f" --set {shlex.quote(f'{name}={said}')}"
    return f"{command}` trains it."


def fading_words(report: Report) -> list[str]:
    """What the figures say, in paragraphs."""
    known = [row for row in sound(report) if row["gradients"] and row["gradients"]["trained"]]
    found = {row["label"]: row["gradients"]["trained"] for row in known}
    texts = max((one["texts"] for one in found.values()), default=0)
    last = max((one["distances"][-1] for one in found.values()), default=0)
    parts, apart = [], []
    for name, one in found.items():
        ends = [seed[-1] for seed in one["seeds"]]
        part = f"{name} {share(one['median'][-1])}"
        if len(ends) > 1:
            part += f" (seeds from {share(min(ends))} to {share(max(ends))})"
        parts.append(part)
        if max(ends) > _FAR_APART * min(ends):
            apart.append(f"the {name}")
    said = [
        "What a network can learn of a word far back is in the gradient of the loss with respect "
        f"to the state after that word. Over {texts:,} long test texts, its norm {last} steps "
        "before the end is this share of the norm at the end, in the median text, after training: "
        f"{', '.join(parts)}."
    ]
    if apart:
        said.append(
            f"The seeds of {' and '.join(apart)} are orders of magnitude apart: what one training "
            "shows of it need not be so in the next."
        )
    if report["plan"]["pooling"] != "last":
        said.append(
            f"These networks pool their states ({report['plan']['pooling']}): each state has a "
            "gradient of its own, straight from the output, and nothing need fade on its way "
            "through time."
        )
    elif _gates_open(known):
        said.append(
            "Before training it is the other way round: a plain RNN's recurrent weights begin "
            "orthogonal, which keeps lengths, and gates begin half closed, which shortens what "
            "goes through at every step. Training opens them."
        )
    return said


def _gates_open(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether gates begin with less of the gradient than a plain RNN, and end with more of it."""
    last = {
        row["model"]: [row["gradients"][stage]["median"][-1] for stage in ("initial", "trained")]
        for row in rows
        if row["gradients"]["initial"]
    }
    plain = last.pop("rnn", None)
    return (
        plain is not None
        and bool(last)
        and all(begun < plain[0] and begun < ended for begun, ended in last.values())
    )


def distance_words(report: Report) -> str:
    """How the probes were made."""
    found = [row["distances"] for row in sound(report) if row["distances"]]
    texts = max((one["texts"] for one in found), default=0)
    guessing = max((one["guessing"] for one in found), default=0.0)
    return (
        f"Of {texts:,} test texts, the span of words that a linear model finds clearest for the "
        "text's label, followed by ever more words that it finds worth nothing; at last, as many "
        "in front. The spans were chosen with the labels at hand: only the decline says something. "
        f"Always saying the most frequent label would be right in {percent(guessing)}."
    )
