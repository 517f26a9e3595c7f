"""The README's commands and snippets do what it says."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

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
    assert (tmp_path / "model.safetensors").stat().st_size > 100_000
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
    assert len(outputs) == 6
    assert len(outputs[1].splitlines()) == 2
    judged = (tmp_path / "judged.csv").read_text(encoding="utf-8").splitlines()
    assert judged[0] == "id,text,label,probability"
    assert [line.split(",")[0] for line in judged[1:]] == ["1", "2"]
    assert outputs[3].count('"probabilities"') == 2
    assert "accuracy" in outputs[4]


DOCUMENTS = ["README.md", "CONTRIBUTING.md", "benchmarks/README.md"]
DOCUMENTS += sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_local_links_lead_somewhere(document: str) -> None:
    path = ROOT / document
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{document} links to {target}"
