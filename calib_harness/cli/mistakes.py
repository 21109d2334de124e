"""What a user of `run` did wrong, told from errors of lm-eval, transformers and datasets."""

from __future__ import annotations

import os
import tempfile
import traceback
from argparse import Namespace
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from calib_harness.cli.backend_mistakes import check_backend, explain_backend
from calib_harness.errors import UserError
from calib_harness.text import nearest

# What transformers says of a model that is neither here nor, as far as it can see, on the hub, or
# of a folder that holds none.
_NO_SUCH_MODEL = (
    "is not a valid model identifier",
    "Repo id must",
    "We couldn't connect to",
    "Unrecognized model in",
    "does not appear to have a file named",
)
# Errors raised in these files of lm-eval are of the arguments, and say what is wrong.
_CHECKS_OF_ARGUMENTS = (
    "lm_eval/config/evaluate_config.py",
    "lm_eval/_cli/utils.py",
    "lm_eval/loggers/evaluation_tracker.py",
)
# A module of these that is missing is no mistake of the user.
_OURS = ("calib_harness", "lm_eval", "torch", "transformers")


def check_before(arguments: Namespace) -> None:
    """Refuse what would end a run late, or without a word about its cause.

    Raises
    ------
    UserError
        If the model's folder is not there or empty, the backend lacks an argument, results or the
        cache cannot be written where they are to go, or a package that an argument needs is not
        installed.
    """
    check_backend(getattr(arguments, "model", None), arguments.model_args or {})
    _check_folder_of_model((arguments.model_args or {}).get("pretrained"))
    if place := getattr(arguments, "output_path", None):
        # lm-eval takes a file's name, too, and writes beside it.
        folder = Path(place)
        _check_writable("output_path", folder.parent if folder.suffix == ".json" else folder)
    if place := getattr(arguments, "use_cache", None):
        _check_writable("use_cache", Path(place).parent)
    for name in ("wandb", "trackio"):
        if getattr(arguments, f"{name}_args", None) and find_spec(name) is None:
            raise UserError(
                f"--{name}_args: {name} is not installed; run `pip install {name}`, or leave the "
                "option out"
            )


def _check_folder_of_model(named: object) -> None:
    """Refuse a folder without a model: each release of transformers says something else of it."""
    if not isinstance(named, str):
        return
    folder = Path(named)
    if folder.is_dir():
        why = None if any(folder.iterdir()) else "the folder is empty"
    else:
        why = "there is no such folder" if named.startswith(("/", "./", "../", "~")) else None
    if why:
        raise UserError(
            f"--model_args: cannot load pretrained={named}: {why}; expected a folder that holds a "
            "model, or the name of one on the hub"
        )


def _check_writable(option: str, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f"--{option}: nothing can be written in {folder} ({error.strerror}); name another place"
        ) from None


def check_written(arguments: Namespace, begun: float) -> None:
    """Refuse to end well if lm-eval could not write the results, of which it only warns.

    Parameters
    ----------
    begun
        When the run began, in seconds since the epoch.

    Raises
    ------
    UserError
        If no results file has been written since.
    """
    place = getattr(arguments, "output_path", None)
    if not place or os.environ.get("RANK", "0") != "0":  # of several processes, one writes
        return
    path = Path(place)
    found = (
        path.parent.glob(f"{path.stem}_*.json")
        if path.suffix == ".json"
        else path.rglob("results_*.json")
    )
    # File systems keep times coarsely.
    if not any(file.stat().st_mtime >= begun - 5 for file in found):
        raise UserError(
            f"--output_path: the results could not be written to {place}, as lm-eval says above; "
            "what it printed is all there is of them, but with --use_cache a second run scores "
            "nothing again"
        )


def explain(
    error: Exception, arguments: Namespace, known_tasks: Callable[[], list[str]]
) -> str | None:
    """Say what argument an error is about and what to do; None if that is unknown.

    Parameters
    ----------
    known_tasks
        Returns the names of all tasks; called if one was misspelt.
    """
    said = " ".join(str(error).split())
    return (
        _of_tasks(said, arguments, known_tasks)
        or _of_model(error, said, arguments)
        or _of_data(error, said)
        or _of_arguments(error, said)
        or explain_backend(error, arguments)
    )


def _of_tasks(said: str, arguments: Namespace, known_tasks: Callable[[], list[str]]) -> str | None:
    if said.startswith("Tasks not found"):
        names = said.partition(": ")[2].split(", ")
        near = _hint(names, known_tasks())
        return (
            f"--tasks: no task is called {', '.join(names)}; {near}`calib-harness tasks` lists ours"
        )
    if said.startswith(("No tasks specified", "Need to specify task")):
        return (
            "--tasks: no task is named; name some, as in --tasks arc_easy_calib "
            "(`calib-harness tasks` lists ours)"
        )
    return None


def _of_model(error: Exception, said: str, arguments: Namespace) -> str | None:
    if said.startswith("Attempted to load model"):
        known = said.rpartition(": ")[2].split(", ")
        near = _hint([arguments.model], known)
        return f"--model: no backend is called {arguments.model}; {near}known: {', '.join(known)}"
    if "missing 1 required positional argument: 'pretrained'" in said:
        return "--model_args: pretrained is missing; name a model by --model_args pretrained=MODEL"
    given = arguments.model_args or {}
    if "Can't find 'adapter_config.json'" in said:
        return (
            f"--model_args: cannot load peft={given.get('peft')}; expected a folder that holds an "
            "adapter, or the name of one on the hub"
        )
    if said.startswith("module 'torch' has no attribute") and "dtype" in given:
        return (
            f"--model_args: dtype={given['dtype']} is none of torch's; expected auto, float32, "
            "float16 or bfloat16"
        )
    if any(sign in said for sign in _NO_SUCH_MODEL):
        key = next((key for key in ("pretrained", "tokenizer", "model") if key in given), "model")
        return (
            f"--model_args: cannot load {key}={given.get(key)}: "
            f"{str(error).splitlines()[0].rstrip('.')}; "
            "expected a folder that holds a model, or the name of one on the hub"
        )
    if "got an unexpected keyword argument" in said and "__init__" in said:
        name = said.rpartition("argument ")[2].split(".")[0]
        return f"--model_args: neither the backend nor the model knows {name}; leave it out"
    batch_size = getattr(arguments, "batch_size", None)
    if said == f"invalid literal for int() with base 10: {batch_size!r}":
        return f"--batch_size: expected a whole number, auto or auto:N; got {batch_size!r}"
    if "tokenizer.chat_template is not set" in said:
        return (
            "--apply_chat_template: the model's tokenizer has no chat template; leave the "
            "option out, or use a model that was trained with one"
        )
    return None


def _of_data(error: Exception, said: str) -> str | None:
    if said.startswith("Couldn't reach") and isinstance(error, ConnectionError):
        return (
            f"--tasks: the questions of a task cannot be loaded: {said}; they are not in the "
            "cache of datasets either: run once with a network and without HF_HUB_OFFLINE, or "
            "stand in a folder that holds the dataset under its name"
        )
    return None


def _of_arguments(error: Exception, said: str) -> str | None:
    """Pass on what lm-eval's own checks of arguments say, and which package is missing."""
    last = traceback.extract_tb(error.__traceback__)[-1].filename.replace("\\", "/")
    if last.endswith(_CHECKS_OF_ARGUMENTS):
        return f"lm-eval refuses the arguments: {said}"
    if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith(_OURS):
        return (
            f"{error.name} is not installed, which the backend or a task needs; "
            f"run `pip install {error.name.partition('.')[0]}`"
        )
    return None


def _hint(names: list[str], known: list[str]) -> str:
    near = {match for name in names for match in nearest(name, known, n=2)}
    return f"did you mean {' or '.join(sorted(near))}? " if near else ""
