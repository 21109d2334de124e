"""A stand-in for the backends of which only sums are known: lm-eval's own way on a server."""

from __future__ import annotations

from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM, CacheHook
from lm_eval.api.registry import register_model
from lm_eval.models.openai_completions import LocalCompletionsAPI


@register_model("sums-only")
class SumsOnly(LM):
    """Asks a completions server as lm-eval does, and is none of the classes that we know."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__()
        self._server = LocalCompletionsAPI(**arguments)
        self.model, self.base_url = self._server.model, self._server.base_url

    @property
    def tokenizer_name(self) -> str:
        """Name of the tokenizer."""
        return self._server.tokenizer_name

    def set_cache_hook(self, cache_hook: CacheHook) -> None:
        """Have the server's results cached one by one."""
        super().set_cache_hook(cache_hook)
        self._server.set_cache_hook(cache_hook)

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Score requests by lm-eval's code."""
        return self._server.loglikelihood(requests)

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """Generate by lm-eval's code."""
        return self._server.generate_until(requests)

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """Is not asked here."""
        raise NotImplementedError
