"""TextClassifier: texts and labels in, probabilities out, after scikit-learn's contract.

scikit-learn is not needed to use it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import compress
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tidegate import (
    arguments,
    fitting,
    measuring,
    model_file,
    notebook,
    storage,
    streaming,
    threads,
)
from tidegate.batch import Reading
from tidegate.checks import check_path
from tidegate.continuing import Start, check_options
from tidegate.contract import ClassifierContract
from tidegate.data.survey import Survey
from tidegate.errors import ConfigError, not_fitted, unknown_choice
from tidegate.fitting import mixed
from tidegate.history import History
from tidegate.metrics import Evaluation
from tidegate.model import TextModel
from tidegate.portions import Portions, ReadResult
from tidegate.preparing import listed_texts
from tidegate.presets import PRESETS
from tidegate.report import Report
from tidegate.thresholds import check_probabilities, chosen
from tidegate.training import EpochResult, StepResult

if TYPE_CHECKING:
    from tidegate.explain import Explanation

__all__ = ["PRESETS", "Evaluation", "TextClassifier"]


class TextClassifier(ClassifierContract):
    """A gated recurrent classifier of texts.

    Its words: tokenizer, the rules of tokens, "words" or "lecture" (see ``tokens``), or the path of
    a tokenizer.json, whose tokens take the place of vocabulary_size (see ``JsonTokenizer``).
    vocabulary_size, ids for words, with four special ones among them. max_length, tokens read of a
    text; keep, which ones of a longer text, or how it is read in windows, see ``Tokenizer``.
    masked, whether padding is left out (the lecture reads it).

    Its network (see ``ModelConfig``): cell, "gru", "lstm" or "rnn". reset, where a GRU's reset gate
    acts, "after" the recurrent product as in Keras and PyTorch, or "before" it as in the lecture's
    equations. embedding_size, hidden_size, numbers for each word, units of the state;
    embedding_size=None is 128, or what the vectors have. layers, bidirectional, pooling,
    layer_norm. vectors, a file of words' vectors to begin with (see ``read_vectors``);
    freeze_vectors, whether those found in it stay as they are. context_vectors, whether the words
    begin with vectors from their neighbours in the training texts (see ``context_vectors``), which
    ``fit`` and ``fit_stream`` find, for a new model.

    Beside it: ngrams, n of the longest word n-grams that a linear model reads, 0 for no such model;
    ngram_cost, see ``fit_ngrams``. Both models' logits are added with the factors that suit the
    validation texts best. calibrate, whether the network's logits, where they stand alone, are
    multiplied by such a factor, too: probabilities then come true about as often as they say, and
    no prediction changes.

    Its training (see ``TrainConfig``): epochs, times that every text is seen; None for 3 to 20, the
    more the fewer texts there are, and twice that with a schedule (see ``epochs_for``). batch_size.
    learning_rate, beta_2, weight_decay, schedule, warmup, clip_norm, average, of Adam.
    label_smoothing, the share of each label that is spread over all classes. class_weight, how much
    each class counts: "balanced" for the same all together, a dict of label and number, or None for
    1. word_dropout, vocabulary_dropout, embedding_dropout, layer_dropout, recurrent_dropout,
    dropout, rates of what is left out, see ``Dropout``; the last one is before the output layer.
    calibrate, whether the network's logits are multiplied by the factor that suits the validation
    texts best. validation_fraction, the share of the texts held out to validate each epoch, 0 for
    none. patience, epochs without a better validation after which training ends with the best
    epoch's weights; None to train all epochs and keep the last.

    Its computing: random_state, the seed; the same seed, data and machine give the same model, bit
    for bit, on any number of threads. threads, how many this classifier computes on, None for the
    number of the process, which TIDEGATE_THREADS or ``ops.set_threads`` says and else is one for
    each core. All classifiers of a process share one pool: its number is changed while this one
    computes, and put back when no classifier with a number of its own computes any more.
    precision, of the recurrent layers' matrix products, "auto", "float32", "bf16x3" or "bfloat16"
    (see ``ops.choose_precision``); a model keeps the one that it was trained with.

    After ``fit`` or ``load``: classes_ (sorted labels; of an array of 0 and 1 its columns'
    numbers), history_ (a list of EpochResult, of the network alone, see ``History``; seconds are
    not stored in model files), tokenizer_, model_, ngrams_ and mix_ (the linear model, and the
    factors of both models' logits; without one, (factor, 0.0)), thresholds_ (None until
    ``tune_threshold``), conversion_ (of an imported model, where it is from and how exactly it is
    the same, until it is trained further; else None), after ``fit`` alone validation_ (the
    Evaluation of the final model on the validation texts, None without any), and training_ (the
    arguments above as the model was trained with them, which ``save`` writes whatever was set
    since; of vectors it tells nothing), and vectors_ (how many words had a vector in the file, None
    without one, or where a resumed training had no need to read it).

    Bad values raise ConfigError when they are used, as scikit-learn wants it.
    """

    _estimator_type = "classifier"  # for tools from before scikit-learn's tags
    conversion_: dict[str, Any] | None = None
    validation_: Evaluation | None  # there after fit alone
    _stream: streaming.Stream | None = None  # what partial_fit goes on with
    vectors_: dict[str, int] | None = None

    def __init__(
        self,
        *,
        cell: str = "gru",
        reset: str = "after",
        tokenizer: str | os.PathLike[str] = "words",
        vocabulary_size: int = 10_000,
        embedding_size: int | None = None,
        hidden_size: int = 128,
        max_length: int = 200,
        keep: str = "end",
        masked: bool = True,
        layers: int = 1,
        bidirectional: bool = False,
        pooling: str = "last",
        layer_norm: bool = False,
        epochs: int | None = None,
        batch_size: int = 64,
        learning_rate: float = 1e-3,
        beta_2: float = 0.999,
        weight_decay: float = 0.0,
        schedule: str = "constant",
        warmup: float = 0.0,
        clip_norm: float | None = None,
        average: float = 0.0,
        label_smoothing: float = 0.0,
        patience: int | None = None,
        class_weight: str | Mapping[Any, float] | None = None,
        word_dropout: float = 0.0,
        vocabulary_dropout: float = 0.0,
        embedding_dropout: float = 0.0,
        layer_dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        dropout: float = 0.0,
        ngrams: int = 0,
        ngram_cost: float = 1.0,
        calibrate: bool = True,
        validation_fraction: float = 0.2,
        random_state: int = 0,
        threads: int | None = None,
        precision: str = "auto",
        vectors: str | os.PathLike[str] | None = None,
        freeze_vectors: bool = False,
        context_vectors: bool = False,
    ) -> None:
        self.cell = cell
        self.reset = reset
        self.tokenizer = tokenizer
        self.vocabulary_size = vocabulary_size
        self.embedding_size = embedding_size
        self.hidden_size = hidden_size
        self.max_length = max_length
        self.keep = keep
        self.masked = masked
        self.layers = layers
        self.bidirectional = bidirectional
        self.pooling = pooling
        self.layer_norm = layer_norm
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.beta_2 = beta_2
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.warmup = warmup
        self.clip_norm = clip_norm
        self.average = average
        self.label_smoothing = label_smoothing
        self.patience = patience
        self.class_weight = class_weight
        self.word_dropout = word_dropout
        self.vocabulary_dropout = vocabulary_dropout
        self.embedding_dropout = embedding_dropout
        self.layer_dropout = layer_dropout
        self.recurrent_dropout = recurrent_dropout
        self.dropout = dropout
        self.ngrams = ngrams
        self.ngram_cost = ngram_cost
        self.calibrate = calibrate
        self.validation_fraction = validation_fraction
        self.random_state = random_state
        self.threads = threads
        self.precision = precision
        self.vectors = vectors
        self.freeze_vectors = freeze_vectors
        self.context_vectors = context_vectors

    @classmethod
    def from_preset(cls, name: str, **overrides: Any) -> TextClassifier:
        """A classifier with the values of one of PRESETS; overrides win.

        "lecture": the lecture's job. "default": what the command line takes for people's own files.
        "accurate": larger and slower. "fast": a small network with the linear model.
        """
        if not isinstance(name, str) or name not in PRESETS:
            raise unknown_choice("preset", name, PRESETS)
        classifier = cls(**PRESETS[name])
        if overrides.get("vectors") is not None:
            classifier.embedding_size = None  # as many as they have
        return classifier.set_params(**overrides)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")

    def _repr_html_(self) -> str:
        """What a notebook shows: changed arguments, and of a trained one labels, size, epochs."""
        if not self.__sklearn_is_fitted__():
            return notebook.card("TextClassifier", self._changed_params(), {}, None)
        facts = notebook.trained_facts(self.model_, self.classes_)
        return notebook.card("TextClassifier", self._changed_params(), facts, self.history_)

    # --- training

    def fit(
        self,
        texts: Iterable[str],
        labels: Iterable[Any],
        sample_weight: Iterable[float] | None = None,
        *,
        validation: tuple[Iterable[str], Iterable[Any]] | None = None,
    ) -> TextClassifier:
        """Train on texts (str) and labels (str, int, bool or float).

        labels: one for each text; or any number of them for each text, as lists, tuples or sets, or
        as an array of 0 and 1 [texts, labels]. Each label then is a question of its own.
        sample_weight: how much each text counts in training, 1 if not given; it is multiplied with
        class_weight, and counts in both models. Validation and scores count every text once.
        validation: texts and labels to validate each epoch on,
        in place of a share of the others, which then all train. DataError for a label that is none
        of theirs.
        """
        given: dict[str, Any] = {"sample_weight": sample_weight, "validation": validation}
        for _ in self.fit_steps(texts, labels, **given):
            pass
        return self

    def fit_steps(
        self,
        texts: Iterable[str],
        labels: Iterable[Any],
        *,
        sample_weight: Iterable[float] | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        resume: bool = False,
        validation: tuple[Iterable[str], Iterable[Any]] | None = None,
        start: Start | None = None,
    ) -> Iterator[StepResult | EpochResult]:
        """Like ``fit``, yielding each step's and each epoch's result; fitted when exhausted.

        ``checkpoint`` is a file that keeps the run; ``resume`` goes on from it if it is there.
        ``start`` is a trained classifier to go on from, see ``continue_from``.
        Arguments are checked when the first result is asked for. ConfigError if the model or the
        checkpoint would be too large a file.
        """
        self.check()
        self._check_start(start)
        events = fitting.in_memory(
            self,
            texts,
            labels,
            sample_weight=sample_weight,
            checkpoint=checkpoint,
            resume=resume,
            validation=validation,
            start=start,
        )
        yield from fitting.followed(self, events)

    def fit_stream(
        self,
        portions: Portions,
        *,
        folder: str | os.PathLike[str] | None = None,
        validation: tuple[Iterable[str], Iterable[Any]] | None = None,
    ) -> TextClassifier:
        """Train on more texts than fit in memory, to the same model that ``fit`` gives.

        portions: pairs of texts and labels, each as ``fit`` takes them, which are read twice: a
        list, what ``data.open_labeled`` gives, or an object of one's own whose ``__iter__`` begins
        anew. The texts' ids lie in a file without a name in ``folder`` (None: the system's for such
        files), some bytes for each word; in memory are some dozens of bytes for each text.
        """
        for _ in self.fit_stream_steps(portions, folder=folder, validation=validation):
            pass
        return self

    def fit_stream_steps(
        self,
        portions: Portions,
        *,
        folder: str | os.PathLike[str] | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        resume: bool = False,
        validation: tuple[Iterable[str], Iterable[Any]] | None = None,
        test: tuple[Iterable[str], Iterable[Any]] | None = None,
        start: Start | None = None,
    ) -> Iterator[ReadResult | Survey | StepResult | EpochResult]:
        """Like ``fit_stream``, with the arguments of ``fit_steps`` and results along the way.

        First a ReadResult for each portion, with the Survey after the first reading, then those of
        ``fit_steps``. A run that was stopped reads its texts again and then goes on from the
        checkpoint, also from one of ``fit_steps``. test: texts and labels for the survey alone.
        """
        self.check()
        self._check_start(start)
        events = fitting.on_disk(
            self,
            portions,
            folder=folder,
            checkpoint=checkpoint,
            resume=resume,
            validation=validation,
            test=test,
            start=start,
        )
        yield from fitting.followed(self, events)

    def _check_start(self, start: object) -> None:
        """ConfigError unless it is None or one that this classifier can go on from."""
        if start is None:
            return
        if not isinstance(start, Start):
            raise ConfigError(f"start={start!r} is no Start; continue_from makes one")
        check_options(self, start.classifier)

    def _take(self, trained: model_file.TrainedModel) -> None:
        """Become a classifier of this model, all at once."""
        self.classes_ = trained.classes
        self.tokenizer_ = trained.tokenizer
        self.model_ = trained.model
        self.history_ = History(trained.history)
        self.training_ = trained.training
        self.ngrams_, self.mix_ = trained.ngrams, trained.mix
        self.thresholds_ = trained.thresholds
        self.conversion_ = trained.conversion

    def partial_fit(
        self,
        texts: Iterable[str],
        labels: Iterable[Any],
        classes: Iterable[Any] | None = None,
    ) -> TextClassifier:
        """Train by one pass over the texts, and go on from there with the next call's.

        classes: all labels that any call may bring, needed in the first one. The first call's texts
        make the vocabulary; a trained or loaded classifier keeps its own, and its classes. All
        texts train, in batches, and Adam's state is kept between calls, in pickles too, but not in
        model files. epochs and validation_fraction are not looked at; ConfigError for ngrams,
        patience, average, a schedule, warmup and class_weight="balanced", which need all texts at
        once. After an error the model is as it was before the call, and Adam begins anew.
        """
        with self._own_threads():
            streaming.partial_fit(self, listed_texts(texts), labels, classes)
        return self

    @classmethod
    def continue_from(
        cls,
        start: TextClassifier | str | os.PathLike[str],
        texts: Iterable[str],
        labels: Iterable[Any],
        *,
        keep: tuple[Iterable[str], Iterable[Any]] | None = None,
        max_loss: float = 0.01,
        validation: tuple[Iterable[str], Iterable[Any]] | None = None,
        **changed: Any,
    ) -> TextClassifier:
        """A new classifier that has gone on learning from ``start``, which stays as it is.

        start: a trained classifier, or a model file. changed: arguments for this training, such as
        epochs=2; those of the network's shape can't be others. Labels that the model did not know
        get output columns of their own, and new words ids: at most as many as a model of these
        texts alone would have; vectors, where it is among the changed, is for the new words alone.
        keep: texts and labels of earlier examples that do not train; TrainingError if the accuracy
        on them falls by more than max_loss.
        """
        trained = start if isinstance(start, TextClassifier) else cls.load(start)
        begun = Start(trained, keep, max_loss)
        own = {**trained.get_params(), "vectors": None, "freeze_vectors": False}
        classifier = cls(**own).set_params(**changed)
        for _ in classifier.fit_steps(texts, labels, validation=validation, start=begun):
            pass
        return classifier

    def check(self) -> None:
        """Raise ConfigError for a bad option; ``fit`` does it before all else."""
        arguments.check(self)

    def split(self, texts: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Which of ``texts`` rows train and which validate: the last share of a shuffle."""
        return arguments.split(self, texts)

    def epochs_for(self, texts: int) -> int:
        """How many epochs ``fit`` trains on this many texts, validation texts included."""
        return arguments.epochs_for(self, texts)

    def _own_threads(self) -> AbstractContextManager[None]:
        """While it lasts, computing is done on ``threads`` threads."""
        return threads.own(self.threads)

    # --- prediction

    def _fitted(self) -> TextModel:
        if not self.__sklearn_is_fitted__():
            raise not_fitted("this TextClassifier is not trained yet; call fit or load first")
        self.model_.freeze()
        return self.model_

    def _read(self, texts: Iterable[str]) -> Reading:
        return self.tokenizer_.read(texts, self.model_.config.max_length)

    def predict_proba(self, texts: Iterable[str]) -> npt.NDArray[np.float64]:
        """[texts, classes] float64 probabilities, columns in the order of ``classes_``.

        Where a text may have several labels, each column is a probability of its own; else rows
        add up to 1.
        """
        return self._read_proba(texts)[0]

    def _read_proba(self, texts: Iterable[str]) -> tuple[npt.NDArray[np.float64], Reading]:
        """The same, and what the network read of each text."""
        model = self._fitted()
        with self._own_threads():
            texts = listed_texts(texts)
            read = self._read(texts)
            return model.probabilities(self._logits(texts, read)), read

    def features(self, texts: Iterable[str]) -> npt.NDArray[np.float32]:
        """[texts, features] float32: what the network's output layer reads. See GRUEncoder."""
        model = self._fitted()
        with self._own_threads():
            read = self._read(listed_texts(texts))
            return read.pooled(model.features(read.rows))

    def _logits(self, texts: Sequence[str], read: Reading | None = None) -> npt.NDArray[np.float32]:
        """[texts, L] of the recurrent model, and of the linear one beside it if there is one.

        read: what ``_read`` gives of the texts, if it is there already.
        """
        read = self._read(texts) if read is None else read
        logits = read.pooled(self.model_.predict_logits(read.rows))
        scores = None if self.ngrams_ is None else self.ngrams_.scores(texts)
        return mixed(logits, scores, self.mix_)

    def explain(
        self, text: str, *, label: Any = None, method: str = "staged", traces: bool = False
    ) -> Explanation:
        """Which words of ``text`` speak for a label, and the probability after each of them.

        label: the class that is explained, None for the likeliest. method: "staged", "integrated",
        "occlusion" or "gradient". traces: whether all layers' gates and states are in it, too. See
        ``tidegate.explain``. DataError for a text without words or an unknown label, ConfigError
        for another method.
        """
        from tidegate.explain import explain  # as few who predict need it

        return explain(self, text, label=label, method=method, traces=traces)

    @property
    def _many(self) -> bool:
        """Whether a text may have several labels."""
        return self.model_.config.targets == "many"

    def predict(self, texts: Iterable[str]) -> npt.NDArray[Any]:
        """[texts] the likeliest label of each text, or what ``tune_threshold`` has it be.

        Where a text may have several labels, [texts, labels] of 0 and 1, as scikit-learn has it: 1
        where a label's probability is above 0.5, or the label's threshold or more. The columns are
        in the order of ``classes_``; ``predict_labels`` names them.
        """
        return self.decide(self.predict_proba(texts))

    def decide(self, probabilities: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
        """What ``predict`` says of texts with these probabilities, as ``predict_proba`` gives.

        ShapeError unless they are [texts, classes] float64.
        """
        self._fitted()
        check_probabilities(probabilities, len(self.classes_))
        numbers = self._chosen(probabilities)
        return numbers if self._many else np.asarray(self.classes_[numbers])

    def predict_labels(self, texts: Iterable[str]) -> list[tuple[Any, ...]]:
        """What ``predict`` says of each text, as a tuple of its labels: one, or any number."""
        predicted = self.predict(texts).tolist()
        if not self._many:
            return [(label,) for label in predicted]
        labels = self.classes_.tolist()
        return [tuple(compress(labels, row)) for row in predicted]

    def _chosen(self, probabilities: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """[texts] the numbers of the classes that are predicted, or [texts, labels] of 0 and 1."""
        return chosen(probabilities, self.thresholds_, many=self._many)

    def tune_threshold(
        self,
        texts: Iterable[str],
        labels: Iterable[Any],
        metric: str = "f1",
        at_least: float = 0.9,
    ) -> npt.NDArray[np.float64]:
        """Choose from which probability on ``predict`` says the second of two labels.

        Where a text may have several labels, each one gets a threshold of its own. texts, labels:
        best some that training has not seen. metric: "f1" for the threshold with the greatest F1 on
        them; "precision" for the lowest one with a precision of ``at_least``, and so the greatest
        recall. Returns the thresholds as [1] or [labels] float64, which are kept as ``thresholds_``
        and saved with the model; probabilities stay what they are. ``fit`` begins without.
        ConfigError for a model of one label of more than two, DataError for texts on which no
        threshold serves.
        """
        found = measuring.tune_threshold(self, texts, labels, metric, at_least)
        self.thresholds_ = found
        return found.copy()

    def score(self, texts: Iterable[str], labels: Iterable[Any]) -> float:
        """Accuracy: the share of texts of which ``predict`` says the given label, or labels.

        A label that the classifier has not been trained on counts as wrong.
        """
        return measuring.score(self, texts, labels)

    def evaluate(self, texts: Iterable[str], labels: Iterable[Any]) -> Evaluation:
        """Loss and accuracy on texts with known labels.

        Raises DataError for a label that the classifier has not been trained on.
        """
        return measuring.evaluate(self, texts, labels)

    def report(
        self, texts: Iterable[str], labels: Iterable[Any], *, intervals: bool = True, seed: int = 0
    ) -> Report:
        """All that is to be said of the predictions on texts with known labels.

        intervals: whether F1 and AUC get theirs from resamples, which ``seed`` fixes and which take
        about a second for 25,000 texts of two classes. Raises DataError for a label that the
        classifier has not been trained on.
        """
        return measuring.report(self, texts, labels, intervals=intervals, seed=seed)

    # --- the model file

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        replace: bool = True,
        quantize: str | None = None,
    ) -> str:
        """Write the model as one file, whole or not at all; return the file's sha256.

        Without ``replace``, OutputExistsError for a file that is there and is another one.
        quantize: None keeps the weights as they are; "int8" makes the file about a quarter as
        large and its weights a little less exact. This classifier keeps its own; the file's are
        those that ``load`` gives, in float32 again, and predictions take as long as ever. A
        loaded model that is saved with "int8" once more gives the same bits. ShapeError for
        weights that are not finite.
        """
        trained = model_file.TrainedModel(
            self._fitted(),
            self.tokenizer_,
            self.classes_,
            self.training_,
            self.history_,
            self.ngrams_,
            self.mix_,
            self.thresholds_,
            # Of weights that are rounded now, nothing was measured.
            self.conversion_ if quantize is None else None,
        )
        path = check_path("path", path)
        return model_file.write(path, trained, replace=replace, quantize=quantize)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> TextClassifier:
        """The classifier that ``save`` wrote. ModelFileError for anything else."""
        return cls.from_tensors(*storage.read_tensors(check_path("path", path)), path)

    @classmethod
    def from_tensors(
        cls,
        tensors: Mapping[str, npt.NDArray[Any]],
        header: Mapping[str, Any],
        path: str | os.PathLike[str],
    ) -> TextClassifier:
        """The classifier of what was read from ``path``. ModelFileError if it is no model."""
        trained = model_file.from_tensors(tensors, header, path)
        given = arguments.from_json(trained.training, cls._parameter_names(), path)
        classifier = cls(**given)
        classifier._take(trained)
        return classifier
