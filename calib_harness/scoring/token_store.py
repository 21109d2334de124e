"""Keys and values of tokens that later passes read, one slot per token.

A transformers cache holds one row per sequence, so that a prefix shared by a hundred rows would
be held a hundred times, in every layer. Here each token's keys and values lie in a store once;
a row's prefix is a list of slots, put together for one layer at a time while it runs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from calib_harness.scoring.passes import Pass


class TokenStore:
    """Keys and values of the tokens computed so far, per layer."""

    def __init__(self) -> None:
        self._layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def clear(self) -> None:
        """Forget everything and free the memory."""
        self._layers.clear()

    def write(self, layer: int, slot: int, states: tuple[torch.Tensor, torch.Tensor]) -> None:
        """Store keys and values, each (rows, heads, width, size), from `slot` on."""
        rows, _, width, _ = states[0].shape
        end = slot + rows * width
        held = self._layers.get(layer)
        if held is None or held[0].shape[0] < end:
            held = self._grow(layer, slot, end, states)
        for store, new in zip(held, states, strict=True):
            target = store[slot:end].view(rows, width, *store.shape[1:])
            target.copy_(new.transpose(1, 2))

    def read(
        self, layer: int, slots: torch.Tensor, shape: tuple[int, int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the keys and values of a flat list of slots, each (rows, heads, length, size)."""
        keys, values = (
            store.index_select(0, slots).view(*shape, *store.shape[1:]).transpose(1, 2)
            for store in self._layers[layer]
        )
        return keys, values

    def _grow(
        self, layer: int, used: int, needed: int, states: tuple[torch.Tensor, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        held = self._layers.pop(layer, None)
        capacity = needed if held is None else max(needed, held[0].shape[0] * 5 // 4)
        keys, values = (new.new_empty((capacity, new.shape[1], new.shape[3])) for new in states)
        if held is not None:
            keys[:used], values[:used] = held[0][:used], held[1][:used]
        self._layers[layer] = keys, values
        return keys, values


class PassCache(DynamicCache):
    """What one pass shows the model in place of its own cache.

    Attributes
    ----------
    attention_mask
        Shape (rows, longest prefix + width): 0 for padding. Prefixes are padded on the left and
        the pass's own tokens on the right, so that a row's tokens lie side by side: windows and
        position biases that count positions in the cache see the true distances.
    position_ids
        Shape (rows, width); padding repeats a row's last position.
    """

    def __init__(self, batch: Pass, store: TokenStore, n_layers: int) -> None:
        super().__init__()
        self.layers = [_PassLayer(self, index) for index in range(n_layers)]
        self.prefix_length = max(node.start for node in batch.nodes)
        self._batch, self._store = batch, store
        self._shape = (len(batch.nodes), self.prefix_length + batch.width)
        self._slots: dict[torch.device, torch.Tensor] = {}
        self._slots_on_host, self.attention_mask, self.position_ids = self._lay_out()

    def extend(
        self, layer: int, keys: torch.Tensor, values: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store the pass's own keys and values; return them behind those of the prefixes."""
        self._store.write(layer, self._batch.first_slot, (keys, values))
        if not self.prefix_length:
            return keys, values
        if keys.device not in self._slots:
            self._slots[keys.device] = self._slots_on_host.to(keys.device)
        return self._store.read(layer, self._slots[keys.device], self._shape)

    def _lay_out(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        batch, width = self._batch, self._batch.width
        own = batch.first_slot + np.arange(len(batch.nodes) * width).reshape(-1, width)
        # Left padding points at a token of the same row: masked, but never uninitialised.
        slots = np.repeat(own[:, :1], self._shape[1], axis=1)
        slots[:, self.prefix_length :] = own
        mask = np.zeros(self._shape, dtype=np.int64)
        positions = np.empty((len(batch.nodes), width), dtype=np.int64)
        for row, (node, spans) in enumerate(zip(batch.nodes, batch.prefixes, strict=True)):
            column = self.prefix_length - node.start
            mask[row, column : self.prefix_length + len(node.tokens)] = 1
            for span in spans:
                slots[row, column : column + span.length] = np.arange(
                    span.slot, span.slot + span.length
                )
                column += span.length
            last = len(node.tokens) - 1
            positions[row] = node.start + np.minimum(np.arange(width), last)
        return (
            torch.from_numpy(slots.reshape(-1)),
            torch.from_numpy(mask),
            torch.from_numpy(positions),
        )


class _PassLayer(DynamicLayer):
    """One layer of a `PassCache`; inherits how masks are sized from the length it reports."""

    def __init__(self, cache: PassCache, index: int) -> None:
        super().__init__()
        self._cache, self._index = cache, index

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return self._cache.extend(self._index, key_states, value_states)

    def get_seq_length(self, *_: Any) -> int:
        return self._cache.prefix_length
