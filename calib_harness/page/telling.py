"""Which questions a page carries, and every run's probabilities of them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from calib_harness.page.packing import Columns, smallest_unsigned
from calib_harness.page.question_texts import QuestionText, may_be_spread, read_texts
from calib_harness.predictions.headers import Log
from calib_harness.predictions.table import Floats, Predictions

logger = logging.getLogger(__name__)

#: How many questions of a task are wanted: a number, all, or as many as make sense.
Wanted: TypeAlias = int | None

ALL = 10**9
_USUAL = 300  # questions of a task, unless told otherwise
_MOST_PROBS = 2_000_000  # probabilities that a page carries unless told otherwise: 4 MB
_FULL = 65535


@dataclass(frozen=True, eq=False)
class _Task:
    """The answers of all runs to the questions of a task; arrays of shape (runs, questions)."""

    hashes: list[str]
    of_gold: Floats  # probability of the gold choice; NaN where not answered, or not usable
    places: list[npt.NDArray[np.int64]]  # of each run's questions among all


def add_questions(
    columns: Columns,
    predictions: Sequence[Predictions],
    logs: Mapping[str, Log],
    tasks: Sequence[str],
    pairs: Sequence[tuple[int, int]],
    wanted: Wanted,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Choose questions of every task and add the runs' probabilities of them to columns.

    Parameters
    ----------
    columns : Columns
    predictions : sequence of Predictions
        All runs of the page.
    logs : mapping of str to Log
        By their source, for the texts.
    tasks : sequence of str
        In the page's order.
    pairs : sequence of (int, int)
        Places of runs that are compared.
    wanted : int or None
        Questions of each task; 0 for none, `ALL` for all. None for the most telling few hundred,
        fewer for many runs, and none of a benchmark that asks not to be spread.

    Returns
    -------
    about : dict
        ``tasks``: for each, ``kept`` and ``total`` questions, ``at`` where its probabilities
        begin, and ``why`` not all are there.
    texts : list of dict
        ``text`` and ``choices`` of each question, task after task.
    """
    runs_of: dict[str, list[int]] = {task: [] for task in tasks}
    for i, p in enumerate(predictions):
        runs_of[p.header.task].append(i)
    most = _most_of_each(predictions, runs_of) if wanted is None else wanted
    about: list[dict[str, Any]] = []
    texts: list[dict[str, Any]] = []
    probs: list[npt.NDArray[np.uint16]] = []
    known: dict[str, QuestionText] = {}
    at = 0
    widths: list[int] = []
    golds: list[int] = []
    numbers: list[int] = []
    for task in tasks:
        runs = [predictions[i] for i in runs_of[task]]
        found = _answers(runs)
        total = len(found.hashes)
        why = _why_none(task, runs, wanted)
        kept: list[int] = []
        if not why:
            here = {i: k for k, i in enumerate(runs_of[task])}
            both = [(here[a], here[b]) for a, b in pairs if a in here and b in here]
            kept = _most_telling(found, both, min(most, total))
            known = read_texts(
                [logs[p.header.source] for p in runs], [found.hashes[q] for q in kept]
            )
            kept = [q for q in kept if found.hashes[q] in known]
            if not kept:
                why = "The logs hold no text of its questions."
            elif wanted is None and any(known[found.hashes[q]].has_canary for q in kept):
                kept, why = [], _ASKED
        about.append({"kept": len(kept), "total": total, "at": at, "why": why or _why_some(most)})
        block, details = _block(runs, found, kept)
        for (width, gold, number), q in zip(details, kept, strict=True):
            widths.append(width)
            golds.append(gold)
            numbers.append(number)
            texts.append(_as_json(known[found.hashes[q]], width))
        probs.append(block)
        at += block.size
    columns.add("question_choices", smallest_unsigned(widths))
    columns.add("question_gold", np.asarray(golds, dtype="int32"))
    columns.add("question_number", np.asarray(numbers, dtype="int32"))
    columns.add("question_probs", np.concatenate([np.zeros(0, "uint16"), *probs]))
    return {"tasks": about}, texts


_ASKED = (
    "The authors of this benchmark ask that its questions not be spread, so the page carries "
    "none: --questions N (or all) puts them in all the same, for your own use."
)


def _why_none(task: str, runs: Sequence[Predictions], wanted: Wanted) -> str:
    if wanted == 0:
        return "The page was made without questions (--questions none)."
    if wanted is None and not may_be_spread(task):
        return _ASKED
    return ""


def _why_some(most: int) -> str:
    return (
        "those that are most telling, where some run's gold choice is least probable or changes "
        f"most between a pair, up to {most:,} (--questions N or all sets the number)"
    )


def _most_of_each(predictions: Sequence[Predictions], runs_of: Mapping[str, list[int]]) -> int:
    """How many questions of each task fit; fewer where there are many runs."""
    # Probabilities that one question of every task costs.
    each = sum(int(predictions[i].scores.shape[1]) for runs in runs_of.values() for i in runs)
    return max(10, min(_USUAL, _MOST_PROBS // max(each, 1)))


def _answers(runs: Sequence[Predictions]) -> _Task:
    """Lay the answers of a task's runs side by side, one column per question of any of them."""
    place: dict[str, int] = {}
    places: list[npt.NDArray[np.int64]] = []
    for i, p in enumerate(runs):
        if i and np.array_equal(p.doc_hash, runs[i - 1].doc_hash):  # nearly always
            places.append(places[-1])
        else:
            found = [place.setdefault(str(h), len(place)) for h in p.doc_hash]
            places.append(np.array(found, dtype=np.int64))
    of_gold = np.full((len(runs), len(place)), np.nan)
    for row, p, at in zip(of_gold, runs, places, strict=True):
        ok = p.usable
        row[at[ok]] = p.probs[ok, p.gold[ok]]
    return _Task(list(place), of_gold, places)


def _most_telling(task: _Task, pairs: Sequence[tuple[int, int]], most: int) -> list[int]:
    """Choose questions: each run's least probable gold choices and each pair's largest changes.

    Every run and pair ranks the questions; a question counts by its best rank, and among equals
    by its mean one. In the benchmark's order.
    """
    total = len(task.hashes)
    if most >= total:
        return list(range(total))
    worth = [np.nan_to_num(1 - row, nan=-1.0) for row in task.of_gold]
    worth += [np.nan_to_num(np.abs(task.of_gold[b] - task.of_gold[a]), nan=-1.0) for a, b in pairs]
    best, mean = np.full(total, np.inf), np.zeros(total)
    for each in worth:
        rank = np.empty(total)
        rank[np.argsort(-each, kind="stable")] = np.arange(total)
        best = np.minimum(best, rank)
        mean += rank
    return sorted(np.lexsort((mean, best))[:most].tolist())


def _block(
    runs: Sequence[Predictions], task: _Task, kept: Sequence[int]
) -> tuple[npt.NDArray[np.uint16], list[tuple[int, int, int]]]:
    """Return probabilities, run after run, and (choices, gold, number) of each kept question.

    Zeros stand where a run did not answer, or not with these choices.
    """
    details: list[tuple[int, int, int]] = []
    for q in kept:
        width, gold, number = 0, -1, -1
        for p, at in zip(runs, task.places, strict=True):
            row = np.flatnonzero(at == q)
            if row.size:
                i = int(row[0])
                width = max(width, int((~np.isnan(p.scores[i])).sum()))
                gold = int(p.gold[i]) if gold < 0 else gold
                number = int(p.doc_id[i])
                if width and gold >= 0:
                    break
        details.append((width, gold, number if abs(number) < 2**31 else -1))
    starts = np.cumsum([0, *(width for width, _, _ in details)])
    block: npt.NDArray[np.uint16] = np.zeros((len(runs), int(starts[-1])), dtype=np.uint16)
    for row, p, at in zip(block, runs, task.places, strict=True):
        rows_of = np.full(len(task.hashes), -1)
        rows_of[at] = np.arange(at.size)
        for k, q in enumerate(kept):
            i = rows_of[q]
            width, gold, _ = details[k]
            if i < 0 or not p.usable[i] or p.gold[i] != gold:
                continue
            probs = p.probs[i]
            if int((~np.isnan(probs)).sum()) == width:
                row[starts[k] : starts[k + 1]] = np.rint(probs[~np.isnan(probs)] * _FULL)
    return block.reshape(-1), details


def _as_json(text: QuestionText, width: int) -> dict[str, Any]:
    choices = list(text.choices[:width])
    choices += [f"choice {k + 1}" for k in range(len(choices), width)]
    return {"text": text.text, "choices": choices}
