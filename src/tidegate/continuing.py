"""What a training begins with that goes on from a trained model, and when its result is refused.

A new word's vector and a new label's column of weights begin as they would in a new model; all else
begins as the trained model ended.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tidegate import arguments, ops
from tidegate.checks import check_text_pair
from tidegate.columns import unwrapped
from tidegate.errors import ConfigError, DataError, TrainingError
from tidegate.model import ModelConfig, TextModel
from tidegate.ngrams import NgramModel, with_classes
from tidegate.subwords import name_beside
from tidegate.targets import Known, targets_of
from tidegate.text import Tokenizer, Vocabulary, check_texts

if TYPE_CHECKING:
    from tidegate.estimator import TextClassifier


@dataclass
class Start:
    """A trained classifier to go on from, which is only read.

    keep: texts and labels of earlier examples, or None. max_loss: by how much the accuracy on them
    may fall, from 0 to 1. kept_accuracy: before and after the training, once that has ended.
    NotFittedError, ConfigError or DataError for what can't be.
    """

    classifier: TextClassifier
    keep: tuple[Iterable[str], Iterable[Any]] | None = None
    max_loss: float = 0.01
    kept_accuracy: tuple[float, float] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.classifier._fitted()
        given = self.max_loss
        number = isinstance(given, (int, float, np.integer, np.floating))
        if isinstance(given, bool) or not number or not 0.0 <= given <= 1.0:
            raise ConfigError(f"max_loss={given!r} is not a number from 0 to 1, such as 0.01")
        if self.keep is None:
            return
        kept, labels = check_text_pair("keep", self.keep)
        texts = unwrapped(kept)
        check_texts(texts)
        self._kept_texts: list[str] = list(texts)
        count = len(self._kept_texts)
        known = self.known
        self._kept_targets = targets_of(known.classes, labels, count, many=known.many)
        if not count:
            raise DataError("there are no texts to keep; give at least one, or keep=None")

    @property
    def known(self) -> Known:
        """The trained model's classes, and whether a text may have several."""
        return Known(self.classifier.classes_, self.classifier.model_.config.targets == "many")

    def tokenizer(self, found: Tokenizer) -> Tokenizer:
        """The model's, with ids for new words behind the others.

        found: of a model of the new texts alone.
        """
        known = self.classifier.tokenizer_
        old = set(known.vocabulary.words)
        new = tuple(word for word in found.vocabulary.words if word not in old)
        return replace(known, vocabulary=Vocabulary(known.vocabulary.words + new))

    def model(
        self,
        config: ModelConfig,
        classes: npt.NDArray[Any],
        seed: int,
        precision: ops.Precision,
    ) -> TextModel:
        """A model of these classes and the config's number of words that begins with ours."""
        old = self.classifier.model_
        model = TextModel.initialize(config, seed, precision)
        places = np.searchsorted(classes, self.classifier.classes_)
        for name, value in old.parameters.items():
            target = model.parameters[name]
            if name == "embedding.weight":
                target[: len(value)] = value
            elif not name.startswith("output.") or target.shape == value.shape:
                target[...] = value
            elif old.config.logits == 1:
                # The first class of two has no logit of its own, which is as good as one of 0.
                target[..., places[0]] = 0.0
                target[..., places[1]] = value[..., 0]
            else:
                target[..., places] = value
        return model

    def digest(self) -> str:
        """Another one for another model; for checkpoints."""
        digest = hashlib.sha256(self.classifier.tokenizer_.stored()[1])
        digest.update(repr(self.classifier.classes_.tolist()).encode("utf-8", "surrogatepass"))
        for name, value in self.classifier.model_.parameters.items():
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(value, "<f4").data)
        return digest.hexdigest()

    def ngrams(self, classes: npt.NDArray[Any]) -> NgramModel | None:
        """The linear model that ours has beside it, for these classes."""
        linear = self.classifier.ngrams_
        if linear is None:
            return None
        places = np.searchsorted(classes, self.classifier.classes_)
        return with_classes(linear, places, len(classes), many=self.known.many)

    @property
    def kept_texts(self) -> list[str]:
        """Those on which the result is measured; none without ``keep``."""
        return [] if self.keep is None else self._kept_texts

    def check_kept(self, probabilities: npt.NDArray[np.float64], classes: npt.NDArray[Any]) -> None:
        """TrainingError if the kept texts' accuracy fell by more than max_loss.

        probabilities: [texts, classes] what the result says of them.
        """
        if self.keep is None:
            return
        known, wanted = self.known, self._kept_targets
        predicted = self.classifier.predict(self._kept_texts)
        if known.many:  # of the labels that these texts were given by
            old = np.searchsorted(classes, known.classes)
            before = int((predicted == wanted).all(axis=1).sum())
            after = int(((probabilities[:, old] > 0.5) == wanted).all(axis=1).sum())
        else:
            labels = known.classes[wanted]
            before = int((predicted == labels).sum())
            after = int((classes[probabilities.argmax(axis=1)] == labels).sum())
        count = len(wanted)
        self.kept_accuracy = before / count, after / count
        if before - after > float(self.max_loss) * count + 1e-9:
            raise TrainingError(
                f"accuracy on the {count:,} kept texts fell from {before / count:.4f} to "
                f"{after / count:.4f}, by more than max_loss={self.max_loss:g}: the result is "
                "refused, and the model that it began with is as it was; train on earlier texts "
                "too, with a lower learning_rate or fewer epochs, or allow a larger max_loss"
            )


def check_options(classifier: TextClassifier, trained: TextClassifier) -> None:
    """ConfigError unless ``classifier`` can go on from ``trained``: with the same shape."""
    model, tokenizer = trained.model_, trained.tokenizer_
    wanted = arguments.model_config(classifier, classes=model.config.classes)
    told = {name: getattr(model.config, name) for name in ("vocabulary_size", "targets")}
    wanted = replace(wanted, **told)  # which are no options
    if classifier.embedding_size is None:  # as the model has it
        wanted = replace(wanted, embedding_size=model.config.embedding_size)
    shape: dict[str, tuple[Any, Any]] = {
        part.name: (getattr(model.config, part.name), getattr(wanted, part.name))
        for part in fields(wanted)
    }
    shape["tokenizer"] = tokenizer.name, name_beside(classifier.tokenizer, tokenizer)
    shape["keep"] = tokenizer.keep, classifier.keep
    for name, (own, asked) in shape.items():
        if own != asked:
            raise ConfigError(
                f"{name}={asked!r} is not the trained model's, {own!r}, which it keeps as it goes "
                f"on learning; set {name}={own!r}, or train anew"
            )
    longest = 0 if trained.ngrams_ is None else trained.ngrams_.longest
    if classifier.ngrams not in (0, longest):
        choices = f"ngrams={longest}" if not longest else f"ngrams={longest}, or 0 for none"
        raise ConfigError(
            f"ngrams={classifier.ngrams} is not the trained model's, {longest}, which it keeps as "
            f"it goes on learning; set {choices}, or train anew"
        )


def check_no_ngrams(classifier: TextClassifier) -> None:
    """ConfigError for a linear model, which is weighed on texts that training has not seen."""
    if classifier.ngrams:
        raise ConfigError(
            f"ngrams={classifier.ngrams} is a linear model, which partial_fit can't weigh; set "
            "ngrams=0 for the network alone, or go on with continue_from"
        )
