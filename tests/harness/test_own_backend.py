"""The backend of docs/extending.md works, and gets all checks without a line of its own."""

from __future__ import annotations

import pytest

from calib_harness.errors import UserError
from tests.harness.letter_model import greedy, requests_for, true_tokens
from tests.test_extending import example


def tell(context, continuation):
    whole = context + continuation
    said = all(greedy(whole[:i]) == whole[i] for i in range(len(context), len(whole)))
    return {"parts": true_tokens(context, continuation), "greedy": said}


def shifted(context, continuation):
    return {"parts": true_tokens(context[:-1], context[-1] + continuation[:-1]), "greedy": False}


def test_its_tokens_are_handed_on():
    lm = example("A backend")["PartsLM"](tell, greedy)
    requests = requests_for(10)
    for request, result in zip(requests, lm.token_loglikelihood(requests), strict=True):
        assert result.token_logprobs == pytest.approx(true_tokens(*request.args))


def test_it_is_refused_when_its_server_is_off_by_one():
    lm = example("A backend")["PartsLM"](shifted, greedy)
    with pytest.raises(UserError, match="cannot be right"):
        lm.token_loglikelihood(requests_for(10))
