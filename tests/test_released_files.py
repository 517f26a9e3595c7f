"""Files of every released format version load for ever, and say what they said.

tests/golden/make_model_files.py and make_int8_file.py made them and tell what they hold.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors

from tidegate import TextClassifier, int8, storage
from tidegate.ops import KINDS

DATA = Path(__file__).parent / "data"
VERSIONS = range(1, storage.FORMAT_VERSION + 1)


def read_expected() -> dict[str, tuple[list[str], dict[str, Any]]]:
    """The texts, and what is to be found, of each model file."""
    found = {}
    for path in sorted(DATA.glob("model_v*.json")):
        expected = json.loads(path.read_text(encoding="utf-8"))
        for name, model in expected["models"].items():
            found[name] = (expected["texts"], model)
    return found


EXPECTED = read_expected()


def test_every_format_version_has_its_files() -> None:
    assert sorted(path.name for path in DATA.glob("model_v*.safetensors")) == sorted(EXPECTED)
    for version in VERSIONS:
        for kind in KINDS:
            assert f"model_v{version}_{kind}.safetensors" in EXPECTED
        assert f"model_v{version}_int8.safetensors" in EXPECTED


@pytest.mark.parametrize("name", EXPECTED)
def test_the_file_is_the_one_that_was_written(name: str) -> None:
    """Made anew by a later version, it would prove nothing."""
    assert hashlib.sha256((DATA / name).read_bytes()).hexdigest() == EXPECTED[name][1]["sha256"]
    with safetensors.safe_open(DATA / name, "np") as file:
        header = json.loads(file.metadata()["tidegate"])
    assert name.startswith(f"model_v{header['format_version']}_")


@pytest.mark.parametrize("name", EXPECTED)
def test_it_predicts_what_it_predicted(name: str, isa: str) -> None:
    texts, expected = EXPECTED[name]
    classifier = TextClassifier.load(DATA / name)
    found = classifier.predict_proba(texts)
    wanted = np.array(expected["probabilities"])
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)
    # Not all the same: a model that ignored its texts would fail.
    assert np.ptp(wanted[:, 0]) > 0.1
    labels = [expected["classes"][i] for i in wanted.argmax(axis=1)]
    assert classifier.predict(texts).tolist() == labels


@pytest.mark.parametrize("name", EXPECTED)
def test_it_holds_what_it_held(name: str) -> None:
    _, expected = EXPECTED[name]
    classifier = TextClassifier.load(DATA / name)
    # A later version may know more of each.
    assert classifier.get_params().items() >= expected["training"].items()
    assert classifier.model_.config.to_json().items() >= expected["config"].items()
    assert classifier.tokenizer_.kind == expected["tokenizer"]
    assert list(classifier.tokenizer_.vocabulary.words) == expected["vocabulary"]
    assert classifier.classes_.tolist() == expected["classes"]
    types = {type(label).__name__ for label in classifier.classes_.tolist()}
    assert types == {expected["label_type"]}
    assert len(classifier.history_) == len(expected["history"])
    for found, wanted in zip(classifier.history_, expected["history"], strict=True):
        assert asdict(found).items() >= wanted.items()
        assert math.isnan(found.seconds)


def test_quantised_weights_stay_what_they_were() -> None:
    """Codes and scales mean what they meant, and quantising gives them again."""
    names = [name for name in EXPECTED if name.endswith("_int8.safetensors")]
    assert names
    for name in names:
        tensors, header = storage.read_tensors(DATA / name)
        assert header["quantization"] == "int8"
        weights = TextClassifier.load(DATA / name).model_.parameters
        again = int8.quantize(weights)
        assert set(again) == set(tensors) - {"vocabulary"}
        codes = [tensor for tensor in again if again[tensor].dtype == np.int8]
        assert len(codes) == 4
        for tensor, found in again.items():
            assert found.tobytes() == tensors[tensor].tobytes()
        for tensor in codes:
            scale = tensors[f"{tensor}.scale"].astype(np.float64)
            if tensor == "embedding.weight":
                scale = scale[:, None]
            np.testing.assert_array_equal(weights[tensor], tensors[tensor] * scale)
