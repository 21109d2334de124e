"""States of recurrent and convolutional layers at the ends of rows that later passes continue.

Such a layer's memory of everything it has read is one tensor per row, which the next token
changes. A row's children begin from copies of it.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

import torch

from calib_harness.scoring.passes import Pass, Span


class Place(NamedTuple):
    """One row of one pass whose states are kept."""

    nth: int
    row: int


class _Kept(NamedTuple):
    first_slot: int
    width: int
    states: Mapping[Hashable, torch.Tensor]


class StateStore:
    """States kept so far, per pass; passes are kept and forgotten as their slots are."""

    def __init__(self) -> None:
        self._passes: list[_Kept] = []

    def clear(self) -> None:
        """Forget everything and free the memory."""
        self._passes.clear()

    def forget_from(self, slot: int) -> None:
        """Forget the passes whose slots, from this one on, are about to be written again."""
        while self._passes and self._passes[-1].first_slot >= slot:
            self._passes.pop()

    def keep(self, batch: Pass, states: Mapping[Hashable, torch.Tensor]) -> None:
        """Keep the states, each of shape (rows, …), at the ends of a pass's rows.

        All rows are as long as the pass is wide.
        """
        self._passes.append(_Kept(batch.first_slot, batch.width, states))

    def places(self, prefixes: Sequence[tuple[Span, ...]]) -> list[Place]:
        """Where the states at the ends of these prefixes are kept."""
        return [self._place(spans[-1]) for spans in prefixes]

    def read(self, key: Hashable, places: Sequence[Place]) -> torch.Tensor | None:
        """Return a copy of these rows' states; None if the layer has no such state."""
        distinct = sorted(set(places))
        parts = []
        for nth in sorted({place.nth for place in distinct}):
            states = self._passes[nth].states.get(key)
            if states is None:
                return None
            rows = [place.row for place in distinct if place.nth == nth]
            parts.append(states[torch.tensor(rows, device=states.device)])
        position = {place: i for i, place in enumerate(distinct)}
        order = torch.tensor([position[place] for place in places], device=parts[0].device)
        return torch.cat(parts)[order]

    def _place(self, span: Span) -> Place:
        for nth in reversed(range(len(self._passes))):
            kept = self._passes[nth]
            if kept.first_slot <= span.slot:
                row, before = divmod(span.slot - kept.first_slot, kept.width)
                assert (before, span.length) == (0, kept.width)  # a whole row, to its end
                return Place(nth, row)
        raise LookupError(f"no states are kept for slot {span.slot}")
