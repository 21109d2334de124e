"""What a model's cache is, as the model itself makes it, and what its `forward` takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
import transformers.cache_utils
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import Cache, DynamicLayer

# What transformers calls the cache, newest first; the last is Mamba's. The second is deprecated
# from 5.24 on.
_CACHE_NAMES = ("cache", "past_key_values", "cache_params")

# Layers that keep keys and values of single tokens and nothing else, whatever their window: what
# was computed for one row may be read by another. A layer of another type may keep more.
_TOKENS = ("DynamicLayer", "DynamicSlidingWindowLayer", "DynamicIndexedLayer")
# Layers that keep, per row, what they know at its end; the latter two keep tokens as well.
_STATES = (
    "LinearAttentionLayer",
    "LinearAttentionAndFullAttentionLayer",
    "LinearAttentionAndSlidingWindowAttentionLayer",
)
_NOTHING = ("DummyLayer",)

# Rotary embeddings that change for all tokens once a row is longer than the original maximum.
_LENGTH_DEPENDENT_ROPE = ("dynamic", "longrope")


class CannotShareError(Exception):
    """The engine cannot run a model; the message says why, to follow a colon."""


@dataclass(frozen=True)
class LayerKind:
    """What one layer of a model's cache keeps.

    Attributes
    ----------
    keeps_tokens
        Keys and values of each token.
    n_states
        Convolutional and recurrent states at a row's end, of each kind at most so many.
    make
        Makes such a layer, empty.
    """

    keeps_tokens: bool
    n_states: int
    make: Callable[[], Any]

    @property
    def keeps_nothing(self) -> bool:
        """Whether the layer is there to be counted only."""
        return not self.keeps_tokens and not self.n_states


@dataclass(frozen=True)
class CacheKind:
    """A model's cache.

    Attributes
    ----------
    argument
        What the model's `forward` calls it.
    own
        Its class.
    layers
        What each of its layers keeps.
    state_bytes
        Memory that the states of one row take.
    """

    argument: str
    own: type
    layers: tuple[LayerKind, ...]
    state_bytes: int

    @property
    def keeps_tokens(self) -> bool:
        """Whether keys and values of single tokens are kept."""
        return any(layer.keeps_tokens for layer in self.layers)

    @property
    def has_states(self) -> bool:
        """Whether something is kept at the ends of rows."""
        return self.state_bytes > 0


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


def look_at_cache(
    model: PreTrainedModel, tokens: torch.Tensor, context: Callable[[], AbstractContextManager[Any]]
) -> CacheKind:
    """Let a model make a cache, and look at it.

    Parameters
    ----------
    model
        A transformers model.
    tokens
        Shape (1, at least 2): what the model reads for it.
    context
        Entered around the call.

    Raises
    ------
    CannotShareError
        If it makes none, or one that is not known to be made of what single tokens leave behind
        and states at the end.
    """
    argument = cache_argument(model)
    if argument is None:
        known = ", ".join(_CACHE_NAMES)
        raise CannotShareError(f"its forward takes no cache by any name known here ({known})")
    with torch.no_grad(), context():
        output = model(input_ids=tokens, use_cache=True)
    found = [value for value in vars(output).values() if isinstance(value, Cache)]
    if not found:
        raise CannotShareError("it makes no cache of transformers' kind")
    # A decoder that might attend to an encoder keeps its own tokens in one part of two.
    cache: Any = getattr(found[0], "self_attention_cache", found[0])
    if type(cache) is not DynamicCache and not hasattr(cache, "linear_cache"):
        raise CannotShareError(f"its cache is a {type(cache).__name__}, of unknown content")
    layers = list(cache.layers)
    unknown = sorted({type(layer).__name__ for layer in layers if not _is_known(layer)})
    if unknown:
        raise CannotShareError(f"its cache has layers of unknown content ({', '.join(unknown)})")
    return CacheKind(
        argument,
        type(cache),
        tuple(map(_kind_of, layers)),
        sum(map(_state_bytes, [cache, *layers])),
    )


def _is_known(layer: Any) -> bool:
    cls = type(layer)
    return (
        cls.__name__ in (*_TOKENS, *_STATES, *_NOTHING)
        and cls.__module__ == transformers.cache_utils.__name__
    )


def _kind_of(layer: Any) -> LayerKind:
    name = type(layer).__name__
    return LayerKind(
        keeps_tokens=name not in (*_NOTHING, "LinearAttentionLayer"),
        n_states=getattr(layer, "number_of_states", 0) if name in _STATES else 0,
        make=type(layer) if name in _NOTHING else DynamicLayer,
    )


def _state_bytes(holder: Any) -> int:
    """Bytes of the states that a layer, or a cache beside its layers, holds for its one row."""
    states: list[Any] = []
    for name in ("conv_states", "recurrent_states"):
        states += getattr(holder, name, {}).values()
    states += getattr(holder, "linear_cache", [])
    return sum(state.nbytes for state in states if isinstance(state, torch.Tensor))


def static_reason_against(model: PreTrainedModel, *, longest: int) -> str | None:
    """Say why the engine cannot run a model, as far as its settings tell; None if they do not.

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
    return _reason_in_rope(config, longest)


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
