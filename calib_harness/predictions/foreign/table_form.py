"""What the columns of a table hold: found by their usual names, or as they are given."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from calib_harness.errors import ArgumentError, UserError

#: What scores may be declared as, and the method whose scores they are.
SCORE_KINDS: dict[str, str] = {
    "sum": "continuation-sum",
    "min": "continuation-min",
    "mean": "continuation-mean",
    "bytes": "continuation-bytes",
    "letter": "choice",
    "logit": "probabilities",
    "prob": "probabilities",
}
#: Method of a table that holds confidence and correctness only.
CONFIDENCE = "confidence"
#: Methods of tables that are none of scoring.
TABLE_METHODS = ("probabilities", CONFIDENCE)

_MOST_COLUMNS = 10_000
_USUAL: dict[str, tuple[str, ...]] = {
    "id": (
        *("question_id", "doc_id", "qid", "sample_id", "instance_id", "doc_hash", "id", "idx"),
        *("index", "question"),
    ),
    "gold": (
        *("gold", "gold_index", "gold_idx", "gold_label", "label", "answer", "answer_index"),
        *("target", "correct_answer", "truth", "answerkey"),
    ),
    "scores": (
        *("scores", "choice_scores", "logprobs", "log_probs", "loglikelihoods", "logits"),
        *("option_logits", "choice_logprobs", "probs", "probabilities", "choice_probs"),
    ),
    "confidence": ("confidence", "conf", "max_prob", "top_prob", "certainty"),
    "correct": ("correct", "is_correct", "hit", "acc", "accuracy"),
    "choice": ("choice", "choice_index", "choice_id", "choice_idx", "option", "option_index"),
    "score": (*("score", "logprob", "log_prob", "loglikelihood", "logit", "prob", "probability"),),
    "is_gold": ("is_gold", "is_answer", "is_correct", "correct", "label"),
    "model": ("model", "model_name", "model_id"),
    "task": ("task", "task_name", "benchmark", "dataset"),
    "subject": ("subject", "category"),
}
_WIDE = re.compile(
    r"(scores?|logprobs?|log_probs?|loglikelihoods?|ll|lp|logits?|probs?|probability|p)"
    r"[ _.\-]?(\d{1,3}|[A-Za-z])",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class TableForm:
    """Which columns of a table hold what; empty where there is none.

    Attributes
    ----------
    layout : {"question", "choice", "confidence"}
        One question a row, one choice a row, or confidence and correctness a row.
    scores : tuple of str
        Columns of the choices in order, or one that holds a list, or (one choice a row) its score.
    kind : str
        A key of `SCORE_KINDS`; empty for confidences.
    gold : str
        Index or letter of the right choice, or (one choice a row) possibly whether it is this one.
    id, choice, is_gold, correct, model, task, subject : str
    """

    layout: str
    scores: tuple[str, ...]
    kind: str = ""
    gold: str = ""
    id: str = ""
    choice: str = ""
    is_gold: str = ""
    correct: str = ""
    model: str = ""
    task: str = ""
    subject: str = ""

    @property
    def columns(self) -> list[str]:
        """The columns to read, each once."""
        named = (self.gold, self.id, self.choice, self.is_gold, self.correct)
        rest = (self.model, self.task, self.subject)
        return list(dict.fromkeys(name for name in (*self.scores, *named, *rest) if name))


def table_form(
    names: Sequence[str], given: Mapping[str, str], scores: str | None, where: str
) -> TableForm:
    """Find out what the columns of a table hold.

    Parameters
    ----------
    names : sequence of str
        The columns of the table.
    given : mapping of str to str
        Columns by role (``gold``, ``scores``, ``id``, …); ``scores`` may list several with ``|``.
    scores : str or None
        What the scores are: a key of `SCORE_KINDS`.
    where : str
        Names the table in errors.

    Raises
    ------
    UserError
        If the columns do not say enough, or contradict what is given.
    """
    if scores is not None and scores not in SCORE_KINDS:
        raise ArgumentError(f"scores must be one of {', '.join(SCORE_KINDS)}; got {scores!r}.")
    if len(names) > _MOST_COLUMNS:
        raise UserError(f"{where} has {len(names)} columns, expected at most {_MOST_COLUMNS}.")
    roles = _roles(names, given, where)
    several = _score_columns(names, given, where)
    shared = {role: roles.get(role, "") for role in ("id", "model", "task", "subject")}
    if several and roles.get("gold"):
        _check_decided(["gold", *(["scores"] if len(several) == 1 else [])], names, given, where)
        kind = scores or _kind_of(several[0], where)
        return TableForm("question", several, kind, gold=roles["gold"], **shared)
    if roles.get("choice") and roles.get("score") and roles.get("id"):
        by_row = "gold" not in given and bool(roles.get("is_gold"))
        gold = {"is_gold": roles["is_gold"]} if by_row else {"gold": roles.get("gold", "")}
        if any(gold.values()):
            _check_decided(["choice", "score", *gold], names, given, where)
            kind = scores or _kind_of(roles["score"], where)
            return TableForm(
                "choice", (roles["score"],), kind, choice=roles["choice"], **gold, **shared
            )
    if roles.get("confidence") and roles.get("correct"):
        _check_decided(["confidence", "correct"], names, given, where)
        if scores is not None:
            raise UserError(
                f"{where}: --scores is given as {scores}, but no column of scores is found, only "
                "confidences; read it without, or say which are the scores with --columns "
                "(scores=NAME|NAME|…)."
            )
        return TableForm(CONFIDENCE, (roles["confidence"],), correct=roles["correct"], **shared)
    raise UserError(
        f"{where} has the columns {_some(names)}, which do not say what is what: expected gold and "
        "a column of scores for each choice (or one that holds a list), or id, choice, score and "
        "gold, or confidence and correct; name them with --columns (ROLE=COLUMN, e.g. "
        "gold=answer,scores=lp_a|lp_b)."
    )


def _check_decided(
    roles: Sequence[str], names: Sequence[str], given: Mapping[str, str], where: str
) -> None:
    """Refuse a role that several columns may have, none of which bears its very name."""
    by_lower = {name.strip().lower(): name for name in names}
    for role in roles:
        present = [by_lower[name] for name in _USUAL[role] if name in by_lower]
        if role not in given and role not in by_lower and len(present) > 1:
            raise UserError(
                f"{where} has the columns {_some(present)}, each of which may be {role}; say which "
                f"is with --columns ({role}=NAME)."
            )


def _roles(names: Sequence[str], given: Mapping[str, str], where: str) -> dict[str, str]:
    known = {*_USUAL}
    for role, column in given.items():
        if role not in known:
            raise ArgumentError(
                f"columns must give {', '.join(sorted(known))}; got {role!r} ({column})."
            )
        for name in column.split("|"):
            if name not in names:
                raise UserError(
                    f"{where} has no column {name!r}, given as {role}; it has {_some(names)}."
                )
    by_lower = {name.strip().lower(): name for name in reversed(names)}
    found = {}
    for role, usual in _USUAL.items():
        present = [by_lower[name] for name in usual if name in by_lower]
        if present:
            found[role] = present[0]
    return found | dict(given)


def _score_columns(names: Sequence[str], given: Mapping[str, str], where: str) -> tuple[str, ...]:
    """Columns with one choice each, in their order, or the one that holds a list."""
    if "scores" in given:
        return tuple(given["scores"].split("|"))
    wide: dict[str, dict[int, str]] = {}
    for name in names:
        match = _WIDE.fullmatch(name.strip())
        if match:
            stem, sign = match[1].lower().rstrip("s"), match[2]
            position = int(sign) if sign.isdecimal() else ord(sign.upper()) - ord("A")
            wide.setdefault(stem, {})[position] = name
    wide = {stem: columns for stem, columns in wide.items() if len(columns) > 1}
    if len(wide) > 1:
        raise UserError(
            f"{where} has columns of choices of several kinds ({', '.join(sorted(wide))}); say "
            "which are the scores with --columns (scores=NAME|NAME|…)."
        )
    for columns in wide.values():
        positions = sorted(columns)
        first, last = positions[0], positions[-1]
        if first > 1 or last - first != len(positions) - 1:
            raise UserError(
                f"{where} has the columns {_some([columns[p] for p in positions])}, between which "
                "a choice is missing; say which are the scores with --columns (scores=NAME|NAME|…)."
            )
        return tuple(columns[position] for position in positions)
    by_lower = {name.strip().lower(): name for name in names}
    return next(((by_lower[name],) for name in _USUAL["scores"] if name in by_lower), ())


def _kind_of(name: str, where: str) -> str:
    """Tell from a column's name whether it holds probabilities or logits; else it must be said."""
    lowered = name.lower()
    if re.match(r"(choice_)?p(rob\w*)?([ _.\-]?(\d+|[a-z]))?$", lowered):
        return "prob"
    if "logit" in lowered:
        return "logit"
    raise UserError(
        f"{where}: the column {name} may hold sums over tokens, means or logits, which give other "
        f"confidences; say which with --scores ({', '.join(SCORE_KINDS)})."
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
