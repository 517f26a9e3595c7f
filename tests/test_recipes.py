"""Ways to train: schedules, decay, averages, early stopping, smoothed labels, weights, dropout."""

from __future__ import annotations

import json
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
    bits,
    make_examples,
    without_seconds,
)
from tidegate import TextClassifier, ops, storage
from tidegate.checkpoint import is_finished
from tidegate.errors import ConfigError, ModelFileError, ShapeError
from tidegate.labels import class_weights
from tidegate.losses import weighted_loss
from tidegate.metrics import LabeledSet, evaluate
from tidegate.model import ModelConfig, TextModel
from tidegate.noise import Dropout, Noise
from tidegate.optim import Adam, learning_rates
from tidegate.records import EpochResult, best_epoch, is_ended
from tidegate.training import StepResult, TrainConfig, _Run, train, train_steps

EVERYTHING = replace(
    CONFIG,
    epochs=3,
    weight_decay=0.05,
    schedule="cosine",
    warmup=0.2,
    average=0.9,
    label_smoothing=0.1,
    patience=3,
    clip_norm=1.0,
    dropout=Dropout(0.1, 0.1, 0.2, 0.2, 0.1, 0.2),
)
# Some labels are wrong: a model that grows sure of itself grows worse.
NOISY = LabeledSet(
    VALIDATION.texts, np.where(np.arange(20) % 3 == 0, 1 - VALIDATION.targets, VALIDATION.targets)
)
DEEP = replace(MODEL, layers=2, bidirectional=True, pooling="max+mean", layer_norm=True)


@pytest.fixture(autouse=True)
def one_thread(restored_threads: None) -> None:
    ops.set_threads(1)


# --- learning rates and decay


def test_learning_rates() -> None:
    rates = {name: learning_rates(name, 0.2, 10)[1:] for name in ("constant", "linear", "cosine")}
    for scale in rates.values():
        assert scale[:2].tolist() == [0.5, 1.0]  # after two of ten steps it has risen
        assert scale[2] == 1.0
    assert rates["constant"].tolist() == [0.5] + [1.0] * 9
    np.testing.assert_allclose(rates["linear"][2:], np.arange(8, 0, -1) / 8)
    np.testing.assert_allclose(
        rates["cosine"][2:], [0.5 * (1 + np.cos(np.pi * k / 8)) for k in range(8)]
    )
    assert learning_rates("linear", 0.0, 4).tolist()[1:] == [1.0, 0.75, 0.5, 0.25]
    assert learning_rates("cosine", 0.0, 1).tolist()[1:] == [1.0]


def plain_adam(
    parameter: Any, gradients: list[Any], scale: Any, decay: float, rate: float = 0.01
) -> Any:
    """AdamW with a schedule, step by step in float64."""
    value = parameter.astype(np.float64)
    first, second = np.zeros_like(value), np.zeros_like(value)
    for t, gradient in enumerate(gradients, start=1):
        step = rate * scale[min(t, len(scale) - 1)]
        value = value * (1 - step * decay)
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        value -= step * np.sqrt(1 - 0.999**t) / (1 - 0.9**t) * first / (np.sqrt(second) + 1e-7)
    return value


def test_decay_and_schedule_are_adamw() -> None:
    generator = np.random.default_rng(0)
    start = {
        "kernel": generator.standard_normal((4, 3)).astype(np.float32),
        "bias": generator.standard_normal(3).astype(np.float32),
    }
    parameters = {name: value.copy() for name, value in start.items()}
    gradients = [
        {
            name: generator.standard_normal(value.shape).astype(np.float32)
            for name, value in start.items()
        }
        for _ in range(6)
    ]
    scale = learning_rates("linear", 0.0, 5)
    adam = Adam(parameters, learning_rate=0.01, weight_decay=0.5, schedule=scale)
    for gradient in gradients:
        adam.step(dict(gradient))
    for name, decay in (("kernel", 0.5), ("bias", 0.0)):  # biases don't shrink
        expected = plain_adam(start[name], [g[name] for g in gradients], scale, decay)
        np.testing.assert_allclose(parameters[name], expected, rtol=1e-5, atol=1e-6)
    assert np.abs(parameters["kernel"] - start["kernel"]).min() > 1e-3


def test_rows_that_were_put_off_follow_the_schedule() -> None:
    """A word that is not seen for some steps gets the rates of these very steps."""
    config = replace(CONFIG, schedule="cosine", warmup=0.3)
    found = []
    for rows in (("embedding.weight",), ()):
        model = TextModel.initialize(MODEL, 0)
        generator = np.random.default_rng(1)
        scale = learning_rates(config.schedule, config.warmup, 9)
        adam = Adam(model.parameters, row_parameters=rows, learning_rate=0.05, schedule=scale)
        for _ in range(9):
            batch = model.pack(EXAMPLES.texts, generator.permutation(60)[:3])
            adam.prepare(batch.words if rows else None)
            logits, backward = model(batch)
            gradients: dict[str, Any] = {}
            backward(np.ones_like(logits), gradients)
            if not rows:
                table = np.zeros_like(model.parameters["embedding.weight"])
                given = gradients["embedding.weight"]
                table[given.rows] = given.values
                gradients["embedding.weight"] = table
            adam.step(gradients)
        adam.finish()
        found.append(bits(model))
    assert found[0] == found[1]


# --- losses


@pytest.mark.parametrize("classes", [1, 4])
def test_the_weighted_loss_is_the_plain_one_where_nothing_is_weighed(classes: int) -> None:
    generator = np.random.default_rng(classes)
    logits = generator.standard_normal((9, classes)).astype(np.float32)
    targets = generator.integers(0, max(2, classes), 9).astype(np.int32)
    loss, d_logits, correct = weighted_loss(logits, targets, None, 0.0)
    if classes == 1:
        expected = ops.logistic_loss(logits.reshape(-1), targets)
    else:
        expected = ops.softmax_loss(logits, targets)
    assert loss == pytest.approx(expected[0], rel=1e-12)
    np.testing.assert_allclose(d_logits, expected[1].reshape(logits.shape), rtol=1e-6, atol=1e-9)
    assert correct == expected[2]


@pytest.mark.parametrize("classes", [1, 4])
def test_weighted_and_smoothed_gradients(classes: int) -> None:
    generator = np.random.default_rng(classes)
    logits = generator.standard_normal((5, classes)).astype(np.float32)
    targets = generator.integers(0, max(2, classes), 5).astype(np.int32)
    weights = generator.uniform(0.2, 3, 5).astype(np.float32)
    loss, d_logits, _ = weighted_loss(logits, targets, weights, 0.2)
    total = 0.0  # by hand
    for row in range(5):
        scores = logits[row].tolist() if classes > 1 else [0.0, float(logits[row, 0])]
        log_shares = np.array(scores) - np.log(np.exp(scores).sum())
        wanted = np.full(len(scores), 0.2 / len(scores))
        wanted[targets[row]] += 0.8
        total += float(weights[row]) * -float(wanted @ log_shares) / 5
    assert loss == pytest.approx(total, rel=1e-6)
    for place in np.ndindex(logits.shape):
        moved = logits.copy()
        moved[place] += 0.01
        below = logits.copy()
        below[place] -= 0.01
        above = weighted_loss(moved, targets, weights, 0.2)[0]
        slope = (above - weighted_loss(below, targets, weights, 0.2)[0]) / 0.02
        assert slope == pytest.approx(float(d_logits[place]), rel=1e-3, abs=1e-5)


def test_losses_refuse_what_does_not_fit() -> None:
    with pytest.raises(ShapeError, match="targets is empty"):
        weighted_loss(np.zeros((0, 2), np.float32), np.zeros(0, np.int32), None, 0.1)
    with pytest.raises(ShapeError, match=r"targets runs from 0 to 2; it must lie in 0\.\.1"):
        weighted_loss(np.zeros((2, 1), np.float32), np.array([0, 2], np.int32), None, 0.1)
    with pytest.raises(ShapeError, match="weights has shape"):
        LabeledSet(EXAMPLES.texts, EXAMPLES.targets, np.ones(3, np.float32))


# --- early stopping and averages


def result(epoch: int, accuracy: float | None, loss: float | None = 0.5) -> EpochResult:
    return EpochResult(epoch, 0.0, 0.5, 0.5, None if accuracy is None else loss, accuracy)


def test_the_best_epoch_and_the_end_of_patience() -> None:
    history = [result(1, 0.7), result(2, 0.8), result(3, 0.8, 0.4), result(4, 0.8, 0.4)]
    assert best_epoch(history) == 3  # of equals the lower loss, then the earlier
    assert best_epoch([result(1, None)]) == best_epoch([]) == 0
    assert not is_ended(history, 9, None)
    assert not is_ended(history, 9, 2)
    assert is_ended(history, 9, 1)
    assert is_ended(history, 4, None)
    assert is_ended([*history, result(5, 0.7)], 9, 2)
    assert not is_ended([result(1, None)], 2, 1)


def test_training_stops_and_keeps_the_best() -> None:
    config = replace(CONFIG, epochs=30, learning_rate=0.3, patience=3)
    model = TextModel.initialize(MODEL, 0)
    history = list(train(model, EXAMPLES, NOISY, config))
    best = best_epoch(history)
    assert len(history) == best + 3 < 30
    kept = evaluate(model, NOISY)
    assert kept.accuracy == history[best - 1].val_accuracy
    assert kept.loss == pytest.approx(history[best - 1].val_loss, rel=1e-12)
    # The weights of that epoch, exactly.
    other = TextModel.initialize(MODEL, 0)
    events = train(other, EXAMPLES, NOISY, replace(config, patience=None))
    for _ in range(best):
        next(events)
    assert bits(other) == bits(model)


@pytest.mark.parametrize("texts", [10, 60, 320])
def test_averaged_weights_are_the_average(texts: int) -> None:
    """Epochs of 1, 4 and 20 steps: none is lost, and an epoch's end is never late."""
    examples = make_examples(texts)
    config = replace(CONFIG, epochs=3, average=0.8)
    plain = TextModel.initialize(MODEL, 0)
    average = {name: value.copy() for name, value in plain.parameters.items()}
    since = 0
    run = _Run(plain, examples, None, replace(config, average=0.0))
    for event in run.events():
        if not isinstance(event, StepResult):
            continue
        since += 1
        done = run.optimizer.step_count
        if done % 8 and event.step < event.steps:
            continue
        run.optimizer.finish()
        decay = min(0.8, (1 + done) / (10 + done)) ** since
        for name, value in plain.parameters.items():
            average[name] += np.float32(1 - decay) * (value - average[name])
        since = 0
    model = TextModel.initialize(MODEL, 0)
    list(train(model, examples, None, config))
    for name, value in model.parameters.items():
        np.testing.assert_array_equal(value, average[name], err_msg=name)
    assert bits(model) != bits(plain)
    assert bits(model) != bits(TextModel.initialize(MODEL, 0))


def test_validation_is_of_the_averaged_weights() -> None:
    config = replace(CONFIG, epochs=3, average=0.95)
    model = TextModel.initialize(MODEL, 0)
    *_, last = train(model, EXAMPLES, VALIDATION, config)
    assert evaluate(model, VALIDATION).loss == pytest.approx(last.val_loss, rel=1e-12)


# --- all of it together


def test_everything_learns() -> None:
    model = TextModel.initialize(DEEP, 0)
    config = replace(EVERYTHING, epochs=8, learning_rate=0.02)
    list(train(model, make_examples(320), make_examples(80, seed=3), config))
    assert evaluate(model, make_examples(300, seed=7)).accuracy > 0.9


@pytest.mark.parametrize("stopped_after", [1, STEPS, STEPS + 2, 2 * STEPS + 3])
def test_a_resumed_run_ends_with_the_same_bits(tmp_path: Path, stopped_after: int) -> None:
    whole = TextModel.initialize(DEEP, 0)
    expected = list(train_steps(whole, EXAMPLES, VALIDATION, EVERYTHING))
    path = tmp_path / "checkpoint"
    options: dict[str, Any] = {"checkpoint": path, "checkpoint_seconds": 0}
    first = train_steps(TextModel.initialize(DEEP, 0), EXAMPLES, VALIDATION, EVERYTHING, **options)
    steps = 0
    for event in first:
        steps += isinstance(event, StepResult)
        if steps == stopped_after:
            break
    first.close()  # type: ignore[attr-defined]
    assert not is_finished(path)
    model = TextModel.initialize(DEEP, 5)
    rest = list(train_steps(model, EXAMPLES, VALIDATION, EVERYTHING, resume=True, **options))
    assert bits(model) == bits(whole)
    epochs = [event for event in rest if isinstance(event, EpochResult)]
    wanted = [event for event in expected if isinstance(event, EpochResult)]
    assert without_seconds(epochs) == without_seconds(wanted)  # type: ignore[arg-type]
    assert is_finished(path)


def test_an_early_end_is_an_end(tmp_path: Path) -> None:
    config = replace(CONFIG, epochs=30, learning_rate=0.3, patience=2)
    path = tmp_path / "checkpoint"
    model = TextModel.initialize(MODEL, 0)
    history = list(train(model, EXAMPLES, NOISY, config, checkpoint=path))
    assert len(history) < 30
    assert is_finished(path)
    again = TextModel.initialize(MODEL, 9)
    repeated = list(train(again, EXAMPLES, NOISY, config, checkpoint=path, resume=True))
    assert bits(again) == bits(model)
    assert len(repeated) == len(history)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("weight_decay", -0.1, "weight_decay=-0.1 must be at least 0"),
        ("weight_decay", 1.0, "below 1"),
        ("warmup", float("nan"), "warmup=nan"),
        ("average", 1, "average=1 must"),
        ("label_smoothing", "0.1", "label_smoothing='0.1' is not a number"),
        ("schedule", "cosin", "schedule='cosin' .*did you mean 'cosine'"),
        ("schedule", None, "schedule=None"),
        ("patience", 0, "patience=0 is not between 1"),
        ("patience", 1.5, "patience=1.5 is not a whole number"),
    ],
)
def test_a_bad_setting_is_refused(field: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainConfig(**{field: value})


# --- the estimator


TEXTS = ["a fine film", "a poor film", "fine and warm", "poor and cold"] * 10
LABELS = ["good", "bad", "good", "bad"] * 10
OPTIONS: dict[str, Any] = {
    "embedding_size": 4,
    "hidden_size": 5,
    "epochs": 2,
    "batch_size": 8,
    "layers": 2,
    "bidirectional": True,
    "pooling": "last+mean+attention",
    "layer_norm": True,
    "schedule": "linear",
    "warmup": 0.1,
    "weight_decay": 0.01,
    "average": 0.9,
    "label_smoothing": 0.1,
    "patience": 2,
    "class_weight": {"good": 2, "bad": 1.5},
    "word_dropout": 0.1,
    "vocabulary_dropout": 0.1,
    "embedding_dropout": 0.2,
    "layer_dropout": 0.2,
    "recurrent_dropout": 0.1,
    "dropout": 0.3,
    "beta_2": 0.98,
    "keep": "both",
    "max_length": 4,
}


def test_a_model_of_every_option_is_read_back(tmp_path: Path) -> None:
    classifier = TextClassifier(**OPTIONS).fit(TEXTS, LABELS)
    sha256 = classifier.save(tmp_path / "model")
    again = TextClassifier.load(tmp_path / "model")
    assert {**again.get_params(), "threads": None} == classifier.get_params()
    np.testing.assert_array_equal(again.predict_proba(TEXTS), classifier.predict_proba(TEXTS))
    assert again.model_.config == classifier.model_.config
    assert again.save(tmp_path / "again") == sha256
    small = tmp_path / "int8"
    classifier.save(small, quantize="int8")
    quantised = TextClassifier.load(small)
    np.testing.assert_allclose(
        quantised.predict_proba(TEXTS), classifier.predict_proba(TEXTS), atol=0.02
    )


def test_options_that_contradict_each_other_are_refused() -> None:
    for options, message in (
        ({"layer_dropout": 0.1}, "set layers=2"),
        ({"embedding_dropout": 0.1, "masked": False}, "embedding_dropout=0.1 needs masked=True"),
        ({"patience": 2, "validation_fraction": 0}, "patience=2 waits .* set validation_fraction"),
        ({"class_weight": "balance"}, "class_weight='balance' is neither"),
        ({"class_weight": {"good": -1}}, "class_weight of 'good' is -1, not a number from 0"),
        ({"class_weight": {"fine": 2}}, "class_weight names 'fine'; the labels are bad, good"),
    ):
        with pytest.raises(ConfigError, match=message):
            TextClassifier(epochs=1, **options).fit(TEXTS, LABELS)


def test_class_weights() -> None:
    classes = np.array(["a", "b", "c"])
    targets = np.array([0, 0, 0, 1], np.int32)
    assert class_weights(None, classes, targets) is None
    balanced = class_weights("balanced", classes, targets)
    assert balanced is not None
    np.testing.assert_allclose(balanced[:2], [4 / (2 * 3), 4 / (2 * 1)])
    assert balanced[targets].mean() == pytest.approx(1.0)
    given = class_weights({"b": 3}, classes, targets)
    assert given is not None
    assert given.tolist() == [1.0, 3.0, 1.0]


def test_a_class_that_weighs_more_is_said_more_often() -> None:
    """Texts that tell nothing: what is said of them is what weighs most."""
    texts, labels = ["word"] * 40, ["often"] * 30 + ["seldom"] * 10
    options: dict[str, Any] = {
        "embedding_size": 4,
        "hidden_size": 4,
        "epochs": 40,
        "learning_rate": 0.05,
        "validation_fraction": 0.0,
    }
    for weight, share in ((None, 0.25), ("balanced", 0.5), ({"seldom": 9}, 0.75)):
        classifier = TextClassifier(class_weight=weight, **options).fit(texts, labels)
        assert classifier.predict_proba(["word"])[0, 1] == pytest.approx(share, abs=0.03)


def test_a_file_with_odd_class_weights_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "model"
    TextClassifier(**OPTIONS).fit(TEXTS, LABELS).save(path)
    tensors, header = storage.read_tensors(path)
    header = json.loads(json.dumps(header))
    for name in ("checksum", "format_version"):
        header.pop(name, None)
    for odd in ([1], [["a"]], [[["a"], 1]]):
        header["training"]["class_weight"] = odd
        storage.write_tensors(path, tensors, header)
        with pytest.raises(ModelFileError, match="class_weight is no list of pairs"):
            TextClassifier.load(path)


def test_noise_of_a_step_is_that_of_its_epoch() -> None:
    rates = Dropout(output=0.5)
    masks = [
        Noise(rates, 0, f"epoch {epoch} step {step}").mask("output", (64,), 0.5)
        for epoch in (1, 2)
        for step in (1, 2)
    ]
    assert len({mask.tobytes() for mask in masks if mask is not None}) == 4


def test_a_config_of_one_layer_keeps_its_name() -> None:
    assert ModelConfig().recurrent_names == (("recurrent",),)
