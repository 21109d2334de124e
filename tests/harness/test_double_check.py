"""What counts as rounding between the two paths."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from calib_harness.harness.huggingface.double_check import choose_sample, disagreement
from calib_harness.harness.responses import TokenLogprobs


def accepts(dtype, difference, n_tokens):
    ours = {0: TokenLogprobs(-5.0, False, [-5.0 / n_tokens] * n_tokens)}
    plain = {0: TokenLogprobs(-5.0 - difference, False, [-5.0 / n_tokens] * n_tokens)}
    sample = [(0, [1, 2], list(range(n_tokens)))]
    return disagreement(sample, ours, plain, SimpleNamespace(dtype=dtype)) is None


@pytest.mark.parametrize(
    ("dtype", "rounding", "error"),
    [(torch.bfloat16, 0.52, 1.1), (torch.float16, 0.065, 0.14), (torch.float32, 9e-4, 1.1e-3)],
)
def test_one_token_may_differ_by_what_was_measured_and_not_by_much_more(dtype, rounding, error):
    assert accepts(dtype, rounding, 1)
    assert not accepts(dtype, error, 1)


def test_the_bound_of_half_precision_grows_slower_than_the_tokens():
    assert accepts(torch.bfloat16, 2.9, 9)
    assert not accepts(torch.bfloat16, 3.1, 9)
    assert not accepts(torch.float32, 1.1e-3, 9)


def test_a_single_check_is_of_a_choice_that_reads_a_context_computed_for_others():
    alone, single, several = (0, [1], [2, 3]), (1, [4] * 5, [2]), (2, [4] * 5, [2, 3])
    letters = [(3, [5] * 3, [6]), (4, [5] * 3, [7])]
    longer = [(5, [8] * 6, [2, 3]), (6, [8] * 6, [2, 4])]
    candidates = [alone, *letters, single, *longer, several]
    assert choose_sample(candidates, planned=0) == [several]
    assert choose_sample(candidates, planned=10**6)[:3] == [several, longer[0], letters[0]]
