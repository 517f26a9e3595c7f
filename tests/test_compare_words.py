"""A comparison's sentences say what its numbers say."""

from __future__ import annotations

from typing import Any

import pytest

from tidegate.compare import words
from tidegate.compare.figures import duration
from tidegate.compare.page import page
from tidegate.compare.words import fading_words, method, scattered, setting


def network(model: str, initial: float, trained: list[float], **others: Any) -> dict[str, Any]:
    """A row of whose gradients these shares are left, of the median text of each seed."""
    middle = sorted(trained)[len(trained) // 2]
    stages = {
        "initial": {"median": [1.0, initial], "seeds": [[1.0, initial]] * len(trained)},
        "trained": {"median": [1.0, middle], "seeds": [[1.0, share] for share in trained]},
    }
    rest = {"texts": 9, "distances": [0, 7]}
    row: dict[str, Any] = {
        "model": model,
        "label": model.upper(),
        "kind": "network",
        "failure": None,
    }
    row |= {"epochs": 3, "precision": "float32"}
    return row | {"gradients": {name: stage | rest for name, stage in stages.items()}} | others


def report_of(*rows: dict[str, Any], **plan: Any) -> dict[str, Any]:
    whole: dict[str, Any] = {
        "preset": "fast",
        "options": {},
        "budget": None,
        "seeds": 3,
        "first_seed": 4,
    }
    return {
        "tidegate": "1.2.3",
        "machine": {"isa": "avx2", "threads": 1, "architecture": "x86_64"},
        "texts": {"train": 4_000, "validation": 1_000, "validation_shared": True, "test": 2_000}
        | {"guessing": 0.5},
        "plan": whole | {"pooling": "last"} | plan,
        "models": list(rows),
        "tests": [],
        "seconds": 145.1,
    }


def test_models_that_are_right_on_the_same_texts_have_no_interval() -> None:
    numbers = {"difference": 0.0, "interval": [0.0, 0.0], "p": 1.0, "p_holm": 1.0}
    pair = {"first": "gru", "second": "rnn", **numbers}
    report = report_of(network("gru", 0.1, [0.1]), network("rnn", 0.1, [0.1]))
    same = {**pair, "first_only": [0, 0], "second_only": [0, 0]}
    said = words.test_words(report, same)
    assert said == "GRU against RNN: the same texts are right, in every seed"
    swapped = {**pair, "first_only": [3, 0], "second_only": [0, 3]}
    said = words.test_words(report, swapped)
    assert "+0.00 points (+0.00 to +0.00), p 1.0000 after Holm" in said


def test_what_is_left_of_the_gradient_is_told_with_what_the_seeds_say() -> None:
    gru, rnn = network("gru", 1e-9, [0.02, 0.03, 0.07]), network("rnn", 0.4, [2e-9, 0.5, 1e-16])
    first, apart, before = fading_words(report_of(gru, rnn))
    assert "Over 9 long test texts, its norm 7 steps before the end" in first
    assert "GRU 0.03 (seeds from 0.02 to 0.07), RNN 2·10⁻⁹ (seeds from 1·10⁻¹⁶ to 0.5)." in first
    assert apart.startswith("The seeds of the RNN are orders of magnitude apart")
    assert before.startswith("Before training it is the other way round")
    # One seed has no range.
    (first,) = fading_words(report_of(network("rnn", 0.4, [0.5]), seeds=1))
    assert first.endswith("after training: RNN 0.5.")


@pytest.mark.parametrize(
    "rows",
    [
        [network("gru", 1e-9, [0.02])],
        [network("gru", 0.5, [0.6]), network("rnn", 0.4, [1e-9])],  # gates that begin open
        [network("gru", 1e-9, [1e-10]), network("rnn", 0.4, [1e-9])],  # that stay closed
        [network("gru", 1e-9, [0.1]), network("lstm", 0.5, [0.9]), network("rnn", 0.4, [0.1])],
    ],
)
def test_gates_are_said_to_open_only_where_they_do(rows: list[dict[str, Any]]) -> None:
    assert not any("other way round" in line for line in fading_words(report_of(*rows)))
    assert any(
        "pool their states" in line for line in fading_words(report_of(*rows, pooling="max"))
    )


def test_seeds_that_lie_far_apart_are_named() -> None:
    def tested(interval: tuple[float, float], seeds: list[float]) -> list[str]:
        given = {
            "test": {"accuracy": 0.8, "interval": interval},
            "seeds": [{"test_accuracy": share} for share in seeds],
        }
        return scattered(report_of(network("rnn", 0.1, [0.1], **given)))

    # By 2,000 texts alone the interval is 3.5 points wide.
    assert tested((0.75, 0.85), [0.79, 0.81]) == []
    (told,) = tested((0.7, 0.9), [0.75, 0.85])
    assert told.startswith(
        "RNN: its seeds lie far apart on the test texts, from 75.00 % to 85.00 %"
    )


def test_the_method_is_that_of_the_seeds_and_tests() -> None:
    report = report_of()
    assert method(report)[0].endswith("intervals and tests allow for both (Student's t).")
    one = method(report_of(seeds=1) | {"tests": [{}]})
    assert one[0].startswith("One seed says nothing of what another would give")
    assert one[0].endswith("another test set alone. p-values are two-sided.")
    assert len(one) == 2
    assert "Of 5 tests one may well find" in method(report | {"tests": [{}] * 5})[1]


def test_the_setting_tells_lengths_and_seeds() -> None:
    gru, lstm = network("gru", 0.1, [0.1]), network("lstm", 0.1, [0.1], epochs=2)
    assert dict(setting(report_of(gru))) == {
        "parts": "4,000 texts to train on, 1,000 to choose by, 2,000 to test on",
        "networks": "preset fast, 3 epochs each, 3 seeds, 4 to 6",
        "machine": "x86_64, instructions avx2, 1 thread, float32",
        "made by": "tidegate 1.2.3 in 2 min 25 s",
    }
    told = dict(setting(report_of(gru, lstm, budget=9.5, seeds=1)))["networks"]
    assert told == "preset fast, 9.5 s of training in whole epochs (GRU 3, LSTM 2), seed 4"
    assert [duration(value) for value in (0.4, 59.6, 3_599.0, 3_780.0)] == [
        *("0 s", "1 min 0 s", "59 min 59 s", "1 h 3 min")
    ]


def test_a_comparison_of_nothing_still_has_its_page() -> None:
    assert "<p>No model could be trained" in page(report_of() | {"choice": None})
