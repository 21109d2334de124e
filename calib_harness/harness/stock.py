"""lm-eval's own tasks by name: what a YAML that says ``stock: NAME`` is completed by."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import lm_eval.tasks
from lm_eval.tasks._yaml_loader import load_yaml

from calib_harness.errors import UserError
from calib_harness.text import did_you_mean

#: Keys that say how a task is found and shown, not what it asks.
_OF_THE_INDEX = ("task", "task_alias", "tag", "group", "task_list", "class")
_TASK = re.compile(r"""^["']?task["']?:[ \t]*["']?([^"'\n#]+?)["']?[ \t]*(?:#.*)?$""", re.MULTILINE)


def complete(config: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in, in the settings of a calibration task, those of the stock task it names.

    Parameters
    ----------
    config : mapping
        What lm-eval read from the YAML.

    Returns
    -------
    dict
        Without the keys that are not for lm-eval's `TaskConfig`. A `task_alias` is left out if it
        comes from an included file: it would show the included task's name.

    Raises
    ------
    UserError
        If no stock task has this name, or it is one of Python's and has no YAML settings.
    """
    settings = {key: value for key, value in config.items() if key not in ("class", "stock")}
    name, stock = settings.get("task"), config.get("stock")
    if stock is not None:
        base = stock_config(str(stock), f"{name}: stock")
        metadata = {**_mapping(base.get("metadata")), **_mapping(settings.get("metadata"))}
        settings = {**base, **settings, "metadata": metadata}
    elif "task_alias" in settings and _is_inherited(settings, "task_alias"):
        del settings["task_alias"]
    return settings


def stock_config(name: str, where: str = "stock") -> dict[str, Any]:
    """Read the settings of one of lm-eval's own tasks, functions resolved.

    Parameters
    ----------
    name : str
        The task's name.
    where : str
        Names what asked for it, for the message.

    Raises
    ------
    UserError
        If lm-eval has no YAML of a task of this name, or cannot load it.
    """
    paths = stock_paths()
    if name not in paths:
        hint = did_you_mean(name, paths)
        raise UserError(
            f"{where} is {name!r}, expected the name of a task of lm-eval's; {hint}".rstrip("; ")
        )
    try:
        config = load_yaml(paths[name], resolve_func=True)
    except (ImportError, AttributeError) as error:  # of a function that the YAML names
        raise UserError(
            f"{where} is {name!r}, whose YAML lm-eval cannot load with the packages installed here "
            f"({error}); install what it needs"
        ) from None
    if "class" in config:
        raise UserError(
            f"{where} is {name!r}, which lm-eval builds in Python; expected a task that its YAML "
            "describes"
        )
    return {key: value for key, value in config.items() if key not in _OF_THE_INDEX}


@lru_cache(maxsize=1)
def stock_paths() -> dict[str, Path]:
    """Find the YAML of each of lm-eval's tasks by its text: its index takes 20 times as long."""
    paths: dict[str, Path] = {}
    for path in sorted(Path(lm_eval.tasks.__file__).parent.rglob("*.yaml"), key=Path.as_posix):
        found = _TASK.search(path.read_text(encoding="utf-8", errors="replace"))
        if found:
            paths.setdefault(found[1], path)  # of two, lm-eval takes the first as well
    return paths


def _is_inherited(settings: Mapping[str, Any], key: str) -> bool:
    """Tell whether a setting comes from a file that the task's own YAML includes."""
    source = Path(str(_mapping(settings.get("metadata")).get("config_source", "")))
    if not source.is_file():
        return False
    own = load_yaml(source, resolve_func=False, recursive=False)
    merged = load_yaml(source, resolve_func=False)
    return key not in own and merged.get(key) == settings[key]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
