"""tidegate train --from MODEL: what is learnt, what is refused, and what is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from test_cli import assert_refused, reviews, snapshot, train_small, write_table
from tidegate import TextClassifier
from tidegate.cli import main

NEW_TEXTS = [f"{text} soso" for text in reviews(30, seed=9)[0]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_small(tmp_path_factory)


@pytest.fixture
def folder(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: the model, earlier examples, and new ones with old ones among them."""
    (tmp_path / "old.safetensors").write_bytes(model.read_bytes())
    write_table(tmp_path / "earlier.csv", *reviews(40, seed=7))
    texts, labels = reviews(60)
    write_table(tmp_path / "new.csv", [*NEW_TEXTS, *texts], [*["mixed"] * 30, *labels])
    turned = ["neg" if label == "pos" else "pos" for label in labels]
    write_table(tmp_path / "turned.csv", texts, turned)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_new_labels_are_learnt_and_earlier_texts_kept(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "new.csv", "--from", "old.safetensors", "--keep", "earlier.csv"]
    assert main([*command, "--epochs", "12", "--report", "report.json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    old, new = TextClassifier.load("old.safetensors"), TextClassifier.load("model.safetensors")
    assert new.classes_.tolist() == ["mixed", "neg", "pos"]
    assert new.predict([NEW_TEXTS[0]]).tolist() == ["mixed"]
    before, after = (each.score(*reviews(40, seed=7)) for each in (old, new))
    assert after > 0.9
    assert f"kept texts: accuracy {after:.4f}, before {before:.4f}" in lines
    # The model's own options hold where none were given.
    assert new.get_params() == old.get_params() | {"epochs": 12}
    report = json.loads(Path("report.json").read_text(encoding="utf-8"))
    assert report["start"] == {
        "model": "old.safetensors",
        "kept_before": before,
        "kept_after": after,
    }
    by_hand = TextClassifier.continue_from(
        old, [*NEW_TEXTS, *reviews(60)[0]], [*["mixed"] * 30, *reviews(60)[1]], epochs=12
    )
    by_hand.save("by_hand.safetensors")
    assert Path("by_hand.safetensors").read_bytes() == Path("model.safetensors").read_bytes()
    assert not list(folder.glob("*.checkpoint.*"))


def test_a_table_of_one_new_label_is_enough(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_table(folder / "one.csv", NEW_TEXTS, ["mixed"] * 30)
    assert main(["train", "one.csv", "--from", "old.safetensors", "--epochs", "1", "-q"]) == 0
    assert TextClassifier.load("model.safetensors").classes_.tolist() == ["mixed", "neg", "pos"]
    assert capsys.readouterr().out == ""


def test_what_forgets_is_refused_and_nothing_written(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "turned.csv", "--from", "old.safetensors", "--keep", "earlier.csv", "-q"]
    before = snapshot(folder)
    status = main([*command, "--epochs", "12"])
    assert_refused(
        status,
        capsys.readouterr().err,
        "accuracy on the 40 kept texts fell from",
        "by more than --max-loss=0.01: the result is refused",
        "model.checkpoint.safetensors keeps the training: the same command with --resume and a "
        "larger --max-loss saves its result, with --force it begins anew",
    )
    # The checkpoint keeps what was trained: with a larger loss, it is taken as it is.
    after = snapshot(folder)
    assert set(after) - set(before) == {"model.checkpoint.safetensors"}
    assert {name: after[name] for name in before} == before
    assert main([*command, "--epochs", "12", "--resume", "--max-loss", "1"]) == 0
    assert TextClassifier.load("model.safetensors").score(*reviews(60)) < 0.5


def test_the_old_model_may_be_replaced(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["train", "new.csv", "--from", "old.safetensors", "-o", "old.safetensors", "-q"]
    command += ["--epochs", "1"]
    assert_refused(main(command), capsys.readouterr().err, "is there already", "--force")
    assert main([*command, "--force"]) == 0
    assert TextClassifier.load("old.safetensors").classes_.tolist() == ["mixed", "neg", "pos"]


@pytest.mark.parametrize(
    ("arguments", "needles"),
    [
        (["--keep", "earlier.csv"], ["--keep is of no use without --from"]),
        (["--max-loss", "0.1"], ["--max-loss is of no use without --from"]),
        (["--from", "old.safetensors", "--max-loss", "0.1"], ["of no use without --keep"]),
        (
            ["--from", "old.safetensors", "--keep", "earlier.csv", "--max-loss", "2"],
            ["--max-loss=2.0 is not a number from 0 to 1"],
        ),
        (
            ["--from", "old.safetensors", "--preset", "lecture"],
            ["--preset='lecture' is for a new model; leave it out with --from"],
        ),
        (
            ["--from", "old.safetensors", "--hidden-size", "100"],
            ["--hidden-size=100 is not the trained model's, "],
        ),
        (["--from", "missing.safetensors"], ["missing.safetensors"]),
        (["--from", "new.csv"], ["SOURCE and --from are the same file"]),
        (["--from", "old.safetensors", "--keep", "new.csv"], ["SOURCE and --keep are the same"]),
        (
            ["--from", "old.safetensors", "--keep", "strange.csv"],
            ["label 'weird' is not one of the model's: neg, pos"],
        ),
    ],
)
def test_options_that_do_not_fit(
    folder: Path,
    arguments: list[str],
    needles: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_table(folder / "strange.csv", ["a film", "it"], ["weird", "pos"])
    before = snapshot(folder)
    assert_refused(main(["train", "new.csv", *arguments]), capsys.readouterr().err, *needles)
    assert snapshot(folder) == before


def test_a_model_with_other_labels_than_words(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    numbers = TextClassifier(embedding_size=2, hidden_size=2, epochs=1)
    numbers.fit(["a b", "c d"] * 4, [0, 1] * 4).save("numbers.safetensors")
    status = main(["train", "new.csv", "--from", "numbers.safetensors"])
    assert_refused(status, capsys.readouterr().err, "are int, and a table's are str")
