"""The options of metrics: their defaults and the checks of their values."""

from __future__ import annotations

from typing import Any

from calib_harness.core.binning import BINNINGS, DEFAULT_N_BINS
from calib_harness.core.checks import check_choice_of, check_count, check_threshold

NORMS = ("l1", "l2", "max")
DEFAULT_THRESHOLD = 0.01
DEFAULTS: dict[str, Any] = {
    "n_bins": DEFAULT_N_BINS,
    "binning": "uniform",
    "norm": "l1",
    "threshold": DEFAULT_THRESHOLD,
}


def check_options(**options: Any) -> None:
    """Raise ValueError if an option of a metric has a value it cannot take."""
    for name, value in options.items():
        if name == "n_bins":
            check_count(name, value)
        elif name == "binning":
            check_choice_of(name, value, BINNINGS)
        elif name == "norm":
            check_choice_of(name, value, NORMS)
        elif name == "threshold":
            check_threshold(value)
        else:
            raise ValueError(f"options must be among {', '.join(DEFAULTS)}; got {name!r}.")
