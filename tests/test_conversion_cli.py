"""``tidegate import`` and ``tidegate export`` as a user meets them."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from foreign import random_classifier
from tidegate import TextClassifier
from tidegate.cli import main
from tidegate.interop.exporting import TARGETS
from tidegate.model import ModelConfig

ROOT = Path(__file__).parent.parent
DATA = ROOT / "tests" / "data"
SMALL = ModelConfig(
    vocabulary_size=11, embedding_size=3, hidden_size=4, max_length=6, masked=True, classes=2
)

pytest.importorskip("h5py")
pytest.importorskip("onnx")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    words = ["", "[UNK]", *(f"w{i}" for i in range(2, 12))]
    (tmp_path / "words.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    random_classifier(SMALL).save("reviews.safetensors")
    return tmp_path


def refusal(arguments: list[str], capsys: pytest.CaptureFixture[str], folder: Path) -> str:
    """The one line on standard error of a command that is refused and leaves nothing."""
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert main(arguments) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    return told.err


def test_out_and_in_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    original = TextClassifier.load("reviews.safetensors")
    texts = ["w1 w2", "w3 who", "", "w0 w1 w2 w3 w4 w5 w6"]
    for target, suffix in TARGETS.items():
        assert main(["export", "reviews.safetensors", "--to", target]) == 0
        out = capsys.readouterr().out
        assert re.search(
            r"proven against .*: the logits of random texts differ by at most \d[.\d]*e-0", out
        )
        file = "reviews.weights.safetensors" if target == "torch" else f"reviews{suffix}"
        assert file in out
        assert f"{folder.name}/" not in out
        command = [
            "import",
            file,
            "--vocabulary",
            "reviews.vocabulary.json",
            "-o",
            f"{target}.back",
        ]
        assert main(command) == 0
        out = capsys.readouterr().out
        assert "7 words, 2 classes, reads 6 tokens" in out
        assert f"tidegate predict {target}.back" in out
        back = TextClassifier.load(f"{target}.back")
        assert back.classes_.tolist() == ["label 0", "label 1"]
        assert abs(back.predict_proba(texts) - original.predict_proba(texts)).max() < 1e-6
        assert main(["info", f"{target}.back"]) == 0
        assert re.search(r"imported +from .*, logits differ by at most", capsys.readouterr().out)
        assert main(["info", f"{target}.back", "--json"]) == 0
        told = json.loads(capsys.readouterr().out)["conversion"]
        assert set(told) == {"from", "largest_difference"}


def test_the_readmes_commands_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    part = readme.split("## Models of Keras, PyTorch and ONNX")[1].split("```")[1]
    (folder / "sentiment.keras").write_bytes((DATA / "foreign_stacked_gru.keras").read_bytes())
    for line in part.strip().splitlines()[1:]:
        assert main(shlex.split(line)[1:]) == 0, line
    assert capsys.readouterr().err == ""
    assert TextClassifier.load("sentiment.safetensors").classes_.tolist() == ["bad", "good"]


def test_the_documents_snippet_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = (ROOT / "docs" / "converting.md").read_text(encoding="utf-8")
    snippet = document.split("```python\n")[1].split("```")[0]
    (folder / "sentiment.keras").write_bytes((DATA / "foreign_stacked_gru.keras").read_bytes())
    exec(compile(snippet, "converting.md", "exec"), {})  # noqa: S102 (our own file)
    assert float(capsys.readouterr().out) < 1e-6
    assert (folder / "sentiment.onnx").exists()


def test_labels_with_commas(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["import", str(DATA / "foreign_gru.pt"), "--vocabulary", "words.txt", "--quiet"]
    assert main([*given, "--labels", '"no, never",yes']) == 0
    assert capsys.readouterr().out == ""
    assert TextClassifier.load("model.safetensors").classes_.tolist() == ["no, never", "yes"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["import", "no.keras"], "needs the words"),
        (["import", "no.keras", "--vocabulary", "words.txt"], "can't be read: No such file"),
        (["import", "words.txt", "--vocabulary", "words.txt"], "are the same file"),
        (["import", "a.doc", "--vocabulary", "words.txt"], "not one of .keras, .h5"),
        (["import", "a.pt", "-o", "reviews.safetensors"], "replace it with --force"),
        (["import", "a.pt", "--first-id", "x"], "'x' is not a whole number"),
        (["import", "PT", "--vocabulary", "words.txt", "--labels", "a"], "--labels='a' are 1"),
        (["import", "PT", "--vocabulary", "words.txt", "--labels", "a,,b"], "an empty label"),
        (["import", "PT", "--vocabulary", "words.txt", "--labels", '"a'], "can't be read"),
        (["import", "PT", "--vocabulary", "words.txt", "--name", "x"], "no ROLE=NAME"),
        (["import", "PT", "--vocabulary", "words.txt", "--unknown-id", "99"], "--unknown-id=99"),
        (
            ["import", "KERAS", "--vocabulary", "words.txt", "--pooling", "max"],
            "pooling='max' is",
        ),
        (["export", "reviews.safetensors"], "--to"),
        (["export", "reviews.safetensors", "--to", "kears"], "did you mean 'keras'?"),
        (["export", "reviews.safetensors", "--to", "keras", "-o", "a.h5"], "end in .keras"),
        (["export", "words.txt", "--to", "keras"], "words.txt"),
        (["export", "reviews.safetensors", "--to", "onnx", "-o", "no/a.onnx"], "create the folder"),
    ],
)
def test_what_is_refused(
    arguments: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {"PT": str(DATA / "foreign_gru.pt"), "KERAS": str(DATA / "foreign_rnn_max.keras")}
    assert message in refusal([files.get(a, a) for a in arguments], capsys, folder)


def test_an_export_that_is_there_is_kept(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export = ["export", "reviews.safetensors", "--to", "torch"]
    assert main(export) == 0
    capsys.readouterr()
    assert "replace it with --force" in refusal(export, capsys, folder)
    assert main([*export, "--force"]) == 0
