"""The machine: instruction sets, threads and precisions."""

from __future__ import annotations

import math
import os
import platform
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from tidegate import _kernels
from tidegate.errors import ConfigError, unknown_choice

MAX_THREADS: int = _kernels.MAX_THREADS

# Of the operands of the recurrent layer's matrix products; sums and all else are float32.
Precision = Literal["float32", "bf16x3", "bfloat16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


def choose_precision(asked: str) -> Precision:
    """What "auto", "float32", "bf16x3" or "bfloat16" means here. ConfigError for another one.

    "bfloat16" rounds the operands to 8 significant bits, which shows in the third digit of
    gradients. It is faster where the processor multiplies such numbers (AVX-512 BF16); elsewhere
    the same is computed without, somewhat slower than float32. "bf16x3" splits each operand into
    two such numbers and adds three products for each of float32's: outputs and gradients are within
    1e-4 of the largest, and most within 1e-5. It gains nothing without instructions that multiply
    such numbers more than three times as fast as float32. "auto" takes only what is as exact as
    float32, so it is float32, and stays so with AMX, whose speed nobody could measure yet.
    """
    if asked == "auto":
        return "float32"
    if asked not in PRECISIONS:
        raise unknown_choice("precision", asked, ("auto", *PRECISIONS))
    return asked


def check_precision(precision: str) -> None:
    """ConfigError unless it is one of PRECISIONS."""
    if precision not in PRECISIONS:
        raise unknown_choice("precision", precision, PRECISIONS)


def available_isas() -> tuple[str, ...]:
    """The instruction sets that this machine and build can run, best first."""
    return tuple(_kernels.available())


def emulated_isas() -> tuple[str, ...]:
    """AMX with emulated tiles: slow, never chosen unless by name, to test its kernels anywhere."""
    return tuple(_kernels.emulated())


def isa(precision: Precision | None = None) -> str:
    """The instruction set in use; with a precision, what its products really use of it."""
    return _kernels.active() if precision is None else _kernels.table_for(precision)


def use_isa(name: str) -> None:
    """Use the given instruction set from now on. ConfigError if the machine lacks it."""
    if not isinstance(name, str) or not _kernels.use(name):
        raise unknown_choice("TIDEGATE_ISA", name, available_isas())


def threads() -> int:
    """How many threads compute."""
    return int(_kernels.threads())


def set_threads(count: int) -> None:
    """Compute on ``count`` threads from now on, the calling one included."""
    if isinstance(count, bool) or not isinstance(count, (int, np.integer)):
        raise ConfigError(f"threads={count!r} is not a whole number")
    if not 1 <= count <= _kernels.MAX_THREADS:
        raise ConfigError(f"threads={count} is not between 1 and {_kernels.MAX_THREADS}")
    _kernels.set_threads(int(count))


def machine_info() -> dict[str, str | int]:
    """What computes: instruction set, threads, processor architecture."""
    return {
        "isa": isa(),
        "threads": threads(),
        "architecture": platform.machine(),
    }


def usable_processors(cgroup: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """How many processors this process may use; a container or taskset may have cut them."""
    count = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    try:  # processor time and period in microseconds, or "max" for no limit
        time, period = cgroup.read_text().split()
        return min(count, max(1, math.ceil(int(time) / int(period))))
    except (OSError, ValueError, ZeroDivisionError):
        return count


def _configure_from_environment() -> None:
    forced = os.environ.get("TIDEGATE_ISA")
    if forced:
        use_isa(forced)
    asked = os.environ.get("TIDEGATE_THREADS")
    if not asked:
        set_threads(min(usable_processors(), MAX_THREADS))
    elif asked.isascii() and asked.isdigit() and len(asked) < 9 and 1 <= int(asked) <= MAX_THREADS:
        set_threads(int(asked))
    else:
        shown = asked if len(asked) <= 20 else asked[:20] + "..."
        raise ConfigError(
            f"TIDEGATE_THREADS={shown!r} is not a whole number from 1 to {MAX_THREADS}"
        )


_configure_from_environment()
