"""What is asked about one question beside its choices: other orders, and choices by themselves."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from calib_harness.errors import UserError
from calib_harness.harness.choice_orders import BALANCED, Order, ShownChoices


class Layout(NamedTuple):
    """What a question's requests are.

    First the choices in the order given, then those of every other order, then each choice after
    the neutral context.

    Attributes
    ----------
    choices : sequence of str
        What is scored, without delimiter.
    orders : sequence of tuple of int
        Which choice stands behind each letter; the order given comes first.
    neutral : str or None
        The neutral context, if choices are scored after it.
    """

    choices: Sequence[str]
    orders: Sequence[Order]
    neutral: str | None

    @property
    def n_choices(self) -> int:
        """How many choices the question has."""
        return len(self.choices)

    @property
    def n_requests(self) -> int:
        """How many requests the question makes."""
        return self.n_choices * (len(self.orders) + (self.neutral is not None))


def check_wanted(task: str, functions: Collection[str], orders: Any, *, in_context: bool) -> None:
    """Refuse filters whose requests the task does not make.

    Parameters
    ----------
    task : str
        For the message.
    functions : collection of str
        The filters that are named.
    orders : str, int or None
        In which orders choices are asked; None too if the prompt shows none.
    in_context : bool
        Whether the choices stand in the contexts.

    Raises
    ------
    UserError
        If a filter needs other orders than there are, or what is scored is no choice by itself.
    """
    if "choice-permuted" in functions and orders is None:
        raise UserError(
            f"{task}: filter 'choice-permuted' needs several orders of lettered choices; add "
            "`orders: cyclic` to metadata, or remove the filter"
        )
    if "choice-prior-free" in functions and orders not in BALANCED:
        raise UserError(
            f"{task}: filter 'choice-prior-free' needs every choice behind every letter equally "
            f"often; orders is {orders!r}, expected {' or '.join(BALANCED)}"
        )
    for function in ("continuation-pmi", "continuation-bytes"):
        if function in functions and in_context:
            raise UserError(
                f"{task}: filter '{function}' needs choices in the continuation; here they stand "
                "in the context, and every choice has the same continuation"
            )


def reordered(where: str, context: str, shown: ShownChoices, order: Order) -> str:
    """Return a context in which the question shows its choices in another order.

    Raises
    ------
    UserError
        If the question's text does not stand in the context as it is, as a chat template may do.
    """
    given = shown.text(range(len(shown.choices)))
    for text in (given, given.strip()):
        place = context.rfind(text)
        if place >= 0:
            other = shown.text(order)
            other = other if text == given else other.strip()
            return context[:place] + other + context[place + len(text) :]
    raise UserError(
        f"{where}: its text does not stand in the context as it is (a chat template may change "
        "it), so that its choices cannot be shown in another order; remove `orders`"
    )
