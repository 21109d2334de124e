"""What reliability diagrams show: bins, intervals, and the ECE of the metrics table."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

import calib_harness as ch
from calib_harness.core.shares import clopper_pearson, consistency_interval
from calib_harness.predictions.samples import write_example_log
from tests.core import naive
from tests.core.strategies import random_questions

BINNINGS = ("uniform", "equal_mass", "adaptive")


def calibrated(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw questions of four choices whose gold is drawn from their own probabilities."""
    probs = rng.dirichlet(np.full(4, 0.5), size=n)
    edges = np.cumsum(probs, axis=1)
    return probs, (rng.random((n, 1)) * edges[:, -1:] >= edges[:, :-1]).sum(axis=1)


@pytest.mark.parametrize("binning", BINNINGS)
@pytest.mark.parametrize("n", [1, 7, 60])
def test_bins_equal_a_loop_over_the_definition(n: int, binning: str) -> None:
    probs, gold = random_questions(np.random.default_rng(n), n)
    found = ch.reliability(probs, gold, n_bins=10, binning=binning, n_resamples=0)
    pairs = naive.top_pairs(probs, list(gold))
    parts = sorted(naive.binned(pairs, 10, binning))
    assert found.n.tolist() == [len(part) for part in parts]
    assert found.n_entries == n
    for b, part in enumerate(parts):
        assert found.confidence[b] == pytest.approx(sum(c for c, _ in part) / len(part))
        assert found.accuracy[b] == pytest.approx(sum(a for _, a in part) / len(part))
        exact = stats.binomtest(sum(a for _, a in part), len(part)).proportion_ci(method="exact")
        assert found.accuracy_low[b] == pytest.approx(exact.low)
        assert found.accuracy_high[b] == pytest.approx(exact.high)
        for c, _ in part:
            assert found.low[b] <= c <= found.high[b]
    assert found.ece.value == pytest.approx(naive.ece(probs, gold, n_bins=10, binning=binning))


@pytest.mark.parametrize("binning", BINNINGS)
def test_edges_never_overlap(binning: str) -> None:
    probs, gold = random_questions(np.random.default_rng(0), 40)
    found = ch.reliability(probs, gold, n_bins=7, binning=binning, n_resamples=0)
    assert (found.low <= found.high).all()
    assert (found.high[:-1] <= found.low[1:]).all()


def test_a_value_on_an_edge_lies_in_the_bin_below() -> None:
    found = ch.reliability_of_pairs([0.25, 0.3], [1, 0], n_bins=4, n_resamples=0)
    assert (found.low.tolist(), found.high.tolist()) == ([0.0, 0.25], [0.25, 0.5])


def number_of_hits(confidence: list[float]) -> list[float]:
    """Add one trial after the other to the distribution of the number of hits."""
    chance = [1.0]
    for c in confidence:
        chance = [
            (chance[k] * (1 - c) if k < len(chance) else 0.0) + (chance[k - 1] * c if k else 0.0)
            for k in range(len(chance) + 1)
        ]
    return chance


@pytest.mark.parametrize("n", [1, 2, 3, 8, 33])
def test_consistency_interval_equals_adding_trials_one_by_one(n: int) -> None:
    rng = np.random.default_rng(n)
    confidence, bins = rng.random(2 * n + 1), np.append(np.arange(2 * n) % 2, 0)
    low, high = consistency_interval(confidence, bins)
    for b in (0, 1):
        members = confidence[bins == b].tolist()
        reached = np.cumsum(number_of_hits(members))
        first = next(k for k, chance in enumerate(reached) if chance >= 0.025)
        last = next(k for k, chance in enumerate(reached) if chance >= 0.975)
        assert low[b] == first / len(members)
        assert high[b] == last / len(members)


def test_consistency_interval_of_a_bin_does_not_depend_on_the_other_bins() -> None:
    rng = np.random.default_rng(0)
    sizes = [1, 2, 3, 7, 40, 300]
    confidence, bins = rng.random(sum(sizes)), np.repeat(np.arange(6), sizes)
    together = np.array(consistency_interval(confidence, bins))
    alone = [
        consistency_interval(confidence[bins == b], np.zeros(n, dtype=int))
        for b, n in enumerate(sizes)
    ]
    assert together.T.tolist() == [[float(low[0]), float(high[0])] for low, high in alone]


def test_consistency_interval_of_bins_with_a_gap_in_their_numbers_raises() -> None:
    with pytest.raises(ValueError, match="without gaps; bin 1 is empty"):
        consistency_interval([0.5, 0.5], [0, 2])


def test_equal_confidences_have_the_binomial_interval() -> None:
    low, high = consistency_interval(np.full(2000, 0.7), np.zeros(2000, dtype=int))
    expected = stats.binom(2000, 0.7).ppf([0.025, 0.975]) / 2000
    assert [low[0], high[0]] == expected.tolist()


def count_between(low: np.ndarray, value: np.ndarray, high: np.ndarray) -> int:
    return int(((low <= value) & (value <= high)).sum())


def test_bins_of_a_calibrated_model_lie_in_the_consistency_bars_and_intervals_cover() -> None:
    rng = np.random.default_rng(1)
    inside, covered, bins = 0, 0, 0
    for _ in range(150):
        probs, gold = calibrated(rng, 400)
        found = ch.reliability(probs, gold, n_bins=10, n_resamples=0)
        inside += count_between(found.null_low, found.accuracy, found.null_high)
        covered += count_between(found.accuracy_low, found.confidence, found.accuracy_high)
        bins += found.n.size
    # Exact intervals of whole numbers hold 95 % or somewhat more; ± 3 standard errors below.
    assert bins > 1000
    assert 0.95 - 3 * math.sqrt(0.95 * 0.05 / bins) < inside / bins < 0.985
    assert 0.95 - 3 * math.sqrt(0.95 * 0.05 / bins) < covered / bins < 0.99


def test_an_overconfident_model_leaves_the_bars() -> None:
    confidence, correct = np.full(200, 0.9), np.arange(200) % 2
    found = ch.reliability_of_pairs(confidence, correct, n_resamples=0)
    assert found.accuracy[0] < found.null_low[0]
    assert found.accuracy_high[0] < 0.9


@pytest.mark.parametrize("binning", BINNINGS)
def test_ece_and_null_are_those_of_the_metrics_table(tmp_path, binning: str) -> None:
    write_example_log(tmp_path, model="m", task="toy", n=80, sharpness=2.0)
    (run,) = ch.load_predictions(tmp_path, cache=False)
    table = ch.metrics_frame([run], metrics=["ece"], n_bins=10, binning=binning)
    table = table.set_index("metric")[["value", "stderr", "low", "high"]]
    found = ch.reliability(run.probs, run.gold, n_bins=10, binning=binning)
    ece, null = found.ece, found.ece_null
    assert table.loc["ece"].tolist() == [ece.value, ece.stderr, ece.low, ece.high]
    assert table.loc["ece_null"].tolist() == [null.mean, null.std, null.low, null.high]


def test_pairs_and_probabilities_agree() -> None:
    probs, gold = calibrated(np.random.default_rng(2), 120)
    of_probs = ch.reliability(probs, gold)
    confidence, prediction = ch.top_label(probs)
    of_pairs = ch.reliability_of_pairs(confidence, prediction == gold)
    assert of_pairs.ece == of_probs.ece
    assert of_pairs.accuracy.tolist() == of_probs.accuracy.tolist()
    # Drawn otherwise from the same distribution.
    assert of_pairs.ece_null.mean == pytest.approx(of_probs.ece_null.mean, abs=0.005)
    assert of_pairs.ece_null.std == pytest.approx(of_probs.ece_null.std, rel=0.15)


@pytest.mark.parametrize("binning", ["uniform", "equal_mass"])
def test_errors_of_positions_make_up_the_sce(binning: str) -> None:
    probs, gold = random_questions(np.random.default_rng(3), 60)
    found = ch.classwise_reliability(probs, gold, n_bins=5, binning=binning, n_resamples=0)
    assert [one.position for one in found] == list(range(probs.shape[1]))
    total = sum(one.n_entries for one in found)
    assert total == int((~np.isnan(probs)).sum())
    weighted = sum(one.n_entries * one.ece.value for one in found) / total
    assert weighted == pytest.approx(ch.sce(probs, gold, n_bins=5, binning=binning))


def test_a_position_that_no_question_has_is_left_out() -> None:
    probs = [[0.5, 0.5, math.nan], [0.25, 0.75, math.nan]]
    assert len(ch.classwise_reliability(probs, [0, 1], n_resamples=0)) == 2


def test_the_same_seed_gives_the_same_numbers() -> None:
    probs, gold = calibrated(np.random.default_rng(4), 50)
    one, same = (ch.classwise_reliability(probs, gold, n_resamples=50, seed=9)[2] for _ in "ab")
    other = ch.classwise_reliability(probs, gold, n_resamples=50, seed=8)[2]
    assert (one.ece, one.ece_null) == (same.ece, same.ece_null)
    assert one.ece_null != other.ece_null


def test_no_trials_have_no_interval_and_wrong_counts_are_named() -> None:
    low, high = clopper_pearson([0, 0], [0, 2])
    assert np.isnan([low[0], high[0]]).all()
    assert low[1] == 0.0
    with pytest.raises(ValueError, match="hits must lie between 0 and n"):
        clopper_pearson([3], [2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_bins": 0}, "n_bins must be a whole number of at least 1"),
        ({"binning": "x"}, "binning must be one of"),
        ({"n_resamples": -1}, "n_resamples must be a whole number"),
    ],
)
def test_wrong_options_are_named(options: dict, message: str) -> None:
    for function in (ch.reliability, ch.classwise_reliability):
        with pytest.raises(ValueError, match=message):
            function([[0.5, 0.5]], [0], **options)
    with pytest.raises(ValueError, match=message):
        ch.reliability_of_pairs([0.5], [0], **options)
