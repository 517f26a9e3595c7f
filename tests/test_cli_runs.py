"""Training runs at the command line that meet each other, are killed, or come to a bad end."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

import pytest

from test_cli import (
    SMALL,
    ask,
    assert_refused,
    environment,
    predicting,
    reviews,
    snapshot,
    start_training,
    tidegate,
    write_table,
)
from tidegate import ops, storage
from tidegate.cli import files, main, progress
from tidegate.errors import OutputError
from tidegate.training import EpochResult

WHOLE = ("train", "reviews.csv", *SMALL, "--epochs", "3", "--quiet")
NEW = (*WHOLE, "-o", "new.safetensors")
CHECKPOINT = "new.checkpoint.safetensors"
KILL_AFTER_SAVE = """
import os, signal, sys
from tidegate import TextClassifier
from tidegate.cli import main
save = TextClassifier.save
def save_and_die(*arguments, **options):
    save(*arguments, **options)
    os.kill(os.getpid(), signal.SIGKILL)
TextClassifier.save = save_and_die
main(sys.argv[1:])
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of the test's own with a table of reviews."""
    write_table(tmp_path / "reviews.csv", *reviews(60))
    return tmp_path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The model file of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    write_table(folder / "reviews.csv", *reviews(60))
    done = tidegate(*NEW, folder=folder)
    assert done.returncode == 0, done.stderr
    return (folder / "new.safetensors").read_bytes()


def killed_after_save(folder: Path) -> None:
    process = subprocess.run(
        [sys.executable, "-c", KILL_AFTER_SAVE, *NEW],
        cwd=folder,
        env=environment(),
        timeout=60,
        check=False,
    )
    assert process.returncode == -signal.SIGKILL


posix = pytest.mark.skipif(sys.platform == "win32", reason="the system lacks locks and SIGKILL")


@posix
def test_two_runs_with_one_checkpoint(folder: Path) -> None:
    write_table(folder / "long.csv", *reviews(800))
    settings = (*SMALL, "--epochs", "200", "-o", "new.safetensors")
    first = start_training(folder, *settings)
    for more in (["--resume"], ["--force"], ["--resume", "--force"]):
        second = tidegate("train", "long.csv", *settings, *more, folder=folder)
        needles = (f"'{CHECKPOINT}' is in use by another run", "wait", "choose another")
        assert_refused(second.returncode, second.stderr, *needles)
        assert second.stdout == ""
    elsewhere = ("train", "reviews.csv", *SMALL, "--epochs", "1", "-o", "other.safetensors")
    assert tidegate(*elsewhere, folder=folder).returncode == 0
    assert first.poll() is None
    first.send_signal(signal.SIGINT)
    _, error = first.communicate(timeout=60)
    assert first.returncode == 130, error
    assert set(snapshot(folder)) == {"reviews.csv", "long.csv", "other.safetensors", CHECKPOINT}


def test_a_model_that_appears_meanwhile_is_kept_and_so_is_the_trained_one(
    folder: Path,
    whole: bytes,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    line = progress.epoch_line

    def write_another(*arguments: object) -> str:
        Path("new.safetensors").write_bytes(b"of another run")
        return line(*arguments)  # type: ignore[arg-type]

    loud = [argument for argument in NEW if argument != "--quiet"]
    with monkeypatch.context() as patch:
        patch.setattr(progress, "epoch_line", write_another)
        status = main(loud)
    error = capsys.readouterr().err
    needles = ("'new.safetensors' is there already", "--resume", f"--checkpoint {CHECKPOINT}")
    assert_refused(status, error, *needles, "another --output saves it at once")
    assert snapshot(folder)["new.safetensors"] == b"of another run"
    assert set(snapshot(folder)) == {"reviews.csv", "new.safetensors", CHECKPOINT}
    other = [*WHOLE, "-o", "other.safetensors", "--resume", "--checkpoint", CHECKPOINT]
    assert main(other) == 0
    assert snapshot(folder)["other.safetensors"] == whole
    assert set(snapshot(folder)) == {"reviews.csv", "new.safetensors", "other.safetensors"}


def test_a_disk_that_is_full_when_the_model_is_saved(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    write = storage.write_tensors

    def full(path: Path, *arguments: object, **options: bool) -> str:
        if path.name == "new.safetensors":
            raise OutputError("can't write 'new.safetensors': No space left on device")
        return write(path, *arguments, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(storage, "write_tensors", full)
        status = main(list(NEW))
    error = capsys.readouterr().err
    assert_refused(status, error, "No space left on device; the trained model is kept")
    assert set(snapshot(folder)) == {"reviews.csv", CHECKPOINT}


@posix
def test_killed_before_the_checkpoint_was_removed(folder: Path, whole: bytes) -> None:
    killed_after_save(folder)
    files = snapshot(folder)
    assert files["new.safetensors"] == whole
    assert CHECKPOINT in files
    again = tidegate(*NEW, folder=folder)
    assert_refused(again.returncode, again.stderr, "'new.safetensors' is there already")
    resumed = tidegate(*NEW, "--resume", "--report", "report.json", folder=folder)
    assert (resumed.returncode, resumed.stderr) == (0, "")
    files = snapshot(folder)
    assert set(files) == {"reviews.csv", "new.safetensors", "report.json"}
    assert files["new.safetensors"] == whole
    assert len(json.loads(files["report.json"])["epochs"]) == 3


@posix
def test_killed_before_the_checkpoint_was_removed_and_then_replaced(
    folder: Path,
    whole: bytes,
) -> None:
    killed_after_save(folder)
    (folder / "new.safetensors").write_bytes(b"of another run")
    resumed = tidegate(*NEW, "--resume", folder=folder)
    needles = ("'new.safetensors' is there already and has another content", "--checkpoint")
    assert_refused(resumed.returncode, resumed.stderr, *needles)
    assert CHECKPOINT in snapshot(folder)
    forced = tidegate(*NEW, "--resume", "--force", folder=folder)
    assert (forced.returncode, forced.stderr) == (0, "")
    assert snapshot(folder)["new.safetensors"] == whole


@posix
@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_training_that_is_asked_to_end_can_go_on(name: str, status: int, folder: Path) -> None:
    """By docker stop or a terminal that closes; a second signal changes nothing."""
    write_table(folder / "long.csv", *reviews(800))
    process = start_training(folder, *SMALL, "--epochs", "200", "-o", "new.safetensors")
    process.send_signal(getattr(signal, name))
    process.send_signal(getattr(signal, name))
    _, error = process.communicate(timeout=60)
    assert process.returncode == status, error
    assert b"keeps everything: go on with --resume" in error
    assert set(snapshot(folder)) == {"reviews.csv", "long.csv", CHECKPOINT}


@posix
def test_a_terminal_that_closes_leaves_a_checkpoint(folder: Path) -> None:
    """Nothing can be written any more then, neither lines nor the bar."""
    import pty

    write_table(folder / "long.csv", *reviews(800))
    command = ["train", "long.csv", *SMALL, "--epochs", "300", "-o", "new.safetensors"]
    # The first of a session to open a terminal is told when it closes.
    code = "import os, sys; os.open(os.ttyname(0), 2); import tidegate.cli as t; sys.exit(t.main())"
    screen, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code, *command],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=folder,
        env=environment() | {"TERM": "xterm"},
        start_new_session=True,
    )
    os.close(theirs)
    shown = b""
    while b"epoch 3/300" not in shown:
        shown += os.read(screen, 65_536)
    os.close(screen)
    assert process.wait(60) == 129
    assert set(snapshot(folder)) == {"reviews.csv", "long.csv", CHECKPOINT}


@posix
def test_a_signal_that_is_ignored_stays_ignored(folder: Path) -> None:
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert main(["--version"]) == 0
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@posix
def test_lines_awaited_when_asked_to_end(folder: Path, whole: bytes) -> None:
    (folder / "m.safetensors").write_bytes(whole)
    process = predicting(folder, "m.safetensors")
    ask(process, "superb")
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (143, b"tidegate: interrupted by SIGTERM\n")


@posix
def test_a_training_whose_reader_goes_away_says_what_is_kept(folder: Path) -> None:
    write_table(folder / "long.csv", *reviews(800))
    process = start_training(folder, *SMALL, "--epochs", "200", "-o", "new.safetensors")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    error = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait(60) == 141
    assert error.count("\n") == 1
    assert f"{CHECKPOINT} keeps everything: go on with --resume" in error
    assert set(snapshot(folder)) == {"reviews.csv", "long.csv", CHECKPOINT}


@posix
def test_a_training_whose_reader_was_never_there_says_so(folder: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as closed:
        loud = [argument for argument in NEW if argument != "--quiet"]
        done = tidegate(*loud, folder=folder, stdout=closed)
    assert done.returncode == 141
    assert "nobody reads standard output any more; nothing was trained yet" in done.stderr
    assert set(snapshot(folder)) == {"reviews.csv"}


@pytest.mark.parametrize("how", ["disk", "ctrl_c"])
def test_what_fails_after_the_model_is_saved_can_be_done_again(
    how: str,
    folder: Path,
    whole: bytes,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)

    def fail(*_: object) -> None:
        if how == "disk":
            raise OutputError("can't write 'r.json': No space left on device; free some space")
        signal.raise_signal(signal.SIGINT)

    command = [*NEW, "--report", "r.json"]
    with monkeypatch.context() as patch:
        patch.setattr(files, "write_report", fail)
        status = main(command)
    error = capsys.readouterr().err
    assert status == (2 if how == "disk" else 130)
    assert error.count("\n") == 1
    assert "; the model is saved as 'new.safetensors'; the same command with --resume" in error
    assert snapshot(folder)["new.safetensors"] == whole
    assert set(snapshot(folder)) == {"reviews.csv", "new.safetensors", CHECKPOINT}
    assert main([*command, "--resume"]) == 0
    assert set(snapshot(folder)) == {"reviews.csv", "new.safetensors", "r.json"}
    assert len(json.loads(Path("r.json").read_text())["epochs"]) == 3


def test_resuming_from_what_is_no_checkpoint(
    folder: Path,
    whole: bytes,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    Path(CHECKPOINT).write_bytes(whole)
    needles = ("is a model, not a checkpoint; give the checkpoint's path, or begin without",)
    assert_refused(main([*NEW, "--resume"]), capsys.readouterr().err, *needles)
    Path(CHECKPOINT).write_bytes(whole[:-9])
    status = main([*NEW, "--resume"])
    assert_refused(status, capsys.readouterr().err, "is cut off", "; remove it to start again")


def test_long_values_are_shortened(capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("--seed", "--epochs", "--learning-rate", "--cell", "--text-column"):
        for value in ("9" * 5_000, "x" * 5_000, "9" * 500):
            main(["train", "nowhere.csv", option, value])
            assert len(capsys.readouterr().err) < 500, option


def test_resuming_what_has_ended(folder: Path, whole: bytes) -> None:
    assert tidegate(*NEW, folder=folder).returncode == 0
    before = snapshot(folder)
    resumed = tidegate(*NEW, "--resume", folder=folder)
    needles = ("'new.safetensors' is there already", f"no checkpoint '{CHECKPOINT}'", "--force")
    assert_refused(resumed.returncode, resumed.stderr, *needles, "nothing to resume")
    assert snapshot(folder) == before


def stop_early(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Leave the checkpoint of a run with Ctrl-C in its first epoch."""
    monkeypatch.chdir(folder)
    steps = iter(range(99))

    def show(*_: object) -> None:
        if next(steps) == 0:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(progress.TrainingBar, "show", show)
        assert main(list(NEW)) == 130
    assert "stopped in epoch 1 after step 2; " in capsys.readouterr().err


def test_resuming_into_another_run_s_model_is_refused_before_training(
    folder: Path,
    whole: bytes,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stop_early(folder, monkeypatch, capsys)
    (folder / "new.safetensors").write_bytes(b"of another run")
    before = snapshot(folder)
    status = main([*NEW, "--resume"])
    needles = ("'new.safetensors' is there already", f"--checkpoint {CHECKPOINT}", "--force")
    assert_refused(status, capsys.readouterr().err, *needles)
    assert snapshot(folder) == before
    assert main([*NEW, "--resume", "--force"]) == 0
    assert snapshot(folder)["new.safetensors"] == whole


def test_ctrl_c_as_the_last_epoch_is_shown_loses_nothing(
    folder: Path,
    whole: bytes,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    line = progress.epoch_line

    def interrupted_line(result: EpochResult, epochs: int) -> str:
        if result.epoch == epochs:
            signal.raise_signal(signal.SIGINT)
        return line(result, epochs)

    loud = [argument for argument in NEW if argument != "--quiet"]
    with monkeypatch.context() as patch:
        patch.setattr(progress, "epoch_line", interrupted_line)
        assert main(loud) == 130
    assert "stopped after epoch 3; new.checkpoint" in capsys.readouterr().err
    assert set(snapshot(folder)) == {"reviews.csv", CHECKPOINT}
    assert main([*NEW, "--resume"]) == 0
    assert snapshot(folder) == {
        "reviews.csv": (folder / "reviews.csv").read_bytes(),
        "new.safetensors": whole,
    }


@pytest.mark.parametrize("quiet", [True, False], ids=["quiet", "loud"])
def test_another_instruction_set_goes_on_with_a_note(
    quiet: bool,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if ops.isa("float32") == "scalar":
        pytest.skip("the machine has one instruction set alone")
    stop_early(folder, monkeypatch, capsys)
    monkeypatch.setenv("TIDEGATE_ISA", "scalar")
    command = [*NEW, "--resume"] if quiet else [*(a for a in NEW if a != "--quiet"), "--resume"]
    resumed = tidegate(*command, folder=folder)
    assert resumed.returncode == 0, resumed.stderr
    if quiet:
        assert resumed.stderr == ""
    else:
        assert resumed.stderr.startswith(f"tidegate: note: {CHECKPOINT} was written by tidegate ")
        assert f"on {ops.isa('float32')} and goes on with " in resumed.stderr
        assert resumed.stderr.count("\n") == 1


def test_a_training_that_diverges_writes_neither_model_nor_report(
    folder: Path,
) -> None:
    before = snapshot(folder)
    done = tidegate(
        *NEW, "--learning-rate", "3e37", "--cell", "rnn", "--report", "r.json", folder=folder
    )
    assert_refused(done.returncode, done.stderr, "lower --learning-rate=3e+37")
    assert set(snapshot(folder)) - set(before) <= {CHECKPOINT}


def test_a_checkpoint_too_large_to_write_is_refused_before_training(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(storage, "MAX_FILE_BYTES", 40_000)
    before = snapshot(folder)
    assert_refused(main(list(NEW)), capsys.readouterr().err, "the checkpoint would have")
    assert snapshot(folder) == before


@pytest.mark.parametrize("option", ["--output", "--checkpoint", "--report"])
def test_the_data_is_not_what_is_written(
    option: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    before = snapshot(folder)
    command = ["train", "imdb", "--data", "reviews.csv", "--force", option, "./reviews.csv"]
    needles = ("--data and", option, "are the same file")
    assert_refused(main(command), capsys.readouterr().err, *needles)
    if option == "--report":
        command = ["evaluate", "model.safetensors", "imdb", "--data", "reviews.csv"]
        status = main([*command, "--report", "reviews.csv"])
        assert_refused(status, capsys.readouterr().err, *needles)
    assert snapshot(folder) == before


@pytest.mark.parametrize(
    "command",
    [["info"], ["evaluate", "reviews.csv", "--report", "r.json"]],
    ids=["info", "evaluate"],
)
def test_a_model_is_read_once(
    command: list[str],
    folder: Path,
    whole: bytes,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What is said of a file is said of the bytes that were read, whoever replaces it."""
    monkeypatch.chdir(folder)
    Path("new.safetensors").write_bytes(whole)
    opened = []
    open_regular = storage._open_regular

    def counted(path: Path) -> BinaryIO:
        opened.append(path)
        return open_regular(path)

    monkeypatch.setattr(storage, "_open_regular", counted)
    assert main([command[0], "new.safetensors", *command[1:]]) == 0
    assert opened == [Path("new.safetensors")]
    said = capsys.readouterr().out if command[0] == "info" else Path("r.json").read_text()
    assert hashlib.sha256(whole).hexdigest() in said
