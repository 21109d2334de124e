"""`prompts`: base against aligned models over several prompts, from finished logs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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
    Seed,
    Tasks,
    cache_of,
    show_log,
    split,
)
from calib_harness.errors import UserError


def prompts(
    logs: Logs,
    pairs: Annotated[
        Path | None, typer.Option(help="CSV with columns family, base, aligned.")
    ] = None,
    base: Annotated[str | None, typer.Option(help="Base model of a single pair.")] = None,
    aligned: Annotated[str | None, typer.Option(help="Aligned model of it.")] = None,
    metrics: Metrics = None,
    methods: Methods = None,
    tasks: Tasks = None,
    n_bins: NBins = 15,
    binning: Binning = "uniform",
    resamples: Annotated[int, typer.Option(help="Bootstrap resamples.")] = 1000,
    seed: Seed = 0,
    form: Form = None,
    output: Output = None,
    cache: Cache = None,
    no_cache: NoCache = False,
) -> None:
    """Show how much of a change between models depends on the prompt.

    Compares pairs over all prompts under which both were asked: variants of a task,
    numbers of shots, chat template. spread is the standard deviation over prompts;
    share is the part of the squared change that differs from prompt to prompt.

    For example:

      calib-harness prompts out/ --base MODEL --aligned MODEL-chat
    """
    show_log()
    from calib_harness.analysis.over_prompts import DEFAULT_METRICS, compare_over_prompts
    from calib_harness.analysis.pairs_file import read_pairs
    from calib_harness.cli.readable import for_reading
    from calib_harness.cli.render import Format, choose_format, emit, render_data
    from calib_harness.cli.terminal import show
    from calib_harness.predictions import load_predictions

    chosen = choose_format(form, output)
    if pairs is not None and base is None and aligned is None:
        listed = read_pairs(pairs)
    elif pairs is None and base is not None and aligned is not None:
        listed = read_pairs([(base, base, aligned)])
    else:
        raise UserError("give either --pairs FILE, or both --base MODEL and --aligned MODEL.")
    frame = compare_over_prompts(
        load_predictions(
            logs, methods=split(methods), tasks=split(tasks), cache=cache_of(cache, no_cache)
        ),
        listed,
        metrics=DEFAULT_METRICS if metrics is None else (split(metrics) or ()),
        n_bins=n_bins,
        binning=binning,
        n_resamples=resamples,
        seed=seed,
    )
    if chosen in (Format.csv, Format.json):
        emit(render_data({"prompts": frame}, chosen), output)
        return
    title = (
        "Changes (aligned − base) over prompts, and how far each model depends on its prompt; "
        "calibration errors as their excess over a calibrated model's"
    )
    show({title: for_reading(frame)}, chosen, output, first=_MATTERS)


# What a terminal shows first, where not all columns fit.
_MATTERS = (
    *("aligned", "benchmark", "method", "metric", "n_prompts", "change", "low", "high"),
    *("base_spread", "aligned_spread", "spread_change", "change_spread", "share"),
)
