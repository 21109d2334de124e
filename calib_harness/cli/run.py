"""`run` and `tasks`: lm-eval with the plugin loaded, and the tasks that come with it."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from calib_harness.cli.mistakes import check_before, check_written, explain
from calib_harness.errors import UserError
from calib_harness.paths import task_path

if TYPE_CHECKING:
    from argparse import Namespace

    from lm_eval._cli import HarnessCLI

RUN_HELP = """Evaluate a model: takes exactly the arguments of `lm_eval run`.

The plugin is loaded, and its tasks are found without --include_path. For any of lm-eval's own
multiple-choice tasks, NAME_calib measures its calibration (`calib-harness derive --help`).
`calib-harness run` alone, or `lm_eval run --help`, lists all arguments.

Example:

calib-harness run --model hf --model_args pretrained=MODEL \\
--tasks arc_easy_calib --output_path out --log_samples
"""

TASKS_HELP = """List the calibration tasks that come with the package.

Groups of groups: mmlu_calib (the four MMLU categories), calib_paper (all ten
benchmarks); the tag calib names every task.

Example:

lm_eval --model hf --model_args pretrained=MODEL --tasks arc_easy_calib \\
--include_path $(calib-harness tasks --path)
"""

_INTERRUPTED = 130  # what a shell reports of a program that Ctrl-C ended


def run(context: typer.Context) -> None:
    """Hand the arguments to lm-eval's own command line."""
    print("Loading lm-eval …", file=sys.stderr)
    arguments: Namespace | None = None
    try:
        from lm_eval._cli import HarnessCLI
        from lm_eval.utils import setup_logging

        import calib_harness.harness  # noqa: F401 registers the plugin
        from calib_harness.harness.dataset_loads import each_loaded_once
        from calib_harness.harness.derive import derive_missing
        from calib_harness.harness.environment import no_pip_process
        from calib_harness.harness.task_index import all_names, kept_index
        from calib_harness.predictions.kept import default_cache

        setup_logging()
        _log_like_lm_eval()
        sys.argv = ["lm_eval", "run", *context.args]
        cli = HarnessCLI()
        arguments = _parse(cli)
        check_before(arguments)
        with (
            kept_index(default_cache()),
            each_loaded_once(),
            no_pip_process(),
            TemporaryDirectory(prefix="calib_harness_") as folder,
        ):
            if derive_missing(arguments.tasks or (), arguments.include_path, Path(folder)):
                arguments.include_path.append(folder)
            _execute(cli, arguments, lambda: all_names(arguments.include_path))
    except KeyboardInterrupt:
        print(f"\ncalib-harness: {_after_interrupt(arguments)}", file=sys.stderr)
        raise typer.Exit(_INTERRUPTED) from None


def _execute(cli: HarnessCLI, arguments: Namespace, known_tasks: Callable[[], list[str]]) -> None:
    begun = time.time()
    try:
        cli.execute(arguments)
    except UserError:
        raise
    except Exception as error:
        mistake = explain(error, arguments, known_tasks)
        if mistake is None:
            raise
        raise UserError(mistake) from None
    check_written(arguments, begun)


def _parse(cli: HarnessCLI) -> Namespace:
    try:
        arguments: Namespace = cli.parse_args()
    except ValueError as error:
        if str(error).startswith("Invalid JSON"):
            raise UserError(str(error)) from None
        raise
    arguments.include_path = [task_path(), *_include_paths(arguments)]
    return arguments


def _after_interrupt(arguments: Namespace | None) -> str:
    """Say what is kept of an interrupted run, and how to go on."""
    cache = getattr(arguments, "use_cache", None)
    if cache:
        return (
            f"interrupted. What was scored is kept in {cache}_rank*.db; the same command goes on "
            "from there."
        )
    return (
        "interrupted. Nothing is kept, since --use_cache was not given; with --use_cache PATH "
        "an interrupted run goes on where it was."
    )


def _log_like_lm_eval() -> None:
    """Print what the package logs as lm-eval prints its own: how much of a run was resumed, too."""
    ours, theirs = logging.getLogger("calib_harness"), logging.getLogger("lm_eval")
    ours.setLevel(theirs.level)
    for handler in theirs.handlers:
        ours.addHandler(handler)


def _include_paths(arguments: Namespace) -> list[str]:
    """Paths the user asked for, on the command line or in lm-eval's --config file."""
    given = arguments.include_path
    if not given and arguments.config:
        from lm_eval.config.evaluate_config import EvaluatorConfig

        try:
            given = EvaluatorConfig.load_yaml_config(arguments.config).get("include_path")
        except (OSError, TypeError, ValueError) as error:
            raise UserError(f"--config: {' '.join(str(error).split())}") from None
    if given and not Path(given).is_dir():
        raise UserError(f"--include_path: {given} is no folder; name one that holds task YAMLs")
    return [given] if given else []


def tasks(
    path: Annotated[
        bool, typer.Option("--path", help="Print the folder of the task YAMLs and nothing else.")
    ] = False,
) -> None:
    """Print the tasks of the package, or the folder that holds them."""
    if path:
        print(task_path())
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("task", "prompt", "group")
    for group, members in sorted(_groups().items()):
        for name in members:
            table.add_row(name, name.rpartition("_")[2], group)
    Console().print(table)


def _groups() -> dict[str, list[str]]:
    """Find the packaged groups, each with its cloze and its choice task."""
    import yaml

    groups = {}
    for file in Path(task_path()).rglob("*_calib.yaml"):
        config = yaml.safe_load(file.read_text(encoding="utf-8"))
        groups[config["group"]] = [name for name in config["task"] if "_calib_" in name]
    return groups


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command(
        help=RUN_HELP,
        options_metavar="[arguments of lm_eval run]",
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )(run)
    app.command(help=TASKS_HELP)(tasks)
