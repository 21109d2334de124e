"""Where the files that come with the package lie."""

from __future__ import annotations

from pathlib import Path


def task_path() -> str:
    """Folder of the packaged task YAMLs, for lm-eval's `include_path`.

    Returns
    -------
    str
        ``task_yamls`` inside an installed package, or beside it in a checkout.

    Raises
    ------
    FileNotFoundError
        If neither exists: the installation is broken.
    """
    return _find("task_yamls")


def toy_world_path() -> str:
    """Folder of the embedded world: its questions and its models. Raises like `task_path`."""
    return _find("examples/toy_world")


def _find(name: str) -> str:
    package = Path(__file__).parent
    for folder in (package / name, package.parent / name):
        if folder.is_dir():
            return str(folder)
    raise FileNotFoundError(f"no {name} in {package} or beside it; install calib-harness anew")
