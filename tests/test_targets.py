"""Texts with any number of labels: how they are given, learnt, predicted and measured."""

from __future__ import annotations

import pickle
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as theirs
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.preprocessing import MultiLabelBinarizer
from sklearn.utils import get_tags

from test_training import EXAMPLES, MODEL
from tidegate import TextClassifier, ops, storage
from tidegate.calibration import fit_factor
from tidegate.errors import ConfigError, DataError, ModelFileError, ShapeError
from tidegate.losses import labels_loss, weighted_loss
from tidegate.metrics import LabeledSet, evaluate
from tidegate.model import ModelConfig, TextModel
from tidegate.ngrams import EVEN_MIX, fit_mix, fit_ngrams, hash_texts
from tidegate.records import TrainConfig
from tidegate.targets import encode_targets, targets_of
from tidegate.thresholds import best_threshold
from tidegate.training import train

WORDS = {"fun": ("hilarious", "witty"), "sad": ("tragic", "tears"), "war": ("soldiers", "battle")}
FILLER = ("the", "film", "had", "a", "story", "and", "actors", "with", "music", "in", "scenes")
OPTIONS: dict[str, Any] = {
    "embedding_size": 8,
    "hidden_size": 9,
    "max_length": 16,
    "epochs": 12,
    "batch_size": 16,
    "learning_rate": 0.02,
    "threads": 1,
}


def tagged(count: int, seed: int = 0) -> tuple[list[str], list[tuple[str, ...]]]:
    """Texts with none to three labels, each said by a word."""
    choose = random.Random(seed)  # noqa: S311
    texts, labels = [], []
    for _ in range(count):
        words = choose.choices(FILLER, k=choose.randint(3, 8))
        held = [label for label in WORDS if choose.random() < 0.4]
        for label in held:
            words.insert(choose.randrange(len(words)), choose.choice(WORDS[label]))
        texts.append(" ".join(words))
        labels.append(tuple(held))
    return texts, labels


TEXTS, LABELS = tagged(300)
HELD, HELD_LABELS = tagged(120, 1)
TABLE = MultiLabelBinarizer().fit_transform(LABELS)
HELD_TABLE = MultiLabelBinarizer().fit_transform(HELD_LABELS)


@pytest.fixture(autouse=True)
def one_thread(restored_threads: None) -> None:
    ops.set_threads(1)


def make(**changed: Any) -> TextClassifier:
    return TextClassifier(**{**OPTIONS, **changed})


@pytest.fixture(scope="module")
def fitted() -> TextClassifier:
    return make().fit(TEXTS, LABELS)


# --- how labels are given


@pytest.mark.parametrize(
    "given",
    [
        [["b", "a"], [], ["c"]],
        (("a", "b"), (), ("c",)),
        [{"a", "b"}, frozenset(), {"c"}],
        [np.array(["a", "b"]), np.array([], dtype="U1"), np.array(["c"])],
        pd.Series([["a", "b"], [], ["c"]]),
        iter([["a", "b"], [], ["c"]]),
    ],
    ids=["lists", "tuples", "sets", "arrays", "Series", "iterator"],
)
def test_any_number_of_labels(given: Any) -> None:
    classes, targets = encode_targets(given, 3)
    assert classes.tolist() == ["a", "b", "c"]
    assert targets.tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 1]]
    assert targets.dtype == np.int32


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.float32, np.bool_])
def test_an_array_of_0_and_1(dtype: type) -> None:
    given: Any = np.array([[1, 0, 0], [1, 0, 1]], dtype).T  # not contiguous
    classes, targets = encode_targets(given, 3)
    assert classes.tolist() == [0, 1]
    assert targets.tolist() == given.tolist()
    assert targets.flags.c_contiguous


def test_one_label_each_is_what_it_was() -> None:
    classes, targets = encode_targets(["b", "a", "b"], 3)
    assert (classes.tolist(), targets.tolist()) == (["a", "b"], [1, 0, 1])
    assert targets_of(classes, ["b"], 1, many=False).tolist() == [1]


def test_labels_of_numbers_keep_their_type() -> None:
    classes, targets = encode_targets([[3, 10], [10], []], 3)
    assert classes.tolist() == [3, 10]
    assert targets.tolist() == [[1, 1], [0, 1], [0, 0]]
    assert targets_of(classes, [[10], []], 2, many=True).tolist() == [[0, 1], [0, 0]]
    table = np.array([[0, 1], [0, 0]])
    assert targets_of(classes, table, 2, many=True).tolist() == [[0, 1], [0, 0]]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([["a"], "b"], "label 1 is 'b' and others are lists; give a list of labels for each text"),
        ([["a"], ["b"], ["c"]], "2 texts have 3 lists of labels; give each text one"),
        ([["a"], [None]], "text 1 has the label None; labels are str, int, bool or float"),
        ([["a"], [["b"]]], r"text 1 has the label \['b'\]; labels are"),
        ([["a"], ["b", "b"]], "text 1 has the label 'b' twice; name each once"),
        ([["a"], [1]], "labels mix int, str; make them all of one type"),
        ([[True], [1]], "labels mix bool, int"),
        ([[1.5], [float("nan")]], "nan; drop the text, or give it a finite label"),
        ([[], []], "no text has a label; give at least two labels to some texts"),
        ([["a"], []], "the only label is 'a'; for texts with it and without it, give one label"),
        ([["a", "b"], ["b", "a"]], "all texts have the same labels"),
        ([[0, 1], [1, 0]], "give texts of different labels, and a table of 0 and 1 as a NumPy"),
        (np.array([[0, 2], [1, 0]]), r"shape \[2, 2\] with other values than 0 and 1"),
        (np.array([["a", "b"], ["c", "d"]]), "with other values than 0 and 1"),
        (np.array([[0.0, np.nan], [1, 0]]), "with other values than 0 and 1"),
        (np.eye(3, dtype=int), "2 texts have 3 rows of labels; give one for each text"),
        (np.array([[0, 1], [0, 1]]), "all texts have the same labels"),
        (np.zeros((2, 1)), r"labels is a ndarray of shape \[2, 1\]; give one column of it"),
        (pd.DataFrame(np.eye(2)), r"labels is a DataFrame of shape \[2, 2\]"),
    ],
)
def test_labels_that_are_refused(labels: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        encode_targets(labels, 2)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["a", "b"], "label 0 is 'a': a text may have several; give a list of labels for each"),
        ([["a"], ["x"]], "label 'x' is not one of the model's: a, b"),
        ([["a"], [0]], "label 0 is not one of the model's: a, b"),
        (np.eye(3, dtype=int)[:2], "an array of 3 columns, and the model has 2 labels"),
        ([["a"]], "2 texts have 1 lists"),
    ],
)
def test_labels_of_another_model_are_refused(labels: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        targets_of(np.array(["a", "b"]), labels, 2, many=True)
    with pytest.raises(DataError, match=r"label 0 is \['a'\]; labels are str"):
        targets_of(np.array(["a", "b"]), [["a"]], 1, many=False)


@given(st.lists(st.sets(st.text(max_size=3)), min_size=1, max_size=20))
def test_labels_come_back(rows: list[set[str]]) -> None:
    try:
        classes, targets = encode_targets(rows, len(rows))
    except DataError:
        everything = set().union(*rows)
        nul = any(label.endswith("\0") for label in everything)
        assert len(everything) < 2 or all(row == rows[0] for row in rows) or nul
        return
    back = [set(classes[row == 1].tolist()) for row in targets]
    assert back == rows
    assert targets_of(classes, rows, len(rows), many=True).tolist() == targets.tolist()


# --- the loss


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_loss_is_the_mean_of_each_label_s_own(smoothing: float, weighted: bool) -> None:
    generator = np.random.default_rng(0)
    logits = (generator.standard_normal((6, 3)) * 3).astype(np.float32)
    targets = generator.integers(0, 2, (6, 3)).astype(np.int32)
    weights = generator.uniform(0.2, 3, 6).astype(np.float32) if weighted else None
    loss, d_logits, correct = labels_loss(logits, targets, weights, smoothing)
    own = [
        weighted_loss(
            np.ascontiguousarray(logits[:, [k]]), targets[:, k].copy(), weights, smoothing
        )
        for k in range(3)
    ]
    assert loss == pytest.approx(np.mean([one[0] for one in own]), rel=1e-12)
    expected = np.concatenate([one[1] for one in own], axis=1) / 3
    np.testing.assert_allclose(d_logits, expected, rtol=1e-6)
    assert correct == sum(((logits > 0) == targets).all(axis=1))


def test_the_loss_of_extreme_logits_is_finite() -> None:
    logits = np.array([[1e4, -1e4], [0.0, -0.0]], np.float32)
    loss, d_logits, correct = labels_loss(logits, np.array([[0, 1], [1, 0]], np.int32), None, 0.0)
    assert loss == pytest.approx((2e4 + 2 * np.log(2)) / 4)
    np.testing.assert_allclose(d_logits, [[0.25, -0.25], [-0.125, 0.125]])
    assert correct == 0


def test_the_loss_refuses_what_does_not_fit() -> None:
    logits = np.zeros((2, 3), np.float32)
    with pytest.raises(ShapeError, match=r"targets has shape \[2\]; \[2, 3\] is needed"):
        labels_loss(logits, np.zeros(2, np.int32), None, 0.0)
    with pytest.raises(ShapeError, match="targets runs from 2 to 2"):
        labels_loss(logits, np.full((2, 3), 2, np.int32), None, 0.0)
    with pytest.raises(ShapeError, match="targets is empty"):
        labels_loss(logits[:0], np.zeros((0, 3), np.int32), None, 0.0)


# --- the model and its training


def test_the_config_says_it_only_if_it_is_so() -> None:
    assert "targets" not in ModelConfig().to_json()
    many = ModelConfig(classes=2, targets="many")
    assert many.to_json()["targets"] == "many"
    assert ModelConfig.from_json(many.to_json()) == many
    assert (many.logits, ModelConfig(classes=2).logits) == (2, 1)
    with pytest.raises(ConfigError, match="targets='more' is not one of one, many"):
        ModelConfig(targets="more")
    with pytest.raises(ConfigError, match=r"targets=\['many'\] is not one of one, many"):
        ModelConfig(targets=["many"])  # type: ignore[arg-type]


def test_gradients_of_a_model_are_those_of_its_loss() -> None:
    config = replace(MODEL, classes=3, targets="many")
    model = TextModel.initialize(config, 0)
    targets = np.random.default_rng(0).integers(0, 2, (5, 3)).astype(np.int32)
    batch = model.pack(EXAMPLES.texts, np.arange(5))

    def loss() -> tuple[float, Any, Any]:
        logits, backward = model(batch)
        value, d_logits, _ = model.loss(logits, targets[batch.rows])
        return value, d_logits, backward

    _, d_logits, backward = loss()
    gradients: dict[str, Any] = {}
    backward(d_logits, gradients)
    for name in ("output.kernel", "output.bias", "recurrent.bias"):
        value = model.parameters[name]
        for place in list(np.ndindex(value.shape))[:4]:
            kept = value[place]
            value[place] = kept + 0.01
            above = loss()[0]
            value[place] = kept - 0.01
            slope = (above - loss()[0]) / 0.02
            value[place] = kept
            assert slope == pytest.approx(float(gradients[name][place]), rel=0.02, abs=1e-4)


def test_several_labels_are_learnt_and_resumed(tmp_path: Path) -> None:
    config = replace(MODEL, classes=2, targets="many")
    generator = np.random.default_rng(0)
    targets = np.stack([EXAMPLES.targets, generator.integers(0, 2, 60)], axis=1).astype(np.int32)
    examples = LabeledSet(EXAMPLES.texts, targets)
    training = TrainConfig(epochs=4, batch_size=8, learning_rate=0.02)
    whole = TextModel.initialize(config, 0)
    history = list(train(whole, examples, examples, training))
    found = evaluate(whole, examples)
    assert found.loss == pytest.approx(history[-1].val_loss, rel=1e-12)
    logits = whole.predict_logits(examples.texts)
    assert found.accuracy == ((logits > 0) == targets).all(axis=1).mean()
    assert found.loss == pytest.approx(
        theirs.log_loss(targets.ravel(), 1 / (1 + np.exp(-logits.ravel())))
    )
    assert ((logits > 0)[:, 0] == targets[:, 0]).mean() > 0.9
    path = tmp_path / "checkpoint"
    stopped = train(TextModel.initialize(config, 0), examples, examples, training, checkpoint=path)
    next(stopped)
    stopped.close()  # type: ignore[attr-defined]
    again = TextModel.initialize(config, 5)
    list(train(again, examples, examples, training, checkpoint=path, resume=True))
    for name, value in whole.parameters.items():
        assert value.tobytes() == again.parameters[name].tobytes()


# --- the linear model, the factors and the thresholds


def test_the_linear_model_of_each_label_is_the_one_of_its_own() -> None:
    rows = hash_texts(TEXTS, "words", 2, 12)
    settings: dict[str, Any] = {"kind": "words", "longest": 2, "bits": 12}
    targets = TABLE.astype(np.int32)
    model = fit_ngrams(rows, targets, 3, seed=7, **settings)
    for k in range(3):
        own = fit_ngrams(rows, np.ascontiguousarray(targets[:, k]), 2, seed=7 + k, **settings)
        assert own.weights.tobytes() == np.ascontiguousarray(model.weights[:, k : k + 1]).tobytes()
        assert own.bias[0] == model.bias[k]
    assert ((model.scores(HELD) > 0) == HELD_TABLE).mean() > 0.95
    # Where each text has one label, they are the classes of one fit.
    numbers = (np.arange(300) % 3).astype(np.int32)
    apart = fit_ngrams(rows, np.eye(3, dtype=np.int32)[numbers], 3, **settings)
    together = fit_ngrams(rows, numbers, 3, **settings)
    assert apart.weights.tobytes() == together.weights.tobytes()
    with pytest.raises(ShapeError, match=r"classes has shape \[300, 3\]; \[300, 4\] is needed"):
        fit_ngrams(rows, targets, 4, **settings)
    with pytest.raises(ShapeError, match="classes runs from 0 to 2"):
        fit_ngrams(rows, 2 * targets, 3, **settings)


def test_factors_take_each_label_as_a_text_of_its_own() -> None:
    generator = np.random.default_rng(0)
    targets = generator.integers(0, 2, (50, 4)).astype(np.int32)
    one, other = (
        (targets * 2 - 1 + 3 * generator.standard_normal((50, 4))).astype(np.float32)
        for _ in range(2)
    )
    flat = [part.reshape(-1, 1) for part in (one, other)]
    assert fit_factor(one, targets) == fit_factor(flat[0], targets.ravel())
    assert fit_mix(one, other, targets) == fit_mix(flat[0], flat[1], targets.ravel())
    assert fit_mix(one[:0], other[:0], targets[:0]) == EVEN_MIX
    assert fit_factor(one[:0], targets[:0]) == 1.0


def test_each_label_has_a_threshold_of_its_own(fitted: TextClassifier, tmp_path: Path) -> None:
    classifier = pickle.loads(pickle.dumps(fitted))  # noqa: S301
    probabilities = fitted.predict_proba(HELD)
    # Labels that are wrong here and there, so that the best threshold is not any.
    table = HELD_TABLE.copy()
    table[::7] = 1 - table[::7]
    found = classifier.tune_threshold(HELD, table, "precision", 0.8)
    expected = [
        best_threshold(probabilities[:, k], table[:, k] == 1, "precision", 0.8, k) for k in range(3)
    ]
    assert found.tolist() == classifier.thresholds_.tolist() == expected
    predicted = classifier.predict(HELD)
    np.testing.assert_array_equal(predicted, probabilities >= found)
    assert min(theirs.precision_score(table, predicted, average=None)) >= 0.8
    report = classifier.report(HELD, table, intervals=False)
    assert report.accuracy == classifier.score(HELD, table) == (predicted == table).all(1).mean()
    sha256 = classifier.save(tmp_path / "model")
    again = TextClassifier.load(tmp_path / "model")
    np.testing.assert_array_equal(again.predict(HELD), predicted)
    assert again.save(tmp_path / "again") == sha256
    with pytest.raises(DataError, match="no text has the label 'sad'"):
        classifier.tune_threshold(["a", "b"], [["fun"], ["war"]])


# --- the classifier


def test_it_learns_each_label(fitted: TextClassifier) -> None:
    assert fitted.classes_.tolist() == ["fun", "sad", "war"]
    probabilities = fitted.predict_proba(HELD)
    assert ((probabilities > 0) & (probabilities < 1)).all()
    assert np.ptp(probabilities.sum(axis=1)) > 1  # each is a probability of its own
    predicted = fitted.predict(HELD)
    assert predicted.dtype == np.int64
    np.testing.assert_array_equal(predicted, probabilities > 0.5)
    assert theirs.f1_score(HELD_TABLE, predicted, average="macro") > 0.95
    named = fitted.predict_labels(["a hilarious tragic story", "soldiers", "the film had music"])
    assert named == [("fun", "sad"), ("war",), ()]
    assert fitted.predict([]).shape == (0, 3)
    assert fitted.predict_labels([]) == []
    assert not fitted.decide(np.full((1, 3), 0.5)).any()


def test_its_scores_are_scikit_learn_s(fitted: TextClassifier) -> None:
    predicted, probabilities = fitted.predict(HELD), fitted.predict_proba(HELD)
    for labels in (HELD_LABELS, HELD_TABLE, [set(held) for held in HELD_LABELS]):
        assert fitted.score(HELD, labels) == theirs.accuracy_score(HELD_TABLE, predicted)
    result = fitted.evaluate(HELD, HELD_LABELS)
    assert result.loss == pytest.approx(
        theirs.log_loss(HELD_TABLE.ravel(), probabilities.ravel()), rel=1e-5
    )
    report = fitted.report(HELD, HELD_LABELS)
    assert report.loss == pytest.approx(result.loss, rel=1e-5)
    assert report.accuracy == result.accuracy
    assert report.f1_micro == pytest.approx(theirs.f1_score(HELD_TABLE, predicted, average="micro"))
    assert report.auc == pytest.approx(theirs.roc_auc_score(HELD_TABLE, probabilities))
    assert [one.label for one in report.classes] == ["fun", "sad", "war"]
    assert report.confusion is None


def test_an_array_of_0_and_1_is_the_same_training(fitted: TextClassifier, tmp_path: Path) -> None:
    by_table = make().fit(TEXTS, TABLE)
    assert by_table.classes_.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(by_table.predict(HELD), fitted.predict(HELD))
    np.testing.assert_array_equal(by_table.predict_proba(HELD), fitted.predict_proba(HELD))
    by_table.save(tmp_path / "model")
    again = TextClassifier.load(tmp_path / "model")
    assert again.predict_labels(["witty tears"]) == [(0, 1)]


def test_the_file_says_that_there_are_several(fitted: TextClassifier, tmp_path: Path) -> None:
    path = tmp_path / "model"
    sha256 = fitted.save(path)
    tensors, header = storage.read_tensors(path)
    assert header["config"]["targets"] == "many"
    assert tensors["output.kernel"].shape == (9, 3)
    again = TextClassifier.load(path)
    np.testing.assert_array_equal(again.predict_proba(HELD), fitted.predict_proba(HELD))
    assert again.save(tmp_path / "again") == sha256
    repeated = make(threads=2).fit(TEXTS, [set(held) for held in LABELS])
    assert repeated.save(tmp_path / "repeated") == sha256
    one = make(epochs=1).fit(TEXTS[:20], ["a", "b"] * 10)
    one.save(path)
    assert "targets" not in storage.read_tensors(path)[1]["config"]
    header["config"]["targets"] = "one"
    header["thresholds"] = [0.5, 0.5, 0.5]  # which three classes can't have
    for key in ("checksum", "format_version"):
        header.pop(key, None)
    storage.write_tensors(path, tensors, header)
    with pytest.raises(ModelFileError, match="thresholds is"):
        TextClassifier.load(path)


def test_two_labels_are_not_two_classes(tmp_path: Path) -> None:
    labels = [[label for label in held if label != "war"] for held in LABELS]
    classifier = make().fit(TEXTS, labels)
    assert classifier.predict_labels(["witty", "witty tears", "the film"]) == [
        ("fun",),
        ("fun", "sad"),
        (),
    ]
    classifier.save(tmp_path / "model")
    again = TextClassifier.load(tmp_path / "model")
    np.testing.assert_array_equal(again.predict_proba(HELD), classifier.predict_proba(HELD))


@pytest.mark.parametrize(
    "options",
    [
        {"ngrams": 2},
        {"layers": 2, "bidirectional": True, "pooling": "max+mean", "layer_norm": True},
        {"masked": False, "cell": "lstm", "label_smoothing": 0.05, "patience": 3},
    ],
    ids=["ngrams", "deep", "lecture"],
)
def test_every_kind_of_model_takes_several(options: dict[str, Any], tmp_path: Path) -> None:
    classifier = make(**options).fit(TEXTS, LABELS, [1.0, 2.0] * 150)
    assert classifier.score(HELD, HELD_LABELS) > 0.85
    sha256 = classifier.save(tmp_path / "model")
    again = TextClassifier.load(tmp_path / "model")
    np.testing.assert_array_equal(again.predict_proba(HELD), classifier.predict_proba(HELD))
    assert again.save(tmp_path / "again") == sha256
    repeated = make(**options, threads=2).fit(TEXTS, LABELS, [1.0, 2.0] * 150)
    assert repeated.save(tmp_path / "repeated") == sha256
    classifier.save(tmp_path / "int8", quantize="int8")
    small = TextClassifier.load(tmp_path / "int8")
    assert (small.predict(HELD) == classifier.predict(HELD)).mean() > 0.98


def test_class_weight_is_for_one_label_a_text() -> None:
    with pytest.raises(ConfigError, match="class_weight='balanced' is for one label a text"):
        make(class_weight="balanced").fit(TEXTS, LABELS)


def test_scikit_learn_s_tools_take_it() -> None:
    classifier = make(validation_fraction=0.0)
    assert get_tags(classifier).classifier_tags.multi_label
    scores = cross_val_score(classifier, TEXTS, TABLE, cv=2, error_score="raise")
    assert scores.min() > 0.7
    macro = cross_val_score(classifier, TEXTS, TABLE, cv=2, scoring="f1_macro", error_score="raise")
    assert macro.min() > 0.9
    area = cross_val_score(classifier, TEXTS, TABLE, cv=2, scoring="roc_auc", error_score="raise")
    assert area.min() > 0.95
    found = cross_val_predict(classifier, TEXTS, TABLE, cv=2, method="predict_proba")
    assert found.shape == (300, 3)
    search = GridSearchCV(clone(classifier), {"epochs": [1, 12]}, cv=2, error_score="raise")
    assert search.fit(TEXTS, TABLE).best_params_ == {"epochs": 12}
