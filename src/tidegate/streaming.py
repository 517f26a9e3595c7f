"""``TextClassifier.partial_fit``: learning from texts that come in portions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tidegate import arguments, model_file, ops
from tidegate.columns import unwrapped
from tidegate.continuing import check_no_ngrams, check_options
from tidegate.errors import ConfigError, DataError
from tidegate.history import History
from tidegate.labels import encode_labels
from tidegate.metrics import LabeledSet
from tidegate.model import TextModel
from tidegate.optim import Adam
from tidegate.preparing import counts_of, training_set
from tidegate.records import EpochResult, TrainConfig
from tidegate.subwords import tokenizer_of
from tidegate.targets import are_several, targets_of
from tidegate.text import Tokenizer, check_column
from tidegate.training import make_adam, train_pass
from tidegate.vectors import read_vectors

if TYPE_CHECKING:
    from tidegate.estimator import TextClassifier

MOST_RESULTS = 1_000  # passes that history_ holds, the latest ones


class Stream:
    """A training that passes once over each portion of texts.

    model: what it has come to, which is never changed while it is trained: weights and Adam's state
    are the stream's own. passes: how many epochs there have been before.
    """

    def __init__(self, model: TextModel, passes: int = 0) -> None:
        self.model = model
        self.passes = passes
        self._weights = _copies(model)
        self._trained_with: tuple[TrainConfig, Adam] | None = None

    def learn(self, examples: LabeledSet, config: TrainConfig) -> EpochResult:
        """One pass. After an error, the stream is of no more use, and ``model`` as it was."""
        optimizer = self._optimizer(config)
        model = TextModel(self.model.config, self._weights, self.model.precision)
        result = train_pass(model, examples, config, optimizer, self.passes + 1)
        self.passes += 1
        self.model = TextModel(model.config, _copies(model), model.precision)
        return result

    def _optimizer(self, config: TrainConfig) -> Adam:
        """Adam with the config's settings and the state that it had after the latest pass."""
        if self._trained_with is None or self._trained_with[0] != config:
            optimizer = make_adam(self._weights, config)
            if self._trained_with is not None:
                before = self._trained_with[1]
                optimizer.restore(before.step_count, before.state())
            self._trained_with = config, optimizer
        return self._trained_with[1]


def partial_fit(
    classifier: TextClassifier,
    texts: Sequence[str],
    labels: Iterable[Any],
    classes: Iterable[Any] | None,
) -> None:
    """See ``TextClassifier.partial_fit``."""
    classifier.check()
    _check_options(classifier)
    known = _classes(classifier, classes)
    if classifier.__sklearn_is_fitted__():
        many = classifier.model_.config.targets == "many"
    else:
        labels, many = are_several(labels)
    targets = targets_of(known, labels, len(texts), many=many)
    if not len(texts):
        raise DataError("there are no texts to train on; give at least one")
    rows = np.arange(len(targets))
    counts = counts_of(classifier, known, targets, rows)
    training = arguments.to_json(classifier)
    tokenizer, stream = _stream(classifier, texts, known, training, many=many)
    read = tokenizer.read(texts, stream.model.config.max_length)
    examples = training_set(read.rows, targets, counts, rows, read.counts)
    classifier._stream = None
    result = stream.learn(examples, arguments.train_config(classifier, epochs=1))
    earlier = classifier.history_ if classifier.__sklearn_is_fitted__() else []
    classifier.history_ = History([*earlier, result][-MOST_RESULTS:])
    classifier.classes_, classifier.tokenizer_ = known, tokenizer
    classifier.ngrams_, classifier.mix_ = None, (1.0, 0.0)
    classifier.thresholds_ = classifier.validation_ = classifier.conversion_ = None
    classifier.training_ = training
    classifier.model_ = stream.model
    classifier._stream = stream


def _stream(
    classifier: TextClassifier,
    texts: Sequence[str],
    classes: npt.NDArray[Any],
    training: dict[str, Any],
    *,
    many: bool,
) -> tuple[Tokenizer, Stream]:
    """The one that the latest call left, or a new one of the trained model, or of a new model."""
    if classifier.__sklearn_is_fitted__():
        stream = classifier._stream
        # Another model than the stream's: it was trained or loaded since.
        if stream is None or stream.model is not classifier.model_:
            history = classifier.history_
            stream = Stream(classifier.model_, history[-1].epoch if history else 0)
        return classifier.tokenizer_, stream
    wanted = classifier.tokenizer, texts, classifier.vocabulary_size, classifier.keep
    tokenizer = tokenizer_of(*wanted)
    config = replace(
        arguments.model_config(classifier, classes=len(classes)),
        vocabulary_size=tokenizer.vocabulary.size,
        targets="many" if many else "one",
    )
    vectors = None
    if classifier.vectors is not None:
        given = classifier.vectors, tokenizer.vocabulary
        vectors = read_vectors(*given, size=classifier.embedding_size)
        config = replace(config, embedding_size=vectors.size)
    training["embedding_size"] = config.embedding_size
    precision = ops.choose_precision(classifier.precision)
    model_file.check_model_size(config, training, precision, classes, tokenizer, MOST_RESULTS)
    seed = arguments.train_config(classifier, epochs=1).seed
    model = TextModel.initialize(config, seed, precision)
    if vectors is not None:
        vectors.fill(model.parameters["embedding.weight"])
    return tokenizer, Stream(model)


def _classes(classifier: TextClassifier, given: Iterable[Any] | None) -> npt.NDArray[Any]:
    """All labels that there may be. DataError if they are not known or not the earlier ones."""
    if given is not None:
        given = unwrapped(given)
        check_column("classes", given, "give a list of all labels")
        listed = list(given)
        given_classes, _ = encode_labels(listed, len(listed))
    if not classifier.__sklearn_is_fitted__():
        if given is None:
            raise DataError(
                "classes is None in the first call of partial_fit; give all labels that any call "
                "may bring"
            )
        return given_classes
    known: npt.NDArray[Any] = classifier.classes_
    if given is not None and given_classes.tolist() != known.tolist():
        raise DataError(
            f"classes={_listed(given_classes)} are not those that the model was begun with, "
            f"{_listed(known)}; give the same or none, or go on with continue_from"
        )
    return known


def _listed(classes: npt.NDArray[Any]) -> str:
    shown = ", ".join(repr(label) for label in classes[:10].tolist())
    return f"{shown} and {len(classes) - 10:,} more" if len(classes) > 10 else shown


def _check_options(classifier: TextClassifier) -> None:
    """ConfigError for what needs to know all texts, or how many steps there will be."""
    check_no_ngrams(classifier)
    if classifier.__sklearn_is_fitted__():
        check_options(classifier, classifier)
    if isinstance(classifier.class_weight, str):
        raise ConfigError(
            f"class_weight={classifier.class_weight!r} needs all labels at once; give partial_fit "
            "a dict of label and weight"
        )
    for name, needed in (("schedule", "constant"), ("warmup", 0.0), ("average", 0.0)):
        value = getattr(classifier, name)
        if value != needed:
            raise ConfigError(
                f"{name}={value!r} needs to know how many steps there will be; set "
                f"{name}={needed!r} for partial_fit"
            )
    if classifier.freeze_vectors:
        raise ConfigError(
            "freeze_vectors=True is for fit; partial_fit trains all words: set freeze_vectors=False"
        )
    if classifier.patience is not None:
        raise ConfigError(
            f"patience={classifier.patience} waits for a better validation, and partial_fit has "
            "none; set patience=None"
        )


def _copies(model: TextModel) -> dict[str, npt.NDArray[np.float32]]:
    return {name: value.copy() for name, value in model.parameters.items()}
