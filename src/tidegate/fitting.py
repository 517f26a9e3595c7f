"""A whole fit: from prepared texts to a trained model, step by step."""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from tidegate import arguments, model_file, ops
from tidegate.calibration import fit_factor
from tidegate.checkpoint import check_checkpoint_size, stored_embedding_size
from tidegate.checks import check_flag, check_path
from tidegate.contexts import context_vectors
from tidegate.data.survey import Survey
from tidegate.errors import ConfigError
from tidegate.history import History
from tidegate.metrics import Evaluation, evaluate_logits
from tidegate.model import TextModel
from tidegate.ngrams import NgramModel, fit_mix, fit_ngrams
from tidegate.portions import Portions, ReadResult, prepare_portions
from tidegate.preparing import Prepared, prepare
from tidegate.stored import Texts, Work
from tidegate.text import FIRST_WORD_ID, Vocabulary
from tidegate.training import EpochResult, StepResult, train_steps
from tidegate.vectors import WordVectors, check_beginning, read_vectors

if TYPE_CHECKING:
    from tidegate.continuing import Start
    from tidegate.estimator import TextClassifier

Float32 = npt.NDArray[np.float32]
Fitted = tuple[model_file.TrainedModel, "Evaluation | None", "dict[str, int] | None"]
FitEvents = Generator[StepResult | EpochResult, None, Fitted]
_Event = TypeVar("_Event")
StreamEvents = Generator[ReadResult | Survey | StepResult | EpochResult, None, Fitted]


def followed(
    classifier: TextClassifier, events: Generator[_Event, None, Fitted]
) -> Iterator[_Event]:
    """Yield the events of a fit, computed on the classifier's threads, and then give it the model.

    The classifier is as it was until then, and stays so after an error.
    """
    try:
        while True:
            try:
                with classifier._own_threads():
                    event = next(events)
            except StopIteration as end:
                trained, classifier.validation_, classifier.vectors_ = end.value
                classifier._take(trained)
                return
            yield event
    finally:
        with classifier._own_threads():
            events.close()


def mixed(recurrent: Float32, linear: Float32 | None, mix: tuple[float, float]) -> Float32:
    """The logits of both models together, or of the one that stands alone."""
    first, second = (np.float32(factor) for factor in mix)
    return recurrent * first if linear is None else recurrent * first + linear * second


def in_memory(
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
    """See ``TextClassifier.fit_steps``, whose arguments these are, and ``fit_events``."""
    _check_vectors_file(options, start, goes_on=_goes_on(checkpoint, resume))
    prepared = prepare(
        options, texts, labels, sample_weight=sample_weight, validation=validation, start=start
    )
    del texts, labels
    run = fit_events(options, prepared, checkpoint=checkpoint, resume=resume, start=start)
    return (yield from run)


def on_disk(
    options: TextClassifier,
    portions: Portions,
    *,
    folder: str | os.PathLike[str] | None,
    checkpoint: str | os.PathLike[str] | None,
    resume: bool,
    validation: tuple[Iterable[str], Iterable[Any]] | None,
    test: tuple[Iterable[str], Iterable[Any]] | None,
    start: Start | None,
) -> StreamEvents:
    """See ``TextClassifier.fit_stream_steps``, whose arguments these are, and ``fit_events``."""
    _check_vectors_file(options, start, goes_on=_goes_on(checkpoint, resume))
    with Work(None if folder is None else check_path("folder", folder)) as work:
        prepared = yield from prepare_portions(
            options, portions, work, validation=validation, test=test, start=start
        )
        run = fit_events(options, prepared, checkpoint=checkpoint, resume=resume, start=start)
        return (yield from run)


def fit_events(
    options: TextClassifier,
    prepared: Prepared,
    *,
    checkpoint: str | os.PathLike[str] | None,
    resume: bool,
    start: Start | None,
) -> FitEvents:
    """Train on prepared texts. See ``TextClassifier.fit_steps`` for the other arguments.

    options: a classifier, which is only read. Yields each step's and each epoch's result, and
    returns the trained model, what it is worth on the validation texts, None without any, and what
    the file of vectors had, None if none was read.
    """
    training = arguments.to_json(options)
    classes, tokenizer, held = prepared.classes, prepared.tokenizer, prepared.held
    if options.patience is not None and not len(held):
        raise ConfigError(
            f"patience={options.patience} waits for a better validation, and there are no texts "
            "to validate on; set validation_fraction to 0.1, say"
        )
    goes_on = _goes_on(checkpoint, resume)
    vectors = None if goes_on else _read_vectors(options, tokenizer.vocabulary, start)
    # A small corpus has fewer words than there are ids.
    config = replace(
        arguments.model_config(options, classes=len(classes)),
        targets="many" if prepared.many else "one",
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
    train_config = arguments.train_config(options, epochs=options.epochs_for(prepared.texts))
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
    elif options.context_vectors and start is None and not goes_on:
        _begin_with_contexts(model, prepared.train.texts, train_config.seed)
    history = History()
    for event in train_steps(
        model,
        prepared.train,
        held,
        train_config,
        checkpoint=None if checkpoint is None else check_path("checkpoint", checkpoint),
        resume=resume,
        start=None if start is None else start.digest(),
        vectors=vectors_file,
        frozen=frozen,
    ):
        if isinstance(event, EpochResult):
            history.append(event)
        yield event
    begun = time.perf_counter()
    logits, scores = held.pooled(model.predict_logits(held.texts)), None
    spent = time.perf_counter() - begun
    ngrams: NgramModel | None = None
    mix = (1.0, 0.0)
    if prepared.ngrams is None and options.calibrate:
        mix = (fit_factor(logits, held.targets), 0.0)
    if prepared.ngrams is not None:
        linear = None if start is None else start.ngrams(classes)
        ngrams, scores = _fit_beside(options, prepared, linear)
        mix = fit_mix(logits, scores, held.targets)
        if prepared.ngrams.again:
            # The factors are found; from here on it may know these texts, too.
            ngrams = _fit_linear(options, prepared, linear, len(prepared.ngrams.rows))
    validated: Evaluation | None = None
    if len(held):
        begun = time.perf_counter() - spent
        validated = evaluate_logits(model, mixed(logits, scores, mix), held.targets, begun)
    if start is not None and start.kept_texts:
        kept = tokenizer.read(start.kept_texts, options.max_length)
        linear_scores = None if ngrams is None else ngrams.scores(start.kept_texts)
        kept_logits = kept.pooled(model.predict_logits(kept.rows))
        kept_logits = mixed(kept_logits, linear_scores, mix)
        start.check_kept(model.probabilities(kept_logits), classes)
    trained = model_file.TrainedModel(model, tokenizer, classes, training, history, ngrams, mix)
    return trained, validated, None if vectors is None else vectors.counts()


def _begin_with_contexts(model: TextModel, texts: Texts, seed: int) -> None:
    """Give the words their vectors of ``context_vectors``, and the others as large ones."""
    table = model.parameters["embedding.weight"]
    ids, values = context_vectors(texts, len(table), FIRST_WORD_ID, table.shape[1], seed)
    if len(ids):
        WordVectors(ids, values, wanted=len(table) - FIRST_WORD_ID).fill(table)


def untrained_model(
    fitted: TextClassifier, texts: Sequence[str], rows: npt.NDArray[np.int64]
) -> TextModel:
    """The model that a classifier's ``fit`` began with: its words' vectors from where they were.

    fitted: what came of it, in memory and from the beginning. texts: all that it was given. rows:
    those that it learnt from, in their order.
    """
    trained, tokenizer = fitted.model_, fitted.tokenizer_
    seed = int(fitted.random_state)
    model = TextModel.initialize(trained.config, seed, trained.precision)
    if fitted.vectors is not None:
        size = trained.config.embedding_size
        vectors = read_vectors(fitted.vectors, tokenizer.vocabulary, size=size)
        vectors.fill(model.parameters["embedding.weight"])
    elif fitted.context_vectors:
        read = tokenizer.read(texts, trained.config.max_length).select(rows)
        _begin_with_contexts(model, read.rows, seed)
    return model


def _goes_on(checkpoint: str | os.PathLike[str] | None, resume: bool) -> bool:
    """Whether there is a run to go on from."""
    resume = check_flag("resume", resume)
    return resume and checkpoint is not None and check_path("checkpoint", checkpoint).exists()


def _vectors_size(options: TextClassifier, start: Start | None) -> int | None:
    """Numbers that each vector of the options' file must have; None for what it has."""
    if start is None:
        return options.embedding_size
    return start.classifier.model_.config.embedding_size


def _check_vectors_file(options: TextClassifier, start: Start | None, *, goes_on: bool) -> None:
    """Look whether the file of vectors is one now, and not after the texts were read."""
    if options.vectors is not None and not goes_on:
        check_beginning(options.vectors, _vectors_size(options, start))


def _read_vectors(
    options: TextClassifier, vocabulary: Vocabulary, start: Start | None
) -> WordVectors | None:
    """What the options' file has for the words, of which a trained model keeps its own."""
    if options.vectors is None:
        return None
    known = 0 if start is None else len(start.classifier.tokenizer_.vocabulary.words)
    size = _vectors_size(options, start)
    return read_vectors(options.vectors, vocabulary, size=size, known=known)


def _fit_beside(
    options: TextClassifier, prepared: Prepared, linear: NgramModel | None
) -> tuple[NgramModel, Float32]:
    """The linear model of the training texts, and its scores of the validation texts [n, L]."""
    assert prepared.ngrams is not None  # noqa: S101 (the caller has looked)
    ngrams = _fit_linear(options, prepared, linear, prepared.ngrams.training)
    scores = [ngrams.score_rows(block) for block in prepared.ngrams.held()]
    return ngrams, np.concatenate(scores)


def _fit_linear(
    options: TextClassifier, prepared: Prepared, linear: NgramModel | None, texts: int
) -> NgramModel:
    """The linear model of the first so many texts."""
    given = prepared.ngrams
    assert given is not None  # noqa: S101 (the caller has looked)
    settings: dict[str, Any] = {
        "kind": prepared.tokenizer.kind,
        "longest": int(options.ngrams),
        "bits": given.bits,
        "cost": float(options.ngram_cost),
        "seed": int(options.random_state),
        "start": linear,
    }
    rows, targets = given.rows.first(texts), np.ascontiguousarray(given.targets[:texts])
    counts = None if given.counts is None else np.ascontiguousarray(given.counts[:texts])
    return fit_ngrams(rows, targets, len(prepared.classes), **settings, counts=counts)
