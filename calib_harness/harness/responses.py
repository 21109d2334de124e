"""What a backend answers about one continuation."""

from __future__ import annotations

import math
from typing import NamedTuple


class TokenLogprobs(NamedTuple):
    """What a model says about one continuation.

    Attributes
    ----------
    logprob : float
        Log-probability of the continuation given its context (nats); NaN where it could not
        be scored.
    is_greedy : bool
        Whether greedy decoding from the context yields the continuation.
    token_logprobs : list of float or None
        One log-probability per token, each given everything before it; None if the backend
        does not tell.
    truncated : int or None
        Tokens cut off the beginning, so that the model could read the rest; None if the
        backend does not tell.
    """

    logprob: float
    is_greedy: bool
    token_logprobs: list[float] | None
    truncated: int | None = None


UNSCORABLE = TokenLogprobs(math.nan, False, [])
