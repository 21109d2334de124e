"""Which tests are corrected together, and the resamples that this takes: decided here alone.

Each metric asks a question of its own, so that its tests are a family of hypotheses: one for every
pair, task, method and prompt setting in the table. Holm's correction runs over that family. Which
other metrics stand in the table makes no difference, so that a page, a table and a sweep over the
same logs agree.
"""

from __future__ import annotations

import logging

import pandas as pd

from calib_harness.core.significance import holm

logger = logging.getLogger(__name__)

#: What is corrected together, in words.
FAMILY_OF_TESTS = (
    "Holm's correction runs over the tests of one metric: all pairs, tasks, methods and prompt "
    "settings in the table"
)
#: The level at which a corrected p-value counts as evidence.
SIGNIFICANT = 0.05

LEAST_RESAMPLES, MOST_RESAMPLES = 1000, 10_000  # of all changes, without being told
_MOST_FOR_ONE = 200_000  # of a change that more resamples may still decide
_PER_TEST = 50  # resamples per test that bring the least corrected p-value to .04


def corrected(table: pd.DataFrame, p_value: str = "p_value") -> pd.Series:
    """Return the p-values of a table, Holm-corrected within each metric.

    Parameters
    ----------
    table : DataFrame
        With the column ``metric`` and that of the p-values; NaN is no test.
    p_value : str
        The column.

    Returns
    -------
    Series
        In the order of the rows.
    """
    groups = table.groupby("metric", sort=False, dropna=False)[p_value]
    return groups.transform(lambda values: holm(values.to_numpy(dtype=float)))


def family_sizes(table: pd.DataFrame, p_value: str = "p_value") -> pd.Series:
    """Return for each row how many tests it is corrected with, itself included."""
    return table.groupby("metric", sort=False, dropna=False)[p_value].transform("count")


def enough_resamples(n_tests: int, n_resamples: int | None) -> int:
    """Choose the number of resamples for families of `n_tests` p-values.

    The smallest p-value of R resamples is 2 / (R + 1), and Holm multiplies it by up to
    `n_tests`: 1,000 resamples cannot find anything among 45. Unless the number is given, there
    are 200 resamples per test, within 1,000 and 10,000; changes for which that is too few get
    more (see `undecided`). If it is given and too small, a warning says so.
    """
    if n_resamples is None:
        return min(max(LEAST_RESAMPLES, 200 * n_tests), MOST_RESAMPLES)
    least = 2 * n_tests / (n_resamples + 1)
    if least > SIGNIFICANT:
        logger.warning(
            "%d resamples are too few for %d tests: no p_holm can be below %.2g; "
            "raise n_resamples to %d, or compare fewer tasks or methods",
            n_resamples,
            n_tests,
            min(least, 1.0),
            200 * n_tests,
        )
    return n_resamples


def undecided(table: pd.DataFrame, n_resamples: int) -> tuple[pd.Series, int]:
    """Return which changes more resamples may make significant, and how many that takes.

    Parameters
    ----------
    table : DataFrame
        With ``metric`` and ``p_value``, from `n_resamples` resamples.

    Returns
    -------
    rows : Series of bool
        Where the p-value is as small as `n_resamples` can make it, and still above the level
        when multiplied by the number of tests.
    n_resamples : int
        Enough for the largest family, unless that is beyond 200,000: then a warning says that
        the tests cannot decide.
    """
    together = family_sizes(table)
    least = 2 / (n_resamples + 1)
    rows = (table["p_value"] <= least * (1 + 1e-9)) & (least * together > SIGNIFICANT)
    needed = int(_PER_TEST * together[rows].max()) if rows.any() else n_resamples
    if needed > _MOST_FOR_ONE:
        logger.warning(
            "%d tests of one metric are too many for %d resamples to decide: no p_holm of a "
            "bootstrap can be below %.2g; compare fewer tasks, methods or pairs",
            int(together.max()),
            _MOST_FOR_ONE,
            min(1.0, 2 * float(together.max()) / (_MOST_FOR_ONE + 1)),
        )
    return rows, min(needed, _MOST_FOR_ONE)


def is_evidence(p_holm: pd.Series) -> pd.Series:
    """Whether a corrected p-value counts as evidence."""
    return p_holm.astype(float) < SIGNIFICANT
