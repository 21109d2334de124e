"""What the page carries: one JSON document of names, and blobs of numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from calib_harness.analysis.metrics_frame import SummaryOptions
from calib_harness.analysis.sides import Side
from calib_harness.core.loss import PRIMARY
from calib_harness.page.describing import chain_words, metric_words, model_words, run_words
from calib_harness.page.diagram_columns import diagram_columns
from calib_harness.page.drawn import add_draws, resampled_metrics
from calib_harness.page.numbers import COVERAGES, EntryNumbers, all_numbers, diagram_options
from calib_harness.page.packing import Columns, Numbering, packed_text, printed_alike
from calib_harness.page.sources import Sources
from calib_harness.page.telling import Wanted, add_questions
from calib_harness.page.tested import comparable, tested_changes
from calib_harness.predictions.table import Predictions
from calib_harness.waiting import shown


@dataclass(frozen=True)
class Payload:
    """Everything that is put into the page.

    Attributes
    ----------
    document : dict
        Names, options and who belongs to whom; JSON-ready.
    blobs : dict of str to str
        Packed columns, each unpacked when it is first needed: ``numbers`` (metrics and changes,
        at once), ``diagrams`` (binned data and curves), ``resamples``, ``questions`` and their
        ``texts``.
    """

    document: dict[str, Any]
    blobs: dict[str, str]


def make_payload(
    sources: Sources,
    options: SummaryOptions,
    *,
    n_change_resamples: int | None = None,
    questions: Wanted = None,
    n_jobs: int = 1,
    made: dict[str, Any],
) -> Payload:
    """Compute everything and pack it.

    Parameters
    ----------
    sources : Sources
    options : SummaryOptions
        Metrics, bins and resamples, as for ``metrics_frame``.
    n_change_resamples : int, optional
        Resamples of the changes from base to aligned; by default as many as ``compare`` takes.
    questions : int, optional
        Questions of each task whose text and answers are carried, see `add_questions`.
    n_jobs : int
        Processes.
    made : dict
        When and how the page was made: ``date``, ``command``, ``packages``.
    """
    predictions = sources.predictions
    diagrams_shown = diagram_options(predictions, options)
    compared = [] if sources.pairs is None else comparable([*options.metrics, PRIMARY])
    computed = all_numbers(predictions, options, diagrams_shown, compared, n_jobs)
    found = list(shown(computed, "Measuring", "runs", len(predictions)))
    names = {kind: Numbering() for kind in ("models", "tasks", "methods", "settings")}
    runs = run_words(sources)
    entries = _entries(predictions, found, list(runs), names)
    metrics = list(dict.fromkeys(row["metric"] for entry in found for row in entry.rows))
    numbers = Columns()
    if sources.pairs is not None:
        metrics = list(dict.fromkeys([*metrics, PRIMARY]))  # of changes alone
    _add_metrics(numbers, found, metrics)
    tested = tested_changes(
        sources,
        replace(options, n_resamples=n_change_resamples or 0),
        metrics,
        _known(predictions, found, with_draws=n_change_resamples == options.n_resamples),
        names,
        numbers,
    )
    tasks = list(names["tasks"].known)
    asked, resamples, diagrams = Columns(), Columns(), diagram_columns(found)
    about, texts = add_questions(
        asked, predictions, sources.logs, tasks, tested.pop("sides"), questions
    )
    resampled = resampled_metrics(metrics, found)
    document = {
        "made": made,
        "options": {
            name: getattr(options, name) for name in ("n_bins", "binning", "n_resamples", "seed")
        },
        "metrics": [metric_words(name) for name in metrics],
        **_named(names, sources),
        "entries": entries,
        "n_classes": [len(entry.classes) for entry in found],
        "binnings": diagrams_shown.binnings,
        "class_binnings": diagrams_shown.class_binnings,
        "coverages": COVERAGES.tolist(),
        "runs": list(runs.values()),
        "chains": chain_words(sources, names["models"]),
        "resamples": add_draws(resamples, found, resampled),
        "resampled": resampled,
        "questions": about,
        **tested,
    }
    columns = {
        "numbers": numbers,
        "diagrams": diagrams,
        "resamples": resamples,
        "questions": asked,
    }
    document["columns"] = {
        ("questions-data" if name == "questions" else name): each.index
        for name, each in columns.items()
    }
    blobs = {name: each.packed() for name, each in columns.items()}
    return Payload(document, blobs | {"texts": packed_text(texts)})


def _known(
    predictions: Sequence[Predictions], found: Sequence[EntryNumbers], *, with_draws: bool
) -> dict[Predictions, Side]:
    """Return what the changes need of each run; resamples only if they are as many."""
    return {
        p: entry.side if with_draws else replace(entry.side, draws={})
        for p, entry in zip(predictions, found, strict=True)
    }


def _named(names: dict[str, Numbering], sources: Sources) -> dict[str, Any]:
    """Return what the numbers of models, tasks, methods and settings stand for."""
    return {
        "models": [model_words(str(label), sources) for label in names["models"].known],
        "tasks": list(names["tasks"].known),
        "methods": list(names["methods"].known),
        "settings": [
            {"n_shot": n_shot, "chat_template": chat, "settings": text}
            for n_shot, chat, text in names["settings"].known
        ],
    }


def _entries(
    predictions: Sequence[Predictions],
    found: Sequence[EntryNumbers],
    sources: Sequence[str],
    names: dict[str, Numbering],
) -> dict[str, list[int]]:
    """Say of every run × task × method what it is, as numbers of names."""
    run = {source: i for i, source in enumerate(sources)}
    same_questions = Numbering()
    rows = []
    for p, entry in zip(predictions, found, strict=True):
        h = p.header
        rows.append(
            {
                "model": names["models"].of(h.label),
                "task": names["tasks"].of(h.task),
                "method": names["methods"].of(h.method),
                "setting": names["settings"].of((h.n_shot, h.chat_template, h.settings)),
                "run": run[h.source],
                "questions": same_questions.of(_question_key(p)),
                "n": len(p),
                "unusable": int((~p.usable).sum()),
                "calibrated": _as_if_calibrated(entry),
            }
        )
    return {key: [row[key] for row in rows] for key in rows[0]}


def _question_key(p: Predictions) -> bytes:
    """Return what is the same for runs on the same questions, choices and gold, in one order."""
    digest = hashlib.blake2b("\0".join(map(str, p.doc_hash)).encode("utf-8", "surrogatepass"))
    digest.update(p.gold.tobytes())
    return digest.digest()


def _as_if_calibrated(entry: EntryNumbers) -> int:
    """Say whether an ECE lies within what a calibrated model would show: 1 yes, 2 no, 0 unknown."""
    rows = {row["metric"]: row for row in entry.rows}
    if not {"ece", "ece_null"} <= rows.keys() or not np.isfinite(rows["ece_null"]["high"]):
        return 0
    return 1 if rows["ece"]["value"] <= rows["ece_null"]["high"] else 2


def _add_metrics(columns: Columns, found: Sequence[EntryNumbers], names: Sequence[str]) -> None:
    place = {name: i for i, name in enumerate(names)}
    for key in ("value", "stderr", "low", "high"):
        table = np.full((len(found), len(names)), np.nan)
        for i, entry in enumerate(found):
            for row in entry.rows:
                table[i, place[row["metric"]]] = row[key]
        columns.add(key, printed_alike(table.T))
