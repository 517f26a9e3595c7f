"""One run in a process of its own, so that its memory and its time are its own.

    python -m tidegate.compare.worker JOB

JOB is a file of JSON that ``process`` writes. What happens is told on standard output, a line of
JSON each: ``{"step": ...}``, ``{"epoch": ...}``, at the end ``{"result": ...}`` or
``{"error": ...}``. Standard input says nothing; when it ends, the asker is gone, and so is this.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tidegate.compare import process
from tidegate.compare.distance import guessing, right_answers
from tidegate.compare.forgetting import Fading, fading, longest_rows
from tidegate.compare.linear import LinearClassifier, fit_linear
from tidegate.compare.plan import MODELS, Part, Parts
from tidegate.compare.runs import Answers, Distances, RunResult
from tidegate.errors import TidegateError, TrainingError
from tidegate.estimator import TextClassifier
from tidegate.fitting import untrained_model
from tidegate.scores import calibration_error, log_loss
from tidegate.targets import targets_of
from tidegate.thresholds import chosen
from tidegate.training import EpochResult, StepResult

Tell = Callable[[dict[str, Any]], None]

_SECONDS_BETWEEN_STEPS = 0.2
_TIMED_TEXTS = 200
_WARM_TEXTS = 20
_TRIAL_WARM_STEPS = 5
_TRIAL_STEPS = 60
_MOST_EPOCHS = 1_000

# What opens and closes: a candidate is what goes through.
_GATES = {"gru": 2, "lstm": 3, "rnn": 0}


def main(job_path: str) -> None:
    """Do the job; every error ends as a line."""
    threading.Thread(target=_end_with_asker, daemon=True).start()
    # Whatever a library prints goes to standard error; only lines of ours go to the asker.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def tell(event: dict[str, Any]) -> None:
        answers.write(json.dumps(event) + "\n")
        answers.flush()

    try:
        job = process.Job.read(Path(job_path))
        parts, probes = process.read_texts(Path(job.texts))
        tell({"result": run(job, parts, probes, tell).to_json()})
    except TidegateError as error:
        tell({"error": type(error).__name__, "message": str(error)})
    except MemoryError as error:
        tell({"error": "TrainingError", "message": f"not enough memory ({error})"})


def _end_with_asker() -> None:
    """End this process when the one that reads its lines ends, even if that was killed."""
    while os.read(0, 4096):
        pass
    os._exit(1)


def run(job: process.Job, parts: Parts, probes: process.ProbeTexts | None, tell: Tell) -> RunResult:
    """Train, then measure. A training that diverges is a result, too."""
    before = process.memory("VmRSS")
    options = job.plan.classifier(job.model, job.seed, job.epochs)
    held = parts.validation
    if held is None:
        held = parts.train.select(options.split(len(parts.train))[1].tolist())
    try:
        classifier, result = _trained(job, options, parts, tell)
    except TrainingError as error:
        return RunResult(job.model, job.seed, failure=str(error))
    result["validation"] = _answers(classifier, held)
    result["test"] = _answers(classifier, parts.test)
    result["memory_before"], result["memory_peak"] = before, process.memory("VmHWM")
    result["text_milliseconds"] = _milliseconds(classifier, held.texts)
    with tempfile.TemporaryDirectory(dir=Path(job.texts).parent) as folder:
        path = Path(folder, "model.safetensors")
        classifier.save(path)
        result["file_bytes"] = path.stat().st_size
    if isinstance(classifier, TextClassifier):
        result |= _fading(classifier, parts)
        if probes is not None:
            result["distances"] = _at_distances(classifier, parts.test, probes)
    return RunResult(job.model, job.seed, **result)


def _trained(
    job: process.Job, options: TextClassifier, parts: Parts, tell: Tell
) -> tuple[TextClassifier | LinearClassifier, dict[str, Any]]:
    """The trained model, and what there is to say of its training."""
    train, separate = parts.train, None
    if parts.validation is not None:
        separate = parts.validation.texts, parts.validation.labels
    if MODELS[job.model] is None:
        linear = fit_linear(options, train.texts, train.labels, separate)
        return linear, {"train_seconds": linear.seconds, "parameters": linear.parameters}
    if job.plan.budget is not None and job.epochs is None:
        epochs = _epochs_within(job.plan.budget, options, train, separate)
        options = job.plan.classifier(job.model, job.seed, epochs)
    told = 0.0
    epochs = options.epochs_for(len(train))
    for event in options.fit_steps(train.texts, train.labels, validation=separate):
        if isinstance(event, EpochResult):
            tell({"epoch": asdict(event), "epochs": epochs})
        elif time.monotonic() - told >= _SECONDS_BETWEEN_STEPS:
            tell({"step": asdict(event), "epochs": epochs})
            told = time.monotonic()
    history = tuple(options.history_)
    config = options.model_.config
    directions = sum(len(names) for names in config.recurrent_names)
    states = 2 if config.cell == "lstm" else 1  # the cell state, too
    return options, {
        "epochs": history,
        "train_seconds": sum(epoch.seconds for epoch in history),
        "parameters": sum(value.size for value in options.model_.parameters.values()),
        "gates": _GATES[config.cell],
        "state": states * directions * config.hidden_size,
        "precision": options.model_.precision,
    }


def _epochs_within(
    budget: float,
    options: TextClassifier,
    train: Part,
    separate: tuple[Sequence[str], Sequence[Any]] | None,
) -> int:
    """As many epochs as fit into the seconds, by a trial of the first steps, at least one."""
    first: StepResult | None = None
    last: StepResult | None = None
    limit = time.monotonic() + 0.1 * budget
    # What is left of the generator ends with this function.
    for event in options.fit_steps(train.texts, train.labels, validation=separate):
        if isinstance(event, EpochResult):
            seconds = event.seconds
            break
        if first is None and event.step > _TRIAL_WARM_STEPS:
            first = event
        last = event
        if first is not None and (event.step >= _TRIAL_STEPS or time.monotonic() > limit):
            texts = event.texts - first.texts
            if texts:
                seconds = event.total_texts * (event.seconds - first.seconds) / texts
                break
    else:
        seconds = budget if last is None else last.seconds
    return max(1, min(_MOST_EPOCHS, int(budget / max(seconds, 1e-9))))


def _answers(classifier: TextClassifier | LinearClassifier, part: Part) -> Answers:
    begun = time.perf_counter()
    probabilities = classifier.predict_proba(part.texts)
    seconds = time.perf_counter() - begun
    targets = _targets(classifier, part)
    many = targets.ndim == 2
    same = chosen(probabilities, None, many=many) == targets
    return Answers(
        right=same.all(axis=1) if many else same,
        loss=log_loss(probabilities, targets),
        calibration_error=calibration_error(probabilities, targets),
        seconds=seconds,
    )


def _targets(classifier: TextClassifier | LinearClassifier, part: Part) -> npt.NDArray[np.int32]:
    if isinstance(classifier, LinearClassifier):
        classes, many = classifier.classes, classifier.many
    else:
        classes, many = classifier.classes_, classifier.model_.config.targets == "many"
    return targets_of(classes, part.labels, len(part), many=many)


def _milliseconds(classifier: TextClassifier | LinearClassifier, texts: Sequence[str]) -> float:
    """The median for one text alone, of a model that has answered before."""
    timed = list(islice(cycle(texts), _WARM_TEXTS + _TIMED_TEXTS))
    seconds = []
    for text in timed:
        begun = time.perf_counter()
        classifier.predict_proba([text])
        seconds.append(time.perf_counter() - begun)
    return 1000.0 * float(np.median(seconds[_WARM_TEXTS:]))


def _fading(classifier: TextClassifier, parts: Parts) -> dict[str, Fading]:
    """How gradients fade over the longest test texts, with the first weights and the last."""
    model, test = classifier.model_, parts.test
    encoded = classifier.tokenizer_.encode_all(test.texts, model.config.max_length)
    rows = longest_rows(encoded.lengths)
    texts, targets = encoded.select(rows), _targets(classifier, test)[rows]
    learnt, held = classifier.split(len(parts.train))
    if parts.validation is not None:
        learnt = np.concatenate([learnt, held])
    untrained = untrained_model(classifier, parts.train.texts, learnt)
    return {
        "initial": fading(untrained, texts, targets),
        "trained": fading(model, texts, targets),
    }


def _at_distances(classifier: TextClassifier, part: Part, probes: process.ProbeTexts) -> Distances:
    targets = _targets(classifier, part.select(probes.rows))
    shares = [
        float(right_answers(classifier.predict_proba(texts), targets).mean())
        for texts in probes.texts
    ]
    return Distances(
        probes.distances, tuple(shares[:-1]), shares[-1], len(probes.rows), guessing(targets)
    )


if __name__ == "__main__":
    main(sys.argv[1])
