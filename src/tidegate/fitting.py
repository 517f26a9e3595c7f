"""A whole fit: from texts and labels to a trained model, step by step."""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tidegate import model_file, ops
from tidegate.calibration import fit_factor
from tidegate.checkpoint import check_checkpoint_size
from tidegate.checks import check_path, check_text_pair
from tidegate.columns import unwrapped
from tidegate.errors import ConfigError
from tidegate.history import History
from tidegate.labels import class_weights, float32_weights, text_weights, training_weights
from tidegate.metrics import Evaluation, LabeledSet, evaluate_logits
from tidegate.model import TextModel
from tidegate.ngrams import NgramModel, bits_for, fit_mix, fit_ngrams, hash_texts
from tidegate.targets import encode_targets, targets_of
from tidegate.text import Tokenizer, check_texts, check_tokenizer
from tidegate.training import EpochResult, StepResult, train_steps

if TYPE_CHECKING:
    from tidegate.continuing import Start
    from tidegate.estimator import TextClassifier

Float32 = npt.NDArray[np.float32]
FitEvents = Generator[
    StepResult | EpochResult, None, tuple[model_file.TrainedModel, "Evaluation | None"]
]


def mixed(recurrent: Float32, linear: Float32 | None, mix: tuple[float, float]) -> Float32:
    """The logits of both models together, or of the one that stands alone."""
    first, second = (np.float32(factor) for factor in mix)
    return recurrent * first if linear is None else recurrent * first + linear * second


def listed_texts(texts: Iterable[str]) -> Sequence[str]:
    """A column of texts as a list. DataError for what is none."""
    texts = unwrapped(texts)
    check_texts(texts)
    return texts if isinstance(texts, list) else list(texts)


def fit_events(
    options: TextClassifier,
    texts: Iterable[str],
    labels: Iterable[Any],
    *,
    sample_weight: Iterable[float] | None,
    checkpoint: str | os.PathLike[str] | None,
    resume: bool,
    validation: tuple[Iterable[str], Iterable[Any]] | None,
    start: Start | None,
) -> FitEvents:
    """See ``TextClassifier.fit_steps``, whose arguments these are.

    options: a classifier, which is only read. Yields each step's and each epoch's result, and
    returns the trained model, and what it is worth on the validation texts, None without any.
    """
    training = options._training()
    listed = listed_texts(texts)
    if start is None:
        classes, targets = encode_targets(labels, len(listed))
        tokenizer = Tokenizer.fit(
            listed, options.vocabulary_size, check_tokenizer(options.tokenizer), options.keep
        )
    else:
        classes, targets = start.encode_labels(labels, len(listed))
        tokenizer = start.tokenizer(listed, options.vocabulary_size)
    many = targets.ndim == 2
    if many and options.class_weight is not None:
        raise ConfigError(
            f"class_weight={options.class_weight!r} is for one label a text, and these have "
            "several; leave it out, or give sample_weight"
        )
    text_weight = text_weights(sample_weight, len(listed))
    # A small corpus has fewer words than there are ids.
    config = replace(
        options._model_config(classes=len(classes)),
        targets="many" if many else "one",
        vocabulary_size=tokenizer.vocabulary.size,
    )
    train_rows, validation_rows = options.split(len(listed))
    train_config = options._train_config(epochs=options.epochs_for(len(listed)))
    if validation is not None:
        train_rows = np.concatenate([train_rows, validation_rows])  # in the shuffle's order
        held, held_labels = check_text_pair("validation", validation)
        held_texts = listed_texts(held)
        held_targets = targets_of(classes, held_labels, len(held_texts), many=many)
    else:
        held_texts = [listed[row] for row in validation_rows.tolist()]
        held_targets = targets[validation_rows]
    # Of all texts: the linear model is fitted on those of validation in the end, too.
    counts = training_weights(
        class_weights(options.class_weight, classes, targets[train_rows]), text_weight, targets
    )
    weights = None if counts is None else float32_weights(counts[train_rows])
    train_set = LabeledSet(
        tokenizer.encode_all(listed, options.max_length).select(train_rows),
        targets[train_rows],
        weights,
    )
    held_set = LabeledSet(tokenizer.encode_all(held_texts, options.max_length), held_targets)
    if options.patience is not None and not len(held_set):
        raise ConfigError(
            f"patience={options.patience} waits for a better validation, and there are no texts "
            "to validate on; set validation_fraction to 0.1, say"
        )
    linear = start.ngrams(classes) if start is not None and options.ngrams else None
    bits = bits_for(listed, tokenizer.kind, options.ngrams, len(classes)) if options.ngrams else 0
    if linear is not None:
        bits = linear.bits
    hashed, held_hashed = (
        hash_texts(some, tokenizer.kind, options.ngrams, bits) if options.ngrams else None
        for some in (listed, held_texts)
    )
    del listed, held_texts
    precision = ops.choose_precision(options.precision)
    model_file.check_model_size(
        config, training, precision, classes, tokenizer, train_config.epochs
    )
    if checkpoint is not None:
        check_checkpoint_size(config, train_config)
    if start is None:
        model = TextModel.initialize(config, train_config.seed, precision)
    else:
        model = start.model(config, classes, train_config.seed, precision)
    history = History()
    for event in train_steps(
        model,
        train_set,
        held_set,
        train_config,
        checkpoint=None if checkpoint is None else check_path("checkpoint", checkpoint),
        resume=resume,
        start=None if start is None else start.digest(),
    ):
        if isinstance(event, EpochResult):
            history.append(event)
        yield event
    begun = time.perf_counter()
    logits, scores = model.predict_logits(held_set.texts), None
    spent = time.perf_counter() - begun
    ngrams: NgramModel | None = None
    mix = (1.0, 0.0)
    if hashed is None and options.calibrate:
        mix = (fit_factor(logits, held_targets), 0.0)
    if hashed is not None and held_hashed is not None:
        ngram_settings: dict[str, Any] = {
            "kind": tokenizer.kind,
            "longest": int(options.ngrams),
            "bits": bits,
            "cost": float(options.ngram_cost),
            "seed": train_config.seed,
            "start": linear,
        }

        def fit_on(rows: npt.NDArray[np.int64]) -> NgramModel:
            counted = rows if counts is None else rows[counts[rows] > 0]
            given = hashed.select(counted), targets[counted], len(classes)
            each = None if counts is None else counts[counted]
            return fit_ngrams(*given, **ngram_settings, counts=each)

        ngrams = fit_on(train_rows)
        scores = ngrams.score_rows(held_hashed)
        mix = fit_mix(logits, scores, held_targets)
        if validation is None and len(validation_rows):
            # The factors are found; from here on it may know these texts, too.
            ngrams = fit_on(np.concatenate([train_rows, validation_rows]))
    validated: Evaluation | None = None
    if len(held_set):
        begun = time.perf_counter() - spent
        validated = evaluate_logits(model, mixed(logits, scores, mix), held_targets, begun)
    if start is not None and start.kept_texts:
        kept = tokenizer.encode_all(start.kept_texts, options.max_length)
        linear_scores = None if ngrams is None else ngrams.scores(start.kept_texts)
        kept_logits = mixed(model.predict_logits(kept), linear_scores, mix)
        start.check_kept(model.probabilities(kept_logits), classes)
    trained = model_file.TrainedModel(model, tokenizer, classes, training, history, ngrams, mix)
    return trained, validated
