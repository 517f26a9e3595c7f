"""Models of several labels a text: they go on learning, and in and out of other frameworks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foreign import random_classifier, random_config
from test_cli import assert_refused, write_table
from test_estimator import LABELS, TEXTS, make
from tidegate import TextClassifier
from tidegate.cli import main
from tidegate.continuing import Start
from tidegate.errors import ConfigError, ConversionError, DataError, ShapeError, TrainingError
from tidegate.interop import onnx_runtime
from tidegate.interop.exporting import TARGETS, export_model
from tidegate.interop.importing import ImportOptions, import_model
from tidegate.ngrams import fit_ngrams, hash_texts, with_classes

EVERY = [[label, *(["short"] if i % 3 else [])] for i, label in enumerate(LABELS)]


@pytest.fixture(scope="module")
def several() -> TextClassifier:
    """For tests that change nothing of it."""
    return make(epochs=4, ngrams=2).fit(TEXTS, EVERY)


# --- going on ----------------------------------------------------------------------------------


def test_the_old_labels_begin_as_they_ended(several: TextClassifier) -> None:
    start = Start(several)
    assert start.known.many
    config = replace(several.model_.config, classes=5)
    classes = np.array(["a", "neg", "pos", "short", "z"])
    model = start.model(config, classes, 0, "float32")
    encoded = several.tokenizer_.encode_all(TEXTS[:20], several.model_.config.max_length)
    found = model.predict_logits(encoded)[:, [1, 2, 3]]
    np.testing.assert_array_equal(found, several.model_.predict_logits(encoded))
    grown = start.ngrams(classes)
    assert grown is not None
    assert several.ngrams_ is not None
    scores = grown.scores(TEXTS[:20])
    np.testing.assert_array_equal(scores[:, [1, 2, 3]], several.ngrams_.scores(TEXTS[:20]))
    assert not scores[:, [0, 4]].any()


def test_a_new_label_is_learnt_beside_the_others(several: TextClassifier, tmp_path: Path) -> None:
    texts = [f"{text} soso" if i % 2 else text for i, text in enumerate(TEXTS)]
    labels = [[*row, "new"] if i % 2 else row for i, row in enumerate(EVERY)]
    several.save(tmp_path / "start")
    new = TextClassifier.continue_from(
        tmp_path / "start", texts, labels, keep=(TEXTS[:50], EVERY[:50]), max_loss=0.2, epochs=6
    )
    assert new.classes_.tolist() == ["neg", "new", "pos", "short"]
    assert new.predict(["a film soso", "a film"])[:, 1].tolist() == [1, 0]
    fresh = new.predict(TEXTS)[:, [0, 2]]
    wanted = np.array([[label == "neg", label == "pos"] for label in LABELS])
    assert (fresh == wanted).mean() > 0.9
    with pytest.raises(TrainingError, match="accuracy on the 50 kept texts fell"):
        TextClassifier.continue_from(
            several,
            TEXTS,
            [["pos" if label == "neg" else "neg"] for label in LABELS],
            keep=(TEXTS[:50], EVERY[:50]),
            epochs=8,
        )


def test_labels_that_do_not_fit_the_model(several: TextClassifier) -> None:
    with pytest.raises(DataError, match="gives a text several labels, and these are single"):
        TextClassifier.continue_from(several, TEXTS, LABELS)
    with pytest.raises(DataError, match="labels are int, and the model's are str"):
        TextClassifier.continue_from(several, TEXTS[:2], [[1], [2]])
    single = make(epochs=1).fit(TEXTS, LABELS)
    with pytest.raises(DataError, match="gives a text one label, and these are several"):
        TextClassifier.continue_from(single, TEXTS, EVERY)
    with pytest.raises(DataError, match="array of 2 columns, and the model has 3"):
        TextClassifier.continue_from(several, TEXTS[:2], np.array([[0, 1], [1, 0]]))


def test_partial_fit_of_several_labels() -> None:
    def learnt(labels: Any, classes: Any) -> TextClassifier:
        classifier = make(validation_fraction=0.0, learning_rate=0.01)
        for _ in range(4):
            classifier.partial_fit(TEXTS[:100], labels[:100], classes)
            classifier.partial_fit(TEXTS[100:], labels[100:])
        return classifier

    table = np.array([[name in row for name in ("neg", "pos", "short")] for row in EVERY])
    lists = learnt(EVERY, ["neg", "pos", "short"])
    columns = learnt(table.astype(int), [0, 1, 2])
    assert lists.model_.config.targets == "many"
    assert (lists.predict(TEXTS)[:, :2] == table[:, :2]).mean() > 0.9
    for name, value in lists.model_.parameters.items():
        np.testing.assert_array_equal(value, columns.model_.parameters[name])
    with pytest.raises(DataError, match="label 'other' is not one of the model's"):
        lists.partial_fit(["a"], [["other"]])
    with pytest.raises(DataError, match="a text may have several"):
        lists.partial_fit(["a"], ["neg"])
    with pytest.raises(ConfigError, match=r"class_weight=.* is for one label a text"):
        make(class_weight={"neg": 2.0}).partial_fit(TEXTS, EVERY, ["neg", "pos", "short"])


def test_a_linear_model_goes_on_label_by_label() -> None:
    rows = hash_texts(TEXTS, "words", 2, 12)
    targets = np.array([[name in row for name in ("neg", "short")] for row in EVERY], np.int32)
    settings: dict[str, Any] = {"kind": "words", "longest": 2, "bits": 12}
    start = fit_ngrams(rows, targets, 2, **settings)
    other = targets[::-1].copy()
    together = fit_ngrams(rows, other, 2, **settings, seed=3, start=start)
    for k in range(2):
        alone = replace(start, weights=start.weights[:, k : k + 1], bias=start.bias[k : k + 1])
        own = fit_ngrams(rows, other[:, k].copy(), 2, **settings, seed=3 + k, start=alone)
        np.testing.assert_array_equal(together.weights[:, k], own.weights[:, 0])
        np.testing.assert_array_equal(together.bias[k], own.bias[0])
    with pytest.raises(ShapeError, match="of other classes or bits"):
        fit_ngrams(rows, targets, 2, **settings, start=with_classes(start, np.array([0, 2]), 3))


# --- in and out --------------------------------------------------------------------------------


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("seed", range(6))
def test_it_goes_out_and_comes_back(target: str, seed: int, tmp_path: Path) -> None:
    config = replace(random_config(seed), targets="many", classes=2 + seed % 3, masked=seed % 2 > 0)
    if "attention" in config.pooling:
        config = replace(config, masked=True)
    if target == "keras":  # which keeps its other poolings as operations that are not imported
        config = replace(config, pooling="last")
    classifier = random_classifier(config, seed)
    classifier.thresholds_ = np.linspace(0.1, 0.9, config.classes)
    made = export_model(classifier, tmp_path / f"model{TARGETS[target]}", target)
    assert made.difference < 5e-6
    told = json.loads(made.paths[-1].read_text(encoding="utf-8"))
    assert told["targets"] == "many"
    if target == "torch" and config.pooling not in ("last", "max", "mean"):
        return
    pooling = config.pooling if target == "torch" else None
    if target == "torch" and config.layer_norm:
        return
    back = import_model(made.paths[-2], made.paths[-1], ImportOptions(pooling=pooling)).trained
    assert back.model.config == config
    assert back.thresholds is not None
    np.testing.assert_array_equal(back.thresholds, classifier.thresholds_)
    back_classifier = TextClassifier.load(_saved(back, tmp_path))
    texts = ["w0 w1 w2", "", "w3 w0 unheard w1", "w1 " * 30]
    np.testing.assert_allclose(
        back_classifier.predict_proba(texts), classifier.predict_proba(texts), atol=1e-6
    )
    np.testing.assert_array_equal(back_classifier.predict(texts), classifier.predict(texts))


def _saved(trained: Any, folder: Path) -> Path:
    from tidegate import model_file

    model_file.write(folder / "back.safetensors", trained)
    return folder / "back.safetensors"


def test_onnx_gives_each_labels_own_probability(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    config = replace(random_config(1), targets="many", classes=3, masked=True, max_length=8)
    classifier = random_classifier(config, 1)
    export_model(classifier, tmp_path / "model.onnx", "onnx")
    texts = ["w0 w1 w0", "w1 w2 w3"]
    ids = np.stack([classifier.tokenizer_.encode(text) for text in texts]).astype(np.int64)
    found = onnx_runtime.run((tmp_path / "model.onnx").read_bytes(), {"ids": ids})
    np.testing.assert_allclose(found["probabilities"], classifier.predict_proba(texts), atol=1e-6)
    assert abs(found["probabilities"].sum(axis=1) - 1.0).min() > 1e-3


def test_labels_in_another_order_and_what_the_outputs_say(tmp_path: Path) -> None:
    config = replace(random_config(3), targets="many", classes=2, pooling="last", layer_norm=False)
    classifier = random_classifier(config, 3)
    keras = export_model(classifier, tmp_path / "model.keras", "keras")
    turned = import_model(keras.paths[0], keras.paths[1], ImportOptions(labels=["z", "a"])).trained
    kernel = classifier.model_.parameters["output.kernel"]
    np.testing.assert_allclose(turned.model.parameters["output.kernel"], kernel[:, ::-1], atol=1e-7)
    assert turned.classes.tolist() == ["a", "z"]
    assert turned.thresholds is None
    with pytest.raises(ConfigError, match="targets='one' is not what 2 outputs with sigmoid say"):
        import_model(keras.paths[0], keras.paths[1], ImportOptions(targets="one"))
    with pytest.raises(ConfigError, match="targets='both' is not one of one, many"):
        import_model(keras.paths[0], keras.paths[1], ImportOptions(targets="both"))
    # A state dict has no activation: its vocabulary tells, or an option.
    torch = export_model(classifier, tmp_path / "model.py", "torch")
    told = json.loads(torch.paths[-1].read_text(encoding="utf-8"))
    del told["targets"]
    words = tmp_path / "words.json"
    words.write_text(json.dumps(told), encoding="utf-8")
    assert import_model(torch.paths[-2], words).trained.model.config.targets == "one"
    options = ImportOptions(targets="many")
    assert import_model(torch.paths[-2], words, options).trained.model.config.targets == "many"
    words.write_text(json.dumps({**told, "targets": "some"}), encoding="utf-8")
    with pytest.raises(DataError, match="not as it was exported"):
        import_model(torch.paths[-2], words)


def test_ngrams_stay_behind(several: TextClassifier, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="linear one of n-grams"):
        export_model(several, tmp_path / "model.py", "torch")
    made = export_model(several, tmp_path / "model.py", "torch", without_ngrams=True)
    assert "torch.sigmoid(self(ids))" in made.paths[0].read_text(encoding="utf-8")


# --- at the command line -----------------------------------------------------------------------


def test_a_table_of_several_labels_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    small = ("--hidden-size", "8", "--embedding-size", "8", "--epochs", "2", "--quiet")
    cells = [";".join(row) for row in EVERY]
    write_table(tmp_path / "old.csv", TEXTS, cells)
    write_table(tmp_path / "new.csv", TEXTS[:60], ["new"] * 30 + ["neg"] * 30)
    command = ["train", "old.csv", *small, "--label-separator", ";", "-o", "old.safetensors"]
    assert main(command) == 0
    going_on = ["train", "new.csv", "--from", "old.safetensors", "--quiet", "--epochs", "2"]
    status = main(going_on)
    assert_refused(status, capsys.readouterr().err, "several labels", "--label-separator")
    for how in ("--stream", "--in-memory"):
        more = ["--label-separator", ";", "--keep", "old.csv", "--max-loss", "1", how]
        assert main([*going_on, *more, "-o", f"{how[2:]}.safetensors"]) == 0, capsys.readouterr()
    found = TextClassifier.load("stream.safetensors")
    assert found.classes_.tolist() == ["neg", "new", "pos", "short"]
    assert Path("stream.safetensors").read_bytes() == Path("in-memory.safetensors").read_bytes()
    assert main(["train", "new.csv", *small, "-o", "one.safetensors"]) == 0
    status = main([*going_on[:3], "one.safetensors", "--label-separator", ";", "-o", "x"])
    assert_refused(status, capsys.readouterr().err, "gives a text one label; leave it out")
