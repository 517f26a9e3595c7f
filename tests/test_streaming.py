"""partial_fit: texts in portions, one pass over each."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone

from test_estimator import HELD_OUT, HELD_OUT_LABELS, LABELS, TEXTS, make
from tidegate import TextClassifier, arguments, ops, streaming
from tidegate.errors import ConfigError, DataError, TrainingError
from tidegate.history import History

CLASSES = ["neg", "pos"]


@pytest.fixture(autouse=True)
def one_thread(restored_threads: None) -> None:
    ops.set_threads(1)


def portions(size: int = 40) -> list[tuple[list[str], list[str]]]:
    starts = range(0, len(TEXTS), size)
    return [(TEXTS[i : i + size], LABELS[i : i + size]) for i in starts]


def streamed(**changed: Any) -> TextClassifier:
    classifier = make(**changed)
    for texts, labels in portions():
        classifier.partial_fit(texts, labels, classes=CLASSES)
    return classifier


def same(one: TextClassifier, other: TextClassifier) -> bool:
    """Bit for bit."""
    return one.predict_proba(HELD_OUT).tobytes() == other.predict_proba(HELD_OUT).tobytes()


def words_of_distinct_counts() -> tuple[list[str], list[int]]:
    """Texts whose vocabulary does not depend on their order."""
    words = [f"word{i}" for i in range(14) for _ in range(20 + i)]
    np.random.default_rng(0).shuffle(words)
    texts = [" ".join(words[i : i + 6]) for i in range(0, len(words), 6)]
    return texts, [int("word3" in text or "word11" in text) for text in texts]


# --- what it computes --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"cell": "lstm", "layers": 2, "bidirectional": True, "pooling": "max+mean"},
        {"clip_norm": 0.1, "weight_decay": 0.1, "label_smoothing": 0.1, "class_weight": {1: 3.0}},
        {"dropout": 0.3, "word_dropout": 0.2, "vocabulary_dropout": 0.2},
    ],
)
def test_passes_over_all_texts_are_the_epochs_of_fit(options: dict[str, Any]) -> None:
    """So weights, shuffles, dropout and Adam's state go on between calls as between epochs."""
    texts, labels = words_of_distinct_counts()
    at_once = make(epochs=3, validation_fraction=0.0, **options).fit(texts, labels)
    # fit trains on the texts in the order of its split.
    order, _ = at_once.split(len(texts))
    one_by_one = make(validation_fraction=0.0, **options)
    for _ in range(3):
        one_by_one.partial_fit([texts[i] for i in order], [labels[i] for i in order], [1, 0])
        one_by_one.predict(texts)  # which changes nothing
    assert one_by_one.tokenizer_.vocabulary == at_once.tokenizer_.vocabulary
    for name, value in at_once.model_.parameters.items():
        np.testing.assert_array_equal(one_by_one.model_.parameters[name], value, err_msg=name)
    assert [result.epoch for result in one_by_one.history_] == [1, 2, 3]
    assert [result.loss for result in one_by_one.history_] == [
        result.loss for result in at_once.history_
    ]


def test_it_learns_from_portions_alone() -> None:
    classifier = make(learning_rate=0.03)
    for _ in range(4):
        for texts, labels in portions():
            assert classifier.partial_fit(texts, labels, classes=CLASSES) is classifier
    assert classifier.score(HELD_OUT, HELD_OUT_LABELS) > 0.95
    assert classifier.classes_.tolist() == CLASSES
    assert len(classifier.history_) == 20
    assert type(classifier.history_) is History
    assert classifier.history_[-1].accuracy > 0.9
    assert classifier.history_[-1].val_loss is None
    assert classifier.validation_ is None


def test_the_first_call_s_texts_make_the_vocabulary() -> None:
    classifier = make().partial_fit(["one two", "three"], ["neg", "pos"], CLASSES)
    classifier.partial_fit(["four five"], ["pos"])
    assert set(classifier.tokenizer_.vocabulary.words) == {"one", "two", "three"}
    probabilities = classifier.predict_proba(["four", "six"])
    np.testing.assert_array_equal(probabilities[0], probabilities[1])


def test_classes_may_come_later_than_the_first_call() -> None:
    classifier = make(learning_rate=0.05)
    classifier.partial_fit(["red film"] * 8, ["r"] * 8, ["g", "r", "b"])
    assert classifier.predict(["red film"]).tolist() == ["r"]
    for _ in range(20):
        classifier.partial_fit(["red film", "film"] * 8, ["r", "g"] * 8)
    assert classifier.predict(["red film", "film"]).tolist() == ["r", "g"]
    assert classifier.classes_.tolist() == ["b", "g", "r"]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c))])  # noqa: S301
def test_copies_go_on_as_the_original(copied: Callable[[TextClassifier], TextClassifier]) -> None:
    whole, parts = make(), make()
    for texts, labels in portions():
        whole.partial_fit(texts, labels, classes=CLASSES)
        before = parts
        parts = copied(parts).partial_fit(texts, labels, classes=CLASSES)
        assert parts is not before
    assert same(whole, parts)
    again = copied(whole)
    again.partial_fit(*portions()[0])
    assert same(whole, parts)  # the copy shares nothing with it
    assert not same(whole, again)


def test_the_same_bits_on_any_number_of_threads() -> None:
    ops.set_threads(3)
    three = streamed()
    ops.set_threads(1)
    assert same(streamed(), three)
    assert same(streamed(threads=2), three)
    assert ops.threads() == 1
    assert not same(streamed(random_state=1), three)


def test_a_model_taken_out_is_not_trained_on() -> None:
    classifier = make()
    classifier.partial_fit(*portions()[0], classes=CLASSES)
    kept = {name: value.copy() for name, value in classifier.model_.parameters.items()}
    model = classifier.model_
    classifier.partial_fit(*portions()[1])
    for name, value in model.parameters.items():
        np.testing.assert_array_equal(value, kept[name])
        assert not np.array_equal(classifier.model_.parameters[name], value), name


# --- what it goes on from ----------------------------------------------------------------------


def test_it_goes_on_after_fit_and_after_load(tmp_path: Path) -> None:
    classifier = make(epochs=2).fit(TEXTS, LABELS)
    words = classifier.tokenizer_.vocabulary
    classifier.save(tmp_path / "model")
    loaded = TextClassifier.load(tmp_path / "model")
    before = classifier.predict_proba(HELD_OUT)
    for each in (classifier, loaded):
        each.partial_fit(["an unheard of film", *TEXTS[:20]], ["neg", *LABELS[:20]])
        assert each.tokenizer_.vocabulary == words
        assert [result.epoch for result in each.history_] == [1, 2, 3]
        assert each.history_[1].val_loss is not None
    assert same(classifier, loaded)
    assert not np.array_equal(classifier.predict_proba(HELD_OUT), before)
    # What a stream came to is a model like any other.
    classifier.save(tmp_path / "streamed")
    assert same(TextClassifier.load(tmp_path / "streamed"), classifier)


def test_fit_begins_anew() -> None:
    classifier = streamed().fit(TEXTS, LABELS)
    fresh = make().fit(TEXTS, LABELS)
    assert same(classifier, fresh)
    portion = portions()[0]
    assert same(classifier.partial_fit(*portion), fresh.partial_fit(*portion))
    assert not hasattr(clone(classifier), "classes_")


def test_the_learning_rate_may_change_between_calls() -> None:
    classifier = streamed()
    before = {name: value.copy() for name, value in classifier.model_.parameters.items()}
    classifier.set_params(learning_rate=1e-12).partial_fit(*portions()[0])
    for name, value in classifier.model_.parameters.items():
        np.testing.assert_allclose(value, before[name], rtol=0, atol=1e-9)
    # Adam's state was kept meanwhile: it counts six passes of three steps, and then one more.
    assert classifier._stream is not None
    optimizer = classifier._stream._optimizer(arguments.train_config(classifier, epochs=1))
    assert optimizer.step_count == 6 * 3
    assert optimizer.learning_rate == 1e-12


def test_the_history_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "MOST_RESULTS", 3)
    assert [result.epoch for result in streamed().history_] == [3, 4, 5]


# --- what it refuses ---------------------------------------------------------------------------


def test_an_error_leaves_the_model_as_it_was() -> None:
    classifier = streamed()
    twin = streamed()
    with pytest.raises(DataError, match="label 'so-so' is not one of the model's: neg, pos"):
        classifier.partial_fit(["a film"], ["so-so"])
    with pytest.raises(DataError, match="text 1 is a NoneType"):
        classifier.partial_fit(["a film", None], ["neg", "pos"])  # type: ignore[list-item]
    with pytest.raises(DataError, match="there are no texts to train on; give at least one"):
        classifier.partial_fit([], [])
    assert same(classifier.partial_fit(*portions()[0]), twin.partial_fit(*portions()[0]))
    # Here the pass had begun.
    with pytest.raises(TrainingError, match="lower learning_rate=1e"):
        classifier.set_params(learning_rate=1e30).partial_fit(*portions()[1])
    assert same(classifier, twin)
    assert len(classifier.history_) == 6
    classifier.set_params(learning_rate=0.02).partial_fit(*portions()[1])
    assert classifier.score(HELD_OUT, HELD_OUT_LABELS) > 0.8


def test_classes_are_needed_once_and_stay() -> None:
    with pytest.raises(DataError, match="classes is None in the first call of partial_fit"):
        make().partial_fit(TEXTS, LABELS)
    with pytest.raises(DataError, match="label 'neg' is not one of the model's: maybe, pos"):
        make().partial_fit(TEXTS, LABELS, classes=["pos", "maybe"])
    with pytest.raises(DataError, match="every label is 'pos', one class"):
        make().partial_fit(TEXTS, LABELS, classes=["pos"])
    classifier = streamed()
    classifier.partial_fit(TEXTS, LABELS, classes=np.array(["pos", "neg", "pos"]))
    with pytest.raises(
        DataError,
        match=r"classes='neg', 'new', 'pos' are not those that the model was begun with, 'neg', "
        r"'pos'; give the same or none, or go on with continue_from",
    ):
        classifier.partial_fit(TEXTS, LABELS, classes=["pos", "neg", "new"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ngrams": 2}, "ngrams=2 is a linear model, which partial_fit can't weigh; set ngrams=0"),
        ({"schedule": "cosine"}, "schedule='cosine' needs to know how many steps there will be"),
        ({"warmup": 0.1}, r"warmup=0.1 .*; set warmup=0.0 for partial_fit"),
        ({"average": 0.9}, r"average=0.9 .*; set average=0.0"),
        ({"patience": 2}, "patience=2 waits for a better validation.*; set patience=None"),
        ({"class_weight": "balanced"}, "class_weight='balanced' needs all labels at once"),
        ({"cell": "grv"}, "did you mean 'gru'"),
    ],
)
def test_options_of_no_use_in_portions(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(**options).partial_fit(TEXTS, LABELS, classes=CLASSES)
    trained = streamed().set_params(**options)
    with pytest.raises(ConfigError, match=message):
        trained.partial_fit(TEXTS, LABELS)


def test_a_trained_network_keeps_its_shape() -> None:
    classifier = streamed()
    for name, own, other in (("hidden_size", 9, 8), ("tokenizer", "words", "lecture")):
        message = f"{name}={other!r} is not the trained model's, {own!r}"
        with pytest.raises(ConfigError, match=message):
            classifier.set_params(**{name: other}).partial_fit(TEXTS, LABELS)
        classifier.set_params(**{name: own})
    classifier.partial_fit(TEXTS, LABELS)
