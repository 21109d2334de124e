"""Whether two ways of scoring agree: a model unknown to us must never be silently wrong.

The first requests that the engine has scored are scored on the plain path as well. They come out
of the very passes whose results are used, so whatever is shared or padded in a run is checked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from transformers import PreTrainedModel

from calib_harness.harness.huggingface.encoding import Encoded
from calib_harness.harness.responses import TokenLogprobs
from calib_harness.scoring.support import tolerance

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


def disagreement(
    sample: Sequence[Encoded],
    ours: Mapping[int, TokenLogprobs],
    expected: Mapping[int, TokenLogprobs],
    model: PreTrainedModel,
) -> str | None:
    """Say by how much the sample's results differ; None if it is rounding."""
    for index, _, continuation in sample:
        found, right = ours[index].logprob, expected[index].logprob
        difference = abs(found - right)
        allowed = tolerance(model.dtype, len(continuation))
        same = found == right or (math.isnan(found) and math.isnan(right))
        if not (same or difference <= allowed):  # so that a single NaN disagrees
            return (
                "it gives other log-probabilities when prefixes are shared (they differ by "
                f"{difference:.2g}, allowed is {allowed:.2g})"
            )
    return None
