"""Base against aligned over several prompts: a change of the model, or of its prompt's weight."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from calib_harness.analysis.joining import on_shared_questions, shared_questions
from calib_harness.analysis.matching import Models
from calib_harness.analysis.metrics_frame import SummaryOptions
from calib_harness.analysis.paired import check_options, report_questions
from calib_harness.analysis.pairs_file import PairsLike, read_pairs
from calib_harness.analysis.sides import Side, side_of
from calib_harness.core.loss import LOSSES
from calib_harness.core.options import DEFAULT_N_RESAMPLES
from calib_harness.core.prompt_spread import prompt_spread
from calib_harness.core.recalibration import temperatures_of
from calib_harness.errors import ArgumentError, UserError
from calib_harness.predictions.table import Floats, Header, Predictions

logger = logging.getLogger(__name__)

DEFAULT_METRICS = ("acc", "ece", "sce", "brier_score", "nll", "overconfidence")
#: Probabilities that are nowhere farther apart are those of one prompt, computed twice.
_SAME = 1e-4


def compare_over_prompts(
    predictions: Iterable[Predictions],
    pairs: PairsLike,
    *,
    metrics: Sequence[str] = DEFAULT_METRICS,
    n_bins: int = 15,
    binning: str = "uniform",
    n_resamples: int = DEFAULT_N_RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare pairs of models over the prompts under which both were asked the same questions.

    A prompt is a task's variant (``arc_easy_calib_prompt_plain``), its number of shots, whether
    the chat template was applied, and the system instruction. Runs of one method are put together
    where the tasks are variants of one benchmark and hold the same questions; of prompts under
    which both models give the same probabilities, as ``arc_easy`` and ``arc_easy_calib_cloze``
    are, one counts.

    Parameters
    ----------
    predictions : iterable of Predictions
    pairs : str, Path, DataFrame or iterable of (family, base, aligned)
        As for ``compare``.
    metrics : sequence of str
        Names from ``METRICS``. Of calibration errors the excess over a calibrated model's is
        compared, as their biases differ from prompt to prompt.
    n_bins, binning, n_resamples, seed
        As for ``compare``.

    Returns
    -------
    DataFrame
        One row per pair × benchmark × method × metric: ``family, base, aligned, benchmark,
        method, metric, n_prompts, n``; what `core.prompt_spread.PromptSpread` holds;
        ``least_change`` and ``largest_change`` under a single prompt, and ``prompts``.

    Raises
    ------
    UserError
        If an option is wrong, or no pair was asked in the same way under two prompts.
    """
    if set(metrics) & LOSSES.keys():
        raise ArgumentError(
            f"metrics: {', '.join(LOSSES)} cannot be compared over prompts; name others."
        )
    options = check_options(metrics, n_bins, binning, n_resamples, seed)
    models = Models(predictions)
    rows: list[dict[str, Any]] = []
    for family, base, aligned in read_pairs(pairs).to_numpy():
        labels = [models.find(name) for name in (base, aligned)]
        for name, label in zip((base, aligned), labels, strict=True):
            if label is None:
                logger.warning("pair %s / %s: %s", base, aligned, models.unknown(name))
        if labels[0] is None or labels[1] is None:
            continue
        if labels[0] == labels[1]:
            logger.warning("pair %s / %s: both are the model %s", base, aligned, labels[0])
            continue
        sides = [_by_prompt(models.of(label)) for label in labels if label]
        names = {"family": family, "base": labels[0], "aligned": labels[1]}
        for key in sides[0].keys() & sides[1].keys():
            about = names | {"benchmark": key[0], "method": key[1]}
            rows += [about | row for row in _rows(about, sides[0][key], sides[1][key], options)]
    if not rows:
        raise UserError(
            "no pair has runs of one method under two prompts on the same questions: variants of "
            "a task (NAME_calib_prompt_…), numbers of shots, or with and without chat template"
        )
    order = ["family", "base", "aligned", "benchmark", "method"]
    return pd.DataFrame(rows).sort_values(order, kind="stable", ignore_index=True)


def _by_prompt(runs: Iterable[Predictions]) -> dict[tuple[str, str], dict[str, Predictions]]:
    """Return a model's newest run under each prompt, by benchmark and method."""
    found: dict[tuple[str, str], dict[str, Predictions]] = defaultdict(dict)
    for run in sorted(runs, key=lambda run: run.header.date):
        under, prompt = found[run.header.benchmark, run.header.method], _prompt_of(run.header)
        if prompt in under and under[prompt].header.settings != run.header.settings:
            logger.warning(
                "%s, %s: run with %r and with %r; the newer, the last, is used",
                run.header.label,
                prompt,
                under[prompt].header.settings,
                run.header.settings,
            )
        under[prompt] = run
    return found


def _prompt_of(header: Header) -> str:
    shots = "" if header.n_shot is None else f", {header.n_shot}-shot"
    asked = "".join(f", {part}" for part in header.settings.split(", ") if _is_of_prompt(part))
    return f"{header.task}{shots}{', chat template' if header.chat_template else ''}{asked}"


def _is_of_prompt(setting: str) -> bool:
    return setting.startswith(("system_instruction", "fewshot_as_multiturn"))


def _rows(
    about: dict[str, Any],
    base: dict[str, Predictions],
    aligned: dict[str, Predictions],
    options: SummaryOptions,
) -> list[dict[str, Any]]:
    """One row per metric, over the prompts that both models were asked under."""
    prompts = _distinct([prompt for prompt in base if prompt in aligned], base, aligned)
    if len(prompts) < 2:
        return []
    runs = [side[prompt] for side in (base, aligned) for prompt in prompts]
    shared = shared_questions(runs)
    labels = [f"{run.header.label} ({_prompt_of(run.header)})" for run in runs]
    report_questions(shared, labels, about["benchmark"], about["method"])
    if not len(shared):
        return []
    with temperatures_of("{base} / {aligned} on {benchmark} ({method})".format_map(about)):
        sides = [side_of(probs, shared.gold, options) for probs in shared.probs]
    rows = []
    for name in options.metrics:
        table, moved, worlds = _resampled(sides, name)
        changes = table[1] - table[0]
        rows.append(
            {"metric": name, "n_prompts": len(prompts), "n": len(shared)}
            | asdict(prompt_spread(table, moved, worlds))
            | {"least_change": changes.min(), "largest_change": changes.max()}
            | {"prompts": "; ".join(prompts)}
        )
    return rows


def _distinct(prompts: Sequence[str], *sides: dict[str, Predictions]) -> list[str]:
    """Leave out prompts that are others by another name: no run tells them apart."""
    kept: list[str] = []
    for prompt in prompts:
        same = [old for old in kept if all(_is_same(side[old], side[prompt]) for side in sides)]
        if same:
            logger.warning("%s and %s ask the same: one of them counts", same[0], prompt)
        else:
            kept.append(prompt)
    return kept


def _is_same(one: Predictions, other: Predictions) -> bool:
    shared = on_shared_questions([one, other])
    first, second = (run.probs for run in shared)
    if not len(first) or first.shape != second.shape:
        return False
    return np.allclose(first, second, atol=_SAME, equal_nan=True)


def _resampled(sides: Sequence[Side], name: str) -> tuple[Floats, Floats, Floats | None]:
    """Return a metric under each prompt, and how resamples deviate, as `prompt_spread` takes them.

    The same seed draws the same questions for all runs. An excess is what is left of a calibration
    error, and its worlds say how far the error itself may be from that.
    """
    draws = [side.draws[name] for side in sides]
    chance = np.array([side.nulls.get(name, 0.0) for side in sides])
    values = np.array([each.value for each in draws]) - chance
    deviations = np.stack([each.deviations for each in draws], axis=1)
    n_resamples, _, n_worlds = deviations.shape
    moved = deviations[:, :, 0].reshape(n_resamples, 2, -1)
    if n_worlds == 1:
        return values.reshape(2, -1), moved, None
    off = deviations - chance[:, None]
    return values.reshape(2, -1), moved, off.reshape(n_resamples, 2, -1, n_worlds)
