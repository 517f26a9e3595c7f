"""What the import contracts cannot see, and what is written down in two places."""

from __future__ import annotations

import ast
import importlib.machinery
import importlib.metadata
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import tidegate
from tidegate import _kernels

REPOSITORY = Path(__file__).parent.parent
PACKAGE = REPOSITORY / "src" / "tidegate"


def read(name: str) -> str:
    return (REPOSITORY / name).read_text(encoding="utf-8")


def test_only_what_checks_reaches_the_compiled_module() -> None:
    # import-linter reads Python files alone and takes a compiled module for the whole package.
    reaching = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = {alias.name for alias in node.names}
                names.add(getattr(node, "module", None) or "")
                if any(name.split(".")[-1] == "_kernels" for name in names):
                    reaching.add(path.relative_to(PACKAGE).as_posix())
    ops = {path.name for path in (PACKAGE / "ops").glob("*.py")} - {"__init__.py"}
    others = {"contexts.py", "ngrams.py", "sequence.py", "text.py"}
    assert reaching == others | {f"ops/{name}" for name in ops}


def test_the_version_is_the_same_everywhere() -> None:
    written = re.search(r'^version = "(.+)"$', read("pyproject.toml"), re.MULTILINE)
    assert written is not None
    assert tidegate.__version__ == written[1]


@pytest.mark.parametrize("name", read("scripts/kernel-tests").split())
def test_the_listed_kernel_tests_exist(name: str) -> None:
    assert (REPOSITORY / name).is_file()


def test_every_build_has_scalar_kernels() -> None:
    assert _kernels.available()[-1] == "scalar"


# --- the stable ABI: from Python 3.12 on, one wheel serves all versions --------------------------

CMAKE_VERSIONS = {
    "CMakeLists.txt": r"cmake_minimum_required\(VERSION ([\d.]+)\)",
    "pyproject.toml": r'cmake\.version = ">=([\d.]+)"',
    "scripts/neon": r"'cmake>=([\d.]+)'",
    "scripts/sanitizers": r"'cmake>=([\d.]+)'",
}


@pytest.mark.parametrize("name", CMAKE_VERSIONS)
def test_cmake_is_new_enough_for_the_stable_abi(name: str) -> None:
    """Before 3.26 it has no Development.SABIModule, and nanobind builds for one version alone."""
    versions = re.findall(CMAKE_VERSIONS[name], read(name))
    assert [tuple(map(int, version.split("."))) for version in versions] == [(3, 26)]


def has_stable_abi() -> bool:
    """Whether this Python gets the abi3 wheel: nanobind's needs 3.12, and the interpreter lock."""
    free_threaded = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
    return sys.version_info >= (3, 12) and not free_threaded


def test_the_wheel_s_tag_fits_python() -> None:
    wheel = importlib.metadata.distribution("tidegate").read_text("WHEEL")
    assert wheel is not None
    interpreter, abi = re.findall(r"^Tag: ([^-\n]+)-([^-\n]+)-.+$", wheel, re.MULTILINE)[0]
    here = f"cp{sys.version_info.major}{sys.version_info.minor}"
    if has_stable_abi():
        assert (interpreter, abi) == ("cp312", "abi3")
    else:
        assert interpreter == here
        assert abi in (here, f"{here}t")


def test_the_compiled_module_s_name_fits_the_wheel_s_tag() -> None:
    """nanobind names the file by how it compiled it, whatever the tag says."""
    assert _kernels.__file__ is not None
    suffix = Path(_kernels.__file__).name.removeprefix("_kernels")
    # The first of them is for this version of Python alone.
    expected = ".abi3.so" if has_stable_abi() else importlib.machinery.EXTENSION_SUFFIXES[0]
    assert suffix == expected


# --- compilers and processors ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["README.md", "CONTRIBUTING.md", "pyproject.toml", "CMakeLists.txt"]
)
def test_the_oldest_compilers_are_the_same_everywhere(name: str) -> None:
    oldest = dict(re.findall(r"set\(TIDEGATE_OLDEST_(\w+) (\d+)", read("CMakeLists.txt")))
    text = re.sub(r"[\s\"]+", " ", read(name))
    assert f"g++ {oldest['GNU']}, clang {oldest['Clang']} (Xcode 13.3) or newer" in text
    assert set(re.findall(r"g\+\+ (\d+)", text)) == {oldest["GNU"]}


PROCESSORS = {
    # CMAKE_SYSTEM_PROCESSOR, CMAKE_OSX_ARCHITECTURES (None: not on macOS): what is built for
    ("x86_64", None): "x86",
    ("AMD64", None): "x86",
    ("aarch64", None): "arm",
    ("riscv64", None): "other",
    ("x86_64", ""): "x86",
    ("arm64", ""): "arm",
    ("arm64", "x86_64"): "x86",
    ("x86_64", "arm64"): "arm",
    ("arm64", "arm64"): "arm",
    ("arm64", "x86_64h"): "x86",
}


def target_processor(
    tmp_path: Path, machine: str, architectures: str | None
) -> subprocess.CompletedProcess[str]:
    cmake = shutil.which("cmake")
    if cmake is None:
        pytest.skip("cmake is not installed")
    script = tmp_path / "script.cmake"
    script.write_text(
        f"include({(REPOSITORY / 'cmake' / 'TargetProcessor.cmake').as_posix()})\n"
        f"set(CMAKE_SYSTEM_PROCESSOR {machine})\n"
        f"set(APPLE {architectures is not None})\n"
        f'set(CMAKE_OSX_ARCHITECTURES "{architectures or ""}")\n'
        "tidegate_target_processor(processor)\n"
        'message("${processor}")\n',
        encoding="utf-8",
    )
    return subprocess.run(
        [cmake, "-P", str(script)], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(("machine", "architectures"), PROCESSORS)
def test_kernels_are_chosen_for_what_is_built(
    tmp_path: Path, machine: str, architectures: str | None
) -> None:
    done = target_processor(tmp_path, machine, architectures)
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip() == PROCESSORS[machine, architectures]


def test_a_universal_build_is_refused(tmp_path: Path) -> None:
    done = target_processor(tmp_path, "arm64", "x86_64;arm64")
    assert done.returncode != 0
    assert "build a wheel for each" in " ".join(done.stderr.split())


def test_macos_11_is_the_default_target_and_the_environment_s_wins() -> None:
    lines = read("CMakeLists.txt").splitlines()
    target = next(i for i, line in enumerate(lines) if "set(CMAKE_OSX_DEPLOYMENT_TARGET" in line)
    assert lines[target].split()[1:3] == ["11.0", "CACHE"]
    assert lines[target - 1] == "if(NOT DEFINED ENV{MACOSX_DEPLOYMENT_TARGET})"
    # CMake has decided once project() has run.
    assert target < next(i for i, line in enumerate(lines) if line.startswith("project("))
