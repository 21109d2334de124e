"""`report`: the page people look at, from logs alone."""

from __future__ import annotations

import logging
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from calib_harness.cli.common import (
    AllRuns,
    Binning,
    Cache,
    Logs,
    Methods,
    Metrics,
    NBins,
    NoCache,
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
    workers,
)
from calib_harness.errors import UserError


def report(
    logs: Logs,
    output: Annotated[Path, typer.Option("--output", "-o", help="The HTML file to write.")] = Path(
        "report.html"
    ),
    pairs: Annotated[
        Path | None, typer.Option(help="CSV with columns family, base, aligned.")
    ] = None,
    chain: Annotated[
        Path | None, typer.Option(help="CSV: family, model, stage or step, revision.")
    ] = None,
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
        int | None,
        typer.Option(help="Bootstrap; 0: no errors."),
    ] = None,
    seed: Seed = 0,
    questions: Annotated[
        str | None,
        typer.Option(
            metavar="<n>",
            help="Per task: a number, all or none (default: 300).",
        ),
    ] = None,
    title: Annotated[str, typer.Option(help="Heading of the page.")] = "Calibration report",
    all_runs: AllRuns = False,
    cache: Cache = None,
    no_cache: NoCache = False,
    jobs: Annotated[int | None, typer.Option(help="Processes (default: number of cores).")] = None,
) -> None:
    """Write one HTML file that needs no network: tables and diagrams of every run.

    LOGS may be a sweep's output: pairs, stages and steps are then its own. The
    page carries texts of questions, but not of benchmarks that ask not to be spread.

    Example: calib-harness report out/ --pairs pairs.csv -o report.html
    """
    show_log()
    from calib_harness.analysis.metrics_frame import DEFAULT_METRICS
    from calib_harness.page import make_report

    path = make_report(
        logs,
        output,
        pairs=pairs,
        chain=chain,
        metrics=DEFAULT_METRICS if metrics is None else split(metrics),
        methods=split(methods),
        tasks=split(tasks),
        pool=split(pool) or (),
        columns=mapping_of(columns, "columns"),
        scores=scores,
        about=mapping_of(about, "about"),
        n_bins=n_bins,
        binning=binning,
        n_resamples=resamples,
        seed=seed,
        questions=None if questions is None else _number_of(questions),
        all_runs=all_runs,
        cache=cache_of(cache, no_cache),
        n_jobs=workers(jobs),
        title=title,
        command=shlex.join(["calib-harness", *sys.argv[1:]]),
    )
    size = path.stat().st_size / 1e6
    logging.getLogger("calib_harness").info("wrote %s (%.1f MB)", path, size)


def _number_of(questions: str) -> int:
    """Return how many questions --questions asks for."""
    from calib_harness.page.telling import ALL

    words = {"all": ALL, "none": 0}
    if questions in words:
        return words[questions]
    if not questions.isdecimal():
        raise UserError(f"--questions must be a number, all or none; got {questions!r}.")
    return int(questions)


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(report)
