"""Check task names against lm-eval's task index without importing lm-eval.

lm-eval's own index takes 20 seconds and imports torch. Here every task file is only searched for
its top-level ``task:``, ``group:`` and ``tag:`` keys, which takes half a second; a test compares
the two.
"""

from __future__ import annotations

import fnmatch
import importlib.util
import os
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from calib_harness.derived_names import stem_of
from calib_harness.errors import UserError
from calib_harness.paths import task_path
from calib_harness.text import did_you_mean

_DECLARATION = re.compile(
    r"""^["']?(task|group|tag)["']?:[ \t]*(.*?)[ \t]*(?:\#.*)?$((?:\n[ \t]*-[ \t]+.*)*)""",
    re.MULTILINE,
)
# Tags also stand in templates, which lm-eval's tasks include under any name.
_OTHER_SUFFIXES = (".py", ".pyc", ".md", ".json", ".jsonl", ".txt", ".csv", ".parquet")
_LARGEST = 2**20


def task_folders(include_path: Path | None) -> list[Path]:
    """Return the folders whose task files a run sees: lm-eval's, ours, and the spec's own."""
    folders = []
    lm_eval = importlib.util.find_spec("lm_eval")
    for place in lm_eval.submodule_search_locations or [] if lm_eval else []:
        folders.append(Path(place) / "tasks")
    folders.append(Path(task_path()))
    if include_path is not None:
        folders.append(include_path)
    return [folder for folder in folders if folder.is_dir()]


def known_tasks(folders: Iterable[Path]) -> set[str]:
    """Return the names of all tasks, groups and tags declared in task files under `folders`."""
    names: set[str] = set()
    for folder in folders:
        for path in task_files(folder):
            text = Path(path).read_text(encoding="utf-8", errors="replace")
            for key, value, items in _DECLARATION.findall(text):
                if key != "tag" and not path.endswith((".yaml", ".yml")):
                    continue
                found = value.strip("[]").split(",") if value else []
                if key == "tag" and not value:
                    found = [
                        item.split("- ", 1)[1].split(" #")[0] for item in items.split("\n")[1:]
                    ]
                names.update(name.strip().strip("\"'") for name in found)
    return names - {""}


def task_files(folder: Path) -> Iterator[str]:
    """Yield the paths of files under `folder` that may define tasks, in a fixed order."""
    for parent, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            path = os.path.join(parent, name)
            if not name.endswith(_OTHER_SUFFIXES) and _is_small(path):
                yield path


def is_task_file(path: Path) -> bool:
    """Return whether a file is a YAML that declares a task or a group."""
    if path.suffix not in (".yaml", ".yml"):
        return False
    text = path.read_text(encoding="utf-8", errors="replace")
    return any(key != "tag" for key, _, _ in _DECLARATION.findall(text))


def _is_small(path: str) -> bool:
    try:
        return os.stat(path).st_size <= _LARGEST
    except OSError:
        return False


def _is_known(name: str, known: Collection[str]) -> bool:
    """Tell whether a name is known, or that of calibration tasks made of known ones."""
    stem = stem_of(name)
    return name in known or (stem is not None and bool(fnmatch.filter(known, stem[0])))


def check_tasks(wanted: Iterable[tuple[str, str]], include_path: Path | None, spec: Path) -> None:
    """Raise UserError for names that no task, group or tag bears, nor a derived one's stock task.

    Parameters
    ----------
    wanted : iterable of (str, str)
        Pairs of a key's path in the spec, such as ``tasks[0]``, and the name that stands there:
        a name, a pattern such as ``mmlu_*``, or the path of a YAML file.
    include_path : Path, optional
        The spec's own folder of tasks.
    spec : Path
        The spec file, for the message.
    """
    wanted = list(wanted)
    known: set[str] = set()
    # The spec's own folder and ours come last in the list and are small; lm-eval's is large.
    for folder in reversed(task_folders(include_path)):
        known |= known_tasks([folder])
        if all(_is_known(name, known) for _, name in wanted):
            return
    mistakes = []
    for location, name in wanted:
        if name.endswith((".yaml", ".yml")):
            if not Path(name).is_file():
                mistakes.append(f"{spec}: {location}: expected a task's YAML file, got {name!r}")
        elif not _is_known(name, known) and not fnmatch.filter(known, name):
            hint = (
                did_you_mean(name, known, cutoff=0.5) or "list the tasks with 'calib-harness tasks'"
            )
            mistakes.append(
                f"{spec}: {location}: expected the name of a task, group or tag, "
                f"got {name!r}; {hint}"
            )
    if mistakes:
        raise UserError("\n".join(dict.fromkeys(mistakes)))
