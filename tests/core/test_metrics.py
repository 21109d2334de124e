"""Each metric against its naive loop, and one table of metrics and invariances."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import calib_harness as ch
from calib_harness import METRICS
from calib_harness.core.options import DEFAULTS
from tests.core import naive
from tests.core.strategies import ragged_questions, random_questions

VALUES: dict[str, tuple[Any, ...]] = {
    "n_bins": (1, 2, 5, 15),
    "binning": ("uniform", "equal_mass", "adaptive"),
    "norm": ("l1", "l2", "max"),
    "threshold": (0.0, 0.1, 0.5),
}
ALL = sorted(METRICS)
TOP_LABEL_AND_MEANS = sorted(set(METRICS) - {"sce", "sce_ova", "ace", "tace"})
BINNED = ("ece", "ece_rms", "ece_debiased", "mce", "sce", "sce_ova", "ace", "tace", "smece")


def settings_of(name: str) -> list[dict[str, Any]]:
    """Return every combination of the options that a metric takes."""
    options = METRICS[name].options
    return [
        dict(zip(options, values, strict=True))
        for values in product(*(VALUES[option] for option in options))
    ]


def value(name: str, probs: np.ndarray, gold: np.ndarray, **options: Any) -> float:
    return METRICS[name].function(probs, gold, **options)


def close(number: float) -> Any:
    return pytest.approx(number, rel=1e-9, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("name", [name for name in ALL if name not in {"aurc", "smece"}])
@settings(max_examples=25, deadline=None, derandomize=True)
@given(data=ragged_questions())
def test_metric_equals_loop_over_its_definition(name: str, data: Any) -> None:
    probs, gold = data
    for options in settings_of(name):
        expected = getattr(naive, name)(probs, gold.tolist(), **options)
        assert value(name, probs, gold, **options) == close(expected), options


@settings(max_examples=25, deadline=None, derandomize=True)
@given(data=ragged_questions(max_size=5))
def test_aurc_is_the_mean_over_all_orders_of_equal_confidences(data: Any) -> None:
    probs, gold = data
    assert ch.aurc(probs, gold) == close(naive.aurc(probs, gold.tolist()))


def smece_inputs() -> list[Any]:
    """Return pairs of confidence and correctness that a grid, or an end of it, may get wrong."""
    rng = np.random.default_rng(0)
    drawn = rng.uniform(0.5, 1, size=9)
    return [
        pytest.param([1.0, 0.6], [0, 1], id="a confidence of 1, wrong"),
        pytest.param([1.0] * 4, [1, 1, 1, 0], id="confidences of 1"),
        pytest.param([1.0, 1.0, 0.5, 0.5], [1, 0, 1, 0], id="both ends"),
        pytest.param([0.9999] * 5, [1] * 5, id="nearly right"),
        pytest.param([0.9] * 10, [1] * 9 + [0], id="exactly calibrated"),
        pytest.param([0.9965] * 6, [1] * 6, id="narrow width"),
        pytest.param(drawn, (rng.random(9) < drawn).astype(int), id="drawn"),
        pytest.param([0.5, 0.55, 0.6, 0.65], [0, 1, 0, 1], id="signs in turn"),
    ]


@pytest.mark.parametrize(("confidence", "correct"), smece_inputs())
def test_smece_equals_dense_quadrature_of_its_definition(confidence: Any, correct: Any) -> None:
    # relplot 1.0.3 gives .278 for the first: less than |overconfidence|, which cannot be.
    probs, gold = np.column_stack([confidence, np.subtract(1, confidence)]), np.subtract(1, correct)
    assert ch.smece(probs, gold) == pytest.approx(naive.smece(probs, gold.tolist()), abs=1e-6)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(data=ragged_questions())
def test_smece_is_at_least_the_size_of_overconfidence(data: Any) -> None:
    assert ch.smece(*data) >= abs(ch.overconfidence(*data)) - 1e-12


@pytest.mark.parametrize("name", ALL)
def test_order_of_questions_is_irrelevant(name: str) -> None:
    rng = np.random.default_rng(1)
    probs, gold = random_questions(rng, 60)
    probs[:30] = probs[30:]  # with equal confidences, of unequal correctness
    gold[:30] = rng.integers(3, size=30)
    order = rng.permutation(60)
    for options in settings_of(name):
        expected = value(name, probs, gold, **options)
        assert value(name, probs[order], gold[order], **options) == close(expected)


@pytest.mark.parametrize("name", ALL)
def test_names_of_choices_are_irrelevant_if_changed_everywhere(name: str) -> None:
    rng = np.random.default_rng(2)
    probs, gold = random_questions(rng, 50)
    order = rng.permutation(probs.shape[1])
    assert value(name, probs[:, order], np.argsort(order)[gold]) == close(value(name, probs, gold))


@pytest.mark.parametrize("name", TOP_LABEL_AND_MEANS)
def test_names_of_choices_are_irrelevant_question_by_question_without_classes(name: str) -> None:
    rng = np.random.default_rng(3)
    probs, gold = random_questions(rng, 50, ragged=False)
    orders = np.array([rng.permutation(4) for _ in gold])
    shuffled = np.take_along_axis(probs, orders, axis=1)
    where = np.argmax(orders == gold[:, None], axis=1)
    assert value(name, shuffled, where) == close(value(name, probs, gold))


@pytest.mark.parametrize("name", ALL)
def test_a_choice_that_no_question_has_changes_nothing(name: str) -> None:
    probs, gold = random_questions(np.random.default_rng(4), 30)
    wider = np.column_stack([probs, np.full(30, np.nan)])
    assert value(name, wider, gold) == close(value(name, probs, gold))


# Cutting bins by rank, taking off a bias and counting ranks depend on the number of questions.
@pytest.mark.parametrize("name", sorted(set(ALL) - {"ace", "tace", "ece_debiased", "aurc"}))
def test_each_question_twice_changes_nothing(name: str) -> None:
    probs, gold = random_questions(np.random.default_rng(5), 40)
    # The width of smECE is found to 1e-9.
    expected = pytest.approx(value(name, probs, gold), rel=1e-7 if name == "smece" else 1e-12)
    assert value(name, np.tile(probs, (2, 1)), np.tile(gold, 2)) == expected


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=15, deadline=None, derandomize=True)
@given(data=ragged_questions())
def test_value_is_within_bounds(name: str, data: Any) -> None:
    low, high = METRICS[name].bounds
    number = value(name, *data)
    undefined = name == "auroc" and np.isnan(number)  # all right, or all wrong
    assert undefined or low <= number <= high


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *((name, 0.0) for name in ALL if name not in {"acc", "auroc", "sce_ova"}),
        ("acc", 1.0),
        ("auroc", math.nan),  # no wrong answer to rank below a right one
        ("sce_ova", 0.75),  # 1 - 1/K: no calibration error
    ],
)
def test_one_hot_perfect_predictions(name: str, expected: float) -> None:
    gold = np.arange(8) % 4
    assert value(name, np.eye(4)[gold], gold) == close(expected)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *((name, 1.0) for name in ("ece", "ece_rms", "ece_debiased", "mce", "overconfidence")),
        ("acc", 0.0),
        ("brier_score", 2.0),
        ("nll", math.inf),
        ("aurc", 1.0),
        ("sce", 0.5),  # of four choices two are off by 1 in each question
    ],
)
def test_one_hot_wrong_predictions(name: str, expected: float) -> None:
    gold = np.arange(8) % 4
    assert value(name, np.eye(4)[(gold + 1) % 4], gold) == close(expected)


@pytest.mark.parametrize("name", ["ece", "ece_rms", "mce", "ece_debiased", "sce", "ace", "tace"])
def test_exactly_calibrated_questions_have_no_error(name: str) -> None:
    # Ten questions for each gold distribution, with golds in exactly these proportions.
    rows = [(0.7, 0.2, 0.1), (0.1, 0.3, 0.6), (0.2, 0.5, 0.3)]
    probs = np.repeat(rows, 10, axis=0)
    gold = np.concatenate(
        [np.repeat(np.arange(3), np.round(np.array(r) * 10).astype(int)) for r in rows]
    )
    # n_bins small enough and values apart: every bin holds whole groups.
    assert value(name, probs, gold, n_bins=3) == close(0.0)


@pytest.mark.parametrize("name", [name for name in BINNED if name != "sce_ova"])
def test_known_calibrated_distribution_lies_in_its_null(name: str) -> None:
    probs, gold = random_questions(np.random.default_rng(6), 2000)
    null = ch.calibrated_null(probs, metric=name, n_resamples=200, rng=0, level=0.99)
    assert null.low <= value(name, probs, gold) <= null.high
    wrong = np.argsort(np.argsort(-probs, axis=1), axis=1).argmin(axis=1)  # always the first
    assert value(name, probs, wrong) > null.high


def test_sce_weighs_every_entry_once() -> None:
    # Two questions of two choices and one of four: 8 entries, all in one bin per class.
    nan = math.nan
    probs = [[0.6, 0.4, nan, nan], [0.8, 0.2, nan, nan], [0.1, 0.2, 0.3, 0.4]]
    by_hand = (abs(1.5 - 2) + abs(0.8 - 0) + abs(0.3 - 0) + abs(0.4 - 1)) / 8
    assert ch.sce(probs, [0, 0, 3], n_bins=1) == pytest.approx(by_hand)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(data=ragged_questions(), n_bins=st.integers(1, 20))
def test_full_ece_bins_every_choice_together(data: Any, n_bins: int) -> None:
    probs, gold = data
    entries = [
        (p, int(k == g))
        for question, g in zip(naive.questions(probs), gold, strict=True)
        for k, p in question
    ]
    parts = naive.binned(entries, n_bins, "uniform")
    expected = sum(len(part) / len(entries) * naive.gap(part) for part in parts)
    assert ch.full_ece(probs, gold, n_bins=n_bins) == close(expected)


def test_tace_threshold_is_strict() -> None:
    probs, gold = [[0.75, 0.25], [0.75, 0.25]], [0, 0]
    only_class_0 = 0.5 * abs(1 - 0.75)
    assert ch.tace(probs, gold, threshold=0.25) == pytest.approx(only_class_0)


def test_first_choice_is_predicted_on_ties() -> None:
    assert ch.accuracy([[0.5, 0.5], [0.5, 0.5]], [0, 1]) == 0.5


def test_accuracy_counts_unusable_rows_as_wrong() -> None:
    nan = math.nan
    probs = [[0.6, 0.4], [nan, nan], [0.6, 0.4], [1.0, nan]]
    assert ch.accuracy(probs, [0, 0, 5, 0]) == 0.5
    assert ch.accuracy([[nan, nan]], [0]) == 0.0


def test_rounding_above_one_is_not_an_error() -> None:
    probs = [[1.0 + 1e-9, 0.0], [1.0, 0.0]]
    for metric in METRICS.values():
        assert not np.isnan(metric.function(probs, [0, 1])), metric.name


def test_every_option_of_the_table_has_a_default() -> None:
    assert {option for metric in METRICS.values() for option in metric.options} == set(DEFAULTS)
    for metric in METRICS.values():
        assert metric.direction in {"lower", "higher", "zero"}
        assert metric.formula


@pytest.mark.parametrize("name", ALL)
def test_unusable_rows_and_options_are_named(name: str) -> None:
    good, nan = [0.5, 0.5], math.nan
    function = METRICS[name].function
    wrong: list[tuple[Any, Any, str]] = [
        ([good, [0.5, 0.6]], [0, 0], "row 1"),
        ([good, [-0.5, 1.5]], [0, 0], "row 1"),
        ([good, [-1.0, -2.0]], [0, 0], "softmax_scores"),
        (good, [0], "probs must have 2 dimension"),
        ([good, good], [0], "equally long"),
        (np.empty((0, 2)), [], "at least one row"),
        ([good, [0.5]], [0, 0], "rectangular"),
        ([good], [["a"]], "gold must have 1 dimension"),
        ([good], ["a"], "gold must hold indices"),
    ]
    if METRICS[name].needs_usable:
        wrong += [
            ([good, [nan, nan]], [0, 0], "row 1 is all NaN"),
            ([good, good], [0, 2], "row 1 has gold 2"),
            ([good, good], [0, -1], "row 1 has gold -1"),
            ([good, [1.0, nan]], [0, 1], "row 1 has gold 1"),
            ([good, good], [0, None], "row 1 has gold None"),
            ([good, good], [0, 0.5], "row 1 has gold 0.5"),
        ]
    for probs, gold, message in wrong:
        with pytest.raises(ValueError, match=message):
            function(probs, gold)
    for option, bad in (("n_bins", 0), ("binning", "width"), ("norm", "l3"), ("threshold", 1.0)):
        if option in METRICS[name].options:
            # An option is checked before data are looked at.
            with pytest.raises(ValueError, match=option):
                function([good], [7], **{option: bad})


@pytest.mark.parametrize("n_bins", [0, -1, 1.5, True, "15", None])
def test_n_bins_must_be_a_whole_number(n_bins: Any) -> None:
    with pytest.raises(ValueError, match="n_bins must be a whole number of at least 1; got"):
        ch.ece([[0.5, 0.5]], [0], n_bins=n_bins)


def test_calibration_error_checks_pairs_and_options() -> None:
    for confidence, correct, message in (
        ([0.5, 1.2], [0, 1], "element 1 is 1.2"),
        ([0.5, math.nan], [0, 1], "confidence must lie"),
        ([0.5, 0.6], [0, 2], "element 1 is 2"),
        ([0.5], [0, 1], "equally long"),
        ([], [], "must not be empty"),
    ):
        with pytest.raises(ValueError, match=message):
            ch.calibration_error(confidence, correct)
    with pytest.raises(ValueError, match="debias=True needs norm='l2'"):
        ch.calibration_error([0.5], [1], debias=True)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(data=ragged_questions(), n_bins=st.integers(1, 20))
def test_calibration_error_of_pairs_equals_ece_of_choices(data: Any, n_bins: int) -> None:
    probs, gold = data
    confidence, prediction = ch.top_label(probs)
    on_pairs = ch.calibration_error(confidence, prediction == gold, n_bins=n_bins)
    assert on_pairs == close(ch.ece(probs, gold, n_bins=n_bins))


def test_choice_mass() -> None:
    scores = np.log([[0.2, 0.3, np.nan], [0.1, 0.1, 0.1]])
    assert ch.choice_mass(scores) == pytest.approx(0.4)
    for bad in ([[math.nan]], np.empty((0, 3))):
        with pytest.raises(ValueError, match="scores must have at least one number"):
            ch.choice_mass(bad)
