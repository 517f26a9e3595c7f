"""Why a text was judged so: each word's share, and the probability as the text grows.

A word's contribution is its vector times the slope of the label's log-odds: at the text
(``gradient``), or averaged over the way from a text of words without content, all their vectors 0,
to this one (``integrated``, Sundararajan, Taly & Yan 2017), or the same averaged over the text and
what is left of it without its strongest words (``staged``). To each is added the word's share of
the n-grams beside the network. Or it is by how much the log-odds fall when the word alone is left
out (``occlusion``).
docs/explaining.md has what they mean, and the test on held-out reviews by which the default was
chosen.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tidegate import slopes
from tidegate.erasure import Erasure, log_odds
from tidegate.errors import DataError, unknown_choice
from tidegate.reference import sigmoid
from tidegate.trace import LayerTrace, trace_layers

if TYPE_CHECKING:
    from tidegate.estimator import TextClassifier

Float64 = npt.NDArray[np.float64]

METHODS = ("staged", "integrated", "occlusion", "gradient")
DEFAULT = METHODS[0]


@dataclass(frozen=True)
class Explanation:
    """What a model made of one text.

    label: the one that is explained, by default the likeliest. probability: of it; where a text may
    have several labels, its own. tokens: [T] as the model reads them. spans: [T] where each stands
    in the text, (begin, end) in characters; of a line break, its first character. contributions:
    [T] float64 in nats of log-odds of the label: above 0 a word speaks for it. probabilities: [T]
    of the label after each word, as if the text ended there. method: how the contributions were
    found. traces: what each layer's gates did, if it was asked for; see ``trace``.
    """

    text: str
    label: Any
    probability: float
    tokens: list[str]
    spans: list[tuple[int, int]]
    contributions: Float64
    probabilities: Float64
    method: str
    traces: tuple[LayerTrace, ...] = ()

    def records(self) -> npt.NDArray[Any]:
        """[T] a NumPy record for each word: token, begin, end, contribution, probability_after."""
        width = max(map(len, self.tokens))
        found = np.empty(
            len(self.tokens),
            [
                ("token", f"U{width}"),
                ("begin", np.int64),
                ("end", np.int64),
                ("contribution", np.float64),
                ("probability_after", np.float64),
            ],
        )
        found["token"] = self.tokens
        found["begin"], found["end"] = np.array(self.spans).T
        found["contribution"] = self.contributions
        found["probability_after"] = self.probabilities
        return found

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {
            "text": self.text,
            "label": self.label,
            "probability": self.probability,
            "method": self.method,
            "words": [
                {
                    "token": token,
                    "begin": begin,
                    "end": end,
                    "contribution": contribution,
                    "probability_after": after,
                }
                for token, (begin, end), contribution, after in zip(
                    self.tokens,
                    self.spans,
                    self.contributions.tolist(),
                    self.probabilities.tolist(),
                    strict=True,
                )
            ],
        }


def explain(
    classifier: TextClassifier,
    text: str,
    *,
    label: Any = None,
    method: str = DEFAULT,
    traces: bool = False,
) -> Explanation:
    """Explain what the classifier says of ``text``.

    label: the class that is explained; None for the likeliest. method: of METHODS. traces: whether
    the explanation holds all layers' gates and states, too. Raises NotFittedError, DataError for a
    text without words or an unknown label, and ConfigError for another method.
    """
    if not isinstance(method, str) or method not in METHODS:
        raise unknown_choice("method", method, METHODS)
    shares = classifier.predict_proba([text])[0]
    number = class_number(classifier, label, shares)
    config, words = classifier.model_.config, classifier.tokenizer_.tokens(text)
    if not words:
        raise DataError("the text has no words to explain; give at least one")
    with classifier._own_threads():
        erasure = Erasure(classifier, text)
        contributions = word_contributions(erasure, number, method)
        grown = log_odds(config, erasure.up_to_each(), number)
    return Explanation(
        text=text,
        label=classifier.classes_[number].item(),
        probability=float(shares[number]),
        tokens=words,
        spans=classifier.tokenizer_.spans(text),
        contributions=contributions,
        probabilities=sigmoid(grown),
        method=method,
        traces=trace_layers(classifier, text) if traces else (),
    )


def word_contributions(erasure: Erasure, number: int, method: str) -> Float64:
    """[T] by one of METHODS, in nats of log-odds of class ``number``."""
    config = erasure.model.config
    if method == "occlusion":
        whole = log_odds(config, erasure.whole()[None], number)
        fall: Float64 = whole - log_odds(config, erasure.without_each(), number)
        return fall
    ways = {
        "staged": slopes.staged,
        "integrated": slopes.integrated,
        "gradient": slopes.gradient,
    }
    found = ways[method](erasure, number)
    if erasure.ngrams_have_places:
        return found
    # Only leaving words out says what n-grams of other tokens than the network's have of them.
    fallen = erasure.ngrams_without_each()
    if fallen is None:
        return found
    whole = log_odds(config, erasure.whole()[None], number)
    return found + whole - log_odds(config, fallen, number)


def class_number(classifier: TextClassifier, label: Any, shares: Float64) -> int:
    """Which class ``label`` is, or the likeliest for None. DataError for none of the model's."""
    if label is None:
        return int(shares.argmax())
    labels = classifier.classes_.tolist()
    if not isinstance(label, Hashable) or label not in labels:
        shown = ", ".join(str(known) for known in labels[:10])
        raise DataError(f"label {label!r} is not one of the model's: {shown}")
    return int(labels.index(label))


def words_and_gaps(explanation: Explanation) -> Iterator[tuple[str, float | None]]:
    """The text in pieces: each word's characters with its contribution, and what is between."""
    at = 0
    for (begin, end), value in zip(
        explanation.spans, explanation.contributions.tolist(), strict=True
    ):
        if begin > at:
            yield explanation.text[at:begin], None
        yield explanation.text[begin:end], value
        at = max(at, end)
    if at < len(explanation.text):
        yield explanation.text[at:], None


def strength(value: float, largest: float) -> int:
    """A contribution in steps from -3 to 3, 0 for what is small beside the largest."""
    if not largest or not math.isfinite(value):
        return 0
    return round(3 * value / largest)
