"""How a backend's token log-probabilities are obtained, by the kind of backend.

Others can register theirs: `score_tokens` decides by the model's class.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import singledispatch

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

from calib_harness.core.confidence import METHODS
from calib_harness.harness.responses import TokenLogprobs

logger = logging.getLogger(__name__)


@singledispatch
def score_tokens(lm: LM, requests: Sequence[Instance]) -> Iterator[tuple[int, TokenLogprobs]]:
    """Score requests; yield each one's index and result as soon as it is known.

    The fallback asks `lm.loglikelihood`, which knows sums only. Register a function for a
    model class with ``@score_tokens.register(ModelClass)`` to do better.
    """
    missing = [method.name for method in METHODS.values() if method.needs_token_logprobs]
    logger.warning(
        "Backend %s gives no token log-probabilities: %s will be NaN; %s are not affected.",
        type(lm).__name__,
        " and ".join(missing),
        ", ".join(name for name in METHODS if name not in missing),
    )
    for index, (logprob, is_greedy) in enumerate(lm.loglikelihood(list(requests))):
        yield index, TokenLogprobs(float(logprob), bool(is_greedy), None)
