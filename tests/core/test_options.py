"""Options are checked where they are made, and name the argument that is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from calib_harness.core.options import Options, check_options
from calib_harness.errors import ArgumentError, UserError


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"n_bins": 0}, "^n_bins must be a whole number of at least 1; got 0"),
        ({"binning": "odd"}, "^binning must be one of 'uniform', .*; got 'odd'"),
        ({"n_resamples": 1}, "^n_resamples must be 0 or at least 2; got 1"),
        ({"n_resamples": -3}, "^n_resamples must be 0 or at least 2; got -3"),
        ({"n_resamples": 2.5}, "^n_resamples must be a whole number of at least 0; got 2.5"),
        ({"seed": -1}, "^seed must be a whole number of at least 0; got -1"),
        ({"level": 95}, "^level must lie strictly between 0 and 1; got 95"),
    ],
)
def test_a_wrong_option_is_named_where_it_is_made(given: dict[str, Any], message: str) -> None:
    for kind in (ArgumentError, ValueError, UserError):
        with pytest.raises(kind, match=message):
            Options(**given)


def test_options_give_each_function_what_it_takes() -> None:
    options = Options(n_bins=7, binning="equal_mass", n_resamples=0, seed=3)
    assert options.bins == {"n_bins": 7, "binning": "equal_mass"}
    assert options.draws == {"n_resamples": 0, "rng": 3}
    check_options(**options.bins, threshold=0.5)
    with pytest.raises(ArgumentError, match=r"options must be among n_bins, .*; got 'bins'"):
        check_options(bins=7)
