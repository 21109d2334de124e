"""The engine on a GPU: same numbers as one string at a time, and nothing lost out of memory."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from calib_harness.harness.huggingface.double_check import tolerance
from calib_harness.scoring.engine import TokenScores, budget_for, score
from calib_harness.scoring.passes import Costs
from tests.scoring.models import CONFIGS, make_model, score_one_by_one
from tests.scoring.test_engine import EAGER, MAX_LENGTH, make_requests

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def score_all(
    model, requests, *, batch_size: int = 3, costs: Costs = EAGER, **settings
) -> list[TokenScores]:
    budget = budget_for(batch_size, requests, MAX_LENGTH)
    scored = dict(
        score(model, requests, budget=budget, max_length=MAX_LENGTH, costs=costs, **settings)
    )
    return [scored[index] for index in range(len(requests))]


@pytest.mark.parametrize("name", CONFIGS)
def test_token_logprobs_equal_those_of_one_string_at_a_time(name):
    model, requests = make_model(name, "cuda"), make_requests()
    expected = score_one_by_one(model, requests, MAX_LENGTH)
    for (right, _), found in zip(expected, score_all(model, requests), strict=True):
        assert found.token_logprobs == pytest.approx(right, abs=1e-3)
        assert sum(found.token_logprobs) == pytest.approx(sum(right), abs=1e-3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["llama", "mistral-window", "gpt2", "gemma3", "qwen3", "bloom"])
def test_sums_in_half_precision_stay_within_the_documented_bound(name, dtype):
    model, requests = make_model(name, "cuda", dtype), make_requests()
    expected = score_one_by_one(model, requests, MAX_LENGTH)
    for (right, _), found in zip(expected, score_all(model, requests), strict=True):
        difference = abs(sum(found.token_logprobs) - sum(right))
        assert difference <= tolerance(dtype, len(right))


@pytest.fixture
def hungry_model():
    """A model of few weights whose passes take much memory."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=97, hidden_size=64, intermediate_size=8192, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=64,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval().cuda()


@pytest.fixture
def little_memory():
    """Return a function that leaves that many bytes of the GPU's memory."""

    def leave(n_bytes: int) -> None:
        torch.cuda.empty_cache()
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + n_bytes) / total)

    yield leave
    torch.cuda.set_per_process_memory_fraction(1.0)


def test_running_out_of_memory_halves_the_budget_and_loses_nothing(hungry_model, little_memory):
    requests = [request for seed in range(40) for request in make_requests(seed)]
    expected = score_all(hungry_model, requests)
    budgets: list[int] = []
    little_memory(2**27)
    found = score_all(
        hungry_model,
        requests,
        batch_size=200,
        costs=EAGER._replace(per_pass=1024),
        on_smaller_budget=lambda budget: budgets.append(budget.tokens),
    )
    assert budgets
    assert budgets == sorted(budgets, reverse=True)
    for one, other in zip(expected, found, strict=True):
        assert other.token_logprobs == pytest.approx(one.token_logprobs, abs=1e-3)
