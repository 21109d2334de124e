"""Keys and values of tokens that later passes read, one slot per token.

A transformers cache holds one row per sequence, so that a prefix shared by a hundred rows would
be held a hundred times, in every layer. Here each token's keys and values lie in a store once;
a row's prefix is a list of slots, put together for one layer at a time while it runs.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import torch

from calib_harness.scoring.passes import Pass


class TokenStore:
    """What a model keeps of each token computed so far (keys, values), per layer."""

    def __init__(self) -> None:
        self._layers: dict[Hashable, tuple[torch.Tensor, ...]] = {}

    def clear(self) -> None:
        """Forget everything and free the memory."""
        self._layers.clear()

    def write(
        self,
        layer: Hashable,
        slots: slice,
        columns: slice,
        states: Sequence[torch.Tensor],
    ) -> None:
        """Store what is kept of some columns of a pass.

        Parameters
        ----------
        layer
            Which layer's.
        slots
            Those of the whole pass, row after row.
        columns
            Those of each row that are written.
        states
            Keys and values, each of shape (rows, heads, columns, size).
        """
        rows = states[0].shape[0]
        held = self._layers.get(layer)
        if held is None or held[0].shape[0] < slots.stop:
            held = self._grow(layer, slots, states)
        for store, new in zip(held, states, strict=True):
            target = store[slots].view(rows, -1, *store.shape[1:])
            target[:, columns].copy_(new.transpose(1, 2))

    def read(self, layer: Hashable, slots: torch.Tensor, n_rows: int) -> tuple[torch.Tensor, ...]:
        """Return what is kept of a flat list of slots, each (rows, heads, length, size)."""
        return tuple(
            store.index_select(0, slots).view(n_rows, -1, *store.shape[1:]).transpose(1, 2)
            for store in self._layers[layer]
        )

    def _grow(
        self, layer: Hashable, slots: slice, states: Sequence[torch.Tensor]
    ) -> tuple[torch.Tensor, ...]:
        held = self._layers.pop(layer, None)
        capacity = slots.stop if held is None else max(slots.stop, held[0].shape[0] * 5 // 4)
        grown = tuple(new.new_empty((capacity, new.shape[1], new.shape[3])) for new in states)
        if held is not None:
            used = min(slots.start, held[0].shape[0])
            for new, old in zip(grown, held, strict=True):
                new[:used] = old[:used]
        self._layers[layer] = grown
        return grown


class Layout:
    """Where the tokens of a pass's rows lie: in the store, in the mask, in the text.

    Prefixes are padded on the left and the pass's own tokens on the right, so that a row's tokens
    lie side by side: windows and position biases that count positions in the cache see the true
    distances.

    Attributes
    ----------
    prefix_length
        Tokens before the pass's own, padding included.
    slots
        Those of the pass's own tokens.
    attention_mask
        Shape (rows, prefix length + width): 0 for padding.
    position_ids
        Shape (rows, width); padding repeats a row's last position.
    """

    def __init__(self, batch: Pass) -> None:
        self.n_rows, self.width = len(batch.nodes), batch.width
        self.prefix_length = max(node.start for node in batch.nodes)
        self.slots = slice(batch.first_slot, batch.first_slot + self.n_rows * self.width)
        length = self.prefix_length + self.width
        own = np.arange(self.slots.start, self.slots.stop).reshape(-1, self.width)
        # Left padding points at a token of the same row: masked, but never uninitialised.
        slots = np.repeat(own[:, :1], length, axis=1)
        slots[:, self.prefix_length :] = own
        mask = np.zeros((self.n_rows, length), dtype=np.int64)
        positions = np.empty((self.n_rows, self.width), dtype=np.int64)
        for row, (node, spans) in enumerate(zip(batch.nodes, batch.prefixes, strict=True)):
            column = self.prefix_length - node.start
            mask[row, column : self.prefix_length + len(node.tokens)] = 1
            for span in spans:
                slots[row, column : column + span.length] = np.arange(
                    span.slot, span.slot + span.length
                )
                column += span.length
            last = len(node.tokens) - 1
            positions[row] = node.start + np.minimum(np.arange(self.width), last)
        self._slots = torch.from_numpy(slots)
        self._slots_on: dict[torch.device, tuple[int, torch.Tensor]] = {}
        self.attention_mask = torch.from_numpy(mask)
        self.position_ids = torch.from_numpy(positions)

    def slots_up_to(self, column: int, device: torch.device) -> torch.Tensor:
        """Flat slots of each row's prefix and its own tokens before a column."""
        if device not in self._slots_on or self._slots_on[device][0] != column:
            part = self._slots[:, : self.prefix_length + column]
            self._slots_on[device] = column, part.reshape(-1).to(device)
        return self._slots_on[device][1]
