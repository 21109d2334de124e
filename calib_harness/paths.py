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
    package = Path(__file__).parent
    for folder in (package / "task_yamls", package.parent / "task_yamls"):
        if folder.is_dir():
            return str(folder)
    raise FileNotFoundError(f"no task_yamls in {package} or beside it; install calib-harness anew")
