"""A whole fit: from texts and labels to a trained model, step by step."""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tidegate import model_file, ops
from tidegate.calibration import fit_factor
from tidegate.checkpoint import check_checkpoint_size, stored_embedding_size
from tidegate.columns import unwrapped
from tidegate.errors import ConfigError
from tidegate.history import History
from tidegate.labels import class_weights, text_weights, training_weights
from tidegate.metrics import Evaluation, evaluate_logits, labeled
from tidegate.model import TextModel
from tidegate.ngrams import NgramModel, bits_for, fit_mix, fit_ngrams, hash_texts
from tidegate.subwords import tokenizer_of
from tidegate.targets import encode_targets, targets_of
from tidegate.text import Vocabulary, check_texts
from tidegate.training import EpochResult, StepResult, train_steps
from tidegate.vectors import WordVectors, read_vectors

if TYPE_CHECKING:
    from tidegate.continuing import Start
    from tidegate.estimator import TextClassifier

Float32 = npt.NDArray[np.float32]
Fitted = tuple[model_file.TrainedModel, "Evaluation | None", "dict[str, int] | None"]
FitEvents = Generator[StepResult | EpochResult, None, Fitted]


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
    returns the trained model, what it is worth on the validation texts, None without any, and what
    the file of vectors had, None if none was read.
    """
    training = options._training()
    listed = listed_texts(texts)
    if start is None:
        classes, targets = encode_targets(labels, len(listed))
        wanted = options.tokenizer, listed, options.vocabulary_size, options.keep
        tokenizer = tokenizer_of(*wanted)
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
    goes_on = resume and checkpoint is not None and Path(checkpoint).exists()
    vectors = None if goes_on else _read_vectors(options, tokenizer.vocabulary, start)
    # A small corpus has fewer words than there are ids.
    config = replace(
        options._model_config(classes=len(classes)),
        targets="many" if many else "one",
        vocabulary_size=tokenizer.vocabulary.size,
    )
    if start is not None:
        size = start.classifier.model_.config.embedding_size
        config = replace(config, embedding_size=size)
    elif vectors is not None:
        config = replace(config, embedding_size=vectors.size)
    elif goes_on and checkpoint is not None and options.embedding_size is None:
        size = stored_embedding_size(Path(checkpoint), config.embedding_size)
        config = replace(config, embedding_size=size)
    training["embedding_size"] = config.embedding_size
    train_rows, validation_rows = options.split(len(listed))
    train_config = options._train_config(epochs=options.epochs_for(len(listed)))
    if validation is not None:
        train_rows = np.concatenate([train_rows, validation_rows])  # in the shuffle's order
        held_texts = listed_texts(validation[0])
        held_targets = targets_of(classes, validation[1], len(held_texts), many=many)
    else:
        held_texts = [listed[row] for row in validation_rows.tolist()]
        held_targets = targets[validation_rows]
    weights = training_weights(
        class_weights(options.class_weight, classes, targets[train_rows]),
        None if text_weight is None else text_weight[train_rows],
        targets[train_rows],
    )
    read = tokenizer.read(listed, options.max_length).select(train_rows)
    train_set = labeled(read, targets[train_rows], weights).by_rows()
    held_set = labeled(tokenizer.read(held_texts, options.max_length), held_targets)
    del read
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
    vectors_file = None
    frozen: npt.NDArray[np.bool_] | None = None
    if options.vectors is not None:
        vectors_file = Path(options.vectors).name
        there = np.zeros(config.vocabulary_size, bool)  # a checkpoint knows which they are
        if vectors is not None:
            new = 0 if start is None else start.classifier.model_.config.vocabulary_size
            there = vectors.fill(model.parameters["embedding.weight"], new)
        frozen = there if options.freeze_vectors else None
    history = History()
    for event in train_steps(
        model,
        train_set,
        held_set,
        train_config,
        checkpoint=None if checkpoint is None else Path(checkpoint),
        resume=resume,
        start=None if start is None else start.digest(),
        vectors=vectors_file,
        frozen=frozen,
    ):
        if isinstance(event, EpochResult):
            history.append(event)
        yield event
    begun = time.perf_counter()
    logits = held_set.reading.pooled(model.predict_logits(held_set.texts))
    scores = None
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
            counted = rows if text_weight is None else rows[text_weight[rows] > 0]
            given = hashed.select(counted), targets[counted], len(classes)
            return fit_ngrams(*given, **ngram_settings)

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
        kept = tokenizer.read(start.kept_texts, options.max_length)
        linear_scores = None if ngrams is None else ngrams.scores(start.kept_texts)
        kept_logits = kept.pooled(model.predict_logits(kept.rows))
        kept_logits = mixed(kept_logits, linear_scores, mix)
        start.check_kept(model.probabilities(kept_logits), classes)
    trained = model_file.TrainedModel(model, tokenizer, classes, training, history, ngrams, mix)
    return trained, validated, None if vectors is None else vectors.counts()


def _read_vectors(
    options: TextClassifier, vocabulary: Vocabulary, start: Start | None
) -> WordVectors | None:
    """What the options' file has for the words, of which a trained model keeps its own."""
    if options.vectors is None:
        return None
    size, known = options.embedding_size, 0
    if start is not None:
        trained = start.classifier
        size = trained.model_.config.embedding_size
        known = len(trained.tokenizer_.vocabulary.words)
    return read_vectors(options.vectors, vocabulary, size=size, known=known)
