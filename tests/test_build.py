"""What the import contracts cannot see, and what is written down in two places."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import tidegate
from tidegate import _kernels

REPOSITORY = Path(__file__).parent.parent
PACKAGE = REPOSITORY / "src" / "tidegate"


def test_only_ops_reaches_the_compiled_module() -> None:
    # import-linter reads Python files alone and takes a compiled module for the whole package.
    reaching = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = {alias.name for alias in node.names}
                names.add(getattr(node, "module", None) or "")
                if any(name.split(".")[-1] == "_kernels" for name in names):
                    reaching.add(path.relative_to(PACKAGE).as_posix())
    assert reaching == {"ops.py"}


def test_the_version_is_the_same_everywhere() -> None:
    written = re.search(
        r'^version = "(.+)"$', (REPOSITORY / "pyproject.toml").read_text(), re.MULTILINE
    )
    assert written is not None
    assert tidegate.__version__ == written[1]


@pytest.mark.parametrize("name", (REPOSITORY / "scripts" / "kernel-tests").read_text().split())
def test_the_listed_kernel_tests_exist(name: str) -> None:
    assert (REPOSITORY / name).is_file()


def test_every_build_has_scalar_kernels() -> None:
    assert _kernels.available()[-1] == "scalar"
