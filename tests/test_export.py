"""What is exported computes what tidegate does, comes back as it was, and is the same each time."""

from __future__ import annotations

import ast
import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foreign import random_classifier, random_config
from tidegate import TextClassifier, ops
from tidegate.cli import main
from tidegate.errors import (
    ConfigError,
    ConversionError,
    NotFittedError,
    OutputError,
    OutputExistsError,
    ShapeError,
    TidegateError,
)
from tidegate.interop import gates, onnx_runtime, proof
from tidegate.interop.exporting import TARGETS, export_model
from tidegate.interop.importing import ImportOptions, import_model
from tidegate.model import ModelConfig

SMALL = ModelConfig(
    vocabulary_size=11, embedding_size=3, hidden_size=4, max_length=6, masked=True, classes=3
)
CELLS = (("gru", "after"), ("gru", "before"), ("lstm", "after"), ("rnn", "after"))
PACKAGES = {"keras": "h5py", "torch": "safetensors", "onnx": "onnx"}


def exported(config: ModelConfig, target: str, folder: Path, seed: int = 0) -> Any:
    pytest.importorskip(PACKAGES[target])
    path = folder / f"model{TARGETS[target]}"
    return export_model(random_classifier(config, seed), path, target)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("seed", range(30))
def test_every_shape_is_proven(target: str, seed: int, tmp_path: Path) -> None:
    made = exported(random_config(seed), target, tmp_path, seed)
    assert 0 <= made.difference < 5e-6
    assert all(path.exists() for path in made.paths)
    if target == "torch":
        ast.parse(made.paths[0].read_text(encoding="utf-8"))
    if target == "onnx" and onnx_runtime.version() is not None:
        assert "ONNX Runtime" in made.side


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_it_comes_back_as_it_was(
    cell: tuple[str, str], target: str, bidirectional: bool, masked: bool, tmp_path: Path
) -> None:
    config = replace(
        SMALL, cell=cell[0], reset=cell[1], bidirectional=bidirectional, masked=masked, layers=2
    )
    made = exported(config, target, tmp_path)
    back = import_model(made.paths[-2], made.paths[-1]).trained
    original = random_classifier(config)
    assert back.model.config == config
    assert back.tokenizer == original.tokenizer_
    assert back.classes.tolist() == original.classes_.tolist()
    for name, array in original.model_.parameters.items():
        found = back.model.parameters[name]
        if name == "embedding.weight":  # id 3 is nobody's, and an exported text holds no padding
            rows = [1, 2, *range(4, 11)]
            found, array = found[rows], array[rows]
        np.testing.assert_allclose(found, array, rtol=0, atol=1e-7, err_msg=name)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("seed", range(30))
def test_every_shape_comes_back_without_options(target: str, seed: int, tmp_path: Path) -> None:
    config = random_config(seed)
    made = exported(config, target, tmp_path, seed)
    back = import_model(made.paths[-2], made.paths[-1])
    assert back.trained.model.config == config
    assert 0 <= back.difference < 5e-6


POOLED = replace(SMALL, pooling="attention+last+max+mean", bidirectional=True)


def changed_keras(folder: Path, change: Any) -> tuple[Path, Path]:
    """An export whose layers' entries were changed, and its vocabulary."""
    made = exported(POOLED, "keras", folder)
    with zipfile.ZipFile(made.paths[0]) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    tree = json.loads(parts["config.json"])
    change({layer["name"]: layer for layer in tree["config"]["layers"]}, tree["config"])
    parts["config.json"] = json.dumps(tree).encode()
    with zipfile.ZipFile(made.paths[0], "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    model, vocabulary = made.paths
    return model, vocabulary


def test_pooling_of_keras_is_known_in_another_order(tmp_path: Path) -> None:
    """Keras writes the layers by their depth, and more settings."""

    def change(layers: dict[str, Any], config: Any) -> None:
        first = ["ids", "ids_as_numbers", "words", "embedding"]
        rest = [layer for layer in config["layers"] if layer["name"] not in first]
        config["layers"] = [*(layers[name] for name in first), *rest]
        layers["words"]["config"]["negative_slope"] = 0.0

    back = import_model(*changed_keras(tmp_path, change)).trained
    assert back.model.config == POOLED


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        ("max_padding", "scale", 3.0),
        ("words", "negative_slope", 0.1),
        ("words", "max_value", 2.0),
        ("mean_sum", "normalize", True),
        ("is_word", "target_shape", [1, -1]),
        ("attention_shares", "axis", -1),
        ("pooled", "axis", 1),
    ],
)
def test_pooling_of_keras_that_was_changed_is_refused(
    name: str, setting: str, value: Any, tmp_path: Path
) -> None:
    def change(layers: dict[str, Any], config: Any) -> None:
        layers[name]["config"][setting] = value

    paths = changed_keras(tmp_path, change)
    with pytest.raises(ConversionError, match=f"layer '{name}' is not the .* that tidegate's exp"):
        import_model(*paths)


def test_pooling_of_keras_with_other_names_is_a_graph_like_any(tmp_path: Path) -> None:
    def change(layers: dict[str, Any], config: Any) -> None:
        config["layers"] = json.loads(json.dumps(config["layers"]).replace('"mean"', '"average"'))

    with pytest.raises(ConversionError, match="which stands before it; give a chain"):
        import_model(*changed_keras(tmp_path, change))


def test_the_vocabulary_tells_the_pooling_of_a_state_dict(tmp_path: Path) -> None:
    config = replace(SMALL, pooling="mean")
    made = exported(config, "torch", tmp_path)
    told = json.loads(made.paths[-1].read_text(encoding="utf-8"))
    assert told["pooling"] == "mean"
    _, weights, vocabulary = made.paths
    given = import_model(weights, vocabulary, ImportOptions(pooling="max"))
    assert given.trained.model.config.pooling == "max"
    for value, message in ((5, "not as it was exported"), ("most", "pooling='most' is not one of")):
        made.paths[-1].write_text(json.dumps({**told, "pooling": value}))
        with pytest.raises(TidegateError, match=message):
            import_model(*made.paths[1:])
    del told["pooling"]  # as files were before
    made.paths[-1].write_text(json.dumps(told))
    assert import_model(*made.paths[1:]).trained.model.config.pooling == "last"


def test_what_was_measured_stays_with_the_weights(tmp_path: Path) -> None:
    made = exported(replace(SMALL, classes=2), "torch", tmp_path)
    imported = import_model(*made.paths[1:])
    imported.save(tmp_path / "a")
    first = TextClassifier.load(tmp_path / "a")
    told = first.conversion_
    assert told == {"from": imported.source, "largest_difference": imported.difference}
    first.tune_threshold(["w1", "w2", "w3"] * 4, ["label 0", "label 1", "label 1"] * 4)
    first.save(tmp_path / "b")
    again = TextClassifier.load(tmp_path / "b")
    assert again.conversion_ == told
    # Of rounded weights, and of those that have learnt more, nothing was measured.
    again.save(tmp_path / "c", quantize="int8")
    assert TextClassifier.load(tmp_path / "c").conversion_ is None
    texts, labels = ["w1 w2", "w3 w4"] * 8, ["label 0", "label 1"] * 8
    assert TextClassifier.continue_from(again, texts, labels, epochs=1).conversion_ is None
    again.partial_fit(texts, labels)
    assert again.conversion_ is None
    first.set_params(epochs=1).fit(texts, labels)
    assert first.conversion_ is None


def test_onnx_runtime_prints_nothing(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Of what it can't run it raises an error, which is told in a line."""
    pytest.importorskip("onnxruntime")
    data = exported(SMALL, "onnx", tmp_path).paths[0].read_bytes()
    assert data.count(b"Gemm") > 0
    for damaged in (b"", data[:100], data[:-50], data.replace(b"Gemm", b"G\xffmm")):
        with pytest.raises(ConversionError, match="ONNX Runtime can't run the graph"):
            onnx_runtime.run(damaged, {"ids": np.zeros((1, 2), np.int64)})
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("target", TARGETS)
def test_the_same_model_gives_the_same_bytes(target: str, tmp_path: Path) -> None:
    first = exported(SMALL, target, tmp_path)
    contents = [path.read_bytes() for path in first.paths]
    again = exported(SMALL, target, tmp_path)
    assert [path.read_bytes() for path in again.paths] == contents


def test_the_difference_is_told_in_the_files(tmp_path: Path) -> None:
    import safetensors

    for target in TARGETS:
        made = exported(SMALL, target, tmp_path)
        path = made.paths[0]
        if target == "keras":
            with zipfile.ZipFile(path) as archive:
                told = json.loads(archive.read("metadata.json"))["tidegate"]
        elif target == "torch":
            with safetensors.safe_open(made.paths[1], "np") as file:
                told = json.loads(file.metadata()["tidegate"])
        else:
            import onnx

            (entry,) = onnx.load(path).metadata_props
            told = json.loads(entry.value)
        assert told["largest_difference"] == made.difference
        assert told["proven_against"] == made.side


def test_the_vocabulary_lies_beside(tmp_path: Path) -> None:
    made = exported(SMALL, "torch", tmp_path)
    assert [path.name for path in made.paths] == [
        "model.py",
        "model.weights.safetensors",
        "model.vocabulary.json",
    ]
    told = json.loads(made.paths[-1].read_text(encoding="utf-8"))
    assert told["words"] == {f"w{i}": 4 + i for i in range(7)}
    assert (told["padding"], told["start"], told["unknown"]) == (0, 1, 2)
    assert told["labels"] == ["label 0", "label 1", "label 2"]
    assert (told["tokenizer"], told["max_length"], told["padding_is_read"]) == ("words", 6, False)


def test_a_tuned_threshold_goes_along(tmp_path: Path) -> None:
    classifier = random_classifier(replace(SMALL, classes=2))
    classifier.thresholds_ = np.array([0.25])
    made = export_model(classifier, tmp_path / "model.py", "torch")
    imported = import_model(made.paths[1], made.paths[2])
    imported.save(tmp_path / "back.safetensors")
    back = TextClassifier.load(tmp_path / "back.safetensors")
    assert back.thresholds_ is not None
    assert back.thresholds_.tolist() == [0.25]


def test_bfloat16_and_int8_models_are_exported_as_their_float32_weights(tmp_path: Path) -> None:
    classifier = random_classifier(SMALL)
    classifier.save(tmp_path / "int8", quantize="int8")
    loaded = TextClassifier.load(tmp_path / "int8")
    assert export_model(loaded, tmp_path / "a.py", "torch").difference < 1e-6
    from tidegate.model import TextModel

    classifier.model_ = TextModel(SMALL, dict(classifier.model_.parameters), "bfloat16")
    assert export_model(classifier, tmp_path / "b.py", "torch").difference < 1e-6


def test_what_cannot_be_exported_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.py"
    classifier = random_classifier(SMALL)
    with pytest.raises(ConfigError, match="to='tf' is not one of keras, torch, onnx"):
        export_model(classifier, path, "tf")
    with pytest.raises(ConfigError, match=r"does not end in \.onnx"):
        export_model(classifier, path, "onnx")
    with pytest.raises(OutputError, match="create the folder"):
        export_model(classifier, tmp_path / "no" / "model.py", "torch")
    with pytest.raises(NotFittedError):
        export_model(TextClassifier(), path, "torch")
    texts, labels = ["good film", "bad film"] * 4, ["a", "b"] * 4
    both = TextClassifier(epochs=1, embedding_size=2, hidden_size=2, ngrams=1).fit(texts, labels)
    with pytest.raises(ConversionError, match="ngrams=0"):
        export_model(both, path, "torch")
    classifier.model_.parameters["output.bias"][0] = np.nan
    with pytest.raises(ShapeError, match="not finite"):
        export_model(classifier, path, "torch")
    assert not list(tmp_path.iterdir())


def test_a_network_is_exported_alone_if_that_is_asked_for(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    texts, labels = ["good film", "bad film"] * 8, ["a", "b"] * 8
    both = TextClassifier(epochs=1, embedding_size=2, hidden_size=2, ngrams=1).fit(texts, labels)
    path = tmp_path / "model.onnx"
    with pytest.raises(ConversionError, match="without_ngrams=True"):
        export_model(both, path, "onnx")
    export_model(both, path, "onnx", without_ngrams=True)
    ids = both.tokenizer_.encode("good film").reshape(1, -1)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    kind = np.int64 if session.get_inputs()[0].type == "tensor(int64)" else np.int32
    found = dict(
        zip(
            (output.name for output in session.get_outputs()),
            session.run(None, {name: ids.astype(kind)}),
            strict=True,
        )
    )
    logits = both.model_.predict_logits(both.tokenizer_.encode_all(["good film"], 200))
    np.testing.assert_allclose(found["logits"], logits, atol=1e-5)


def test_files_that_are_there_are_kept(tmp_path: Path) -> None:
    classifier = random_classifier(SMALL)
    export_model(classifier, tmp_path / "model.py", "torch", replace=False)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(OutputExistsError, match=r"model\.py"):
        export_model(classifier, tmp_path / "model.py", "torch", replace=False)
    pytest.importorskip("onnx")
    export_model(classifier, tmp_path / "model.onnx", "onnx", replace=False)  # the same words
    (tmp_path / "model.onnx").unlink()
    other = random_classifier(replace(SMALL, vocabulary_size=12))
    with pytest.raises(OutputExistsError, match="other words"):
        export_model(other, tmp_path / "model.onnx", "onnx", replace=False)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("target", TARGETS)
def test_a_wrong_conversion_is_found(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gates in another order: nothing is written, and the first tensor that differs is named."""
    pytest.importorskip(PACKAGES[target])
    wrong = {**gates.ORDERS[target], "gru": ("candidate", "reset", "update")}
    monkeypatch.setitem(gates.ORDERS, target, wrong)
    classifier = random_classifier(replace(SMALL, pooling="mean"))
    with pytest.raises(ConversionError, match=r"first in the tensor 'recurrent'"):
        export_model(classifier, tmp_path / f"model{TARGETS[target]}", target)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("framework", ["keras", "torch", "onnx"])
@pytest.mark.parametrize("cell", CELLS)
def test_gates_there_and_back(framework: gates.Framework, cell: tuple[str, str]) -> None:
    count = len(ops.GATES[cell[0]])
    random = np.random.default_rng(0)

    def draw(*shape: int) -> Any:
        return random.standard_normal(shape).astype(np.float32)

    second = draw(5 * count) if cell == ("gru", "after") else None
    weights = ops.RecurrentWeights(draw(3, 5 * count), draw(5, 5 * count), draw(5 * count), second)
    back = gates.ours(framework, *cell, *gates.theirs(framework, cell[0], weights))
    np.testing.assert_array_equal(back.kernel, weights.kernel)
    np.testing.assert_array_equal(back.recurrent_kernel, weights.recurrent_kernel)
    np.testing.assert_array_equal(back.bias, weights.bias)
    if second is not None:
        np.testing.assert_array_equal(back.recurrent_bias, second)


def test_the_proofs_texts() -> None:
    rows = proof.draw_rows(SMALL)
    lengths = [len(row) for row in rows]
    assert {0, 1, 2, SMALL.max_length} <= set(lengths)
    assert max(lengths) == SMALL.max_length
    assert not {0, 3} & set(np.concatenate(rows).tolist())


def test_the_command_names_its_own_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts, labels = ["good film", "bad film"] * 8, ["a", "b"] * 8
    both = TextClassifier(epochs=1, embedding_size=2, hidden_size=2, ngrams=1).fit(texts, labels)
    both.save(tmp_path / "model.safetensors")
    assert main(["export", str(tmp_path / "model.safetensors"), "--to", "onnx"]) == 2
    assert "alone (--without-ngrams), or" in capsys.readouterr().err
