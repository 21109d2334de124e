"""`order`: what several orders of the choices say of a model's liking of letters."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from calib_harness.cli.common import (
    Binning,
    Form,
    Logs,
    Metrics,
    NBins,
    Output,
    Seed,
    Tasks,
    show_log,
    split,
)
from calib_harness.cli.render import Format
from calib_harness.errors import UserError


def order(
    logs: Logs,
    metrics: Metrics = None,
    tasks: Tasks = None,
    n_bins: NBins = 15,
    binning: Binning = "uniform",
    resamples: Annotated[int, typer.Option(help="Bootstrap resamples.")] = 1000,
    seed: Seed = 0,
    table: Annotated[str | None, typer.Option(help="One only: values, letters or answers.")] = None,
    form: Form = None,
    output: Output = None,
) -> None:
    """Show how much of a choice prompt's ECE and SCE is liking a letter.

    Reads logs of lettered tasks that were scored with several orders of their
    choices. share is by how much of its excess over chance under choice an error
    falls when orders are averaged, or when the prior over letters is divided out;
    where some error is left it is too large, by about .1 with 1,200 questions.

    For example:

      calib-harness run --tasks mmlu_stem_calib_choice ... --log_samples
        --metadata '{"orders": "cyclic"}' --output_path out
      calib-harness order out/
    """
    show_log()
    from calib_harness.analysis.position_bias import DEFAULT_METRICS, position_bias
    from calib_harness.cli.readable import for_reading
    from calib_harness.cli.render import choose_format, emit, render_data
    from calib_harness.cli.terminal import show
    from calib_harness.predictions.asked_orders import read_orders
    from calib_harness.predictions.load import PredictionStream

    titles = {
        "values": "Metrics in the order given, averaged over orders, and freed of the prior",
        "letters": "Prior over letters",
        "answers": "Questions whose answer changes with the order",
    }
    if table is not None and table not in titles:
        raise UserError(f"--table must be one of {', '.join(titles)}; got {table!r}.")
    chosen = choose_format(form, output)
    result = position_bias(
        read_orders(PredictionStream(logs, tasks=split(tasks), cache=False)),
        metrics=DEFAULT_METRICS if metrics is None else (split(metrics) or ()),
        n_resamples=resamples,
        seed=seed,
        n_bins=n_bins,
        binning=binning,
    )
    if chosen is Format.csv and table is None:
        table = "values"
        logging.getLogger(__name__).info(
            "CSV holds one table, values; name another with --table (letters, answers)"
        )
    names = list(titles) if table is None else [table]
    frames = {name: getattr(result, name) for name in names}
    if chosen in (Format.csv, Format.json):
        emit(render_data(frames, chosen), output)
    else:
        readable = {titles[name]: for_reading(frame) for name, frame in frames.items()}
        show(readable, chosen, output, first=_MATTERS)


# What a terminal shows first, where not all columns fit.
_MATTERS = (
    *("model", "n_shot", "metric", "method", "value", "share", "change", "p_value"),
    *("n_choices", "letter", "prior", "low", "high", "answer_changes"),
)
