"""What the README and the documents say is so: commands, snippets, tables and drawings."""

from __future__ import annotations

import gzip
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from tidegate import TextClassifier, data, ngrams, storage
from tidegate.data import columns, encodings, formats, readers, streams

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def test_python_snippet_runs_and_learns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (snippet,) = _blocks("python")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(snippet, "README.md", "exec"), names)  # noqa: S102 (our own file)
    printed = capsys.readouterr().out
    assert printed.startswith("['good']"), printed
    assert (tmp_path / "small.safetensors").stat().st_size > 100_000
    again, classifier = names["again"], names["classifier"]
    probe = ["a lovely film", "a dreadful mess"]
    assert (again.predict_proba(probe) == classifier.predict_proba(probe)).all()  # type: ignore[attr-defined]


def test_own_texts_commands_run(tmp_path: Path) -> None:
    rows = ["text,label"]
    pairs = (("what a lovely film", "good"), ("the plot is a dull mess", "bad"))
    rows += [f"{text} {i},{label}" for i in range(20) for text, label in pairs]
    table = "\n".join(rows) + "\n"
    (tmp_path / "reviews.csv").write_text(table, encoding="utf-8")
    (tmp_path / "held_out.csv").write_text(table, encoding="utf-8")
    (tmp_path / "new.csv").write_text("id,text\n1,lovely film\n2,dull film\n", encoding="utf-8")
    (tmp_path / "lines.txt").write_text("lovely\ndull\n", encoding="utf-8")
    block = next(b for b in _blocks("sh") if "train reviews.csv" in b)
    outputs = []
    for line in block.strip().splitlines():
        command = line.replace("tidegate ", f"{shlex.quote(sys.executable)} -m tidegate ")
        done = subprocess.run(  # noqa: S602
            command,
            shell=True,  # our own file, and a pipe is one of the commands
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (line, done.stderr)
        assert done.stderr == "", line
        outputs.append(done.stdout)
    assert len(outputs) == 7
    assert len(outputs[1].splitlines()) == 2
    judged = (tmp_path / "judged.csv").read_text(encoding="utf-8").splitlines()
    assert judged[0] == "id,text,label,probability"
    assert [line.split(",")[0] for line in judged[1:]] == ["1", "2"]
    assert outputs[3].count('"probabilities"') == 2
    assert "accuracy" in outputs[4]
    assert "lovely" in outputs[5].splitlines()[0]


@pytest.mark.parametrize(
    "document",
    [
        *("docs/data.md", "docs/models.md", "docs/scikit-learn.md"),
        *("docs/explaining.md", "docs/lecture.md"),
    ],
)
def test_snippets_print_what_stands_below_them(
    document: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One after another, as in one notebook."""
    text = (ROOT / document).read_text(encoding="utf-8")
    pair = r"^```python\n(.*?)^```\n\n```text\n(.*?)^```"
    blocks = re.findall(pair, text, flags=re.MULTILINE | re.DOTALL)
    assert len(blocks) == text.count("```python\n") > 0
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    names: dict[str, object] = {}
    for snippet, expected in blocks:
        exec(compile(snippet, document, "exec"), names)  # noqa: S102 (our own file)
        assert capsys.readouterr().out == expected


DOCUMENTS = ["README.md", "CONTRIBUTING.md", "benchmarks/README.md"]
DOCUMENTS += sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_local_links_lead_somewhere(document: str) -> None:
    path = ROOT / document
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{document} links to {target}"


# --- docs/file-format.md -------------------------------------------------------------------------

FILE_FORMAT = (ROOT / "docs" / "file-format.md").read_text(encoding="utf-8")


def _first_column(heading: str) -> list[list[str]]:
    """Of each table under the heading: all that stands in backticks in the first column."""
    part = re.split(rf"^{heading}$", FILE_FORMAT, flags=re.MULTILINE)[1]
    part = re.split(r"^#", part, maxsplit=1, flags=re.MULTILINE)[0]
    tables = re.findall(r"^\| --- .*\n((?:\|.*\n)+)", part, flags=re.MULTILINE)
    return [
        re.findall(r"`([^`]+)`", re.sub(r"^\| (.*?) \|.*$", r"\1", table, flags=re.M))
        for table in tables
    ]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model file and a checkpoint."""
    folder = tmp_path_factory.mktemp("written")
    classifier = TextClassifier(embedding_size=2, hidden_size=2, epochs=1, calibrate=False)
    texts, labels = ["a b", "c d", "a c", "b d"], [0, 1, 0, 1]
    list(classifier.fit_steps(texts, labels, checkpoint=folder / "checkpoint"))
    classifier.save(folder / "model")
    return folder / "model", folder / "checkpoint"


def test_the_tables_of_headers_are_what_is_written(written: tuple[Path, Path]) -> None:
    (common,) = _first_column("## Header")
    for path, heading in zip(written, ("### Of a model", "### Of a checkpoint"), strict=True):
        _, header = storage.read_tensors(path)
        (own,) = _first_column(heading)
        # Reading takes the first two away.
        assert common[:2] == ["format_version", "checksum"]
        assert sorted(common[2:] + own) == sorted(header)


def test_the_tables_of_tensors_are_what_is_written(written: tuple[Path, Path]) -> None:
    model, checkpoint = (storage.read_tensors(path)[0] for path in written)
    of_model, of_adam, _cells = _first_column("## Tensors")
    assert set(of_model) == set(model)
    weights = set(of_model) - {"vocabulary"}
    expected = set(weights)
    for name in of_adam:
        expected |= {name.replace("NAME", weight) for weight in weights}
    assert expected == set(checkpoint)


def test_the_tables_of_a_quantised_model_are_what_is_written(written: tuple[Path, Path]) -> None:
    plain, header = storage.read_tensors(written[0])
    path = written[0].with_name("int8")
    TextClassifier.load(written[0]).save(path, quantize="int8")
    tensors, quantized = storage.read_tensors(path)
    scales, keys = _first_column("## Quantised models")
    assert set(scales) == set(tensors) - set(plain)
    assert set(keys) == set(quantized) - set(header)
    for name in scales:
        assert tensors[name.removesuffix(".scale")].dtype == "int8"


# --- docs/architecture.md ------------------------------------------------------------------------


def test_the_layers_drawn_are_those_of_the_import_contract() -> None:
    contract = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    listed = re.search(r"^layers = \[\n(.*?)^\]", contract, flags=re.MULTILINE | re.DOTALL)
    assert listed is not None
    layers = [set(line.split(" | ")) for line in re.findall(r'"(.+)"', listed[1])]
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    drawing = text.split("\n\n")[2]
    drawn = [set(line.split("  ")[2].split(" · ")) for line in drawing.splitlines()]
    # The compiled module is none of Python's.
    assert [names - {"_kernels (C++)"} for names in drawn] == layers


# --- docs/data.md --------------------------------------------------------------------------------

DATA = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")


def test_the_formats_and_names_are_those_that_are_read() -> None:
    table = DATA.split("| --- | --- | --- | --- |\n")[1].split("\n\n")[0]
    suffixes = re.findall(r"`(\.\w+)`", "".join(row.split("|")[1] for row in table.splitlines()))
    assert suffixes == list(formats.SUFFIXES)
    names = [block.split() for block in re.findall(r"(?:^    .*\n)+", DATA, flags=re.MULTILINE)]
    assert names == [list(columns.TEXT_NAMES), list(columns.LABEL_NAMES)]
    assert f"more than {encodings.LONGEST_LINE:,} characters" in DATA
    assert f"the first {streams.GUESSED_ROWS:,} rows" in DATA
    assert f"at most {ngrams.MOST_TEXTS:,} texts" in DATA
    sizes = [size >> 20 for size in (streams.LARGE_BYTES, streams.LARGE_PACKED_BYTES)]
    assert f"more than {sizes[0]} MB ({sizes[1]} MB if it is compressed" in " ".join(DATA.split())
    assert DATA.count(f"{readers.BLOCK_ROWS:,} rows") == 2


def test_the_data_report_has_the_documented_keys() -> None:
    texts = data.LabeledTexts(["a", "b"], ["x", "y"])
    found = data.survey(texts, [1, 1], 5, training=[0], held_out={}).to_json()
    table = DATA.split("| key of `data` | what it counts |\n| --- | --- |\n")[1].split("\n\n")[0]
    first = "".join(row.split("|")[1] for row in table.splitlines())
    assert re.findall(r"`(\w+)`", first) == list(found)
    documented = re.search(r"^\| `tokens` \|(.*)$", DATA, flags=re.MULTILINE)
    assert documented is not None
    assert re.findall(r"`(\w+)`", documented[1]) == list(found["tokens"])


def test_the_commands_on_data_run(tmp_path: Path) -> None:
    pairs = (("what a lovely film", "good"), ("the plot is a dull mess", "bad"))
    rows = [(f"{text} {i}", label) for i in range(20) for text, label in pairs]
    csv = "text,label\n" + "".join(f"{text},{label}\n" for text, label in rows)
    (tmp_path / "reviews.csv.gz").write_bytes(gzip.compress(csv.encode()))
    lines = "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows)
    (tmp_path / "reviews.jsonl").write_bytes(lines.encode())
    (tmp_path / "old.csv").write_bytes("text\na lovely café\n".encode("cp1252"))
    pq.write_table(pa.table({"text": ["a lovely film"]}), tmp_path / "new.parquet")
    (tmp_path / "reviews.jsonl.zst").write_bytes(
        zstandard.ZstdCompressor().compress(lines.encode())
    )
    for i, (text, label) in enumerate(rows):
        for part in ("train", "test"):
            file = tmp_path / "aclImdb" / part / label / f"{i}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
    (block,) = re.findall(r"^```sh\n(.*?)^```", DATA, flags=re.MULTILINE | re.DOTALL)
    for line in block.strip().splitlines():
        # zstdcat is the system's, and may not be there: tidegate unpacks what cat gives, too.
        command = line.replace("zstdcat", "cat")
        command = command.replace("tidegate ", f"{shlex.quote(sys.executable)} -m tidegate ")
        if " train " in command:
            command += " --force --epochs 1 --hidden-size 4"
        done = subprocess.run(  # noqa: S602
            command,
            shell=True,  # our own file, and a pipe is one of the commands
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), line
        if "aclImdb" in line:
            assert "32 training, 8 validation and 40 test texts" in done.stdout
            assert "test accuracy" in done.stdout
    assert pq.read_table(tmp_path / "judged.parquet").column_names == [
        *("text", "label", "probability"),
    ]
    assert "a lovely café," in (tmp_path / "judged.csv").read_text(encoding="utf-8")


# --- docs/tutorial.md ----------------------------------------------------------------------------


def test_the_tutorials_commands_run_one_after_another(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    pairs = (("what a lovely soup", "good"), ("the soup was cold", "bad"))
    rows = [f"{text} {i},{label}" for i in range(20) for text, label in pairs]
    for name in ("reviews.csv", "held_out.csv", "more.csv"):
        (tmp_path / name).write_text("\n".join(["text,label", *rows]) + "\n", encoding="utf-8")
    (tmp_path / "new.csv").write_text("text\nlovely soup\n", encoding="utf-8")
    text = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    for line in "".join(blocks).splitlines():
        first, command, *options = shlex.split(line)
        if first == "mv":
            (tmp_path / command).replace(tmp_path / options[0])
        if first != "tidegate" or command in ("serve", "compare"):
            continue  # tests of their own
        if command == "train":
            options += ["--epochs", "1"] + ([] if "--from" in options else ["--hidden-size", "4"])
        done = subprocess.run(
            [sys.executable, "-m", "tidegate", command, *options],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), line
    for name in ("judged.csv", "why.html", "reviews.html", "reviews.onnx"):
        assert (tmp_path / name).stat().st_size > 0
