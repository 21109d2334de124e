"""The engine shares prefixes whatever transformers calls the cache that `forward` takes.

transformers 5.24 renamed it; the old name was looked for in the signature, and every model was
scored on the plain path.
"""

from __future__ import annotations

import functools
import inspect

import pytest

from calib_harness.scoring.engine import Counts, budget_for, score
from calib_harness.scoring.inspection import cache_argument
from calib_harness.scoring.support import reason_against
from tests.scoring.models import make_model, score_one_by_one
from tests.scoring.test_engine import EAGER, MAX_LENGTH, make_requests


def rename_cache(monkeypatch, model, name):
    """Make the model's `forward` take its cache under this name only, as another release would."""
    forward, native = model.forward, cache_argument(model)

    @functools.wraps(forward)
    def renamed(*args, **kwargs):
        if name in kwargs:
            kwargs[native] = kwargs.pop(name)
        return forward(*args, **kwargs)

    signature = inspect.signature(forward)
    renamed.__signature__ = signature.replace(
        parameters=[
            parameter.replace(name=name) if parameter.name == native else parameter
            for parameter in signature.parameters.values()
        ]
    )
    monkeypatch.setattr(model, "forward", renamed)


@pytest.mark.parametrize("name", ["cache", "past_key_values"])
def test_prefixes_are_shared_under_either_name_of_the_cache(monkeypatch, name):
    model, requests = make_model("llama"), make_requests()
    expected = score_one_by_one(model, requests, MAX_LENGTH)
    rename_cache(monkeypatch, model, name)
    assert reason_against(model, longest=MAX_LENGTH) is None
    counts = Counts()
    scored = dict(
        score(
            model,
            requests,
            budget=budget_for(3, requests, MAX_LENGTH),
            max_length=MAX_LENGTH,
            costs=EAGER,
            counts=counts,
        )
    )
    rows = sum(len(r.context[-MAX_LENGTH:]) + len(r.continuation) for r in requests)
    assert counts.forwarded < rows
    for index, (logprobs, _) in enumerate(expected):
        assert scored[index].token_logprobs == pytest.approx(logprobs, abs=1e-4)


def test_a_forward_that_takes_no_cache_is_named_as_the_reason(monkeypatch):
    model = make_model("llama")
    rename_cache(monkeypatch, model, "memory")
    assert reason_against(model, longest=MAX_LENGTH) == (
        "its forward takes no cache by any name known here (cache, past_key_values, cache_params)"
    )
