"""`metrics`: the table of every run, from finished logs. No model is loaded."""

from __future__ import annotations

from typing import Annotated

import typer

from calib_harness.cli.common import (
    About,
    AllRuns,
    Binning,
    Cache,
    Columns,
    Form,
    Logs,
    Methods,
    Metrics,
    NBins,
    NoCache,
    Output,
    Pool,
    Scores,
    Seed,
    Tasks,
    cache_of,
    mapping_of,
    show_log,
    split,
    workers,
)
from calib_harness.cli.render import Format


def metrics(
    logs: Logs,
    metrics: Metrics = None,
    methods: Methods = None,
    tasks: Tasks = None,
    n_bins: NBins = 15,
    binning: Binning = "uniform",
    resamples: Annotated[int, typer.Option(help="Bootstrap; 0: no errors.")] = 1000,
    seed: Seed = 0,
    recalibrate: Annotated[
        bool, typer.Option("--recalibrate", help="Add temperature and cross-fitted ECE.")
    ] = False,
    fit_on: Annotated[
        str | None, typer.Option("--fit-on", help="Task whose temperature is transferred.")
    ] = None,
    pool: Pool = None,
    by_subject: Annotated[
        bool, typer.Option("--by-subject", help="Resample a pool's subjects, not its questions.")
    ] = False,
    columns: Columns = None,
    scores: Scores = None,
    about: About = None,
    all_runs: AllRuns = False,
    form: Form = None,
    output: Output = None,
    cache: Cache = None,
    no_cache: NoCache = False,
    jobs: Annotated[int | None, typer.Option(help="Threads (default: number of cores).")] = None,
) -> None:
    """Table of every run, task and method with standard errors, from sample logs.

    Each calibration error has its null beside it; CSV and JSON hold more.

    For example:

      calib-harness metrics out/ --metrics acc,ece,sce --output table.csv
      calib-harness metrics hf://datasets/org/details --tasks arc_challenge
    """
    show_log()
    from calib_harness.analysis.metrics_frame import DEFAULT_METRICS, metrics_frame, wide_frame
    from calib_harness.cli.readable import metrics_for_reading
    from calib_harness.cli.render import choose_format, emit, render_data
    from calib_harness.cli.terminal import show
    from calib_harness.predictions import PredictionStream

    n_jobs = workers(jobs)
    chosen = choose_format(form, output)
    frame = metrics_frame(
        PredictionStream(
            logs,
            methods=split(methods),
            tasks=split(tasks),
            pool=split(pool) or (),
            columns=mapping_of(columns, "columns"),
            scores=scores,
            about=mapping_of(about, "about"),
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
        by_subject=by_subject,
        n_jobs=n_jobs,
    )
    wide = wide_frame(frame)
    if chosen in (Format.csv, Format.json):
        emit(render_data({"metrics": wide}, chosen), output)
    else:
        show({"": metrics_for_reading(wide)}, chosen, output)
