"""The rule of bin membership."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calib_harness import bin_index
from calib_harness.core.binning import BINNINGS
from tests.core import naive

VALUES = st.lists(st.integers(0, 20).map(lambda i: i / 20), min_size=1, max_size=40)


@pytest.mark.parametrize("n_bins", [1, 3, 7, 10, 15, 49, 100])
def test_upper_edges_belong_to_the_bin_below_them(n_bins: int) -> None:
    # 0.1 * 3 and 1 - 0.7 miss 0.3; the edge is the float nearest to 3/10, as is the literal.
    edges = [float(Fraction(m, n_bins)) for m in range(1, n_bins + 1)]
    assert bin_index(edges, n_bins=n_bins).tolist() == list(range(n_bins))
    just_above = np.append(0.0, np.nextafter(edges[:-1], 1))
    assert bin_index(just_above, n_bins=n_bins).tolist() == list(range(n_bins))


def test_literals_on_edges() -> None:
    tenths = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    assert bin_index(tenths, n_bins=10).tolist() == list(range(10))


def test_zero_is_in_the_first_bin_and_rounding_above_one_in_the_last() -> None:
    assert bin_index([0.0, -1e-9, 1.0 + 1e-9], n_bins=4).tolist() == [0, 0, 3]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(values=VALUES, n_bins=st.integers(1, 25), binning=st.sampled_from(BINNINGS))
def test_bins_follow_the_naive_rule(values: list[float], n_bins: int, binning: str) -> None:
    found = bin_index(values, n_bins=n_bins, binning=binning).tolist()
    assert found == naive.bins(values, n_bins, binning)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(values=VALUES, n_bins=st.integers(1, 25), binning=st.sampled_from(BINNINGS))
def test_bins_keep_order_and_equal_values_together(
    values: list[float], n_bins: int, binning: str
) -> None:
    found = bin_index(values, n_bins=n_bins, binning=binning)
    assert found.min() >= 0
    assert found.max() < n_bins
    order = np.argsort(values)
    assert (np.diff(found[order]) >= 0).all()
    for one, other in pairwise(order):
        assert values[one] != values[other] or found[one] == found[other]


@pytest.mark.parametrize("n", [1, 5, 14, 15, 16, 200])
def test_equal_mass_bins_of_distinct_values_differ_by_one_at_most(n: int) -> None:
    values = np.random.default_rng(0).permutation(n) / n
    sizes = np.bincount(bin_index(values, n_bins=15, binning="equal_mass"), minlength=15)
    assert sizes.max() - sizes.min() <= 1
    assert (np.diff(sizes) <= 0).all()


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ([0.5], {"n_bins": 0}, "n_bins must be a whole number of at least 1; got 0"),
        ([0.5], {"binning": "quantile"}, "binning must be one of 'uniform', 'equal_mass', "),
        ([], {"binning": 3}, "binning must be one of"),
        ([], {}, "values must not be empty"),
        ([0.5, 1.5], {}, "element 1 is 1.5"),
        ([0.5, math.nan], {"binning": "adaptive"}, "element 1 is nan"),
        ([[0.5]], {}, "values must have 1 dimension"),
        (["high"], {}, "values must be a rectangular array of numbers"),
    ],
)
def test_bad_arguments_are_named(values: Any, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bin_index(values, **options)
