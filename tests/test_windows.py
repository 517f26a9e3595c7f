"""keep="windows": long texts read whole, in overlapping windows whose logits are averaged."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate import TextClassifier
from tidegate.batch import Reading, TokenizedTexts
from tidegate.errors import ConfigError, ShapeError
from tidegate.explain import explain
from tidegate.metrics import LabeledSet, labeled
from tidegate.text import START_ID, UNKNOWN_ID, Tokenizer, Vocabulary, window_starts
from tidegate.training import StepResult

SIZE = 8


@given(st.lists(st.integers(0, 60), min_size=1, max_size=5), st.integers(1, 20))
def test_windows_cover_each_text_and_overlap(lengths: list[int], size: int) -> None:
    starts, counts = window_starts(np.array(lengths), size)
    assert len(starts) == counts.sum()
    for length, own in zip(lengths, np.split(starts, np.cumsum(counts)[:-1]), strict=True):
        if length <= size:
            assert own.tolist() == [0]
            continue
        assert own[0] == 0
        assert own[-1] == length - size
        steps = np.diff(own)
        assert steps.min() >= 1
        assert steps.max() <= max(1, size - size // 4)
        assert np.ptp(steps) <= 1
        # No more of them than are needed.
        fewer = (length - size) / (len(own) - 2) if len(own) > 2 else length
        assert fewer > max(1, size - size // 4)


@pytest.mark.parametrize("marks", [{}, {"start": False}, {"unknown": False}])
def test_rows_are_slices_of_the_whole_text(marks: dict[str, bool]) -> None:
    vocabulary = Vocabulary(tuple("abcdefgh"))
    tokenizer = Tokenizer("words", vocabulary, "windows", **marks)
    texts = ["a b c", " ".join("abcdefghxabcdefgh"), "", "x", " ".join("hgfedcbah")]
    reading = tokenizer.read(iter(texts), SIZE)
    assert reading.counts is not None
    assert len(reading) == len(texts)
    row = 0
    for text, count in zip(texts, reading.counts.tolist(), strict=True):
        whole = tokenizer.encode(text).tolist()
        starts, _ = window_starts(np.array([len(whole)]), SIZE)
        found = [reading.rows.row(row + i).tolist() for i in range(count)]
        assert found == [whole[start : start + SIZE] for start in starts.tolist()]
        assert found[-1] == tokenizer.encode_all([text], SIZE).row(0).tolist()
        words = text.split()
        for ids, places in zip(found, tokenizer.places_of_rows(words, SIZE), strict=True):
            assert ids == [START_ID if p < 0 else vocabulary.id_of(words[p]) for p in places]
        row += count


def test_what_is_read_is_selected_repeated_and_averaged_text_by_text() -> None:
    rows = TokenizedTexts.from_rows([[1], [2], [3], [4], [5, 6]])
    reading = Reading(rows, np.array([1, 3, 1]))
    chosen = reading.select(np.array([2, 1, 1]))
    assert chosen.counts is not None
    assert chosen.counts.tolist() == [1, 3, 3]
    assert [chosen.rows.row(i).tolist() for i in range(7)] == [[5, 6], *[[2], [3], [4]] * 2]
    values = np.array([[1, 0], [2, 0], [4, 1], [9, 2], [6, 5]], np.float32)
    assert reading.pooled(values).tolist() == [[1, 0], [5, 1], [6, 5]]
    assert reading.pooled(values).dtype == np.float32
    for counts in ([2, 2], [5, 1], [5, 0]):
        with pytest.raises(ShapeError, match="counts must be at least 1"):
            Reading(rows, np.array(counts))


def test_each_text_counts_once_in_training() -> None:
    reading = Reading(TokenizedTexts.from_rows([[1]] * 6), np.array([1, 4, 1]))
    targets = np.array([0, 1, 1], np.int32)
    rows = labeled(reading, targets).by_rows()
    assert rows.targets.tolist() == [0, 1, 1, 1, 1, 1]
    assert rows.weights is not None
    assert rows.weights.tolist() == [2.0, 0.5, 0.5, 0.5, 0.5, 2.0]  # their mean is 1
    heavy = labeled(reading, targets, np.array([1.0, 2.0, 0.0], np.float32)).by_rows()
    assert heavy.weights is not None
    assert heavy.weights.tolist() == [2.0, 1.0, 1.0, 1.0, 1.0, 0.0]
    short = labeled(Reading(reading.rows, np.ones(6, np.int64)), np.zeros(6, np.int32)).by_rows()
    assert short.weights is None
    assert isinstance(short, LabeledSet)


# --- classifiers ---------------------------------------------------------------------------------

FILLER = "the film is long and it goes on and on until the very end of it all "


def long_texts() -> tuple[list[str], list[str]]:
    """Of many of them the deciding word is far from both ends."""
    texts, labels = [], []
    for i in range(40):
        label = ("bad", "good")[i % 2]
        word = {"bad": "dreadful", "good": "lovely"}[label]
        words = (FILLER * (1 + i % 5)).split()
        words.insert((7 * i) % len(words), word)
        texts.append(" ".join(words))
        labels.append(label)
    return texts, labels


TEXTS, LABELS = long_texts()
SMALL: dict[str, Any] = {
    **{"embedding_size": 6, "hidden_size": 7, "max_length": SIZE, "keep": "windows"},
    **{"epochs": 2, "batch_size": 16, "learning_rate": 0.01},
}


@pytest.fixture(scope="module")
def trained() -> TextClassifier:
    return TextClassifier(**{**SMALL, "epochs": 8}).fit(TEXTS, LABELS)


def test_logits_are_the_means_of_the_windows(trained: TextClassifier) -> None:
    for text in TEXTS[:5]:
        ids = trained.tokenizer_.encode(text)
        starts, _ = window_starts(np.array([len(ids)]), SIZE)
        windows = TokenizedTexts.from_rows([ids[s : s + SIZE] for s in starts.tolist()])
        logit = trained.mix_[0] * trained.model_.predict_logits(windows).mean(dtype=np.float64)
        expected = 1.0 / (1.0 + np.exp(-logit))
        np.testing.assert_allclose(trained.predict_proba([text])[0, 1], expected, rtol=1e-5)


def test_it_reads_what_no_cut_text_would_show(trained: TextClassifier) -> None:
    assert trained.score(TEXTS, LABELS) > 0.9
    cut = TextClassifier(**{**SMALL, "epochs": 8, "keep": "end"}).fit(TEXTS, LABELS)
    assert cut.score(TEXTS, LABELS) < 0.8


def test_a_text_s_bits_do_not_depend_on_its_neighbours(trained: TextClassifier) -> None:
    together = trained.predict_proba(TEXTS)
    alone = np.concatenate([trained.predict_proba([text]) for text in TEXTS])
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(trained.predict_proba(TEXTS[::-1])[::-1], together)
    features = trained.features(TEXTS)
    assert features.shape == (40, 7)
    np.testing.assert_array_equal(trained.features(TEXTS[3:4]), features[3:4])


def test_validation_and_scores_count_texts() -> None:
    classifier = TextClassifier(**SMALL, validation_fraction=0.25, calibrate=False)
    classifier.fit(TEXTS, LABELS)
    _, held = classifier.split(len(TEXTS))
    again = classifier.evaluate([TEXTS[i] for i in held], [LABELS[i] for i in held])
    assert classifier.validation_ is not None
    assert (classifier.validation_.texts, again.texts) == (10, 10)
    assert classifier.validation_.loss == again.loss == classifier.history_[-1].val_loss
    assert classifier.history_[-1].val_accuracy == again.accuracy
    report = classifier.report(TEXTS, LABELS, intervals=False)
    assert report.accuracy == classifier.score(TEXTS, LABELS)


@pytest.mark.parametrize("more", [{}, {"ngrams": 2}])
def test_the_same_file_on_any_threads_and_after_a_stop(
    tmp_path: Path, more: dict[str, Any]
) -> None:
    weight: dict[str, Any] = {"sample_weight": [1.0, 2.0] * 20} if more else {}
    for name, threads in (("one", 1), ("two", 2)):
        classifier = TextClassifier(**SMALL, **more, threads=threads)
        classifier.fit(TEXTS, LABELS, **weight).save(tmp_path / name)
    checkpoint = tmp_path / "checkpoint"
    steps = TextClassifier(**SMALL, **more).fit_steps(
        TEXTS, LABELS, checkpoint=checkpoint, **weight
    )
    for event in steps:
        if not isinstance(event, StepResult):
            break
    del steps
    resumed = TextClassifier(**SMALL, **more)
    for _ in resumed.fit_steps(TEXTS, LABELS, checkpoint=checkpoint, resume=True, **weight):
        pass
    resumed.save(tmp_path / "resumed")
    files = {(tmp_path / name).read_bytes() for name in ("one", "two", "resumed")}
    assert len(files) == 1
    loaded = TextClassifier.load(tmp_path / "one")
    assert (loaded.keep, loaded.tokenizer_.keep) == ("windows", "windows")
    expected = resumed.predict_proba(TEXTS)
    np.testing.assert_array_equal(loaded.predict_proba(TEXTS), expected)
    copied = pickle.loads(pickle.dumps(loaded))  # noqa: S301 (our own)
    np.testing.assert_array_equal(copied.predict_proba(TEXTS), expected)


def test_short_texts_are_read_as_ever(tmp_path: Path) -> None:
    """No text is longer than a window: the weights are those of keep="end"."""
    wide = {**SMALL, "max_length": 100}
    windows = TextClassifier(**wide).fit(TEXTS, LABELS)
    end = TextClassifier(**{**wide, "keep": "end"}).fit(TEXTS, LABELS)
    for name, value in end.model_.parameters.items():
        np.testing.assert_array_equal(windows.model_.parameters[name], value)


def test_going_on(trained: TextClassifier) -> None:
    new = TextClassifier.continue_from(trained, TEXTS, LABELS, keep=(TEXTS, LABELS), max_loss=1.0)
    assert new.tokenizer_.keep == "windows"
    stream = TextClassifier(**SMALL).partial_fit(TEXTS, LABELS, classes=["bad", "good"])
    stream.partial_fit(TEXTS, LABELS)
    assert [result.epoch for result in stream.history_] == [1, 2]
    with pytest.raises(ConfigError, match="keep='end' is not the trained model's, 'windows'"):
        trained.set_params(keep="end").partial_fit(TEXTS, LABELS)
    trained.set_params(keep="windows")


@pytest.mark.parametrize("method", ["staged", "occlusion", "integrated", "gradient"])
def test_explanations_reach_the_whole_text(trained: TextClassifier, method: str) -> None:
    text = "lovely " + FILLER * 2
    found = explain(trained, text, label="good", method=method)
    assert len(found.contributions) == len(text.split())
    assert int(np.abs(found.contributions).argmax()) == 0
    assert found.contributions[0] > 0.0
    if method == "integrated":  # of two classes it adds up to the way from words without content
        parameters = {name: value.copy() for name, value in trained.model_.parameters.items()}
        parameters["embedding.weight"][UNKNOWN_ID:] = 0.0
        empty = copy.copy(trained)
        empty.model_ = type(trained.model_)(trained.model_.config, parameters)
        whole, start = (model.predict_proba([text])[0, 1] for model in (trained, empty))
        way = np.log(whole / (1 - whole)) - np.log(start / (1 - start))
        np.testing.assert_allclose(found.contributions.sum(), way, rtol=0.02, atol=0.02)


def test_of_three_classes_the_pooled_log_odds_are_explained() -> None:
    """Not the mean of the windows' own, which is another number."""
    three = TextClassifier(**{**SMALL, "epochs": 20}).fit(TEXTS, ["a", "b", "c", "b"] * 10)
    parameters = {name: value.copy() for name, value in three.model_.parameters.items()}
    parameters["output.kernel"] *= 6.0
    three.model_ = type(three.model_)(three.model_.config, parameters)
    parameters = {name: value.copy() for name, value in parameters.items()}
    parameters["embedding.weight"][UNKNOWN_ID:] = 0.0
    empty = copy.copy(three)
    empty.model_ = type(three.model_)(three.model_.config, parameters)
    ways = []
    for text in TEXTS[:8]:
        for number, label in enumerate("abc"):
            shares = [model.predict_proba([text])[0, number] for model in (three, empty)]
            whole, start = (np.log(share / (1 - share)) for share in shares)
            found = explain(three, text, label=label, method="integrated")
            assert found.contributions.sum() == pytest.approx(whole - start, rel=0.02, abs=0.02)
            ways.append(whole - start)
    assert np.abs(ways).max() > 1.0


def test_several_labels_and_classes() -> None:
    several = [[], ["a"], ["b"], ["a", "b"]] * 10
    many = TextClassifier(**SMALL).fit(TEXTS, several)
    assert many.predict(TEXTS).shape == (40, 2)
    three = TextClassifier(**SMALL).fit(TEXTS, ["a", "b", "c", "b"] * 10)
    np.testing.assert_allclose(three.predict_proba(TEXTS).sum(axis=1), 1.0)
