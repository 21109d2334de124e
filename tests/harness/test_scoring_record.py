"""The results file says how a task was scored: a slow run explains itself."""

from __future__ import annotations

from calib_harness.harness.scoring_record import ScoringRecord, note_scoring, take_scoring
from tests.conftest import QUESTIONS


def record_of(results, task="toy"):
    return results["configs"][task]["metadata"]["scoring"]


def test_a_shared_run_says_how_much_more_than_the_tree_it_read(make_lm, evaluate, monkeypatch):
    monkeypatch.setenv("CALIB_HARNESS_SCORING", "shared")
    shared = record_of(evaluate(make_lm(batch_size=16)))
    assert (shared["path"], shared["why"], shared["tasks_scored_together"]) == ("shared", "", 1)
    choices = sum(len(question["choices"]) for question in QUESTIONS)
    assert shared["requests"] == choices
    ratio = shared["tokens_forwarded"] / shared["tokens_of_tree"]
    assert shared["forwarded_per_token_of_tree"] == round(ratio, 3) >= 1


def test_a_plain_run_says_why(make_lm, evaluate, monkeypatch):
    monkeypatch.setenv("CALIB_HARNESS_SCORING", "plain")
    plain = record_of(evaluate(make_lm()))
    assert (plain["path"], plain["why"]) == ("plain", "CALIB_HARNESS_SCORING is 'plain'")
    assert plain["tokens_forwarded"] > plain["tokens_of_tree"] > 0


def test_each_task_is_told_once_and_of_its_own_requests():
    note_scoring(ScoringRecord("shared", "", 30, 20), ["one", "two", "one"])
    one = take_scoring("one")
    assert (one["requests"], one["tasks_scored_together"]) == (2, 2)
    assert one["forwarded_per_token_of_tree"] == 1.5
    assert take_scoring("one") is None
    assert take_scoring("two")["requests"] == 1
