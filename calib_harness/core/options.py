"""Options: what metrics take, and how all of them are computed; each checked in one place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from calib_harness.core.binning import BINNINGS, DEFAULT_N_BINS
from calib_harness.core.checks import (
    check_choice_of,
    check_count,
    check_fraction,
    check_threshold,
)
from calib_harness.errors import ArgumentError

NORMS = ("l1", "l2", "max")
DEFAULT_THRESHOLD = 0.01
DEFAULT_N_RESAMPLES = 1000
DEFAULT_LEVEL = 0.95
#: The options of single metrics, with their defaults.
DEFAULTS: dict[str, Any] = {
    "n_bins": DEFAULT_N_BINS,
    "binning": "uniform",
    "norm": "l1",
    "threshold": DEFAULT_THRESHOLD,
}


@dataclass(frozen=True, kw_only=True)
class Options:
    """How numbers are computed, checked where it is made and handed on as it is.

    Attributes
    ----------
    n_bins : int
        Number of bins, at least 1.
    binning : {"uniform", "equal_mass", "adaptive"}
        The rule, see `bin_index`.
    n_resamples : int
        Bootstrap resamples and simulations of nulls; 0 gives values without either.
    seed : int
        Of all that is drawn. Every run starts from it, so that rows of a table do not depend
        on each other's presence.
    level : float
        Nominal coverage of intervals.

    Raises
    ------
    ArgumentError
        If an option has a value it cannot take; a ValueError that names the argument.
    """

    n_bins: int = DEFAULT_N_BINS
    binning: str = "uniform"
    n_resamples: int = DEFAULT_N_RESAMPLES
    seed: int = 0
    level: float = DEFAULT_LEVEL

    def __post_init__(self) -> None:
        check_options(**self.bins)
        if self.n_resamples == 1 or self.n_resamples < 0:  # there is no spread of one
            raise ArgumentError(f"n_resamples must be 0 or at least 2; got {self.n_resamples}.")
        check_count("n_resamples", self.n_resamples, least=0)
        check_count("seed", self.seed, least=0)
        check_fraction("level", self.level)

    @property
    def bins(self) -> dict[str, Any]:
        """What a binned metric takes of them."""
        return {"n_bins": self.n_bins, "binning": self.binning}

    @property
    def draws(self) -> dict[str, Any]:
        """What `bootstrap` and its relatives take of them, besides the options of metrics."""
        return {"n_resamples": self.n_resamples, "rng": self.seed}


def check_options(**options: Any) -> None:
    """Raise ArgumentError if an option of a metric has a value it cannot take."""
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
            raise ArgumentError(f"options must be among {', '.join(DEFAULTS)}; got {name!r}.")
