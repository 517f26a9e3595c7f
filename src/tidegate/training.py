"""Training: a generator of results, with checkpoints that go on bit for bit."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import numpy.typing as npt

from tidegate import atomic, initializers
from tidegate.checkpoint import Checkpoint, all_finite, check_checkpoint_size, identity
from tidegate.errors import ConfigError, TrainingError
from tidegate.layers import Gradients, RowGradients
from tidegate.metrics import LabeledSet, evaluate
from tidegate.model import TextModel
from tidegate.noise import Noise
from tidegate.optim import Adam, learning_rates
from tidegate.records import (
    EpochResult,
    Progress,
    StepResult,
    TrainConfig,
    best_epoch,
    is_ended,
    kept_weights,
)

__all__ = ["EpochResult", "StepResult", "TrainConfig", "train", "train_steps"]

Float32 = npt.NDArray[np.float32]

CHECKPOINT_SECONDS = 20.0
# Between two checkpoints lies at least this many times the time that writing one takes.
CHECKPOINT_PAUSE = 20.0
_AVERAGED_STEPS = 8


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
    start: str | None = None,
    vectors: str | None = None,
    frozen: npt.NDArray[np.bool_] | None = None,
) -> Iterator[StepResult | EpochResult]:
    """Train ``model`` in place, yielding a StepResult a step and an EpochResult an epoch.

    After an EpochResult, the model is exactly what was trained so far, and so it is when the
    iterator has ended, was closed or has raised. Between, rows of ``embedding.weight`` may lag
    behind: see ``Adam``. With config.average or config.patience, the last EpochResult leaves the
    averaged or best weights in the model.

    Each epoch shuffles by ``initializers.permutation(seed, "shuffle epoch N")``. With
    ``checkpoint``, the run's whole state is written there at the end of each epoch and about every
    ``checkpoint_seconds``, or more rarely if writing would take more than a twentieth of the time
    (0: after each step). Ctrl-C then finishes the step, writes it once more and raises
    TrainingInterrupted; so do SIGTERM and SIGHUP in a program that handles them in Python.
    start: what tells initial weights that are no new model's from others, for the checkpoint.
    vectors: the name of a file that some of them came from, for the checkpoint, too. frozen:
    [vocabulary] which words' vectors stay as they are; a checkpoint's own count if it goes on.
    ``resume`` goes on from that file if it is there, and ends with the same bits as a run that was
    never stopped; it warns if another instruction set or version of tidegate wrote it, for then
    they may differ.

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
        run = _Run(model, examples, validation, config, frozen=frozen)
        file = None
        if checkpoint is not None:
            run_identity = identity(model, config, examples, validation)
            if start is not None:
                run_identity["start"] = start
            if vectors is not None:
                run_identity["vectors"] = {"file": vectors, "frozen": frozen is not None}
            file = Checkpoint(checkpoint, run_identity)
            if resume and checkpoint.exists():
                run.progress, run.history = file.load(
                    model, run.optimizer, config, run.steps, run.kept
                )
                yield from list(run.history)
        try:
            if file is None:
                yield from run.events()
            else:
                yield from _kept_events(run, file, checkpoint_seconds)
        finally:
            # Safe after any error: rows that lag behind are moved on as if without a gradient.
            run.optimizer.finish()


def train_pass(
    model: TextModel, examples: LabeledSet, config: TrainConfig, optimizer: Adam, number: int
) -> EpochResult:
    """Train ``model`` in place by one epoch of this number, and Adam on from where it stands.

    optimizer: of the model's parameters, as ``make_adam`` makes it of a config with the same
    settings. Raises TrainingError as ``train_steps`` does.
    """
    run = _Run(model, examples, None, replace(config, epochs=1), optimizer)
    run.progress.epoch = number
    try:
        for _ in run.events():
            pass
    finally:
        optimizer.finish()
    return run.history[-1]


def make_adam(parameters: Mapping[str, Float32], config: TrainConfig, steps: int = 0) -> Adam:
    """Adam with the config's settings, for as many steps in all."""
    return Adam(
        parameters,
        row_parameters=("embedding.weight",),
        learning_rate=config.learning_rate,
        beta_1=config.beta_1,
        beta_2=config.beta_2,
        epsilon=config.epsilon,
        clip_norm=config.clip_norm,
        weight_decay=config.weight_decay,
        schedule=learning_rates(config.schedule, config.warmup, steps),
    )


def _kept_events(run: _Run, file: Checkpoint, seconds: float) -> Iterator[StepResult | EpochResult]:
    """The run's events, with its checkpoint kept and signals to stop held until it is."""
    cost = 0.0  # of the last write
    saved_at = time.monotonic()
    with _held_interrupts() as interrupted:
        for event in run.events():
            # Read once: a signal that comes while the caller holds the event has to wait until the
            # next step, which will then be saved.
            stop = interrupted.by
            begun = time.monotonic()
            due = begun - saved_at >= (max(seconds, CHECKPOINT_PAUSE * cost) if seconds else 0.0)
            if due or stop is not None or isinstance(event, EpochResult):
                file.save(run.model, run.optimizer, run.progress, run.history, run.kept)
                saved_at = time.monotonic()
                cost = saved_at - begun
            yield event
            if stop is not None:
                raise file.interruption(run.progress, stop)
        if interrupted.by is not None:  # while the caller had the last event
            raise file.interruption(run.progress, interrupted.by)


class _Run:
    """One training run, and what changes while it goes on."""

    def __init__(
        self,
        model: TextModel,
        examples: LabeledSet,
        validation: LabeledSet | None,
        config: TrainConfig,
        optimizer: Adam | None = None,
        frozen: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        self.model = model
        self.examples = examples
        self.validation = validation
        self.config = config
        self.steps = -(-len(examples) // config.batch_size)
        if optimizer is None:
            optimizer = make_adam(model.parameters, config, self.steps * config.epochs)
        self.optimizer = optimizer
        self.progress = Progress()
        self.history: list[EpochResult] = []
        # Copies of all weights beside those that are trained.
        self.kept: dict[str, dict[str, Float32]] = {
            name: {key: value.copy() for key, value in model.parameters.items()}
            for name in kept_weights(config)
        }
        if frozen is not None:  # a checkpoint has to know it: nothing else needs the vectors' file
            self.kept["frozen"] = {"words": frozen.astype(np.float32)}

    @property
    def ended(self) -> bool:
        """Whether nothing is left to train."""
        return is_ended(self.history, self.config.epochs, self.config.patience)

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
        model, progress, config = self.model, self.progress, self.config
        step = f"epoch {progress.epoch} step {progress.step + 1}"
        noise = Noise(config.dropout, config.seed, step)
        batch = model.pack(self.examples.texts, rows, noise)
        self.optimizer.prepare(batch.words)
        logits, backward = model(batch, noise)
        packed = rows[batch.rows]
        weights = self.examples.weights
        loss, d_logits, correct = model.loss(
            logits,
            self.examples.targets[packed],
            None if weights is None else weights[packed],
            config.label_smoothing,
        )
        if not math.isfinite(loss):
            raise self._divergence(
                f"the loss is {loss} in epoch {progress.epoch}, step {progress.step + 1}"
            )
        gradients: Gradients = {}
        backward(d_logits, gradients)
        self._freeze(gradients)
        self.optimizer.step(gradients)
        self._average()
        progress.step += 1
        progress.texts += len(rows)
        progress.loss_sum += loss * len(rows)
        progress.correct += correct

    def _freeze(self, gradients: Gradients) -> None:
        """Leave the frozen words no gradient: Adam's moments stay zero, and so do its steps."""
        words = gradients["embedding.weight"]
        if "frozen" in self.kept and isinstance(words, RowGradients):
            words.values[self.kept["frozen"]["words"][words.rows] > 0.0] = 0.0

    def _average(self) -> None:
        """Move the averaged weights on, after every so many steps as if after each of them.

        At first the average is of few steps, so that it forgets the initial weights.
        """
        average, done = self.kept.get("average"), self.optimizer.step_count
        in_epoch = self.progress.step + 1
        if average is None or (done % _AVERAGED_STEPS and in_epoch < self.steps):
            return
        self.optimizer.finish()  # rows that lag behind would be averaged late
        steps = min(done % _AVERAGED_STEPS or _AVERAGED_STEPS, in_epoch)  # since the last time
        decay = min(self.config.average, (1 + done) / (10 + done)) ** steps
        for name, value in self.model.parameters.items():
            average[name] += np.float32(1.0 - decay) * (value - average[name])

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
        if not all_finite(self.model, self.optimizer):
            raise self._divergence(f"the weights are not finite at the end of epoch {done.epoch}")
        val = None
        if self.validation is not None and len(self.validation):
            val = evaluate(self._candidate(), self.validation)
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
        self.progress = Progress(epoch=done.epoch + 1)
        best = self.kept.get("best")
        if best is not None and best_epoch(self.history) in (0, done.epoch):
            _copy(self._candidate().parameters, best)
        if self.ended:
            _copy(self._candidate().parameters if best is None else best, self.model.parameters)
        return result

    def _candidate(self) -> TextModel:
        """The model as it would be kept if training ended here."""
        average = self.kept.get("average")
        if average is None:
            return self.model
        return TextModel(self.model.config, average, self.model.precision)

    def _divergence(self, what: str) -> TrainingError:
        mend = "" if self.config.clip_norm is not None else " or set clip_norm=1"
        return TrainingError(f"{what}; lower learning_rate={self.config.learning_rate:g}{mend}")


def _copy(source: Mapping[str, Float32], target: Mapping[str, Float32]) -> None:
    for name, value in target.items():
        value[...] = source[name]


@dataclass
class _Interrupt:
    by: int | None = None  # the number of the first signal that came


@contextmanager
def _held_interrupts() -> Iterator[_Interrupt]:
    """While it lasts, signals to stop are only noted; but a second one acts as usual if Ctrl-C.

    The others come twice by themselves: from a terminal that closes and from its shell. Nothing is
    held where it can't or must not be: off the main thread, and what the process ignores or leaves
    to the system. A signal that came too late to be heeded inside acts as usual at the end.
    """
    interrupt = _Interrupt()
    held: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        numbers = [signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)]
        handlers = {number: signal.getsignal(number) for number in numbers}
        # What is no function is ignored, the system's, or not Python's and not ours to put back.
        held = {number: handler for number, handler in handlers.items() if callable(handler)}

    def note(signal_number: int, frame: FrameType | None) -> None:
        if interrupt.by is None:
            interrupt.by = signal_number
        if signal.SIGINT in held:
            signal.signal(signal.SIGINT, held[signal.SIGINT])

    try:
        for number in held:
            signal.signal(number, note)
        yield interrupt
    finally:
        for number, handler in held.items():
            signal.signal(number, handler)
    if interrupt.by is not None:
        signal.raise_signal(interrupt.by)
