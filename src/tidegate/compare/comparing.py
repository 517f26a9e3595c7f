"""A whole comparison: every run in its turn, kept as soon as it is done."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidegate import __version__, atomic, ops
from tidegate.compare import process
from tidegate.compare.distance import make_probes
from tidegate.compare.linear import fit_linear
from tidegate.compare.plan import TEST_SHARE, Part, Parts, Plan, check_parts, hold_out
from tidegate.compare.runs import RunResult
from tidegate.compare.summary import summarize
from tidegate.errors import ConfigError, DataError, OutputExistsError, TrainingError
from tidegate.targets import targets_of
from tidegate.training import EpochResult, StepResult

_LARGEST_WORK = 1 << 30
# What reading JSON raises that is none, or not of the form that was written.
_NO_RUNS = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)


@dataclass(frozen=True)
class Probing:
    """Before the first run, a linear model of so many texts looks for deciding words."""

    texts: int


@dataclass(frozen=True)
class Turn:
    """One of all runs. number: from 1 to total."""

    number: int
    total: int
    model: str
    seed: int


@dataclass(frozen=True)
class Going:
    """A run's step or epoch. epochs: how many it will have."""

    turn: Turn
    event: StepResult | EpochResult
    epochs: int


@dataclass(frozen=True)
class Done:
    """A run's result. kept: whether an earlier call had done it already."""

    turn: Turn
    result: RunResult
    kept: bool


@dataclass(frozen=True)
class Comparison:
    """What a comparison found. report: JSON values, from which all its faces are drawn."""

    report: dict[str, Any]

    def to_markdown(self) -> str:
        """The tables and the recommendation."""
        from tidegate.compare.table import markdown

        return markdown(self.report)

    def to_html(self) -> str:
        """One page with plots that needs nothing else."""
        from tidegate.compare.page import page

        return page(self.report)


def compare(
    texts: Iterable[str],
    labels: Iterable[Any],
    *,
    test: tuple[Iterable[str], Iterable[Any]] | float = TEST_SHARE,
    validation: tuple[Iterable[str], Iterable[Any]] | None = None,
    **plan: Any,
) -> Comparison:
    """Compare recurrent models and a linear one on texts and labels.

    texts, labels: as ``TextClassifier.fit`` has them.
    test: texts and labels that no model sees before its end, or a share of each label's texts.
    validation: texts and labels to choose by, in place of a share of the others. plan: the fields
    of ``Plan``, such as models=("gru", "linear"), seeds=5 or options={"hidden_size": 64}. Each run
    is a Python process of its own.
    """
    train = Part.of(texts, labels)
    if isinstance(test, tuple):
        held = Part.of(*test)
    else:
        train, held = hold_out(train, test)
    parts = Parts(train, held, None if validation is None else Part.of(*validation))
    for event in compare_steps(Plan(**plan), parts):
        if isinstance(event, Comparison):
            return event
    raise TrainingError("the comparison ended without a result")


def compare_steps(
    plan: Plan, parts: Parts, *, work: Path | None = None, resume: bool = False
) -> Iterator[Probing | Going | Done | Comparison]:
    """Do every run and yield what happens, at last the Comparison.

    work: a file that keeps each finished run, so that ``resume`` has to do only the others; it
    stays when the comparison is done. Raises OutputExistsError for a work file that is there
    without ``resume``, ConfigError for one of another comparison, DataError for texts and labels
    that can't be learnt from.
    """
    begun = time.perf_counter()
    check_parts(parts)
    identity = {
        "tidegate": __version__,
        "plan": plan.to_json(),
        "texts": parts.digest(),
        "machine": ops.machine_info() | {"threads": ops.threads()},
    }
    kept = _Kept(work, identity, resume=resume)
    missing = [run for run in plan.runs if run not in kept.results]
    turns = [Turn(number, len(plan.runs), *run) for number, run in enumerate(plan.runs, start=1)]
    with tempfile.TemporaryDirectory(prefix="tidegate-compare-") as folder:
        texts = Path(folder, "texts.jsonl")
        if missing:
            yield Probing(len(parts.train) - parts.held_of_train(plan))
            process.write_texts(texts, parts, _probes(plan, parts))
        for turn in turns:
            done = kept.results.get((turn.model, turn.seed))
            if done is not None:
                yield Done(turn, done, kept=True)
                continue
            epochs = kept.epochs(turn.model) if plan.budget is not None else None
            job = process.Job(plan, turn.model, turn.seed, str(texts), epochs)
            for told in process.run(job, Path(folder)):
                if isinstance(told, RunResult):
                    kept.add(told)
                    yield Done(turn, told, kept=False)
                else:
                    yield Going(turn, told.event, told.epochs)
    report = {
        "tidegate": __version__,
        "machine": identity["machine"],
        **summarize(plan, parts, [kept.results[run] for run in plan.runs]),
        "seconds": kept.seconds + time.perf_counter() - begun,
    }
    yield Comparison(report)


def _probes(plan: Plan, parts: Parts) -> process.ProbeTexts | None:
    """Texts whose deciding words lie ever farther back: the same for every model and seed."""
    options = plan.classifier(plan.networks[0], plan.first_seed)
    linear = fit_linear(options, parts.train.texts, parts.train.labels)
    targets = targets_of(linear.classes, parts.test.labels, len(parts.test), many=linear.many)
    probes = make_probes(linear.ngrams, parts.test.texts, targets, options.max_length)
    return None if probes is None else process.ProbeTexts.of(probes)


class _Kept:
    """The finished runs, and the file that keeps them."""

    def __init__(self, path: Path | None, identity: Mapping[str, Any], *, resume: bool) -> None:
        self.path = path
        self.identity = json.loads(json.dumps(identity))
        self.results: dict[tuple[str, int], RunResult] = {}
        self.seconds = 0.0  # that finished runs took before
        self._begun = time.perf_counter()
        if path is None or not path.exists():
            return
        if not resume:
            raise OutputExistsError(f"{str(path)!r} is there already; go on from it with resume")
        self._read(path)

    def _read(self, path: Path) -> None:
        try:
            if path.stat().st_size > _LARGEST_WORK:
                raise ValueError("too large")
            stored = json.loads(path.read_text(encoding="utf-8"))
            identity, runs = dict(stored["comparison"]), stored["runs"]
            results = [RunResult.from_json(run) for run in runs]
            seconds = float(stored["seconds"])
        except (*_NO_RUNS, DataError) as error:
            raise ConfigError(
                f"{str(path)!r} keeps no runs of a comparison ({error}); begin anew with another "
                "one"
            ) from error
        different = [name for name in self.identity if identity.get(name) != self.identity[name]]
        if different:
            raise ConfigError(
                f"{str(path)!r} is of another comparison: it differs in {', '.join(different)}; "
                "give the same options and texts, or begin anew"
            )
        self.results = {(result.model, result.seed): result for result in results}
        self.seconds = seconds

    def add(self, result: RunResult) -> None:
        """Keep one more."""
        self.results[result.model, result.seed] = result
        if self.path is None:
            return
        stored = {
            "comparison": self.identity,
            "seconds": self.seconds + time.perf_counter() - self._begun,
            "runs": [one.to_json() for one in self.results.values()],
        }
        atomic.write(self.path, [json.dumps(stored).encode()])

    def epochs(self, model: str) -> int | None:
        """How many epochs the other seeds of this model had; None if there is none yet."""
        for (name, _), result in self.results.items():
            if name == model and result.epochs:
                return len(result.epochs)
        return None
