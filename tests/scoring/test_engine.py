from __future__ import annotations

import random

import pytest
import torch

from calib_harness.scoring.engine import budget_for, score
from calib_harness.scoring.passes import Costs
from calib_harness.scoring.support import reason_against
from calib_harness.scoring.tree import Request
from tests.scoring.models import CONFIGS, VOCABULARY, make_model, score_one_by_one

MAX_LENGTH = 64
# Share whatever is shared: every mechanism runs, however small the requests.
EAGER = Costs(per_pass=0, min_length=1, min_saving=1)


def tokens(rng: random.Random, length: int) -> list[int]:
    return [rng.randrange(3, VOCABULARY) for _ in range(length)]


def make_requests(seed: int = 0) -> list[Request]:
    """Shots, questions and choices of unequal length; empty contexts; the model's maximum."""
    rng = random.Random(seed)
    requests = []
    for shots in (tokens(rng, 20), tokens(rng, 5)):
        for length in (1, 3, 8, 19):
            question = [*shots, *tokens(rng, length)]
            requests += [Request(question, tokens(rng, n)) for n in (1, 1, 2, 9)]
    requests += [Request([1], tokens(rng, n)) for n in (1, 4)]  # what an empty context becomes
    for length in (MAX_LENGTH - 3, MAX_LENGTH, MAX_LENGTH + 30):
        question = tokens(rng, length)
        requests += [Request(question, tokens(rng, n)) for n in (1, 2, 5)]
    requests.append(Request(tokens(rng, 4), tokens(rng, MAX_LENGTH)))
    return requests


@pytest.mark.parametrize("name", CONFIGS)
def test_token_logprobs_equal_those_of_one_string_at_a_time(name):
    model, requests = make_model(name), make_requests()
    assert reason_against(model, longest=MAX_LENGTH) is None
    scored = dict(
        score(
            model,
            requests,
            budget=budget_for(3, requests, MAX_LENGTH),
            max_length=MAX_LENGTH,
            costs=EAGER,
        )
    )
    expected = score_one_by_one(model, requests, MAX_LENGTH)
    assert sorted(scored) == list(range(len(requests)))
    for index, (logprobs, is_greedy) in enumerate(expected):
        assert scored[index].token_logprobs == pytest.approx(logprobs, abs=1e-4)
        assert scored[index].is_greedy == is_greedy


def test_what_waits_for_the_head_survives_running_out_of_memory():
    model, requests = make_model("llama"), make_requests()
    batches = 0

    def fail_at_two_batches(_, __, arguments, ___):
        nonlocal batches
        batches += len(arguments["input_ids"]) > 1
        if batches in (3, 5) and len(arguments["input_ids"]) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    hook = model.register_forward_hook(fail_at_two_batches, with_kwargs=True)
    budget = budget_for(8, requests, MAX_LENGTH)
    costs = EAGER._replace(per_pass=24)
    scored = list(score(model, requests, budget=budget, max_length=MAX_LENGTH, costs=costs))
    hook.remove()
    assert batches >= 5
    assert sorted(index for index, _ in scored) == list(range(len(requests)))  # each of them once
    for (logprobs, _), (_, result) in zip(
        score_one_by_one(model, requests, MAX_LENGTH), sorted(scored), strict=True
    ):
        assert result.token_logprobs == pytest.approx(logprobs, abs=1e-4)


def test_the_head_is_run_once_for_several_passes_with_few_positions():
    model, requests = make_model("llama"), make_requests()
    rows = []
    hook = model.get_output_embeddings().register_forward_hook(
        lambda _, inputs, __: rows.append(inputs[0].shape[1])
    )
    budget = budget_for(1, requests, MAX_LENGTH)
    list(score(model, requests, budget=budget, max_length=MAX_LENGTH, costs=EAGER))
    hook.remove()
    assert sum(n > 0 for n in rows) < len(rows) / 2


def test_cudnn_attention_is_off_while_the_model_runs_and_as_it_was_afterwards():
    model, requests = make_model("llama"), make_requests()
    seen = []
    hook = model.register_forward_hook(
        lambda *_: seen.append(torch.backends.cuda.cudnn_sdp_enabled())
    )
    before = torch.backends.cuda.cudnn_sdp_enabled()
    budget = budget_for(3, requests, MAX_LENGTH)
    list(score(model, requests, budget=budget, max_length=MAX_LENGTH, costs=EAGER))
    hook.remove()
    assert set(seen) == {False}
    assert torch.backends.cuda.cudnn_sdp_enabled() == before
