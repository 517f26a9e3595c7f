"""Going on from a trained model: new labels, new words, and results that are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from test_estimator import HELD_OUT, HELD_OUT_LABELS, LABELS, TEXTS, make, reviews
from tidegate import TextClassifier, ops
from tidegate.continuing import Start
from tidegate.errors import ConfigError, DataError, NotFittedError, TrainingError
from tidegate.model import TextModel
from tidegate.targets import encode_targets
from tidegate.text import Tokenizer
from tidegate.training import EpochResult

# A new label, whose texts have a new word each.
NEW_TEXTS = [f"{text} {'soso' if i % 2 else 'meh'}" for i, text in enumerate(reviews(80, 5)[0])]
NEW_LABELS = ["mixed"] * 80
SHAPES: list[dict[str, Any]] = [
    {},
    {"cell": "lstm", "layers": 2, "bidirectional": True, "pooling": "last+attention"},
    {"layers": 2, "layer_norm": True, "pooling": "max"},
]


@pytest.fixture(autouse=True)
def one_thread(restored_threads: None) -> None:
    ops.set_threads(1)


@pytest.fixture(scope="module")
def trained() -> TextClassifier:
    """For tests that change nothing of it, which each of them has to hold to."""
    return make().fit(TEXTS, LABELS)


def bits(classifier: TextClassifier) -> list[bytes]:
    return [value.tobytes() for value in classifier.model_.parameters.values()]


def begun(start: Start, texts: list[str], labels: list[Any]) -> tuple[TextModel, Any, Any]:
    """The model before its first step, with its tokeniser and classes."""
    classes, _ = encode_targets(labels, len(texts), start.known)
    tokenizer = start.tokenizer(Tokenizer.fit(texts, 10_000, "words"))
    config = start.classifier.model_.config
    grown = type(config)(
        **{**vars(config), "classes": len(classes), "vocabulary_size": tokenizer.vocabulary.size}
    )
    return start.model(grown, classes, 0, "float32"), tokenizer, classes


# --- what it begins with -----------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("labels", [["neg", "pos"], ["b", "d", "f"]])
def test_old_classes_stand_to_each_other_as_before(shape: Any, labels: list[str]) -> None:
    old = make(epochs=2, calibrate=False, **shape).fit(
        TEXTS, [labels[i % len(labels)] for i in range(200)]
    )
    new = ["aaa", "c", "q", "zz"]
    model, tokenizer, classes = begun(Start(old), ["a film", "unheard of"] * 2, new)
    assert classes.tolist() == sorted(labels + new)
    places = [classes.tolist().index(label) for label in labels]
    encoded = tokenizer.encode_all(HELD_OUT, model.config.max_length)
    found = model.probabilities(model.predict_logits(encoded))[:, places]
    # Of the network, without the factor that calibrates it.
    expected = old.model_.probabilities(
        old.model_.predict_logits(old.tokenizer_.encode_all(HELD_OUT, old.max_length))
    )
    np.testing.assert_allclose(
        found / found.sum(axis=1, keepdims=True), expected, rtol=1e-5, atol=1e-7
    )


def test_new_rows_and_columns_begin_as_those_of_a_new_model(trained: TextClassifier) -> None:
    model, tokenizer, classes = begun(Start(trained), ["a mixed film"] * 2, ["mixed", "other"])
    fresh = TextModel.initialize(model.config, 0)
    old = trained.model_.parameters
    assert tokenizer.vocabulary.words == (*trained.tokenizer_.vocabulary.words, "mixed")
    assert classes.tolist() == ["mixed", "neg", "other", "pos"]
    for name, value in model.parameters.items():
        new = fresh.parameters[name]
        if name == "embedding.weight":
            np.testing.assert_array_equal(value[:-1], old[name])
            np.testing.assert_array_equal(value[-1], new[-1])
        elif name.startswith("output."):
            np.testing.assert_array_equal(value[..., [0, 2]], new[..., [0, 2]])
            np.testing.assert_array_equal(value[..., 1], 0.0)
            np.testing.assert_array_equal(value[..., 3], old[name][..., 0])
        else:
            np.testing.assert_array_equal(value, old[name])


def test_new_words_are_the_most_frequent_ones_and_not_too_many(trained: TextClassifier) -> None:
    texts = ["zig zag zig zag zig", "the film was zoom", "zag"]
    start = Start(trained)
    words = trained.tokenizer_.vocabulary.words

    def grown(texts: list[str], size: int) -> Tokenizer:
        return start.tokenizer(Tokenizer.fit(texts, size, "words"))

    assert grown(texts, 10_000).vocabulary.words == (*words, "zig", "zag", "zoom")
    # Room for four words: zig, zag, and two that the model has.
    assert grown(texts, 8).vocabulary.words == (*words, "zig", "zag")
    assert grown(["the film"], 10_000) == trained.tokenizer_


# --- what it learns ----------------------------------------------------------------------------


def test_a_new_label_is_learnt_and_the_old_ones_are_kept(trained: TextClassifier) -> None:
    before = bits(trained)
    # With old examples beside the new ones: of these alone a network would forget the others.
    texts, labels = [*TEXTS, *NEW_TEXTS], [*LABELS, *NEW_LABELS]
    start = Start(trained, (HELD_OUT, HELD_OUT_LABELS))
    classifier = TextClassifier(**trained.get_params())
    events = list(classifier.fit_steps(texts, labels, start=start))
    assert classifier.classes_.tolist() == ["mixed", "neg", "pos"]
    assert classifier.score(HELD_OUT, HELD_OUT_LABELS) > 0.95
    assert classifier.predict(["the film was soso", "meh"]).tolist() == ["mixed", "mixed"]
    assert {"soso", "meh"} <= set(classifier.tokenizer_.vocabulary.words)
    assert start.kept_accuracy == (
        trained.score(HELD_OUT, HELD_OUT_LABELS),
        classifier.score(HELD_OUT, HELD_OUT_LABELS),
    )
    assert classifier.history_ == [event for event in events if isinstance(event, EpochResult)]
    assert bits(trained) == before
    again = TextClassifier.continue_from(trained, texts, labels, keep=(HELD_OUT, HELD_OUT_LABELS))
    assert bits(again) == bits(classifier)


def test_one_correction_is_enough_to_go_on(trained: TextClassifier) -> None:
    text = "the actors bored nobody"
    wrong = trained.predict([text])[0]
    other = "pos" if wrong == "neg" else "neg"
    mended = TextClassifier.continue_from(trained, [text], [other], epochs=30)
    assert mended.predict([text]).tolist() == [other]
    assert mended.classes_.tolist() == trained.classes_.tolist()
    assert len(mended.history_) == 30
    assert mended.get_params() == trained.get_params() | {"epochs": 30}


def test_it_goes_on_from_a_file_and_its_result_can_be_saved(
    trained: TextClassifier, tmp_path: Path
) -> None:
    trained.save(tmp_path / "old")
    from_file = TextClassifier.continue_from(str(tmp_path / "old"), NEW_TEXTS, NEW_LABELS, epochs=1)
    from_object = TextClassifier.continue_from(trained, NEW_TEXTS, NEW_LABELS, epochs=1)
    assert bits(from_file) == bits(from_object)
    from_file.save(tmp_path / "new")
    loaded = TextClassifier.load(tmp_path / "new")
    np.testing.assert_array_equal(
        loaded.predict_proba(HELD_OUT), from_object.predict_proba(HELD_OUT)
    )
    # And on.
    third = TextClassifier.continue_from(loaded, ["once more"] * 4, ["new"] * 4, epochs=1)
    assert third.classes_.tolist() == ["mixed", "neg", "new", "pos"]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_same_bits_on_any_number_of_threads(shape: dict[str, Any]) -> None:
    old = make(epochs=1, **shape).fit(TEXTS, LABELS)
    found = []
    for threads in (1, 3):
        ops.set_threads(threads)
        found.append(bits(TextClassifier.continue_from(old, NEW_TEXTS, NEW_LABELS, epochs=2)))
    assert found[0] == found[1]


def test_a_stopped_training_goes_on_from_its_checkpoint(
    trained: TextClassifier, tmp_path: Path
) -> None:
    def steps(start: TextClassifier, resume: bool) -> tuple[TextClassifier, Any]:
        classifier = make(epochs=3)
        return classifier, classifier.fit_steps(
            NEW_TEXTS, NEW_LABELS, checkpoint=tmp_path / "kept", resume=resume, start=Start(start)
        )

    whole = TextClassifier.continue_from(trained, NEW_TEXTS, NEW_LABELS, epochs=3)
    _, events = steps(trained, resume=False)
    next(event for event in events if isinstance(event, EpochResult))
    events.close()
    other = make(random_state=1).fit(TEXTS, LABELS)
    with pytest.raises(TrainingError, match=r"other data or options \(another model to begin with"):
        list(steps(other, resume=True)[1])
    resumed, events = steps(trained, resume=True)
    assert [event.epoch for event in events if isinstance(event, EpochResult)] == [1, 2, 3]
    assert bits(resumed) == bits(whole)


# --- what is refused ---------------------------------------------------------------------------


def test_a_result_that_forgets_is_refused(trained: TextClassifier) -> None:
    before = bits(trained)
    turned = ["neg" if label == "pos" else "pos" for label in LABELS]
    was = trained.score(HELD_OUT, HELD_OUT_LABELS)
    now = TextClassifier.continue_from(trained, TEXTS, turned).score(HELD_OUT, HELD_OUT_LABELS)
    assert was > 0.95
    assert now < 0.4
    keep = HELD_OUT, HELD_OUT_LABELS
    with pytest.raises(TrainingError) as refused:
        TextClassifier.continue_from(trained, TEXTS, turned, keep=keep)
    assert str(refused.value).startswith(
        f"accuracy on the 60 kept texts fell from {was:.4f} to {now:.4f}, by more than "
        "max_loss=0.01: the result is refused, and the model that it began with is as it was; "
    )
    classifier = make()
    with pytest.raises(TrainingError, match=r"by more than max_loss=0\.5"):
        list(classifier.fit_steps(TEXTS, turned, start=Start(trained, keep, 0.5)))
    assert not classifier.__sklearn_is_fitted__()
    assert bits(trained) == before
    TextClassifier.continue_from(trained, TEXTS, turned, keep=keep, max_loss=1)


def test_a_loss_that_is_allowed_is_no_error_of_rounding(trained: TextClassifier) -> None:
    """0.95 - 0.94 is more than 0.01 in floating point."""
    texts = ["a lovely film"] * 95 + ["an awful film"] * 5
    start = Start(trained, (texts, ["pos"] * 100), 0.01)
    assert start.kept_texts == texts
    classes, said = trained.classes_, trained.predict_proba(texts)
    start.check_kept(said, classes)
    assert start.kept_accuracy == (0.95, 0.95)
    start._kept_targets[0] = 0  # now 94 are right before and after
    start.check_kept(said, classes)
    assert start.kept_accuracy == (0.94, 0.94)
    said[1] = said[1, ::-1]
    start.check_kept(said, classes)
    assert start.kept_accuracy == (0.94, 0.93)
    start.max_loss = 0.0
    with pytest.raises(
        TrainingError, match=r"fell from 0.9400 to 0.9300, by more than max_loss=0:"
    ):
        start.check_kept(said, classes)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"hidden_size": 10}, "hidden_size=10 is not the trained model's, 9, which it keeps"),
        ({"pooling": "max"}, "pooling='max' is not the trained model's, 'last'"),
        ({"tokenizer": "lecture"}, "tokenizer='lecture' is not the trained model's, 'words'"),
        ({"ngrams": 1}, r"ngrams=1 is not the trained model's, 0, .*; set ngrams=0, or train"),
        ({"epochs": 0}, "epochs=0 is not between 1 and 10,000"),
        ({"epoch": 1}, "parameter='epoch' is not one of .*did you mean 'epochs'"),
        ({"max_loss": 1.5}, "max_loss=1.5 is not a number from 0 to 1, such as 0.01"),
        ({"max_loss": True}, "max_loss=True is not a number"),
        ({"max_loss": "1%"}, "max_loss='1%' is not a number"),
        ({"keep": HELD_OUT}, "keep is not a pair of texts and labels"),
    ],
)
def test_what_can_not_be_changed(
    trained: TextClassifier, changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        TextClassifier.continue_from(trained, NEW_TEXTS, NEW_LABELS, **changed)


def test_texts_and_labels_that_can_not_be_used(trained: TextClassifier) -> None:
    def refuse(message: str, texts: Any, labels: Any, **more: Any) -> None:
        with pytest.raises(DataError, match=message):
            TextClassifier.continue_from(trained, texts, labels, **more)

    refuse("there are no texts to train on; give at least one", [], [])
    refuse("labels are int, and the model's are str; give labels of str", ["a"], [1])
    refuse("the texts have no words", [""], ["neg"])
    refuse("texts is a str", "a film", ["neg"])
    refuse("label 'mixed' is not one of the model's: neg, pos", *_pair(), keep=_pair())
    refuse("there are no texts to keep", *_pair(), keep=([], []))
    refuse("texts is a str", *_pair(), keep=("a film", ["neg"]))
    refuse("2 texts have 1 labels", *_pair(), keep=(["a", "b"], ["neg"]))
    with pytest.raises(NotFittedError):
        TextClassifier.continue_from(make(), NEW_TEXTS, NEW_LABELS)


def _pair() -> tuple[list[str], list[str]]:
    return NEW_TEXTS[:2], NEW_LABELS[:2]


def test_a_linear_model_may_be_left_behind() -> None:
    both = make(ngrams=1).fit(TEXTS, LABELS)
    with pytest.raises(ConfigError, match=r"ngrams=2 is not the trained model's, 1, .* or 0 for"):
        TextClassifier.continue_from(both, TEXTS, LABELS, ngrams=2)
    keep = HELD_OUT, HELD_OUT_LABELS
    alone = TextClassifier.continue_from(both, TEXTS, LABELS, ngrams=0, keep=keep)
    assert alone.ngrams_ is None
    assert both.ngrams_ is not None
    network = make().fit(TEXTS, LABELS)
    assert bits(alone) == bits(TextClassifier.continue_from(network, TEXTS, LABELS))


def test_a_linear_model_goes_on(tmp_path: Path) -> None:
    """It learns the new label's words, and what the old texts taught it stays."""
    both = make(ngrams=1).fit(TEXTS, LABELS)
    assert both.ngrams_ is not None
    old = both.ngrams_.weights.copy()
    keep = HELD_OUT, HELD_OUT_LABELS
    texts, labels = [*TEXTS[:8], *NEW_TEXTS], [*LABELS[:8], *NEW_LABELS]
    new = TextClassifier.continue_from(both, texts, labels, keep=keep, max_loss=1)
    linear = new.ngrams_
    assert linear is not None
    assert linear.bits == both.ngrams_.bits
    assert linear.weights.shape == (len(old), 3)
    np.testing.assert_array_equal(both.ngrams_.weights, old)
    classes = new.classes_.tolist()
    scores = linear.scores([NEW_TEXTS[0], "lovely", "awful"])
    assert scores[0].argmax() == classes.index(NEW_LABELS[0])
    # What these words say of the two old labels, one the other's opposite, they still say.
    before = both.ngrams_.scores(["lovely", "awful"])[:, 0] - both.ngrams_.bias
    after = scores[1:] - linear.bias
    assert np.sign(after[:, classes.index("pos")]).tolist() == np.sign(before).tolist()
    assert np.sign(after[:, classes.index("neg")]).tolist() == (-np.sign(before)).tolist()
    new.save(tmp_path / "new")
    again = TextClassifier.load(tmp_path / "new")
    np.testing.assert_array_equal(again.predict_proba(texts), new.predict_proba(texts))
