"""Whether two ways of scoring agree: a model unknown to us must never be silently wrong.

The first requests that the engine has scored are scored on the plain path as well. They come out
of the very passes whose results are used, so whatever is shared or padded in a run is checked.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence

import torch
from transformers import PreTrainedModel

from calib_harness.harness.huggingface.encoding import Encoded
from calib_harness.harness.responses import TokenLogprobs

logger = logging.getLogger(__name__)

#: Largest difference of a continuation's log-probability between the two paths.
TOLERANCE = 1e-3

#: The same in half precision, in units of its machine epsilon (so that bfloat16 may differ by 1 and
#: float16 by 1/8) for one token: 8 steps of a logit between 16 and 32. Roundings of several tokens
#: go either way, so their sum may differ by that times the square root of their number.
#: benchmarks/RESULTS.md has the measurement: about half of this at most.
HALF_TOLERANCE_IN_EPSILONS = 128

# The check may cost this share of the run, but is never left out.
_SHARE = 0.02
_FEWEST, _MOST = 1, 16


def choose_sample(candidates: Sequence[Encoded], planned: int) -> list[Encoded]:
    """Choose what is scored both ways: first what surely reads tokens computed for others.

    Those are contexts with several choices, and choices of several tokens: a single token is
    predicted where its context ends. Short questions come first, then their other choices.

    Parameters
    ----------
    candidates
        Requests the engine has scored.
    planned
        Tokens that the engine computes in the whole run.
    """
    by_context: dict[tuple[int, ...], list[Encoded]] = {}
    for item in sorted(candidates, key=lambda item: len(item[2]) == 1):
        by_context.setdefault(tuple(item[1]), []).append(item)
    questions = sorted(
        by_context.values(),
        key=lambda choices: (len(choices) == 1, len(choices[0][2]) == 1, len(choices[0][1])),
    )
    in_turn = [
        choices[nth]
        for nth in range(max(map(len, questions)))
        for choices in questions
        if nth < len(choices)
    ]
    sample: list[Encoded] = []
    tokens = 0.0
    for item in in_turn[:_MOST]:
        tokens += len(item[1]) + len(item[2])
        if len(sample) >= _FEWEST and tokens > _SHARE * planned:
            break
        sample.append(item)
    return sample


def agree(
    sample: Sequence[Encoded],
    ours: Mapping[int, TokenLogprobs],
    expected: Mapping[int, TokenLogprobs],
    model: PreTrainedModel,
) -> bool:
    """Say whether the sample's results are the same but for rounding; warn if not."""
    for index, _, continuation in sample:
        found, right = ours[index].logprob, expected[index].logprob
        difference = abs(found - right)
        allowed = tolerance(model.dtype, len(continuation))
        same = found == right or (math.isnan(found) and math.isnan(right))
        if not (same or difference <= allowed):  # so that a single NaN disagrees
            logger.warning(
                "%s gives other log-probabilities when prefixes are shared (they differ by %.2g, "
                "allowed is %.2g); the run continues on the plain path.",
                type(model).__name__,
                difference,
                allowed,
            )
            return False
    return True


def tolerance(dtype: torch.dtype, n_tokens: int) -> float:
    """Largest difference between the two paths' sums over `n_tokens` that is rounding."""
    if dtype in (torch.float16, torch.bfloat16):
        return HALF_TOLERANCE_IN_EPSILONS * torch.finfo(dtype).eps * math.sqrt(n_tokens)
    return TOLERANCE
