"""What the page carries: one JSON document of names, and blobs of numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from calib_harness.analysis.isotonic import IsotonicCurve
from calib_harness.analysis.metrics_frame import SummaryOptions
from calib_harness.analysis.reliability import Reliability
from calib_harness.core.loss import PRIMARY
from calib_harness.page.describing import chain_words, metric_words, model_words, run_words
from calib_harness.page.drawn import add_draws, resampled_metrics
from calib_harness.page.numbers import (
    BINNINGS,
    COVERAGES,
    Binning,
    EntryNumbers,
    all_numbers,
    diagram_options,
)
from calib_harness.page.packing import (
    Columns,
    Numbering,
    packed_text,
    printed_alike,
    smallest_unsigned,
)
from calib_harness.page.sources import Sources
from calib_harness.page.telling import Wanted, add_questions
from calib_harness.page.tested import tested_changes
from calib_harness.predictions.table import Predictions

_FULL = 65535  # shares are kept in steps of 1 / 65,535

# Diagrams per choice position are kept for all binnings up to this many bins in all.
_CLASS_BINS = 300_000
# Answers times diagrams up to which there is a diagram of each binning: half a minute.
_DIAGRAM_WORK = 20_000_000


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
    main: Binning = (options.n_bins, options.binning)
    binnings = _binnings(sources, main)
    class_binnings = _class_binnings(sources, binnings, options)
    shown = diagram_options(predictions, options, binnings, class_binnings)
    found = list(all_numbers(predictions, options, shown, n_jobs))
    metrics = list(dict.fromkeys(row["metric"] for entry in found for row in entry.rows))
    names = {kind: Numbering() for kind in ("models", "tasks", "methods", "settings")}
    runs = run_words(sources)
    entries = _entries(predictions, found, list(runs), names)
    if sources.pairs is not None:
        metrics.append(PRIMARY)  # of changes alone
    numbers = Columns()
    _add_metrics(numbers, found, metrics)
    compared = replace(options, n_resamples=n_change_resamples or 0)
    draws = None
    if n_change_resamples == options.n_resamples:
        draws = {p: entry.draws for p, entry in zip(predictions, found, strict=True)}
    tested = tested_changes(sources, compared, metrics, draws, names, numbers)
    tasks = list(names["tasks"].known)
    asked = Columns()
    about, texts = add_questions(
        asked, predictions, sources.logs, tasks, tested.pop("sides"), questions
    )
    resamples = Columns()
    resampled = resampled_metrics(metrics, found)
    carried = add_draws(resamples, found, resampled)
    diagrams = _diagrams(found)
    labels = [str(label) for label in names["models"].known]
    document = {
        "made": made,
        "options": {
            "n_bins": options.n_bins,
            "binning": options.binning,
            "n_resamples": options.n_resamples,
            "seed": options.seed,
        },
        "metrics": [metric_words(name) for name in metrics],
        "models": [model_words(label, sources) for label in labels],
        "tasks": tasks,
        "methods": list(names["methods"].known),
        "settings": [
            {"n_shot": n_shot, "chat_template": chat, "settings": text}
            for n_shot, chat, text in names["settings"].known
        ],
        "entries": entries,
        "n_classes": [len(entry.classes) for entry in found],
        "binnings": binnings,
        "class_binnings": class_binnings,
        "coverages": COVERAGES.tolist(),
        "runs": list(runs.values()),
        "chains": chain_words(sources, names["models"]),
        "resamples": carried,
        "resampled": resampled,
        "questions": about,
        **tested,
        "columns": {
            "numbers": numbers.index,
            "diagrams": diagrams.index,
            "resamples": resamples.index,
            "questions-data": asked.index,
        },
    }
    return Payload(
        document,
        {
            "numbers": numbers.packed(),
            "diagrams": diagrams.packed(),
            "resamples": resamples.packed(),
            "questions": asked.packed(),
            "texts": packed_text(texts),
        },
    )


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


def _diagrams(found: Sequence[EntryNumbers]) -> Columns:
    """Binned data, curves without bins, and risk at every coverage."""
    columns = Columns()
    top = [one for entry in found for one in entry.top]
    classes = [one for entry in found for position in entry.classes for one in position]
    _add_bins(columns, "top", top)
    _add_bins(columns, "class", classes)
    _add_intervals(columns, [*top, *classes])
    _add_curves(columns, [entry.curve for entry in found])
    risk = np.array([entry.risk for entry in found])
    steps = np.nan_to_num(np.round(risk * 65534), nan=65535).astype("uint16")
    # Differences, modulo 65,536, are small and compress better.
    columns.add("risk", np.diff(steps, axis=-1, prepend=np.zeros_like(steps[..., :1])))
    return columns


def _add_curves(columns: Columns, curves: Sequence[IsotonicCurve | None]) -> None:
    """Add the curves without bins; a run of which no question can be used has none."""
    known = [curve for curve in curves if curve is not None]
    columns.add(
        "curve_steps", smallest_unsigned([0 if c is None else c.confidence.size for c in curves])
    )
    for key, name in (
        ("at", "confidence"),
        ("value", "accuracy"),
        ("low", "low"),
        ("high", "high"),
    ):
        values = np.concatenate([np.zeros(0), *(getattr(c, name) for c in known)])
        columns.add(
            f"curve_{key}", np.nan_to_num(np.round(values * 65534), nan=65535).astype("uint16")
        )
    for key, name in (("mcb", "miscalibration"), ("dsc", "discrimination"), ("unc", "uncertainty")):
        parts = [np.nan if c is None else getattr(c, name) for c in curves]
        columns.add(f"curve_{key}", printed_alike(parts))


def _binnings(sources: Sources, main: Binning) -> list[Binning]:
    """Binnings to switch between: all, or those with the chosen M if there are many answers."""
    binnings = [*BINNINGS, *([] if main in BINNINGS else [main])]
    if len(binnings) * sum(map(len, sources.predictions)) <= _DIAGRAM_WORK:
        return binnings
    return [(n_bins, rule) for n_bins, rule in binnings if n_bins == main[0]]


def _class_binnings(
    sources: Sources, binnings: Sequence[Binning], options: SummaryOptions
) -> list[Binning]:
    """Binnings kept for choice positions: all, those with the chosen M, or the chosen one."""
    if sum(p.scores.size for p in sources.predictions) > _DIAGRAM_WORK:
        # Uniform ones always: the histogram is theirs.
        return list(dict.fromkeys([(options.n_bins, options.binning), (options.n_bins, "uniform")]))
    positions = sum(p.scores.shape[1] for p in sources.predictions)
    if positions * sum(n_bins for n_bins, _ in binnings) <= _CLASS_BINS:
        return list(binnings)
    return [(n_bins, rule) for n_bins, rule in binnings if n_bins == options.n_bins]


def _add_metrics(columns: Columns, found: Sequence[EntryNumbers], names: Sequence[str]) -> None:
    place = {name: i for i, name in enumerate(names)}
    for key in ("value", "stderr", "low", "high"):
        table = np.full((len(found), len(names)), np.nan)
        for i, entry in enumerate(found):
            for row in entry.rows:
                table[i, place[row["metric"]]] = row[key]
        columns.add(key, printed_alike(table.T))


def _add_bins(columns: Columns, name: str, diagrams: Sequence[Reliability]) -> None:
    """Add the bins that have entries, diagram after diagram."""
    columns.add(f"{name}_bins", smallest_unsigned([d.n.size for d in diagrams]))
    size = np.concatenate([np.zeros(0, int), *(d.n for d in diagrams)])
    columns.add(f"{name}_size", smallest_unsigned(size))
    share = np.concatenate([np.zeros(0), *(d.accuracy for d in diagrams)])
    columns.add(f"{name}_hits", smallest_unsigned(np.rint(share * size)))
    for key in ("null_low", "null_high"):
        share = np.concatenate([np.zeros(0), *(getattr(d, key) for d in diagrams)])
        columns.add(f"{name}_{key}", smallest_unsigned(np.rint(share * size)))
    for key in ("confidence", "low"):
        values = np.concatenate([np.zeros(0), *(getattr(d, key) for d in diagrams)])
        columns.add(f"{name}_{key}", np.rint(values * _FULL).astype("uint16"))
    for key in ("value", "stderr", "low", "high"):
        columns.add(f"{name}_ece_{key}", printed_alike([getattr(d.ece, key) for d in diagrams]))
    for key in ("mean", "low", "high"):
        of_null = [getattr(d.ece_null, key) for d in diagrams]
        columns.add(f"{name}_ece_null_{key}", printed_alike(of_null))


def _add_intervals(columns: Columns, diagrams: Sequence[Reliability]) -> None:
    """Add the exact interval of each (n, hits) that occurs, sorted: of many bins it is the same."""
    size = np.concatenate([np.zeros(0, int), *(d.n for d in diagrams)])
    share = np.concatenate([np.zeros(0), *(d.accuracy for d in diagrams)])
    key = size * (int(size.max(initial=0)) + 1) + np.rint(share * size).astype(int)
    first = np.unique(key, return_index=True)[1]
    for end in ("low", "high"):
        values = np.concatenate([np.zeros(0), *(getattr(d, f"accuracy_{end}") for d in diagrams)])
        columns.add(f"interval_{end}", np.rint(values[first] * _FULL).astype("uint16"))
