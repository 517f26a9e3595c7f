"""All runs together: one row for each model, the tests between them, and what to take."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from tidegate.compare.choice import choose
from tidegate.compare.forgetting import Fading
from tidegate.compare.plan import MODELS, Parts, Plan
from tidegate.compare.runs import Answers, RunResult
from tidegate.compare.significance import accuracy_of, compare_pairs, holm

LABELS = {
    "gru": "GRU",
    "gru-before": "GRU (before)",
    "lstm": "LSTM",
    "rnn": "plain RNN",
    "linear": "linear model",
}
_FAR = 100  # steps back at which a gradient's share is told in the table


def summarize(plan: Plan, parts: Parts, results: Sequence[RunResult]) -> dict[str, Any]:
    """The comparison as JSON values. results: every run's, in the plan's order."""
    runs = {name: [run for run in results if run.model == name] for name in plan.models}
    shared = parts.validation is not None
    rows = [_row(name, runs[name], shared) for name in plan.models]
    sound = [row["model"] for row in rows if row["failure"] is None]
    _add_costs([row for row in rows if row["failure"] is None])
    held = parts.held_of_train(plan)
    return {
        "texts": {
            "train": len(parts.train) - held,
            "validation": held if parts.validation is None else len(parts.validation),
            "validation_shared": shared,
            "test": len(parts.test),
            "guessing": guessing(parts),
        },
        "plan": {
            **plan.to_json(),
            "pooling": plan.classifier(plan.networks[0], plan.first_seed).pooling,
        },
        "models": rows,
        "tests": _tests(runs, sound),
        "choice": choose(
            {name: [_given(run.validation).right for run in runs[name]] for name in sound},
            {row["model"]: row["cost"] for row in rows if row["failure"] is None},
            shared=shared,
            margin=plan.margin,
        ),
    }


def guessing(parts: Parts) -> float:
    """The share of test texts that have the most frequent label, or labels, of the others."""
    counts, held = (Counter(map(repr, part.labels)) for part in (parts.train, parts.test))
    return held[counts.most_common(1)[0][0]] / len(parts.test)


def _row(name: str, runs: Sequence[RunResult], shared: bool) -> dict[str, Any]:
    failed = next((run for run in runs if run.failure is not None), None)
    row: dict[str, Any] = {"model": name, "label": LABELS[name]}
    row["kind"] = "linear" if MODELS[name] is None else "network"
    row["failure"] = None
    if failed is not None:
        return row | {"failure": f"seed {failed.seed}: {failed.failure}"}
    validation = [_given(run.validation) for run in runs]
    test = [_given(run.test) for run in runs]
    last = runs[-1]
    network = row["kind"] == "network"
    return row | {
        "gates": last.gates if network else None,
        "state": last.state if network else None,
        "parameters": last.parameters,
        "precision": last.precision,
        "epochs": len(last.epochs) if network else None,
        "epoch_seconds": spread([e.seconds for run in runs for e in run.epochs])
        if network
        else None,
        "train_seconds": spread([run.train_seconds for run in runs]),
        "validation": _answers(validation, shared),
        "test": _answers(test, True),
        "text_milliseconds": spread([run.text_milliseconds for run in runs]),
        "file_bytes": last.file_bytes,
        "memory_peak": max(run.memory_peak for run in runs),
        "memory_before": max(run.memory_before for run in runs),
        "seeds": [
            {
                "seed": run.seed,
                "epochs": [asdict(epoch) for epoch in run.epochs],
                "train_seconds": run.train_seconds,
                "validation_accuracy": _given(run.validation).accuracy,
                "test_accuracy": _given(run.test).accuracy,
                "test_loss": _given(run.test).loss,
                "calibration_error": _given(run.test).calibration_error,
                "text_milliseconds": run.text_milliseconds,
                "file_bytes": run.file_bytes,
                "memory_peak": run.memory_peak,
            }
            for run in runs
        ],
        "gradients": {
            "initial": _fading([run.initial for run in runs]),
            "trained": _fading([run.trained for run in runs]),
        }
        if network
        else None,
        "distances": _distances(runs),
    }


def _given(answers: Answers | None) -> Answers:
    if answers is None:
        raise ValueError("a run without a failure has answers")
    return answers


def _answers(answers: Sequence[Answers], shared: bool) -> dict[str, Any]:
    accuracy = accuracy_of([one.right for one in answers], shared=shared)
    return {
        "accuracy": accuracy.mean,
        "interval": list(accuracy.interval),
        "spread": accuracy.spread,
        "method": accuracy.method,
        "loss": float(np.mean([one.loss for one in answers])),
        "calibration_error": float(np.mean([one.calibration_error for one in answers])),
        "seconds": spread([one.seconds for one in answers]),
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and most."""
    return {"median": float(np.median(values)), "least": min(values), "most": max(values)}


def _fading(found: Sequence[Fading | None]) -> dict[str, Any] | None:
    """The seeds' curves as one: at each distance the median of each figure, and each seed's own."""
    known = [one for one in found if one is not None and one.texts and one.distances]
    if not known or len({one.distances for one in known}) > 1:
        return None
    curves = {
        name: np.median([getattr(one, name) for one in known], axis=0)
        for name in ("mean_norm", "median", "low", "high")
    }
    distances = known[0].distances
    far = max(d for d in distances if d <= _FAR)
    place = distances.index(far)
    return {
        "texts": known[0].texts,
        "distances": list(distances),
        **{name: _rounded(values) for name, values in curves.items()},
        "seeds": [_rounded(one.median) for one in known],
        "far": {"distance": far, "share": _rounded([curves["median"][place]])[0]},
    }


def _distances(runs: Sequence[RunResult]) -> dict[str, Any] | None:
    found = [run.distances for run in runs if run.distances is not None]
    if not found:
        return None
    return {
        "texts": found[0].texts,
        "distances": list(found[0].distances),
        "accuracy": np.mean([one.accuracy for one in found], axis=0).tolist(),
        "seeds": [list(one.accuracy) for one in found],
        "in_front": float(np.mean([one.in_front for one in found])),
        "guessing": found[0].guessing,
    }


def _rounded(values: Any) -> list[float]:
    """Six digits, which is more than a curve can show."""
    return [float(f"{value:.6g}") for value in values]


def _add_costs(rows: Sequence[dict[str, Any]]) -> None:
    """To each row its cost: training, a text and the file, each against the least, all alike."""
    amounts = [
        (row["train_seconds"]["median"], row["text_milliseconds"]["median"], row["file_bytes"])
        for row in rows
    ]
    logs = [sum(math.log(max(amount, 1e-12)) for amount in amounts_of) for amounts_of in amounts]
    for row, log in zip(rows, logs, strict=True):
        row["cost"] = math.exp((log - min(logs)) / 3.0)


def _tests(runs: dict[str, list[RunResult]], sound: Sequence[str]) -> list[dict[str, Any]]:
    """Every model against the GRU and the linear one, on the test texts."""
    networks = [name for name in sound if MODELS[name] is not None]
    against = next((name for name in ("gru", "gru-before") if name in sound), None)
    if against is None and networks:
        against = networks[0]
    pairs: list[tuple[str, str]] = []
    for second in (against, "linear" if "linear" in sound else None):
        for first in sound:
            if second is not None and first != second and (second, first) not in pairs:
                pairs.append((first, second))
    found = []
    for first, second in pairs:
        answers = ([_given(run.test).right for run in runs[name]] for name in (first, second))
        paired = compare_pairs(*answers, shared=True)
        found.append({"first": first, "second": second, **_json(asdict(paired))})
    for test, p in zip(found, holm([test["p"] for test in found]), strict=True):
        test["p_holm"] = p
    return found


def _json(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: list(v) if isinstance(v, tuple) else v for name, v in fields.items()}
