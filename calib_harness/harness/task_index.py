"""lm-eval's index of its own tasks, kept between runs.

Whichever task is asked for, lm-eval first reads all of its 14,000 YAMLs, which takes most of a
minute on a busy machine. What it finds depends on nothing but these files, so it is kept, and
used again as long as each of them has the path, size and time of change that it had.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lm_eval
import msgspec
from lm_eval.tasks import TaskManager
from lm_eval.tasks._index import Entry, Kind, TaskIndex
from lm_eval.tasks._yaml_loader import load_yaml
from tqdm import tqdm

from calib_harness.output import write_whole

logger = logging.getLogger(__name__)

_LM_EVALS_OWN = Path(lm_eval.__file__).parent / "tasks"


class _Kept(msgspec.Struct):
    """What is written: the state of the files, and name, kind, path and tags of each entry."""

    state: str
    entries: list[tuple[str, str, str | None, list[str]]]


class _KeptEntry(Entry):
    """An entry whose path is made, and contents are read, when asked for: most never are."""

    def __init__(self, name: str, kind: Kind, file: str | None, tags: set[str]) -> None:
        self.name, self.kind, self.tags, self._file = name, kind, tags, file

    @property
    def yaml_path(self) -> Path | None:
        return Path(self._file) if self._file else None

    @property
    def cfg(self) -> dict[str, Any] | None:
        path = self.yaml_path
        return load_yaml(path, resolve_func=False) if path else None


@contextmanager
def kept_index(folder: Path) -> Iterator[None]:
    """Within it, lm-eval's index of its own tasks is read from a folder, or made and kept there.

    Other folders of tasks are small, and read as ever. That the index is being made is said on
    standard error, with a bar. A kept index that is stale or broken is made anew; a folder that
    cannot be written keeps nothing, and a warning says so.

    Parameters
    ----------
    folder
        Made if absent.
    """
    build = TaskIndex.build

    def build_or_read(paths: Iterable[Path], **options: Any) -> dict[str, Entry]:
        paths = list(paths)
        if not paths or paths[0] != _LM_EVALS_OWN or options:
            return build(paths, **options)
        index = _own_index(folder, build)
        for name, entry in build(paths[1:]).items():
            if name in index:
                logger.warning(
                    "Task '%s' from %s overrides existing task from %s",
                    name,
                    entry.yaml_path,
                    index[name].yaml_path,
                )
            index[name] = entry
        return index

    TaskIndex.build = staticmethod(build_or_read)
    try:
        yield
    finally:
        TaskIndex.build = staticmethod(build)


def all_names(include_path: Any) -> list[str]:
    """Names of every task, group and tag that lm-eval knows, with those of `include_path`."""
    names: list[str] = TaskManager(include_path=include_path).all_tasks
    return names


def _own_index(folder: Path, build: Callable[..., dict[str, Entry]]) -> dict[str, Entry]:
    state, n_files = _state(_LM_EVALS_OWN)
    path = folder / f"lm-eval-tasks-{hashlib.sha256(str(_LM_EVALS_OWN).encode()).hexdigest()[:16]}"
    kept = _read(path, state)
    if kept is None:
        logger.info(
            "Indexing the %d task files of lm-eval; kept in %s for later runs", n_files, folder
        )
        kept = _build_with_bar(build, n_files)
        _write(path, state, kept)
    return kept


def _state(root: Path) -> tuple[str, int]:
    """Hash of path, size and time of change of each YAML under `root`, and how many there are."""
    found = hashlib.sha256(lm_eval.__version__.encode())
    n_files = 0
    for parent, folders, files in os.walk(root):
        folders.sort()
        for name in sorted(files):
            # Templates that YAMLs include bear any name; what else lies there is code and data.
            if not name.endswith((".py", ".pyc", ".md")):
                status = os.stat(os.path.join(parent, name))
                found.update(f"{parent}/{name} {status.st_size} {status.st_mtime_ns}\n".encode())
                n_files += name.endswith(".yaml")
    return found.hexdigest(), n_files


def _build_with_bar(build: Callable[..., dict[str, Entry]], n_files: int) -> dict[str, Entry]:
    files = TaskIndex._iter_yaml_files
    with tqdm(total=n_files, desc="Indexing tasks", unit=" files", leave=False) as bar:

        def counted(root: Path) -> Iterator[Path]:
            for file in files(root):
                yield file
                bar.update()

        TaskIndex._iter_yaml_files = staticmethod(counted)
        try:
            return build([_LM_EVALS_OWN])
        finally:
            TaskIndex._iter_yaml_files = staticmethod(files)


def _read(path: Path, state: str) -> dict[str, Entry] | None:
    try:
        if not path.exists():
            return None
        kept = msgspec.json.decode(path.read_bytes(), type=_Kept)
        if kept.state != state:
            return None
        kinds = dict(Kind.__members__)
        return {
            name: _KeptEntry(name, kinds[kind], file, set(tags))
            for name, kind, file, tags in kept.entries
        }
    except (OSError, KeyError, msgspec.DecodeError) as error:
        logger.warning("%s is broken (%r) and is made anew", path, error)
        return None


def _write(path: Path, state: str, index: dict[str, Entry]) -> None:
    entries = [
        (
            entry.name,
            entry.kind.name,
            str(entry.yaml_path) if entry.yaml_path else None,
            sorted(entry.tags),
        )
        for entry in index.values()
    ]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, msgspec.json.encode(_Kept(state, entries)).decode(), durable=False)
    except OSError as error:
        logger.warning(
            "The index of tasks cannot be kept in %s (%s), so the next run makes it again; "
            "name another folder with $CALIB_HARNESS_CACHE",
            path.parent,
            error.strerror or error,
        )
