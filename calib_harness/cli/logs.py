"""Commands that read finished logs: ``metrics`` and ``compare``. No model is loaded."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, overload

import typer

from calib_harness.cli.render import Format
from calib_harness.errors import UserError
from calib_harness.text import visible

if TYPE_CHECKING:
    import pandas as pd

    from calib_harness.comparison import ChainComparison, Comparison
    from calib_harness.predictions.load import CacheLike

_TABLES = ("changes", "over_families", "over_tasks", "decomposition")
_CHAIN_TABLES = ("changes", "values", "trends")

Logs = Annotated[
    list[str],
    typer.Argument(help="Sample logs: files, folders, URLs (hf://, …)."),
]
Metrics = Annotated[
    str | None, typer.Option("--metrics", help="Comma-separated names, e.g. ece,sce,auroc.")
]
Methods = Annotated[
    str | None, typer.Option("--methods", help="Comma-separated names, e.g. choice.")
]
Tasks = Annotated[str | None, typer.Option("--tasks", help="Comma-separated task names.")]
NBins = Annotated[int, typer.Option("--n-bins", help="Number of bins M.")]
Binning = Annotated[str, typer.Option("--binning", help="uniform, equal_mass or adaptive.")]
Seed = Annotated[int, typer.Option("--seed", help="Of the bootstrap.")]
AllRuns = Annotated[bool, typer.Option("--all-runs", help="Keep repeated runs, not the newest.")]
Form = Annotated[
    Format | None,
    typer.Option(
        "--format",
        metavar="<name>",
        help="table, csv, json, markdown or latex (default: as --output ends, or table).",
    ),
]
Output = Annotated[Path | None, typer.Option("--output", help="Write here instead of printing.")]
Cache = Annotated[
    Path | None, typer.Option("--cache", help="Folder for read logs (default: user's cache).")
]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Keep no copy of read logs.")]


def cache_of(cache: Path | None, no_cache: bool) -> CacheLike:
    """Return what the loaders take for --cache and --no-cache: a folder, none, the user's own."""
    return False if no_cache else cache


def workers(jobs: int | None) -> int:
    """Return how many threads or processes --jobs asks for: by default one per core."""
    if jobs is not None and jobs < 1:
        raise UserError(f"--jobs must be at least 1; got {jobs}.")
    return jobs or os.cpu_count() or 1


def metrics(
    logs: Logs,
    metrics: Metrics = None,
    methods: Methods = None,
    tasks: Tasks = None,
    n_bins: NBins = 15,
    binning: Binning = "uniform",
    resamples: Annotated[int, typer.Option(help="Bootstrap resamples; 0: no errors.")] = 1000,
    seed: Seed = 0,
    recalibrate: Annotated[
        bool, typer.Option("--recalibrate", help="Add temperature and cross-fitted ECE.")
    ] = False,
    fit_on: Annotated[
        str | None, typer.Option("--fit-on", help="Task whose temperature is transferred.")
    ] = None,
    all_runs: AllRuns = False,
    form: Form = None,
    output: Output = None,
    cache: Cache = None,
    no_cache: NoCache = False,
    jobs: Annotated[int | None, typer.Option(help="Threads (default: number of cores).")] = None,
) -> None:
    """Table of every run, task and method with standard errors, from sample logs.

    Beside each ECE stands ece_null: what a perfectly calibrated model with these
    confidences would show. CSV and JSON also hold the 95 % intervals.

    For example:

      calib-harness metrics out/ --metrics acc,ece,sce --output table.csv
      calib-harness metrics out/ --methods choice --recalibrate
      calib-harness metrics hf://datasets/org/details --tasks arc_challenge
    """
    show_log()
    from calib_harness.cli.render import choose_format, emit, render, render_data
    from calib_harness.predictions import PredictionStream
    from calib_harness.summary import DEFAULT_METRICS, metrics_frame, wide_frame

    n_jobs = workers(jobs)
    chosen = choose_format(form, output)
    frame = metrics_frame(
        PredictionStream(
            logs,
            methods=split(methods),
            tasks=split(tasks),
            all_runs=all_runs,
            cache=cache_of(cache, no_cache),
        ),
        metrics=DEFAULT_METRICS if metrics is None else split(metrics),
        n_bins=n_bins,
        binning=binning,
        n_resamples=resamples,
        seed=seed,
        recalibrate=recalibrate,
        fit_on=fit_on,
        n_jobs=n_jobs,
    )
    wide = wide_frame(frame)
    if chosen in (Format.csv, Format.json):
        emit(render_data({"metrics": wide}, chosen), output)
    else:
        emit(render({"": metrics_for_reading(wide)}, chosen), output)


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
    metrics: Metrics = None,
    methods: Methods = None,
    tasks: Tasks = None,
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
    """Aligned against base models (or stages of a chain) on the same questions.

    Intervals (low, high) are the paired bootstrap's at 95 %, p_holm is corrected
    over the whole table: compare only what matters.

    For example:

      calib-harness compare out/ --base org/model --aligned org/model-chat
      calib-harness compare out/ --pairs pairs.csv --metrics ece,sce
      calib-harness compare out/ --chain stages.csv --output changes.csv
    """
    show_log()
    from calib_harness.cli.render import choose_format, emit, render, render_data
    from calib_harness.comparison import compare as compare_pairs
    from calib_harness.comparison import compare_chain
    from calib_harness.comparison.paired import check_options
    from calib_harness.comparison.pairs import read_chain, read_pairs
    from calib_harness.comparison.results import DEFAULT_METRICS
    from calib_harness.predictions import load_predictions

    # All that may be wrong with the options is found before any log is read.
    if sum([pairs is not None, chain is not None, base is not None or aligned is not None]) != 1:
        raise UserError("give one of --pairs FILE, --chain FILE, or --base MODEL --aligned MODEL.")
    if (base is None) != (aligned is None):
        raise UserError("give either --pairs FILE, or both --base MODEL and --aligned MODEL.")
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
        cache=cache_of(cache, no_cache),
    )
    result = (
        compare_chain(runs, listed, **options)
        if chain is not None and listed is not None
        else compare_pairs(runs, listed, base=base, aligned=aligned, **options)
    )
    frames = _chosen_frames(result, table, chosen)
    if chosen in (Format.csv, Format.json):
        emit(render_data(frames, chosen), output)
    else:
        readable = {_title(name, frame): for_reading(frame) for name, frame in frames.items()}
        emit(render(readable, chosen), output)


def register(app: typer.Typer) -> None:
    """Add the commands of this module to the command line."""
    app.command()(metrics)
    app.command()(compare)


def show_log(level: int = logging.INFO) -> None:
    """Print what the package logs from a level on, once, on standard error."""
    logger = logging.getLogger("calib_harness")
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(_Visible("%(levelname)s: %(message)s"))
        handler.addFilter(_first_time())
        logger.addHandler(handler)
        logger.setLevel(level)


class _Visible(logging.Formatter):
    """Shows messages, which quote names from logs, so that they cannot rewrite a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))


def _first_time() -> Callable[[logging.LogRecord], bool]:
    """Make a filter that lets each message through once."""
    seen: set[str] = set()

    def is_new(record: logging.LogRecord) -> bool:
        message = record.getMessage()
        new = message not in seen
        seen.add(message)
        return new

    return is_new


def metrics_for_reading(wide: pd.DataFrame) -> pd.DataFrame:
    """Format a wide metrics frame: one cell per metric, columns that say nothing left out."""
    import pandas as pd

    from calib_harness.cli.render import with_error
    from calib_harness.predictions.table import DEFAULT_REVISIONS

    named = ~wide["revision"].isin([r for r in DEFAULT_REVISIONS if r]) & wide["revision"].notna()
    model = wide["model"].where(~named, wide["model"] + "@" + wide["revision"].astype(str))
    shown = pd.DataFrame({"model": model, "task": wide["task"], "method": wide["method"]})
    for column, title in (
        ("n_shot", "shots"),
        ("chat_template", "chat template"),
        ("settings", "settings"),
        ("date", "date"),
    ):
        varies = wide.groupby(["model", "revision", "task", "method"], dropna=False)[column]
        if column == "n_shot" or (varies.nunique(dropna=False) > 1).any():
            shown[title] = [_cell(value) for value in wide[column]]
    shown["n"] = wide["n"].astype(str)
    if wide["n_unusable"].any():
        shown["unusable"] = wide["n_unusable"].astype(str)
    shown["M"] = wide["M"].astype(str)
    names = [c for c in wide.columns if f"{c}_stderr" in wide.columns]
    for name in names:
        pairs = zip(wide[name], wide[f"{name}_stderr"], strict=True)
        shown[name] = [with_error(value, stderr) for value, stderr in pairs]
    return shown


def for_reading(frame: pd.DataFrame) -> pd.DataFrame:
    """Format a comparison frame: change with its error, three decimals, empty for missing."""
    from calib_harness.cli.render import number, p_value, with_error

    shown = frame.copy()
    if {"change", "stderr"} <= set(frame.columns):
        changes = zip(frame["change"], frame["stderr"], strict=True)
        shown["change"] = [with_error(change, stderr) for change, stderr in changes]
        shown = shown.drop(columns="stderr")
    if {"base_null", "aligned_null"} <= set(frame.columns):
        for side in ("base", "aligned"):
            null = shown.pop(f"{side}_null")
            if null.notna().any():
                shown.insert(list(shown.columns).index(f"{side}_value") + 1, f"{side}_null", null)
    if "chat_template" in shown.columns:  # last among the numbers, first where it tells rows apart
        chat = shown.pop("chat_template")
        if chat.nunique(dropna=False) > 1:
            shown.insert(list(shown.columns).index("n_shot") + 1, "chat_template", chat)
    # Counts of left-out questions appear where there are any.
    for column in ("n_base_only", "n_aligned_only", "n_unusable", "n_changed", "n_dropped"):
        if column in shown.columns and not frame[column].any():
            shown = shown.drop(columns=column)
    for column in shown.columns:
        values = shown[column]
        if column in ("p_value", "p_holm"):
            shown[column] = [p_value(value) for value in values]
        elif column in ("rank", "n_shot", "position"):
            shown[column] = [_cell(value) for value in values]
        elif values.dtype.kind == "f":
            shown[column] = [number(value) for value in values]
        else:
            shown[column] = [_cell(value) for value in values]
    return shown


def _cell(value: Any) -> str:
    """Text of a value; whole numbers without a point."""
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _chosen_frames(
    result: Comparison | ChainComparison, table: str | None, form: Format
) -> dict[str, pd.DataFrame]:
    names = dict.fromkeys((*_TABLES, *_CHAIN_TABLES))
    frames = {name: getattr(result, name) for name in names if hasattr(result, name)}
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
        "over_families": "Share of pairs harmed, exact sign test",
        "over_tasks": "Agreement of the ranks across tasks",
        "decomposition": "Change of ECE split into over- and underconfidence",
        "values": "Values along the chain",
        "trends": "Trend along the chain (Kendall's τ)",
    }[name]


@overload
def split(text: str) -> list[str]: ...
@overload
def split(text: str | None) -> list[str] | None: ...
def split(text: str | None) -> list[str] | None:
    """Split a comma-separated option; what is named twice counts once."""
    if text is None:
        return None
    return list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
