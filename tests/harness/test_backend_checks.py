"""No backend's wrong numbers come out: probe, checks of a run, a cache that knows its model."""

from __future__ import annotations

import logging
import math
from types import SimpleNamespace

import pytest
from lm_eval.api.model import CachingLM

from calib_harness.errors import UserError
from calib_harness.harness.backends.identity import describe
from calib_harness.harness.backends.run_checks import WrongScoresError, checked
from calib_harness.harness.responses import TokenLogprobs
from tests.harness.letter_model import LetterModel, requests_for, true_tokens

REQUESTS = requests_for(12)


def score(lm, requests=REQUESTS):
    return lm.token_loglikelihood(requests)


def test_a_right_backend_passes_the_probe_and_its_sums_are_handed_on():
    for request, result in zip(REQUESTS, score(LetterModel()), strict=True):
        assert result.logprob == pytest.approx(sum(true_tokens(*request.args)))


def test_a_request_that_recurs_is_asked_once():
    # As a choice after a neutral context does, in every question that has it.
    once, twice = LetterModel(), LetterModel()
    assert score(twice, [*REQUESTS, *REQUESTS]) == score(once) * 2
    assert twice.n_scored == once.n_scored


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("zeros", "every continuation of a prompt has the same, 0.0000"),
        ("off by one", "cannot be right"),
        ("drops", "gave 19 results for 20 requests"),
        ("logits", "above 0"),
    ],
)
def test_a_backend_that_lies_is_refused_in_one_sentence(fault, said):
    with pytest.raises(UserError, match=said) as refused:
        score(LetterModel(fault))
    assert "\n" not in str(refused.value)


def test_a_backend_that_cannot_generate_is_scored_and_said_to_be_unconfirmed(caplog):
    class Silent(LetterModel):
        def generate_until(self, requests):
            raise NotImplementedError

    with caplog.at_level(logging.WARNING):
        score(Silent())
    assert "could not be confirmed by a known answer: it does not generate text" in caplog.text


def test_a_backend_that_fails_before_anything_is_scored_is_one_sentence():
    class Broken(LetterModel):
        def generate_until(self, requests):
            raise KeyError("choices")

    with pytest.raises(UserError, match=r"backend Broken failed \(KeyError: 'choices'\)"):
        score(Broken())


@pytest.mark.parametrize("answer", [None, (None, False), -1.0, (-1.0,)])
def test_a_backend_that_does_not_answer_a_request_is_refused_in_one_sentence(answer):
    class Silent(LetterModel):
        def generate_until(self, requests):
            raise NotImplementedError

        def loglikelihood(self, requests):
            return [*super().loglikelihood(requests)[:-1], answer]

    with pytest.raises(WrongScoresError, match="answered a request with") as refused:
        score(Silent())
    assert "\n" not in str(refused.value)


def test_equal_scores_of_all_choices_end_a_run_that_no_probe_could_stop():
    class Silent(LetterModel):
        def generate_until(self, requests):
            raise NotImplementedError

    with pytest.raises(WrongScoresError, match="exactly the same score"):
        score(Silent("zeros"))


def tell(*results):
    requests = requests_for(1)
    return list(checked("Stand-in", requests, iter(results)))


@pytest.mark.parametrize(
    ("results", "said"),
    [
        ([(0, TokenLogprobs(-1.0, False, None))] * 2, "request 0 twice"),
        ([(3, TokenLogprobs(-1.0, False, None))], "request 3 of 3"),
        ([(0, TokenLogprobs(-1.0, False, [-1.0, -2.0]))], "add up to -3.0000"),
        ([(0, TokenLogprobs(-1.0, False, [0.5, -1.5]))], "above 0"),
        # NaN hides nothing: max and comparisons do not see it.
        ([(0, TokenLogprobs(math.nan, False, [0.5, -1.5]))], "above 0"),
        ([(0, TokenLogprobs(math.nan, False, [math.nan, 0.5]))], "above 0"),
        ([(0, TokenLogprobs(-1.0, False, [math.nan, -1.0]))], "add up to nan"),
        ([(0, TokenLogprobs(math.nan, False, [-1.0, -1.0]))], "add up to -2.0000"),
    ],
)
def test_results_that_contradict_themselves_are_refused(results, said):
    with pytest.raises(WrongScoresError, match=said):
        tell(*results)


def test_results_without_tokens_and_impossible_ones_pass():
    given = [
        (0, TokenLogprobs(math.nan, False, [])),
        (1, TokenLogprobs(-math.inf, False, [-1.0, -math.inf])),
        (2, TokenLogprobs(-2.0, False, None)),
    ]
    assert tell(*given) == given


def cached(tmp_path, lm):
    return CachingLM(lm, str(tmp_path / "cache.db"))


def test_a_run_that_dies_resumes_on_a_backend_without_tokens(tmp_path, caplog):
    probe = 4 * 6  # at most: what the known answer asks
    with pytest.raises(UserError, match=r"failed \(ConnectionError: the server is gone\)") as end:
        score(cached(tmp_path, LetterModel(dies_after=20 + probe)))
    assert "\n" not in str(end.value)
    lm = LetterModel()
    with caplog.at_level(logging.INFO):
        results = score(cached(tmp_path, lm))
    n_cached = int(caplog.text.partition("Cached requests: ")[2].split()[0])
    assert 20 <= n_cached < len(REQUESTS)
    assert [r.logprob for r in results] == [r.logprob for r in score(LetterModel())]
    scored_before = lm.n_scored
    assert score(cached(tmp_path, lm)) == results
    assert lm.n_scored - scored_before == 2  # two are asked again: is it still the same model?


def test_a_cache_of_another_model_is_named_and_scored_again(tmp_path, caplog):
    first, second = LetterModel(), LetterModel()
    first.model, second.model = "one", "two"
    score(cached(tmp_path, first))
    with caplog.at_level(logging.WARNING):
        score(cached(tmp_path, second))
    assert "36 of these requests scored by another model (model: one, now two)" in caplog.text
    assert second.n_scored >= 36
    caplog.clear()
    third = LetterModel()
    third.model = "one"
    score(cached(tmp_path, third))
    assert third.n_scored == 2


def test_a_server_that_now_answers_otherwise_is_noticed_and_scored_again(tmp_path, caplog):
    class Other(LetterModel):
        def score(self, context, continuation):
            logprob, greedy = super().score(context, continuation)
            return logprob - 3.0, greedy

    Other.__name__ = "LetterModel"
    before = score(cached(tmp_path, LetterModel()))
    with caplog.at_level(logging.WARNING):
        after = score(cached(tmp_path, Other()))
    assert "another model answers. The 36 cached requests are scored again" in caplog.text
    assert [r.logprob for r in after] == pytest.approx([r.logprob - 3.0 for r in before])


def test_what_turned_out_wrong_is_not_left_in_the_cache(tmp_path):
    class Silent(LetterModel):
        def generate_until(self, requests):
            raise NotImplementedError

    lm = cached(tmp_path, Silent("zeros"))
    with pytest.raises(WrongScoresError):
        score(lm)
    assert len(lm.dbdict) == 0


def test_one_cache_serves_two_models_of_hf_each_with_its_own_numbers(make_lm, tmp_path, caplog):
    import torch

    one, other = make_lm(), make_lm()
    with torch.no_grad():
        next(other.model.parameters()).add_(0.5)
    first = score(cached(tmp_path, one), REQUESTS[:6])
    with caplog.at_level(logging.WARNING):
        second = score(cached(tmp_path, other), REQUESTS[:6])
    assert "6 of these requests scored by another model (weights: " in caplog.text
    assert [r.logprob for r in first] != pytest.approx([r.logprob for r in second], abs=1e-3)
    assert score(cached(tmp_path, one), REQUESTS[:6]) == first


def test_equal_weights_are_one_model_and_a_changed_weight_or_dtype_is_another(make_lm):
    import torch

    base = describe(make_lm())
    assert describe(make_lm()) == base
    changed = make_lm()
    with torch.no_grad():
        list(changed.model.parameters())[-1].view(-1)[-1].add_(1e-3)
    assert describe(changed)["weights"] != base["weights"]
    half = make_lm()
    half._model.to(torch.bfloat16)
    assert describe(half)["weights"] != base["weights"]


def test_files_of_a_local_model_that_changed_are_another_model(tmp_path):
    lm = LetterModel()
    lm.model_args = {"model": str(tmp_path)}
    (tmp_path / "model.safetensors").write_bytes(b"x" * 300_000)
    before = describe(lm)
    (tmp_path / "model.safetensors").write_bytes(b"x" * 299_999 + b"y")
    assert describe(lm)["files"] != before["files"]


def test_a_server_on_this_machine_is_the_same_whatever_port_it_chose():
    one, other = LetterModel(), LetterModel()
    one.base_url = "http://127.0.0.1:8000/v1/completions"
    other.base_url = "http://localhost:8123/v1/completions"
    assert describe(one) == describe(other)
    other.base_url = "http://elsewhere:8000/v1/completions"
    assert describe(one) != describe(other)


class Tokenizer:
    """Adds a token in front by default, as Llama's does."""

    backend_tokenizer, bos_token = None, "<s>"

    def __call__(self, text, add_special_tokens=True):
        return SimpleNamespace(input_ids=[0] * add_special_tokens + [ord(c) for c in text])

    def convert_ids_to_tokens(self, ids):
        return [self.bos_token for _ in ids]


@pytest.mark.parametrize("adds", [False, True])
def test_prompts_that_differ_from_those_of_hf_are_said_before_scoring(adds, caplog):
    lm = LetterModel()
    lm.tokenizer = Tokenizer()
    lm.tok_encode = lambda text: lm.tokenizer(text, add_special_tokens=adds).input_ids
    with caplog.at_level(logging.WARNING):
        score(lm)
    said = "hf puts '<s>' in front of each" in caplog.text
    assert said is not adds
    if said:
        assert "add_bos_token=True" in caplog.text
