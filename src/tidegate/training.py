"""Training: a generator of results, with checkpoints that go on bit for bit."""

from __future__ import annotations

import hashlib
import math
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from tidegate import initializers, storage
from tidegate.errors import (
    ConfigError,
    DataError,
    ModelFileError,
    ShapeError,
    TrainingError,
    TrainingInterrupted,
)
from tidegate.layers import Gradients
from tidegate.metrics import LabeledSet, evaluate
from tidegate.model import TextModel, check_whole
from tidegate.optim import Adam

CHECKPOINT_SECONDS = 20.0


@dataclass(frozen=True)
class TrainConfig:
    """Everything that fixes a training run besides model and data. ConfigError for a bad value.

    The defaults are Keras's Adam and the lecture's job. clip_norm: the largest common norm of a
    step's gradients, or None. seed: of the initial weights, the split and the shuffling.
    """

    epochs: int = 3
    batch_size: int = 64
    learning_rate: float = 1e-3
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-7
    clip_norm: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_whole("epochs", self.epochs, 1, 1_000_000)
        check_whole("batch_size", self.batch_size, 1, 65_536)
        check_whole("seed", self.seed, 0, 2**63 - 1)
        _check_number("learning_rate", self.learning_rate, 0.0, math.inf)
        _check_number("beta_1", self.beta_1, 0.0, 1.0, least_allowed=True)
        _check_number("beta_2", self.beta_2, 0.0, 1.0, least_allowed=True)
        _check_number("epsilon", self.epsilon, 0.0, math.inf)
        if self.clip_norm is not None:
            _check_number("clip_norm", self.clip_norm, 0.0, math.inf)


def _check_number(
    name: str, value: object, low: float, high: float, *, least_allowed: bool = False
) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.floating, np.integer)):
        raise ConfigError(f"{name}={value!r} is not a number")
    number = float(value)
    if not (low < number < high or (least_allowed and number == low)):
        bound = "not negative and" if least_allowed else "positive and"
        limit = "finite" if math.isinf(high) else f"below {high:g}"
        raise ConfigError(f"{name}={value!r} must be {bound} {limit}")


@dataclass(frozen=True)
class StepResult:
    """One step done. loss and accuracy are means over this epoch's texts so far."""

    epoch: int
    step: int
    steps: int
    texts: int
    total_texts: int
    loss: float
    accuracy: float
    seconds: float


@dataclass(frozen=True)
class EpochResult:
    """One epoch done.

    loss and accuracy: means over the epoch, as the weights changed. val_loss and val_accuracy: on
    the validation texts after it, None without any. seconds include the validation, as Keras
    counts them.
    """

    epoch: int
    seconds: float
    loss: float
    accuracy: float
    val_loss: float | None
    val_accuracy: float | None

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> EpochResult:
        """The result of fields that a file gave. DataError if they are no result."""
        result = _from_fields(cls, fields)
        if (result.val_loss is None) != (result.val_accuracy is None):
            raise DataError("an epoch has only one of val_loss and val_accuracy")
        return result


@dataclass
class _Progress:
    """Where a run stands; with the arrays, all that continuing it needs."""

    epoch: int = 1
    step: int = 0  # steps done in this epoch
    texts: int = 0
    loss_sum: float = 0.0
    correct: int = 0
    seconds: float = 0.0  # spent in this epoch; the one field that is not the same every time


_Record = TypeVar("_Record")


def _from_fields(record: type[_Record], fields: Mapping[str, Any]) -> _Record:
    """A dataclass of int, float and optional float from what a file gave; DataError if it isn't."""
    types = {name: str(field.type) for name, field in record.__dataclass_fields__.items()}  # type: ignore[attr-defined]
    if not isinstance(fields, Mapping) or set(fields) != set(types):
        raise DataError(f"{record.__name__.strip('_')} does not have the fields {', '.join(types)}")
    for name, value in fields.items():
        allowed: tuple[type, ...] = (int,) if types[name] == "int" else (int, float)
        optional = "None" in types[name] and value is None
        if not optional and (isinstance(value, bool) or not isinstance(value, allowed)):
            raise DataError(f"{name}={value!r} is not a number of type {types[name]}")
        if isinstance(value, int) and not -1 < value < 2**53:
            raise DataError(f"{name}={value} is out of range")
    return record(**fields)


def train(
    model: TextModel,
    examples: LabeledSet,
    validation: LabeledSet | None,
    config: TrainConfig,
    *,
    checkpoint: Path | None = None,
    resume: bool = False,
) -> Iterator[EpochResult]:
    """Train ``model`` in place and yield each epoch's result. See ``train_steps``."""
    for event in train_steps(
        model, examples, validation, config, checkpoint=checkpoint, resume=resume
    ):
        if isinstance(event, EpochResult):
            yield event


def train_steps(
    model: TextModel,
    examples: LabeledSet,
    validation: LabeledSet | None,
    config: TrainConfig,
    *,
    checkpoint: Path | None = None,
    resume: bool = False,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> Iterator[StepResult | EpochResult]:
    """Train ``model`` in place, yielding a StepResult a step and an EpochResult an epoch.

    Each epoch shuffles by ``initializers.permutation(seed, "shuffle epoch N")``. With
    ``checkpoint``, the run's whole state is written there at the end of each epoch and about every
    ``checkpoint_seconds``; Ctrl-C then finishes the step, writes it once more and raises
    TrainingInterrupted. ``resume`` goes on from that file if it is there, and ends with the same
    bits as a run that was never stopped.

    Raises TrainingError when the loss is not finite: the checkpoint then still holds the last good
    state. Raises ModelFileError or TrainingError for a checkpoint that is damaged or belongs to
    another run.
    """
    if not len(examples):
        raise ConfigError("there are no texts to train on; give at least one")
    run = _Run(model, examples, validation, config)
    if checkpoint is not None and resume and checkpoint.exists():
        yield from run.load(checkpoint)
    saved_at = time.monotonic()
    with _held_interrupts(checkpoint is not None) as interrupted:
        for event in run.events():
            # Read once: a signal that comes while the caller holds the event has to wait until the
            # next step, which will then be saved.
            stop = interrupted.is_set()
            if checkpoint is not None:
                due = time.monotonic() - saved_at >= checkpoint_seconds
                if due or stop or isinstance(event, EpochResult):
                    run.save(checkpoint)
                    saved_at = time.monotonic()
            yield event
            if stop:
                done = run.progress
                raise TrainingInterrupted(
                    f"stopped in epoch {done.epoch} after step {done.step}; "
                    f"{checkpoint} keeps everything: go on with --resume (resume=True)"
                )


class _Run:
    """One training run: what changes while it goes on, and how that is kept."""

    def __init__(
        self,
        model: TextModel,
        examples: LabeledSet,
        validation: LabeledSet | None,
        config: TrainConfig,
    ) -> None:
        self.model = model
        self.examples = examples
        self.validation = validation
        self.config = config
        self.optimizer = Adam(
            model.parameters,
            row_parameters=("embedding.weight",),
            learning_rate=config.learning_rate,
            beta_1=config.beta_1,
            beta_2=config.beta_2,
            epsilon=config.epsilon,
            clip_norm=config.clip_norm,
        )
        self.progress = _Progress()
        self.history: list[EpochResult] = []
        self.steps = -(-len(examples) // config.batch_size)

    def events(self) -> Iterator[StepResult | EpochResult]:
        """From where the run stands to its end."""
        while self.progress.epoch <= self.config.epochs:
            order = initializers.permutation(
                self.config.seed, f"shuffle epoch {self.progress.epoch}", len(self.examples)
            )
            begun = time.perf_counter() - self.progress.seconds
            while self.progress.step < self.steps:
                start = self.progress.step * self.config.batch_size
                self._step(order[start : start + self.config.batch_size])
                self.progress.seconds = time.perf_counter() - begun
                yield self._step_result()
            yield self._end_epoch(begun)
        self.optimizer.finish()

    def _step(self, rows: npt.NDArray[np.int64]) -> None:
        model, progress = self.model, self.progress
        batch = model.pack(self.examples.texts, rows)
        self.optimizer.prepare(batch.words)
        logits, backward = model(batch)
        targets = self.examples.targets[rows[batch.rows]]
        loss, d_logits, correct = model.loss(logits, targets)
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss} in epoch {progress.epoch}, step {progress.step + 1}; lower "
                f"learning_rate={self.config.learning_rate:g} or set clip_norm=1"
            )
        gradients: Gradients = {}
        backward(d_logits, gradients)
        self.optimizer.step(gradients)
        progress.step += 1
        progress.texts += len(rows)
        progress.loss_sum += loss * len(rows)
        progress.correct += correct

    def _step_result(self) -> StepResult:
        done = self.progress
        return StepResult(
            epoch=done.epoch,
            step=done.step,
            steps=self.steps,
            texts=done.texts,
            total_texts=len(self.examples),
            loss=done.loss_sum / done.texts,
            accuracy=done.correct / done.texts,
            seconds=done.seconds,
        )

    def _end_epoch(self, begun: float) -> EpochResult:
        self.optimizer.finish()  # validation reads any word
        done = self.progress
        val = None
        if self.validation is not None and len(self.validation):
            val = evaluate(self.model, self.validation)
        result = EpochResult(
            epoch=done.epoch,
            seconds=time.perf_counter() - begun,
            loss=done.loss_sum / done.texts,
            accuracy=done.correct / done.texts,
            val_loss=None if val is None else val.loss,
            val_accuracy=None if val is None else val.accuracy,
        )
        self.history.append(result)
        self.progress = _Progress(epoch=done.epoch + 1)
        return result

    # --- checkpoints

    @cached_property
    def _identity(self) -> str:
        """A digest of all that a checkpoint must have in common with the run that loads it."""
        digest = hashlib.sha256()
        digest.update(repr((self.model.config, self.config)).encode())
        for part in (self.examples, self.validation):
            if part is None:
                digest.update(b"none")
                continue
            for array in (part.texts.token_ids, part.texts.offsets, part.targets):
                digest.update(str(array.shape).encode())
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def save(self, path: Path) -> None:
        """Write the checkpoint, unless a weight is not finite: then the old one stays."""
        if not all(np.isfinite(value).all() for value in self.model.parameters.values()):
            return
        tensors: dict[str, npt.NDArray[Any]] = dict(self.model.parameters)
        tensors.update(self.optimizer.state())
        header: dict[str, Any] = {
            "kind": "checkpoint",
            "identity": self._identity,
            "optimizer_steps": self.optimizer.step_count,
            "progress": asdict(self.progress),
            "history": [asdict(result) for result in self.history],
        }
        storage.write_tensors(path, tensors, header)

    def load(self, path: Path) -> list[EpochResult]:
        """Continue from the checkpoint; the results of the epochs that it has behind it."""
        tensors, header = storage.read_tensors(path)
        if header.get("kind") != "checkpoint":
            raise ModelFileError(f"{path} is a model, not a checkpoint")
        if header.get("identity") != self._identity:
            raise TrainingError(
                f"{path} belongs to a run with other data or options; use the same ones, or "
                "remove it to start again"
            )
        try:
            self.optimizer.restore(header["optimizer_steps"], tensors)
            for name, own in self.model.parameters.items():
                if tensors[name].shape != own.shape or tensors[name].dtype != own.dtype:
                    raise ShapeError(f"{name} does not fit the model")
                own[...] = tensors[name]
            self.progress = _from_fields(_Progress, header["progress"])
            self.history = [EpochResult.from_json(result) for result in header["history"]]
            done = self.progress
            if not (1 <= done.epoch <= self.config.epochs + 1 and done.step <= self.steps):
                raise DataError(f"epoch {done.epoch}, step {done.step} lies outside the run")
            if len(self.history) != done.epoch - 1 or done.correct > done.texts:
                raise DataError("its results do not fit its place in the run")
        except (KeyError, TypeError, ShapeError, DataError) as error:
            raise ModelFileError(
                f"{path} is not a usable checkpoint ({error}); remove it to start again"
            ) from error
        return list(self.history)


@contextmanager
def _held_interrupts(hold: bool) -> Iterator[threading.Event]:
    """While it lasts, the first Ctrl-C only sets the event; a second one acts as usual.

    Signals reach the main thread alone, so elsewhere nothing is held.
    """
    interrupted = threading.Event()
    if not hold or threading.current_thread() is not threading.main_thread():
        yield interrupted
        return
    before = signal.getsignal(signal.SIGINT)

    def note(signal_number: int, frame: FrameType | None) -> None:
        interrupted.set()
        signal.signal(signal.SIGINT, before)

    try:
        signal.signal(signal.SIGINT, note)
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)
