"""`run` and `tasks`: lm-eval with the plugin loaded, and the tasks that come with it."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calib_harness.errors import UserError
from calib_harness.paths import task_path
from calib_harness.text import nearest

if TYPE_CHECKING:
    from argparse import Namespace

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

# What transformers says of a model that is neither here nor, as far as it can see, on the hub, or
# of a folder that holds none.
_NO_SUCH_MODEL = (
    "is not a valid model identifier",
    "Repo id must",
    "We couldn't connect to",
    "Unrecognized model in",
    "does not appear to have a file named",
)


def run(context: typer.Context) -> None:
    """Hand the arguments to lm-eval's own command line."""
    from lm_eval._cli import HarnessCLI
    from lm_eval.utils import setup_logging

    import calib_harness.harness  # noqa: F401 registers the plugin
    from calib_harness.harness.derive import derive_missing

    setup_logging()
    _log_like_lm_eval()
    sys.argv = ["lm_eval", "run", *context.args]
    cli = HarnessCLI()
    try:
        arguments = cli.parse_args()
    except ValueError as error:
        if str(error).startswith("Invalid JSON"):
            raise UserError(str(error)) from None
        raise
    arguments.include_path = [task_path(), *_include_paths(arguments)]
    with TemporaryDirectory(prefix="calib_harness_") as folder:
        if derive_missing(arguments.tasks or (), arguments.include_path, Path(folder)):
            arguments.include_path.append(folder)
        _execute(cli, arguments)


def _execute(cli: Any, arguments: Namespace) -> None:
    try:
        cli.execute(arguments)
    except (OSError, TypeError, ValueError) as error:
        mistake = _explain(error, arguments)
        if mistake is None:
            raise
        raise UserError(mistake) from None


def _log_like_lm_eval() -> None:
    """Print what the package logs as lm-eval prints its own: how much of a run was resumed, too."""
    ours, theirs = logging.getLogger("calib_harness"), logging.getLogger("lm_eval")
    ours.setLevel(theirs.level)
    for handler in theirs.handlers:
        ours.addHandler(handler)


def _explain(error: Exception, arguments: Namespace) -> str | None:
    """Say what argument an error of lm-eval or transformers is about; None if that is unknown."""
    said = str(error)
    if said.startswith("Tasks not found"):
        return _unknown_tasks(said, arguments)
    if said.startswith("Attempted to load model"):
        known = said.rpartition(": ")[2].split(", ")
        hint = _hint([arguments.model], known)
        return f"--model: no backend is called {arguments.model}; {hint}known: {', '.join(known)}"
    if "missing 1 required positional argument: 'pretrained'" in said:
        return "--model_args: pretrained is missing; name a model by --model_args pretrained=MODEL"
    if any(sign in said for sign in _NO_SUCH_MODEL):
        name = (arguments.model_args or {}).get("pretrained")
        return (
            f"--model_args: cannot load pretrained={name}: {said.splitlines()[0].rstrip('.')}; "
            "expected a folder that holds a model, or the name of one on the hub"
        )
    if "tokenizer.chat_template is not set" in said:
        return (
            "--apply_chat_template: the model's tokenizer has no chat template; leave the "
            "option out, or use a model that was trained with one"
        )
    return None


def _include_paths(arguments: Namespace) -> list[str]:
    """Paths the user asked for, on the command line or in lm-eval's --config file."""
    if arguments.include_path:
        return [arguments.include_path]
    if arguments.config:
        from lm_eval.config.evaluate_config import EvaluatorConfig

        path = EvaluatorConfig.load_yaml_config(arguments.config).get("include_path")
        return [path] if path else []
    return []


def _unknown_tasks(message: str, arguments: Namespace) -> str:
    from lm_eval.tasks import TaskManager

    known = TaskManager(include_path=arguments.include_path).all_tasks
    names = message.partition(": ")[2].split(", ")
    hint = _hint(names, known)
    return f"--tasks: no task is called {', '.join(names)}; {hint}`calib-harness tasks` lists ours"


def _hint(names: list[str], known: list[str]) -> str:
    near = {match for name in names for match in nearest(name, known, n=2)}
    return f"did you mean {' or '.join(sorted(near))}? " if near else ""


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
    from pathlib import Path

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
