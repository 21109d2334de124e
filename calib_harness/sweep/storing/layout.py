"""What the folders and files of a sweep are called: the one place that spells their names.

Under a sweep's output stand `runs/NAME/` (finished runs) and `tables/`. Unfinished runs and locks
stand in its work folder, which is the output unless that is a URL or the spec names a scratch
folder: `unfinished/NAME/` and `locks/NAME.lock`.
"""

from __future__ import annotations

import os
from pathlib import Path

RUNS = "runs"
TABLES = "tables"

# In a run's folder: what it was, ...
FACTS = "run.json"
COMMAND = "command.txt"
VERSIONS = "versions.json"
# ... what it printed and found, ...
OUTPUT = "output.log"
SERVER_OUTPUT = "server.log"
RESULTS = "results"
# ... every request scored so far (lm-eval appends the rank of its process to the name that it is
# given; a run is one process), how earlier attempts ended, the latest news, ...
CACHE_ARGUMENT = "cache"
CACHE = f"{CACHE_ARGUMENT}_rank0.db"
HISTORY = "attempts.jsonl"
PROGRESS = "progress.json"
# ... and, once it is finished, its files with their sizes and hashes.
MANIFEST = "manifest.json"

_UNFINISHED = "unfinished"
_LOCKS = "locks"


def unfinished(work: str | Path, name: str = "") -> Path:
    """Return the folder of an unfinished run, or of all of them."""
    return Path(work) / _UNFINISHED / name


def lock_file(work: str | Path, name: str) -> Path:
    """Return a run's lock file."""
    return Path(work) / _LOCKS / f"{name}.lock"


def scratch_folder(output: str) -> Path:
    """Return the folder in the user's cache for runs of a sweep whose output is not at hand."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    name = output.replace("://", "-").strip("/").replace("/", "-")
    return cache / "calib-harness" / "sweeps" / name
