"""The command line: thin, one module per group of commands, imports inside commands."""

from __future__ import annotations

import re
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from calib_harness.cli import plot, report, run, sweep
from calib_harness.cli.common import as_typed
from calib_harness.cli.compare import compare
from calib_harness.cli.demo import demo
from calib_harness.cli.derive import derive
from calib_harness.cli.metrics import metrics
from calib_harness.cli.order import order
from calib_harness.cli.prompts import prompts
from calib_harness.cli.recalibrate import recalibrate
from calib_harness.errors import UserError
from calib_harness.sweep.running.versions import versions
from calib_harness.text import visible


class _Commands(TyperGroup):
    """Runs a command; a wrong argument of the library is named as it was typed."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            error.args = (as_typed(str(error)),)
            raise


class _Command(TyperCommand):
    """Shows a required argument in the usage line as LOGS, where typer writes {logs}."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        pieces = super().collect_usage_pieces(ctx)
        return [_IN_BRACES.sub(lambda name: name[1].upper(), piece) for piece in pieces]


_IN_BRACES = re.compile(r"\{(.+?)\}")


def _show_plain_usage(group: typer.Typer) -> None:
    for command in group.registered_commands:
        command.cls = _Command
    for below in group.registered_groups:
        if below.typer_instance is not None:
            _show_plain_usage(below.typer_instance)


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


def _print_version(wanted: bool) -> None:
    if wanted:
        found = versions()
        print(f"calib-harness {found.pop('calib-harness')}")
        print(", ".join(f"{name} {version}" for name, version in found.items()))
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print versions and exit."
        ),
    ] = False,
) -> None:
    """Options of the command line itself."""


run.register(app)
app.command()(demo)
app.command()(derive)
app.add_typer(sweep.app)
app.command()(metrics)
app.command()(compare)
app.command()(order)
app.command()(prompts)
app.command()(recalibrate)
report.register(app)
app.add_typer(plot.app)
_show_plain_usage(app)


def main() -> None:
    """Run the command line; a UserError becomes one sentence and exit status 2."""
    try:
        app()
    except UserError as error:
        print(f"calib-harness: {visible(str(error))}", file=sys.stderr)
        sys.exit(2)
