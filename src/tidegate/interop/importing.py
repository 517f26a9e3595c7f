"""A model of another framework becomes one of tidegate's, and is proven to be the same."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tidegate import model_file
from tidegate.arguments import UNTOLD
from tidegate.errors import (
    ConfigError,
    ConversionError,
    DataError,
    ShapeError,
    unknown_choice,
)
from tidegate.estimator import TextClassifier
from tidegate.interop import proof
from tidegate.interop.network import Array, Foreign, Stages
from tidegate.interop.vocabulary import Words, read_words, shifted
from tidegate.labels import label_array
from tidegate.model import TARGETS, ModelConfig, TextModel
from tidegate.model_file import TrainedModel
from tidegate.text import (
    FIRST_WORD_ID,
    PADDING_ID,
    START_ID,
    UNKNOWN_ID,
    Tokenizer,
    Vocabulary,
    check_tokenizer,
)

SUFFIXES = (".keras", ".h5", ".safetensors", ".pt", ".pth", ".onnx")
_WHOLE_TEXTS = 100_000  # tokens: a model without a length reads all of a text


@dataclass(frozen=True)
class ImportOptions:
    """What the files don't tell. None: as they tell it, or as is usual.

    labels: of the output's units, in their order. targets: whether a text has "one" of them or may
    have "many", of an output layer without activation. tokenizer: the rules of tokens. keep,
    max_length: what is read of long texts. first_id: the smallest id of a word of the vocabulary.
    padding_id, start_id, unknown_id: ids of the other framework; -1 says that there is no such
    token. masked, pooling: what a PyTorch program did with the recurrent layer, or an ONNX graph
    of which that can't be seen. names: of a state dict's modules (see ``torch_import``).
    """

    labels: Sequence[Any] | None = None
    targets: str | None = None
    tokenizer: str | None = None
    keep: str | None = None
    max_length: int | None = None
    first_id: int | None = None
    padding_id: int | None = None
    start_id: int | None = None
    unknown_id: int | None = None
    masked: bool | None = None
    pooling: str | None = None
    names: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Imported:
    """A model, and what the proof measured. difference: the largest one of the logits."""

    trained: TrainedModel
    source: str
    difference: float

    def save(self, path: str | os.PathLike[str], *, replace: bool = True) -> str:
        """Write the model file; return its sha256. See ``TextClassifier.save``."""
        return model_file.write(path, self.trained, replace=replace)


def import_model(
    path: str | os.PathLike[str],
    vocabulary: str | os.PathLike[str] | None,
    options: ImportOptions | None = None,
) -> Imported:
    """Read a model of Keras, PyTorch or ONNX and prove that it was read as it was meant.

    vocabulary: a file of words (see ``vocabulary``). ModelFileError for a file that is damaged or
    of another kind, ConversionError for a network that tidegate has not, and for one whose numbers
    differ; ConfigError and DataError for options and words that don't fit it.
    """
    options = options or ImportOptions()
    if vocabulary is None:
        raise ConfigError(
            "an imported model needs the words that it was trained with; give them by "
            "--vocabulary FILE, one word a line or a JSON dict of word and id"
        )
    words = read_words(Path(vocabulary))
    foreign = _read(Path(path), options, words)
    words = _special_ids(words, options, foreign)
    return _assemble(foreign, words, options)


def _read(path: Path, options: ImportOptions, words: Words) -> Foreign:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ConfigError(
            f"{str(path)!r} is not one of {', '.join(SUFFIXES)}; save the model as one of these"
        )
    if suffix in (".keras", ".h5"):
        from tidegate.interop.keras_import import read_keras

        _only_elsewhere(options, "Keras files tell it", "masked", "pooling", "names")
        return read_keras(path)
    if suffix == ".onnx":
        from tidegate.interop.onnx_import import read_onnx

        _only_elsewhere(options, "ONNX graphs tell it", "masked", "names")
        return read_onnx(path, pooling=options.pooling)
    from tidegate.interop.torch_import import read_torch

    masked = words.masked if options.masked is None else options.masked
    pooling = options.pooling or words.pooling
    return read_torch(path, masked=masked, pooling=pooling, names=options.names)


def _only_elsewhere(options: ImportOptions, why: str, *names: str) -> None:
    """ConfigError for options that this kind of file leaves no choice of."""
    for name in names:
        if getattr(options, name) not in (None, ()):
            raise ConfigError(f"{name}={getattr(options, name)!r} is not wanted here: {why}")


def _special_ids(words: Words, options: ImportOptions, foreign: Foreign) -> Words:
    """The words with the ids that the options say, and the tokens that are none."""
    if options.first_id is not None:
        words = shifted(words, options.first_id)
    taken = {number: word for word, number in words.ids.items()}
    found = {}
    for name in ("padding", "unknown", "start"):
        given = getattr(options, f"{name}_id")
        number = getattr(words, name) if given is None else given
        if given is not None and given < -1:
            raise ConfigError(f"{name}_id={given} is no id; give one from 0 on, or -1 for none")
        if number == -1:
            number = None
        elif number is not None and number >= len(foreign.embedding):
            raise ConfigError(
                f"{name}_id={number} is not among the {len(foreign.embedding)} rows of the "
                "embedding"
            )
        if number is not None and number in taken:
            raise ConfigError(
                f"{name}_id={number} is the id of the word {reprlib.repr(taken[number])}; where "
                "words begin with another id, say it by --first-id"
            )
        found[name] = number
    if found["padding"] is None and options.padding_id is None:
        found["padding"] = foreign.padding_id
    if found["padding"] is not None and found["padding"] in taken:
        raise ConfigError(
            f"the id {found['padding']} is padding, and that of the word "
            f"{reprlib.repr(taken[found['padding']])}; say the id of the first word by --first-id"
        )
    if foreign.padding_id is not None and found["padding"] != foreign.padding_id:
        raise ConfigError(
            f"padding_id={found['padding']} is not {foreign.padding_id}, the model's own; leave it "
            "out"
        )
    if found["unknown"] is None and options.unknown_id is None:
        raise ConfigError(
            "the vocabulary names no token for unknown words; say its id by --unknown-id N, or "
            "--unknown-id -1 if they were left out"
        )
    return replace(words, **found)


def _assemble(foreign: Foreign, words: Words, options: ImportOptions) -> Imported:
    rows, ids = len(foreign.embedding), words.ids
    known = sorted((number, word) for word, number in ids.items() if number < rows)
    bad = [word for _, word in known if not word or "\n" in word]
    if bad:
        raise DataError(f"the vocabulary has {reprlib.repr(bad[0])} as a word; leave it out")
    if not known:
        raise DataError(f"no word has an id below {rows}, the rows of the embedding")
    many = _targets(foreign, words, options) == "many"
    labels, order = _labels(foreign, words, options, 2 if foreign.units == 1 else foreign.units)
    tokenizer = Tokenizer(
        check_tokenizer(options.tokenizer or words.tokenizer or "lecture"),
        Vocabulary(tuple(word for _, word in known)),
        options.keep or words.keep or "end",
        start=words.start is not None,
        unknown=words.unknown is not None,
    )
    config = ModelConfig(
        **{
            **foreign.shape,
            "vocabulary_size": tokenizer.vocabulary.size,
            "classes": len(labels),
            "targets": "many" if many else "one",
            "max_length": _max_length(foreign, words, options),
        }
    )
    # Which of the framework's ids each of tidegate's is; -1 where there is none.
    to_foreign = np.full(config.vocabulary_size, -1, np.int64)
    specials = {PADDING_ID: words.padding, START_ID: words.start, UNKNOWN_ID: words.unknown}
    for own, number in specials.items():
        if number is not None:
            to_foreign[own] = number
    to_foreign[FIRST_WORD_ID:] = [number for number, _ in known]
    if not config.masked and words.padding is None:
        raise ConfigError("a model that reads padding needs its id; say it by --padding-id N")
    turn = foreign.turn(order, many=many)
    model = TextModel(config, _parameters(foreign, config, to_foreign, turn))
    try:
        model.check_finite()
    except ShapeError as error:
        raise ConversionError(str(error).partition(";")[0] + "; save the model again") from error
    # Float32 logits are compared with those of the other side, put into tidegate's order.
    specials_used = [own for own in (START_ID, UNKNOWN_ID) if to_foreign[own] >= 0]
    drawn = proof.draw_rows(config, specials_used)

    def other() -> Stages:
        rows = [to_foreign[proof.read_ids(config, row)].tolist() for row in drawn]
        stages = foreign.run(rows)
        return {**stages, "logits": np.asarray(stages["logits"]) @ turn}

    difference = proof.prove(model, drawn, other, foreign.source)
    trained = TrainedModel(
        model,
        tokenizer,
        labels,
        _training(config, tokenizer),
        [],
        thresholds=_thresholds(foreign, words, options, many=many),
        conversion={"from": foreign.source, "largest_difference": difference},
    )
    return Imported(trained, foreign.source, difference)


def _targets(foreign: Foreign, words: Words, options: ImportOptions) -> str:
    """Whether a text has one label or may have many. ConfigError for what the outputs can't say."""
    if options.targets is not None and options.targets not in TARGETS:
        raise unknown_choice("targets", options.targets, TARGETS)
    told = None
    if foreign.units == 1 or foreign.activation == "softmax":
        told = "one"
    elif foreign.activation == "sigmoid":
        told = "many"
    asked = words.targets if options.targets is None else options.targets
    if told is not None and asked is not None and asked != told:
        layer = f"{foreign.units} outputs with {foreign.activation}"
        raise ConfigError(f"targets={asked!r} is not what {layer} say, {told!r}; leave it out")
    return told or asked or "one"


def _labels(
    foreign: Foreign, words: Words, options: ImportOptions, classes: int
) -> tuple[Array, Sequence[int]]:
    """Sorted labels, and which of the framework's classes each of them is."""
    given = options.labels if options.labels is not None else words.labels
    listed = list(range(classes)) if given is None else list(given)
    if len(listed) != classes:
        raise ConfigError(
            f"labels={','.join(map(str, listed))[:100]!r} are {len(listed)}; the model has "
            f"{classes} classes, give one label for each, in the order of its outputs"
        )
    array = label_array(listed, len(listed))
    order = np.argsort(array, kind="stable")
    labels = array[order]
    if (labels[1:] == labels[:-1]).any():
        raise ConfigError(f"labels={','.join(map(str, listed))[:100]!r} has one label twice")
    return labels, order.tolist()


def _thresholds(
    foreign: Foreign, words: Words, options: ImportOptions, *, many: bool
) -> npt.NDArray[np.float64] | None:
    """Those of an export, if the labels are its own: one for the second of two, or for each."""
    if words.thresholds is None or options.labels is not None:
        return None
    if len(words.thresholds) != (foreign.units if many else 1):
        return None
    return np.array(words.thresholds, np.float64)


def _max_length(foreign: Foreign, words: Words, options: ImportOptions) -> int:
    if options.max_length is not None:
        return options.max_length
    for told in (foreign.max_length, words.max_length):
        if told is not None:
            return told
    if foreign.shape["masked"]:
        return _WHOLE_TEXTS
    raise ConfigError(
        "the model reads padding and does not tell how long its texts are; say it by --max-length N"
    )


def _parameters(
    foreign: Foreign, config: ModelConfig, to_foreign: Array, turn: Array
) -> dict[str, Array]:
    """The model's weights by tidegate's names. ConversionError for a shape that does not fit."""
    table = np.zeros((config.vocabulary_size, config.embedding_size), np.float32)
    there = to_foreign >= 0
    if foreign.embedding.shape[1:] != (config.embedding_size,):
        raise ConversionError(f"the embedding has {list(foreign.embedding.shape)} numbers")
    table[there] = foreign.embedding[to_foreign[there]]
    parameters = {
        **foreign.weights,
        "embedding.weight": table,
        "output.kernel": foreign.kernel.astype(np.float64) @ turn,
        "output.bias": foreign.bias.astype(np.float64) @ turn,
    }
    shapes = config.parameter_shapes()
    for name, shape in shapes.items():
        if name not in parameters or parameters[name].shape != shape:
            has = list(parameters[name].shape) if name in parameters else "nothing"
            raise ConversionError(
                f"the model has {has} for {name}, which needs {list(shape)}; save it again"
            )
    if set(parameters) != set(shapes):
        extra = ", ".join(sorted(set(parameters) - set(shapes)))
        raise ConversionError(f"the model has weights that tidegate has not: {extra}")
    return {name: np.ascontiguousarray(parameters[name], np.float32) for name in shapes}


def _training(config: ModelConfig, tokenizer: Tokenizer) -> dict[str, Any]:
    """The arguments of a TextClassifier of this shape, as model files tell them."""
    fields = {
        name: getattr(config, name)
        for name in (
            *("cell", "reset", "vocabulary_size", "embedding_size", "hidden_size", "max_length"),
            *("masked", "layers", "bidirectional", "pooling", "layer_norm"),
        )
    }
    classifier = TextClassifier(**fields, tokenizer=tokenizer.kind, keep=tokenizer.keep)
    return {k: v for k, v in classifier.get_params().items() if k not in UNTOLD}
