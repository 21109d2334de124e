"""The command line: thin, one module per group of commands, imports inside commands."""

from __future__ import annotations

import sys
from typing import Any

import typer
from typer.core import TyperGroup

from calib_harness.cli import plot, report, run, sweep
from calib_harness.cli.common import as_typed
from calib_harness.cli.compare import compare
from calib_harness.cli.demo import demo
from calib_harness.cli.derive import derive
from calib_harness.cli.metrics import metrics
from calib_harness.cli.order import order
from calib_harness.cli.recalibrate import recalibrate
from calib_harness.errors import UserError
from calib_harness.text import visible


class _Commands(TyperGroup):
    """Runs a command; a wrong argument of the library is named as it was typed."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            error.args = (as_typed(str(error)),)
            raise


app = typer.Typer(
    cls=_Commands,
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
app.command()(derive)
app.add_typer(sweep.app)
app.command()(metrics)
app.command()(compare)
app.command()(order)
app.command()(recalibrate)
report.register(app)
app.add_typer(plot.app)


def main() -> None:
    """Run the command line; a UserError becomes one sentence and exit status 2."""
    try:
        app()
    except UserError as error:
        print(f"calib-harness: {visible(str(error))}", file=sys.stderr)
        sys.exit(2)
