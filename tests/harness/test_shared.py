"""The engine behind lm-eval's backend: same numbers, checked first, never silently wrong."""

from __future__ import annotations

import functools
import logging
import math

import pytest
import torch
from lm_eval.models.huggingface import HFLM

import calib_harness
from calib_harness.scoring.inspection import cache_argument
from tests.harness.test_backends import PAIRS, score


def both_ways(lm, monkeypatch):
    results = {}
    for scoring in ("plain", "shared"):
        monkeypatch.setenv("CALIB_HARNESS_SCORING", scoring)
        results[scoring] = score(lm, PAIRS)
    return zip(results["plain"], results["shared"], strict=True)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gpt_neox", "gemma", "mistral"])
def test_shared_prefixes_change_no_number(make_lm, monkeypatch, architecture):
    for plain, shared in both_ways(make_lm(architecture), monkeypatch):
        assert shared.token_logprobs == pytest.approx(plain.token_logprobs, abs=1e-4)
        assert shared.is_greedy == plain.is_greedy


def test_tokens_that_a_model_rules_out_or_cannot_score_come_out_alike(make_lm, monkeypatch):
    lm = make_lm()
    tokens = [lm.tok_encode(continuation, add_special_tokens=False) for _, continuation in PAIRS]
    for broken in (-math.inf, math.nan):
        bias = torch.zeros(lm.model.lm_head.out_features)
        bias[tokens[0][-1]] = broken
        lm.model.lm_head.bias = torch.nn.Parameter(bias)
        found = list(both_ways(lm, monkeypatch))
        for plain, shared in found:
            assert shared.token_logprobs == pytest.approx(plain.token_logprobs, 1e-4, 1e-4, True)
        # Ruled out is -inf there and finite elsewhere; a NaN among the logits spoils all.
        assert found[0][0].token_logprobs[-1] == pytest.approx(broken, nan_ok=True)
        assert any(math.isfinite(plain.logprob) for plain, _ in found) == (broken == -math.inf)


def test_half_precision_stays_within_its_documented_bound(make_lm, monkeypatch):
    from calib_harness.scoring.support import tolerance

    lm = make_lm()
    lm.model.to(torch.bfloat16)
    for plain, shared in both_ways(lm, monkeypatch):
        allowed = tolerance(torch.bfloat16, len(plain.token_logprobs))
        assert abs(plain.logprob - shared.logprob) <= allowed


def test_a_model_that_sharing_would_get_wrong_is_scored_plainly_with_a_warning(
    make_lm, monkeypatch, caplog
):
    lm = make_lm()
    forward = lm.model.forward

    @functools.wraps(forward)
    def wrong_with_a_cache(*args, **kwargs):
        output = forward(*args, **kwargs)
        if kwargs.get(cache_argument(lm.model)) is not None:
            output.logits = output.logits * 1.1
        return output

    right = score(lm, PAIRS)
    monkeypatch.setattr(lm.model, "forward", wrong_with_a_cache)
    monkeypatch.setattr("calib_harness.scoring.execution._COSTS", {"cpu": eager()})
    with caplog.at_level(logging.WARNING):
        results = score(lm, PAIRS)
    assert "LlamaForCausalLM is scored on the plain path: its log-probabilities" in caplog.text
    for one, other in zip(right, results, strict=True):
        assert one.token_logprobs == pytest.approx(other.token_logprobs, abs=1e-4)


def change_forward(monkeypatch, lm, change):
    """Let `change` see each call of the model with a cache: its input, cache and output."""
    forward = lm.model.forward

    @functools.wraps(forward)
    def changed(*args, **kwargs):
        output = forward(*args, **kwargs)
        cache = kwargs.get(cache_argument(lm.model))
        if cache is not None:
            change(kwargs["input_ids"], cache, output)
        return output

    monkeypatch.setattr(lm.model, "forward", changed)


def assert_same(expected, found):
    for one, other in zip(expected, found, strict=True):
        assert one.token_logprobs == pytest.approx(other.token_logprobs, abs=1e-4)


def test_what_a_few_tokens_do_not_show_the_first_results_of_the_run_do(
    make_lm, monkeypatch, caplog
):
    lm = make_lm()
    right = score(lm, PAIRS)

    def wrong_behind_long_prefixes(_, cache, output):
        if cache.get_seq_length() > 15:  # longer than the few tokens are
            output.logits *= 1.1

    change_forward(monkeypatch, lm, wrong_behind_long_prefixes)
    monkeypatch.setattr("calib_harness.scoring.execution._COSTS", {"cpu": eager()})
    with caplog.at_level(logging.WARNING):
        assert_same(right, score(lm, PAIRS))
    assert "on the plain path: it gives other log-probabilities" in caplog.text


@pytest.mark.parametrize("passes", [0, 12])
def test_a_model_that_raises_on_the_shared_path_goes_on_plainly_and_says_why(
    make_lm, monkeypatch, caplog, passes
):
    lm = make_lm(batch_size=1)
    right = score(lm, PAIRS)
    seen = []

    def fail(_, cache, __):
        seen.append(cache.get_seq_length() > 0)
        if sum(seen) > passes:
            raise ValueError("The size of tensor a must match")

    change_forward(monkeypatch, lm, fail)
    monkeypatch.setattr("calib_harness.scoring.execution._COSTS", {"cpu": eager()})
    with caplog.at_level(logging.WARNING):
        assert_same(right, score(lm, PAIRS))
    assert caplog.text.count("LlamaForCausalLM is scored on the plain path") == 1
    assert "(ValueError: The size of tensor a must match)" in caplog.text


def eager():
    from calib_harness.scoring.passes import Costs

    return Costs(per_pass=0, min_length=1, min_saving=1)


def test_models_that_cannot_share_take_the_plain_path_and_say_so_once(make_lm, monkeypatch, caplog):
    lm = make_lm("t5")
    with caplog.at_level(logging.WARNING):
        score(lm, PAIRS)
    assert caplog.text.count("scored on the plain path: it is an encoder-decoder") == 1
    monkeypatch.setenv("CALIB_HARNESS_SCORING", "shared")
    with pytest.raises(calib_harness.UserError, match="T5ForConditionalGeneration cannot share"):
        score(lm, PAIRS)


def test_a_backend_that_calls_its_model_in_a_way_of_its_own_is_not_bypassed(make_lm, caplog):
    # A steering small enough to pass for rounding would be dropped without a word.
    class Steered(HFLM):
        def _model_call(self, *args, **kwargs):
            logits = super()._model_call(*args, **kwargs)
            logits[..., 1] += 0.01
            return logits

    lm = make_lm()
    lm.model.to(torch.bfloat16)
    lm.__class__ = Steered
    with caplog.at_level(logging.WARNING):
        steered = score(lm, PAIRS)
    assert "scored on the plain path: Steered calls it in a way of its own" in caplog.text
    lm.__class__ = HFLM
    assert steered != score(lm, PAIRS)


def test_an_unknown_mode_is_a_clear_error(make_lm, monkeypatch):
    monkeypatch.setenv("CALIB_HARNESS_SCORING", "fast")
    with pytest.raises(
        calib_harness.UserError, match="'fast'; expected one of auto, shared, plain"
    ):
        score(make_lm(), PAIRS)


def test_running_out_of_memory_halves_the_budget_and_loses_nothing(make_lm, monkeypatch, caplog):
    lm = make_lm(batch_size=64)
    expected = score(lm, PAIRS)
    forward, failures = lm.model.forward, []

    @functools.wraps(forward)
    def small_machine(*args, **kwargs):
        if (args[0] if args else kwargs["input_ids"]).numel() > 60:
            failures.append(1)
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(*args, **kwargs)

    monkeypatch.setenv("CALIB_HARNESS_SCORING", "shared")
    monkeypatch.setattr(lm.model, "forward", small_machine)
    with caplog.at_level(logging.WARNING):
        results = score(lm, PAIRS)
    assert failures
    assert "Out of memory; going on with" in caplog.text
    for one, other in zip(expected, results, strict=True):
        assert one.token_logprobs == pytest.approx(other.token_logprobs, abs=1e-4)
