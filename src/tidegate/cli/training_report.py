"""What ``tidegate train`` says of a run: how many texts there are, and what ``--report`` holds."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate.cli import files

if TYPE_CHECKING:
    from tidegate.cli.datasets import Begun
    from tidegate.data import Survey
    from tidegate.estimator import TextClassifier
    from tidegate.metrics import Evaluation


def _parts(classifier: TextClassifier, run: Begun) -> dict[str, int]:
    """How many texts train, validate and test."""
    dataset = run.dataset
    training, validation = map(len, classifier.split(run.texts))
    if dataset.validation is not None:
        validation = len(dataset.validation)
    test = 0 if dataset.test is None else len(dataset.test)
    return {"train": training, "validation": validation, "test": test}


def counts(classifier: TextClassifier, run: Begun) -> str:
    """``20,000 training, 5,000 validation and 25,000 test texts``."""
    counts = _parts(classifier, run)
    parts = [f"{counts['train']:,} training", f"{counts['validation']:,} validation"]
    if run.dataset.test is not None:
        parts.append(f"{counts['test']:,} test")
    return f"{', '.join(parts[:-1])} and {parts[-1]} texts"


def results(
    classifier: TextClassifier,
    run: Begun,
    found: Survey,
    test: Evaluation | None,
    output: Path,
    sha256: str,
    quantize: str | None,
) -> dict[str, Any]:
    """What ``--report`` writes, but for the seconds of the whole command."""
    from tidegate import __version__, data, ops

    # What really ran, where the options leave it to the data or the machine.
    resolved = {
        "epochs": len(classifier.history_),
        "vocabulary_size": classifier.model_.config.vocabulary_size,
        "threads": ops.threads(),
        "precision": classifier.model_.precision,
    }
    return {
        "tidegate": __version__,
        "source": {
            "name": run.dataset.name,
            "origin": run.dataset.origin,
            **_parts(classifier, run),
            "readings": [
                {"texts": read.texts, "seconds": read.seconds} for read in run.readings.values()
            ],
        },
        "data": found.to_json() | {"notes": data.notes(found)},
        "config": classifier.get_params() | resolved,
        "machine": files.machine(classifier.model_.precision),
        "epochs": [asdict(epoch) for epoch in classifier.history_],
        "validation": None
        if classifier.validation_ is None
        else files.measured(classifier.validation_),
        "vectors": classifier.vectors_,
        "mix": list(classifier.mix_),
        "test": None if test is None else files.measured(test),
        "seconds": 0.0,
        "model": str(output),
        "quantization": quantize,
        "sha256": sha256,
    }
