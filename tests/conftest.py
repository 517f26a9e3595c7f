"""What all tests share: settings of hypothesis, instruction sets, threads, real data."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tidegate import ops

# Derandomised, so that the same code passes or fails the same way everywhere.
settings.register_profile("tidegate", database=None, deadline=None, derandomize=True)
settings.load_profile("tidegate")

_FORCED = os.environ.get("TIDEGATE_ISA")
_ISAS = (_FORCED,) if _FORCED else ops.available_isas()
_PRODUCT_ISAS = _ISAS if _FORCED else (*_ISAS, *ops.emulated_isas())
# Read here, before a test changes the environment.
_REAL_DATA = os.environ.get("TIDEGATE_DATA")


@pytest.fixture(params=_ISAS)
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs the test on each instruction set of the machine, or on TIDEGATE_ISA alone."""
    before = ops.isa()
    ops.use_isa(request.param)
    yield request.param
    ops.use_isa(before)


@pytest.fixture(params=_PRODUCT_ISAS)
def product_isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """The same for products of rounded numbers, which AMX with emulated tiles computes too."""
    before = ops.isa()
    ops.use_isa(request.param)
    yield request.param
    ops.use_isa(before)


@pytest.fixture
def restored_threads() -> Iterator[None]:
    """Lets the test change the number of threads."""
    before = ops.threads()
    yield
    ops.set_threads(before)


@pytest.fixture
def real_reviews() -> Path:
    """The IMDB archive or folder that TIDEGATE_DATA names; without it the test is skipped."""
    if not _REAL_DATA:
        pytest.skip("TIDEGATE_DATA does not name the IMDB archive or its unpacked folder")
    return Path(_REAL_DATA)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for files that hypothesis writes again and again."""
    return tmp_path_factory.mktemp("scratch")
