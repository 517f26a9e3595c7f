"""Processes that train one model each: what they are given, and what they tell.

The texts go into a file once, which every process reads. It lies in a folder of its own that is
gone when the comparison ends, unless it is killed outright.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tidegate.errors
from tidegate import ops
from tidegate.compare.distance import Probes
from tidegate.compare.plan import Part, Parts, Plan
from tidegate.compare.runs import RunResult
from tidegate.errors import TidegateError, TrainingError
from tidegate.training import EpochResult, StepResult

_WORKER = ("-m", "tidegate.compare.worker")
_TOLD_ERRORS = 2_000  # characters of a broken process's last words


@dataclass(frozen=True)
class Job:
    """One run. texts: the file that ``write_texts`` made. epochs: None for the options' own."""

    plan: Plan
    model: str
    seed: int
    texts: str
    epochs: int | None = None

    def write(self, path: Path) -> None:
        """For ``read``, in another process."""
        fields = {"plan": self.plan.to_json(), "model": self.model, "seed": self.seed}
        fields |= {"texts": self.texts, "epochs": self.epochs}
        path.write_text(json.dumps(fields), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Job:
        """What ``write`` wrote."""
        fields = json.loads(path.read_text(encoding="utf-8"))
        return cls(**{**fields, "plan": Plan.from_json(fields["plan"])})


@dataclass(frozen=True)
class ProbeTexts:
    """Probes as texts. rows: of the test texts whose labels count. texts: a list for each distance,
    and one with all words in front.
    """

    rows: list[int]
    distances: tuple[int, ...]
    texts: list[list[str]]

    @classmethod
    def of(cls, probes: Probes) -> ProbeTexts:
        """All texts of the probes."""
        texts = [probes.at(distance) for distance in probes.distances]
        return cls(probes.rows.tolist(), probes.distances, [*texts, probes.in_front()])


def write_texts(path: Path, parts: Parts, probes: ProbeTexts | None) -> None:
    """All texts, a line of JSON each, so that reading them takes no more memory than they do."""
    named = {"train": parts.train, "test": parts.test, "validation": parts.validation}
    with open(path, "w", encoding="utf-8") as file:
        for name, part in named.items():
            for text, label in zip(part.texts, part.labels, strict=True) if part else ():
                file.write(json.dumps([name, text, label]) + "\n")
        if probes is not None:
            file.write(json.dumps(["probes", list(probes.distances), probes.rows]) + "\n")
            for number, texts in enumerate(probes.texts):
                for text in texts:
                    file.write(json.dumps(["probe", text, number]) + "\n")


def read_texts(path: Path) -> tuple[Parts, ProbeTexts | None]:
    """What ``write_texts`` wrote."""
    found = {name: Part([], []) for name in ("train", "test", "validation")}
    probes: ProbeTexts | None = None
    with open(path, encoding="utf-8") as file:
        for line in file:
            name, text, label = json.loads(line)
            if name == "probes":
                sets: list[list[str]] = [[] for _ in range(len(text) + 1)]
                probes = ProbeTexts(label, tuple(text), sets)
            elif name == "probe":
                sets[label].append(text)
            else:
                found[name].texts.append(text)
                found[name].labels.append(label)
    validation = found["validation"] if len(found["validation"]) else None
    return Parts(found["train"], found["test"], validation), probes


@dataclass(frozen=True)
class Told:
    """A step or an epoch of a run that is going on. epochs: how many there will be."""

    event: StepResult | EpochResult
    epochs: int


def run(job: Job, folder: Path) -> Iterator[Told | RunResult]:
    """Do the job in a process of its own, yielding what it tells and at last its result.

    The process ends when the iterator does, and when this process does, however it ends. Raises the
    TidegateError that ended it, TrainingError if it broke.
    """
    path = folder / "job.json"
    job.write(path)
    # Apart from the terminal: Ctrl-C is for this process alone, which then ends the other.
    with (
        tempfile.TemporaryFile(dir=folder) as errors,
        subprocess.Popen(  # noqa: S603 (this package's own module)
            [sys.executable, *_WORKER, str(path)],
            stdout=subprocess.PIPE,
            stdin=subprocess.PIPE,  # nothing goes through: its end tells that this process is gone
            stderr=errors,
            cwd=folder,  # no file of the user's there to take for a module
            env=_environment(),
            start_new_session=True,
        ) as process,
    ):
        try:
            for line in process.stdout or ():
                message = json.loads(line)
                yield _heard(message)
                if "result" in message:
                    return
            status = process.wait()
        finally:
            process.kill()
        errors.seek(0)
        words = errors.read().decode(errors="replace")[-_TOLD_ERRORS:].strip()
    ended = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
    hint = " (too little memory, perhaps)" if status == -9 else ""
    last = f": {words.splitlines()[-1]}" if words else ""
    raise TrainingError(
        f"the process that trained {job.model} with seed {job.seed} {ended}{hint}{last}"
    )


def _heard(message: Mapping[str, Any]) -> Told | RunResult:
    if "step" in message:
        return Told(StepResult(**message["step"]), message["epochs"])
    if "epoch" in message:
        return Told(EpochResult(**message["epoch"]), message["epochs"])
    if "result" in message:
        return RunResult.from_json(message["result"])
    kind = getattr(tidegate.errors, message["error"], TidegateError)
    raise kind(message["message"])


def _environment() -> dict[str, str]:
    # NumPy's own products are small here: threads that wait for them would only be in the way.
    blas = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), "1")
    own = {"TIDEGATE_THREADS": str(ops.threads()), "TIDEGATE_ISA": ops.isa()}
    return {**blas, **os.environ, **own}


def memory(name: str) -> int:
    """Bytes of this process: "VmRSS" it has now, "VmHWM" it had at most.

    Linux's own figures. getrusage would count what the parent had before this process began; it is
    what there is elsewhere, for both.
    """
    try:
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
