"""GRUEncoder: texts in, the vectors out that a trained network's output layer reads.

A transformer after scikit-learn's contract, which is not needed to use it.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from tidegate import notebook
from tidegate.contract import Parameters
from tidegate.errors import not_fitted
from tidegate.estimator import TextClassifier

__all__ = ["GRUEncoder"]

# The linear model stands beside the network, and its scores are in none of the network's vectors.
_LEFT_OUT = ("self", "ngrams", "ngram_cost")
_ARGUMENTS = {
    name: parameter
    for name, parameter in inspect.signature(TextClassifier.__init__).parameters.items()
    if name not in _LEFT_OUT
}
_SIGNATURE = inspect.Signature(list(_ARGUMENTS.values()))


class GRUEncoder(Parameters):
    """Texts as vectors, learnt by telling labels apart: the states that a classifier judges by.

    ``fit`` trains a TextClassifier with the same arguments, which are TextClassifier's but for
    ngrams and ngram_cost; ``from_classifier`` takes one that is trained already. Each text's
    vector is what that classifier's output layer reads: as ``pooling`` says, the last states, or
    the largest, means and so on of all states side by side, normalised with ``layer_norm``. The
    classifier stays in classifier_.

    Bad values raise ConfigError when they are used, as scikit-learn wants it.
    """

    def __init__(self, **arguments: Any) -> None:
        given = _SIGNATURE.bind(**arguments)  # TypeError for a name that is none of them
        given.apply_defaults()
        for name, value in given.arguments.items():
            setattr(self, name, value)

    # What tools, help() and get_params read.
    __init__.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY), *_ARGUMENTS.values()]
    )

    @classmethod
    def from_classifier(cls, classifier: TextClassifier) -> GRUEncoder:
        """The encoder of a trained classifier, which it shares. NotFittedError if it is not."""
        if not classifier.__sklearn_is_fitted__():
            raise not_fitted("this TextClassifier is not trained yet; call fit or load first")
        params = classifier.get_params()
        encoder = cls(**{name: params[name] for name in _ARGUMENTS})
        encoder.classifier_ = classifier
        return encoder

    # --- scikit-learn's contract

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn asks: a transformer that learns from labels, and reads texts."""
        from sklearn.utils import InputTags, Tags, TargetTags, TransformerTags

        return Tags(
            estimator_type=None,
            target_tags=TargetTags(required=True),
            transformer_tags=TransformerTags(preserves_dtype=[]),
            input_tags=InputTags(string=True, two_d_array=False),
        )

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "classifier_")

    def _repr_html_(self) -> str:
        """What a notebook shows: changed arguments, and of a trained one features and training."""
        if not self.__sklearn_is_fitted__():
            return notebook.card("GRUEncoder", self._changed_params(), {}, None)
        trained = self.classifier_
        facts = {"features": f"{len(self.get_feature_names_out()):,}"}
        facts |= notebook.trained_facts(trained.model_, trained.classes_)
        return notebook.card("GRUEncoder", self._changed_params(), facts, trained.history_)

    # --- training and use

    def fit(self, texts: Iterable[str], labels: Iterable[Any]) -> GRUEncoder:
        """Train a TextClassifier on texts (str) and one label each."""
        self.classifier_ = TextClassifier(**self.get_params()).fit(texts, labels)
        return self

    def transform(self, texts: Iterable[str]) -> npt.NDArray[np.float32]:
        """[texts, features] float32."""
        return self._fitted().features(texts)

    def fit_transform(self, texts: Iterable[str], labels: Iterable[Any]) -> npt.NDArray[np.float32]:
        """``fit``, then ``transform`` of the same texts."""
        listed = list(texts) if isinstance(texts, Iterator) else texts  # which is read only once
        return self.fit(listed, labels).transform(listed)

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[np.object_]:
        """gruencoder0, gruencoder1 and so on; input_features is not looked at."""
        count = len(self._fitted().model_.parameters["output.kernel"])
        return np.array([f"{type(self).__name__.lower()}{i}" for i in range(count)], object)

    def _fitted(self) -> TextClassifier:
        if not self.__sklearn_is_fitted__():
            raise not_fitted(
                "this GRUEncoder is not trained yet; call fit or from_classifier first"
            )
        return self.classifier_
