"""Answering only where it is safe to."""

from __future__ import annotations

import numpy as np
import pytest

import calib_harness as ch
from tests.core.strategies import random_questions


def test_accuracy_at_coverage_is_that_of_the_most_confident() -> None:
    probs, gold = random_questions(np.random.default_rng(0), 97)
    confidence, prediction = ch.top_label(probs)
    best = np.argsort(-confidence)
    for coverage, kept in ((0.1, 10), (0.5, 49), (1.0, 97), (1e-9, 1)):
        expected = (prediction == gold)[best[:kept]].mean()
        assert ch.accuracy_at_coverage(probs, gold, coverage) == pytest.approx(expected)


def test_equal_confidences_are_kept_in_every_order_at_once() -> None:
    probs = [[0.7, 0.3]] * 4
    assert ch.accuracy_at_coverage(probs, [0, 0, 0, 1], 0.25) == pytest.approx(0.75)
    assert ch.coverage_at_accuracy(probs, [0, 0, 0, 1], 0.8) == 0.0
    assert ch.coverage_at_accuracy(probs, [0, 0, 0, 1], 0.75) == 1.0


def test_coverage_at_accuracy_is_the_largest_share_that_reaches_it() -> None:
    probs, gold = random_questions(np.random.default_rng(1), 80)
    confidence, prediction = ch.top_label(probs)
    hit = (prediction == gold)[np.argsort(-confidence)]
    shares = [k / 80 for k in range(1, 81) if hit[:k].mean() >= 0.8]
    assert ch.coverage_at_accuracy(probs, gold, 0.8) == pytest.approx(max(shares, default=0.0))


@pytest.mark.parametrize("score", ["lac", "aps"])
@pytest.mark.parametrize("level", [0.8, 0.9])
def test_conformal_sets_cover_at_their_level(score: str, level: float) -> None:
    found = []
    for seed in range(60):
        probs, gold = random_questions(np.random.default_rng(seed), 100)
        # Not even calibrated: coverage needs exchangeable questions only.
        sharp = ch.apply_temperature(np.log(probs), 0.4)
        found.append(ch.conformal_sets(sharp, gold, score=score, level=level, rng=seed).coverage)
    error = np.std(found) / np.sqrt(len(found))
    assert np.mean(found) == pytest.approx(level + 0.5 / 81, abs=3 * error + 0.5 / 81)


@pytest.mark.parametrize("score", ["lac", "aps"])
@pytest.mark.parametrize(("n", "k"), [(50, 2), (50, 10), (421, 4)])
def test_conformal_coverage_is_what_the_rank_of_the_threshold_promises(
    score: str, n: int, k: int
) -> None:
    # Of m + 1 exchangeable questions the last is among the r least strange with r / (m + 1).
    sizes = np.bincount(np.arange(n) % 5)
    for level in (0.8, 0.9, 0.95):
        promised = np.average(
            np.ceil((n - sizes + 1) * level - 1e-9) / (n - sizes + 1), weights=sizes
        )
        assert level <= promised <= level + 1 / (n - sizes.max() + 1)
        found = []
        for seed in range(40):
            rng = np.random.default_rng([seed, n, k])
            probs = rng.dirichlet(np.full(k, 0.8), size=n)
            gold = np.array([rng.choice(k, p=row) for row in probs])
            sharp = ch.apply_temperature(np.log(probs), 0.5)
            sets = ch.conformal_sets(sharp, gold, score=score, level=level, rng=rng)
            found.append(sets.coverage)
        error = np.std(found, ddof=1) / np.sqrt(len(found))
        assert error < 0.004
        assert np.mean(found) == pytest.approx(promised, abs=3.5 * error)


def test_conformal_sets_hold_no_choice_that_does_not_exist() -> None:
    probs, gold = random_questions(np.random.default_rng(2), 60)
    for score in ("lac", "aps"):
        found = ch.conformal_sets(probs, gold, score=score, level=0.95)
        assert not found.sets[np.isnan(probs)].any()
        assert found.size == pytest.approx(found.sets.sum() / 60)
        assert found.coverage == found.sets[np.arange(60), gold].mean()


def test_thresholds_come_from_the_other_folds() -> None:
    probs, gold = random_questions(np.random.default_rng(3), 40, ragged=False)
    found = ch.conformal_sets(probs, gold, n_folds=40, level=0.7)  # leave one out
    scores = 1 - probs[np.arange(40), gold]
    for i in (0, 11, 39):
        others = np.sort(np.delete(scores, i))
        threshold = others[int(np.ceil(40 * 0.7)) - 1]
        np.testing.assert_array_equal(found.sets[i], 1 - probs[i] <= threshold)


def test_bad_requests_are_named() -> None:
    probs, gold = [[0.6, 0.4]] * 3, [0, 1, 0]
    with pytest.raises(ValueError, match="coverage must lie strictly between 0 and 1; got 0"):
        ch.accuracy_at_coverage(probs, gold, 0)
    with pytest.raises(ValueError, match="accuracy must lie"):
        ch.coverage_at_accuracy(probs, gold, 1.5)
    with pytest.raises(ValueError, match="score must be one of 'lac', 'aps'; got 'raps'"):
        ch.conformal_sets(probs, gold, score="raps")
    with pytest.raises(ValueError, match="n_folds=5 rows; got 3"):
        ch.conformal_sets(probs, gold)
