"""The linear model of n-grams beside a network: in classifiers, files and the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tidegate import TextClassifier, cli, storage
from tidegate.errors import ConfigError, ModelFileError
from tidegate.ngrams import EVEN_MIX

LABELLED = ["a fine film", "a poor film", "fine and warm", "poor and cold", "so so"] * 12
LABELS = ["good", "bad", "good", "bad", "good"] * 12
OPTIONS: dict[str, Any] = {"embedding_size": 4, "hidden_size": 5, "epochs": 2, "ngrams": 2}


@pytest.mark.parametrize("classes", [2, 3])
def test_a_classifier_with_ngrams_is_the_sum(tmp_path: Path, classes: int) -> None:
    labels = LABELS if classes == 2 else ["good", "bad", "good", "bad", "fair"] * 12
    classifier = TextClassifier(**OPTIONS).fit(LABELLED, labels)
    assert classifier.ngrams_ is not None
    texts = [*LABELLED[:5], "fine", "", "cold cold"]
    encoded = classifier.tokenizer_.encode_all(texts, 200)
    recurrent, linear = classifier.mix_
    logits = classifier.model_.predict_logits(encoded) * recurrent
    logits = logits + classifier.ngrams_.scores(texts) * linear
    expected = classifier.model_.probabilities(logits)
    np.testing.assert_allclose(classifier.predict_proba(texts), expected, rtol=1e-5)
    assert (classifier.predict(LABELLED[:5]) == labels[:5]).all()
    evaluated = classifier.evaluate(LABELLED, labels)
    assert evaluated.accuracy == 1.0
    own = classifier.predict_proba(LABELLED)
    known = [classifier.classes_.tolist().index(label) for label in labels]
    assert evaluated.loss == pytest.approx(-np.log(own[np.arange(60), known]).mean(), rel=1e-5)

    sha256 = classifier.save(tmp_path / "model")
    again = TextClassifier.load(tmp_path / "model")
    np.testing.assert_array_equal(again.predict_proba(texts), classifier.predict_proba(texts))
    assert again.mix_ == classifier.mix_
    assert again.save(tmp_path / "again") == sha256
    repeated = TextClassifier(**OPTIONS, threads=1).fit(LABELLED, labels)
    assert repeated.save(tmp_path / "repeated") == sha256


def test_the_linear_model_knows_the_validation_texts_in_the_end() -> None:
    texts = [f"{text} only{i}" for i, text in enumerate(LABELLED)]
    classifier = TextClassifier(**OPTIONS).fit(texts, LABELS)
    train_rows, validation_rows = classifier.split(60)
    assert classifier.ngrams_ is not None
    bias = classifier.ngrams_.bias

    def told(row: int) -> float:
        assert classifier.ngrams_ is not None
        return float(abs(classifier.ngrams_.scores([f"only{row}"])[0] - bias).sum())

    assert min(map(told, train_rows.tolist())) > 0
    assert min(map(told, validation_rows.tolist())) > 0
    # A file of their own stays unseen, but for the factors.
    apart = TextClassifier(**OPTIONS).fit(
        texts[:50], LABELS[:50], validation=(texts[50:], LABELS[50:])
    )
    assert apart.ngrams_ is not None
    unseen = apart.ngrams_.scores([f"only{row}" for row in range(50, 60)]) - apart.ngrams_.bias
    assert not unseen.any()
    assert apart.mix_ != EVEN_MIX


def test_a_classifier_without_validation_mixes_evenly() -> None:
    classifier = TextClassifier(**OPTIONS, validation_fraction=0.0).fit(LABELLED, LABELS)
    assert classifier.mix_ == EVEN_MIX


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ngrams": 6}, "ngrams=6 is not between 0 and 5"),
        ({"ngrams": 1.5}, "ngrams=1.5 is not a whole number"),
        ({"ngram_cost": 0}, "ngram_cost=0 must be positive"),
        ({"ngram_cost": 1e38}, r"ngram_cost=1e\+38 is not between 1e-6 and 1e\+6"),
    ],
)
def test_bad_settings_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TextClassifier(**options).fit(LABELLED, LABELS)


def damage(name: str, change: Any) -> Any:
    def edit(tensors: dict[str, Any], header: dict[str, Any]) -> None:
        tensors[name] = change(tensors[name])

    return edit


DAMAGES: dict[str, Any] = {
    "no weights": lambda tensors, header: tensors.pop("ngrams.weight"),
    "weights of another type": damage("ngrams.weight", lambda w: w.astype(np.float32)),
    "as many buckets as no bits": damage("ngrams.weight", lambda w: w[:1000]),
    "too few outputs": damage("ngrams.weight", lambda w: np.repeat(w, 2, axis=1)),
    "a flat table": damage("ngrams.weight", lambda w: w.reshape(-1)),
    "not finite": damage("ngrams.weight", lambda w: np.full_like(w, np.inf)),
    "a long bias": damage("ngrams.bias", lambda b: np.repeat(b, 2)),
    "no mix": lambda tensors, header: header["ngrams"].pop("mix"),
    "a negative mix": lambda tensors, header: header["ngrams"].update(mix=[1.0, -1.0]),
    "a mix of words": lambda tensors, header: header["ngrams"].update(mix=["1", 0.5]),
    "a mix of three": lambda tensors, header: header["ngrams"].update(mix=[1.0, 1.0, 1.0]),
    "longest": lambda tensors, header: header["ngrams"].update(longest=9),
    "no dict": lambda tensors, header: header.update(ngrams=[1]),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_files_are_no_models(tmp_path: Path, name: str) -> None:
    path = tmp_path / "model"
    TextClassifier(**OPTIONS).fit(LABELLED, LABELS).save(path)
    tensors, header = storage.read_tensors(path)
    for key in ("checksum", "format_version"):
        header.pop(key, None)
    DAMAGES[name](tensors, header)
    storage.write_tensors(path, tensors, header)
    with pytest.raises(ModelFileError, match="is not a usable model"):
        TextClassifier.load(path)


# --- the command line


def test_the_command_line_says_what_both_models_do_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, model, report = (tmp_path / name for name in ("t.csv", "m.safetensors", "r.json"))
    rows = [f"{text},{label}" for text, label in zip(LABELLED, LABELS, strict=True)]
    table.write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    options = ["--ngrams", "2", "--hidden-size", "4", "--embedding-size", "4", "--epochs", "2"]
    settings = ["layers=2", "bidirectional=true", "pooling=max+mean", 'class_weight={"bad": 2}']
    for setting in settings:
        options += ["--set", setting]
    assert cli.main(["train", str(table), "-o", str(model), "--report", str(report), *options]) == 0
    shown = capsys.readouterr().out
    (line,) = [line for line in shown.splitlines() if line.startswith("with n-grams")]
    told = json.loads(report.read_text(encoding="utf-8"))
    assert f"val_accuracy {told['validation']['accuracy']:.4f}" in line
    assert f"val_loss {told['validation']['loss']:.4f}" in line
    classifier = TextClassifier.load(model)
    assert told["mix"] == list(classifier.mix_)
    config = classifier.model_.config
    assert (config.layers, config.bidirectional, config.pooling) == (2, True, "max+mean")
    assert classifier.class_weight == {"bad": 2}
    assert cli.main(["info", str(model)]) == 0
    assert "2 layers, both directions, 4 units" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("layers", "'layers' is not NAME=VALUE, such as layers=2"),
        ("2=3", "'2=3' is not NAME=VALUE"),
        ("self=3", "--set 'self' is not one of"),
        ("layer=2", "--set 'layer' is not one of"),
        ("layers=[1]", "--set layers=[1] is not a whole number"),
        ("pooling=most", "--set pooling='most' is not one of last, max, mean, attention"),
        ("dropout=" + "[" * 100_000, "--set dropout='[["),
    ],
)
def test_a_bad_setting_is_refused_in_one_line(
    tmp_path: Path, setting: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "m"
    assert cli.main(["train", "t.csv", "-o", str(model), "--set", setting]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert len(error) < 1500


def test_a_network_that_counts_nothing_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    classifier = TextClassifier(**OPTIONS).fit(LABELLED, LABELS)
    path = tmp_path / "model.safetensors"
    said = "decide alone"
    for factor, expected in ((0.0, True), (0.004, True), (0.3, False)):
        classifier.mix_ = (factor, 1.0)
        classifier.save(path, replace=True)
        assert cli.main(["info", str(path)]) == 0
        (line,) = [x for x in capsys.readouterr().out.splitlines() if x.startswith("n-grams")]
        assert ("; they decide alone, the network counts nothing" in line) == expected
        for to in ("keras", "torch", "onnx", "html"):
            options = ["--to", to, "--without-ngrams", "--force", "--quiet"]
            assert cli.main(["export", str(path), *options]) == 0
            told = capsys.readouterr().err
            assert (said in told) == expected
            assert told.count("\n") == expected
    classifier.mix_ = (0.0, 1.0)
    classifier.save(path, replace=True)
    assert cli.main(["export", str(path), "--to", "html", "--force"]) == 0  # n-grams and all
    assert said not in capsys.readouterr().err
