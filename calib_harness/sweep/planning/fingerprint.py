"""Hashes of local files that a run's numbers depend on."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from calib_harness.sweep.planning.tasknames import is_task_file, task_files

# Up to this size a file is read whole; of a larger one, evenly spaced blocks are read. Training
# changes weights everywhere, and planning must not read 140 GB.
_WHOLE = 64 * 2**20
_BLOCK = 64 * 2**10
_BLOCKS = 64


@functools.lru_cache(maxsize=4096)
def fingerprint_files(path: str) -> str:
    """Return a hash of the names, sizes and contents of a file or a folder's files.

    Files above 64 MiB are sampled: 64 blocks of 64 KiB are read.
    """
    digest = hashlib.sha256()
    root = Path(path)
    files = [root] if root.is_file() else sorted(p for p in root.rglob("*") if p.is_file())
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.relative_to(root).as_posix()}\0{size}\0".encode())
        with file.open("rb") as stream:
            if size <= _WHOLE:
                digest.update(stream.read())
                continue
            for block in range(_BLOCKS):
                stream.seek(block * (size - _BLOCK) // (_BLOCKS - 1))
                digest.update(stream.read(_BLOCK))
    return digest.hexdigest()


def fingerprint_tasks(place: Path, working_dir: Path) -> str:
    """Return a hash of the tasks under `place`: their YAMLs, functions and local data.

    Parameters
    ----------
    place : Path
        A folder, such as the spec's `include_path`, or one task's YAML file.
    working_dir : Path
        Where runs start; data files are found relative to it.
    """
    digest = hashlib.sha256()
    definitions = _definitions(place)
    folder = place.parent if place.is_file() else place
    for path in sorted({*definitions, *_functions(definitions)}):
        digest.update(os.path.relpath(path, folder).encode() + b"\0" + path.read_bytes())
    keys = ("dataset_path", "dataset_kwargs")
    settings = [config.get(key) for config in definitions.values() for key in keys]
    for name in sorted(set(_texts(settings))):
        # Most of these texts are the names of data sets and options; some are files.
        if (working_dir / name).exists():
            digest.update(name.encode() + fingerprint_files(str(working_dir / name)).encode())
    return digest.hexdigest()


def _definitions(place: Path) -> dict[Path, dict[str, Any]]:
    """Return the contents of the task YAMLs under a place and of all that they include."""
    found: dict[Path, dict[str, Any]] = {}
    for path in [place] if place.is_file() else map(Path, task_files(place)):
        if path == place or is_task_file(path):
            found.update(_with_includes(path))
    return found


def _functions(definitions: Iterable[Path]) -> Iterator[Path]:
    """Yield the Python files beside YAMLs that call a function."""
    for path in definitions:
        if "!function" in path.read_text(encoding="utf-8", errors="replace"):
            yield from path.parent.glob("*.py")


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str) and value:
        yield value
    elif isinstance(value, (dict, list)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)


class _TaskLoader(yaml.SafeLoader):
    """Reads task YAMLs without looking at what their tags (``!function``) refer to."""


def _untagged(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> None:
    return None


_TaskLoader.add_multi_constructor("!", _untagged)


def _with_includes(path: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield a task YAML and every file that it includes, with their contents."""
    waiting, seen = [path], set()
    while waiting:
        path = waiting.pop()
        if path in seen or not path.is_file():
            continue
        seen.add(path)
        try:
            config = yaml.load(path.read_text(encoding="utf-8"), Loader=_TaskLoader)
        except (yaml.YAMLError, UnicodeDecodeError):
            config = None
        config = config if isinstance(config, dict) else {}
        yield path, config
        waiting += [path.parent / name for name in _texts(config.get("include"))]
