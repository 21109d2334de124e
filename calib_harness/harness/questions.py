"""What a YAML makes of one question: checks of its choices, and its gold."""

from __future__ import annotations

import reprlib
from collections import UserDict
from collections.abc import ItemsView, Mapping, Sequence
from typing import Any

from calib_harness.errors import UserError

MAX_CHOICES = 10

#: Key of a sample log under which our tasks state what they know of a question.
FACTS_KEY = "calib_harness"


def check_choices(where: str, choices: Any) -> None:
    """Refuse choices that cannot be scored one by one; `where` names task and question.

    Raises
    ------
    UserError
        If `choices` is no list of texts, or holds fewer than two or too many.
    """
    mend = "mend doc_to_choice, or leave the question out with process_docs"
    if isinstance(choices, str) or not isinstance(choices, Sequence):
        # A text would be scored letter by letter.
        raise UserError(
            f"{where}: its choices are {reprlib.repr(choices)}, expected a list of texts; {mend}"
        )
    for choice in choices:
        if not isinstance(choice, str):
            # None would be scored as the word.
            raise UserError(
                f"{where}: one of its choices is {reprlib.repr(choice)}, expected a text; {mend}"
            )
    if not 2 <= len(choices) <= MAX_CHOICES:
        raise UserError(
            f"{where}: it has {len(choices)} choices, expected 2 to {MAX_CHOICES}; leave it out "
            "with process_docs"
        )


def gold_among(choices: Sequence[str], target: Any) -> int | None:
    """Index of the right choice, or None if `target` is neither an index nor a choice's text."""
    if isinstance(target, str):
        return choices.index(target) if target in choices else None
    return int(target) if target in range(len(choices)) else None


class LoggedItems(UserDict[str, Any]):
    """What lm-eval gets for one question: metrics to aggregate, and facts that it only logs.

    lm-eval aggregates what `items` gives, and copies every key into its sample log.
    """

    def __init__(self, metrics: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        super().__init__({**metrics, FACTS_KEY: dict(facts)})

    def items(self) -> ItemsView[str, Any]:
        """Return the metrics alone."""
        return ItemsView({key: self[key] for key in self if key != FACTS_KEY})
