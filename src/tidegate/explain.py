"""Why a text was judged so: each word's share, the probability as it grows, the gates at work.

A word's contribution is by how much the log-odds of the label fall when the word is left out of
the text (``occlusion``), or its part of the path from a text of unknown words to this one
(``integrated``, Sundararajan, Taly & Yan 2017), or the slope at the text times the word's vector
(``gradient``). Leaving out costs one scoring for each word, which the frozen model does in
milliseconds for a whole review, and it sees what other methods don't: the n-grams beside the
network, and words that only matter together with their neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tidegate import ops
from tidegate.errors import DataError, unknown_choice
from tidegate.layers import Chain, Gradients, Inputs
from tidegate.text import PADDING_ID, START_ID, UNKNOWN_ID
from tidegate.tokens import place_tokens, tokens

if TYPE_CHECKING:
    from tidegate.estimator import TextClassifier
    from tidegate.model import TextModel

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

METHODS = ("occlusion", "integrated", "gradient")
_PATH_STEPS = 32
_BLOCK_TEXTS = 64


@dataclass(frozen=True)
class Explanation:
    """What a model made of one text.

    label: the one that is explained, by default the likeliest. probability: of it. tokens: [T] as
    the model reads them. spans: [T] where each stands in the text, (begin, end) in characters; of a
    line break, its first character. contributions: [T] float64 in nats of log-odds of the label:
    above 0 a word speaks for it. probabilities: [T] of the label after each word, as if the text
    ended there. method: how the contributions were found.
    """

    text: str
    label: Any
    probability: float
    tokens: list[str]
    spans: list[tuple[int, int]]
    contributions: Float64
    probabilities: Float64
    method: str

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
    method: str = "occlusion",
) -> Explanation:
    """Explain what the classifier says of ``text``.

    label: the class that is explained; None for the likeliest. method: of METHODS. Raises
    NotFittedError, DataError for a text without words or an unknown label, and ConfigError for
    another method.
    """
    if not isinstance(method, str) or method not in METHODS:
        raise unknown_choice("method", method, METHODS)
    shares = classifier.predict_proba([text])[0]
    number = _class_number(classifier, label, shares)
    kind = classifier.tokenizer_.kind
    found = tokens(kind, text)
    if not found:
        raise DataError("the text has no words to explain; give at least one")
    if method == "occlusion":
        contributions = _left_out(classifier, found, number, _log_odds(shares[None])[0, number])
    else:
        contributions = _sloped(classifier, text, found, number, method)
    return Explanation(
        text=text,
        label=classifier.classes_[number].item(),
        probability=float(shares[number]),
        tokens=found,
        spans=place_tokens(kind, text),
        contributions=contributions,
        probabilities=_grown(classifier, found, number),
        method=method,
    )


def _class_number(classifier: TextClassifier, label: Any, shares: Float64) -> int:
    if label is None:
        return int(shares.argmax())
    labels = classifier.classes_.tolist()
    if not isinstance(label, Hashable) or label not in labels:
        shown = ", ".join(str(known) for known in labels[:10])
        raise DataError(f"label {label!r} is not one of the model's: {shown}")
    return int(labels.index(label))


def _log_odds(shares: Float64) -> Float64:
    """Of each class against all others together: [texts, classes]."""
    # A share rounds to 1 long before the odds are infinite.
    clipped = np.clip(shares, 1e-15, 1.0 - 1e-15)
    odds: Float64 = np.log(clipped) - np.log1p(-clipped)
    return odds


def _left_out(classifier: TextClassifier, words: list[str], number: int, whole: float) -> Float64:
    """By how much the log-odds fall without each word."""
    shares = _in_blocks(classifier.predict_proba, _without_each(words))
    fall: Float64 = whole - _log_odds(shares)[:, number]
    return fall


def _in_blocks(
    score: Callable[[list[str]], npt.NDArray[Any]], texts: Iterator[str]
) -> npt.NDArray[Any]:
    """Scores of many texts of nearly the same words, of which few are held at a time."""
    parts = []
    while block := list(islice(texts, _BLOCK_TEXTS)):
        parts.append(score(block))
    return np.concatenate(parts)


def _grown(classifier: TextClassifier, words: list[str], number: int) -> Float64:
    """The label's probability after each word."""
    most = classifier.model_.config.max_length
    # Where the end is kept, no more of what was before can be read.
    reach = most if classifier.tokenizer_.keep == "end" and classifier.ngrams_ is None else None
    starts = (max(0, i + 1 - reach) if reach is not None else 0 for i in range(len(words)))
    prefixes = (" ".join(words[start : i + 1]) for i, start in enumerate(starts))
    grown: Float64 = _in_blocks(classifier.predict_proba, prefixes)[:, number]
    return grown


def _sloped(
    classifier: TextClassifier, text: str, words: list[str], number: int, method: str
) -> Float64:
    """Slopes of the log-odds with respect to the words' vectors, times how far these moved."""
    model, mix = classifier.model_, classifier.mix_
    encoded = classifier.tokenizer_.encode_all([text], model.config.max_length)
    batch = model.pack(encoded, [0])
    vectors = ops.gather_rows(model.parameters["embedding.weight"], batch.words)[batch.index]
    if method == "gradient":
        moved, slopes = vectors, _slope(model, batch, vectors, number, mix[0])
    else:
        unknown = model.parameters["embedding.weight"][UNKNOWN_ID]
        moved = vectors - unknown
        ids = batch.words[batch.index]
        moved[(ids == START_ID) | (ids == PADDING_ID)] = 0.0  # not what the text says
        points = (np.arange(_PATH_STEPS) + 0.5) / _PATH_STEPS
        slopes = np.mean(
            [
                _slope(model, batch, vectors - np.float32(1.0 - point) * moved, number, mix[0])
                for point in points
            ],
            axis=0,
        )
    found = (moved.astype(np.float64) * slopes).sum(axis=1)[: batch.positions] * mix[0]
    contributions = np.zeros(len(words))
    places = classifier.tokenizer_.places_read(words, model.config.max_length)
    for place, value in zip(places, found[len(found) - len(places) :].tolist(), strict=True):
        if place >= 0:
            contributions[place] = value
    if classifier.ngrams_ is not None:  # what a word is worth there, leaving it out says exactly
        whole = classifier.ngrams_.scores([" ".join(words)])[0].astype(np.float64)
        falls = whole - _in_blocks(classifier.ngrams_.scores, _without_each(words))
        column = falls[:, number] if falls.shape[1] > 1 else falls[:, 0] * (2 * number - 1)
        contributions += mix[1] * column
    return contributions


def _without_each(words: list[str]) -> Iterator[str]:
    return (" ".join(words[:i] + words[i + 1 :]) for i in range(len(words)))


def _slope(model: TextModel, batch: Any, vectors: Float32, number: int, factor: float) -> Float64:
    """The gradient of the label's log-odds with respect to each position's vector.

    Divided by the factor that the logits are multiplied by before they become probabilities.
    """
    network = Chain(*model.layers[1:])
    dense = Inputs(batch, np.ascontiguousarray(vectors, np.float32), dense=True)
    logits, backward = network(dense)
    if model.config.logits == 1:
        d_logits = np.array([[1.0 if number == 1 else -1.0]], np.float32)
    elif model.config.targets == "many":
        d_logits = np.eye(model.config.logits, dtype=np.float32)[[number]]
    else:  # of log p - log(1 - p)
        others = np.delete(logits[0].astype(np.float64), number) * factor
        shares = np.exp(others - others.max())
        row = -np.insert(shares / shares.sum(), number, -1.0)
        d_logits = row.astype(np.float32)[None]
    gradients: Gradients = {}
    slopes: Float32 = backward(d_logits, gradients)
    return slopes.astype(np.float64)


@dataclass(frozen=True)
class GateTrace:
    """What a recurrent layer's gates did at each step of one text.

    tokens: [T]. gates: each gate's values by name, [T, H], in the order of ``ops.GATES``; a GRU's
    update is the share of the new. states: [T, H] the hidden state after each step.
    """

    tokens: list[str]
    gates: dict[str, Float32]
    states: Float32


def trace_gates(classifier: TextClassifier, text: str) -> GateTrace:
    """The first layer's gates over ``text``, as it reads forward.

    Padding and what was cut away are left out, START_MARK is not. DataError for a text without
    words.
    """
    classifier.predict_proba([text])  # fitted, and a text
    model, tokenizer = classifier.model_, classifier.tokenizer_
    shown = tokenizer.token_strings(text, model.config.max_length)
    if not tokens(tokenizer.kind, text):
        raise DataError("the text has no words to trace; give at least one")
    batch = model.pack(tokenizer.encode_all([text], model.config.max_length), [0])
    vectors = ops.gather_rows(model.parameters["embedding.weight"], batch.words)
    outputs, _, tape = ops.recurrent_forward(
        model.config.kind,
        batch,
        vectors,
        model.recurrent_weights("recurrent"),
        all_outputs=True,
        precision=model.precision,
    )
    if outputs is None:
        raise DataError("the layer gave no states")
    kept = slice(batch.positions - len(shown), batch.positions)
    gates = {} if model.config.cell == "rnn" else tape.gates
    return GateTrace(shown, {name: gates[name][kept] for name in gates}, outputs[kept])


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
