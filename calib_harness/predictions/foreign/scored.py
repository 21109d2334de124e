"""Questions with a score for each choice, as the readers of other harnesses hand them on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from calib_harness.core.confidence import METHODS, continuation_scores, is_labelled, pack_flat
from calib_harness.predictions.columns import UnusableLogError, check_few
from calib_harness.predictions.foreign.table_form import CONFIDENCE
from calib_harness.predictions.gold import STATED, Evidence, settle
from calib_harness.predictions.table import (
    UNDECIDED,
    Floats,
    Header,
    Ints,
    LogContents,
    Predictions,
)

#: Smallest confidence of an answer, which is the most probable of at most 256 choices.
LEAST_CONFIDENCE = 1 / 256
_WHY_CLOZE = "the log scores the choices' texts (a cloze prompt), not letters"
_WHY_CHOICE = "the log scores letters (a choice prompt), not the choices' texts"
_NO_TOKENS = "the log has no log-probabilities of single tokens"


@dataclass
class Question:
    """One question of another harness's log.

    Attributes
    ----------
    id, text : str
        Its name within the task, and the prompt.
    choices : list of str
        What was scored.
    scores : list of float
        Log-probability of each choice, summed over its tokens.
    gold : list of int
        Indices of the right choices.
    acc : float or None
        Logged accuracy of `answer`.
    tokens : list of list of float or None
        Log-probabilities of the tokens of each choice.
    truncated : int or None
        Tokens cut off the prompt.
    answer : int or None
        Index of the choice that was taken for the answer; None: that of the largest sum.
    sized : bool
        Whether the choices' texts are known, and with them their lengths in bytes.
    """

    id: str
    text: str
    choices: list[str]
    scores: list[float]
    gold: list[int]
    acc: float | None = None
    truncated: int | None = None
    tokens: list[list[float]] | None = None
    answer: int | None = None
    sized: bool = True


def contents_of(header: Header, questions: Sequence[Question]) -> LogContents:
    """Return what a log holds, its gold checked against the accuracies that it logged."""
    if not questions:
        return LogContents(header, (), {}, ())
    n_choices = np.array([len(q.scores) for q in questions])
    check_few(n_choices.max())
    flat = np.array([score for q in questions for score in q.scores], dtype=np.float64)
    stated = np.array(
        [UNDECIDED if len(q.gold) > 1 else q.gold[0] if q.gold else -1 for q in questions]
    )
    sums = pack_flat(flat, n_choices)
    top = np.where(np.isnan(sums), -np.inf, sums).argmax(axis=1)
    answers = [k if q.answer is None else q.answer for q, k in zip(questions, top, strict=True)]
    logged = np.array([np.nan if q.acc is None else float(q.acc) for q in questions])
    settled = settle(
        stated,
        stated,
        stated=np.where(stated < n_choices, stated, -1),
        is_stated=np.ones(len(questions), dtype=bool),
        n_choices=n_choices,
        evidence=[Evidence("acc", np.where(stated >= 0, logged, np.nan), np.array(answers))],
        documents={},
        shared=np.zeros(len(questions), dtype=bool),
    )
    lettered = all(is_labelled(q.choices, q.text) for q in questions)
    if lettered:
        tables = {"choice": sums}
        missing = {name: _WHY_CHOICE for name, m in METHODS.items() if m.prompt == "cloze"}
    else:
        tables, missing = _cloze_tables(questions, flat, n_choices)
    header = replace(header, gold=settled.check)
    truncated = [q.truncated for q in questions]
    known = [n for n in truncated if n is not None]
    words = ["\0".join((q.text, *q.choices)) for q in questions]
    _, prompt = np.unique(words, return_inverse=True)
    predictions = tuple(
        Predictions(
            replace(header, method=method),
            scores,
            settled.gold,
            np.arange(len(questions)),
            np.array([_digest(q.id, q.text) for q in questions], dtype=object),
            prompt=prompt,
            truncated=np.array(known) if len(known) == len(truncated) else None,
        )
        for method, scores in tables.items()
    )
    return LogContents(header, predictions, missing, tuple(settled.problems))


def _cloze_tables(
    questions: Sequence[Question], flat: Floats, n_choices: Ints
) -> tuple[dict[str, Floats], dict[str, str]]:
    """Return the scores of every cloze method that the log can give, and why not the others."""
    missing = {"choice": _WHY_CLOZE}
    n_tokens, tokens = np.full(len(flat), -1), np.empty(0)
    if all(q.tokens is not None for q in questions):
        own = [choice for q in questions for choice in q.tokens or ()]
        n_tokens = np.array([len(choice) for choice in own])
        tokens = np.array([token for choice in own for token in choice], dtype=np.float64)
    else:
        missing |= {name: _NO_TOKENS for name, m in METHODS.items() if m.needs_token_logprobs}
    if not all(q.sized for q in questions):
        missing["continuation-bytes"] = "the log does not hold the choices' texts"
    sizes = np.array([len(c.removeprefix(" ").encode()) for q in questions for c in q.choices])
    return {
        name: pack_flat(
            continuation_scores(name, flat, n_tokens=n_tokens, tokens=tokens, n_bytes=sizes),
            n_choices,
        )
        for name in METHODS
        if name not in missing
    }, missing


def confidences_of(
    header: Header, ids: Sequence[str], confidence: Sequence[float], correct: Sequence[float]
) -> LogContents:
    """Return what a log holds that tells the answers' confidences and correctness alone.

    `confidence` is NaN where it is not known; then the question cannot be used.
    """
    header = replace(header, gold=STATED)
    hits = np.asarray(correct, dtype=np.float64)
    predictions = Predictions(
        replace(header, method=CONFIDENCE),
        confidence_scores(np.asarray(confidence, dtype=np.float64)),
        np.where(np.isnan(hits), -1, 1 - np.nan_to_num(hits)).astype(np.int64),
        np.arange(len(ids)),
        np.array([_digest(one) for one in ids], dtype=object),
    )
    missing = dict.fromkeys(METHODS, "the log holds no score of each choice, only of the answer")
    return LogContents(header, (predictions,), missing)


def confidence_scores(confidence: Floats) -> Floats:
    """Return scores under which the first choice is the most probable, by these confidences.

    It stands for the answer given, and the others share what is left; only metrics of confidence
    and correctness may be computed of them.

    Raises
    ------
    UnusableLogError
        If a confidence is none of the most probable of at most 256 choices.
    """
    bad = ~np.isnan(confidence) & ((confidence < LEAST_CONFIDENCE) | (confidence > 1))
    if bad.any():
        row = int(np.argmax(bad))
        raise UnusableLogError(
            f"holds in row {row + 1} the confidence {confidence[row]:.4g}, expected one between "
            f"{LEAST_CONFIDENCE:.4f} and 1: that of the choice which was taken for the answer"
        )
    n_others = np.ceil((1 - confidence) / np.where(np.isnan(confidence), 1, confidence))
    n_others = np.maximum(np.nan_to_num(n_others, nan=1), 1).astype(np.int64)
    probs = np.full((len(confidence), int(n_others.max(initial=1)) + 1), np.nan)
    probs[:, 0] = confidence
    others = np.arange(1, probs.shape[1]) <= n_others[:, None]
    probs[:, 1:][others] = np.repeat((1 - confidence) / n_others, n_others)
    with np.errstate(divide="ignore"):
        np.log(probs, out=probs)
    probs[np.isnan(confidence)] = np.nan
    return probs


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest()
