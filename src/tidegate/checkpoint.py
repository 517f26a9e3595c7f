"""Checkpoints: all of a training run in one file, to go on from bit for bit."""

from __future__ import annotations

import hashlib
import math
import reprlib
import warnings
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import tidegate
from tidegate import ops, storage
from tidegate.errors import (
    DataError,
    ModelFileError,
    OutputError,
    ShapeError,
    TrainingError,
    TrainingInterrupted,
)
from tidegate.metrics import LabeledSet
from tidegate.model import ModelConfig, TextModel
from tidegate.optim import Adam
from tidegate.records import (
    EpochResult,
    Progress,
    TrainConfig,
    from_fields,
    is_ended,
    kept_weights,
)

_GO_ON = "go on with --resume (resume=True)"


def identity(model: TextModel, config: TrainConfig, *data: LabeledSet | None) -> dict[str, Any]:
    """All that a checkpoint must have in common with the run that loads it."""
    digest = hashlib.sha256()
    for part in data:
        if part is None:
            digest.update(b"none")
            continue
        lengths = part.texts.lengths
        digest.update(str((int(lengths.sum()),)).encode())
        for block in part.texts.blocks():
            digest.update(np.ascontiguousarray(block.token_ids, "<i4").data)
        for array, dtype in (
            (np.concatenate([[0], np.cumsum(lengths)]), "<i8"),
            (part.targets, "<i4"),
        ):
            digest.update(str(array.shape).encode())
            digest.update(np.ascontiguousarray(array, dtype).data)
        if part.counts is not None and len(part.counts) < len(part.texts):
            digest.update(np.ascontiguousarray(part.counts, "<i8").data)
        if part.weights is not None:
            digest.update(np.ascontiguousarray(part.weights, "<f4").data)
    return {
        "model": {**model.config.to_json(), "precision": model.precision},
        "training": asdict(config),
        "data": digest.hexdigest(),
    }


class Checkpoint:
    """A run's file. run: its ``identity``."""

    def __init__(self, path: Path, run: Mapping[str, Any]) -> None:
        self.path = path
        self.kept: Progress | None = None  # where the run in the file stands
        self._run = run

    def save(
        self,
        model: TextModel,
        optimizer: Adam,
        progress: Progress,
        history: list[EpochResult],
        kept: Mapping[str, Mapping[str, npt.NDArray[np.float32]]],
    ) -> None:
        """Write the file, unless a number is not finite: then the old one stays.

        kept: copies of the weights, by what they are.
        """
        if not all_finite(model, optimizer):
            return
        tensors: dict[str, npt.NDArray[Any]] = {**model.parameters, **optimizer.state()}
        for copy, weights in kept.items():
            tensors.update({f"{copy}.{name}": value for name, value in weights.items()})
        header: dict[str, Any] = {
            "kind": "checkpoint",
            "run": self._run,
            "made_by": _maker(model),
            "optimizer_steps": optimizer.step_count,
            "progress": asdict(progress),
            "history": [asdict(result) for result in history],
        }
        try:
            storage.write_tensors(self.path, tensors, header)
        except OutputError as error:
            held = "nothing was kept of this run"
            if self.kept is not None:
                held = f"{self.path} keeps the run as it was {_place(self.kept)}: {_GO_ON}"
            raise type(error)(f"{error}; {held}") from error
        self.kept = replace(progress)

    def load(
        self,
        model: TextModel,
        optimizer: Adam,
        config: TrainConfig,
        steps: int,
        kept: Mapping[str, Mapping[str, npt.NDArray[np.float32]]],
    ) -> tuple[Progress, list[EpochResult]]:
        """Give model, optimizer and kept weights what the file holds; return where its run stands.

        steps: of one epoch. Nothing is changed by a file that can't be used.
        """
        path = self.path
        tensors, header = _read(path)
        different = _differences(self._run, header.get("run"))
        if different:
            raise TrainingError(
                f"{path} belongs to a run with other data or options ({different}); use the same "
                "ones, or remove it to start again"
            )
        try:
            held = dict(model.parameters)
            for copy, weights in kept.items():
                held.update({f"{copy}.{name}": value for name, value in weights.items()})
            for name, own in held.items():
                if tensors[name].shape != own.shape or tensors[name].dtype != own.dtype:
                    raise ShapeError(f"{name} does not fit the model")
            progress = from_fields(Progress, header["progress"])
            history = [EpochResult.from_json(result) for result in header["history"]]
            if not (1 <= progress.epoch <= config.epochs + 1 and progress.step <= steps):
                raise DataError(
                    f"epoch {progress.epoch}, step {progress.step} lies outside the run"
                )
            if len(history) != progress.epoch - 1 or progress.correct > progress.texts:
                raise DataError("its results do not fit its place in the run")
            optimizer.restore(header["optimizer_steps"], tensors)
        except (KeyError, TypeError, ShapeError, DataError) as error:
            raise ModelFileError(
                f"{path} is not a usable checkpoint ({error}); remove it to start again"
            ) from error
        for name, own in held.items():
            own[...] = tensors[name]
        self.kept = replace(progress)
        ended = is_ended(history, config.epochs, config.patience)
        if header.get("made_by") != _maker(model) and not ended:
            warnings.warn(
                f"{path} was written by {_maker_name(header.get('made_by'))} and goes on with "
                f"{_maker_name(_maker(model))}: the model may differ in its last bits from one "
                "that was trained without a change",
                stacklevel=2,
            )
        return progress, history

    def interruption(self, progress: Progress, signal_number: int) -> TrainingInterrupted:
        """What to tell the user who stopped the run there, and what the file holds of it."""
        if self.kept == progress:
            held = f"; {self.path} keeps everything: {_GO_ON}"
        elif self.kept is not None:
            held = (
                f", with numbers that are not finite; {self.path} keeps the run as it was "
                f"{_place(self.kept)}: {_GO_ON}"
            )
        else:
            held = ", with numbers that are not finite; nothing was kept of this run"
        interruption = TrainingInterrupted(f"stopped {_place(progress)}{held}")
        interruption.signal_number = signal_number
        return interruption


def all_finite(model: TextModel, optimizer: Adam) -> bool:
    """Whether every weight is a finite number, and every moment of Adam's."""
    arrays = (*model.parameters.values(), *optimizer.state().values())
    return all(np.isfinite(array).all() for array in arrays)


def history_size(epochs: int) -> int:
    """At most how many bytes the results of so many epochs take in a file's header."""
    widest = -1.2345678901234567e-300
    result = EpochResult(10**9, widest, widest, widest, widest, widest)
    return epochs * (storage.header_size([asdict(result)]) - storage.header_size([]))


def check_checkpoint_size(model: ModelConfig, config: TrainConfig) -> None:
    """ConfigError if a run's checkpoint would be too large a file; for use before training."""
    numbers = sum(math.prod(shape) for shape in model.parameter_shapes().values())
    # Weights, both moments and copies; for each word, the step up to which it was brought.
    copies = 3 + len(kept_weights(config))
    tensor_bytes = copies * 4 * numbers + 8 * model.vocabulary_size
    header = storage.header_size({"run": {"model": model.to_json(), "training": asdict(config)}})
    storage.check_size(tensor_bytes, header + history_size(config.epochs), "checkpoint")


def is_finished(checkpoint: Path) -> bool:
    """Whether nothing is left to train in the run of a checkpoint. ModelFileError if unusable."""
    _, header = _read(checkpoint)
    try:
        training = header["run"]["training"]
        history = [EpochResult.from_json(result) for result in header["history"]]
        return is_ended(history, training["epochs"], training["patience"])
    except (KeyError, TypeError, DataError) as error:
        raise ModelFileError(
            f"{checkpoint} is not a usable checkpoint; remove it to start again"
        ) from error


def stored_embedding_size(checkpoint: Path, usual: int) -> int:
    """The embedding_size of a checkpoint's run, ``usual`` if it does not say one."""
    _, header = _read(checkpoint)
    try:
        size = header["run"]["model"]["embedding_size"]
    except (KeyError, TypeError):
        return usual
    return size if type(size) is int and size > 0 else usual


def _read(path: Path) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
    try:
        tensors, header = storage.read_tensors(path)
    except ModelFileError as error:
        # Whoever gave a model's file may fetch it again, but a checkpoint was made here.
        damaged, foreign = storage.DAMAGED_MEND, storage.FOREIGN_MEND
        for mend in (f"{foreign}, or {damaged}", damaged, foreign):
            message = str(error).removesuffix(f"; {mend}")
            if message != str(error):
                raise ModelFileError(f"{message}; remove it to start again") from error
        raise
    if header.get("kind") != "checkpoint":
        raise ModelFileError(
            f"{path} is a model, not a checkpoint; give the checkpoint's path, or begin without "
            "--resume (resume=False)"
        )
    return tensors, header


def _place(progress: Progress) -> str:
    if progress.step:
        return f"in epoch {progress.epoch} after step {progress.step}"
    return f"after epoch {progress.epoch - 1}" if progress.epoch > 1 else "at the start"


def _maker(model: TextModel) -> dict[str, str]:
    """What a run's bits depend on besides the run: it is not the same on every machine."""
    return {"tidegate": tidegate.__version__, "isa": ops.isa(model.precision)}


def _maker_name(maker: Any) -> str:
    if not isinstance(maker, Mapping):
        return "another tidegate"
    version, isa = (reprlib.repr(maker.get(name)).strip("'") for name in ("tidegate", "isa"))
    return f"tidegate {version} on {isa}"


def _differences(own: Mapping[str, Any], stored: Any) -> str:
    """In words, what a checkpoint's run does not have in common with ours; "" for nothing."""
    if stored == own:
        return ""
    found = []
    for part in ("model", "training"):
        given = stored.get(part) if isinstance(stored, Mapping) else None
        if isinstance(given, Mapping):
            for name, value in own[part].items():
                if given.get(name) != value:
                    found.append(f"{name}={reprlib.repr(given.get(name))} there, {value!r} here")
    if isinstance(stored, Mapping) and stored.get("start") != own.get("start"):
        found.append("another model to begin with")
    if isinstance(stored, Mapping) and stored.get("vectors") != own.get("vectors"):
        found.append("other vectors")
    return ", ".join(found) or "other texts or labels"
