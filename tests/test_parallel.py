"""Threads: several callers, forks, denormals, and what the environment says."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tidegate import ops
from tidegate.batch import TokenizedTexts
from tidegate.errors import ConfigError
from tidegate.layers import Gradients
from tidegate.model import ModelConfig, TextModel

Float32 = npt.NDArray[np.float32]

pytestmark = pytest.mark.usefixtures("restored_threads")

CONFIG = ModelConfig(
    cell="lstm", vocabulary_size=300, embedding_size=24, hidden_size=40, max_length=30
)


def make_texts(seed: int, rows: int = 50) -> TokenizedTexts:
    generator = np.random.default_rng(seed)
    return TokenizedTexts.from_rows(
        [generator.integers(1, 300, length) for length in generator.integers(0, 40, rows)]
    )


def one_step(model: TextModel, texts: TokenizedTexts) -> dict[str, Any]:
    """Logits and the dense parameters' gradients."""
    batch = model.pack(texts, np.arange(len(texts)))
    logits, backward = model(batch)
    gradients: Gradients = {}
    backward(np.ones_like(logits), gradients)
    dense = {name: value for name, value in gradients.items() if isinstance(value, np.ndarray)}
    return {"logits": logits, **dense}


def assert_same(given: dict[str, Any], expected: dict[str, Any]) -> None:
    assert given.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(given[name], values, err_msg=name)


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_several_callers_at_once_get_right_results(isa: str, threads: int) -> None:
    """They share one model; one of them has the pool, the others work alone."""
    model = TextModel.initialize(CONFIG, 0)
    inputs = [make_texts(seed) for seed in range(4)]
    ops.set_threads(1)
    expected = [one_step(model, texts) for texts in inputs]
    ops.set_threads(threads)
    start = threading.Barrier(4)

    def caller(number: int) -> None:
        start.wait(timeout=60)
        for turn in range(12):
            which = (number + turn) % 4
            assert_same(one_step(model, inputs[which]), expected[which])

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(caller, number) for number in range(4)]:
            done.result(timeout=120)


def test_changing_the_number_of_threads_while_others_compute() -> None:
    model, texts = TextModel.initialize(CONFIG, 0), make_texts(1)
    expected = one_step(model, texts)
    stop = threading.Event()

    def change() -> None:
        count = 0
        while not stop.is_set():
            count = count % 5 + 1
            ops.set_threads(count)

    changer = threading.Thread(target=change)
    changer.start()
    try:
        for _ in range(40):
            assert_same(one_step(model, texts), expected)
    finally:
        stop.set()
        changer.join()


# --- fork --------------------------------------------------------------------------------------


def fork_and_run(body: Callable[[], bool]) -> int:
    """The exit status of a forked child: 0 if ``body`` returns True there."""
    with warnings.catch_warnings():
        # Python 3.12 warns of every fork with threads; being safe then is what is tested.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.alarm(60)  # a deadlock ends the child, not the test run
            status = 0 if body() else 2
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.parametrize("threads", [2, 3])
def test_a_forked_child_computes(threads: int) -> None:
    ops.set_threads(threads)
    model, texts = TextModel.initialize(CONFIG, 0), make_texts(2)
    expected = one_step(model, texts)

    def child() -> bool:
        assert_same(one_step(model, texts), expected)
        return ops.threads() == threads

    def grandchild() -> bool:
        return child() and fork_and_run(child) == 0

    assert fork_and_run(child) == 0
    assert fork_and_run(grandchild) == 0
    assert_same(one_step(model, texts), expected)  # the parent's own workers are unharmed


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_fork_in_the_middle_of_another_thread_s_work() -> None:
    ops.set_threads(2)
    model, texts = TextModel.initialize(CONFIG, 0), make_texts(3)
    expected = one_step(model, texts)
    stop = threading.Event()

    def work() -> None:
        own = TextModel.initialize(CONFIG, 0)
        while not stop.is_set():
            one_step(own, texts)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        for _ in range(5):

            def child() -> bool:
                assert_same(one_step(model, texts), expected)
                return True

            assert fork_and_run(child) == 0
    finally:
        stop.set()
        worker.join()


# --- denormals ---------------------------------------------------------------------------------


def denormals_live() -> bool:
    """Whether this thread still computes with denormals, on either side of an operation."""
    tiny = np.full(40, 1e-40, np.float32)
    made = np.full(40, 1e-20, np.float32) * np.full(40, 1e-20, np.float32)
    return bool((tiny * np.float32(1) > 0).all() and (made > 0).all())


@pytest.mark.parametrize("threads", [1, 2])
def test_the_caller_s_denormals_survive_every_kernel(isa: str, threads: int) -> None:
    assert denormals_live()
    ops.set_threads(threads)
    one_step(TextModel.initialize(CONFIG, 0), make_texts(4))
    assert denormals_live()
    ops.sum_of_squares(np.ones(100_000, np.float32))
    assert denormals_live()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(one_step, TextModel.initialize(CONFIG, 0), make_texts(4)).result()
        assert pool.submit(denormals_live).result()


@pytest.mark.parametrize("threads", [1, 4])
def test_denormals_are_flushed_inside_kernels_on_every_thread(isa: str, threads: int) -> None:
    ops.set_threads(threads)
    count = 200_000  # several tasks
    fading = np.full(count, 1e-40, np.float32)
    zeros = [np.zeros(count, np.float32) for _ in range(3)]
    rates = np.zeros(2, np.float32)
    ops.adam_dense(zeros[0], zeros[1], fading, zeros[2], rates, 1, ops.AdamSettings())
    np.testing.assert_array_equal(fading, np.zeros(count))


# --- limits and the environment ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "message"),
    [
        (0, "threads=0 is not between 1 and 256"),
        (-3, "threads=-3 is not between 1 and 256"),
        (257, "threads=257 is not between 1 and 256"),
        (10**30, "is not between 1 and 256"),
        (2.0, r"threads=2\.0 is not a whole number"),
        ("2", "threads='2' is not a whole number"),
        (True, "threads=True is not a whole number"),
    ],
)
def test_numbers_of_threads_that_are_refused(count: Any, message: str) -> None:
    before = ops.threads()
    with pytest.raises(ConfigError, match=message):
        ops.set_threads(count)
    assert ops.threads() == before


def test_numpy_s_whole_numbers_are_whole_numbers() -> None:
    ops.set_threads(np.int64(2))  # type: ignore[arg-type]
    assert ops.threads() == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_as_many_threads_as_there_may_be() -> None:
    model, texts = TextModel.initialize(CONFIG, 0), make_texts(5)
    expected = one_step(model, texts)

    def child() -> bool:  # of its own, so that 255 workers do not stay for the other tests
        ops.set_threads(256)
        assert_same(one_step(model, texts), expected)
        return ops.threads() == ops.MAX_THREADS == 256

    assert fork_and_run(child) == 0


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ("TIDEGATE_THREADS", "TIDEGATE_ISA")
    }
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**kept, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


SHOW = "from tidegate import ops; print(ops.isa(), ops.threads())"


OUT_OF_MEMORY = """
import resource, sys
import numpy as np
from tidegate import ops
from tidegate.batch import TokenizedTexts
from tidegate.model import ModelConfig, TextModel

ops.set_threads(2)
config = ModelConfig(
    vocabulary_size=100, embedding_size=16, hidden_size=16, max_length=100_000, masked=True
)
model = TextModel.initialize(config, 0, "{precision}")
model.freeze()
generator = np.random.default_rng(0)
def texts(count, tokens):
    return TokenizedTexts.from_rows(list(generator.integers(1, 100, (count, tokens))))
few, many = texts(8, 50), texts(128, 20_000)
expected = model.predict_logits(few)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
unlimited = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (used + {megabytes} * 2**20, unlimited[1]))
try:
    model.predict_logits(many)
    print("enough")
except MemoryError:
    print("MemoryError")
resource.setrlimit(resource.RLIMIT_AS, unlimited)
assert (model.predict_logits(few) == expected).all()
def used_ticks():
    import os
    folder = "/proc/self/task/"
    stats = [open(folder + task + "/stat").read() for task in os.listdir(folder)]
    return sorted((int(stat.rsplit(")", 1)[1].split()[11]) for stat in stats), reverse=True)
before = used_ticks()
while used_ticks()[1] < before[1] + 5:  # the second thread works too
    model.predict_logits(many)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits memory as Linux does")
@pytest.mark.skipif(
    "asan" in os.environ.get("LD_PRELOAD", "") or "TIDEGATE_EMULATED" in os.environ,
    reason="the sanitizer or the emulator takes memory of its own",
)
@pytest.mark.parametrize("precision", ops.PRECISIONS)
def test_a_region_without_memory_is_an_error_and_no_more(precision: str) -> None:
    """Whichever thread it happens to; the pool goes on with all of its threads."""
    outcomes = set()
    for megabytes in (2, 6, 12):
        done = python(OUT_OF_MEMORY.format(precision=precision, megabytes=megabytes))
        assert done.returncode == 0, done.stderr
        outcomes.add(done.stdout.strip())
    assert "MemoryError" in outcomes


def test_objects_held_at_the_end_are_not_reported() -> None:
    """By a thread that still runs, as in a server or a notebook."""
    done = python(
        """
import threading, time
from tidegate.model import ModelConfig, TextModel
def hold():
    model = TextModel.initialize(ModelConfig(vocabulary_size=9, hidden_size=8), 0)
    model.freeze()
    ready.set()
    time.sleep(60)
    print(model)
ready = threading.Event()
threading.Thread(target=hold, daemon=True).start()
ready.wait()
"""
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_environment_sets_threads_and_instruction_set() -> None:
    done = python(SHOW, TIDEGATE_THREADS="3", TIDEGATE_ISA="scalar")
    assert done.stdout.split() == ["scalar", "3"], done.stderr


def test_without_it_the_best_and_every_usable_processor() -> None:
    done = python(SHOW, TIDEGATE_THREADS="", TIDEGATE_ISA="")
    usable = min(ops.usable_processors(), 256)
    assert done.stdout.split() == [ops.available_isas()[0], str(usable)], done.stderr


def test_only_processors_that_the_process_may_use_count(tmp_path: Path) -> None:
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    limits = {"max 100000": found, "100000 100000": 1, "1000 100000": 1, "9" * 12 + " 1000": found}
    for text, expected in {**limits, "": found, "a b": found, "1 0": found}.items():
        (tmp_path / "cpu.max").write_text(text + "\n")
        assert ops.usable_processors(tmp_path / "cpu.max") == expected, text
    assert ops.usable_processors(tmp_path / "none") == found


@pytest.mark.parametrize(
    ("name", "value", "parts"),
    [
        (
            "TIDEGATE_THREADS",
            "two",
            ["TIDEGATE_THREADS='two'", "not a whole number", "from 1 to 256"],
        ),
        ("TIDEGATE_THREADS", "-1", ["TIDEGATE_THREADS='-1'", "not a whole number"]),
        ("TIDEGATE_THREADS", "0", ["THREADS", "='0' is not a whole number from 1 to 256"]),
        ("TIDEGATE_THREADS", "9" * 5_000, ["ConfigError", "TIDEGATE_THREADS"]),
        ("TIDEGATE_ISA", "avx9", ["TIDEGATE_ISA='avx9'", "is not one of", "scalar"]),
    ],
    ids=["word", "negative", "zero", "endless", "isa"],
)
def test_bad_environments_are_named(name: str, value: str, parts: list[str]) -> None:
    done = python("import tidegate.ops", **{name: value})
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("tidegate.errors.ConfigError: "), last
    for part in parts:
        assert part in last
