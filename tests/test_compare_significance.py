"""Intervals and tests over seeds and texts, against tables, closed forms and simulation."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from tidegate.compare.choice import choose
from tidegate.compare.significance import (
    accuracy_of,
    compare_pairs,
    holm,
    student_p,
    student_quantile,
)
from tidegate.compare.words import advice
from tidegate.errors import ShapeError
from tidegate.intervals import mcnemar, wilson

Right = npt.NDArray[np.bool_]


def answers(share: float, texts: int, seed: int = 0) -> Right:
    return np.random.default_rng(seed).random(texts) < share


@pytest.mark.parametrize(
    ("freedom", "expected"),
    [(1, 12.7062047), (2, 4.30265273), (5, 2.57058184), (10, 2.22813885), (30, 2.04227246)],
)
def test_students_quantiles_are_those_of_the_tables(freedom: int, expected: float) -> None:
    assert student_quantile(freedom) == pytest.approx(expected, abs=1e-7)
    assert student_p(expected, freedom) == pytest.approx(0.05, abs=1e-8)


def test_students_distribution_between_and_beyond_the_tables() -> None:
    assert student_p(2.0, 10) == pytest.approx(0.0733880348, abs=1e-9)
    # Of two degrees of freedom there is a closed form, of one it is Cauchy's.
    assert student_p(-1.5, 2) == pytest.approx(1 - 1.5 / np.sqrt(2 + 1.5**2), abs=1e-12)
    assert student_p(3.0, 1) == pytest.approx(1 - 2 * np.arctan(3.0) / np.pi, abs=1e-12)
    assert student_quantile(1e7) == pytest.approx(1.959964, abs=1e-5)  # the normal one
    assert student_p(0.0, 3) == 1.0
    # A fractional one by summing up the density.
    t = np.linspace(1.2, 4000, 4_000_001)
    density = (1 + t * t / 2.5) ** -1.75

    def whole(y: npt.NDArray[np.float64], x: npt.NDArray[np.float64]) -> float:
        return float((0.5 * (y[1:] + y[:-1]) * np.diff(x)).sum())

    inside = np.linspace(0, 1.2, 100_001)
    tail, rest = whole(density, t), whole((1 + inside * inside / 2.5) ** -1.75, inside)
    assert student_p(1.2, 2.5) == pytest.approx(tail / (tail + rest), abs=2e-5)


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_one_seed_is_mcnemar_and_wilson() -> None:
    first, second = answers(0.8, 300, 1), answers(0.7, 300, 2)
    paired, expected = compare_pairs([first], [second], shared=True), mcnemar(first, second)
    assert (paired.p, paired.method) == (expected.mid_p, "mcnemar")
    assert paired.first_only == (expected.first_only,)
    assert paired.difference == pytest.approx(first.mean() - second.mean())
    assert paired.interval[0] < paired.difference < paired.interval[1]
    estimate = accuracy_of([first], shared=True)
    assert estimate.interval == wilson(int(first.sum()), 300)
    assert (estimate.spread, estimate.method) == (None, "wilson")


def test_seeds_that_answer_alike_count_as_one() -> None:
    """Three times the same answers say no more of other texts than once."""
    row = answers(0.8, 400)
    one, three = accuracy_of([row], shared=True), accuracy_of([row] * 3, shared=True)
    assert three.mean == one.mean
    assert three.spread == 0.0
    assert np.subtract(*three.interval) == pytest.approx(np.subtract(*one.interval), rel=0.02)
    other = answers(0.75, 400, 5)
    p = compare_pairs([row] * 3, [other] * 3, shared=True).p
    assert p == pytest.approx(mcnemar(row, other).mid_p, rel=0.2)


def test_the_variance_is_of_rows_and_columns_less_what_both_count() -> None:
    """By hand: seeds of 3 and 1 right of 4; texts right of 2, 1, 1 and 0 seeds."""
    table = [np.array([True, True, True, False]), np.array([True, False, False, False])]
    seeds = ((0.75 - 0.5) ** 2 + (0.25 - 0.5) ** 2) / 1 / 2
    texts = (0.5**2 + 0.5**2) / 3 / 4
    means = np.array(
        [[0.75 + c - 0.5 for c in (1, 0.5, 0.5, 0)], [0.25 + c - 0.5 for c in (1, 0.5, 0.5, 0)]]
    )
    twice = float(np.square(np.stack(table) - means).sum()) / 3 / 8
    variance = seeds + texts - twice
    freedom = variance**2 / (seeds**2 + texts**2 / 3 + twice**2 / 3)
    found = accuracy_of(table, shared=True)
    reach = student_quantile(freedom) * variance**0.5
    assert found.interval == (max(0.0, 0.5 - reach), min(1.0, 0.5 + reach))
    assert found.spread == pytest.approx(0.5**0.5 / 2)


def simulated(generator: np.random.Generator, seeds: int, texts: int) -> list[list[Right]]:
    """Two models, equally good: texts are hard or easy, and a seed is luckier with either."""
    hard = generator.normal(0.8, 0.25, texts)
    luck = generator.normal(0.0, 0.03, (2, seeds))
    return [[generator.random(texts) < hard + luck[m, s] for s in range(seeds)] for m in (0, 1)]


def test_of_equally_good_models_one_in_twenty_differs() -> None:
    generator = np.random.default_rng(3)
    ours, pooled, rounds = 0, 0, 300
    for _ in range(rounds):
        first, second = simulated(generator, 4, 500)
        ours += compare_pairs(first, second, shared=True).p < 0.05
        pooled += mcnemar(np.concatenate(first), np.concatenate(second)).mid_p < 0.05
    assert 0.01 < ours / rounds < 0.10
    assert pooled / rounds > 0.15  # what counting seeds times texts would say


def test_a_real_difference_is_found() -> None:
    first = [answers(0.90, 2000, s) for s in range(3)]
    second = [answers(0.80, 2000, 10 + s) for s in range(3)]
    found = compare_pairs(first, second, shared=True)
    assert found.p < 0.01
    assert found.interval[0] > 0.05
    reverse = compare_pairs(second, first, shared=True)
    assert reverse.difference == -found.difference
    assert reverse.p == pytest.approx(found.p)
    assert compare_pairs(first, first, shared=True).p == 1.0


def test_texts_of_each_seed() -> None:
    """Seeds may have different texts, and then as many as they like."""
    rows = [answers(0.8, 200 + s, s) for s in range(3)]
    found = accuracy_of(rows, shared=False)
    means = [row.mean() for row in rows]
    reach = student_quantile(2) * np.std(means, ddof=1) / 3**0.5
    assert found.method == "seeds"
    assert found.interval[1] - found.mean == pytest.approx(reach)
    # Means that are equal by chance don't make it certain.
    assert accuracy_of([answers(0.8, 200)] * 3, shared=False).interval[0] < 0.8 - 0.03


def test_answers_must_fit() -> None:
    with pytest.raises(ShapeError, match="as many of them"):
        accuracy_of([answers(0.5, 3), answers(0.5, 4)], shared=True)
    with pytest.raises(ShapeError, match="seed by seed"):
        compare_pairs([answers(0.5, 3)], [answers(0.5, 4)], shared=True)
    with pytest.raises(ShapeError, match="at least one"):
        accuracy_of([], shared=True)


def chosen(shares: dict[str, float], costs: dict[str, float], margin: float = 0.01) -> str:
    right = {name: [answers(share, 4000, 7)] for name, share in shares.items()}
    found = choose(right, costs, shared=True, margin=margin)
    assert found is not None
    return str(found["chosen"])


def test_the_cheapest_that_is_good_enough_is_chosen() -> None:
    costs = {"gru": 4.0, "lstm": 5.0, "linear": 1.0}
    # The same draws: of two shares, the higher one is right wherever the lower one is.
    assert chosen({"gru": 0.9, "lstm": 0.9, "linear": 0.9}, costs) == "linear"
    assert chosen({"gru": 0.9, "lstm": 0.9, "linear": 0.88}, costs) == "gru"
    # Within the margin, yet surely worse.
    assert chosen({"gru": 0.9, "lstm": 0.9, "linear": 0.892}, costs) == "gru"
    # Not surely worse: a margin is no finer than what the accuracy is measured with.
    assert chosen({"gru": 0.9, "linear": 0.8995}, costs) == "linear"
    assert chosen({"gru": 0.9, "linear": 0.8995}, costs, margin=0.0) == "linear"
    assert choose({}, {}, shared=True, margin=0.01) is None


def few_texts(wrong: dict[str, range], texts: int = 97) -> dict[str, list[Right]]:
    """Two seeds' answers, all right but those to the texts of these numbers."""
    right = {name: np.ones(texts, np.bool_) for name in wrong}
    for name, numbers in wrong.items():
        right[name][list(numbers)] = False
    return {name: [row, row] for name, row in right.items()}


@pytest.mark.parametrize("shared", [True, False])
def test_few_texts_do_not_make_a_dear_model_better(shared: bool) -> None:
    """Two texts of 97 are two points, and 20 right ones more or less are chance."""
    costs = {"gru": 4.0, "linear": 1.0}
    right = few_texts({"gru": range(20), "linear": range(10, 32)})
    found = choose(right, costs, shared=shared, margin=0.01)
    assert found is not None
    low, high = wilson(77, 97)
    assert found["uncertainty"] == pytest.approx((high - low) / 2)
    assert 0.07 < found["uncertainty"] < 0.09
    assert (found["best"], found["chosen"]) == ("gru", "linear")
    # Far behind, though two seeds' t-test alone could not tell.
    right = few_texts({"gru": range(20), "linear": range(10, 42)})
    right["linear"][0][70:80] = False  # seeds that differ
    found = choose(right, costs, shared=shared, margin=0.01)
    assert found is not None
    assert found["chosen"] == "gru"
    assert found["candidates"][1]["behind"] > found["uncertainty"]


def test_the_advice_says_how_sure_it_is() -> None:
    costs = {"gru": 4.0, "linear": 1.0}

    def said(right: dict[str, list[Right]], texts: int) -> list[str]:
        rows = [
            {
                "model": name,
                "label": name.upper(),
                "kind": "linear" if name == "linear" else "network",
                "failure": None,
                "test": {"accuracy": 0.8, "interval": (0.7, 0.9)},
            }
            for name in costs
        ]
        choice = choose(right, costs, shared=True, margin=0.01)
        plan = {"preset": "lecture", "budget": None, "options": {"epochs": 2, "keep": "a b"}}
        report = {"models": rows, "texts": {"validation": texts}, "tests": [], "choice": choice}
        return advice(report | {"plan": plan})

    found = said(few_texts({"gru": range(20), "linear": range(10, 32)}), 97)
    assert found[0].startswith(
        "Take the LINEAR: its validation accuracy, 77.32 %, is 2.06 points below that of the best, "
        "the GRU (±7.98 points on 97 validation texts), which is within the uncertainty of that "
        "accuracy and not significant (p "
    )
    assert found[1] == "More validation texts may show that the best is worth its cost."
    assert found[-1].startswith("No command trains the linear model alone; `tidegate train SOURCE")
    found = said(few_texts({"gru": range(20), "linear": range(60)}), 97)
    assert found[0] == (
        "Take the GRU: it has the best validation accuracy, 79.38 % (±7.98 points on 97 validation "
        "texts), and nothing that costs less is good enough."
    )
    assert found[1].startswith("Not good enough on the validation texts: LINEAR (41.24 points behi")
    assert found[1].endswith(" after Holm).")
    assert found[-1] == (
        "`tidegate train SOURCE --preset lecture --ngrams 0 --cell gru --set epochs=2 "
        "--set 'keep=a b'` trains it."
    )
    found = said(few_texts({"gru": range(500), "linear": range(10, 512)}, 2000), 2000)
    assert "within the margin of 1 point and not significant" in found[0]
    assert not any("More validation texts" in line for line in found)
