"""Models of each way to keep what was read: shared where that is exact, else plain with a reason.

A few of what `benchmarks/architectures.py` tries; docs/reference/architectures.md has them all.
"""

from __future__ import annotations

import functools

import pytest
import transformers
from packaging.version import Version
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from benchmarks.architectures import build, compare, make_requests, score_alone, tiny_config
from calib_harness.scoring.engine import score
from calib_harness.scoring.inspection import CannotShareError, cache_argument
from calib_harness.scoring.passes import Budget, Costs
from calib_harness.scoring.support import find_ability

STATES = "states"
ONE_BY_ONE = "states, one token at a time"
SAME_START = "prefixes of one length per pass"
# Before transformers 5 many of these have caches of their own kinds, which cannot be shared.
BEFORE_5 = Version(transformers.__version__) < Version("5")

needs_states = pytest.mark.skipif(
    "qwen3_5_text" not in CONFIG_MAPPING, reason="this transformers has no qwen3_5_text"
)


def verdict_on(model):
    requests = make_requests()
    return compare(model, requests, [score_alone(model, request) for request in requests])


@pytest.mark.parametrize(
    ("kind", "manner"),
    [
        ("gemma3_text", ""),
        ("gemma3n_text", ""),  # layers that share keys and values
        ("gpt_oss", ""),  # attention sinks
        ("deepseek_v3", ""),  # latent attention
        ("qwen3_5_text", STATES),
        ("granitemoehybrid", STATES),
        ("falcon_h1", STATES),  # attention and states in one layer
        ("lfm2", STATES),  # convolutions only
        ("minimax", STATES),  # a cache of its own
        ("mamba2", STATES),
        ("jamba", ONE_BY_ONE),
        ("mamba", ONE_BY_ONE),
        ("bart", SAME_START),  # positions counted from the cache's length
    ],
)
def test_prefixes_are_shared_exactly(kind, manner):
    if kind not in CONFIG_MAPPING:
        pytest.skip(f"this transformers has no {kind}")
    if BEFORE_5 and kind == "jamba":
        pytest.skip("before transformers 5 Jamba needs kernels that only CUDA has")
    verdict = verdict_on(build(kind))
    if BEFORE_5 and verdict.path == "plain":
        assert verdict.why  # never silently, and never wrong
        return
    assert (verdict.path, verdict.why) == ("shared", manner)
    assert verdict.error < 1e-4


def test_a_model_that_reads_both_ways_is_not_shared():
    config = tiny_config("bert")
    config.is_decoder = False
    verdict = verdict_on(AutoModelForCausalLM.from_config(config).eval())
    assert verdict.path == "plain"


@needs_states
def test_a_model_that_forgets_its_states_is_not_shared(monkeypatch):
    """The fault that must never pass: plausible numbers from a state that was not handed on."""
    model = build("qwen3_5_text")
    forward, name = model.forward, cache_argument(model)

    @functools.wraps(forward)
    def forgetful(*args, **kwargs):
        if kwargs.get(name) is not None:
            for layer in kwargs[name].layers:
                if hasattr(layer, "has_previous_state"):
                    layer.has_previous_state = dict.fromkeys(layer.has_previous_state, False)
        return forward(*args, **kwargs)

    monkeypatch.setattr(model, "forward", forgetful)
    with pytest.raises(CannotShareError, match="its log-probabilities are others"):
        find_ability(model, longest=40)


@needs_states
def test_many_rows_of_states_are_cut_into_passes_without_a_change():
    """More questions than one pass may hold states of, of many lengths."""
    model = build("qwen3_5_text")
    requests = [request for seed in range(3) for request in make_requests(seed)]
    ability = find_ability(model, longest=64)
    expected = [score_alone(model, request) for request in requests]
    for tokens, per_pass in ((100, 4), (4000, 100)):
        budget = Budget(tokens * (1 + ability.manner.state_size), 10**6)
        found = dict(
            score(
                model,
                requests,
                ability=ability,
                budget=budget,
                max_length=512,
                costs=Costs(per_pass, 2, 2),
            )
        )
        for index, right in enumerate(expected):
            assert found[index].token_logprobs == pytest.approx(right, abs=1e-4)


def test_a_model_that_is_wrong_beyond_its_window_only_is_not_shared(monkeypatch):
    """Moshi under transformers 4.56: its mask forgets the window where a prefix is kept."""
    model = build("mistral")
    forward, name = model.forward, cache_argument(model)

    @functools.wraps(forward)
    def wrong_beyond(*args, **kwargs):
        output = forward(*args, **kwargs)
        cache = kwargs.get(name)
        if cache is not None and cache.get_seq_length() > model.config.sliding_window:
            output.logits *= 1.1
        return output

    monkeypatch.setattr(model, "forward", wrong_beyond)
    with pytest.raises(CannotShareError, match="its log-probabilities are others"):
        find_ability(model, longest=40)
    find_ability(model, longest=model.config.sliding_window)  # no row is that long
