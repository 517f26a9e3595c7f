"""The precision that a user asks for reaches training, prediction, files and checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from test_estimator import LABELS, TEXTS, make
from tidegate import TextClassifier, ops, storage
from tidegate.errors import ConfigError, ModelFileError, TrainingError
from tidegate.model import ModelConfig, TextModel


def test_auto_is_as_exact_as_float32() -> None:
    assert ops.choose_precision("auto") == "float32"
    for precision in ("bf16x3", "bfloat16"):
        assert ops.choose_precision(precision) == precision


def test_unknown_precisions_are_refused() -> None:
    with pytest.raises(
        ConfigError, match="'float16' is not one of auto, float32, bf16x3, bfloat16"
    ):
        make(precision="float16").fit(TEXTS, LABELS)
    with pytest.raises(ConfigError, match="precision='auto' is not one of float32"):
        TextModel.initialize(ModelConfig(), 0, "auto")  # type: ignore[arg-type]


@pytest.mark.parametrize(("precision", "near"), [("bfloat16", 0.02), ("bf16x3", 1e-4)])
def test_a_classifier_trains_with_it_and_its_file_keeps_it(
    tmp_path: Path, precision: str, near: float
) -> None:
    exact = make().fit(TEXTS, LABELS)
    found = make(precision=precision).fit(TEXTS, LABELS)
    name = "recurrent.recurrent_kernel"
    assert (found.model_.parameters[name] != exact.model_.parameters[name]).any()
    assert found.history_[-1].loss == pytest.approx(exact.history_[-1].loss, rel=near)
    path = tmp_path / "model.safetensors"
    sha256 = found.save(path)
    assert storage.read_tensors(path)[1]["precision"] == precision
    again = TextClassifier.load(path)
    assert (again.precision, again.model_.precision) == (precision, precision)
    np.testing.assert_array_equal(again.predict_proba(TEXTS), found.predict_proba(TEXTS))
    assert again.save(tmp_path / "again.safetensors") == sha256
    other = make(precision=precision).fit(TEXTS, LABELS)
    assert other.save(tmp_path / "other.safetensors") == sha256


def test_a_file_with_another_precision_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    make().fit(TEXTS, LABELS).save(path)
    tensors, header = storage.read_tensors(path)
    storage.write_tensors(path, tensors, {**header, "precision": "float8"})
    with pytest.raises(ModelFileError, match="'float8' is not one of float32, bf16x3, bfloat16"):
        TextClassifier.load(path)


def test_a_checkpoint_goes_on_in_its_own_precision(tmp_path: Path) -> None:
    checkpoint = tmp_path / "run.safetensors"

    def stopped(precision: str) -> Any:
        return make(precision=precision).fit_steps(
            TEXTS, LABELS, checkpoint=checkpoint, resume=True
        )

    events = stopped("bfloat16")
    for event in events:
        if hasattr(event, "val_loss"):  # the first epoch's end, when the checkpoint is written
            break
    events.close()
    with pytest.raises(TrainingError, match="precision='bfloat16' there, 'float32' here"):
        list(stopped("float32"))
    assert len(list(stopped("bfloat16"))) > 1
