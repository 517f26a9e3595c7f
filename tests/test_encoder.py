"""GRUEncoder: the vectors that a trained network's output layer reads."""

from __future__ import annotations

import inspect
import pickle
import tracemalloc
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone, is_classifier
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted

from test_estimator import HELD_OUT, HELD_OUT_LABELS, LABELS, OPTIONS, TEXTS, make, reviews
from tidegate import GRUEncoder, TextClassifier, ops
from tidegate.batch import TokenizedTexts
from tidegate.errors import ConfigError, DataError, NotFittedError
from tidegate.model import ModelConfig, TextModel

SHAPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "lstm": {"cell": "lstm"},
    "reading padding": {"masked": False, "tokenizer": "lecture"},
    "deep": {"layers": 3},
    "bidirectional": {"bidirectional": True},
    "bidirectional reading padding": {"bidirectional": True, "masked": False},
    "pooled": {"pooling": "last+max+mean+attention"},
    "layer-normed": {"layers": 2, "layer_norm": True},
    "all together": {
        "layers": 2,
        "bidirectional": True,
        "pooling": "max+last",
        "layer_norm": True,
        "dropout": 0.3,
    },
}
FEATURES = {"bidirectional": 18, "bidirectional reading padding": 18, "pooled": 36}
FEATURES["all together"] = 36


@pytest.fixture(autouse=True)
def one_thread(restored_threads: None) -> None:
    ops.set_threads(1)


@pytest.fixture(scope="module")
def fitted() -> TextClassifier:
    return make().fit(TEXTS, LABELS)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_output_layer_reads_them(shape: str, classes: int) -> None:
    labels = [i % 3 for i in range(len(TEXTS))] if classes == 3 else LABELS
    classifier = make(epochs=2, **SHAPES[shape]).fit(TEXTS, labels)
    model = classifier.model_
    texts = ["", *HELD_OUT]  # more than a group of them, of many lengths
    encoded = classifier.tokenizer_.encode_all(texts, model.config.max_length)
    features = model.features(encoded)
    assert features.shape == (61, FEATURES.get(shape, 9))
    assert features.dtype == np.float32
    kernel, bias = model.parameters["output.kernel"], model.parameters["output.bias"]
    logits = features.astype(np.float64) @ kernel + bias
    np.testing.assert_allclose(logits, model.predict_logits(encoded), rtol=0, atol=1e-5)
    np.testing.assert_array_equal(classifier.features(texts), features)


def test_a_text_s_vector_depends_on_no_other_text_and_no_thread(fitted: TextClassifier) -> None:
    texts, _ = reviews(300, seed=3)
    features = fitted.features(texts)
    order = np.random.default_rng(0).permutation(300)
    np.testing.assert_array_equal(fitted.features([texts[i] for i in order]), features[order])
    np.testing.assert_array_equal(fitted.features(texts[7:8]), features[7:8])
    ops.set_threads(3)
    np.testing.assert_array_equal(fitted.features(texts), features)
    assert fitted.features([]).shape == (0, 9)


def test_memory_does_not_grow_with_the_texts() -> None:
    config = ModelConfig(vocabulary_size=50, embedding_size=6, hidden_size=5, max_length=40)
    model = TextModel.initialize(config, 0)

    def peak(count: int) -> int:
        """Bytes beside the result."""
        ids = np.random.default_rng(0).integers(4, 50, 40 * count).astype(np.int32)
        texts = TokenizedTexts(ids, np.arange(count + 1, dtype=np.int64) * 40)
        tracemalloc.start()
        features = model.features(texts)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most - features.nbytes - 24 * count  # and the texts' order by length

    peak(64)
    assert peak(6400) < 1.2 * peak(640)


def test_it_is_trained_as_a_classifier_is(fitted: TextClassifier) -> None:
    encoder = GRUEncoder(**OPTIONS)
    assert encoder.fit(TEXTS, LABELS) is encoder
    np.testing.assert_array_equal(encoder.transform(HELD_OUT), fitted.features(HELD_OUT))
    np.testing.assert_array_equal(
        GRUEncoder(**OPTIONS).fit_transform(iter(TEXTS), LABELS), fitted.features(TEXTS)
    )
    assert encoder.get_feature_names_out().tolist() == [f"gruencoder{i}" for i in range(9)]
    assert encoder.get_feature_names_out().dtype == object


def test_it_is_made_of_a_trained_classifier(fitted: TextClassifier) -> None:
    encoder = GRUEncoder.from_classifier(fitted)
    check_is_fitted(encoder)
    assert encoder.classifier_ is fitted
    assert repr(encoder) == repr(fitted).replace("TextClassifier", "GRUEncoder")
    np.testing.assert_array_equal(encoder.transform(HELD_OUT), fitted.features(HELD_OUT))
    again = pickle.loads(pickle.dumps(encoder))  # noqa: S301
    np.testing.assert_array_equal(again.transform(HELD_OUT), fitted.features(HELD_OUT))


def test_the_vectors_of_a_classifier_with_a_linear_model_are_its_network_s() -> None:
    beside = make(ngrams=1).fit(TEXTS, LABELS)
    alone = make().fit(TEXTS, LABELS)
    np.testing.assert_array_equal(
        GRUEncoder.from_classifier(beside).transform(HELD_OUT), alone.features(HELD_OUT)
    )


def test_a_pipeline_s_regression_reads_them(fitted: TextClassifier) -> None:
    pipeline = make_pipeline(GRUEncoder(**OPTIONS), LogisticRegression())
    pipeline.fit(TEXTS, LABELS)
    assert pipeline.score(HELD_OUT, HELD_OUT_LABELS) > 0.95
    by_hand = LogisticRegression().fit(fitted.features(TEXTS), LABELS)
    np.testing.assert_array_equal(
        pipeline.predict_proba(HELD_OUT), by_hand.predict_proba(fitted.features(HELD_OUT))
    )
    assert pipeline[:-1].get_feature_names_out()[-1] == "gruencoder8"
    search = GridSearchCV(pipeline, {"gruencoder__cell": ["gru", "rnn"]}, cv=2, error_score="raise")
    search.fit(TEXTS, LABELS)
    assert search.best_score_ > 0.8


def test_a_table_s_column_of_texts_beside_its_numbers(fitted: TextClassifier) -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"text": TEXTS, "stars": np.arange(len(TEXTS), dtype=float)})
    columns = make_column_transformer((GRUEncoder(**OPTIONS), "text"), ("passthrough", ["stars"]))
    found = columns.fit_transform(table, LABELS)
    np.testing.assert_allclose(found[:, :9], fitted.features(TEXTS))
    np.testing.assert_array_equal(found[:, 9], table["stars"])
    names = columns.get_feature_names_out().tolist()
    assert names[0] == "gruencoder__gruencoder0"
    assert names[9] == "passthrough__stars"


def test_its_arguments_are_the_classifier_s_but_for_the_linear_model() -> None:
    theirs = inspect.signature(TextClassifier).parameters
    own = inspect.signature(GRUEncoder).parameters
    assert set(theirs) - set(own) == {"ngrams", "ngram_cost"}
    assert {name: theirs[name].default for name in own} == GRUEncoder().get_params()
    with pytest.raises(TypeError, match="ngrams"):
        GRUEncoder(ngrams=2)
    encoder = GRUEncoder(hidden_size=7)
    assert repr(clone(encoder)) == "GRUEncoder(hidden_size=7)"
    assert encoder.set_params(cell="rnn") is encoder
    assert encoder.get_params()["cell"] == "rnn"
    with pytest.raises(ConfigError, match=r"parameter='cel' is not one of .*did you mean 'cell'"):
        encoder.set_params(cel="rnn")
    with pytest.raises(ConfigError, match="cell='grv'"):
        GRUEncoder(cell="grv").fit(TEXTS, LABELS)


def test_it_is_known_as_a_transformer_of_texts() -> None:
    tags = get_tags(GRUEncoder())
    assert tags.transformer_tags is not None
    assert tags.transformer_tags.preserves_dtype == []
    assert tags.target_tags.required
    assert tags.input_tags.string
    assert not is_classifier(GRUEncoder())


def test_it_must_be_trained_first() -> None:
    for use in (
        lambda: GRUEncoder().transform(["a"]),
        lambda: GRUEncoder().get_feature_names_out(),
        lambda: GRUEncoder.from_classifier(TextClassifier()),
        lambda: TextClassifier().features(["a"]),
    ):
        with pytest.raises(NotFittedError, match="not trained yet"):
            use()
    with pytest.raises(DataError, match="texts is a str"):
        GRUEncoder.from_classifier(make(epochs=1).fit(TEXTS, LABELS)).transform("a film")
