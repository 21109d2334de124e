"""Versions of what a run depends on, read from package metadata."""

from __future__ import annotations

import functools
import importlib.metadata
import platform

_PACKAGES = (
    "calib-harness",
    "lm_eval",
    "torch",
    "transformers",
    "tokenizers",
    "accelerate",
    "datasets",
    "numpy",
    "peft",
    "bitsandbytes",
    "vllm",
)


@functools.cache
def versions() -> dict[str, str]:
    """Return the version of Python and of every installed package that matters."""
    import calib_harness

    found = {"python": platform.python_version(), "calib-harness": calib_harness.__version__}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
