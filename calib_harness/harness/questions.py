"""What a YAML makes of one question: checks of its choices, and its gold."""

from __future__ import annotations

import reprlib
from collections import UserDict
from collections.abc import Callable, ItemsView, Mapping, Sequence
from typing import Any

from calib_harness.errors import UserError

#: Key of a sample log under which our tasks state what they know of a question.
FACTS_KEY = "calib_harness"


def check_choices(where: str, choices: Any) -> None:
    """Refuse choices that cannot be scored one by one; `where` names task and question.

    Raises
    ------
    UserError
        If `choices` is no list of texts, or holds fewer than two.
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
    if len(choices) < 2:
        raise UserError(
            f"{where}: it has {len(choices)} choices, expected 2 or more; leave it out with "
            "process_docs"
        )


def only_gold(where: str, target: Any) -> Any:
    """Return the gold out of a list that holds one; any other target as it is.

    Raises
    ------
    UserError
        If the list holds none or several.
    """
    if not isinstance(target, list | tuple):
        return target
    if len(target) != 1:
        raise UserError(
            f"{where}: the gold of a calibration task is one choice, but doc_to_target gives "
            f"{reprlib.repr(list(target))}; name one right choice, or leave such questions out "
            "with process_docs"
        )
    return target[0]


def check_own_results(
    where: str, process_results: Callable[..., Any], doc: Any, n_choices: int, gold: int | None
) -> None:
    """Ask a YAML's own `process_results` which choice it counts as right: it must be `gold` alone.

    It is called once per choice, with results that make this choice a certain winner.

    Raises
    ------
    UserError
        If it gives no `acc` of 0 or 1, counts several choices or none as right, or another one.
    """
    right = []
    for sure in range(n_choices):
        results = [(0.0, True) if k == sure else (-1e3, False) for k in range(n_choices)]
        try:
            accuracy = process_results(doc, results).get("acc")
        except Exception as error:  # a stranger's function: whatever it raises is the reason
            raise UserError(
                f"{where}: process_results of the YAML cannot be asked which choice is right "
                f"({type(error).__name__}: {error}); remove it if doc_to_target names the gold"
            ) from None
        if accuracy not in (0, 1):
            raise UserError(
                f"{where}: process_results of the YAML gives acc {accuracy!r} for a sure answer, "
                "expected 0 or 1: it does not say which one choice is right, and calibration "
                "needs to know; remove it if doc_to_target does"
            )
        if accuracy:
            right.append(sure)
    if right != ([] if gold is None else [gold]):
        raise UserError(
            f"{where}: process_results of the YAML counts the choices {right} as right, "
            f"doc_to_target {gold}; calibration needs one gold, the same by both"
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
