"""Make tests/data/model_v1_{gru_after,gru_before,lstm,rnn}.safetensors and model_v1.json.

Made with tidegate 0.1.0, Python 3.11 and NumPy 2.4.6, and not to be made again: these are the
files that tidegate wrote as format version 1, and every later tidegate has to read them. A new
format version gets files beside them, from ``python tests/golden/make_model_files.py`` with the
tidegate that writes it. The script refuses to overwrite.

Each model knows fewer than 20 words and is trained on made-up texts. Among them are both kinds of
padding and of output layer, and every type of label.

The JSON file holds the texts, and for each model file: the SHA-256 of its bytes; what it stores
(parameters, config, vocabulary, classes and their type, tokenizer, history); and [texts][classes]
probabilities, computed by tidegate.reference in float64 from the weights in the file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tidegate import TextClassifier, reference, storage
from tidegate.ops import RecurrentWeights

DATA = Path(__file__).resolve().parent.parent / "data"
SEED = 20240613

WORDS = ("the", "film", "was", "and", "a", "plot", "don't", "süß")
SIGNS = (("lovely", "great", "warm"), ("awful", "dull", "bad"), ("odd", "long"))

# The file's kind of cell: what makes a model of it, and the labels.
MODELS: dict[str, tuple[dict[str, Any], tuple[Any, ...]]] = {
    "gru_after": ({"cell": "gru", "reset": "after"}, ("gut", "übel")),
    "gru_before": ({"cell": "gru", "reset": "before", "masked": False}, (False, True)),
    "lstm": ({"cell": "lstm", "masked": False, "validation_fraction": 0.0}, (-1, 0, 7)),
    "rnn": ({"cell": "rnn", "clip_norm": 1.0}, (0.5, 2.0)),
}
OPTIONS: dict[str, Any] = {
    "vocabulary_size": 24,
    "embedding_size": 5,
    "hidden_size": 3,
    "max_length": 7,
    "epochs": 4,
    "batch_size": 8,
    "learning_rate": 0.03,
    "validation_fraction": 0.25,
    "random_state": 7,
}
# Ordinary ones, unknown words, no words, and one that is longer than max_length.
TEXTS = [
    "a lovely film",
    "The plot was DULL, and long",
    "zyzzyva don't",
    "",
    "süß süß",
    "awful " * 3 + "the film was warm and a great plot",
]


def make_texts(signs: int) -> tuple[list[str], list[int]]:
    generator = np.random.default_rng(SEED)
    texts, signs_of_texts = [], []
    for _ in range(60):
        words = generator.choice(WORDS, generator.integers(1, 8)).tolist()
        sign = int(generator.integers(signs))
        words.insert(int(generator.integers(len(words) + 1)), str(generator.choice(SIGNS[sign])))
        texts.append(" ".join(words))
        signs_of_texts.append(sign)
    return texts, signs_of_texts


def reference_probabilities(classifier: TextClassifier) -> npt.NDArray[np.float64]:
    """[texts, classes] of TEXTS, in float64 throughout."""
    config, weights = classifier.model_.config, classifier.model_.parameters
    ids = classifier.tokenizer_.encode_all(TEXTS, config.max_length)
    batch = reference.pack(
        ids, range(len(TEXTS)), max_length=config.max_length, masked=config.masked
    )
    _, last, _ = reference.recurrent_forward(
        config.kind,
        batch,
        weights["embedding.weight"][batch.words],
        RecurrentWeights(
            weights["recurrent.kernel"],
            weights["recurrent.recurrent_kernel"],
            weights["recurrent.bias"],
            weights.get("recurrent.recurrent_bias"),
        ),
    )
    logits = reference.linear_forward(last, weights["output.kernel"], weights["output.bias"])
    if config.logits == 1:
        logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = np.empty(powers.shape, np.float64)
    probabilities[batch.rows] = powers / powers.sum(axis=1, keepdims=True)
    return probabilities


def main() -> None:
    version = storage.FORMAT_VERSION
    expected: dict[str, Any] = {"texts": TEXTS, "models": {}}
    for kind, (options, labels) in MODELS.items():
        texts, signs = make_texts(len(labels))
        classifier = TextClassifier(**{**OPTIONS, **options})
        classifier.fit(texts, [labels[sign] for sign in signs])
        name = f"model_v{version}_{kind}.safetensors"
        digest = classifier.save(DATA / name, replace=False)
        _, header = storage.read_tensors(DATA / name)
        expected["models"][name] = {
            "sha256": digest,
            "training": header["training"],
            "config": header["config"],
            "vocabulary": list(classifier.tokenizer_.vocabulary.words),
            "classes": header["classes"],
            "label_type": header["label_type"],
            "tokenizer": header["tokenizer"],
            "history": header["history"],
            "probabilities": reference_probabilities(classifier).tolist(),
        }
    with open(DATA / f"model_v{version}.json", "x", encoding="utf-8") as file:
        json.dump(expected, file, indent=1, ensure_ascii=False)
        file.write("\n")


if __name__ == "__main__":
    main()
