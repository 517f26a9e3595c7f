"""tidegate train of tables that are streamed."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

from test_cli import SMALL, assert_refused, environment, reviews, snapshot, tidegate, write_table
from tidegate.cli import main
from tidegate.data import is_large, open_labeled, readers, streams
from tidegate.errors import ConfigError, DataError

TRAIN = ("train", "reviews.csv", *SMALL, "--epochs", "2", "--quiet")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a table of reviews."""
    write_table(tmp_path / "reviews.csv", *reviews(60))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_model_and_the_report_are_those_of_memory(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_table(folder / "held.csv", *reviews(20, seed=8))
    write_table(folder / "test.csv", *reviews(20, seed=9))
    held = ["--validation", "held.csv", "--test", "test.csv"]
    command = ["train", "reviews.csv", *SMALL, "--ngrams", "2", *held]
    for how in ("--in-memory", "--stream"):
        assert main([*command, how, "-o", f"x{how}.safetensors", "--report", f"x{how}.json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert (
        Path("x--stream.safetensors").read_bytes() == Path("x--in-memory.safetensors").read_bytes()
    )
    memory, disk = (
        json.loads(Path(f"x{how}.json").read_text()) for how in ("--in-memory", "--stream")
    )
    assert memory["data"] == disk["data"]
    assert memory["test"]["accuracy"] == disk["test"]["accuracy"]
    assert memory["source"]["readings"] == []
    assert [reading["texts"] for reading in disk["source"]["readings"]] == [60, 60]
    assert "; read in portions)" in disk["source"]["origin"]
    said = [line.split("  ")[0] for line in lines]
    half = len(said) // 2
    # The same lines, but for the file's name and what took how long.
    assert said[1 : half - 3] == said[half + 1 : -3]
    assert not [name for name in snapshot(folder) if name.startswith(".")]


def test_large_tables_are_streamed_by_themselves(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = (folder / "reviews.csv").stat().st_size
    packed = gzip.compress((folder / "reviews.csv").read_bytes())
    (folder / "reviews.csv.gz").write_bytes(packed)
    monkeypatch.setattr(streams, "LARGE_BYTES", size)
    monkeypatch.setattr(streams, "LARGE_PACKED_BYTES", len(packed) - 1)
    assert not is_large("reviews.csv")
    assert is_large("reviews.csv.gz")
    assert not any(map(is_large, ("imdb", ".", "-", "missing.csv")))
    monkeypatch.setattr(streams, "LARGE_BYTES", size - 1)
    assert main([*TRAIN, "--report", "report.json"]) == 0
    told = json.loads(Path("report.json").read_text(encoding="utf-8"))
    assert len(told["source"]["readings"]) == 2
    assert main([*TRAIN, "--report", "report.json", "--in-memory", "--force"]) == 0
    told = json.loads(Path("report.json").read_text(encoding="utf-8"))
    assert not told["source"]["readings"]


@pytest.mark.parametrize(
    ("arguments", "needles"),
    [
        (("train", "-", "--format", "csv", "--stream"), ("standard input", "--in-memory")),
        (("train", ".", "--stream"), ("'.' is a folder", "leave out --stream")),
        (("train", "imdb", "--stream"), ("imdb fits in memory",)),
        (("train", "lines.txt", "--stream"), ("lines.txt has no labels",)),
        ((*TRAIN, "--work-folder", "."), ("--work-folder is of no use without --stream",)),
        ((*TRAIN, "--stream", "--work-folder", "none"), ("'none': No such file", "--work-folder")),
        ((*TRAIN, "--stream", "--label-column", "no"), ("reviews.csv has no column 'no'",)),
        (
            (*TRAIN, "--stream", "--text-column", "label", "--label-column", "label"),
            ("can't be both text and label",),
        ),
        ((*TRAIN, "--stream", "--label-separator", "|"), ("'|' stands in none of the labels",)),
        (("train", "one.csv", "--stream"), ("every label is 'a'", "one class")),
        (("train", "gap.csv", "--stream"), ("gap.csv, line 4", "empty cell")),
        (("train", "header.csv", "--stream"), ("seems to have no header",)),
        ((*TRAIN, "--stream", "--test", "other.csv"), ("other.csv has labels", "'other'")),
        ((*TRAIN, "--stream", "--validation", "other.csv"), ("other.csv has labels", "'other'")),
        ((*TRAIN, "--stream", "--test", "no.csv"), ("'no.csv' is not a file that exists",)),
    ],
)
def test_what_cannot_be_streamed_is_told_in_one_line(
    arguments: tuple[str, ...],
    needles: tuple[str, ...],
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_table(folder / "one.csv", ["x", "y"], ["a", "a"])
    write_table(folder / "gap.csv", ["x", "y", "z"], ["a", "b", ""])
    write_table(folder / "other.csv", ["x", "y"], ["pos", "other"])
    (folder / "lines.txt").write_text("x\n", encoding="utf-8")
    (folder / "header.csv").write_text("a film that I saw twice or more,pos\nx,neg\ny,pos\n")
    before = snapshot(folder)
    status = main(list(arguments))
    assert_refused(status, capsys.readouterr().err, *needles)
    assert snapshot(folder) == before


def test_columns_are_guessed_by_the_first_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        f'{{"id": {i}, "words": "some longer words {i}", "kind": "k{i % 2}"}}' for i in range(40)
    ]
    path = tmp_path / "table.jsonl"
    path.write_text("\n".join(rows), encoding="utf-8")
    table = open_labeled(path)
    assert (table.text_column, table.label_column) == ("words", "kind")
    assert [len(texts) for texts, _ in table] == [40]
    assert list(table) == list(table)
    with pytest.raises(DataError, match="no column 'far'"):
        open_labeled(path, label_column="far")
    with pytest.raises(ConfigError, match="can be read only once"):
        open_labeled("-", format="csv")
    monkeypatch.setattr(streams, "GUESSED_ROWS", 10)
    monkeypatch.setattr(readers, "BLOCK_ROWS", 10)
    path.write_text("\n".join([*rows, '{"id": 1, "words": "no kind"}']), encoding="utf-8")
    with pytest.raises(DataError, match=r"table.jsonl, line 41: nothing in column 'kind'"):
        list(open_labeled(path))


@pytest.mark.skipif(sys.platform == "win32", reason="the system lacks limits on files")
def test_a_disk_that_is_too_small_is_one_error_and_leaves_nothing(tmp_path: Path) -> None:
    import resource

    write_table(tmp_path / "reviews.csv", *reviews(400))
    before = snapshot(tmp_path)

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))

    done = subprocess.run(
        [sys.executable, "-m", "tidegate", *TRAIN, "--stream"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=limited,
    )
    assert_refused(done.returncode, done.stderr, "can't keep texts as ids in", "--work-folder")
    assert snapshot(tmp_path) == before


@pytest.mark.skipif(sys.platform == "win32", reason="the system lacks SIGKILL")
def test_a_process_that_is_killed_while_it_reads_leaves_nothing(tmp_path: Path) -> None:
    write_table(tmp_path / "reviews.csv", *reviews(60))
    program = (
        "import os, signal, sys\n"
        "from tidegate import stored\n"
        "append = stored.StoredRows.append\n"
        "def killed(*arguments):\n"
        "    append(*arguments)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "stored.StoredRows.append = killed\n"
        "from tidegate.cli import main\n"
        "main(sys.argv[1:])\n"
    )
    command = [sys.executable, "-c", program, *TRAIN, "--stream"]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), timeout=60, check=False)
    assert done.returncode == -9
    # Only the empty file by which runs keep out of each other's way.
    assert [len(content) for name, content in snapshot(tmp_path).items() if name[0] == "."] == [0]
    done_again = tidegate(*TRAIN, "--stream", folder=tmp_path)
    assert done_again.returncode == 0, done_again.stderr
    assert sorted(snapshot(tmp_path)) == ["model.safetensors", "reviews.csv"]


KILL_AFTER_A_CHECKPOINT = """
import os, signal, sys
from tidegate.checkpoint import Checkpoint
from tidegate.cli import main
save = Checkpoint.save
def save_and_die(*arguments):
    save(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)
Checkpoint.save = save_and_die
main(sys.argv[1:])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the system lacks SIGKILL")
@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("killed", ["--stream", "--in-memory"])
def test_a_killed_run_goes_on_the_other_way_with_another_number_of_threads(
    killed: str,
    several: bool,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    restored_threads: None,
) -> None:
    texts, labels = reviews(60)
    separator: list[str] = []
    if several:
        labels = [f"{label};third" if i % 3 else label for i, label in enumerate(labels)]
        separator = ["--label-separator", ";"]
    write_table(folder / "reviews.csv", texts, labels)
    # The preset for people's own files: both directions, dropout, the linear model.
    size = ["--hidden-size", "6", "--embedding-size", "6", "--max-length", "20", "--epochs", "3"]
    command = ["train", "reviews.csv", *size, *separator, "--quiet"]
    assert main([*command, "-o", "whole.safetensors", "--threads", "1"]) == 0, capsys.readouterr()
    done = subprocess.run(
        [sys.executable, "-c", KILL_AFTER_A_CHECKPOINT, *command, killed, "--threads", "2"],
        cwd=folder,
        env=environment(),
        timeout=60,
        check=False,
    )
    assert done.returncode == -9
    other = "--stream" if killed == "--in-memory" else "--in-memory"
    assert main([*command, other, "--threads", "1", "--resume"]) == 0, capsys.readouterr()
    assert Path("model.safetensors").read_bytes() == Path("whole.safetensors").read_bytes()
    assert sorted(snapshot(folder)) == ["model.safetensors", "reviews.csv", "whole.safetensors"]
