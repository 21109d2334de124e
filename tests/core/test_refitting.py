"""The spread of what a recalibration saves, over fits on other questions."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from calib_harness.core import refitting
from calib_harness.core.accuracy import brier_losses
from calib_harness.core.answers import Answers
from calib_harness.core.recalibrators import fit_recalibrator
from calib_harness.core.refitting import Questions, spread_by_folds, spread_by_transfer
from tests.core.strategies import random_questions


def questions(seed: int, n: int, power: float = 1.0) -> Questions:
    probs, gold = random_questions(np.random.default_rng(seed), n, ragged=False)
    return Questions(power * np.log(probs), gold)


def saved(there: Questions, here: Questions) -> np.ndarray:
    probs = fit_recalibrator("temperature", there.scores, there.gold).apply(here.scores)
    before = np.exp(here.scores)
    return brier_losses(Answers.of(before, here.gold)) - brier_losses(Answers.of(probs, here.gold))


def test_spread_of_a_transfer_is_that_over_data_sets_where_fixed_fits_tell_too_little() -> None:
    pairs = [(questions(2 * i, 100, 2.0), questions(2 * i + 1, 300)) for i in range(60)]
    savings = [saved(*pair) for pair in pairs]
    real = np.std([each.mean() for each in savings])
    fixed = np.mean([each.std() / np.sqrt(each.size) for each in savings])
    refitted = np.mean([spread_by_transfer("temperature", *p, seed=0) for p in pairs[:10]])
    assert fixed < 0.85 * real
    assert refitted == pytest.approx(real, rel=0.3)


def test_copies_of_a_question_stay_in_its_fold(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def record(_: str, there: Questions, here: Questions) -> np.ndarray:
        seen.append(set(there.gold) & set(here.gold))
        return np.zeros(len(here.gold))

    monkeypatch.setattr(refitting, "_savings", record)
    numbered = Questions(np.zeros((40, 2)), np.arange(40))
    spread_by_folds("isotonic", numbered, n_folds=4, seed=0, n_refits=3)
    assert seen == [set()] * 12


def test_refits_do_not_repeat_warnings_and_give_nothing_where_nothing_fits(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sure = Questions(np.log([[0.9, 0.1]] * 20), np.zeros(20, dtype=int))
    spread_by_folds("temperature", sure, n_folds=2, seed=0)
    assert not caplog.records
    fit_recalibrator("temperature", sure.scores, sure.gold)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    other = Questions(sure.scores, sure.gold, np.array([[0.1, 0.9]] * 20))
    assert np.isnan(spread_by_folds("agreement", other, n_folds=2, seed=0))
