"""A comparison in sentences, from the report alone, and how its numbers are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tidegate.compare.charts import power_of_ten

Report = Mapping[str, Any]

METHODS = {
    "wilson": "Wilson's interval; McNemar's test (mid-p) on the texts",
    "seeds and texts": "seeds and texts both count as drawn at random; Student's t",
    "seeds": "Student's t over the seeds, each of which has validation texts of its own",
}


def percent(share: float) -> str:
    """``86.04 %``."""
    return f"{100.0 * share:.2f} %"


def points(difference: float) -> str:
    """``+0.52``, in percentage points."""
    return f"{100.0 * difference:+.2f}"


def p_value(p: float) -> str:
    """``0.0312`` or ``< 0.0001``."""
    return "< 0.0001" if p < 0.0001 else f"{p:.4f}"


def share(value: float) -> str:
    """``0.23`` or ``3·10⁻⁹``."""
    if value >= 0.0005 or value == 0.0:
        return f"{value:.2g}"
    digit, exponent = f"{value:.0e}".split("e")
    return f"{digit}·{power_of_ten(int(exponent))}"


def seconds(value: float) -> str:
    """``0.53 s`` or ``12.4 s``."""
    return f"{value:.2f} s" if value < 10 else f"{value:.1f} s"


def megabytes(size: int) -> str:
    """``5.6 MB``, of 10^6 bytes; below 0.1 of them ``32.8 kB``."""
    return f"{size / 1e6:,.1f} MB" if size >= 100_000 else f"{size / 1e3:,.1f} kB"


def interval(found: Sequence[float]) -> str:
    """``85.86 to 86.72``."""
    return f"{100.0 * found[0]:.2f} to {100.0 * found[1]:.2f}"


def sound(report: Report) -> list[Mapping[str, Any]]:
    """The rows of models that were trained."""
    return [row for row in report["models"] if row["failure"] is None]


def label(report: Report, model: str) -> str:
    """A model's name in words."""
    return str(next(row["label"] for row in report["models"] if row["model"] == model))


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
    seeds = f"{plan['seeds']} seed{'s' if plan['seeds'] > 1 else ''} from {plan['first_seed']}"
    options = "".join(f", {name}={value}" for name, value in plan["options"].items())
    budget = plan["budget"]
    length = "equal epochs" if budget is None else f"{budget:g} s of training, as whole epochs"
    found.append(("networks", f"preset {plan['preset']}{options}, {length}, {seeds}"))
    found.append(("machine", ", ".join(f"{name} {value}" for name, value in machine.items())))
    found.append(("tidegate", str(report["tidegate"])))
    return found


def notes(report: Report) -> list[str]:
    """What the table's columns mean."""
    found = [
        "gates: what opens and closes in a cell; state: numbers handed from step to step",
        "test: accuracy with its 95 % interval",
        "epoch, training, one text: medians; an epoch with its validation, one text alone and warm",
        "against: points of test accuracy, and the paired test's p after Holm's correction",
        "memory: the most that the process had that trained it, with Python and all texts "
        f"({_before(report)} before training)",
        "calibration: expected error of the probabilities of the test texts",
        "cost: training, one text and the file, each against the cheapest, the geometric mean",
    ]
    if any(row["model"] == "gru-before" for row in sound(report)):
        found.insert(0, "GRU (before): its reset gate acts before the recurrent product")
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
    reach = f"{points(test['interval'][0])} to {points(test['interval'][1])}"
    return (
        f"{first} against {second}: {points(test['difference'])} points ({reach}), "
        f"p {p_value(test['p_holm'])} after Holm"
    )


def method(report: Report) -> str:
    """How intervals and tests were made."""
    known = {test["method"] for test in report["tests"]}
    known |= {row["test"]["method"] for row in sound(report)}
    used = sorted(METHODS[name] for name in known if name in METHODS)
    joined = {"mcnemar", "wilson"} & known
    if joined and METHODS["wilson"] not in used:
        used.append(METHODS["wilson"])
    return (
        f"Intervals and tests on the test texts: {'; '.join(used)}. p-values are two-sided; after "
        "Holm's correction they allow for the number of tests. The choice was made before, by the "
        "validation texts."
    )


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
                why += f", p {p_value(one['p_holm'])}"
            reasons.append(f"{label(report, one['model'])} ({why})")
        found.append(f"Not good enough: {', '.join(reasons)}.")
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
    return found


def fading_words(report: Report) -> str:
    """What the figures say."""
    found = {
        row["label"]: row["gradients"]["trained"]
        for row in sound(report)
        if row["gradients"] and row["gradients"]["trained"]
    }
    texts = max((one["texts"] for one in found.values()), default=0)
    parts = [
        f"{name} {share(one['median'][-1])}" for name, one in found.items() if one["distances"]
    ]
    last = max((one["distances"][-1] for one in found.values()), default=0)
    return (
        "What a network can learn of a word far back is in the gradient of the loss with respect "
        f"to the state after that word. Over {texts:,} long test texts, its norm {last} steps "
        f"before the end is this share of the norm at the end, in the median text, after training: "
        f"{', '.join(parts)}." + _pooled(report)
    )


def _pooled(report: Report) -> str:
    """Why nothing need fade, where it is so."""
    pooling = report["plan"]["pooling"]
    if pooling == "last":
        return ""
    return (
        f" These networks pool their states ({pooling}): each state has a gradient of its own, "
        "straight from the output, and nothing need fade on its way through time."
    )


def distance_words(report: Report) -> str:
    """How the probes were made."""
    texts = max((row["distances"]["texts"] for row in sound(report) if row["distances"]), default=0)
    return (
        f"Of {texts:,} test texts, the span of words that a linear model finds clearest for the "
        "text's label, followed by ever more words that it finds worth nothing; at last, as many "
        "in front. The spans were chosen with the labels at hand: only the decline says something."
    )
