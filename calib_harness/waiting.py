"""What a terminal shows while a command computes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

_Item = TypeVar("_Item")

_PATIENCE = 5.0  # seconds that nobody needs to be told of


def shown(
    items: Iterable[_Item], what: str, unit: str, total: int | None = None
) -> Iterable[_Item]:
    """Return the items, and say on a terminal how far they are if they take over five seconds.

    The bar goes when they end; where standard error is no terminal nothing is written.

    Parameters
    ----------
    items : iterable
    what, unit : str
        What is waited for, and what an item is, in the plural.
    total : int, optional
        Number of items; by default that of `items` if it has one.
    """
    # `disable=None` means: unless it is a terminal.
    return tqdm(
        items,
        desc=what,
        unit=f" {unit}",
        total=total,
        delay=_PATIENCE,
        disable=None,
        leave=False,
    )
