"""Backends of lm-eval that tell no log-probabilities, refused by name and in one sentence."""

from __future__ import annotations

from collections.abc import Sequence

from lm_eval.api.instance import Instance
from lm_eval.models.anthropic_llms import AnthropicChat, AnthropicLM

from calib_harness.errors import UserError
from calib_harness.harness.backends.dispatch import confirm


@confirm.register(AnthropicChat)
@confirm.register(AnthropicLM)
def refuse_anthropic(lm: AnthropicChat | AnthropicLM, requests: Sequence[Instance]) -> None:
    """Refuse Anthropic's endpoints.

    Raises
    ------
    UserError
        Always: they tell no log-probabilities, neither of a prompt nor of an answer.
    """
    raise UserError(
        f"model: {type(lm).__name__}'s endpoint tells no log-probabilities, so confidences cannot "
        "be measured; use a model that does (docs/how-to/backends.md)"
    )
