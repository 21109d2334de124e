"""What lm-eval writes about the environment, found without starting pip.

For a run's results file torch starts `pip list`, which takes longer than the rest of what it
collects together. The same names and versions stand in this process's own metadata.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import distributions
from typing import Any

from torch.utils import collect_env


@contextmanager
def no_pip_process() -> Iterator[None]:
    """Within it, torch reads the installed packages here instead of asking pip for them."""
    run = collect_env.run_and_read_all

    def run_or_list(run_lambda: Any, command: Any) -> str | None:
        if isinstance(command, list) and command[1:] == ["-mpip", "list", "--format=freeze"]:
            return installed()
        return run(run_lambda, command)

    collect_env.run_and_read_all = run_or_list
    try:
        yield
    finally:
        collect_env.run_and_read_all = run


def installed() -> str:
    """List the packages as `pip list --format=freeze` does: a line ``name==version`` each."""
    found: dict[str, str] = {}
    for distribution in distributions():
        name = distribution.metadata["Name"]
        if name:  # remains of an interrupted installation have none
            key = re.sub(r"[-_.]+", "-", name).lower()
            # The first on the path is the one that is imported.
            found.setdefault(key, f"{name}=={distribution.version}")
    return "\n".join(found[key] for key in sorted(found))
