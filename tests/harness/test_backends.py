"""Token log-probabilities: right on every architecture, cached, and never silently missing."""

from __future__ import annotations

import functools
import logging
import math
from itertools import product
from types import SimpleNamespace

import pytest
import torch
from lm_eval.api.model import LM, CachingLM

from calib_harness.harness.responses import TokenLogprobs
from calib_harness.harness.token_requests import REQUEST_TYPE
from tests.conftest import CHOICE, CLOZE, QUESTIONS

PAIRS = [
    (f"Question: {doc['question']}" * (1 + i % 3), f" {choice}")
    for i, doc in enumerate(QUESTIONS[:6])
    for choice in doc["choices"]
] + [("", " blue"), ("Answer: ", " red"), ("Question", " A"), ("Question", " B")]


def request(*pair):
    return SimpleNamespace(args=pair, task_name="toy", doc_id=pair[0])


def score(lm, pairs):
    return lm.token_loglikelihood([request(*pair) for pair in pairs])


def one_string_at_a_time(lm, context, continuation):
    """A loop over the definition: no batch, no cache, one forward pass."""
    if context:
        tokens, scored = lm._encode_pair(context, continuation)
    else:
        tokens = [lm.prefix_token_id]
        scored = lm.tok_encode(continuation, add_special_tokens=False)
    with torch.no_grad():
        if lm.backend == "seq2seq":
            read = [lm.model.config.decoder_start_token_id, *scored[:-1]]
            rows = lm.model(
                input_ids=torch.tensor([tokens]), decoder_input_ids=torch.tensor([read])
            ).logits[0]
        else:
            whole = torch.tensor([(tokens + scored)[-(lm.max_length + 1) :]])
            rows = lm.model(whole[:, :-1]).logits[0, -len(scored) :]
    return [
        float(torch.log_softmax(row.double(), 0)[token])
        for row, token in zip(rows, scored, strict=True)
    ]


CAUSAL = ("llama", "gpt2", "gpt_neox", "gemma", "mistral", "olmo", "qwen2")


@pytest.mark.parametrize(
    ("architecture", "scoring"),
    [*product(CAUSAL, ("plain", "shared")), ("t5", "plain")],
)
def test_token_log_probabilities_equal_a_loop_over_single_strings(
    make_lm, monkeypatch, architecture, scoring
):
    monkeypatch.setenv("CALIB_HARNESS_SCORING", scoring)
    lm = make_lm(architecture)
    for pair, result in zip(PAIRS, score(lm, PAIRS), strict=True):
        expected = one_string_at_a_time(lm, *pair)
        assert result.token_logprobs == pytest.approx(expected, abs=1e-4)
        assert result.logprob == pytest.approx(sum(expected), abs=1e-4)


@pytest.mark.parametrize("scoring", ["plain", "shared"])
def test_a_trained_models_token_log_probabilities_equal_the_loop(stories, monkeypatch, scoring):
    from lm_eval.models.huggingface import HFLM

    monkeypatch.setenv("CALIB_HARNESS_SCORING", scoring)
    lm = HFLM(pretrained=str(stories), device="cpu", batch_size=8)
    for pair, result in zip(PAIRS, score(lm, PAIRS), strict=True):
        assert result.token_logprobs == pytest.approx(one_string_at_a_time(lm, *pair), abs=1e-4)


@pytest.mark.parametrize("batch_size", [1, 64, "auto"])
def test_results_do_not_depend_on_the_batch_size(make_lm, batch_size):
    reference = score(make_lm(batch_size=4), PAIRS)
    lm = make_lm(batch_size=batch_size, max_batch_size=8)
    for one, other in zip(reference, score(lm, PAIRS), strict=True):
        assert one.token_logprobs == pytest.approx(other.token_logprobs, abs=1e-4)
        assert one.is_greedy == other.is_greedy


def test_is_greedy_says_whether_greedy_decoding_gives_the_continuation(make_lm):
    lm = make_lm()
    context = "Question: Which colour"
    with torch.no_grad():
        best = int(lm.model(torch.tensor([lm.tok_encode(context)])).logits[0, -1].argmax())
    results = {
        token: score_token(lm, context, token).is_greedy for token in (best, (best + 1) % 300)
    }
    assert results == {best: True, (best + 1) % 300: False}


def score_token(lm, context, token):
    from calib_harness.harness.huggingface.plain import score_plain

    [(_, result)] = score_plain(lm, [(0, lm.tok_encode(context), [token])])
    return result


def test_a_context_beyond_the_maximum_is_cut_from_the_left_and_counted(make_lm, caplog):
    lm = make_lm()
    long = "Question: why? " * 60
    with caplog.at_level(logging.WARNING):
        [result, _] = score(lm, [(long, " blue"), ("short", " blue")])
    assert result.token_logprobs == pytest.approx(one_string_at_a_time(lm, long, " blue"), abs=1e-4)
    assert "1 of 2 requests are longer than the model's maximum of 128" in caplog.text


def test_a_choice_without_tokens_or_too_long_is_nan_and_counted(make_lm, caplog):
    with caplog.at_level(logging.WARNING):
        results = score(make_lm(), [("x", ""), ("", ""), ("x", " blue" * 200), ("x", " blue")])
    assert [math.isnan(result.logprob) for result in results] == [True, True, True, False]
    assert "3 of 4 continuations cannot be scored" in caplog.text


def test_half_precision_sums_are_not_coarse(make_lm):
    lm = make_lm(dtype="bfloat16")
    lm._model.to(torch.bfloat16)
    for result in score(lm, PAIRS):
        assert result.logprob == pytest.approx(sum(result.token_logprobs), abs=1e-9)
        assert any(not (token * 64).is_integer() for token in result.token_logprobs)


class Killed(Exception):
    pass


@pytest.mark.parametrize("scoring", ["plain", "shared"])
def test_a_killed_run_resumes_where_it_was(make_lm, tmp_path, monkeypatch, caplog, scoring):
    monkeypatch.setenv("CALIB_HARNESS_SCORING", scoring)
    lm = make_lm(batch_size=1)
    forward, calls = lm.model.forward, []
    last = math.inf

    @functools.wraps(forward)
    def count(*args, **kwargs):
        calls.append(args)
        if len(calls) == last:
            raise Killed
        return forward(*args, **kwargs)

    monkeypatch.setattr(lm.model, "forward", count)
    whole = score(lm, PAIRS)
    last, calls[:] = len(calls) - 2, []
    cached = CachingLM(lm, str(tmp_path / "cache.db"))
    with pytest.raises(Killed):
        score(cached, PAIRS)
    n_kept = len(cached.dbdict)
    assert 0 < n_kept < len(PAIRS)
    with caplog.at_level(logging.INFO):
        resumed = score(cached, PAIRS)
    assert f"Cached requests: {n_kept} of {len(PAIRS)}" in caplog.text
    assert [one.token_logprobs for one in resumed] == [
        pytest.approx(other.token_logprobs, abs=1e-4) for other in whole
    ]
    calls.clear()
    assert score(cached, PAIRS) == resumed
    assert not calls


class SumsOnly(LM):
    """A backend that knows sums, as API models do."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def loglikelihood(self, requests):
        self.calls += 1
        return [(-float(sum(request.args[1].encode())), False) for request in requests]

    def loglikelihood_rolling(self, requests):
        raise NotImplementedError

    def generate_until(self, requests):
        raise NotImplementedError


def test_a_backend_without_token_log_probabilities_loses_only_what_needs_them(evaluate, caplog):
    with caplog.at_level(logging.WARNING):
        output = evaluate(SumsOnly())
    results = output["results"]["toy"]
    assert math.isfinite(results["ece,continuation-sum"])
    assert math.isnan(results["ece,continuation-min"])
    assert math.isnan(results["acc,continuation-min"])
    assert "SumsOnly gives no token log-probabilities" in caplog.text
    assert "continuation-min and continuation-mean will be NaN" in caplog.text
    assert "add up to more than 1" not in caplog.text
    assert "as wrong" not in caplog.text  # acc is NaN, too
    output = evaluate(SumsOnly(), CHOICE, name="letters")
    letters = output["results"]["letters"]
    assert math.isfinite(letters["ece,choice"])


def test_letters_with_more_than_all_probability_are_counted(evaluate, caplog):
    class Unnormalised(SumsOnly):
        def loglikelihood(self, requests):
            return [(-0.01, False)] * 5 + [(-9.0 - i, False) for i in range(len(requests) - 5)]

    with caplog.at_level(logging.WARNING):
        evaluate(Unnormalised(), CHOICE)
    assert "in 2 of 24 questions the probabilities of the letters add up to more than 1 (to 2." in (
        caplog.text
    )
    assert "First: 0, 1" in caplog.text


def test_nan_and_infinite_scores_are_counted_and_do_not_end_the_run(evaluate, caplog):
    class Broken(SumsOnly):
        def loglikelihood(self, requests):
            scores = super().loglikelihood(requests)
            scores[0] = (math.nan, False)
            first_of_second = len(QUESTIONS[0]["choices"])
            for k in range(len(QUESTIONS[1]["choices"])):
                scores[first_of_second + k] = (-math.inf, False)
            scores[-1] = (-math.inf, False)  # one of several: probability 0, nothing broken
            return scores

    results = evaluate(Broken(), CLOZE)["results"]["toy"]
    assert results["unusable,continuation-sum"] == 2
    assert math.isfinite(results["ece,continuation-sum"])


def test_a_cache_written_without_token_log_probabilities_is_scored_again(make_lm, tmp_path, caplog):
    lm = make_lm()
    cached = CachingLM(lm, str(tmp_path / "cache.db"))
    cached.loglikelihood([request(*pair) for pair in PAIRS[:3]])
    with caplog.at_level(logging.WARNING):
        results = score(cached, PAIRS)
    assert all(isinstance(result, TokenLogprobs) and result.token_logprobs for result in results)
    assert "3 of these requests as sums only" in caplog.text


def test_letters_of_several_tokens_are_named_once(make_lm, monkeypatch, caplog):
    lm = make_lm()
    plain = lm.tok_encode
    monkeypatch.setattr(
        lm,
        "tok_encode",
        lambda text, **kwargs: plain(text.replace(" A", " A B"), **kwargs),
    )
    letters = [(context, f" {x}") for context in ("Question", "Other") for x in "ABC"]
    with caplog.at_level(logging.WARNING):
        score(lm, [*letters, ("a cloze question", " A"), ("a cloze question", " D A")])
    assert caplog.text.count("splits the letters ' A' (2) into") == 1


def test_a_choice_of_a_cloze_prompt_that_is_a_letter_is_no_split_letter(
    make_lm, monkeypatch, caplog
):
    lm = make_lm()
    plain = lm.tok_encode
    monkeypatch.setattr(
        lm, "tok_encode", lambda text, **kwargs: plain(text.replace(" F", " A B"), **kwargs)
    )
    with caplog.at_level(logging.WARNING):
        score(lm, [("Which vitamin?", " F"), ("Which vitamin?", " C and D")])
    assert "splits the letters" not in caplog.text


def test_request_type_is_known_to_every_backend():
    assert getattr(LM, REQUEST_TYPE)
