"""TextClassifier: texts and labels in, probabilities out, after scikit-learn's contract.

scikit-learn is not needed to use it.
"""

from __future__ import annotations

import inspect
import math
import os
import reprlib
import sys
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import tidegate
from tidegate import initializers, int8, ops, storage
from tidegate.batch import TokenizedTexts
from tidegate.checkpoint import check_checkpoint_size, history_size
from tidegate.errors import (
    ConfigError,
    DataError,
    ModelFileError,
    NotFittedError,
    TidegateError,
    unknown_choice,
)
from tidegate.metrics import Evaluation, LabeledSet, evaluate
from tidegate.model import ModelConfig, TextModel, check_whole
from tidegate.text import Tokenizer, Vocabulary, check_column, check_texts
from tidegate.training import EpochResult, StepResult, TrainConfig, train_steps

__all__ = ["PRESETS", "Evaluation", "TextClassifier"]

PRESETS: dict[str, dict[str, Any]] = {
    # The lecture's job: what Keras does with IMDB, down to reading the padding.
    "lecture": {"masked": False, "epochs": 3},
    "default": {},
}

# Of ``epochs=None``: few texts are seen often enough for about this many steps, many texts thrice.
# On 1,000, 5,000 and 25,000 reviews of IMDB's training set, held-out accuracy stops rising there.
_AUTO_STEPS = 400
_AUTO_EPOCHS = (3, 20)

QUANTIZATIONS = ("int8",)

_LABEL_TYPES = {"U": "str", "i": "int", "b": "bool", "f": "float"}


class _AskedThreads:
    """The process's number of threads, while classifiers compute that ask for one of their own.

    They may do so at once, in several Python threads, and end in any order. The latest that still
    computes has its number, and after the last one holds what held before the first.
    """

    def __init__(self) -> None:
        self._forget()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._end_in_child)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._asked: dict[object, int] = {}  # in the order in which they came
        self._before = 0

    def _end_in_child(self) -> None:
        """The classifiers that computed in other threads are not in a child process."""
        before = self._before if self._asked else None
        self._forget()
        if before is not None:
            ops.set_threads(before)

    @contextmanager
    def lent(self, count: int) -> Iterator[None]:
        """While it lasts, computing is done on ``count`` threads, unless another asks later."""
        key = object()
        with self._lock:
            if not self._asked:
                self._before = ops.threads()
            ops.set_threads(count)
            self._asked[key] = count
        try:
            yield
        finally:
            with self._lock:
                del self._asked[key]
                ops.set_threads(next(reversed(self._asked.values()), self._before))


_asked_threads = _AskedThreads()


class TextClassifier:
    """A gated recurrent classifier of texts.

    cell: "gru", "lstm" or "rnn". reset: where a GRU's reset gate acts, "after" the recurrent
    product as in Keras and PyTorch, or "before" it as in the lecture's equations.
    vocabulary_size: ids for words, with four special ones among them. embedding_size, hidden_size:
    numbers for each word, units of the state. max_length: tokens read of a text, its last ones.
    masked: whether padding is left out (the lecture reads it). epochs: times that every text is
    seen; None for 3 to 20, the more the fewer texts there are (see ``epochs_for``). batch_size,
    learning_rate, clip_norm: of the training with Adam. validation_fraction: share of the texts
    held out to validate each epoch, 0 for none. random_state: the seed; the same seed, data and
    machine give the same model, bit for bit, on any number of threads. threads: how many this
    classifier computes on, None for the number of the process, which TIDEGATE_THREADS or
    ``ops.set_threads`` says and else is one for each core. All classifiers of a process share one
    pool: its number is changed while this one computes, and put back when no classifier with a
    number of its own computes any more. precision: of
    the recurrent layer's matrix products, "auto", "float32" or "bfloat16" (see
    ``ops.choose_precision``); a model keeps the one that it was trained with.

    After ``fit`` or ``load``: classes_ (sorted labels), history_ (a list of EpochResult; seconds
    are not stored in model files), tokenizer_, model_ and training_ (the arguments above as the
    model was trained with them, which ``save`` writes whatever was set since).

    Bad values raise ConfigError when they are used, as scikit-learn wants it.
    """

    _estimator_type = "classifier"  # for tools from before scikit-learn's tags

    def __init__(
        self,
        *,
        cell: str = "gru",
        reset: str = "after",
        vocabulary_size: int = 10_000,
        embedding_size: int = 128,
        hidden_size: int = 128,
        max_length: int = 200,
        masked: bool = True,
        epochs: int | None = None,
        batch_size: int = 64,
        learning_rate: float = 1e-3,
        clip_norm: float | None = None,
        validation_fraction: float = 0.2,
        random_state: int = 0,
        threads: int | None = None,
        precision: str = "auto",
    ) -> None:
        self.cell = cell
        self.reset = reset
        self.vocabulary_size = vocabulary_size
        self.embedding_size = embedding_size
        self.hidden_size = hidden_size
        self.max_length = max_length
        self.masked = masked
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.clip_norm = clip_norm
        self.validation_fraction = validation_fraction
        self.random_state = random_state
        self.threads = threads
        self.precision = precision

    @classmethod
    def from_preset(cls, name: str, **overrides: Any) -> TextClassifier:
        """A classifier with a preset's values: "lecture" or "default"; overrides win."""
        if not isinstance(name, str) or name not in PRESETS:
            raise unknown_choice("preset", name, PRESETS)
        classifier = cls(**PRESETS[name])
        return classifier.set_params(**overrides)

    # --- scikit-learn's contract

    @classmethod
    def _parameter_names(cls) -> list[str]:
        return [name for name in inspect.signature(cls.__init__).parameters if name != "self"]

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's arguments and their values."""
        return {name: getattr(self, name) for name in self._parameter_names()}

    def set_params(self, **params: Any) -> TextClassifier:
        """Set constructor arguments by name. ConfigError for an unknown one."""
        names = self._parameter_names()
        for name, value in params.items():
            if name not in names:
                raise unknown_choice("parameter", name, names)
            setattr(self, name, value)
        return self

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn asks: a classifier of one label each, whose input is texts."""
        from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags

        return Tags(
            estimator_type=self._estimator_type,
            target_tags=TargetTags(required=True),
            classifier_tags=ClassifierTags(),
            input_tags=InputTags(string=True, two_d_array=False),
        )

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")

    def __repr__(self) -> str:
        defaults = inspect.signature(type(self).__init__).parameters
        changed = ", ".join(
            f"{name}={value!r}"
            for name, value in self.get_params().items()
            if repr(value) != repr(defaults[name].default)  # an array's != would be an array
        )
        return f"TextClassifier({changed})"

    # --- training

    def fit(self, texts: Iterable[str], labels: Iterable[Any]) -> TextClassifier:
        """Train on texts (str) and one label each (str, int, bool or float)."""
        for _ in self.fit_steps(texts, labels):
            pass
        return self

    def fit_steps(
        self,
        texts: Iterable[str],
        labels: Iterable[Any],
        *,
        checkpoint: str | os.PathLike[str] | None = None,
        resume: bool = False,
    ) -> Iterator[StepResult | EpochResult]:
        """Like ``fit``, yielding each step's and each epoch's result; fitted when exhausted.

        ``checkpoint`` is a file that keeps the run; ``resume`` goes on from it if it is there.
        Arguments are checked when the first result is asked for. ConfigError if the model or the
        checkpoint would be too large a file.
        """
        self.check()
        events = self._fit_events(texts, labels, checkpoint, resume)
        try:
            while True:
                with self._own_threads():
                    event = next(events, None)
                if event is None:
                    return
                yield event
        finally:
            with self._own_threads():
                events.close()

    def _fit_events(
        self,
        texts: Iterable[str],
        labels: Iterable[Any],
        checkpoint: str | os.PathLike[str] | None,
        resume: bool,
    ) -> Generator[StepResult | EpochResult, None, None]:
        training = self._training()
        listed = _listed_texts(texts)
        classes, targets = _encode_labels(labels, len(listed))
        tokenizer = Tokenizer.fit(listed, self.vocabulary_size)
        # A small corpus has fewer words than there are ids.
        config = replace(
            self._model_config(classes=len(classes)), vocabulary_size=tokenizer.vocabulary.size
        )
        encoded = tokenizer.encode_all(listed, self.max_length)
        train_rows, validation_rows = self.split(len(listed))
        train_config = self._train_config(epochs=self.epochs_for(len(listed)))
        train_set = LabeledSet(encoded.select(train_rows), targets[train_rows])
        validation_set = LabeledSet(encoded.select(validation_rows), targets[validation_rows])
        del encoded, listed
        precision = ops.choose_precision(self.precision)
        header = _header(config, training, precision, classes, tokenizer, [])
        tensor_bytes = 4 * sum(math.prod(shape) for shape in config.parameter_shapes().values())
        storage.check_size(
            tensor_bytes + len(tokenizer.vocabulary.to_bytes()),
            storage.header_size(header) + history_size(train_config.epochs),
            "model",
        )
        if checkpoint is not None:
            check_checkpoint_size(config, train_config)
        model = TextModel.initialize(config, train_config.seed, precision)
        history: list[EpochResult] = []
        for event in train_steps(
            model,
            train_set,
            validation_set,
            train_config,
            checkpoint=None if checkpoint is None else Path(checkpoint),
            resume=resume,
        ):
            if isinstance(event, EpochResult):
                history.append(event)
            yield event
        self.classes_ = classes
        self.tokenizer_ = tokenizer
        self.model_ = model
        self.history_ = history
        self.training_ = training

    def check(self) -> None:
        """Raise ConfigError for a bad option; ``fit`` does it before all else."""
        self._model_config(classes=2)
        self.split(0)
        self._train_config(epochs=1 if self.epochs is None else self.epochs)
        if not isinstance(self.precision, str):
            raise unknown_choice("precision", self.precision, ("auto", *ops.PRECISIONS))
        ops.choose_precision(self.precision)
        if self.threads is not None:
            check_whole("threads", self.threads, 1, ops.MAX_THREADS)

    def split(self, texts: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Which of ``texts`` rows train and which validate: the last share of a shuffle."""
        check_whole("texts", texts, 0, sys.maxsize)
        check_whole("random_state", self.random_state, 0, 2**63 - 1)
        fraction = self.validation_fraction
        if isinstance(fraction, bool) or not isinstance(
            fraction, (int, float, np.integer, np.floating)
        ):
            raise ConfigError(f"validation_fraction={fraction!r} is not a number")
        if not 0.0 <= fraction < 1.0:
            raise ConfigError(
                f"validation_fraction={fraction!r} must be at least 0 (no validation) and below 1"
            )
        order = initializers.permutation(self.random_state, "split", texts)
        # As Keras's validation_split cuts; one text is always left to train on.
        kept = max(1, int(texts * (1.0 - fraction)))
        return order[:kept], order[kept:]

    def _model_config(self, classes: int) -> ModelConfig:
        return ModelConfig(
            cell=self.cell,
            reset=self.reset,
            vocabulary_size=self.vocabulary_size,
            embedding_size=self.embedding_size,
            hidden_size=self.hidden_size,
            classes=classes,
            max_length=self.max_length,
            masked=self.masked,
        )

    def epochs_for(self, texts: int) -> int:
        """How many epochs ``fit`` trains on this many texts, validation texts included."""
        training, _ = self.split(texts)
        config = self._train_config(epochs=1 if self.epochs is None else self.epochs)
        if self.epochs is not None:
            return config.epochs
        steps = -(-len(training) // config.batch_size) or 1
        fewest, most = _AUTO_EPOCHS
        return min(max(-(-_AUTO_STEPS // steps), fewest), most)

    def _train_config(self, epochs: int) -> TrainConfig:
        return TrainConfig(
            epochs=epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            clip_norm=self.clip_norm,
            seed=self.random_state,
        )

    @contextmanager
    def _own_threads(self) -> Iterator[None]:
        """While it lasts, computing is done on ``threads`` threads."""
        if self.threads is None:
            yield
            return
        check_whole("threads", self.threads, 1, ops.MAX_THREADS)
        with _asked_threads.lent(int(self.threads)):
            yield

    # --- prediction

    def _fitted(self) -> TextModel:
        if not self.__sklearn_is_fitted__():
            raise NotFittedError("this TextClassifier is not trained yet; call fit or load first")
        self.model_.freeze()
        return self.model_

    def _encode(self, texts: Iterable[str]) -> TokenizedTexts:
        return self.tokenizer_.encode_all(_listed_texts(texts), self.model_.config.max_length)

    def predict_proba(self, texts: Iterable[str]) -> npt.NDArray[np.float64]:
        """[texts, classes] float64 probabilities, columns in the order of ``classes_``."""
        model = self._fitted()
        with self._own_threads():
            return model.probabilities(model.predict_logits(self._encode(texts)))

    def predict(self, texts: Iterable[str]) -> npt.NDArray[Any]:
        """[texts] the likeliest label of each text."""
        probabilities = self.predict_proba(texts)
        chosen: npt.NDArray[Any] = self.classes_[probabilities.argmax(axis=1)]
        return chosen

    def score(self, texts: Iterable[str], labels: Iterable[Any]) -> float:
        """Accuracy: the share of texts whose likeliest label is the given one."""
        return self.evaluate(texts, labels).accuracy

    def evaluate(self, texts: Iterable[str], labels: Iterable[Any]) -> Evaluation:
        """Loss and accuracy on texts with known labels.

        Raises DataError for a label that the classifier has not been trained on.
        """
        model = self._fitted()
        begun = time.perf_counter()
        encoded = self._encode(texts)
        given = _label_array(labels, len(encoded))
        known = {label: i for i, label in enumerate(self.classes_.tolist())}
        unknown = [label for label in given.tolist() if label not in known]
        if unknown:
            raise DataError(
                f"label {unknown[0]!r} is not one of the model's: "
                f"{', '.join(str(label) for label in known)}"
            )
        targets = np.array([known[label] for label in given.tolist()], np.int32)
        with self._own_threads():
            result = evaluate(model, LabeledSet(encoded, targets))
        return replace(result, seconds=time.perf_counter() - begun)

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
        model = self._fitted()
        check_quantize(quantize)
        model.check_finite()
        vocabulary = np.frombuffer(self.tokenizer_.vocabulary.to_bytes(), np.uint8)
        weights = model.parameters if quantize is None else int8.quantize(model.parameters)
        tensors: dict[str, npt.NDArray[Any]] = {**weights, "vocabulary": vocabulary}
        history = [asdict(result) for result in self.history_]
        for result in history:
            del result["seconds"]  # all that differs between two runs of the same job
        header = _header(
            model.config, self.training_, model.precision, self.classes_, self.tokenizer_, history
        )
        if quantize is not None:
            header["quantization"] = quantize
        return storage.write_tensors(Path(path), tensors, header, replace=replace)

    def _training(self) -> dict[str, Any]:
        """The arguments as a model file tells them, which have been checked."""
        params = self.get_params()
        del params["threads"]
        for name in ("learning_rate", "clip_norm", "validation_fraction"):
            if params[name] is not None:
                params[name] = float(params[name])  # 1 and 1.0 are the same job
        return {name: _plain(value) for name, value in params.items()}

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> TextClassifier:
        """The classifier that ``save`` wrote. ModelFileError for anything else."""
        return cls.from_tensors(*storage.read_tensors(Path(path)), path)

    @classmethod
    def from_tensors(
        cls,
        tensors: Mapping[str, npt.NDArray[Any]],
        header: Mapping[str, Any],
        path: str | os.PathLike[str],
    ) -> TextClassifier:
        """The classifier of what was read from ``path``. ModelFileError if it is no model."""
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
            names = cls._parameter_names()
            classifier = cls(**{k: v for k, v in training.items() if k in names})
            classifier.training_ = training
            classifier.classes_ = _stored_classes(header["classes"], header["label_type"])
            if len(classifier.classes_) != config.classes:
                raise DataError(f"{len(classifier.classes_)} labels for {config.classes} classes")
            vocabulary = Vocabulary.from_bytes(tensors.pop("vocabulary").tobytes())
            if vocabulary.size != config.vocabulary_size:
                raise DataError(
                    f"{vocabulary.size} ids for a vocabulary_size of {config.vocabulary_size}"
                )
            classifier.tokenizer_ = Tokenizer(header["tokenizer"], vocabulary)
            if quantized:
                tensors = int8.dequantize(tensors, config.parameter_shapes())
            classifier.model_ = TextModel(config, tensors, header["precision"])
            classifier.model_.check_finite()
            if not isinstance(header["history"], list):
                raise DataError("the history is no list")
            classifier.history_ = [
                EpochResult.from_json({"seconds": math.nan, **result})
                for result in header["history"]
            ]
        except (KeyError, TypeError, AttributeError, TidegateError) as error:
            raise ModelFileError(
                f"{path} is not a usable model ({error}); train or download it again"
            ) from error
        return classifier


def _header(
    config: ModelConfig,
    training: dict[str, Any],
    precision: ops.Precision,
    classes: npt.NDArray[Any],
    tokenizer: Tokenizer,
    history: list[dict[str, Any]],
) -> dict[str, Any]:
    """What the model file says besides the tensors."""
    return {
        "kind": "model",
        "tidegate": tidegate.__version__,
        "config": config.to_json(),
        "training": training,
        "classes": classes.tolist(),
        "label_type": _LABEL_TYPES[classes.dtype.kind],
        "tokenizer": tokenizer.kind,
        "precision": precision,
        "history": history,
    }


def check_quantize(quantize: str | None) -> None:
    """ConfigError unless it is None or one of QUANTIZATIONS."""
    if quantize is None:
        return
    if not isinstance(quantize, str) or quantize not in QUANTIZATIONS:
        raise unknown_choice("quantize", quantize, QUANTIZATIONS)


def _listed_texts(texts: Iterable[str]) -> Sequence[str]:
    check_texts(texts)
    return texts if isinstance(texts, list) else list(texts)


def _label_array(labels: Iterable[Any], texts: int) -> npt.NDArray[Any]:
    """Labels as an array of str, int, bool or float; DataError for anything else."""
    check_column("labels", labels, "give a list with one label for each text")
    listed = labels.tolist() if isinstance(labels, np.ndarray) else list(labels)
    if len(listed) != texts:
        raise DataError(f"{texts} texts have {len(listed)} labels; give one label for each text")
    listed = [_plain(label) for label in listed]
    types = {type(label) for label in listed}
    for i, label in enumerate(listed):
        if type(label) not in (str, int, bool, float):
            raise DataError(f"label {i} is {label!r}; labels are str, int, bool or float")
        if isinstance(label, float) and not math.isfinite(label):
            raise DataError(f"label {i} is {label!r}; drop the text, or give it a finite label")
        if isinstance(label, int) and not -(2**63) <= label < 2**63:
            raise DataError(f"label {i} is {label}, too large for 64 bits; use str labels")
    if len(types) > 1:
        mixed = ", ".join(sorted(t.__name__ for t in types))
        raise DataError(f"labels mix {mixed}; make them all of one type, such as str")
    array = np.array(listed) if listed else np.array([], dtype=np.str_)
    if array.dtype.kind == "U" and array.tolist() != listed:
        # NumPy strips trailing NULs, which would make two labels one.
        raise DataError("a label ends with a NUL character; strip it")
    return array


def _encode_labels(
    labels: Iterable[Any], texts: int
) -> tuple[npt.NDArray[Any], npt.NDArray[np.int32]]:
    """The sorted classes, and each label's number among them."""
    array = _label_array(labels, texts)
    if not len(array):
        raise DataError("there are no texts to train on; give at least two, of two classes")
    classes, targets = np.unique(array, return_inverse=True)
    if len(classes) < 2:
        raise DataError(
            f"every label is {classes.tolist()[0]!r}; a classifier needs texts of at least two "
            "classes"
        )
    check_whole("classes", len(classes), 2, 100_000)
    return classes, targets.reshape(-1).astype(np.int32)


def _plain(value: Any) -> Any:
    """NumPy's scalars and subclasses of str, int and float, as enums are, as Python's own."""
    if isinstance(value, np.generic):
        value = value.item()
    # By the base's own methods: an enum's str() is its name.
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    return value


def _stored_classes(stored: Any, label_type: Any) -> npt.NDArray[Any]:
    types: dict[Any, type] = {"str": str, "int": int, "bool": bool, "float": float}
    wanted = types[label_type]
    if not isinstance(stored, list) or any(type(label) is not wanted for label in stored):
        raise DataError(f"the labels are not all {label_type}")
    if not all(label < following for label, following in pairwise(stored)):
        raise DataError("the labels are not sorted and distinct")
    return _label_array(stored, len(stored))
