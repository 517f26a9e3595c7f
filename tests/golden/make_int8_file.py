"""Make tests/data/model_v1_int8.safetensors and model_v1_int8.json.

Made with tidegate 0.1.0, Python 3.11 and NumPy 2.4.6, and not to be made again: this is the file
that tidegate wrote as format version 1 with ``quantize="int8"``, and every later tidegate has to
read it. The script refuses to overwrite. Run it as ``PYTHONPATH=tests python
tests/golden/make_int8_file.py``.

It is the model of ``make_model_files.py`` with most classes, as a GRU. The JSON file holds what
model_v1.json does; the probabilities are computed in float64 from code × scale.
"""

from __future__ import annotations

import json
from typing import Any

from golden.make_model_files import (
    DATA,
    OPTIONS,
    TEXTS,
    make_texts,
    reference_probabilities,
)
from tidegate import TextClassifier, storage

LABELS = ("good", "bad", "neither")


def main() -> None:
    texts, signs = make_texts(len(LABELS))
    classifier = TextClassifier(**OPTIONS).fit(texts, [LABELS[sign] for sign in signs])
    name = f"model_v{storage.FORMAT_VERSION}_int8"
    path = DATA / f"{name}.safetensors"
    digest = classifier.save(path, replace=False, quantize="int8")
    _, header = storage.read_tensors(path)
    model: dict[str, Any] = {
        "sha256": digest,
        "training": header["training"],
        "config": header["config"],
        "vocabulary": list(classifier.tokenizer_.vocabulary.words),
        "classes": header["classes"],
        "label_type": header["label_type"],
        "tokenizer": header["tokenizer"],
        "history": header["history"],
        "probabilities": reference_probabilities(TextClassifier.load(path)).tolist(),
    }
    expected = {"texts": TEXTS, "models": {path.name: model}}
    with open(DATA / f"{name}.json", "x", encoding="utf-8") as file:
        json.dump(expected, file, indent=1, ensure_ascii=False)
        file.write("\n")


if __name__ == "__main__":
    main()
