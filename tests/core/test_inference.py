"""Bootstrap, paired comparison and the calibrated null."""

from __future__ import annotations

import dataclasses
import math
import tracemalloc
from typing import Any

import numpy as np
import pytest

import calib_harness as ch
from calib_harness import METRICS
from calib_harness.core import resampling
from calib_harness.core.answers import Answers, Choices
from calib_harness.core.inference import bootstrap_draws
from calib_harness.core.resampling import estimates_of, resample_counts
from tests.core import naive
from tests.core.strategies import random_questions
from tests.core.test_metrics import settings_of

ALL = sorted(METRICS)


def tied_questions(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Make questions whose probabilities are twentieths: many ties, many on bin edges."""
    weights = rng.multinomial(20, [0.25] * 4, size=n)
    return weights / 20, rng.integers(4, size=n)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("n", [1, 3, 40])
def test_resampled_equals_function_of_repeated_questions(name: str, n: int) -> None:
    rng = np.random.default_rng(n)
    counts = rng.multinomial(n, np.full(n, 1 / n), size=6)
    counts[0, 1:] = 0  # the same question again and again; as many as n or not
    for probs, gold in (random_questions(rng, n), tied_questions(rng, n)):
        for options in settings_of(name):
            found = METRICS[name].resampled(probs, gold, counts, **options)
            expected = [
                METRICS[name].function(np.repeat(probs, c, axis=0), np.repeat(gold, c), **options)
                for c in counts
                if c.sum()
            ]
            found = found[counts.sum(axis=1) > 0]
            np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ALL)
def test_simulated_equals_function_of_each_gold(name: str) -> None:
    rng = np.random.default_rng(0)
    for probs, _ in (random_questions(rng, 30), tied_questions(rng, 30)):
        n_choices = (~np.isnan(probs)).sum(axis=1)
        golds = rng.integers(n_choices, size=(5, 30))
        for options in settings_of(name):
            found = METRICS[name].simulate(Choices.checked(probs), **options)(golds)
            expected = [METRICS[name].function(probs, gold, **options) for gold in golds]
            np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_counts_sum_to_n_and_do_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = np.concatenate(list(resample_counts(50, 30, np.random.default_rng(3))))
    assert whole.shape == (30, 50)
    assert (whole.sum(axis=1) == 50).all()
    monkeypatch.setattr(resampling, "CELLS_AT_ONCE", 350)
    blocks = list(resample_counts(50, 30, np.random.default_rng(3)))
    assert len(blocks) == 5
    np.testing.assert_array_equal(np.concatenate(blocks), whole)
    np.testing.assert_array_equal(np.concatenate(list(resample_counts(50, 30, 3))), whole)
    monkeypatch.setattr(resampling, "CELLS_KEPT", 0)
    np.testing.assert_array_equal(np.concatenate(list(resample_counts(50, 30, 3))), whole)


def test_counts_of_a_seed_are_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    next(resample_counts(20, 10, 12345))
    monkeypatch.setattr(resampling, "_draw", None)  # drawing again would fail
    next(resample_counts(20, 10, 12345))


@pytest.mark.parametrize("name", ALL)
def test_standard_error_equals_loop_over_resamples(name: str) -> None:
    probs, gold = random_questions(np.random.default_rng(1), 80)
    estimate = ch.bootstrap([name], probs, gold, n_resamples=40, rng=np.random.default_rng(9))[name]
    rng = np.random.default_rng(9)
    draws = []
    for _ in range(40):
        rows = rng.integers(80, size=80)
        draws.append(METRICS[name].function(probs[rows], gold[rows]))
    value = METRICS[name].function(probs, gold)
    low, high = np.clip(2 * value - np.quantile(draws, [0.975, 0.025]), *METRICS[name].bounds)
    low, high = min(low, value), max(high, value)
    expected = (value, np.std(draws, ddof=1), low, high)
    if not METRICS[name].has_interval:
        assert (estimate.value, estimate.stderr) == pytest.approx(expected[:2], rel=1e-7)
        assert np.isnan([estimate.low, estimate.high]).all()
    elif METRICS[name].deviation is None:
        assert dataclasses.astuple(estimate) == pytest.approx(expected, rel=1e-8, abs=1e-10)
    else:  # the interval holds those of the other worlds, too
        assert (estimate.value, estimate.stderr) == pytest.approx(expected[:2], rel=1e-8)
        assert estimate.low <= low + 1e-10
        assert estimate.high >= high - 1e-10


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_interval_of_ece_equals_loop_over_all_worlds(sharpness: float) -> None:
    probs, gold = random_questions(np.random.default_rng(1), 80, ragged=False)
    probs = ch.softmax_scores(sharpness * np.log(probs))
    pairs = naive.top_pairs(probs, gold.tolist())
    rng = np.random.default_rng(9)
    resamples = [rng.integers(80, size=80).tolist() for _ in range(60)]
    value = ch.ece(probs, gold, n_bins=6)
    first = [ch.ece(probs[rows], gold[rows], n_bins=6) - value for rows in resamples]
    bounds = np.array([naive.least_and_most_deviation(pairs, rows, 6) for rows in resamples])
    ends = [value - np.quantile(world, [0.975, 0.025]) for world in (first, *bounds.T)]
    low = max(0.0, min(value, *(each[0] for each in ends)))
    high = max(value, *(each[1] for each in ends))
    options = {"n_bins": 6, "n_resamples": 60}
    found = ch.bootstrap(["ece"], probs, gold, rng=np.random.default_rng(9), **options)["ece"]
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-12)
    assert high == ends[1][1]  # gaps that keep their signs decide the upper end


@pytest.mark.parametrize("binning", ["uniform", "equal_mass", "adaptive"])
def test_paired_interval_and_p_value_cover_all_pairs_of_worlds(binning: str) -> None:
    rng = np.random.default_rng(4)
    probs, gold = random_questions(rng, 120)
    other = ch.softmax_scores(1.6 * np.log(probs) + rng.normal(size=probs.shape) / 4)
    counts = np.concatenate(list(resample_counts(120, 200, 3)))
    base, aligned = (
        METRICS["ece"].value_and_deviations(Answers.of(p, gold), binning=binning)[1](counts)
        for p in (probs, other)
    )
    change = ch.ece(other, gold, binning=binning) - ch.ece(probs, gold, binning=binning)
    draws = [change - (aligned[:, j] - base[:, i]) for i in range(3) for j in range(3)]
    ends = np.quantile(draws, [0.025, 0.975], axis=1)
    found = ch.paired_bootstrap(
        ["ece"], probs, other, gold, n_resamples=200, rng=3, binning=binning
    )["ece"]
    assert found.low == pytest.approx(min(change, ends[0].min()))
    assert found.high == pytest.approx(max(change, ends[1].max()))
    assert change > 0
    against = max(np.mean(world <= 0) for world in draws)
    assert found.p_value == pytest.approx(min(1, 2 * (1 + 200 * against) / 201))


@pytest.mark.parametrize(("confidence", "n"), [(0.99, 100), (0.998, 421)])
def test_intervals_of_a_very_sure_calibrated_model_reach_no_error(
    confidence: float, n: int
) -> None:
    # One wrong answer is expected: most data sets show none, or two, and resamples as many.
    probs = np.tile([confidence, 1 - confidence], (n, 1))
    rng = np.random.default_rng(0)
    reached = [
        found.low == 0.0
        for _ in range(60)
        for found in ch.bootstrap(
            ["ece", "sce"],
            probs,
            (rng.random(n) > confidence).astype(int),
            n_resamples=100,
            rng=rng,
        ).values()
    ]
    assert np.mean(reached) > 0.95


def test_intervals_hold_the_value_they_belong_to() -> None:
    # A calibrated model's plug-in ECE is nearly all bias: taking it off leaves less.
    rng = np.random.default_rng(0)
    for _ in range(20):
        vague, sharp, gold = two_calibrated_models(rng, 300)
        found = ch.bootstrap(["ece", "sce"], sharp, gold, n_resamples=100, rng=0)
        assert all(each.low <= each.value <= each.high for each in found.values())
        change = ch.paired_bootstrap(["ece"], vague, sharp, gold, n_resamples=100, rng=0)["ece"]
        assert change.low <= change.change <= change.high


def test_standard_errors_of_means_are_those_of_the_textbook() -> None:
    probs, gold = random_questions(np.random.default_rng(2), 3000)
    found = ch.bootstrap(["acc", "nll"], probs, gold, n_resamples=2000, rng=0)
    share = found["acc"].value
    losses = -np.log(probs[np.arange(3000), gold])
    assert found["acc"].stderr == pytest.approx(math.sqrt(share * (1 - share) / 3000), rel=0.06)
    assert found["nll"].stderr == pytest.approx(losses.std() / math.sqrt(3000), rel=0.06)
    assert found["acc"].low < share < found["acc"].high


def test_metrics_share_resamples_and_keep_their_order() -> None:
    probs, gold = random_questions(np.random.default_rng(3), 50)
    together = ch.bootstrap(["nll", "ece"], probs, gold, n_resamples=20, rng=5, n_bins=4)
    assert list(together) == ["nll", "ece"]
    assert together["nll"] == ch.bootstrap(["nll"], probs, gold, n_resamples=20, rng=5)["nll"]
    alone = ch.bootstrap(["ece"], probs, gold, n_resamples=20, rng=5, n_bins=4)["ece"]
    assert together["ece"] == alone


def test_undefined_resamples_are_left_out() -> None:
    probs = [[0.6, 0.4], [0.9, 0.1], [0.8, 0.2]]
    estimate = ch.bootstrap(["auroc"], probs, [0, 0, 1], n_resamples=200, rng=0)["auroc"]
    assert np.isfinite(dataclasses.astuple(estimate)).all()
    none_wrong = ch.bootstrap(["auroc"], probs, [0, 0, 0], n_resamples=20, rng=0)["auroc"]
    assert np.isnan(dataclasses.astuple(none_wrong)).all()


def test_only_resamples_with_an_impossible_gold_have_infinite_loss() -> None:
    probs, counts = [[1.0, 0.0], [0.5, 0.5]], [[1, 1], [0, 2], [2, 0]]
    losses = METRICS["nll"].resampled(probs, [1, 0], counts)
    assert losses.tolist() == [math.inf, math.log(2), math.inf]


def test_infinite_value_has_no_standard_error() -> None:
    probs = [[1.0, 0.0], [0.5, 0.5]]
    estimate = ch.bootstrap(["nll"], probs, [1, 0], n_resamples=50, rng=0)["nll"]
    assert estimate.value == math.inf
    assert np.isnan([estimate.stderr, estimate.low, estimate.high]).all()
    change = ch.paired_bootstrap(["nll"], probs, probs, [1, 0], n_resamples=50, rng=0)["nll"]
    assert np.isnan([change.change, change.p_value]).all()  # inf - inf


def test_accuracy_takes_unusable_rows() -> None:
    probs = np.array([[0.6, 0.4], [np.nan, np.nan], [0.3, 0.7]])
    assert ch.bootstrap(["acc"], probs, [0, 0, 1], n_resamples=20, rng=0)["acc"].value == 2 / 3
    with pytest.raises(ValueError, match="row 1 is all NaN"):
        ch.bootstrap(["acc", "ece"], probs, [0, 0, 1], n_resamples=20, rng=0)


@pytest.mark.parametrize("name", ALL)
def test_no_change_between_equal_predictions(name: str) -> None:
    probs, gold = random_questions(np.random.default_rng(4), 40)
    found = ch.paired_bootstrap([name], probs, probs, gold, n_resamples=50, rng=0)[name]
    assert found.base == found.aligned == METRICS[name].function(probs, gold)
    assert (found.change, found.stderr) == (0.0, 0.0)
    if METRICS[name].has_interval:
        assert (found.low, found.high, found.p_value) == (0.0, 0.0, 1.0)
    else:
        assert np.isnan([found.low, found.high, found.p_value]).all()


def test_change_turns_its_sign_with_the_direction_of_comparison() -> None:
    rng = np.random.default_rng(5)
    probs, gold = random_questions(rng, 60)
    other = ch.apply_temperature(np.log(probs), 0.5)
    there = ch.paired_bootstrap(["ece"], probs, other, gold, n_resamples=99, rng=0)["ece"]
    back = ch.paired_bootstrap(["ece"], other, probs, gold, n_resamples=99, rng=0)["ece"]
    assert there.change == pytest.approx(-back.change)
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low))
    assert there.p_value == pytest.approx(back.p_value)
    assert there.stderr == pytest.approx(back.stderr)


def test_questions_are_resampled_together() -> None:
    # A loss that is everywhere larger by the same amount changes by exactly that amount.
    base = np.tile([[0.5, 0.5], [0.8, 0.2]], (50, 1))
    aligned = np.column_stack([base[:, 0] / 2, 1 - base[:, 0] / 2])
    found = ch.paired_bootstrap(["nll"], base, aligned, np.zeros(100, int), rng=0)["nll"]
    assert found.change == pytest.approx(math.log(2))
    assert found.stderr == pytest.approx(0, abs=1e-12)
    assert found.p_value == pytest.approx(2 / 1001)


def test_paired_interval_agrees_with_the_textbook_for_accuracy() -> None:
    rng = np.random.default_rng(6)
    probs, gold = random_questions(rng, 2000, ragged=False)
    other = ch.softmax_scores(np.log(probs) + rng.normal(scale=0.7, size=probs.shape))
    found = ch.paired_bootstrap(["acc"], probs, other, gold, n_resamples=2000, rng=0)["acc"]
    hits = [ch.top_label(p)[1] == gold for p in (probs, other)]
    difference = hits[1].astype(float) - hits[0]
    stderr = difference.std() / math.sqrt(2000)
    assert found.change == pytest.approx(difference.mean())
    assert found.stderr == pytest.approx(stderr, rel=0.06)
    expected = difference.mean() + np.array([-1.96, 1.96]) * stderr
    assert (found.low, found.high) == pytest.approx(expected, abs=0.2 * stderr)


def two_calibrated_models(rng: np.random.Generator, n: int) -> tuple[Any, Any, Any]:
    """Make a vague and a sharp model, each of them perfectly calibrated."""
    sharp = ch.softmax_scores(rng.normal(scale=3.0, size=(n, 2)))
    gold = (rng.random(n) > sharp[:, 0]).astype(int)
    group = sharp[:, 0] > 0.5  # all the vague model knows
    vague = np.where(group[:, None], sharp[group].mean(axis=0), sharp[~group].mean(axis=0))
    return vague, sharp, gold


@pytest.mark.slow
def test_models_that_are_both_calibrated_seldom_differ_in_ece() -> None:
    # Their plug-in errors differ, for bias: the sharp model fills more bins. A basic interval
    # alone finds a change in one data set of five, a percentile interval in three of five.
    rng = np.random.default_rng(7)
    found = [
        ch.paired_bootstrap(["ece"], *two_calibrated_models(rng, 500), n_resamples=200, rng=i)
        for i in range(200)
    ]
    assert np.mean([each["ece"].p_value < 0.05 for each in found]) <= 0.07
    assert np.mean([each["ece"].low <= 0 <= each["ece"].high for each in found]) >= 0.93


@pytest.mark.slow
def test_p_values_of_accuracy_are_uniform_without_a_change() -> None:
    rng = np.random.default_rng(8)
    p_values = []
    for i in range(300):
        probs, gold = random_questions(rng, 100, ragged=False)
        noise = rng.normal(scale=0.8, size=(2, *probs.shape))
        pair = [ch.softmax_scores(np.log(probs) + part) for part in noise]
        found = ch.paired_bootstrap(["acc"], *pair, gold, n_resamples=200, rng=i)
        p_values.append(found["acc"].p_value)
    for level in (0.05, 0.2, 0.5):
        assert np.mean(np.array(p_values) <= level) == pytest.approx(level, abs=0.07)


@pytest.mark.parametrize(("n", "expected"), [(100, 0.114), (300, 0.066), (1000, 0.036)])
def test_null_shows_the_bias_of_plug_in_ece(n: int, expected: float) -> None:
    confidence = np.random.default_rng(0).uniform(0.25, 1, size=n)
    probs = np.column_stack([confidence, *[(1 - confidence) / 3] * 3])
    probs[confidence < 1 / 4] = 0.25
    null = ch.calibrated_null(probs, rng=0)
    assert null.mean == pytest.approx(expected, abs=0.006)
    assert null.low < null.mean < null.high
    assert null.std > 0


def test_null_draws_golds_from_each_questions_probabilities() -> None:
    probs = np.tile([0.6, 0.0, 0.3, 0.1], (4000, 1))
    acc = ch.calibrated_null(probs, metric="acc", n_resamples=20, rng=0)
    assert acc.mean == pytest.approx(0.6, abs=0.01)
    nll = ch.calibrated_null(probs, metric="nll", n_resamples=20, rng=0)
    entropy = -sum(p * math.log(p) for p in (0.6, 0.3, 0.1))
    assert nll.mean == pytest.approx(entropy, abs=0.02)  # finite: nothing has probability 0


def test_null_takes_ragged_questions_and_ignores_gold() -> None:
    probs, gold = random_questions(np.random.default_rng(9), 50)
    with_gold = ch.calibrated_null(probs, gold, metric="sce", n_resamples=30, rng=1)
    assert with_gold == ch.calibrated_null(probs, metric="sce", n_resamples=30, rng=1)


def test_null_does_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    probs, _ = random_questions(np.random.default_rng(10), 50)
    whole = ch.calibrated_null(probs, n_resamples=30, rng=1)
    monkeypatch.setattr(resampling, "CELLS_AT_ONCE", 170)
    assert ch.calibrated_null(probs, n_resamples=30, rng=1) == whole


@pytest.mark.parametrize("name", ["sce", "tace", "aurc", "smece"])
def test_memory_stays_bounded(name: str) -> None:
    rng = np.random.default_rng(11)
    probs, gold = ch.softmax_scores(rng.normal(size=(14_042, 4))), rng.integers(4, size=14_042)
    tracemalloc.start()
    ch.bootstrap([name], probs, gold, n_resamples=150, rng=np.random.default_rng(0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200e6


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (["ECE"], {}, "metric must be one of 'acc', 'brier_score'"),
        ("ece", {}, "names must be a list of metrics; got the string 'ece'"),
        (["acc"], {"n_bins": 0}, "n_bins must be a whole number"),
        (["acc"], {"bins": 3}, "options must be among n_bins, .*; got 'bins'"),
        (["acc"], {"n_resamples": 1}, "n_resamples must be a whole number of at least 2; got 1"),
        (["acc"], {"level": 95}, "level must lie strictly between 0 and 1; got 95"),
        (["acc"], {"level": "95"}, "level must be a number"),
        (["acc"], {"rng": None}, "rng must be a numpy.random.Generator or an int seed; got None"),
        (["acc"], {"rng": True}, "rng must be"),
    ],
)
def test_bad_requests_are_named(names: Any, options: dict[str, Any], message: str) -> None:
    given = {"rng": 0, **options}
    with pytest.raises(ValueError, match=message):
        ch.bootstrap(names, [[0.5, 0.5]], [0], **given)
    with pytest.raises(ValueError, match=message):
        ch.paired_bootstrap(names, [[0.5, 0.5]], [[0.5, 0.5]], [0], **given)
    if names != "ece":
        with pytest.raises(ValueError, match=message):
            ch.calibrated_null([[0.5, 0.5]], metric=names[0], **given)


def test_pairs_must_hold_the_same_questions() -> None:
    with pytest.raises(ValueError, match="they have 1 and 2 rows"):
        ch.paired_bootstrap(["acc"], [[1.0]], [[1.0], [1.0]], [0], rng=0)


def test_resampled_checks_counts() -> None:
    for counts, message in (
        ([[1, 0, 0]], "one column per question"),
        ([[1, -1]], "none of them negative"),
        ([[0.5, 1]], "whole numbers"),
        ([1, 1], "counts must have 2 dimension"),
    ):
        with pytest.raises(ValueError, match=message):
            METRICS["acc"].resampled([[0.5, 0.5]] * 2, [0, 1], counts)
    with pytest.raises(ValueError, match="option of acc must be one of"):
        METRICS["acc"].resampled([[0.5, 0.5]], [0], [[1]], n_bins=3)


def test_clusters_are_drawn_whole_and_scaled_to_the_number_of_questions() -> None:
    clusters = np.repeat([0, 1, 2, 3], [1, 2, 3, 4])
    counts = np.concatenate(list(resample_counts(10, 50, 0, clusters)))
    np.testing.assert_allclose(counts.sum(axis=1), 10)
    for cluster in range(4):
        own = counts[:, clusters == cluster]
        np.testing.assert_array_equal(own, own[:, :1].repeat(own.shape[1], axis=1))


def test_errors_over_clusters_are_those_of_new_clusters() -> None:
    rng = np.random.default_rng(0)

    def data() -> tuple[np.ndarray, np.ndarray]:
        rates = np.repeat(rng.choice([0.3, 0.9], size=40), 25)  # a cluster's questions are alike
        right = rng.uniform(size=1000) < rates
        return np.tile([0.7, 0.3], (1000, 1)), (~right).astype(int)

    clusters = np.repeat(np.arange(40), 25)
    found: dict[str, list[float]] = {name: [] for name in ("acc", "overconfidence")}
    errors: dict[str, list[float]] = {name: [] for name in found}
    for _ in range(60):
        probs, gold = data()
        draws = bootstrap_draws(list(found), probs, gold, n_resamples=100, rng=1, clusters=clusters)
        for name, estimate in estimates_of(draws).items():
            found[name].append(estimate.value)
            errors[name].append(estimate.stderr)
    for name in found:
        assert np.mean(errors[name]) == pytest.approx(np.std(found[name]), rel=0.2)
        assert np.mean(errors[name]) > 2.5 * np.sqrt(0.25 / 1000)  # what questions alone would say


def test_a_class_that_a_threshold_empties_has_no_part_in_an_error() -> None:
    draws = bootstrap_draws(["tace"], np.array([[1.0, 0.0]] * 9), [0] * 9, n_resamples=20, rng=0)
    found = estimates_of(draws)["tace"]
    assert (found.value, found.low) == (0.0, 0.0)
