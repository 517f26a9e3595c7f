"""Intervals, the comparison of two models, and the report of all scores."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as theirs
from hypothesis import given
from hypothesis import strategies as st

from test_scores import draw, draw_several
from tidegate import intervals
from tidegate.cli.measures import lines
from tidegate.errors import ConfigError, DataError, ShapeError, TidegateError
from tidegate.intervals import RESAMPLES, bootstrap, mcnemar, resampled, wilson
from tidegate.report import MOST_CONFUSED, Report, measure

# --- intervals


@pytest.mark.parametrize(
    ("right", "texts", "expected"),
    [
        # Newcombe 1998, table I.
        (81, 263, (0.2553, 0.3662)),
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0.0, 0.1611)),
        (1, 29, (0.0061, 0.1718)),
        (20, 20, (0.8389, 1.0)),
    ],
)
def test_wilson_s_interval(right: int, texts: int, expected: tuple[float, float]) -> None:
    assert wilson(right, texts) == pytest.approx(expected, abs=5e-5)


@given(st.integers(1, 5_000), st.floats(0, 1))
def test_wilson_s_interval_holds_the_share(texts: int, share: float) -> None:
    right = round(share * texts)
    low, high = wilson(right, texts)
    assert 0.0 <= low <= right / texts <= high <= 1.0
    mirrored = wilson(texts - right, texts)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-12)


def test_intervals_of_nothing_are_refused() -> None:
    with pytest.raises(DataError, match="no texts, and so no interval"):
        wilson(0, 0)
    with pytest.raises(ConfigError, match="right=3 is not between 0 and the number of texts, 2"):
        wilson(3, 2)


@pytest.mark.parametrize("texts", [3, 9_000])
def test_resamples_are_of_all_texts_and_fixed_by_the_seed(texts: int) -> None:
    blocks = list(resampled(texts, 1))
    weights = np.concatenate(blocks)
    assert weights.shape == (RESAMPLES, texts)
    assert (weights.sum(axis=1) == texts).all()
    assert weights.mean() == 1.0
    # How often one text is drawn is nearly Poisson's.
    assert (weights == 0).mean() == pytest.approx((1 - 1 / texts) ** texts, abs=0.02)
    np.testing.assert_array_equal(np.concatenate(list(resampled(texts, 1))), weights)
    assert (next(resampled(texts, 2)) != blocks[0]).any()
    assert max(map(len, blocks)) * texts <= 1 << 20


def test_a_bootstrap_is_the_quantiles_of_what_each_resample_says() -> None:
    values = np.random.default_rng(0).standard_normal(400)
    means, nothing = bootstrap(
        lambda weights: [weights @ values / 400, np.full(len(weights), np.nan)], 400
    )
    assert nothing is None
    assert means is not None
    error = values.std() / 20
    expected = (values.mean() - 1.96 * error, values.mean() + 1.96 * error)
    assert means == pytest.approx(expected, abs=0.15 * error)


# --- two models


def answers(both: int, first: int, second: int, neither: int) -> tuple[Any, Any]:
    counts = (both, first, second, neither)
    one = np.repeat(np.array([True, True, False, False]), counts)
    other = np.repeat(np.array([True, False, True, False]), counts)
    return one, other


@pytest.mark.parametrize(
    ("first", "second", "exact", "mid_p"),
    [
        # Fagerland et al. 2013: airway hyper-responsiveness, 1 and 7 discordant pairs.
        (1, 7, 0.0703125, 0.0390625),
        (7, 1, 0.0703125, 0.0390625),
        (0, 5, 2 / 32, 1 / 32),
        (0, 1, 1.0, 0.5),
        (2, 2, 1.0, 1 - 3 / 16),
        (0, 0, 1.0, 1.0),
        (1, 2, 1.0, 1.0 - 3 / 8),
    ],
)
def test_mcnemar_by_hand(first: int, second: int, exact: float, mid_p: float) -> None:
    found = mcnemar(*answers(9, first, second, 4))
    assert (found.first_only, found.second_only) == (first, second)
    assert found.exact == pytest.approx(exact, rel=1e-12)
    assert found.mid_p == pytest.approx(mid_p, rel=1e-12)


@given(st.integers(0, 3_000), st.integers(0, 3_000))
def test_what_must_hold_of_mcnemar_s_test(first: int, second: int) -> None:
    found = mcnemar(*answers(3, first, second, 3))
    assert 0.0 <= found.mid_p <= found.exact <= 1.0
    swapped = mcnemar(*answers(8, second, first, 0))  # what both say the same of tells nothing
    assert (swapped.exact, swapped.mid_p) == (found.exact, found.mid_p)
    total = first + second
    if total >= 1000 and first != second:  # there the normal approximation serves
        chi = (abs(first - second)) / math.sqrt(total)
        assert found.mid_p == pytest.approx(math.erfc(chi / math.sqrt(2)), abs=0.001)


def test_mcnemar_refuses_other_texts() -> None:
    right = np.array([True, False])
    with pytest.raises(ShapeError, match="first_right has 2 texts and second_right 1"):
        mcnemar(right, right[:1])
    with pytest.raises(ShapeError, match=r"second_right is int64 \[2\]; give bool"):
        mcnemar(right, np.array([0, 1]))


# --- the report


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_the_report_of_one_class_a_text(classes: int) -> None:
    probabilities, targets, predicted = draw(classes)
    labels = [f"label {k}" for k in range(classes)]
    report = measure(probabilities, targets, predicted, labels)
    assert (report.texts, report.seconds) == (200, 0.0)
    assert report.loss == pytest.approx(theirs.log_loss(targets, probabilities))
    assert report.accuracy == report.f1_micro == theirs.accuracy_score(targets, predicted)
    assert report.accuracy_interval == wilson(round(200 * report.accuracy), 200)
    assert report.f1_macro == pytest.approx(theirs.f1_score(targets, predicted, average="macro"))
    scores = probabilities[:, 1] if classes == 2 else probabilities
    auc = theirs.roc_auc_score(targets, scores, multi_class="ovr")
    assert report.auc == pytest.approx(auc)
    assert [one.label for one in report.classes] == labels
    for k, one in enumerate(report.classes):
        assert (one.texts, one.predicted) == ((targets == k).sum(), (predicted == k).sum())
        assert one.recall == pytest.approx((predicted[targets == k] == k).mean())
        assert one.precision == pytest.approx((targets[predicted == k] == k).mean())
        # Of two classes, one's scores are the other's from behind, but for their rounding.
        own = probabilities[:, k] if classes > 2 else (2 * k - 1) * probabilities[:, 1]
        assert one.auc == pytest.approx(theirs.roc_auc_score(targets == k, own))
    matrix = theirs.confusion_matrix(targets, predicted)
    assert report.confusion == tuple(map(tuple, matrix.tolist()))


@pytest.fixture
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """scikit-learn is asked for each one by itself."""
    monkeypatch.setattr(intervals, "RESAMPLES", 100)


def resampled_rows(texts: int) -> list[Any]:
    """Each resample's texts, repeated as often as they were drawn."""
    weights = np.concatenate(list(resampled(texts, 0))).astype(int)
    return [np.repeat(np.arange(texts), row) for row in weights]


@pytest.mark.usefixtures("few_resamples")
@pytest.mark.parametrize("classes", [2, 3])
def test_intervals_are_those_of_scikit_learn_s_scores_on_each_resample(classes: int) -> None:
    probabilities, targets, predicted = draw(classes, texts=60)
    report = measure(probabilities, targets, predicted, list(range(classes)))
    macro, micro, auc = [], [], []
    for rows in resampled_rows(60):
        drawn = (targets[rows], predicted[rows])
        macro.append(theirs.f1_score(*drawn, average="macro"))
        micro.append(theirs.f1_score(*drawn, average="micro"))
        scores = probabilities[rows, 1] if classes == 2 else probabilities[rows]
        auc.append(theirs.roc_auc_score(targets[rows], scores, multi_class="ovr"))
    for found, values in (
        (report.f1_macro_interval, macro),
        (report.f1_micro_interval, micro),
        (report.auc_interval, auc),
    ):
        assert found == pytest.approx(np.quantile(values, (0.025, 0.975)).tolist(), rel=1e-12)


@pytest.mark.usefixtures("few_resamples")
def test_intervals_of_several_labels_are_those_of_each_resample() -> None:
    probabilities, targets, predicted = draw_several(texts=60)
    report = measure(probabilities, targets, predicted, list("abcd"))
    macro, auc = [], []
    for rows in resampled_rows(60):
        macro.append(theirs.f1_score(targets[rows], predicted[rows], average="macro"))
        known = targets[rows].any(axis=0)  # a rare label may be in none of them
        areas = theirs.roc_auc_score(
            targets[rows][:, known], probabilities[rows][:, known], average=None
        )
        auc.append(np.mean(areas))
    for found, values in ((report.f1_macro_interval, macro), (report.auc_interval, auc)):
        assert found == pytest.approx(np.quantile(values, (0.025, 0.975)).tolist(), rel=1e-12)


def test_the_report_of_several_labels_a_text() -> None:
    probabilities, targets, predicted = draw_several()
    report = measure(probabilities, targets, predicted, list("abcd"))
    assert report.accuracy == theirs.accuracy_score(targets, predicted)
    assert report.f1_macro == pytest.approx(theirs.f1_score(targets, predicted, average="macro"))
    assert report.f1_micro == pytest.approx(theirs.f1_score(targets, predicted, average="micro"))
    assert report.auc == pytest.approx(theirs.roc_auc_score(targets, probabilities))
    assert report.confusion is None
    two = measure(probabilities[:, :2], targets[:, :2], predicted[:, :2], list("ab"))
    wanted = theirs.roc_auc_score(targets[:, :2], probabilities[:, :2])
    assert two.auc == pytest.approx(wanted)  # two labels are not two classes


def test_the_report_is_json() -> None:
    probabilities, targets, predicted = draw(2)
    report = measure(probabilities, targets, predicted, ["bad", "good"])
    told = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert told["calibration_bins"] == 15
    assert told["resamples"] == 1000
    assert told["accuracy_interval"] == list(report.accuracy_interval)
    assert told["classes"][1]["label"] == "good"
    assert told["confusion"] == [list(row) for row in report.confusion or ()]
    assert set(told) == {*Report.__dataclass_fields__, "calibration_bins", "resamples"}
    plain = measure(probabilities, targets, predicted, ["bad", "good"], intervals=False)
    assert (plain.f1_macro_interval, plain.f1_micro_interval, plain.auc_interval) == (None,) * 3
    assert plain.accuracy_interval == report.accuracy_interval
    assert "resamples" not in plain.to_json()
    again = measure(probabilities, targets, predicted, ["bad", "good"])
    assert again == report
    other = measure(probabilities, targets, predicted, ["bad", "good"], seed=1)
    assert other.auc_interval != report.auc_interval


def test_one_class_alone_has_no_auc() -> None:
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8]])
    report = measure(probabilities, np.array([0, 0]), np.array([0, 1]), ["a", "b"])
    assert (report.auc, report.auc_interval, report.classes[1].auc) == (None, None, None)
    assert report.accuracy == 0.5
    assert report.f1_macro == pytest.approx(1 / 3)
    json.dumps(report.to_json(), allow_nan=False)


def test_many_classes_have_no_confusion_matrix() -> None:
    classes = MOST_CONFUSED + 1
    probabilities = np.full((3, classes), 1 / classes)
    targets = np.array([0, 50, 100])
    report = measure(probabilities, targets, targets, list(range(classes)), intervals=False)
    assert report.confusion is None
    assert report.f1_macro == 1.0  # of the three that occur
    assert report.auc == 0.5


GOOD = np.array([[0.5, 0.5], [0.5, 0.5]])
ZEROS = np.zeros(2, np.int32)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ((GOOD[:0], ZEROS[:0], ZEROS[:0]), "no texts to evaluate on"),
        (
            (GOOD.astype(np.float32), ZEROS, ZEROS),
            r"probabilities is float32 \[2, 2\]; float64 \[texts, 2\]",
        ),
        ((GOOD[:, :1].copy(), ZEROS, ZEROS), r"probabilities is float64 \[2, 1\]"),
        ((GOOD * 3, ZEROS, ZEROS), "probabilities run from 1.5 to 1.5; they must lie in 0 to 1"),
        ((GOOD * np.nan, ZEROS, ZEROS), "probabilities run from nan"),
        ((GOOD, ZEROS[:1], ZEROS), r"targets is int32 \[1\]; whole numbers \[2\] are needed"),
        ((GOOD, ZEROS, GOOD), r"predicted is float64 \[2, 2\]"),
        ((GOOD, ZEROS, ZEROS + 2), r"predicted runs from 2 to 2; it must lie in 0\.\.1"),
        ((GOOD, np.full((2, 2), 2), GOOD.astype(int)), r"targets runs from 2 to 2"),
    ],
)
def test_what_does_not_fit_is_refused(arrays: tuple[Any, Any, Any], message: str) -> None:
    probabilities, targets, predicted = arrays
    with pytest.raises(TidegateError, match=message) as caught:
        measure(probabilities, targets, predicted, ["a", "b"])
    assert "\n" not in str(caught.value)


# --- as lines


def test_the_lines_of_a_report() -> None:
    targets = np.array([0, 0, 1, 1, 2, 2])
    predicted = np.array([0, 1, 1, 1, 2, 0])
    probabilities = np.full((6, 3), 0.1)
    probabilities[np.arange(6), predicted] = 0.8
    report = measure(probabilities, targets, predicted, ["bad", "a\tb", "n" * 30])
    assert lines(report) == [
        f"accuracy 0.6667  loss {report.loss:.4f}  (6 texts, 0.0 s)",
        "95 % interval of the accuracy 0.3000 to 0.9032",
        f"f1 macro 0.6556  f1 micro 0.6667  auc {report.auc:.4f}  calibration error 0.1333",
        "label                     texts  precision  recall      f1",
        "bad                           2     0.5000  0.5000  0.5000",
        '"a\\tb"                        2     0.6667  1.0000  0.8000',
        "nnnnnnnnnnnnnnnnnnnnn...      2     1.0000  0.5000  0.6667",
        'true / predicted          bad  "a\\tb"  nnnnnnnnnnnnnnnnnnnnn...',
        "bad                         1       1                         0",
        '"a\\tb"                      0       2                         0',
        "nnnnnnnnnnnnnnnnnnnnn...    1       0                         1",
    ]


def test_many_classes_have_few_lines() -> None:
    probabilities, targets, predicted = draw(12)
    report = measure(probabilities, targets, predicted, list(range(12)), intervals=False)
    assert len(lines(report)) == 3 + 1 + 12  # no confusion matrix
    probabilities, targets, predicted = draw(30)
    report = measure(probabilities, targets, predicted, list(range(30)), intervals=False)
    assert lines(report)[3:] == ["30 classes; --report FILE writes the scores of each"]
    alone = measure(np.array([[0.9, 0.1]]), np.array([0]), np.array([0]), ["a", "b"])
    assert "auc none" in lines(alone)[2]
