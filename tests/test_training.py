"""Training: what it learns, what it reports, and that stopping it changes no bit."""

from __future__ import annotations

import hashlib
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tidegate import initializers, ops, storage
from tidegate.batch import TokenizedTexts
from tidegate.errors import (
    ConfigError,
    DataError,
    ModelFileError,
    TrainingError,
    TrainingInterrupted,
)
from tidegate.layers import Gradients, RowGradients
from tidegate.metrics import LabeledSet, evaluate
from tidegate.model import ModelConfig, TextModel
from tidegate.optim import Adam
from tidegate.training import EpochResult, StepResult, TrainConfig, train, train_steps

VOCABULARY = 30
GOOD, BAD = 5, 6
MODEL = ModelConfig(
    vocabulary_size=VOCABULARY, embedding_size=6, hidden_size=9, max_length=8, masked=True
)
CONFIG = TrainConfig(epochs=2, batch_size=16, learning_rate=0.01)


def make_examples(count: int, seed: int = 0, classes: int = 2) -> LabeledSet:
    """Texts of noise with one telling word, whose number says the class."""
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, classes, count).astype(np.int32)
    rows = []
    for target in targets:
        row = generator.integers(10, VOCABULARY, generator.integers(1, 9))
        row[generator.integers(0, len(row))] = GOOD + target
        rows.append(row)
    return LabeledSet(TokenizedTexts.from_rows(rows), targets)


EXAMPLES, VALIDATION = make_examples(60), make_examples(20, seed=1)
STEPS = 4  # an epoch
Events = list[StepResult | EpochResult]


def bits(model: TextModel) -> str:
    digest = hashlib.sha256()
    for name in sorted(model.parameters):
        digest.update(model.parameters[name].tobytes())
    return digest.hexdigest()


def without_seconds(events: Events) -> list[dict[str, Any]]:
    return [{**asdict(event), "seconds": None} for event in events]


def run(config: TrainConfig = CONFIG, **options: Any) -> tuple[TextModel, Events]:
    model = TextModel.initialize(MODEL, config.seed)
    return model, list(train_steps(model, EXAMPLES, VALIDATION, config, **options))


@pytest.fixture(scope="module")
def whole() -> tuple[str, Events]:
    """A run that nothing stopped."""
    model, events = run()
    return bits(model), events


@pytest.fixture(autouse=True)
def one_thread(restored_threads: None) -> None:
    """Models so small that more threads would only wait for each other."""
    ops.set_threads(1)


# --- learning ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "reset"), [("gru", "after"), ("gru", "before"), ("lstm", "after"), ("rnn", "after")]
)
@pytest.mark.parametrize("masked", [True, False], ids=["masked", "unmasked"])
def test_every_cell_learns(cell: str, reset: str, masked: bool) -> None:
    model = TextModel.initialize(replace(MODEL, cell=cell, reset=reset, masked=masked), 0)
    before = evaluate(model, make_examples(300, seed=7))
    assert before.accuracy < 0.7
    config = TrainConfig(epochs=6, batch_size=16, learning_rate=0.02)
    results = list(train(model, make_examples(320), None, config))
    after = evaluate(model, make_examples(300, seed=7))
    assert after.accuracy > 0.95
    assert after.loss < 0.2
    assert results[-1].accuracy > 0.95


def test_several_classes_are_learned() -> None:
    model = TextModel.initialize(replace(MODEL, classes=4), 0)
    config = TrainConfig(epochs=8, batch_size=16, learning_rate=0.02)
    list(train(model, make_examples(320, classes=4), None, config))
    assert evaluate(model, make_examples(300, seed=7, classes=4)).accuracy > 0.95


def test_real_reviews_are_learned(real_reviews: Path) -> None:
    from tidegate import TextClassifier
    from tidegate.data import load_imdb

    dataset = load_imdb(real_reviews)
    assert dataset.test is not None
    rows = initializers.permutation(0, "reviews", len(dataset.train))[:6_000].tolist()
    few = dataset.train.select(rows)
    held_out = dataset.test.select(list(range(0, len(dataset.test), 25)))
    classifier = TextClassifier(
        vocabulary_size=4_000, embedding_size=32, hidden_size=32, max_length=100, epochs=4
    )
    classifier.fit(few.texts, few.labels)
    assert classifier.score(held_out.texts, held_out.labels) > 0.75


# --- what is reported --------------------------------------------------------------------------


def test_shuffles_never_change() -> None:
    order = initializers.permutation(0, "shuffle epoch 1", 10)
    assert order.tolist() == [0, 4, 8, 7, 9, 3, 1, 2, 5, 6]


def test_training_is_the_plain_loop(whole: tuple[str, Events]) -> None:
    """The same written out with dense Adam: every event and every bit."""
    model = TextModel.initialize(MODEL, 0)
    adam = Adam(model.parameters, learning_rate=0.01)
    expected: list[dict[str, Any]] = []
    for epoch in (1, 2):
        order = initializers.permutation(0, f"shuffle epoch {epoch}", 60)
        losses, rights, seen = 0.0, 0, 0
        for step in range(STEPS):
            rows = order[step * 16 : (step + 1) * 16]
            batch = model.pack(EXAMPLES.texts, rows)
            logits, backward = model(batch)
            loss, d_logits, right = model.loss(logits, EXAMPLES.targets[rows[batch.rows]])
            gradients: Gradients = {}
            backward(d_logits, gradients)
            sparse = gradients["embedding.weight"]
            assert isinstance(sparse, RowGradients)
            table = np.zeros_like(model.parameters["embedding.weight"])
            table[sparse.rows] = sparse.values
            adam.step({**gradients, "embedding.weight": table})
            losses, rights, seen = losses + loss * len(rows), rights + right, seen + len(rows)
            means = {"epoch": epoch, "loss": losses / seen, "accuracy": rights / seen}
            counts = {"step": step + 1, "steps": STEPS, "texts": seen, "total_texts": 60}
            expected.append({**means, **counts, "seconds": None})
        result = evaluate(model, VALIDATION)
        values = {"val_loss": result.loss, "val_accuracy": result.accuracy, "seconds": None}
        expected.append({**means, **values})
    assert without_seconds(whole[1]) == expected
    assert bits(model) == whole[0]
    assert seen == 60  # the last step is a small one: 12 texts


def test_seconds_grow_within_an_epoch(whole: tuple[str, Events]) -> None:
    _, events = whole
    for epoch in (1, 2):
        seconds = [event.seconds for event in events if event.epoch == epoch]
        assert seconds == sorted(seconds)
        assert seconds[0] > 0


def test_train_yields_the_epochs(whole: tuple[str, Events]) -> None:
    model = TextModel.initialize(MODEL, 0)
    results = list(train(model, EXAMPLES, VALIDATION, CONFIG))
    epochs: Events = [event for event in whole[1] if isinstance(event, EpochResult)]
    assert without_seconds(list(results)) == without_seconds(epochs)
    assert bits(model) == whole[0]


@pytest.mark.parametrize(
    "validation", [None, LabeledSet(TokenizedTexts.from_rows([]), np.zeros(0, np.int32))]
)
def test_without_validation_there_are_no_validation_values(validation: Any) -> None:
    model = TextModel.initialize(MODEL, 0)
    (result,) = train(model, EXAMPLES, validation, replace(CONFIG, epochs=1))
    assert (result.val_loss, result.val_accuracy) == (None, None)


def test_evaluation_by_hand() -> None:
    model = TextModel.initialize(MODEL, 0)
    model.parameters["output.kernel"][:] = 0
    model.parameters["output.bias"][:] = np.log(3)  # says 0.75 of class 1 to every text
    texts = TokenizedTexts.from_rows([[1], [2], [], [3], [4]])
    result = evaluate(model, LabeledSet(texts, np.array([1, 0, 1, 1, 0], np.int32)))
    assert result.accuracy == 0.6
    assert result.loss == pytest.approx(-(3 * math.log(0.75) + 2 * math.log(0.25)) / 5, rel=1e-6)
    assert result.texts == 5
    assert result.seconds > 0


def test_nothing_to_train_or_evaluate_on() -> None:
    nothing = LabeledSet(TokenizedTexts.from_rows([]), np.zeros(0, np.int32))
    model = TextModel.initialize(MODEL, 0)
    with pytest.raises(ConfigError, match="there are no texts to train on; give at least one"):
        next(train_steps(model, nothing, None, CONFIG))
    with pytest.raises(DataError, match="no texts to evaluate on"):
        evaluate(model, nothing)
    with pytest.raises(DataError, match="1 texts have 2 labels"):
        LabeledSet(TokenizedTexts.from_rows([[1]]), np.zeros(2, np.int32))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"epochs": 0}, "epochs=0 is not between 1 and 10,000"),
        ({"epochs": 1.5}, r"epochs=1\.5 is not a whole number"),
        ({"batch_size": -2}, "batch_size=-2 is not between 1 and 65,536"),
        ({"seed": -1}, "seed=-1 is not between 0"),
        ({"seed": None}, "seed=None is not a whole number"),
        ({"learning_rate": 0}, "learning_rate=0 must be positive and finite"),
        ({"learning_rate": -1e-3}, r"learning_rate=-0\.001 must be positive and finite"),
        ({"learning_rate": float("inf")}, "learning_rate=inf must be positive and finite"),
        ({"learning_rate": float("nan")}, "learning_rate=nan must be positive and finite"),
        ({"learning_rate": 1e39}, r"learning_rate=1e\+39 must be positive and finite in float32"),
        ({"learning_rate": 10**400}, "learning_rate=1000.* must be positive and finite"),
        ({"learning_rate": 1e-39}, "learning_rate=1e-39 must be positive and finite in float32"),
        ({"learning_rate": 3e38}, r"learning_rate=3e\+38 leaves float32 with beta_1=0\.9 and"),
        ({"learning_rate": 1.2e-38}, r"learning_rate=1\.2e-38 leaves float32 with .*=0\.999"),
        ({"learning_rate": "1"}, "learning_rate='1' is not a number"),
        ({"beta_1": 1.0}, r"beta_1=1\.0 must be not negative and below 1"),
        ({"beta_2": -0.1}, r"beta_2=-0\.1 must be not negative and below 1"),
        ({"beta_1": 1 - 1e-9}, r"beta_1=0\.999999999 must be not negative and below 1"),
        ({"beta_2": float("nan")}, "beta_2=nan must be not negative and below 1"),
        ({"epsilon": 1e-38}, r"epsilon=1e-38 must be .* in float32: 1\.2e-38 to 3\.4e\+38"),
        ({"epsilon": 0.0}, r"epsilon=0\.0 must be positive and finite"),
        ({"clip_norm": 0}, "clip_norm=0 must be positive and finite"),
        ({"clip_norm": 1e-40}, "clip_norm=1e-40 must be positive and finite in float32"),
        ({"clip_norm": True}, "clip_norm=True is not a number"),
    ],
)
def test_configs_that_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainConfig(**changed)


def test_numbers_at_the_ends_of_float32_are_trained_with() -> None:
    """NumPy would warn of an overflow, and warnings are errors here."""
    model, _ = run(replace(CONFIG, epochs=1, epsilon=1.2e-38, clip_norm=1.2e-38))
    assert np.isfinite(model.parameters["output.kernel"]).all()
    with pytest.raises(TrainingError):
        run(replace(CONFIG, epochs=1, learning_rate=3.4e37))


def test_one_number_is_one_config_whatever_its_type() -> None:
    config = TrainConfig(epochs=3, batch_size=64, clip_norm=1.0, seed=7)
    numbers: dict[str, Any] = {
        "epochs": np.int64(3),
        "batch_size": np.uint16(64),
        "learning_rate": np.float64(1e-3),
        "clip_norm": 1,
        "seed": np.int32(7),
    }
    assert repr(TrainConfig(**numbers)) == repr(config)
    sizes: dict[str, Any] = {"hidden_size": np.int64(9), "max_length": np.uint8(8)}
    sized = replace(MODEL, **sizes)
    assert repr(sized) == repr(MODEL)


def test_betas_may_be_zero() -> None:
    model, events = run(replace(CONFIG, beta_1=0.0, beta_2=0.0, epochs=1))
    assert all(math.isfinite(event.loss) for event in events)
    assert np.isfinite(model.parameters["output.kernel"]).all()


# --- the same bits -----------------------------------------------------------------------------


def test_threads_change_no_bit_of_the_file(tmp_path: Path) -> None:
    digests = set()
    for threads in (1, 2, 3):
        ops.set_threads(threads)
        model, _ = run(replace(CONFIG, clip_norm=0.5))
        digests.add(storage.write_tensors(tmp_path / f"{threads}", model.parameters, {}))
    assert len(digests) == 1


def test_another_seed_is_another_model(whole: tuple[str, Events]) -> None:
    model, _ = run(replace(CONFIG, seed=1))
    assert bits(model) != whole[0]


# --- checkpoints -------------------------------------------------------------------------------

STOPS = 2 * (STEPS + 1)


@pytest.mark.parametrize("stop", range(1, STOPS + 1))
def test_stopping_after_any_event_changes_nothing(
    tmp_path: Path, stop: int, whole: tuple[str, Events]
) -> None:
    path = tmp_path / "checkpoint"
    model = TextModel.initialize(MODEL, 0)
    begun = train_steps(model, EXAMPLES, VALIDATION, CONFIG, checkpoint=path, checkpoint_seconds=0)
    first = [next(begun) for _ in range(stop)]
    begun.close()  # type: ignore[attr-defined]
    resumed, rest = run(checkpoint=path, resume=True)
    assert bits(resumed) == whole[0]
    assert without_seconds(first) == without_seconds(whole[1][:stop])
    epochs = [event for event in first if isinstance(event, EpochResult)]
    # First the epochs that lie behind it, then what the stopped run had left.
    assert without_seconds(rest) == without_seconds([*epochs, *whole[1][stop:]])
    assert rest[: len(epochs)] == epochs


def test_a_run_stopped_at_every_step_ends_with_the_same_checkpoint(
    tmp_path: Path, whole: tuple[str, Events]
) -> None:
    path = tmp_path / "checkpoint"
    events = 0
    while True:
        model = TextModel.initialize(MODEL, 0)
        running = train_steps(
            model, EXAMPLES, VALIDATION, CONFIG, checkpoint=path, resume=True, checkpoint_seconds=0
        )
        new = next((e for e in running if isinstance(e, StepResult)), None)
        running.close()  # type: ignore[attr-defined]
        if new is None:
            break
        events += 1
    assert events == 2 * STEPS
    assert bits(model) == whole[0]
    assert os.listdir(tmp_path) == ["checkpoint"]


def test_a_checkpoint_holds_the_run(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    model = TextModel.initialize(MODEL, 0)
    running = train_steps(
        model, EXAMPLES, VALIDATION, CONFIG, checkpoint=path, checkpoint_seconds=0
    )
    for _ in range(STEPS + 3):
        next(running)
    tensors, header = storage.read_tensors(path)
    for name, values in model.parameters.items():
        np.testing.assert_array_equal(tensors[name], values)
    assert header["kind"] == "checkpoint"
    assert header["optimizer_steps"] == STEPS + 2
    progress = header["progress"]
    assert (progress["epoch"], progress["step"], progress["texts"]) == (2, 2, 32)
    assert [result["epoch"] for result in header["history"]] == [1]


def test_checkpoints_are_written_when_due(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    model = TextModel.initialize(MODEL, 0)
    written = []
    for event in train_steps(
        model, EXAMPLES, None, CONFIG, checkpoint=path, checkpoint_seconds=1e9
    ):
        if path.exists():
            written.append(event)
            path.unlink()
    assert [type(event) for event in written] == [EpochResult, EpochResult]


def test_resume_without_a_file_begins(tmp_path: Path, whole: tuple[str, Events]) -> None:
    model, events = run(checkpoint=tmp_path / "checkpoint", resume=True)
    assert bits(model) == whole[0]
    assert without_seconds(events) == without_seconds(whole[1])


def test_without_resume_an_old_checkpoint_is_replaced(
    tmp_path: Path, whole: tuple[str, Events]
) -> None:
    path = tmp_path / "checkpoint"
    path.write_bytes(b"something else")
    model, _ = run(checkpoint=path)
    assert bits(model) == whole[0]
    assert storage.read_tensors(path)[1]["kind"] == "checkpoint"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Of a run after its sixth event, the first step of epoch 2."""
    path = tmp_path / "checkpoint"
    model = TextModel.initialize(MODEL, 0)
    running = train_steps(
        model, EXAMPLES, VALIDATION, CONFIG, checkpoint=path, checkpoint_seconds=0
    )
    for _ in range(6):
        next(running)
    running.close()  # type: ignore[attr-defined]
    return path


OTHER_LABELS = LabeledSet(EXAMPLES.texts, 1 - EXAMPLES.targets)


@pytest.mark.parametrize(
    ("model_config", "examples", "validation", "config"),
    [
        pytest.param(MODEL, EXAMPLES, VALIDATION, replace(CONFIG, seed=1), id="seed"),
        pytest.param(MODEL, EXAMPLES, VALIDATION, replace(CONFIG, epochs=3), id="epochs"),
        pytest.param(MODEL, EXAMPLES, VALIDATION, replace(CONFIG, learning_rate=0.02), id="rate"),
        pytest.param(MODEL, EXAMPLES, VALIDATION, replace(CONFIG, batch_size=15), id="batch"),
        pytest.param(replace(MODEL, masked=False), EXAMPLES, VALIDATION, CONFIG, id="masked"),
        pytest.param(replace(MODEL, hidden_size=8), EXAMPLES, VALIDATION, CONFIG, id="hidden"),
        pytest.param(MODEL, make_examples(60, seed=5), VALIDATION, CONFIG, id="texts"),
        pytest.param(MODEL, OTHER_LABELS, VALIDATION, CONFIG, id="labels"),
        pytest.param(MODEL, EXAMPLES, None, CONFIG, id="no validation"),
        pytest.param(MODEL, EXAMPLES, EXAMPLES, CONFIG, id="validation"),
    ],
)
def test_checkpoints_of_other_runs_are_refused(
    checkpoint: Path, model_config: ModelConfig, examples: Any, validation: Any, config: TrainConfig
) -> None:
    before = checkpoint.read_bytes()
    model = TextModel.initialize(model_config, 0)
    untouched = bits(model)
    with pytest.raises(TrainingError, match="belongs to a run with other data or options"):
        next(train_steps(model, examples, validation, config, checkpoint=checkpoint, resume=True))
    assert checkpoint.read_bytes() == before
    assert bits(model) == untouched


@pytest.mark.parametrize("place", [0, 9, 200, 0.5, 0.9, -1])
@pytest.mark.parametrize("cut", [True, False], ids=["cut", "changed"])
def test_damaged_checkpoints_are_refused(checkpoint: Path, place: float, cut: bool) -> None:
    data = bytearray(checkpoint.read_bytes())
    at = int(place * len(data)) if isinstance(place, float) else place
    if cut:
        del data[at:]
    else:
        data[at] ^= 1
    checkpoint.write_bytes(data)
    model = TextModel.initialize(MODEL, 0)
    untouched = bits(model)
    with pytest.raises(ModelFileError, match=r"; remove it to start again$"):
        next(train_steps(model, EXAMPLES, VALIDATION, CONFIG, checkpoint=checkpoint, resume=True))
    assert checkpoint.read_bytes() == data
    assert bits(model) == untouched
    assert os.listdir(checkpoint.parent) == ["checkpoint"]


def test_a_model_is_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "model"
    storage.write_tensors(path, {}, {"kind": "model"})
    with pytest.raises(ModelFileError, match="is a model, not a checkpoint; give the checkpoint's"):
        run(checkpoint=path, resume=True)


MISFITS: dict[str, dict[str, Any]] = {
    "no steps": {"optimizer_steps": None},
    "steps of another type": {"optimizer_steps": "5"},
    "fewer steps than rows have had": {"optimizer_steps": 1},
    "negative steps": {"optimizer_steps": -1},
    "progress as a list": {"progress": [1, 2]},
    "another field of progress": {"progress": {"epoch": 2, "more": 1}},
    "an epoch of another type": {"progress": {"epoch": "2"}},
    "a step of another type": {"progress": {"epoch": 2, "step": 1.5}},
    "a negative step": {"progress": {"epoch": 2, "step": -1}},
    "no history": {"history": None},
    "another field of history": {"history": [{"epoch": 1}]},
}


@pytest.mark.parametrize("changed", MISFITS.values(), ids=MISFITS)
def test_checkpoints_whose_header_does_not_fit(checkpoint: Path, changed: dict[str, Any]) -> None:
    """Their checksum fits, so that someone meant it."""
    tensors, header = storage.read_tensors(checkpoint)
    storage.write_tensors(checkpoint, tensors, {**header, **changed})
    with pytest.raises(ModelFileError, match="is not a usable checkpoint"):
        run(checkpoint=checkpoint, resume=True)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("output.kernel", None),
        ("output.kernel", np.zeros((3, 1), np.float32)),
        ("adam.first.output.bias", None),
        ("adam.last_step.embedding.weight", np.full(VOCABULARY, 99)),
    ],
)
def test_checkpoints_whose_tensors_do_not_fit(checkpoint: Path, name: str, array: Any) -> None:
    tensors, header = storage.read_tensors(checkpoint)
    if array is None:
        del tensors[name]
    else:
        tensors[name] = array
    storage.write_tensors(checkpoint, tensors, header)
    with pytest.raises(ModelFileError, match="is not a usable checkpoint"):
        run(checkpoint=checkpoint, resume=True)


def collect(running: Iterator[StepResult | EpochResult], events: Events) -> None:
    """Keeps what came before an error."""
    for event in running:
        events.append(event)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_state(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    config = replace(CONFIG, learning_rate=1e30)
    model = TextModel.initialize(MODEL, 0)
    running = train_steps(model, EXAMPLES, None, config, checkpoint=path, checkpoint_seconds=0)
    events: Events = []
    message = r"the loss is .* in epoch 1, step \d+; lower learning_rate=1e\+30 or set clip_norm=1"
    with pytest.raises(TrainingError, match=message) as caught:
        collect(running, events)
    assert not isinstance(caught.value, TrainingInterrupted)
    assert events
    assert all(math.isfinite(event.loss) for event in events)
    tensors, header = storage.read_tensors(path)
    assert header["kind"] == "checkpoint"
    for name in model.parameters:
        assert np.isfinite(tensors[name]).all(), name


def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    model = TextModel.initialize(MODEL, 0)
    running = train_steps(model, EXAMPLES, None, CONFIG, checkpoint=path, checkpoint_seconds=0)
    next(running)
    next(running)
    good = path.read_bytes()
    model.parameters["output.bias"][0] = np.nan
    with pytest.raises(TrainingError, match="the loss is nan in epoch 1, step 3"):
        next(running)
    assert path.read_bytes() == good


# --- Ctrl-C ------------------------------------------------------------------------------------


def test_ctrl_c_during_a_step_finishes_it_and_saves(
    tmp_path: Path, whole: tuple[str, Events], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoint"
    before = signal.getsignal(signal.SIGINT)
    model = TextModel.initialize(MODEL, 0)
    pack, calls = model.pack, iter(range(99))

    def interrupting_pack(*arguments: Any) -> Any:
        if next(calls) == 2:  # in the middle of step 3
            signal.raise_signal(signal.SIGINT)
        return pack(*arguments)

    monkeypatch.setattr(model, "pack", interrupting_pack)
    seen: Events = []
    running = train_steps(
        model, EXAMPLES, VALIDATION, CONFIG, checkpoint=path, checkpoint_seconds=1e9
    )
    with pytest.raises(TrainingInterrupted, match=r"stopped in epoch 1 after step 3; .*--resume"):
        collect(running, seen)
    assert without_seconds(seen) == without_seconds(whole[1][:3])
    assert signal.getsignal(signal.SIGINT) is before
    assert storage.read_tensors(path)[1]["progress"]["step"] == 3
    resumed, rest = run(checkpoint=path, resume=True)
    assert bits(resumed) == whole[0]
    assert without_seconds(rest) == without_seconds(whole[1][3:])


def test_ctrl_c_between_steps_saves_too(tmp_path: Path, whole: tuple[str, Events]) -> None:
    """While the caller has the event, for example as it prints: one more step, then it is saved."""
    path = tmp_path / "checkpoint"
    before = signal.getsignal(signal.SIGINT)
    model = TextModel.initialize(MODEL, 0)
    running = train_steps(
        model, EXAMPLES, VALIDATION, CONFIG, checkpoint=path, checkpoint_seconds=1e9
    )
    for _ in range(3):
        next(running)
    signal.raise_signal(signal.SIGINT)
    rest: Events = []
    with pytest.raises(TrainingInterrupted, match="stopped in epoch 1 after step 4"):
        collect(running, rest)
    assert len(rest) == 1
    assert signal.getsignal(signal.SIGINT) is before
    assert path.exists(), "the message promises a checkpoint"
    assert storage.read_tensors(path)[1]["progress"]["step"] == 4
    assert bits(run(checkpoint=path, resume=True)[0]) == whole[0]


def test_a_second_ctrl_c_acts_as_usual(tmp_path: Path) -> None:
    model = TextModel.initialize(MODEL, 0)
    running = train_steps(model, EXAMPLES, None, CONFIG, checkpoint=tmp_path / "checkpoint")
    next(running)
    signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    running.close()  # type: ignore[attr-defined]


def test_the_handler_is_restored_however_training_ends(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    path = tmp_path / "checkpoint"
    running = train_steps(TextModel.initialize(MODEL, 0), EXAMPLES, None, CONFIG, checkpoint=path)
    next(running)
    assert signal.getsignal(signal.SIGINT) is not before
    running.close()  # type: ignore[attr-defined]
    assert signal.getsignal(signal.SIGINT) is before
    run(checkpoint=path)
    assert signal.getsignal(signal.SIGINT) is before
    with pytest.raises(TrainingError, match="the loss is"):
        run(replace(CONFIG, learning_rate=1e30), checkpoint=path)
    assert signal.getsignal(signal.SIGINT) is before


def test_no_handler_without_a_checkpoint() -> None:
    before = signal.getsignal(signal.SIGINT)
    running = train_steps(TextModel.initialize(MODEL, 0), EXAMPLES, None, CONFIG)
    next(running)
    assert signal.getsignal(signal.SIGINT) is before
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_no_handler_off_the_main_thread(tmp_path: Path, whole: tuple[str, Events]) -> None:
    before = signal.getsignal(signal.SIGINT)
    found: list[Any] = []

    def work() -> None:
        model = TextModel.initialize(MODEL, 0)
        for _ in train_steps(
            model, EXAMPLES, VALIDATION, CONFIG, checkpoint=tmp_path / "checkpoint"
        ):
            found.append(signal.getsignal(signal.SIGINT) is before)
        found.append(bits(model))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [True] * STOPS + [whole[0]]


# --- processes that are killed -----------------------------------------------------------------

CHILD = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_training import CONFIG, EXAMPLES, MODEL, VALIDATION
from tidegate import storage
from tidegate.model import TextModel
from tidegate.training import train_steps

folder = Path({folder!r})
model = TextModel.initialize(MODEL, 0)
for event in train_steps(
    model, EXAMPLES, VALIDATION, CONFIG,
    checkpoint=folder / "checkpoint", resume=True, checkpoint_seconds={seconds},
):
    print(event, flush=True)
    time.sleep(0.01)
print("sha256", storage.write_tensors(folder / "model", model.parameters, {{}}), flush=True)
"""


def start_child(folder: Path, seconds: float) -> subprocess.Popen[str]:
    code = CHILD.format(tests=str(Path(__file__).parent), folder=str(folder), seconds=seconds)
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish_child(folder: Path) -> str:
    """Resume what is there and return the model's sha256."""
    child = start_child(folder, 0)
    out, err = child.communicate(timeout=120)
    assert child.returncode == 0, err
    return out.split()[-1]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="the system has no SIGKILL")
def test_killed_at_random_moments_and_resumed_is_the_same_file(
    tmp_path: Path, whole: tuple[str, Events]
) -> None:
    expected, _ = run()
    wanted = storage.write_tensors(tmp_path / "expected", expected.parameters, {})
    assert bits(expected) == whole[0]
    generator = np.random.default_rng(0)
    kills = 0
    for _ in range(4):
        child = start_child(tmp_path, 0)
        assert child.stdout is not None
        assert child.stderr is not None
        # Some events, then a moment anywhere within the next ones: a step or a write.
        for _ in range(generator.integers(1, 4)):
            child.stdout.readline()
        time.sleep(float(generator.uniform(0, 0.03)))
        child.kill()
        child.communicate()
        kills += child.returncode == -signal.SIGKILL
    assert kills >= 3  # not merely runs that had ended
    assert finish_child(tmp_path) == wanted
    assert (tmp_path / "model").read_bytes() == (tmp_path / "expected").read_bytes()


@pytest.mark.skipif(os.name == "nt", reason="the system has no such signals")
def test_ctrl_c_of_a_process(tmp_path: Path, whole: tuple[str, Events]) -> None:
    child = start_child(tmp_path, 1e9)
    assert child.stdout is not None
    child.stdout.readline()
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 1
    last = err.strip().splitlines()[-1]
    assert last.startswith("tidegate.errors.TrainingInterrupted: stopped in epoch 1 after step")
    expected, _ = run()
    wanted = storage.write_tensors(tmp_path / "expected", expected.parameters, {})
    assert finish_child(tmp_path) == wanted


def test_abandoned_generators_leave_no_temporary_files(tmp_path: Path) -> None:
    def begin() -> Iterator[Any]:
        return train_steps(
            TextModel.initialize(MODEL, 0),
            EXAMPLES,
            None,
            CONFIG,
            checkpoint=tmp_path / "checkpoint",
            checkpoint_seconds=0,
        )

    for _ in range(3):
        running = begin()
        next(running)
        del running
    assert os.listdir(tmp_path) == ["checkpoint"]
