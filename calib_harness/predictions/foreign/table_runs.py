"""Tables of anyone's own script as predictions: CSV, Parquet and JSON lines, batch by batch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from calib_harness.core.checks import as_gold
from calib_harness.core.confidence import METHODS, pack_flat
from calib_harness.errors import ArgumentError
from calib_harness.predictions.columns import UnusableLogError, check_few
from calib_harness.predictions.foreign.batches import column_names, read_batches
from calib_harness.predictions.foreign.scored import confidence_scores
from calib_harness.predictions.foreign.table_form import (
    CONFIDENCE,
    SCORE_KINDS,
    TABLE_METHODS,
    TableForm,
    table_form,
)
from calib_harness.predictions.foreign.table_gold import (
    NO_GOLD,
    check_first,
    check_one_gold,
    check_within,
    gold_index,
    index_named,
    truth,
)
from calib_harness.predictions.foreign.table_rows import Rows, are_again, numbered
from calib_harness.predictions.gold import NONE, STATED
from calib_harness.predictions.headers import Log
from calib_harness.predictions.table import (
    UNDECIDED,
    Floats,
    Header,
    Ints,
    LogContents,
    Predictions,
)

#: What `about` may say of a table that does not say it itself.
ABOUT = ("model", "task", "method", "n_shot", "revision", "settings")
_ROWS = 2**18  # of a table that are laid out at a time
_SUM_TOLERANCE = 1e-3  # of probabilities that were rounded for printing


@dataclass(frozen=True)
class TableOptions:
    """How tables are to be read; see :class:`calib_harness.predictions.load.PredictionStream`.

    Attributes
    ----------
    columns : mapping of str to str
    scores : str or None
    about : mapping of str to str
    tasks : frozenset of str or None
        Tasks that are wanted, which only a table's column may name.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    scores: str | None = None
    about: Mapping[str, str] = field(default_factory=dict)
    tasks: frozenset[str] | None = None

    def __post_init__(self) -> None:
        """Refuse names that mean nothing here."""
        for name in self.about:
            if name not in ABOUT:
                raise ArgumentError(f"about must give {', '.join(ABOUT)}; got {name!r}.")
        method = self.about.get("method", CONFIDENCE)
        if method not in (*METHODS, *TABLE_METHODS):
            raise ArgumentError(
                f"about must give method as one of {', '.join((*METHODS, *TABLE_METHODS))}; got "
                f"{method!r}."
            )


def read_table(log: Log, options: TableOptions) -> LogContents:
    """Read a table; every model and task in it is a run of its own.

    Raises
    ------
    UnusableLogError, OSError
        If it cannot be used.
    UserError
        If its columns do not say enough.
    """
    form = table_form(column_names(log.file), options.columns, options.scores, log.file.url)
    rows = Rows(form)
    numbers = _number_columns(form)
    for batch in read_batches(log.file, form.columns, numbers=numbers, names=form.id):
        rows.add(batch)
    if not rows.n:
        return LogContents(log.header, (), {}, ())
    parts = {"question": _by_question, "choice": _by_choice, CONFIDENCE: _by_confidence}
    table = parts[form.layout](rows, form)
    header = _header(log.header, form, options)
    problems = list(table.problems)
    predictions = tuple(_runs(table, header, problems))
    reason = f"the table holds what is read as {header.method}"
    missing = {name: reason for name in METHODS if name != header.method}
    return LogContents(header, predictions, missing, tuple(problems))


def _number_columns(form: TableForm) -> tuple[str, ...]:
    """Columns that must hold numbers; one list of scores is text or a list."""
    is_list = form.layout == "question" and len(form.scores) == 1
    return () if is_list else form.scores


def _header(header: Header, form: TableForm, options: TableOptions) -> Header:
    about: dict[str, Any] = dict(options.about)
    for name in ("model", "task"):
        if name in about and getattr(form, name):
            raise ArgumentError(
                f"about gives {name}={about[name]}, but {header.source} says it in its column "
                f"{getattr(form, name)}; leave one of them out."
            )
    method = about.pop("method", None) or (
        CONFIDENCE if form.layout == CONFIDENCE else SCORE_KINDS[form.kind]
    )
    if "n_shot" in about:
        if not about["n_shot"].isdecimal():
            raise ArgumentError(f"about must give n_shot as a number; got {about['n_shot']!r}.")
        about["n_shot"] = int(about["n_shot"])
    return replace(header, method=method, gold=STATED, **about)


@dataclass(frozen=True)
class _Table:
    scores: Floats
    gold: Ints
    ids: np.ndarray
    model: pd.Categorical
    task: pd.Categorical
    subject: np.ndarray | None
    problems: list[str]


def _by_question(rows: Rows, form: TableForm) -> _Table:
    if len(form.scores) > 1:
        table = rows.numbers()
        n_choices = _pack_in_place(table, form.kind)
    else:
        flat, n_choices = rows.lists()
        check_few(n_choices.max())
        table = _packed(flat, n_choices, form.kind)
    gold_texts = rows.texts(form.gold)
    gold = gold_index(gold_texts, form.gold)
    check_within(gold, n_choices, np.arange(rows.n), form.gold)
    if len(form.scores) > 1:
        check_first(gold_texts, gold, form.scores[0], form.gold)
    # Without names, rows of two tables are the same questions only if every gold is, too.
    digest = hashlib.sha256(gold.astype("<i8").tobytes()).hexdigest()[:16]
    runs = _runs_of(rows, form)
    ids = rows.names() if form.id else numbered(rows.n, f" of {digest}")
    return _Table(table, gold, ids, *runs, [])


def _pack_in_place(table: Floats, kind: str) -> Ints:
    """Make scores of a table's numbers, some rows at a time; returns the numbers of choices."""
    n_choices = np.empty(len(table), dtype=np.int64)
    for start in range(0, len(table), _ROWS):
        rows = slice(start, start + _ROWS)
        flat, n_choices[rows] = _without_absent(table[rows])
        table[rows] = _packed(flat, n_choices[rows], kind, width=table.shape[1], before=start)
    return n_choices


def _packed(flat: Floats, n_choices: Ints, kind: str, *, width: int = 0, before: int = 0) -> Floats:
    """Lay out the scores of some rows, of which `before` others come first."""
    packed = pack_flat(_as_scores(flat, kind), n_choices)
    _check_probabilities(flat, n_choices, kind, before)
    missing = width - packed.shape[1]
    return np.pad(packed, ((0, 0), (0, missing)), constant_values=np.nan) if missing > 0 else packed


def _without_absent(scores: Floats) -> tuple[Floats, Ints]:
    """Cut trailing empty cells, which stand for choices that do not exist."""
    present = ~np.isnan(scores)
    n_choices = np.where(
        present.any(axis=1), scores.shape[1] - present[:, ::-1].argmax(axis=1), scores.shape[1]
    )
    return scores[np.arange(scores.shape[1]) < n_choices[:, None]], n_choices


def _as_scores(flat: Floats, kind: str) -> Floats:
    if kind != "prob":
        return flat
    if (flat < 0).any() or (flat > 1 + _SUM_TOLERANCE).any():
        raise UnusableLogError(
            f"holds {flat[(flat < 0) | (flat > 1 + _SUM_TOLERANCE)][0]:.4g} where probabilities "
            "should be; give --scores logit or sum if they are such"
        )
    with np.errstate(divide="ignore"):
        return np.log(flat)


def _check_probabilities(flat: Floats, n_choices: Ints, kind: str, before: int = 0) -> None:
    if kind != "prob" or not len(n_choices):
        return
    totals = np.nansum(pack_flat(flat, n_choices), axis=1)
    off = (np.abs(totals - 1) > _SUM_TOLERANCE) & (totals > 0)
    if off.any():
        row = int(np.argmax(off))
        raise UnusableLogError(
            f"holds in row {before + row + 1} probabilities that add up to {totals[row]:.4g}, "
            "expected 1 "
            "(of letters among all tokens give the logarithms, and --scores letter)"
        )


def _by_confidence(rows: Rows, form: TableForm) -> _Table:
    confidence = rows.numbers()[:, 0]
    correct = truth(rows.texts(form.correct), form.correct)
    scores = confidence_scores(confidence)
    gold = np.where(np.isnan(correct), -1, 1 - np.nan_to_num(correct)).astype(np.int64)
    runs = _runs_of(rows, form)
    ids = rows.names() if form.id else numbered(rows.n)
    return _Table(scores, gold, ids, *runs, [])


def _by_choice(rows: Rows, form: TableForm) -> _Table:
    model, task, subject = _runs_of(rows, form)
    codes, names = rows.coded_names()
    question, first, n = _questions(codes, model, task)
    labels = rows.texts(form.choice)
    position, start = _positions(labels, question)
    width = int(position.max(initial=0)) + 1
    check_few(width)
    flat = _as_scores(rows.numbers()[:, 0], form.kind)
    cell = question * width + position
    first_rows: Any = slice(None)
    if np.bincount(cell).max() > 1:
        _, first_rows = np.unique(cell, return_index=True)
    problems = []
    n_again = len(cell) - len(cell[first_rows])
    if n_again:
        problems.append(f"{n_again} rows hold a choice that was there before; the first counts")
    scores = np.full(n * width, np.nan)
    scores[cell[first_rows]] = flat[first_rows]
    filled = np.zeros(n * width, dtype=bool)
    filled[cell] = True
    present = filled.reshape(n, width)
    table = scores.reshape(n, width)
    holes = present.sum(axis=1) <= width - 1 - present[:, ::-1].argmax(axis=1)
    spoilt = holes | (np.isnan(table) & present).any(axis=1) | ~np.isfinite(table).any(axis=1)
    table[spoilt] = np.nan
    if holes.any():
        problems.append(f"{int(holes.sum())} of {n} questions lack a choice before their last")
    gold = np.full(n, -1)
    if form.is_gold:
        right = truth(rows.texts(form.is_gold), form.is_gold)[first_rows] == 1
        counts = np.bincount(question[first_rows][right], minlength=n)
        gold[question[first_rows][right]] = position[first_rows][right]
        gold[counts > 1] = UNDECIDED
    else:
        wanted = rows.texts(form.gold)
        check_one_gold(wanted, question, first, form.gold)
        if set(wanted.categories) - NO_GOLD <= set(labels.categories):
            among_labels = labels.categories.get_indexer(wanted.categories)
            same = (wanted.codes >= 0) & (among_labels[wanted.codes] == labels.codes)
            gold[question[same]] = position[same]
        elif start:
            raise UnusableLogError(
                f"counts the choices in {form.choice} from 1 and names in {form.gold} right ones "
                "that are none of them; give both columns in the same way"
            )
        else:
            gold = gold_index(wanted, form.gold)[first]
            check_within(gold, width - present[:, ::-1].argmax(axis=1), first, form.gold)
    if form.kind == "prob":
        _check_probabilities(
            np.exp(table[present & ~spoilt[:, None]]), present[~spoilt].sum(axis=1), "prob"
        )
    subject = None if subject is None else subject[first]
    ids = names[codes[first]]
    return _Table(table, gold, ids, model[first], task[first], subject, problems)


def _questions(names: Ints, model: pd.Categorical, task: pd.Categorical) -> tuple[Ints, Ints, int]:
    """Return each row's question, numbered as they appear, where each begins, and how many."""
    key = names * (len(model.categories) + 1) + model.codes + 1
    key = key * (len(task.categories) + 1) + task.codes + 1
    question, different = pd.factorize(key)
    # A question is numbered where it first appears, so there the largest number so far rises.
    first = np.flatnonzero(np.diff(np.maximum.accumulate(question), prepend=-1))
    return np.asarray(question, dtype=np.int64), first, len(different)


def _positions(labels: pd.Categorical, question: Ints) -> tuple[Ints, int]:
    """Index of each row's choice: its number or letter, else its place within the question.

    Also returned is the number of the first choice, 1 where all are numbers from there on.
    """
    if (labels.codes < 0).any():
        row = int(np.argmax(labels.codes < 0))
        raise UnusableLogError(f"does not say in row {row + 1} which choice it is about")
    named = [index_named(str(label)) for label in labels.categories]
    if named and min(named) >= 0 and max(named) < 1000:
        start = 1 if min(named) == 1 and all(str(c).isdecimal() for c in labels.categories) else 0
        return np.asarray(np.array(named, dtype=np.int64)[labels.codes] - start), start
    return np.asarray(pd.Series(question).groupby(question).cumcount(), dtype=np.int64), 0


def _runs_of(
    rows: Rows, form: TableForm
) -> tuple[pd.Categorical, pd.Categorical, np.ndarray | None]:
    """Return model, task and subject of each row."""
    subject = np.asarray(rows.texts(form.subject).astype(object)) if form.subject else None
    return rows.texts(form.model), rows.texts(form.task), subject


def _runs(table: _Table, header: Header, problems: list[str]) -> Iterator[Predictions]:
    """Cut a table into runs: its models and tasks."""
    run = table.model.codes.astype(np.int64) * (len(table.task.categories) + 1) + table.task.codes
    for code in pd.unique(run):
        rows = np.flatnonzero(run == code)
        own = replace(
            header,
            model=_name(table.model, rows[0]) or header.model,
            task=_name(table.task, rows[0]) or header.task,
        )
        again = are_again(table.ids[rows])
        if again.any():
            problems.append(
                f"{int(again.sum())} of {len(rows)} questions of {own.task} are there twice (first "
                f"{str(table.ids[rows][again][0])[:40]}); their first row counts"
            )
            rows = rows[~again]
        if not (table.gold[rows] >= 0).any():
            own = replace(own, gold=NONE)
        whole = len(rows) == len(table.gold)
        yield Predictions(
            own,
            table.scores if whole else table.scores[rows],
            as_gold(table.gold if whole else table.gold[rows]),
            np.arange(len(rows)),
            table.ids if whole else table.ids[rows],
            subject=None if table.subject is None else table.subject[rows],
        )


def _name(texts: pd.Categorical, row: int) -> str:
    code = texts.codes[row]
    return str(texts.categories[code]) if code >= 0 else ""
