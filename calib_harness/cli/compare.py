"""`compare`: aligned against base models, or stages of a chain, from finished logs."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calib_harness.cli.common import (
    Binning,
    Cache,
    Form,
    Logs,
    Methods,
    Metrics,
    NBins,
    NoCache,
    Output,
    Pool,
    QuietAbout,
    QuietColumns,
    QuietScores,
    Seed,
    Tasks,
    cache_of,
    mapping_of,
    show_log,
    split,
)
from calib_harness.cli.render import Format
from calib_harness.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from calib_harness.analysis import ChainComparison, Comparison

_TABLES = (
    *("changes", "over_families", "across_pairs", "equal_accuracy", "over_tasks"),
    *("decomposition", "ladder"),
)
# What a terminal shows first, where not all columns fit.
_MATTERS = (
    *("aligned", "to_stage", "stage", "task", "method", "metric", "change", "p_holm", "value"),
    *("base", "from_stage", "family", "clear", "base_value", "aligned_value", "low", "high"),
)
_CHAIN_TABLES = ("changes", "values", "trends")


def compare(
    logs: Logs,
    pairs: Annotated[
        Path | None, typer.Option(help="CSV with columns family, base, aligned.")
    ] = None,
    base: Annotated[str | None, typer.Option(help="Base model of a single pair.")] = None,
    aligned: Annotated[str | None, typer.Option(help="Aligned model of it.")] = None,
    chain: Annotated[
        Path | None, typer.Option(help="CSV: family, model, stage or step, revision.")
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(help="A setting: n_shot, chat_template, ..."),
    ] = None,
    ladder: Annotated[
        bool, typer.Option("--ladder", help="What a temperature, and a letter's bias, mend.")
    ] = False,
    metrics: Metrics = None,
    methods: Methods = None,
    tasks: Tasks = None,
    pool: Pool = None,
    columns: QuietColumns = None,
    scores: QuietScores = None,
    about: QuietAbout = None,
    n_bins: NBins = 15,
    binning: Binning = "uniform",
    resamples: Annotated[
        int | None, typer.Option(help="Paired resamples (default: enough for Holm).")
    ] = None,
    seed: Seed = 0,
    table: Annotated[str | None, typer.Option(help="One only: changes, over_families, ...")] = None,
    form: Form = None,
    output: Output = None,
    cache: Cache = None,
    no_cache: NoCache = False,
) -> None:
    """Aligned against base models (or stages, or settings) on the same questions.

    calibration_loss is the primary test; errors count by their excess over a
    calibrated model's. p_holm is corrected over all tests of one metric.

    For example:

      calib-harness compare out/ --pairs pairs.csv --metrics ece,sce
      calib-harness compare out/ --by n_shot
    """
    show_log()
    from calib_harness.analysis import Comparison, compare_chain, verdict
    from calib_harness.analysis import compare as compare_pairs
    from calib_harness.analysis.paired import check_options
    from calib_harness.analysis.pairs_file import read_chain, read_pairs
    from calib_harness.analysis.results import DEFAULT_METRICS
    from calib_harness.cli.readable import for_reading, harm_first
    from calib_harness.cli.render import choose_format, emit, render_data
    from calib_harness.cli.terminal import is_fitted, show
    from calib_harness.predictions import load_predictions

    # All that may be wrong with the options is found before any log is read.
    ways = [pairs, chain, by, base if base is not None else aligned]
    if sum(way is not None for way in ways) != 1:
        raise UserError(
            "give one of --pairs FILE, --chain FILE, --by SETTING, or --base MODEL --aligned MODEL."
        )
    if (base is None) != (aligned is None):
        raise UserError("give either --pairs FILE, or both --base MODEL and --aligned MODEL.")
    if ladder and chain is not None:
        raise UserError("--ladder climbs with pairs or settings, not with --chain; drop one.")
    if table == "ladder":
        ladder = True
    tables = _TABLES if chain is None else _CHAIN_TABLES
    if table is not None and table not in tables:
        raise UserError(f"--table must be one of {', '.join(tables)}; got {table!r}.")
    options: dict[str, Any] = {
        "metrics": DEFAULT_METRICS if metrics is None else split(metrics),
        "n_bins": n_bins,
        "binning": binning,
        "n_resamples": resamples,
        "seed": seed,
    }
    check_options(**options)
    chosen = choose_format(form, output)
    listed = read_pairs(pairs) if pairs else read_chain(chain) if chain else None
    runs = load_predictions(
        logs,
        methods=split(methods),
        tasks=split(tasks),
        pool=split(pool) or (),
        columns=mapping_of(columns, "columns"),
        scores=scores,
        about=mapping_of(about, "about"),
        cache=cache_of(cache, no_cache),
    )
    if any(run.subject is not None for run in runs):
        logging.getLogger(__name__).info(
            "questions of a pool are taken as independent: errors and p-values hold for these "
            "very subjects, not for others like them"
        )
    result = (
        compare_chain(runs, listed, **options)
        if chain is not None and listed is not None
        else compare_pairs(
            runs, listed, base=base, aligned=aligned, by=by, ladder=ladder, **options
        )
    )
    frames = _chosen_frames(result, table, chosen)
    if chosen in (Format.csv, Format.json):
        emit(render_data(frames, chosen), output)
    else:
        if is_fitted(chosen, output) and "changes" in frames:
            frames["changes"] = harm_first(frames["changes"])
        readable = {_title(name, frame): for_reading(frame) for name, frame in frames.items()}
        told = verdict(result) if isinstance(result, Comparison) and table is None else []
        words = [each.text for each in told]
        show(readable, chosen, output, first=_MATTERS, words=words)


def _chosen_frames(
    result: Comparison | ChainComparison, table: str | None, form: Format
) -> dict[str, pd.DataFrame]:
    names = dict.fromkeys((*_TABLES, *_CHAIN_TABLES))
    frames = {name: getattr(result, name) for name in names if hasattr(result, name)}
    frames = {name: frame for name, frame in frames.items() if name != "ladder" or len(frame)}
    if table is not None:
        return {table: frames[table]}
    if form is Format.csv:
        others = ", ".join(name for name in frames if name != "changes")
        logging.getLogger(__name__).info(
            "CSV holds one table, changes; name another with --table (%s)", others
        )
        return {"changes": frames["changes"]}
    return frames


def _title(name: str, frame: pd.DataFrame) -> str:
    sides = "to − from" if "to_stage" in frame.columns else "aligned − base"
    return {
        "changes": f"Changes ({sides}), paired bootstrap over questions",
        "over_families": "Share of pairs harmed, exact sign test over families",
        "across_pairs": "Mean change over pairs and families (random effects)",
        "equal_accuracy": "Mean change at equal accuracy (regression over pairs)",
        "ladder": "Ladder: ECE raw, after a temperature, after a bias of each letter",
        "over_tasks": "Agreement of the ranks across tasks",
        "decomposition": "Change of ECE split into over- and underconfidence",
        "values": "Values along the chain",
        "trends": "Trend: rise of a line from the first stage to the last",
    }[name]
