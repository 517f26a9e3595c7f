"""docs/lecture.md: its commands run, and its step by hand adds up. (Snippets: test_docs.py.)"""

from __future__ import annotations

import json
import math
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LECTURE = (ROOT / "docs" / "lecture.md").read_text(encoding="utf-8")


def _commands() -> list[str]:
    blocks = re.findall(r"^( *)```sh\n(.*?)^\1```", LECTURE, flags=re.MULTILINE | re.DOTALL)
    return [line.strip() for _, block in blocks for line in block.splitlines()]


# Small and short, and a folder of 40 texts for imdb, which is taken whole or not at all: what
# counts is that each line is understood and does its work.
SMALLER = {
    "train": "--preset lecture --epochs 1 --hidden-size 4",
    "compare": "--preset lecture --epochs 1 --seeds 1 --set hidden_size=4 --threads 1",
}


def _run(command: str, folder: Path) -> str:
    program, name, *rest = shlex.split(command)
    assert program == "tidegate"
    texts = "aclImdb/test" if name == "evaluate" else "aclImdb/train"
    rest = [texts if word == "imdb" else word for word in rest]
    done = subprocess.run(
        [sys.executable, "-m", "tidegate", name, *rest, *SMALLER.get(name, "").split()],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), command
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the lecture's model is, of a job with 40 texts instead of 50,000."""
    folder = tmp_path_factory.mktemp("lecture")
    for number in range(20):
        for text, label in (("what a lovely film", "pos"), ("the plot is a dull mess", "neg")):
            for part in ("train", "test"):
                file = folder / "aclImdb" / part / label / f"{number}.txt"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(f"{text} {number}", encoding="utf-8")
    assert "32 training and 8 validation texts" in _run(JOB, folder)
    return folder


JOB = "tidegate train imdb -o lecture.safetensors"


def test_the_job_is_among_the_commands() -> None:
    assert JOB in _commands()


@pytest.mark.parametrize("command", [command for command in _commands() if command != JOB])
def test_commands_run(command: str, folder: Path) -> None:
    needed = re.findall(r"info (\S+)", command)
    for name in needed:
        # Trained by the line before it, which this test may run without.
        if not (folder / name).exists():
            _run(f"tidegate train imdb -o {name}", folder)
    before = set(folder.iterdir())
    printed = _run(command, folder)
    assert printed or set(folder.iterdir()) > before
    for written in re.findall(r"(?:-o|--report|--html|--markdown) (\S+)", command):
        assert (folder / written).stat().st_size > 0
        (folder / written).unlink()


def _table(name: str) -> str:
    found = re.search(
        rf"<!-- table: {name} begin -->\n(.*?)<!-- table: {name} end -->", LECTURE, flags=re.DOTALL
    )
    assert found is not None
    return found[1]


def test_the_step_by_hand_adds_up_as_it_stands_there() -> None:
    rows = [line.strip("| ").split(" | ") for line in _table("lecture-step").splitlines()[2:5]]
    gates = {row[0]: [float(number) for number in row[1:]] for row in rows}
    rounding = 3e-4
    for name in ("update", "reset"):
        *terms, value = gates[name]
        assert 1 / (1 + math.exp(-sum(terms))) == pytest.approx(value, abs=rounding)
    update, reset = gates["update"][-1], gates["reset"][-1]
    w, u, b, second, candidate = gates["candidate"]
    assert math.tanh(w + b + reset * (u + second)) == pytest.approx(candidate, abs=rounding)
    lines = _table("lecture-step").splitlines()
    (previous,) = re.findall(r"before: h = (\S+)", _table("lecture-step"))
    (state,) = re.findall(r"= (-?[\d.]+)$", lines[-1])
    assert (1 - update) * float(previous) + update * candidate == pytest.approx(
        float(state), abs=rounding
    )
    # The numbers in the equations are those of the table.
    written = re.findall(r"-?\d\.\d{4}", "".join(lines[7:]))
    for *terms, value in gates.values():
        assert {f"{number:.4f}" for number in (*terms, value)} <= set(written)


def test_the_tables_are_those_of_the_results() -> None:
    done = subprocess.run(
        [sys.executable, "benchmarks/tables.py", "--check", "--document", "docs/lecture.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_output_of_the_job_is_that_of_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    parts = [
        re.search(r"<!-- main job: begin -->\n(.*?)<!-- main job: end -->", text, flags=re.DOTALL)
        for text in (readme, LECTURE)
    ]
    assert parts[0] is not None
    assert parts[1] is not None
    assert parts[0][1].replace("```text", "```console") == parts[1][1]


def test_what_is_said_of_the_gates_is_so() -> None:
    """The sentences around the picture, by the numbers that it was drawn with."""
    path = ROOT / "benchmarks" / "results" / "lecture_gates.json"
    result = json.loads(path.read_text(encoding="utf-8"))
    found = result["summary"]
    gates = found["gates"]
    moved = dict(zip(gates["tokens"], gates["moved"], strict=True))
    ranked = sorted(moved, key=lambda token: -moved[token])
    assert ranked[:2] == ["dull", "wonderful"]
    assert max(gates["mean_update"]) - min(gates["mean_update"]) < 0.15
    assert gates["probabilities"][-1] < 0.5
    far = found["far_back"]
    assert far["gru"]["untrained"] < far["lstm"]["untrained"] < 1e-3 < far["rnn"]["untrained"]
    left: dict[str, list[float]] = {}
    for run in result["runs"]:
        left.setdefault(run["cell"], []).append(run["shares"]["trained"][-1])
    assert min(left["gru"]) > 0.1 > max(left["lstm"])
    # Of the plain RNN: one with nearly all, one with nearly nothing, and one that learnt nothing.
    assert [share > 0.1 for share in left["rnn"]].count(True) == 1
    assert min(left["rnn"]) < 1e-8
    assert [accuracy > 0.99 for accuracy in far["rnn"]["accuracies"]].count(False) == 1
