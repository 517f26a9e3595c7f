"""Runs that meet their limits: other runs, other machines, Ctrl-C, and numbers without end."""

from __future__ import annotations

import itertools
import json
import math
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from test_training import (
    CONFIG,
    EXAMPLES,
    MODEL,
    STEPS,
    VALIDATION,
    Events,
    bits,
    collect,
    finish_child,
    run,
    start_child,
    without_seconds,
)
from tidegate import TextClassifier, ops, storage, training
from tidegate import checkpoint as checkpoints
from tidegate.errors import ConfigError, OutputError, TrainingError, TrainingInterrupted
from tidegate.model import ModelConfig, TextModel
from tidegate.optim import Adam
from tidegate.training import EpochResult, StepResult, TrainConfig, train_steps

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def one_thread(restored_threads: None) -> None:
    ops.set_threads(1)


def begin(
    path: Path | None, config: TrainConfig = CONFIG, **options: Any
) -> tuple[TextModel, Iterator[StepResult | EpochResult]]:
    model = TextModel.initialize(MODEL, 0)
    options.setdefault("checkpoint_seconds", 0)
    return model, train_steps(model, EXAMPLES, VALIDATION, config, checkpoint=path, **options)


@pytest.fixture(scope="module")
def whole() -> tuple[str, Events]:
    """A run that nothing stopped."""
    model, events = run()
    return bits(model), events


# --- one run at a time -------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="the system has no such locks")
def test_a_checkpoint_serves_one_run_at_a_time(tmp_path: Path) -> None:
    child = start_child(tmp_path, 0)
    assert child.stdout is not None
    child.stdout.readline()
    path = tmp_path / "checkpoint"
    for resume in (False, True):
        with pytest.raises(OutputError, match="checkpoint' is in use by another run; wait"):
            next(begin(path, resume=resume)[1])
    child.kill()
    child.communicate()
    expected, _ = run()
    wanted = storage.write_tensors(tmp_path / "expected", expected.parameters, {})
    assert finish_child(tmp_path) == wanted
    assert sorted(os.listdir(tmp_path)) == ["checkpoint", "expected", "model"]


def test_a_run_that_was_left_is_no_obstacle_to_its_own_thread(tmp_path: Path) -> None:
    """As in a notebook, where a traceback keeps the iterator alive."""
    _, left = begin(tmp_path / "checkpoint")
    next(left)
    run(checkpoint=tmp_path / "checkpoint", resume=True)


# --- the model between, after and instead of results -------------------------------------------


SINGLY = replace(CONFIG, batch_size=1)


def dense(monkeypatch: pytest.MonkeyPatch, steps: int) -> str:
    """The bits after so many steps when every row of the embedding moves at every step."""
    adams = []
    prepare = Adam.prepare

    def prepare_all(adam: Adam, words: Any) -> None:
        adams.append(adam)
        prepare(adam, None)

    with monkeypatch.context() as patch:
        patch.setattr(Adam, "prepare", prepare_all)
        model, running = begin(None, SINGLY)
        for _ in range(steps):
            next(running)
        prepare(adams[0], None)
        return bits(model)


@pytest.mark.parametrize("steps", [2, 17])
@pytest.mark.parametrize("ending", ["close", "error"])
def test_the_model_is_whole_when_training_ends_early(
    steps: int, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = dense(monkeypatch, steps)
    model, running = begin(None, SINGLY)
    for _ in range(steps):
        next(running)
    assert bits(model) != expected  # rows lag behind
    if ending == "close":
        running.close()  # type: ignore[attr-defined]
    else:
        monkeypatch.setattr(model, "pack", None)
        with pytest.raises(TypeError):
            next(running)
    assert bits(model) == expected


def test_the_model_is_whole_after_each_epoch(whole: tuple[str, Events]) -> None:
    model, running = begin(None, replace(CONFIG, epochs=5))
    found = [bits(model) for event in running if isinstance(event, EpochResult)]
    assert found[1] == whole[0]
    assert found[-1] == bits(model)


# --- numbers that are not finite ---------------------------------------------------------------


def spoil(model: TextModel, monkeypatch: pytest.MonkeyPatch, at: int, what: str) -> None:
    """Make a number infinite in a step of the optimizer's, as a step too long would."""
    step, calls = Adam.step, iter(range(1, 99))

    def spoiled(adam: Adam, gradients: Any) -> None:
        step(adam, gradients)
        if next(calls) == at:
            arrays: Any = {
                "weight": adam.parameters,
                "first moment": adam.first,
                "second moment": adam.second,
            }[what]
            arrays["output.kernel"][2] = np.inf

    monkeypatch.setattr(Adam, "step", spoiled)


@pytest.mark.parametrize("what", ["weight", "second moment"])
def test_an_epoch_that_ends_without_finite_numbers_is_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """In the last step, when no loss is computed with it any more."""
    path = tmp_path / "checkpoint"
    model, running = begin(path)
    spoil(model, monkeypatch, 2 * STEPS, what)
    events: Events = []
    message = "the weights are not finite at the end of epoch 2; lower learning_rate=0.01 or set"
    with pytest.raises(TrainingError, match=message):
        collect(running, events)
    assert sum(isinstance(event, EpochResult) for event in events) == 1
    tensors, header = storage.read_tensors(path)
    assert header["progress"]["step"] == STEPS - 1
    assert all(np.isfinite(array).all() for array in tensors.values())


def test_a_validation_loss_that_is_not_finite_is_no_result(tmp_path: Path) -> None:
    model, running = begin(tmp_path / "checkpoint", replace(CONFIG, clip_norm=1.0))
    next(running)
    # Finite, and far too large to be added up.
    huge = {name: np.full_like(value, 3e38) for name, value in model.parameters.items()}
    step = Adam.step

    def explode(adam: Adam, gradients: Any) -> None:
        step(adam, gradients)
        if adam.step_count == STEPS:
            for name, value in huge.items():
                adam.parameters[name][...] = value

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Adam, "step", explode)
        message = r"val_loss is (inf|nan) at the end of epoch 1; lower learning_rate=0\.01$"
        with pytest.raises(TrainingError, match=message):
            collect(running, [])


def test_a_classifier_that_diverges_is_not_fitted() -> None:
    texts, labels = ["good film", "bad film"] * 8, ["yes", "no"] * 8
    classifier = TextClassifier(cell="rnn", epochs=1, learning_rate=3e37)
    with pytest.raises(TrainingError):
        classifier.fit(texts, labels)
    assert not hasattr(classifier, "model_")


# --- Ctrl-C ------------------------------------------------------------------------------------


def interrupt(seen: Events, after: int, running: Iterator[StepResult | EpochResult]) -> None:
    for event in running:
        seen.append(event)
        if len(seen) == after:
            signal.raise_signal(signal.SIGINT)


def test_ctrl_c_after_the_last_event_is_heeded(tmp_path: Path, whole: tuple[str, Events]) -> None:
    path = tmp_path / "checkpoint"
    before = signal.getsignal(signal.SIGINT)
    seen: Events = []
    message = r"stopped after epoch 2; .*checkpoint keeps everything: go on with --resume"
    with pytest.raises(TrainingInterrupted, match=message):
        interrupt(seen, 2 * (STEPS + 1), begin(path, checkpoint_seconds=1e9)[1])
    assert without_seconds(seen) == without_seconds(whole[1])
    assert signal.getsignal(signal.SIGINT) is before
    model, events = run(checkpoint=path, resume=True)
    assert bits(model) == whole[0]
    assert [type(event) for event in events] == [EpochResult, EpochResult]
    assert os.listdir(tmp_path) == ["checkpoint"]


def test_ctrl_c_too_late_to_be_heeded_acts_as_usual() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), training._held_interrupts():
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("after", [1, STEPS])
def test_ctrl_c_says_what_the_checkpoint_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """It was not written again, for what there was to write had become infinite."""
    path = tmp_path / "checkpoint"
    model, running = begin(path, checkpoint_seconds=0)
    spoil(model, monkeypatch, after + 1, "first moment")
    place = f"in epoch 1 after step {after + 1}" if after < STEPS else "in epoch 2 after step 1"
    kept = f"in epoch 1 after step {after}" if after < STEPS else "after epoch 1"
    message = f"stopped {place}, with numbers that are not finite; .* as it was {kept}: go on with"
    with pytest.raises(TrainingInterrupted, match=message):
        interrupt([], after if after < STEPS else STEPS + 1, running)
    assert storage.read_tensors(path)[1]["progress"]["step"] == after % STEPS


def test_ctrl_c_says_when_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "checkpoint"
    path.write_bytes(b"of another run")
    model, running = begin(path, checkpoint_seconds=1e9)
    spoil(model, monkeypatch, 1, "first moment")
    with pytest.raises(
        TrainingInterrupted, match=r"after step 2, .*; nothing was kept of this run"
    ):
        interrupt([], 1, running)
    assert path.read_bytes() == b"of another run"


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="the system has no SIGHUP")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_other_signals_are_held_if_they_are_handled(tmp_path: Path, name: str) -> None:
    """As Ctrl-C is, but for the second one: a terminal that closes and its shell both send it."""
    number = getattr(signal, name)
    caught: list[int] = []

    def handler(*arguments: Any) -> None:
        caught.append(arguments[0])

    before = signal.signal(number, handler)
    try:
        running = begin(tmp_path / "checkpoint", checkpoint_seconds=1e9)[1]
        next(running)
        signal.raise_signal(number)
        signal.raise_signal(number)
        with pytest.raises(TrainingInterrupted, match="stopped in epoch 1 after step 2") as stop:
            list(running)
        assert stop.value.signal_number == number
        assert signal.getsignal(number) is handler
        assert caught == []
    finally:
        signal.signal(number, before)


def test_a_full_disk_says_what_the_checkpoint_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoint"
    write = storage.write_tensors

    def full(*arguments: Any, **options: Any) -> str:
        raise OutputError("can't write 'checkpoint': No space left on device; free some space")

    running = begin(path)[1]
    monkeypatch.setattr(storage, "write_tensors", full)
    with pytest.raises(OutputError, match="free some space; nothing was kept of this run"):
        next(running)
    monkeypatch.setattr(storage, "write_tensors", write)
    running = begin(path)[1]
    next(running)
    monkeypatch.setattr(storage, "write_tensors", full)
    told = r"checkpoint keeps the run as it was in epoch 1 after step 1: go on with --resume"
    with pytest.raises(OutputError, match=f"free some space; .*{told}"):
        next(running)


def test_who_ignores_ctrl_c_goes_on_ignoring_it(tmp_path: Path, whole: tuple[str, Events]) -> None:
    """As a shell's background jobs do."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        seen: Events = []
        interrupt(seen, 3, begin(tmp_path / "checkpoint")[1])
        assert without_seconds(seen) == without_seconds(whole[1])
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


# --- when a checkpoint is written --------------------------------------------------------------


@pytest.mark.parametrize(
    ("write_seconds", "steps_between"), [(0.0, 20), (0.5, 20), (1.0, 20), (3.0, 60)]
)
def test_writing_takes_a_twentieth_of_the_time_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_seconds: float, steps_between: int
) -> None:
    """Steps of a second each by this clock."""
    now = 0.0
    written: list[float] = []
    write = storage.write_tensors

    def slow_write(*arguments: Any) -> str:
        nonlocal now
        written.append(now)
        now += write_seconds
        return write(*arguments)

    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(storage, "write_tensors", slow_write)
    config = replace(CONFIG, batch_size=1, epochs=4)
    _, running = begin(tmp_path / "checkpoint", config, checkpoint_seconds=20.0)
    for event in running:
        now += 1 if isinstance(event, StepResult) else 0
    # 60 steps an epoch; the first write comes when due, and the others a pause after its end.
    pauses = [
        round(later - earlier - write_seconds) for earlier, later in itertools.pairwise(written)
    ]
    assert min(pauses) >= min(steps_between, 20)
    assert max(pauses) == steps_between
    assert written[0] == 20


# --- files that would be too large -------------------------------------------------------------


def test_a_run_whose_checkpoint_would_be_too_large_does_not_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoint"
    model, _ = run(checkpoint=path)
    size = path.stat().st_size
    monkeypatch.setattr(storage, "MAX_FILE_BYTES", size - 1)
    untouched = bits(TextModel.initialize(MODEL, 0))
    model, running = begin(path)
    with pytest.raises(ConfigError, match=r"the checkpoint would have .* choose a smaller vocab"):
        next(running)
    assert bits(model) == untouched
    assert path.stat().st_size == size


def test_giants_are_refused_before_they_take_memory() -> None:
    giant = ModelConfig(vocabulary_size=3_000_000, embedding_size=128)
    with pytest.raises(ConfigError, match=r"the checkpoint would have 4,63\d,\d{3},\d{3} bytes"):
        checkpoints.check_checkpoint_size(giant, CONFIG)
    checkpoints.check_checkpoint_size(replace(giant, vocabulary_size=2_000_000), CONFIG)


def test_the_longest_history_there_may_be_has_room(tmp_path: Path) -> None:
    longest = TrainConfig(epochs=10_000)
    checkpoints.check_checkpoint_size(ModelConfig(), longest)
    result = {"epoch": 10_000, "loss": 1 / 3, "accuracy": 1 / 7, "seconds": 1e3 / 3}
    history = [{**result, "val_loss": 2 / 3, "val_accuracy": 1 / 9}] * longest.epochs
    text = json.dumps(json.dumps(history, separators=(",", ":")))
    assert len(text) < checkpoints.history_size(longest.epochs) < storage.MAX_HEADER_BYTES
    storage.write_tensors(tmp_path / "model", {}, {"history": history})


def test_labels_too_long_for_a_model_file_are_refused_before_training() -> None:
    texts, labels = ["good film", "bad film"] * 8, ["y" * 3_000_000, "n" * 3_000_000] * 8
    classifier = TextClassifier(epochs=1)
    with pytest.raises(ConfigError, match=r"the model's header would have .* shorter labels"):
        next(classifier.fit_steps(texts, labels))


def test_a_model_too_large_for_its_file_is_refused_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts, labels = ["good film", "bad film"] * 8, ["yes", "no"] * 8
    classifier = TextClassifier(epochs=1).fit(texts, labels)
    classifier.save(tmp_path / "model")
    size = (tmp_path / "model").stat().st_size
    monkeypatch.setattr(storage, "MAX_FILE_BYTES", size + 100_000)
    classifier.fit(texts, labels)
    steps = classifier.fit_steps(texts, labels, checkpoint=tmp_path / "checkpoint")
    with pytest.raises(ConfigError, match="the checkpoint would have"):
        next(steps)
    monkeypatch.setattr(storage, "MAX_FILE_BYTES", size - 100)
    with pytest.raises(ConfigError, match="the model would have"):
        classifier.fit(texts, labels)


# --- which run a checkpoint belongs to ---------------------------------------------------------


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Of a run after its sixth event, the first step of epoch 2."""
    path = tmp_path / "checkpoint"
    _, running = begin(path)
    for _ in range(6):
        next(running)
    running.close()  # type: ignore[attr-defined]
    return path


def test_the_same_run_in_other_numbers_goes_on(checkpoint: Path, whole: tuple[str, Events]) -> None:
    numbers: dict[str, Any] = {
        "epochs": np.int64(2),
        "batch_size": np.int32(16),
        "seed": np.uint8(0),
    }
    same = TrainConfig(**numbers, learning_rate=np.float64(0.01))
    sized: dict[str, Any] = {"hidden_size": np.int64(9)}
    model = TextModel.initialize(replace(MODEL, **sized), 0)
    list(train_steps(model, EXAMPLES, VALIDATION, same, checkpoint=checkpoint, resume=True))
    assert bits(model) == whole[0]


def test_what_differs_is_named(checkpoint: Path) -> None:
    config = replace(CONFIG, epochs=3, clip_norm=1)
    message = r"\(epochs=2 there, 3 here, clip_norm=None there, 1\.0 here\); use the same ones"
    with pytest.raises(TrainingError, match=message):
        next(begin(checkpoint, config, resume=True)[1])
    other = replace(EXAMPLES, targets=1 - EXAMPLES.targets)
    model = TextModel.initialize(MODEL, 0)
    with pytest.raises(TrainingError, match=r"\(other texts or labels\)"):
        next(train_steps(model, other, VALIDATION, CONFIG, checkpoint=checkpoint, resume=True))


@pytest.mark.parametrize("stored", [None, 5, [], {}, {"model": 1, "training": {"epochs": []}}])
def test_what_differs_may_be_anything(checkpoint: Path, stored: Any) -> None:
    tensors, header = storage.read_tensors(checkpoint)
    storage.write_tensors(checkpoint, tensors, {**header, "run": stored})
    with pytest.raises(TrainingError, match="belongs to a run with other data or options"):
        next(begin(checkpoint, resume=True)[1])


def test_another_instruction_set_goes_on_with_a_warning(checkpoint: Path) -> None:
    _, header = storage.read_tensors(checkpoint)
    before, used = ops.isa(), ops.isa("float32")
    assert header["made_by"]["isa"] == used
    if used == "scalar":
        pytest.skip("the machine has one instruction set alone")
    ops.use_isa("scalar")
    try:
        model, running = begin(checkpoint, resume=True)
        with pytest.warns(UserWarning, match=f"on {used} and goes on with .* on scalar: "):
            events = list(running)
        assert isinstance(events[-1], EpochResult)
        assert math.isfinite(events[-1].loss)
        # Nothing is left to compute: no bit can differ.
        begin_again, finished = begin(checkpoint, resume=True)
        ops.use_isa(before)
        assert len(list(finished)) == CONFIG.epochs
        assert bits(begin_again) == bits(model)
    finally:
        ops.use_isa(before)


@pytest.mark.parametrize("maker", [None, "x", {"isa": ["y" * 999]}])
def test_whoever_wrote_it_may_be_anything(checkpoint: Path, maker: Any) -> None:
    tensors, header = storage.read_tensors(checkpoint)
    storage.write_tensors(checkpoint, tensors, {**header, "made_by": maker})
    with pytest.warns(UserWarning, match="may differ in its last bits") as caught:
        next(begin(checkpoint, resume=True)[1])
    assert len(str(caught[0].message)) < 400


def test_a_checkpoint_that_can_not_be_used_changes_nothing(checkpoint: Path) -> None:
    tensors, header = storage.read_tensors(checkpoint)
    tensors["adam.second.output.bias"] = np.zeros(7, np.float32)
    storage.write_tensors(checkpoint, tensors, header)
    model, running = begin(checkpoint, resume=True)
    untouched = bits(model)
    with pytest.raises(ValueError, match="is not a usable checkpoint"):
        next(running)
    assert bits(model) == untouched


def test_whether_a_run_is_finished(checkpoint: Path) -> None:
    assert not checkpoints.is_finished(checkpoint)
    run(checkpoint=checkpoint, resume=True)
    assert checkpoints.is_finished(checkpoint)
    storage.write_tensors(checkpoint, {}, {"kind": "checkpoint", "progress": {"epoch": "x"}})
    with pytest.raises(ValueError, match="is not a usable checkpoint"):
        checkpoints.is_finished(checkpoint)
