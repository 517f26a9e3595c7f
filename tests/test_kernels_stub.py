"""_kernels.pyi says what the compiled module has: names, arguments and array types."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import tidegate
from tidegate import _kernels

STUB = ast.parse((Path(tidegate.__file__).parent / "_kernels.pyi").read_text(encoding="utf-8"))

# nanobind's word for an array's type (stripped of what all have in common), and the stub's.
ARRAYS = {
    "dtype=float32, shape=(*)": "_Floats",
    "dtype=float32, shape=(*, *)": "_FloatRows",
    "dtype=int32, shape=(*)": "_Int32s",
    "dtype=int32, shape=(*, *)": "_Int32Rows",
    "dtype=int64, shape=(*)": "_Int64s",
    "dtype=float64, shape=(*)": "_Float64s",
}


def functions(body: list[ast.stmt], prefix: str = "") -> dict[str, ast.FunctionDef]:
    found = {}
    for node in body:
        if isinstance(node, ast.FunctionDef):
            found[prefix + node.name] = node
        elif isinstance(node, ast.ClassDef):
            found.update(functions(node.body, f"{node.name}."))
    return found


WRITTEN = functions(STUB.body)


def compiled_signature(name: str) -> ast.FunctionDef:
    """What nanobind made of the C++ types, with the stub's names for arrays."""
    found: object = _kernels
    for part in name.split("."):
        found = getattr(found, part)
    ((signature, *_),) = found.__nb_signature__  # type: ignore[attr-defined]
    signature = re.sub(
        r"ndarray\[(.*?), order='C', device='cpu'(?:, writable=False)?\]",
        lambda match: ARRAYS[match[1]],
        signature,
    )
    (node,) = ast.parse(f"{signature}: ...").body
    assert isinstance(node, ast.FunctionDef)
    return node


def test_the_stub_names_what_the_module_has() -> None:
    names = {name for name in dir(_kernels) if not name.startswith("__")}
    classes = {node.name for node in STUB.body if isinstance(node, ast.ClassDef)}
    values = {
        node.target.id
        for node in STUB.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    aliases = {name for name in values if name.startswith("_")}
    assert aliases == set(ARRAYS.values())
    outside = {name for name in WRITTEN if "." not in name}
    assert outside | classes | (values - aliases) == names
    for name in classes:
        members = {
            member
            for member, value in vars(getattr(_kernels, name)).items()
            if hasattr(value, "__nb_signature__")
        }
        in_stub = {other for other in WRITTEN if other.startswith(f"{name}.")}
        assert {f"{name}.{member}" for member in members} == in_stub


@pytest.mark.parametrize("name", WRITTEN)
def test_arguments_and_results_are_those_of_the_module(name: str) -> None:
    written, compiled = WRITTEN[name], compiled_signature(name)
    assert ast.unparse(written.args) == ast.unparse(compiled.args)
    assert written.returns is not None
    assert compiled.returns is not None
    if ast.unparse(compiled.returns) == "tuple":  # of what, C++ does not say
        assert ast.unparse(written.returns).startswith("tuple[")
    else:
        assert ast.unparse(written.returns) == ast.unparse(compiled.returns)
