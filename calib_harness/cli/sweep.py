"""`calib-harness sweep`: batches of models, resumable."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

app = typer.Typer(
    name="sweep",
    help="""Evaluate many models with one command; nothing that was scored is lost.

    Example: calib-harness sweep run examples/sweeps/toy_world.yaml --dry-run
    """,
    no_args_is_help=True,
    rich_markup_mode="rich",
)

_Spec = Annotated[Path, typer.Argument(help="The sweep's YAML file.", show_default=False)]
_Output = Annotated[
    str | None,
    typer.Option(help="Folder or URL in place of the spec's output.", show_default=False),
]


@app.command("run")
def run(
    spec: _Spec,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the runs and what is done; start nothing.")
    ] = False,
    executor: Annotated[
        Literal["local", "ray"] | None,
        typer.Option(help="Where runs are carried out, in place of the spec's choice."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="Runs at once; default: one per GPU, else one. Ray: its CPU cores here."
        ),
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="Ray cluster; default: start one on this machine.")
    ] = None,
    output: _Output = None,
) -> None:
    """Carry out what is missing of a sweep, then write its tables.

    Example: calib-harness sweep run examples/sweeps/toy_world.yaml --dry-run
    """
    from calib_harness.cli.common import show_log
    from calib_harness.sweep.commands import run_sweep

    # That a cloze prompt has no letters is no news in a sweep.
    show_log(logging.WARNING)
    try:
        status = run_sweep(
            spec,
            dry_run=dry_run,
            executor=executor,
            workers=workers,
            address=address,
            output=output,
        )
    except KeyboardInterrupt:  # while planning, or while tables are made: no run is going on
        print("calib-harness: interrupted; start the same command to go on", file=sys.stderr)
        status = 130
    raise typer.Exit(status)


@app.command("status")
def status(spec: _Spec, output: _Output = None) -> None:
    """Print where every run of a sweep stands; status 0 if all are finished, else 1.

    Reads files only: at any time, from anywhere that sees the output.

    Example: calib-harness sweep status examples/sweeps/toy_world.yaml
    """
    from calib_harness.sweep.commands import show_status

    raise typer.Exit(show_status(spec, output=output))
