"""A trained classifier as one HTML file: weights, words, and the page that shows it at work.

What is stored is read back from the very text that is written and computed a second time, by
``reference`` in NumPy float64, as the page's JavaScript does. On opening, the page itself computes
some texts whose probabilities Python has put beside the weights, and says how far off it is.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import tidegate
from tidegate import atomic, int8, page, reference, reference_sequence
from tidegate.batch import TokenizedTexts
from tidegate.errors import ConfigError, ConversionError, NotFittedError, unknown_choice
from tidegate.estimator import TextClassifier
from tidegate.fitting import mixed
from tidegate.interop import proof
from tidegate.interop.exporting import Exported
from tidegate.interop.html_characters import character_tables
from tidegate.model import ModelConfig, TextModel
from tidegate.ngrams import NgramModel, decides_alone
from tidegate.sequence import NORM_EPSILON
from tidegate.text import Tokenizer

SUFFIX = ".html"
WEIGHTS = ("float16", "int8", "float32")

TOLERANCE = 1e-3  # of the probabilities, for weights of 16 bits
_LARGEST_BYTES = 128 << 20  # of weights: a browser holds each as text, bytes and float32 at once
_SIDE = "the file's own numbers, read back and computed in float64"

_KEEPS = ("end", "start", "both")

_SAMPLES = (
    "A quiet film that takes its time, and earns every minute of it.",
    "It's loud, it's long, and nothing in it is worth remembering!",
    "10/10 — «très beau», ΟΔΟΣ İstanbul 日本語 ไทย 👍🏽",
    "",
)
_DRAWN_SAMPLES = 4
_DRAWN_TEXTS = 32

Float64 = npt.NDArray[np.float64]
Tensors = dict[str, npt.NDArray[Any]]


class _Judge:
    """What gives texts probabilities: a network, and the linear model that may stand beside it."""

    def __init__(
        self,
        model: TextModel,
        tokenizer: Tokenizer,
        ngrams: NgramModel | None,
        mix: tuple[float, float],
    ) -> None:
        self.model, self.tokenizer, self.ngrams, self.mix = model, tokenizer, ngrams, mix

    def with_weights(self, parameters: Mapping[str, npt.NDArray[Any]]) -> _Judge:
        """The same with other weights of the network."""
        model = TextModel(self.model.config, parameters, "float32")
        return _Judge(model, self.tokenizer, self.ngrams, self.mix)

    def probabilities(self, texts: Sequence[str]) -> Float64:
        """[texts, classes]."""
        encoded = self.tokenizer.encode_all(texts, self.model.config.max_length)
        scores = None if self.ngrams is None else self.ngrams.scores(texts)
        logits = mixed(self.model.predict_logits(encoded), scores, self.mix)
        return self.model.probabilities(logits)


def check_weights(weights: object) -> None:
    """ConfigError unless it is one of WEIGHTS."""
    if not isinstance(weights, str) or weights not in WEIGHTS:
        raise unknown_choice("weights", weights, WEIGHTS)


def export_html(
    classifier: TextClassifier,
    output: str | os.PathLike[str],
    *,
    weights: str = "float16",
    replace: bool = True,
    without_ngrams: bool = False,
) -> Exported:
    """Write a classifier as a page that opens from disk and needs no network.

    weights: how the network's matrices are stored, of WEIGHTS; float16 gives the classifier's
    probabilities to 1e-3, int8 those of a model that was saved with ``quantize="int8"``, float32
    its own. without_ngrams: leave out the linear model beside the network, which takes up to 3 MB.

    ConfigError for another ending than .html, ConversionError for weights too large for a page, and
    if the numbers differ. Without ``replace``, OutputExistsError for a file that is there.
    """
    path = Path(output)
    check_weights(weights)
    if path.suffix.lower() != SUFFIX:
        raise ConfigError(f"{str(path)!r} does not end in {SUFFIX}, as pages do")
    atomic.check_writable(path)
    if not classifier.__sklearn_is_fitted__():
        raise NotFittedError("this TextClassifier is not trained yet; call fit or load first")
    _check_tokenizer(classifier.tokenizer_)
    alone = classifier.ngrams_ is not None and without_ngrams
    original = _Judge(
        proof.float32_model(classifier.model_),
        classifier.tokenizer_,
        None if alone else classifier.ngrams_,
        (1.0, 0.0) if alone else classifier.mix_,
    )
    original.model.check_finite()
    layout, packed = _pack(_stored(original, weights))
    text = base64.b64encode(packed).decode("ascii")
    tensors = unpack(layout, text)
    stored = original.with_weights(
        {name: tensors[name] for name in original.model.config.parameter_shapes()}
    )
    rows = proof.draw_rows(original.model.config)
    difference = proof.prove(
        stored.model,
        rows,
        lambda: {"logits": _logits(original.model.config, tensors, rows)},
        _SIDE,
    )
    judge = stored if weights == "int8" else original
    drawn = _draw_texts(original.tokenizer, original.model.config)
    if judge is original:
        _check_near(original.probabilities(drawn), stored.probabilities(drawn), weights)
    samples = [*_SAMPLES, *drawn[:_DRAWN_SAMPLES]]
    description = {
        **_describe(classifier, original, path.stem),
        "tensors": layout,
        "samples": [
            {"text": sample, "probabilities": shares}
            for sample, shares in zip(samples, judge.probabilities(samples).tolist(), strict=True)
        ],
    }
    data = {"tidegate-model": _script_json(description), "tidegate-weights": text}
    atomic.write(path, page.one_file(f"{path.stem} \u00b7 tidegate", data), replace=replace)
    return Exported((path,), difference, _SIDE, alone and decides_alone(classifier.mix_))


def _check_tokenizer(tokenizer: Tokenizer) -> None:
    """ConversionError for one that the page's JavaScript does not know."""
    if type(tokenizer) is not Tokenizer:
        raise ConversionError(
            "the model has the tokens of a tokenizer.json, which a page can't cut; train with "
            "--tokenizer words or lecture (tokenizer='words')"
        )
    if tokenizer.keep not in _KEEPS:
        raise ConversionError(
            f"the model reads long texts with keep={tokenizer.keep!r}, and a page only by "
            f"{', '.join(_KEEPS)}; train with one of these"
        )


def _describe(classifier: TextClassifier, judge: _Judge, name: str) -> dict[str, Any]:
    """All that is no tensor."""
    tokenizer, ngrams = judge.tokenizer, judge.ngrams
    thresholds = classifier.thresholds_
    return {
        "tidegate": tidegate.__version__,
        "name": name,
        "config": asdict(judge.model.config),
        "classes": classifier.classes_.tolist(),
        "tokenizer": {
            "kind": tokenizer.kind,
            "keep": tokenizer.keep,
            "start": tokenizer.start,
            "unknown": tokenizer.unknown,
            "words": tokenizer.vocabulary.words,
        },
        "characters": character_tables(),
        "mix": judge.mix,
        "thresholds": None if thresholds is None else thresholds.tolist(),
        "ngrams": None if ngrams is None else {"longest": ngrams.longest, "bits": ngrams.bits},
    }


def _script_json(value: object) -> str:
    """JSON in ASCII, in which nothing ends the element that it stands in."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


# --- the weights


def _stored(judge: _Judge, weights: str) -> Tensors:
    parameters = dict(judge.model.parameters)
    tensors: Tensors = dict(parameters)
    if weights == "int8":
        tensors = int8.quantize(parameters)
    elif weights == "float16":
        for name, value in parameters.items():
            if value.ndim == 2:  # the rest is small
                tensors[name] = _halved(name, value)
    if judge.ngrams is not None:
        tensors["ngrams.weight"] = judge.ngrams.weights.astype(np.float16)  # exact: as files do
        tensors["ngrams.bias"] = judge.ngrams.bias
    size = sum(value.nbytes for value in tensors.values())
    if size > _LARGEST_BYTES:
        smaller = "" if weights == "int8" else ", --weights int8 makes the network's smaller"
        raise ConversionError(
            f"the model has {size / 1e6:,.0f} MB of weights, and a page may have "
            f"{_LARGEST_BYTES / 1e6:,.0f}: --without-ngrams leaves out the linear model's{smaller}"
        )
    return tensors


def _halved(name: str, value: npt.NDArray[np.float32]) -> npt.NDArray[np.float16]:
    most = float(np.finfo(np.float16).max)
    if float(np.abs(value).max(initial=0.0)) > most:
        raise ConversionError(
            f"{name} has weights above {most:g}, which float16 can't hold; use --weights float32"
        )
    return value.astype(np.float16)


def _pack(tensors: Tensors) -> tuple[list[dict[str, Any]], bytes]:
    """Where each tensor lies, and all of them one after another, little-endian, on 4 bytes."""
    packed = bytearray()
    offsets: dict[str, int] = {}
    for name, value in tensors.items():
        packed += b"\0" * (-len(packed) % 4)
        offsets[name] = len(packed)
        packed += np.ascontiguousarray(value).astype(value.dtype.newbyteorder("<")).tobytes()
    layout: list[dict[str, Any]] = []
    for name, value in tensors.items():
        if name.endswith(int8.SCALE):
            continue
        entry = {
            "name": name,
            "dtype": value.dtype.name,
            "shape": list(value.shape),
            "offset": offsets[name],
        }
        if value.dtype == np.int8:
            entry["scales"] = offsets[name + int8.SCALE]
        layout.append(entry)
    return layout, bytes(packed)


def unpack(layout: Sequence[Mapping[str, Any]], text: str) -> Tensors:
    """The tensors in float32, as local.js reads them."""
    packed = base64.b64decode(text)
    tensors: Tensors = {}

    def values(dtype: str, offset: int, shape: Sequence[int]) -> npt.NDArray[Any]:
        stored = np.dtype(dtype).newbyteorder("<")
        flat = np.frombuffer(packed, stored, int(np.prod(shape)), offset)
        return flat.reshape(shape)

    for entry in layout:
        name, shape = entry["name"], entry["shape"]
        value = values(entry["dtype"], entry["offset"], shape).astype(np.float32)
        if entry["dtype"] == "int8":
            axis = 0 if name == "embedding.weight" else 1
            scales = values("float32", entry["scales"], [shape[axis]])
            value *= np.expand_dims(scales, 1 - axis)
        tensors[name] = value
    return tensors


# --- the proof


def _logits(
    config: ModelConfig, tensors: Mapping[str, npt.NDArray[Any]], rows: Sequence[npt.NDArray[Any]]
) -> Float64:
    """[texts, L] of rows of ids."""
    return np.stack([_logits_of(config, tensors, proof.read_ids(config, row)) for row in rows])


def _logits_of(
    config: ModelConfig, tensors: Mapping[str, npt.NDArray[Any]], ids: npt.NDArray[Any]
) -> Float64:
    read = TokenizedTexts.from_rows([ids])
    batch = reference.pack(read, [0], max_length=max(1, len(ids)), masked=True)
    states = tensors["embedding.weight"][ids].astype(np.float64)
    lasts: list[Float64] = []
    for layer, names in enumerate(config.recurrent_names):
        if layer and config.layer_norm:
            states = _normal(tensors, f"{names[0]}_norm", states)
        outputs: list[Float64] = []
        lasts = []
        for name, step in zip(names, (1, -1), strict=False):
            weights = reference.RecurrentWeights(
                tensors[f"{name}.kernel"],
                tensors[f"{name}.recurrent_kernel"],
                tensors[f"{name}.bias"],
                tensors.get(f"{name}.recurrent_bias"),
            )
            found, last, _ = reference.recurrent_forward(
                config.kind, batch, states[::step], weights, dense=True
            )
            outputs.append(found[::step])
            lasts.append(last)
        states = np.concatenate(outputs, axis=1)
    pooled = np.concatenate(list(_pooled(config, tensors, states, lasts)), axis=1)
    if config.layer_norm:
        pooled = _normal(tensors, "output_norm", pooled)
    logits: Float64 = reference.linear_forward(
        pooled, tensors["output.kernel"], tensors["output.bias"]
    )[0]
    return logits


def _pooled(
    config: ModelConfig,
    tensors: Mapping[str, npt.NDArray[Any]],
    states: Float64,
    lasts: list[Float64],
) -> Iterator[Float64]:
    for kind in config.poolings:
        if kind == "last":
            yield np.concatenate(lasts, axis=1)
        elif not len(states):
            yield np.zeros((1, states.shape[1]))
        elif kind == "attention":
            scores = states @ tensors["attention.query"].astype(np.float64)
            shares = np.exp(scores - scores.max())
            yield (shares / shares.sum() @ states)[None]
        else:
            yield (states.max(axis=0) if kind == "max" else states.mean(axis=0))[None]


def _normal(tensors: Mapping[str, npt.NDArray[Any]], name: str, rows: Float64) -> Float64:
    gain, bias = tensors[f"{name}.gain"], tensors[f"{name}.bias"]
    return reference_sequence.layer_norm(rows, gain, bias, NORM_EPSILON)


def _draw_texts(tokenizer: Tokenizer, config: ModelConfig) -> list[str]:
    """Texts of the model's words, frequent ones more often, up to a little over its length."""
    random = np.random.default_rng(0)
    words = tokenizer.vocabulary.words or ("word",)
    longest = min(config.max_length + 20, 500)
    lengths = np.geomspace(3, max(3, longest), _DRAWN_TEXTS).astype(int)
    return [
        " ".join(words[int(len(words) ** share) - 1] for share in random.random(length))
        for length in random.permutation(lengths)
    ]


def _check_near(wanted: Float64, found: Float64, weights: str) -> None:
    gap = float(np.abs(wanted - found).max())
    if not gap <= TOLERANCE:
        raise ConversionError(
            f"with weights={weights} probabilities are off by up to {gap:.2g}, more than "
            f"{TOLERANCE:g}; use --weights float32"
        )
