"""The linear baseline: the n-gram model of ``ngrams``, alone and trained as the networks are."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tidegate import storage
from tidegate.calibration import fit_factor
from tidegate.estimator import TextClassifier
from tidegate.ngrams import NgramModel, bits_for, fit_ngrams, hash_texts
from tidegate.reference import sigmoid
from tidegate.targets import encode_targets, targets_of
from tidegate.text import check_tokenizer
from tidegate.tokens import TOKENIZERS

LONGEST = 2  # words and pairs, as the presets have it

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class LinearClassifier:
    """Logistic regression over n-grams. classes: sorted labels. many: several labels a text.

    factor: what its scores are multiplied by before they become probabilities. seconds: of the fit.
    """

    ngrams: NgramModel
    classes: npt.NDArray[Any]
    many: bool
    factor: float
    seconds: float

    def predict_proba(self, texts: Iterable[str]) -> npt.NDArray[np.float64]:
        """[texts, classes] float64, as ``TextClassifier.predict_proba``."""
        return probabilities(self.ngrams.scores(texts) * np.float32(self.factor), self.many)

    @property
    def parameters(self) -> int:
        """A weight for each bucket and class, and their biases."""
        return self.ngrams.weights.size + self.ngrams.bias.size

    def save(self, path: Path) -> None:
        """Write the weights as a model file holds them, to see how large they are.

        No command reads this file: it lacks what a network's has.
        """
        tensors: dict[str, npt.NDArray[Any]] = {
            "ngrams.weight": self.ngrams.weights.astype(np.float16),
            "ngrams.bias": self.ngrams.bias,
        }
        header = {"classes": self.classes.tolist(), "longest": self.ngrams.longest}
        storage.write_tensors(path, tensors, header)


def probabilities(scores: Float32, many: bool) -> npt.NDArray[np.float64]:
    """[texts, classes] of the scores [texts, L], as a network makes them of its logits."""
    wide = scores.astype(np.float64)
    if many:
        return sigmoid(wide)
    if wide.shape[1] == 1:
        wide = np.concatenate([np.zeros_like(wide), wide], axis=1)
    shares = np.exp(wide - wide.max(axis=1, keepdims=True))
    result: npt.NDArray[np.float64] = shares / shares.sum(axis=1, keepdims=True)
    return result


def fit_linear(
    options: TextClassifier,
    texts: Sequence[str],
    labels: Sequence[Any],
    validation: tuple[Sequence[str], Sequence[Any]] | None = None,
) -> LinearClassifier:
    """Train on the same texts that a network with these options trains on.

    options: a classifier, of which the seed, the split, the tokeniser and ngram_cost are read, and
    whether probabilities are calibrated on the validation texts.
    """
    begun = time.perf_counter()
    classes, targets = encode_targets(labels, len(texts))
    many = targets.ndim == 2
    training, held = options.split(len(texts))
    if validation is None:
        held_texts = [texts[row] for row in held.tolist()]
        held_targets = targets[held]
    else:
        training = np.concatenate([training, held])
        held_texts = list(validation[0])
        held_targets = targets_of(classes, validation[1], len(held_texts), many=many)
    own_rules = options.tokenizer in TOKENIZERS
    # Beside a tokenizer.json, n-grams are of words.
    kind = check_tokenizer(options.tokenizer) if own_rules else "words"
    bits = bits_for(texts, kind, LONGEST, len(classes))
    model = fit_ngrams(
        hash_texts([texts[row] for row in training.tolist()], kind, LONGEST, bits),
        np.ascontiguousarray(targets[training]),
        len(classes),
        kind=kind,
        longest=LONGEST,
        bits=bits,
        cost=float(options.ngram_cost),
        seed=int(options.random_state),
    )
    factor = 1.0
    if options.calibrate and len(held_targets):
        factor = fit_factor(model.scores(held_texts), held_targets)
    return LinearClassifier(model, classes, many, factor, time.perf_counter() - begun)
