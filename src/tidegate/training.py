"""Training: a generator of results, with checkpoints that go on bit for bit."""

from __future__ import annotations

import hashlib
import math
import reprlib
import signal
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

import tidegate
from tidegate import atomic, initializers, ops, storage
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
from tidegate.model import ModelConfig, TextModel, check_whole
from tidegate.optim import Adam

CHECKPOINT_SECONDS = 20.0
# Between two checkpoints lies at least this many times the time that writing one takes.
CHECKPOINT_PAUSE = 20.0

# As Python's floats: NumPy would round what is compared with its own to float32.
_SMALLEST = float(np.finfo(np.float32).tiny)
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class TrainConfig:
    """Everything that fixes a training run besides model and data. ConfigError for a bad value.

    The defaults are Keras's Adam and the lecture's job. clip_norm: the largest common norm of a
    step's gradients, or None. seed: of the initial weights, the split and the shuffling.

    Kernels compute in float32 and flush denormal numbers to zero, so numbers lie between 1.2e-38
    and 3.4e+38. They are kept as Python's int and float, whichever kind of number was given.
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
        # A model file keeps a line of results for each epoch.
        for name, least, most in (
            ("epochs", 1, 10_000),
            ("batch_size", 1, 65_536),
            ("seed", 0, 2**63 - 1),
        ):
            check_whole(name, getattr(self, name), least, most)
            object.__setattr__(self, name, int(getattr(self, name)))
        for name in ("beta_1", "beta_2"):
            given = getattr(self, name)
            beta = _number(name, given)
            if not (beta >= 0.0 and np.float32(min(beta, 1.0)) < 1.0):
                raise ConfigError(f"{name}={given!r} must be not negative and below 1 in float32")
            object.__setattr__(self, name, beta)
        for name in ("learning_rate", "epsilon", "clip_norm"):
            given = getattr(self, name)
            if name == "clip_norm" and given is None:
                continue
            value = _number(name, given)
            if not _SMALLEST <= value <= _LARGEST:
                raise ConfigError(
                    f"{name}={given!r} must be positive and finite in float32: 1.2e-38 to 3.4e+38"
                )
            object.__setattr__(self, name, value)
        # What a step of Adam's multiplies with is at most this and, at first, at least that.
        largest = self.learning_rate / (1.0 - self.beta_1)
        least_rate = self.learning_rate * math.sqrt(1.0 - self.beta_2)
        if not (least_rate >= _SMALLEST and largest <= _LARGEST):
            raise ConfigError(
                f"learning_rate={self.learning_rate!r} leaves float32 with beta_1={self.beta_1} "
                f"and beta_2={self.beta_2}; choose one nearer to 0.001"
            )


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.floating, np.integer)):
        raise ConfigError(f"{name}={value!r} is not a number")
    try:
        return float(value)
    except OverflowError:
        return math.inf


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

    After an EpochResult, the model is exactly what was trained so far, and so it is when the
    iterator has ended, was closed or has raised. Between, rows of ``embedding.weight`` may lag
    behind: see ``Adam``.

    Each epoch shuffles by ``initializers.permutation(seed, "shuffle epoch N")``. With
    ``checkpoint``, the run's whole state is written there at the end of each epoch and about every
    ``checkpoint_seconds``, or more rarely if writing would take more than a twentieth of the time
    (0: after each step). Ctrl-C then finishes the step, writes it once more and raises
    TrainingInterrupted. ``resume`` goes on from that file if it is there, and ends with the same
    bits as a run that was never stopped; it warns if another instruction set or version of
    tidegate wrote it, for then they may differ.

    Raises TrainingError when the loss or the weights are not finite: the checkpoint then still
    holds the last good state. Raises ModelFileError or TrainingError for a checkpoint that is
    damaged or belongs to another run, OutputError for one that another run is using, and
    ConfigError for one that would be too large.
    """
    if not len(examples):
        raise ConfigError("there are no texts to train on; give at least one")
    with ExitStack() as held:
        if checkpoint is not None:
            check_checkpoint_size(model.config, config)
            held.enter_context(atomic.locked(checkpoint))
        run = _Run(model, examples, validation, config)
        if checkpoint is not None and resume and checkpoint.exists():
            yield from run.load(checkpoint)
        try:
            if checkpoint is None:
                yield from run.events()
            else:
                yield from _kept_events(run, checkpoint, checkpoint_seconds)
        finally:
            # Safe after any error: rows that lag behind are moved on as if without a gradient.
            run.optimizer.finish()


def _kept_events(run: _Run, path: Path, seconds: float) -> Iterator[StepResult | EpochResult]:
    """The run's events, with its checkpoint kept at ``path`` and Ctrl-C held until it is."""
    cost = 0.0  # of the last write
    saved_at = time.monotonic()
    with _held_interrupts() as interrupted:
        for event in run.events():
            # Read once: a signal that comes while the caller holds the event has to wait until the
            # next step, which will then be saved.
            stop = interrupted.is_set()
            begun = time.monotonic()
            due = begun - saved_at >= (max(seconds, CHECKPOINT_PAUSE * cost) if seconds else 0.0)
            if due or stop or isinstance(event, EpochResult):
                run.save(path)
                saved_at = time.monotonic()
                cost = saved_at - begun
            yield event
            if stop:
                raise run.interruption(path)
        if interrupted.is_set():  # while the caller had the last event
            raise run.interruption(path)


def history_size(epochs: int) -> int:
    """At most how many bytes the results of so many epochs take in a file's header."""
    widest = -1.2345678901234567e-300
    result = EpochResult(10**9, widest, widest, widest, widest, widest)
    return epochs * (storage.header_size([asdict(result)]) - storage.header_size([]))


def check_checkpoint_size(model: ModelConfig, config: TrainConfig) -> None:
    """ConfigError if a run's checkpoint would be too large a file; for use before training."""
    numbers = sum(math.prod(shape) for shape in model.parameter_shapes().values())
    # Weights and both moments; for each word, the step up to which it was brought.
    tensor_bytes = 3 * 4 * numbers + 8 * model.vocabulary_size
    header = storage.header_size({"run": {"model": model.to_json(), "training": asdict(config)}})
    storage.check_size(tensor_bytes, header + history_size(config.epochs), "checkpoint")


def is_finished(checkpoint: Path) -> bool:
    """Whether nothing is left to train in the run of a checkpoint. ModelFileError if unusable."""
    _, header = storage.read_tensors(checkpoint)
    try:
        return bool(header["progress"]["epoch"] > header["run"]["training"]["epochs"])
    except (KeyError, TypeError) as error:
        raise ModelFileError(
            f"{checkpoint} is not a usable checkpoint; remove it to start again"
        ) from error


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
        self.kept: _Progress | None = None  # where the checkpoint stands
        self.history: list[EpochResult] = []
        self.steps = -(-len(examples) // config.batch_size)

    @property
    def ended(self) -> bool:
        """Whether nothing is left to train."""
        return self.progress.epoch > self.config.epochs

    def events(self) -> Iterator[StepResult | EpochResult]:
        """From where the run stands to its end."""
        while not self.ended:
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

    def _step(self, rows: npt.NDArray[np.int64]) -> None:
        model, progress = self.model, self.progress
        batch = model.pack(self.examples.texts, rows)
        self.optimizer.prepare(batch.words)
        logits, backward = model(batch)
        targets = self.examples.targets[rows[batch.rows]]
        loss, d_logits, correct = model.loss(logits, targets)
        if not math.isfinite(loss):
            raise self._divergence(
                f"the loss is {loss} in epoch {progress.epoch}, step {progress.step + 1}"
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
        if not self._finite():
            raise self._divergence(f"the weights are not finite at the end of epoch {done.epoch}")
        val = None
        if self.validation is not None and len(self.validation):
            val = evaluate(self.model, self.validation)
            if not math.isfinite(val.loss):
                raise self._divergence(f"val_loss is {val.loss} at the end of epoch {done.epoch}")
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

    def _finite(self) -> bool:
        """Whether every weight is a finite number, and every moment of Adam's."""
        arrays = (*self.model.parameters.values(), *self.optimizer.state().values())
        return all(np.isfinite(array).all() for array in arrays)

    def _divergence(self, what: str) -> TrainingError:
        mend = "" if self.config.clip_norm is not None else " or set clip_norm=1"
        return TrainingError(f"{what}; lower learning_rate={self.config.learning_rate:g}{mend}")

    # --- checkpoints

    @cached_property
    def _identity(self) -> dict[str, Any]:
        """All that a checkpoint must have in common with the run that loads it."""
        digest = hashlib.sha256()
        for part in (self.examples, self.validation):
            if part is None:
                digest.update(b"none")
                continue
            for array, dtype in (
                (part.texts.token_ids, "<i4"),
                (part.texts.offsets, "<i8"),
                (part.targets, "<i4"),
            ):
                digest.update(str(array.shape).encode())
                digest.update(np.ascontiguousarray(array, dtype).data)
        return {
            "model": self.model.config.to_json(),
            "training": asdict(self.config),
            "data": digest.hexdigest(),
        }

    def save(self, path: Path) -> None:
        """Write the checkpoint, unless a number is not finite: then the old one stays."""
        if not self._finite():
            return
        tensors: dict[str, npt.NDArray[Any]] = dict(self.model.parameters)
        tensors.update(self.optimizer.state())
        header: dict[str, Any] = {
            "kind": "checkpoint",
            "run": self._identity,
            "made_by": _maker(),
            "optimizer_steps": self.optimizer.step_count,
            "progress": asdict(self.progress),
            "history": [asdict(result) for result in self.history],
        }
        storage.write_tensors(path, tensors, header)
        self.kept = replace(self.progress)

    def load(self, path: Path) -> list[EpochResult]:
        """Continue from the checkpoint; the results of the epochs that it has behind it.

        Nothing is changed by one that can't be used.
        """
        tensors, header = storage.read_tensors(path)
        if header.get("kind") != "checkpoint":
            raise ModelFileError(f"{path} is a model, not a checkpoint")
        different = _differences(self._identity, header.get("run"))
        if different:
            raise TrainingError(
                f"{path} belongs to a run with other data or options ({different}); use the same "
                "ones, or remove it to start again"
            )
        try:
            for name, own in self.model.parameters.items():
                if tensors[name].shape != own.shape or tensors[name].dtype != own.dtype:
                    raise ShapeError(f"{name} does not fit the model")
            done = _from_fields(_Progress, header["progress"])
            history = [EpochResult.from_json(result) for result in header["history"]]
            if not (1 <= done.epoch <= self.config.epochs + 1 and done.step <= self.steps):
                raise DataError(f"epoch {done.epoch}, step {done.step} lies outside the run")
            if len(history) != done.epoch - 1 or done.correct > done.texts:
                raise DataError("its results do not fit its place in the run")
            self.optimizer.restore(header["optimizer_steps"], tensors)
        except (KeyError, TypeError, ShapeError, DataError) as error:
            raise ModelFileError(
                f"{path} is not a usable checkpoint ({error}); remove it to start again"
            ) from error
        for name, own in self.model.parameters.items():
            own[...] = tensors[name]
        self.progress, self.kept, self.history = done, replace(done), history
        if header.get("made_by") != _maker() and not self.ended:
            warnings.warn(
                f"{path} was written by {_maker_name(header.get('made_by'))} and goes on with "
                f"{_maker_name(_maker())}: the model may differ in its last bits from one that "
                "was trained without a change",
                stacklevel=2,
            )
        return list(history)

    def interruption(self, path: Path) -> TrainingInterrupted:
        """What to tell the user who stopped the run, and what the checkpoint holds of it."""
        stopped = f"stopped {_place(self.progress)}"
        go_on = "go on with --resume (resume=True)"
        if self.kept == self.progress:
            return TrainingInterrupted(f"{stopped}; {path} keeps everything: {go_on}")
        if self.kept is not None:
            stopped += f", with numbers that are not finite; {path} keeps the run as it was"
            return TrainingInterrupted(f"{stopped} {_place(self.kept)}: {go_on}")
        return TrainingInterrupted(
            f"{stopped}, with numbers that are not finite; nothing was kept of this run"
        )


def _place(progress: _Progress) -> str:
    if progress.step:
        return f"in epoch {progress.epoch} after step {progress.step}"
    return f"after epoch {progress.epoch - 1}" if progress.epoch > 1 else "at the start"


def _maker() -> dict[str, str]:
    """What a run's bits depend on besides the run: it is not the same on every machine."""
    return {"tidegate": tidegate.__version__, "isa": ops.isa()}


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
    return ", ".join(found) or "other texts or labels"


@contextmanager
def _held_interrupts() -> Iterator[threading.Event]:
    """While it lasts, the first Ctrl-C only sets the event; a second one acts as usual.

    Nothing is held where Ctrl-C can't or must not come: off the main thread, and in a process that
    ignores it. One that set the event too late to be heeded inside acts as usual at the end.
    """
    interrupted = threading.Event()
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before in (
        signal.SIG_IGN,
        None,  # not Python's, and so not ours to put back
    ):
        yield interrupted
        return

    def note(signal_number: int, frame: FrameType | None) -> None:
        interrupted.set()
        signal.signal(signal.SIGINT, before)

    try:
        signal.signal(signal.SIGINT, note)
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)
    if interrupted.is_set():
        signal.raise_signal(signal.SIGINT)
