"""How each backend of lm-eval tells the log-probability of every token, and why it is believed.

`score_tokens` scores requests and `confirm` finds out beforehand whether the scores can be right.
Both decide by the model's class, so that others can register theirs.
"""

from calib_harness.harness.backends.dispatch import confirm, score_tokens

__all__ = ["confirm", "score_tokens"]
