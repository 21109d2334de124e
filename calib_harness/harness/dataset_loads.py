"""Datasets, loaded once in a run: the tasks of a benchmark ask its questions in several ways."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import datasets


@contextmanager
def each_loaded_once() -> Iterator[None]:
    """Within it, what lm-eval loads a second time by the same arguments is what it loaded first.

    `datasets` looks for changed files and writes locks at each call, its own cache or not. Tasks
    get splits of their own to keep, which share the rows.
    """
    load = datasets.load_dataset
    loaded: dict[str, Any] = {}

    def load_once(*args: Any, **kwargs: Any) -> Any:
        try:
            key = json.dumps([args, kwargs], sort_keys=True)
        except TypeError:  # an argument without a text is not compared
            return load(*args, **kwargs)
        if key not in loaded:
            loaded[key] = load(*args, **kwargs)
        return copy.copy(loaded[key])

    datasets.load_dataset = load_once
    try:
        yield
    finally:
        datasets.load_dataset = load
