"""The backend on a GPU: every way of saying the batch size, and a whole run, as on a CPU."""

from __future__ import annotations

import pytest
import torch
from lm_eval.models.huggingface import HFLM

from tests.harness.test_backends import PAIRS, score

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture
def on_gpu(make_model, tokenizer):
    def make(**settings):
        model = make_model("llama").to("cuda")
        return HFLM(pretrained=model, tokenizer=tokenizer, device="cuda", **settings)

    return make


@pytest.mark.parametrize("scoring", ["plain", "shared"])
@pytest.mark.parametrize("batch_size", [1, 64, "auto"])
def test_results_are_those_of_the_cpu_at_any_batch_size(
    make_lm, on_gpu, monkeypatch, batch_size, scoring
):
    monkeypatch.setenv("CALIB_HARNESS_SCORING", scoring)
    expected = score(make_lm(), PAIRS)
    for one, other in zip(expected, score(on_gpu(batch_size=batch_size), PAIRS), strict=True):
        assert other.token_logprobs == pytest.approx(one.token_logprobs, abs=1e-3)
        assert other.is_greedy == one.is_greedy


def test_a_run_ends_with_the_metrics_of_the_cpu(evaluate, make_lm, on_gpu):
    expected = evaluate(make_lm())["results"]["toy"]
    found = evaluate(on_gpu(batch_size="auto"), name="again")["results"]["again"]
    numbers = {key: value for key, value in expected.items() if isinstance(value, float)}
    assert len(numbers) > 10
    assert {key: found[key] for key in numbers} == pytest.approx(numbers, abs=1e-3)
