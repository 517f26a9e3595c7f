"""A trained model becomes one of another framework, and is proven to be the same."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import tidegate
from tidegate import atomic
from tidegate.checks import check_path
from tidegate.errors import (
    ConfigError,
    ConversionError,
    NotFittedError,
    OutputExistsError,
    unknown_choice,
)
from tidegate.estimator import TextClassifier
from tidegate.interop import proof
from tidegate.interop.network import Array, Stages
from tidegate.interop.vocabulary import vocabulary_json
from tidegate.model import TextModel
from tidegate.model_file import TrainedModel
from tidegate.ngrams import decides_alone

TARGETS = {"keras": ".keras", "torch": ".py", "onnx": ".onnx"}


@dataclass(frozen=True)
class Exported:
    """What was written, the model first, and what the proof measured: the logits' largest
    difference, against ``side``. ignored: whether it is a network that its model did not listen to,
    because n-grams decided alone there.
    """

    paths: tuple[Path, ...]
    difference: float
    side: str
    ignored: bool = False


@dataclass(frozen=True)
class _Proof:
    """How the other side is called, and what it computes of the proof's texts."""

    side: str
    difference: float

    def metadata(self) -> dict[str, Any]:
        return {
            "tidegate": tidegate.__version__,
            "proven_against": self.side,
            "largest_difference": self.difference,
        }


def paths_of(output: Path, target: str) -> tuple[Path, ...]:
    """The files of an export, the model's own first. ConfigError for another ending."""
    if not isinstance(target, str) or target not in TARGETS:
        raise unknown_choice("to", target, TARGETS)
    suffix = TARGETS[target]
    if output.suffix.lower() != suffix:
        raise ConfigError(f"{str(output)!r} does not end in {suffix}, as {target} models do")
    stem = output.with_suffix("")
    vocabulary = stem.with_name(f"{stem.name}.vocabulary.json")
    if target == "torch":
        return output, stem.with_name(f"{stem.name}.weights.safetensors"), vocabulary
    return output, vocabulary


def export_model(
    classifier: TextClassifier,
    output: str | os.PathLike[str],
    target: str,
    *,
    replace: bool = True,
    without_ngrams: bool = False,
) -> Exported:
    """Write a classifier for "keras", "torch" or "onnx", with its vocabulary beside it.

    without_ngrams: whether of a model with a linear one beside it the network is written alone,
    which then judges by itself, and worse.

    ConversionError for what the target can't express, and if the two sides' numbers differ.
    Without ``replace``, OutputExistsError for a file that is there. Every file is whole or not
    there at all.
    """
    paths = paths_of(check_path("output", output), target)
    for path in paths:
        atomic.check_writable(path)
    if not classifier.__sklearn_is_fitted__():
        raise NotFittedError("this TextClassifier is not trained yet; call fit or load first")
    if classifier.ngrams_ is not None and not without_ngrams:
        raise ConversionError(
            "the model has a linear one of n-grams beside the network, which reads texts and not "
            "ids; export the network alone (without_ngrams=True), or a model that was trained "
            "without it, by --ngrams 0 (ngrams=0)"
        )
    trained = TrainedModel(
        classifier.model_,
        classifier.tokenizer_,
        classifier.classes_,
        classifier.training_,
        classifier.history_,
        thresholds=classifier.thresholds_,
    )
    words = vocabulary_json(trained)
    if not replace:
        _check_new(paths, words)
    # The factor of a sum says nothing of the network alone.
    factor = classifier.mix_[0] if classifier.ngrams_ is None else 1.0
    model = _calibrated(proof.float32_model(classifier.model_), factor)
    model.check_finite()
    made, proven = _MAKERS[target](model, paths)
    contents = [*made, words]
    # The model comes last: where it is, all is.
    for path, content in reversed(list(zip(paths, contents, strict=True))):
        atomic.write(path, [content], replace=replace)
    ignored = classifier.ngrams_ is not None and decides_alone(classifier.mix_)
    return Exported(paths, proven.difference, proven.side, ignored)


def _calibrated(model: TextModel, factor: float) -> TextModel:
    """The model with the factor of its logits made part of the output layer."""
    if factor == 1.0:
        return model
    parameters = dict(model.parameters)
    for name in ("output.kernel", "output.bias"):
        parameters[name] = parameters[name] * np.float32(factor)
    return TextModel(model.config, parameters)


def _check_new(paths: Sequence[Path], words: bytes) -> None:
    """OutputExistsError for a file that is there; another export's vocabulary may be the same."""
    *models, vocabulary = paths
    for path in models:
        if os.path.lexists(path):
            raise OutputExistsError(f"{str(path)!r} is there already; choose another name")
    if os.path.lexists(vocabulary) and vocabulary.read_bytes() != words:
        raise OutputExistsError(
            f"{str(vocabulary)!r} is there already and has other words; choose another name"
        )


def _prove(model: TextModel, side: str, stages: Callable[[Sequence[Array]], Stages]) -> _Proof:
    rows = proof.draw_rows(model.config)
    return _Proof(side, proof.prove(model, rows, lambda: stages(rows), side))


def _keras(model: TextModel, paths: Sequence[Path]) -> tuple[list[bytes], _Proof]:
    from tidegate.interop import keras_export, keras_file

    made, graph = keras_export.to_keras(model)
    proven = _prove(
        model,
        "Keras's documented arithmetic in float64",
        lambda rows: keras_export.stages_of(made, model.config, rows),
    )
    metadata = {
        "keras_version": keras_export.KERAS_VERSION,
        "date_saved": "",
        "tidegate": proven.metadata(),
    }
    return [keras_file.write_bytes(made, graph, metadata)], proven


def _torch(model: TextModel, paths: Sequence[Path]) -> tuple[list[bytes], _Proof]:
    from tidegate.interop import torch_export

    modules = torch_export.modules_of(model.config)
    state = torch_export.state_of(model, modules)
    proven = _prove(
        model,
        "PyTorch's documented arithmetic in float64",
        lambda rows: torch_export.stages_of(modules, state, model.config, rows),
    )
    program = torch_export.source(model.config, modules, paths[1].name)
    return [program.encode(), torch_export.weights_bytes(state, proven.metadata())], proven


def _onnx(model: TextModel, paths: Sequence[Path]) -> tuple[list[bytes], _Proof]:
    from tidegate.interop import onnx_export, onnx_graph, onnx_runtime

    config = model.config
    graph = onnx_export.to_onnx(model)
    dims = onnx_export.output_dims(config)
    proven = _prove(
        model,
        "ONNX's documented operators in float64",
        lambda rows: onnx_export.stages_of(graph, config, rows),
    )
    version = onnx_runtime.version()
    if version is not None:
        data = onnx_graph.to_bytes(graph, dims, proven.metadata())
        by_runtime = _prove(
            model,
            f"ONNX Runtime {version}",
            lambda rows: dict(onnx_runtime.run(data, {"ids": onnx_export.ids_of(config, rows)})),
        )
        proven = _Proof(
            f"{proven.side} and {by_runtime.side}", max(proven.difference, by_runtime.difference)
        )
    return [onnx_graph.to_bytes(graph, dims, proven.metadata())], proven


_MAKERS: dict[str, Callable[[TextModel, Sequence[Path]], tuple[list[bytes], _Proof]]] = {
    "keras": _keras,
    "torch": _torch,
    "onnx": _onnx,
}
