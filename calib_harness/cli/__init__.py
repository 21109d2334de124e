"""The command line: thin, one module per group of commands, imports inside commands."""

from __future__ import annotations

import sys

import typer

from calib_harness.cli import plot, report, run, sweep
from calib_harness.cli.compare import compare
from calib_harness.cli.demo import demo
from calib_harness.cli.metrics import metrics
from calib_harness.errors import UserError
from calib_harness.text import visible

app = typer.Typer(
    name="calib-harness",
    help="""Calibration of language models on multiple choice, with lm-evaluation-harness.

    Examples: calib-harness demo, or calib-harness COMMAND --help for each command's own.
    """,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
run.register(app)
app.command()(demo)
app.add_typer(sweep.app)
app.command()(metrics)
app.command()(compare)
report.register(app)
app.add_typer(plot.app)


def main() -> None:
    """Run the command line; a UserError becomes one sentence and exit status 2."""
    try:
        app()
    except UserError as error:
        print(f"calib-harness: {visible(str(error))}", file=sys.stderr)
        sys.exit(2)
