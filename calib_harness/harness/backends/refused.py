"""Backends of lm-eval that cannot be measured, refused by name before anything is asked."""

from __future__ import annotations

from lm_eval.api.model import LM

from calib_harness.errors import UserError

_NO_LOGPROBS = (
    "its endpoint tells no log-probabilities, neither of a prompt nor of an answer; use a model "
    "that does (docs/how-to/backends.md)"
)

# Class -> why. By name: importing them takes packages that others need not have.
_REASONS = {
    "AnthropicLM": _NO_LOGPROBS,
    "AnthropicChat": _NO_LOGPROBS,
    "LiteLLMChatCompletion": (
        "as lm-eval calls litellm it hands on no log-probabilities; start its proxy server and "
        "use local-chat-completions with the proxy's base_url"
    ),
    "AzureOpenaiChatCompletionsLM": (
        "it sends requests by a library of its own; use openai-chat-completions with the "
        "deployment's base_url and header"
    ),
    "HFMultimodalLM": "lm-eval scores no choices with it; for texts use hf",
    "HFAUDIOLMQWEN": "lm-eval scores no choices with it; for texts use hf",
    "VLLM_VLM": "lm-eval scores no choices with it; for texts use vllm",
}

# What `--model` calls them -> class.
_NAMES = {
    "anthropic-completions": "AnthropicLM",
    "anthropic-chat": "AnthropicChat",
    "anthropic-chat-completions": "AnthropicChat",
    "litellm": "LiteLLMChatCompletion",
    "litellm-chat": "LiteLLMChatCompletion",
    "litellm-chat-completions": "LiteLLMChatCompletion",
    "azure-openai-chat-completions": "AzureOpenaiChatCompletionsLM",
    "hf-multimodal": "HFMultimodalLM",
    "hf-audiolm-qwen": "HFAUDIOLMQWEN",
    "vllm-vlm": "VLLM_VLM",
}


def why_unmeasurable(name: object) -> str | None:
    """Say why no calibration can be measured with what `--model` calls so; None if it can."""
    return _REASONS.get(_NAMES.get(str(name), ""))


def refuse_unmeasurable(lm: LM) -> None:
    """Refuse a backend that has no log-probabilities of choices.

    Raises
    ------
    UserError
        If `lm` is one of those, or derived from one.
    """
    for cls in type(lm).__mro__:
        if cls.__name__ in _REASONS:
            raise UserError(f"model: {cls.__name__} cannot be measured: {_REASONS[cls.__name__]}")
