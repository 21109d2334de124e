"""Which models the engine can run."""

from __future__ import annotations

import inspect
from typing import Any

from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

# Layers that hold keys and values of single tokens and nothing else: what was computed for one
# row may be read by another. Others (recurrent states, indexers) may not, or are not known to.
_SPREADABLE = (DynamicLayer, DynamicSlidingWindowLayer)

# What transformers calls the cache, newest first. The older name is deprecated from 5.24 on.
_CACHE_NAMES = ("cache", "past_key_values")

# Rotary embeddings that change for all tokens once a row is longer than the original maximum.
_LENGTH_DEPENDENT_ROPE = ("dynamic", "longrope")


def reason_against(model: PreTrainedModel, *, longest: int) -> str | None:
    """Say why the engine cannot run a model; None if it can.

    Parameters
    ----------
    model
        A transformers model, possibly with a peft adapter.
    longest
        Tokens of the longest row.
    """
    config = getattr(model, "config", None)
    if config is None:
        return "it has no transformers config"
    if getattr(config, "is_encoder_decoder", False):
        return "it is an encoder-decoder"
    if _is_prompt_tuned(model):
        return "its adapter puts virtual tokens in front of every row"
    if cache_argument(model) is None:
        return f"its forward takes no cache by any name known here ({', '.join(_CACHE_NAMES)})"
    if "attention_mask" not in forward_arguments(model):
        return "its forward takes no attention_mask"
    unknown = sorted(
        {type(layer).__name__ for layer in cache_layers(model) if type(layer) not in _SPREADABLE}
    )
    if unknown:
        return f"its cache has layers that cannot be spread over rows ({', '.join(unknown)})"
    return _reason_in_rope(config, longest)


def forward_arguments(model: PreTrainedModel) -> frozenset[str]:
    """Names of the arguments that the model's `forward` takes, looking through adapters."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return frozenset(inspect.signature(base.forward).parameters)


def cache_argument(model: PreTrainedModel) -> str | None:
    """Name under which the model's `forward` takes its cache; None if it takes none.

    Nothing else in the package spells it.
    """
    arguments = forward_arguments(model)
    return next((name for name in _CACHE_NAMES if name in arguments), None)


def cache_layers(model: PreTrainedModel) -> list[Any]:
    """Return the layers of the cache that the model would make for itself."""
    layers = list(DynamicCache(config=model.config).layers)
    return layers or [DynamicLayer() for _ in range(model.config.num_hidden_layers)]


def _is_prompt_tuned(model: PreTrainedModel) -> bool:
    adapters = getattr(model, "peft_config", None) or {}
    return any(getattr(adapter, "is_prompt_learning", False) for adapter in adapters.values())


def _reason_in_rope(config: Any, longest: int) -> str | None:
    text = config.get_text_config()
    rope = getattr(text, "rope_parameters", None) or getattr(text, "rope_scaling", None) or {}
    # One set of parameters, or one per type of layer.
    for parameters in [rope, *(value for value in rope.values() if isinstance(value, dict))]:
        kind = parameters.get("rope_type", parameters.get("type"))
        if kind not in _LENGTH_DEPENDENT_ROPE:
            continue
        original = parameters.get("original_max_position_embeddings") or getattr(
            text, "original_max_position_embeddings", text.max_position_embeddings
        )
        if longest > original:
            return f"its {kind} rotary embedding changes beyond {original} tokens"
    return None
