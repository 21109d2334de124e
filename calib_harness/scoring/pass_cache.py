"""What one pass shows a model in place of the model's own cache."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import cache
from typing import Any

import torch
import transformers.cache_utils
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from calib_harness.scoring.passes import Manner, Pass
from calib_harness.scoring.state_store import StateStore
from calib_harness.scoring.token_store import Layout, TokenStore

# transformers before 5 has neither; a model's states are then in caches of its own.
_StateLayer: Any = getattr(transformers.cache_utils, "LinearAttentionLayer", object)
_BothLayer: Any = getattr(
    transformers.cache_utils, "LinearAttentionAndFullAttentionLayer", DynamicLayer
)


class PassCache(DynamicCache):
    """Keys, values and states of one pass, out of the stores and into them.

    Made by `make_cache`, as a subclass of whatever cache the model makes for itself.
    """

    def set_up(
        self,
        batch: Pass,
        layout: Layout,
        *,
        tokens: TokenStore,
        states: StateStore,
        manner: Manner,
    ) -> None:
        """Make ready for a pass; `layers` are made for it by `make_cache`."""
        self.layout, self._tokens = layout, tokens
        self.column = 0  # of the pass's own, up to which the model has been run
        self._kept = states
        goes_on = manner.has_states and layout.prefix_length
        self._places = states.places(batch.prefixes) if goes_on else []
        self._holds_states = batch.is_kept or manner.one_by_one
        self._states: dict[Hashable, torch.Tensor] = {}
        self._newest = -1

    # -- tokens ---------------------------------------------------------------------------

    @property
    def length(self) -> int:
        """Tokens before those that the model is run on next, padding included."""
        return self.layout.prefix_length + self.column

    def extend(self, layer: Hashable, *states: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Store what is kept of new tokens, (rows, heads, tokens, size); return all of it."""
        end = self.column + states[0].shape[2]
        self._tokens.write(layer, self.layout.slots, slice(self.column, end), states)
        if not self.length:
            return states
        slots = self.layout.slots_up_to(end, states[0].device)
        return self._tokens.read(layer, slots, self.layout.n_rows)

    # -- states ---------------------------------------------------------------------------

    def state(self, layer: int, name: Hashable) -> torch.Tensor | None:
        """Return a layer's state: the parents' until it is replaced; None before any."""
        self._turn_to(layer)
        if (layer, name) not in self._states and self._places:
            found = self._kept.read((layer, name), self._places)
            if found is not None:
                self._states[layer, name] = found
        return self._states.get((layer, name))

    def replace_state(self, layer: int, name: Hashable, state: torch.Tensor) -> None:
        """Take a layer's new state."""
        self._turn_to(layer)
        self._states[layer, name] = state

    def _turn_to(self, layer: int) -> None:
        """Let go of another layer's states, of which there is a copy per row."""
        if layer != self._newest and not self._holds_states:
            self._states.clear()
        self._newest = layer

    def keep_states(self, batch: Pass) -> None:
        """Hand the states on to the passes that continue this one."""
        self._kept.forget_from(batch.first_slot)
        if batch.is_kept and self._states:
            self._kept.keep(batch, dict(self._states))

    def get_linear_cache(self, layer_idx: int) -> torch.Tensor | None:
        """Return a layer's state; the name is that of MiniMax's own cache."""
        return self.state(layer_idx, "linear")

    def set_linear_cache(self, layer_idx: int, linear_cache: torch.Tensor) -> None:
        """Replace a layer's state; the name is that of MiniMax's own cache."""
        self.replace_state(layer_idx, "linear", linear_cache)


class _TokenMixin:
    """Keys and values from the stores; masks are sized from the length that is reported."""

    cache: PassCache
    index: int

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, ...]:
        return self.cache.extend(self.index, key_states, value_states)

    def update_indexer(self, indexer_key_states: torch.Tensor) -> torch.Tensor:
        """Extend the keys (rows, tokens, size) of sparse attention's indexer."""
        (keys,) = self.cache.extend((self.index, "indexer"), indexer_key_states[:, None])
        return keys[:, 0]

    def get_seq_length(self, *_: Any) -> int:
        return self.cache.length


class _OnDemand(dict[int, Any]):
    """Values made when they are first asked for, anew each time."""

    def __init__(self, make: Callable[[int], Any]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, key: int) -> Any:
        return self._make(key)


class _StateMixin:
    """States from the stores, under the names that transformers' layers have for them."""

    cache: PassCache
    index: int
    has_previous_state: dict[int, bool]

    def hand_states(self) -> None:
        """Begin where the parents ended."""
        cache, index = self.cache, self.index
        self.conv_states = _OnDemand(lambda n: cache.state(index, ("conv", n)))
        self.recurrent_states = _OnDemand(lambda n: cache.state(index, ("recurrent", n)))
        self.has_previous_state = dict.fromkeys(
            self.has_previous_state, bool(cache.layout.prefix_length)
        )

    def update_conv_state(
        self,
        conv_states: torch.Tensor,
        state_idx: int = 0,
        conv_kernel_size: int | None = None,
        **_: Any,
    ) -> torch.Tensor:
        before = self.cache.state(self.index, ("conv", state_idx))
        size = (conv_kernel_size or conv_states.shape[-1]) if before is None else before.shape[-1]
        if before is not None:
            whole = torch.cat([before, conv_states], dim=-1)
        else:
            missing = max(0, size - conv_states.shape[-1])
            whole = torch.nn.functional.pad(conv_states, (missing, 0))
        self.has_previous_state[state_idx] = True
        self.cache.replace_state(self.index, ("conv", state_idx), whole[..., -size:].clone())
        return whole

    def update_recurrent_state(
        self, recurrent_states: torch.Tensor, state_idx: int = 0, **_: Any
    ) -> torch.Tensor:
        self.cache.replace_state(self.index, ("recurrent", state_idx), recurrent_states)
        return recurrent_states


class _TokenLayer(_TokenMixin, DynamicLayer):
    pass


class _StatesOnlyLayer(_StateMixin, _StateLayer):
    pass


class _StatesAndTokensLayer(_StateMixin, _TokenMixin, _BothLayer):
    pass


@cache
def _cache_type(own: type) -> type[PassCache]:
    """Make a cache that a model takes for the one it makes for itself."""
    if issubclass(PassCache, own):
        return PassCache
    return type(PassCache.__name__, (PassCache, own), {})


def make_cache(
    batch: Pass,
    *,
    own: type,
    kinds: Sequence[Any],
    tokens: TokenStore,
    states: StateStore,
    manner: Manner,
) -> PassCache:
    """Make what a pass shows the model.

    Parameters
    ----------
    batch
        The pass.
    own
        The class of the cache that the model makes for itself.
    kinds
        Its layers, as `inspection.LayerKind`.
    tokens, states
        What passes keep.
    manner
        How the model goes on from what is kept.
    """
    made = _cache_type(own).__new__(_cache_type(own))
    DynamicCache.__init__(made)
    made.set_up(batch, Layout(batch), tokens=tokens, states=states, manner=manner)
    made.layers = []
    for index, kind in enumerate(kinds):
        if kind.keeps_nothing:
            made.layers.append(kind.make())
            continue
        layer: Any
        if kind.n_states:
            cls = _StatesAndTokensLayer if kind.keeps_tokens else _StatesOnlyLayer
            layer = cls(number_of_states=kind.n_states)
        else:
            layer = _TokenLayer()
        layer.cache, layer.index = made, index
        if kind.n_states:
            layer.hand_states()
        made.layers.append(layer)
    return made
