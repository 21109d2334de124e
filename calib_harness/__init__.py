"""Calibration for lm-evaluation-harness: does this language model know when it is right?

Importing this package loads neither torch nor lm-eval; names that need them are loaded when
they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from calib_harness.errors import UserError

if TYPE_CHECKING:
    from calib_harness.harness import CalibrationTask

__version__ = "0.1.0"

# Public name -> the module that holds it.
_LAZY = {
    "CalibrationTask": "calib_harness.harness",
}

__all__ = ["CalibrationTask", "UserError"]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
