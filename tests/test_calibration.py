"""Probabilities that come true: the factor that calibrates a network's logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from test_estimator import LABELS, TEXTS, make, reviews
from tidegate import TextClassifier, ops, storage
from tidegate.calibration import LEAST, MOST, fit_factor
from tidegate.errors import ConfigError, ModelFileError


@pytest.fixture(autouse=True)
def one_thread(restored_threads: None) -> None:
    ops.set_threads(1)


def loss(factor: float, logits: Any, targets: Any) -> float:
    """The sum of cross-entropies, and what stands for one text more."""
    scores = logits.astype(np.float64) * factor
    if scores.shape[1] == 1:
        scores = np.concatenate([np.zeros_like(scores), scores], axis=1)
    highest = scores.max(axis=1)
    logs = np.log(np.exp(scores - highest[:, None]).sum(axis=1)) + highest
    return float((logs - scores[np.arange(len(targets)), targets]).sum() + (factor - 1) ** 2 / 2)


def draw(outputs: int, sharpness: float, texts: int = 400, seed: int = 0) -> tuple[Any, Any]:
    """Logits that are ``sharpness`` times too sure, and targets drawn from what is true."""
    generator = np.random.default_rng(seed)
    logits = generator.standard_normal((texts, outputs)) * 2
    scores = np.concatenate([np.zeros_like(logits), logits], axis=1) if outputs == 1 else logits
    shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    drawn = (generator.random((texts, 1)) > shares.cumsum(axis=1)).sum(axis=1)
    return (logits * sharpness).astype(np.float32), drawn.astype(np.int32)


@pytest.mark.parametrize("outputs", [1, 4])
@pytest.mark.parametrize("sharpness", [0.1, 1.0, 5.0, 40.0])
def test_the_factor_has_the_least_loss(outputs: int, sharpness: float) -> None:
    logits, targets = draw(outputs, sharpness)
    factor = fit_factor(logits, targets)
    least = loss(factor, logits, targets)
    assert least < loss(factor * 1.001, logits, targets)
    assert least < loss(factor / 1.001, logits, targets)
    found = fit_factor(*draw(outputs, sharpness, texts=20_000))
    assert found == pytest.approx(1 / sharpness, rel=0.1)


def test_extremes() -> None:
    logits, targets = draw(1, 1.0)
    assert fit_factor(logits[:0], targets[:0]) == 1.0
    right = (2 * targets[:, None] - 1).astype(np.float32)
    assert fit_factor(-right * 50, targets) == pytest.approx(LEAST)  # all of them wrong
    assert 1.0 < fit_factor(right, targets) < 10.0  # all right: surer, and not sure without end
    assert fit_factor(right[:1], targets[:1]) == pytest.approx(1.2, abs=0.1)
    assert fit_factor(right * 1e-30, targets) == pytest.approx(1.0)
    assert LEAST <= fit_factor(right * 1e30, 1 - targets) <= MOST


@given(
    st.lists(st.tuples(st.floats(-30, 30, width=32), st.integers(0, 1)), min_size=1, max_size=30)
)
def test_no_texts_have_a_greater_loss_than_before(rows: list[tuple[float, int]]) -> None:
    logits = np.array([[logit] for logit, _ in rows], np.float32)
    targets = np.array([target for _, target in rows], np.int32)
    factor = fit_factor(logits, targets)
    assert LEAST <= factor <= MOST
    assert loss(factor, logits, targets) <= loss(1.0, logits, targets) + 1e-9


# --- the classifier


def noisy(count: int, seed: int) -> tuple[list[str], list[str]]:
    """Reviews of which every fifth has the wrong label."""
    texts, labels = reviews(count, seed)
    return texts, [
        {"pos": "neg", "neg": "pos"}[label] if i % 5 == 0 else label
        for i, label in enumerate(labels)
    ]


@pytest.fixture(scope="module")
def overtrained() -> tuple[TextClassifier, TextClassifier]:
    """The same network, without and with calibration, that has learnt its texts by heart."""
    texts, labels = noisy(240, 0)
    plain, calibrated = (
        make(calibrate=calibrate, epochs=40, threads=1).fit(texts, labels)
        for calibrate in (False, True)
    )
    return plain, calibrated


def test_an_overtrained_model_grows_less_sure_and_better(
    overtrained: tuple[TextClassifier, TextClassifier],
) -> None:
    plain, calibrated = overtrained
    texts, labels = noisy(1000, 9)
    before, after = plain.report(texts, labels), calibrated.report(texts, labels)
    factor = calibrated.mix_[0]
    assert 0.0 < factor < 0.7
    assert after.loss < 0.8 * before.loss
    assert after.calibration_error < 0.8 * before.calibration_error
    assert after.brier_score < before.brier_score
    assert after.accuracy == before.accuracy
    assert after.auc == pytest.approx(before.auc, abs=1e-3)
    assert after.confusion == before.confusion


def test_it_multiplies_the_logits_by_the_factor_of_the_validation_texts(
    overtrained: tuple[TextClassifier, TextClassifier],
) -> None:
    plain, calibrated = overtrained
    assert plain.mix_ == (1.0, 0.0)
    texts, labels = noisy(240, 0)
    _, held = plain.split(240)
    targets = np.array([labels[i] == "pos" for i in held], np.int32)
    probabilities = plain.predict_proba([texts[i] for i in held])
    logits = np.log(probabilities[:, 1:] / probabilities[:, :1])
    assert calibrated.mix_[0] == pytest.approx(fit_factor(logits, targets), rel=1e-4)
    assert calibrated.mix_[1] == 0.0
    found = calibrated.predict_proba(texts[:9])
    odds = np.log(found[:, 1] / found[:, 0])
    before = plain.predict_proba(texts[:9])
    np.testing.assert_allclose(
        odds, calibrated.mix_[0] * np.log(before[:, 1] / before[:, 0]), rtol=1e-5
    )
    assert plain.predict(texts).tolist() == calibrated.predict(texts).tolist()
    # What is told of the epochs is the network's own; of the end, what is predicted.
    held_texts, held_labels = [texts[i] for i in held], [labels[i] for i in held]
    for classifier in (plain, calibrated):
        measured = classifier.evaluate(held_texts, held_labels)
        assert classifier.validation_ is not None
        assert classifier.validation_.loss == measured.loss
        assert classifier.validation_.accuracy == measured.accuracy
    assert plain.validation_ is not None
    assert plain.validation_.loss == plain.history_[-1].val_loss
    assert [e.val_loss for e in plain.history_] == [e.val_loss for e in calibrated.history_]


def test_a_calibrated_model_is_read_back(
    tmp_path: Path, overtrained: tuple[TextClassifier, TextClassifier]
) -> None:
    plain, calibrated = overtrained
    path = tmp_path / "model"
    sha256 = calibrated.save(path)
    tensors, header = storage.read_tensors(path)
    assert header["calibration"] == calibrated.mix_[0]
    assert header["training"]["calibrate"] is True
    again = TextClassifier.load(path)
    assert (again.mix_, again.calibrate) == (calibrated.mix_, True)
    np.testing.assert_array_equal(again.predict_proba(TEXTS), calibrated.predict_proba(TEXTS))
    assert again.save(tmp_path / "again") == sha256
    # Without it, the file is what it was before there was calibration.
    plain.save(path)
    unlike, other = storage.read_tensors(path)
    assert set(header) - set(other) == {"calibration"}
    assert set(header["training"]) - set(other["training"]) == {"calibrate"}
    assert {name: value.tobytes() for name, value in unlike.items()} == {
        name: value.tobytes() for name, value in tensors.items()
    }
    assert TextClassifier.load(path).calibrate is False


def test_without_validation_texts_nothing_is_calibrated(tmp_path: Path) -> None:
    classifier = make(validation_fraction=0.0).fit(TEXTS, LABELS)
    assert classifier.mix_ == (1.0, 0.0)
    classifier.save(tmp_path / "model")
    assert "calibration" not in storage.read_tensors(tmp_path / "model")[1]


def test_the_same_bits_on_any_number_of_threads(tmp_path: Path) -> None:
    shas = {
        make(threads=threads, epochs=2).fit(TEXTS, LABELS).save(tmp_path / "model")
        for threads in (1, 2, 3)
    }
    assert len(shas) == 1


def test_calibrate_is_true_or_false() -> None:
    with pytest.raises(ConfigError, match="calibrate='yes' is neither True nor False"):
        make(calibrate="yes").fit(TEXTS, LABELS)


@pytest.mark.parametrize("odd", [0.0, -1.0, 1, "1", None, [1.0], True])
def test_a_file_with_an_odd_factor_is_no_model(tmp_path: Path, odd: Any) -> None:
    path = tmp_path / "model"
    make(epochs=1).fit(TEXTS, LABELS).save(path)
    tensors, header = storage.read_tensors(path)
    for key in ("checksum", "format_version"):
        header.pop(key, None)
    header["calibration"] = odd
    storage.write_tensors(path, tensors, header)
    with pytest.raises(ModelFileError, match=r"not a usable model \(calibration is .* not a pos"):
        TextClassifier.load(path)
