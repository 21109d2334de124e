"""`recalibrate`: what recalibrating saves, from finished logs; fits are kept and applied."""

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
    NBins,
    NoCache,
    Output,
    Seed,
    Tasks,
    cache_of,
    show_log,
    split,
)
from calib_harness.cli.render import Format
from calib_harness.errors import UserError


def recalibrate(
    logs: Logs,
    method: Annotated[
        str,
        typer.Option(help="Or letter, vector, isotonic, batch, agreement."),
    ] = "temperature",
    base: Annotated[str | None, typer.Option(help="Base model, for agreement.")] = None,
    pairs: Annotated[
        Path | None, typer.Option(help="CSV of family, base, aligned, for agreement.")
    ] = None,
    fit_on: Annotated[
        str | None, typer.Option("--fit-on", help="Task to fit on, the others are recalibrated.")
    ] = None,
    save: Annotated[Path | None, typer.Option(help="Write the fits of all runs (JSON).")] = None,
    apply: Annotated[Path | None, typer.Option(help="Use fits that --save wrote.")] = None,
    methods: Methods = None,
    tasks: Tasks = None,
    n_bins: NBins = 15,
    binning: Binning = "uniform",
    resamples: Annotated[int, typer.Option(help="Of the calibrated null.")] = 1000,
    seed: Seed = 0,
    form: Form = None,
    output: Output = None,
    cache: Cache = None,
    no_cache: NoCache = False,
) -> None:
    """Recalibrate every run by other questions, and tell where it gets worse.

    saved is the Brier score before minus after. batch and agreement need no
    labels; agreement needs the base model's logs.

    For example:

      calib-harness recalibrate out/ --method agreement --pairs pairs.csv
      calib-harness recalibrate out/ --tasks arc_easy --save fits.json
      calib-harness recalibrate out/ --tasks sciq --apply fits.json
    """
    show_log()
    from calib_harness.analysis.pairs_file import read_pairs
    from calib_harness.analysis.recalibrating import (
        fit_all,
        read_recalibrators,
        recalibration_frame,
        recalibrators_text,
    )
    from calib_harness.cli.readable import recalibration_for_reading
    from calib_harness.cli.render import choose_format, emit, render_data
    from calib_harness.cli.terminal import show
    from calib_harness.core.options import Options
    from calib_harness.output import make_ready, write_whole
    from calib_harness.predictions import load_predictions

    if apply is not None and (save is not None or fit_on is not None):
        raise UserError("--apply uses fits as they are: leave --save and --fit-on out.")
    options = Options(n_bins=n_bins, binning=binning, n_resamples=resamples, seed=seed)
    chosen = choose_format(form, output)
    if save is not None:
        make_ready(save, (".json",))
    if base is not None and pairs is not None:
        raise UserError("give --base MODEL or --pairs FILE, not both.")
    table = read_pairs(pairs) if pairs is not None else None
    bases = base if table is None else dict(zip(table["aligned"], table["base"], strict=True))
    fitted = read_recalibrators(apply) if apply is not None else None
    runs = load_predictions(
        logs, methods=split(methods), tasks=split(tasks), cache=cache_of(cache, no_cache)
    )
    frame = recalibration_frame(
        runs, method, base=bases, fitted=fitted, fit_on=fit_on, options=options
    )
    if save is not None:
        kept = fit_all(runs, method, base=bases, only=fit_on)
        write_whole(save, recalibrators_text(kept))
    if chosen in (Format.csv, Format.json):
        emit(render_data({"recalibration": frame}, chosen), output)
    else:
        show({"": recalibration_for_reading(frame)}, chosen, output)
