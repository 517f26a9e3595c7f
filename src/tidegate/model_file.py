"""A trained classifier as one file: what it holds, and how it is read back."""

from __future__ import annotations

import math
import os
import reprlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import tidegate
from tidegate import int8, ops, storage
from tidegate.checkpoint import history_size
from tidegate.errors import DataError, ModelFileError, TidegateError, unknown_choice
from tidegate.labels import LABEL_TYPES, stored_classes
from tidegate.model import ModelConfig, TextModel, check_whole
from tidegate.ngrams import LONGEST, MAX_BITS, NgramModel
from tidegate.records import EpochResult
from tidegate.subwords import stored_tokenizer
from tidegate.text import Tokenizer

QUANTIZATIONS = ("int8",)
_LARGEST_FACTOR = 1e6  # of logits; what training finds is near 1


@dataclass(frozen=True)
class TrainedModel:
    """All that predicting texts needs, and what is told of the training.

    classes: sorted labels. training: the estimator's arguments. history: a result for each epoch.
    ngrams: the linear model beside the recurrent one, or None. mix: what both models' logits are
    multiplied by before they are added; without the linear one, what calibrates the network's.
    thresholds: from which probability on the second of two classes is predicted, [1] float64, or
    each of several labels, [labels]; None where the likeliest is, or what is likely.
    conversion: what is known of where an imported model came from, and how exactly it is the same.
    """

    model: TextModel
    tokenizer: Tokenizer
    classes: npt.NDArray[Any]
    training: dict[str, Any]
    history: list[EpochResult]
    ngrams: NgramModel | None = None
    mix: tuple[float, float] = (1.0, 0.0)
    thresholds: npt.NDArray[np.float64] | None = None
    conversion: dict[str, Any] | None = None


def check_quantize(quantize: str | None) -> None:
    """ConfigError unless it is None or one of QUANTIZATIONS."""
    if quantize is None:
        return
    if not isinstance(quantize, str) or quantize not in QUANTIZATIONS:
        raise unknown_choice("quantize", quantize, QUANTIZATIONS)


def check_model_size(
    config: ModelConfig,
    training: dict[str, Any],
    precision: ops.Precision,
    classes: npt.NDArray[Any],
    tokenizer: Tokenizer,
    epochs: int,
) -> None:
    """ConfigError if the model would be too large a file; for use before training."""
    header = _header(config, training, precision, classes, tokenizer, [])
    tensor_bytes = 4 * sum(math.prod(shape) for shape in config.parameter_shapes().values())
    storage.check_size(
        tensor_bytes + len(tokenizer.stored()[1]),
        storage.header_size(header) + history_size(epochs),
        "model",
    )


def write(
    path: str | os.PathLike[str],
    trained: TrainedModel,
    *,
    replace: bool = True,
    quantize: str | None = None,
) -> str:
    """Write the file, whole or not at all; return its sha256. See ``TextClassifier.save``."""
    model, tokenizer = trained.model, trained.tokenizer
    check_quantize(quantize)
    model.check_finite()
    name, words = tokenizer.stored()
    weights = model.parameters if quantize is None else int8.quantize(model.parameters)
    tensors: dict[str, npt.NDArray[Any]] = {**weights, name: np.frombuffer(words, np.uint8)}
    history = [asdict(result) for result in trained.history]
    for result in history:
        del result["seconds"]  # all that differs between two runs of the same job
    header = _header(
        model.config, trained.training, model.precision, trained.classes, tokenizer, history
    )
    if quantize is not None:
        header["quantization"] = quantize
    if trained.conversion is not None:
        header["conversion"] = trained.conversion
    if trained.ngrams is not None:
        header["ngrams"] = {"longest": trained.ngrams.longest, "mix": list(trained.mix)}
        tensors["ngrams.weight"] = trained.ngrams.weights.astype(np.float16)
        tensors["ngrams.bias"] = trained.ngrams.bias
    elif trained.mix[0] != 1.0:
        header["calibration"] = trained.mix[0]
    if trained.thresholds is not None:
        header["thresholds"] = trained.thresholds.tolist()
    return storage.write_tensors(Path(path), tensors, header, replace=replace)


def from_tensors(
    tensors: Mapping[str, npt.NDArray[Any]],
    header: Mapping[str, Any],
    path: str | os.PathLike[str],
) -> TrainedModel:
    """The model of what was read from ``path``. ModelFileError if it is none."""
    tensors = dict(tensors)
    if header.get("kind") != "model":
        raise ModelFileError(
            f"{path} is a {header.get('kind', 'file of unknown kind')}, not a model; give the "
            "file that training wrote at its end"
        )
    quantized = "quantization" in header
    if quantized and header["quantization"] not in QUANTIZATIONS:
        raise ModelFileError(
            f"{path} is quantised to {reprlib.repr(header['quantization'])}, which this "
            f"tidegate does not know, only {', '.join(QUANTIZATIONS)}; upgrade with: pip "
            "install --upgrade tidegate"
        )
    try:
        config = ModelConfig.from_json(header["config"])
        training = {k: v for k, v in header["training"].items() if k != "threads"}
        classes = stored_classes(header["classes"], header["label_type"])
        if len(classes) != config.classes:
            raise DataError(f"{len(classes)} labels for {config.classes} classes")
        marks = {name: header.get(name, True) for name in ("start", "unknown")}
        if not all(isinstance(there, bool) for there in marks.values()):
            raise DataError(f"start and unknown are {marks}")
        tokenizer = stored_tokenizer(header, tensors, marks)
        if tokenizer.vocabulary.size != config.vocabulary_size:
            raise DataError(
                f"{tokenizer.vocabulary.size} ids for a vocabulary_size of {config.vocabulary_size}"
            )
        if "conversion" in header:
            _check_conversion(header["conversion"])
        ngrams, mix = None, (1.0, 0.0)
        if "ngrams" in header:
            ngrams, mix = _read_ngrams(tensors, header["ngrams"], config, tokenizer)
        elif "calibration" in header:
            mix = (_read_factor(header["calibration"]), 0.0)
        thresholds = None
        if "thresholds" in header:
            thresholds = _read_thresholds(header["thresholds"], config)
        if quantized:
            tensors = int8.dequantize(tensors, config.parameter_shapes())
        model = TextModel(config, tensors, header["precision"])
        model.check_finite()
        if not isinstance(header["history"], list):
            raise DataError("the history is no list")
        history = [
            EpochResult.from_json({"seconds": math.nan, **result}) for result in header["history"]
        ]
    except (KeyError, TypeError, AttributeError, TidegateError) as error:
        raise ModelFileError(
            f"{path} is not a usable model ({error}); train or download it again"
        ) from error
    beside = ngrams, mix, thresholds, header.get("conversion")
    return TrainedModel(model, tokenizer, classes, training, history, *beside)


def _read_factor(stored: object) -> float:
    if not isinstance(stored, float) or not 0.0 < stored < _LARGEST_FACTOR:
        raise DataError(f"calibration is {reprlib.repr(stored)}, not a positive number")
    return stored


def _read_thresholds(stored: object, config: ModelConfig) -> npt.NDArray[np.float64]:
    wanted = config.logits if config.classes == 2 or config.targets == "many" else 0
    if not isinstance(stored, list) or len(stored) != wanted:
        raise DataError(f"thresholds is {reprlib.repr(stored)}, not a list of {wanted} numbers")
    if not all(isinstance(value, float) and 0.0 <= value <= 1.0 for value in stored):
        raise DataError(f"thresholds is {reprlib.repr(stored)}, not of numbers from 0 to 1")
    return np.array(stored, np.float64)


def _check_conversion(stored: Any) -> None:
    """DataError unless it says where a model came from, and a number."""
    sound = isinstance(stored, dict) and isinstance(stored.get("from"), str)
    if not sound or type(stored.get("largest_difference")) is not float:
        raise DataError(f"conversion is {reprlib.repr(stored)}")


def _read_ngrams(
    tensors: dict[str, npt.NDArray[Any]],
    stored: Mapping[str, Any],
    config: ModelConfig,
    tokenizer: Tokenizer,
) -> tuple[NgramModel, tuple[float, float]]:
    """The linear model, whose tensors are taken out. DataError or TypeError if it is none."""
    weight, bias = tensors.pop("ngrams.weight"), tensors.pop("ngrams.bias")
    buckets, outputs = weight.shape if weight.ndim == 2 else (0, 0)
    if (
        weight.dtype != np.float16
        or outputs != config.logits
        or buckets not in {1 << bits for bits in range(1, MAX_BITS + 1)}
    ):
        raise DataError(f"ngrams.weight is {weight.dtype} {list(weight.shape)}")
    if bias.dtype != np.float32 or bias.shape != (outputs,):
        raise DataError(f"ngrams.bias is {bias.dtype} {list(bias.shape)}")
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise DataError("ngrams.weight has numbers that are not finite")
    check_whole("ngrams", stored["longest"], 1, LONGEST)
    mix = stored["mix"]
    if not isinstance(mix, list) or [type(factor) for factor in mix] != [float, float]:
        raise DataError(f"mix is {reprlib.repr(mix)}, not two numbers")
    if not all(0.0 <= factor < _LARGEST_FACTOR for factor in mix):
        raise DataError(f"mix is {mix}")
    model = NgramModel(tokenizer.kind, stored["longest"], weight.astype(np.float32), bias)
    return model, (mix[0], mix[1])


def _header(
    config: ModelConfig,
    training: dict[str, Any],
    precision: ops.Precision,
    classes: npt.NDArray[Any],
    tokenizer: Tokenizer,
    history: list[dict[str, Any]],
) -> dict[str, Any]:
    """What the file says besides the tensors."""
    cut: dict[str, Any] = {} if tokenizer.keep == "end" else {"keep": tokenizer.keep}
    for name in ("start", "unknown"):
        if not getattr(tokenizer, name):
            cut[name] = False
    return {
        **cut,
        "kind": "model",
        "tidegate": tidegate.__version__,
        "config": config.to_json(),
        "training": training,
        "classes": classes.tolist(),
        "label_type": LABEL_TYPES[classes.dtype.kind],
        "tokenizer": tokenizer.name,
        "precision": precision,
        "history": history,
    }
