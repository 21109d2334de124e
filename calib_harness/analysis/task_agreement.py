"""Over tasks: whether the models keep their order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from calib_harness.analysis.results import settings_in
from calib_harness.core.ranks import kendalls_w, mean_pairwise_tau

_N_PERMUTATIONS = 2000


def rank_agreement(
    changes: pd.DataFrame,
    *,
    unit: str | Sequence[str] = ("family", "base", "aligned"),
    value: str = "excess_change",
    n_permutations: int = _N_PERMUTATIONS,
    seed: int = 0,
) -> pd.DataFrame:
    """Measure how well the tasks agree on the order of the models.

    Parameters
    ----------
    changes : DataFrame
        One row per unit × task × method × metric, e.g. ``Comparison.changes``.
    unit : str or sequence of str
        Columns that name what is ranked: pairs of models by default.
    value : str
        Column that ranks them: by default the change of the excess over the calibrated null; the
        paper's ``change_ratio`` compares plug-in errors whose biases differ.
    n_permutations : int
        Of the order within each task, for the p-value.
    seed : int

    Returns
    -------
    DataFrame
        One row per method × metric: ``n_tasks``, ``n_pairs`` (units with a value in every
        task), ``n_dropped`` (the others), ``kendalls_w`` (0 none, 1 full agreement; corrected
        for ties), ``mean_tau`` (mean of Kendall's τ-b over pairs of tasks) and ``p_value``: how
        often W is at least as large when the order within each task is random. NaN with fewer
        than two tasks or units.

    Examples
    --------
    >>> frame = pd.DataFrame({"method": "choice", "metric": "ece", "model": ["a", "b", "c"] * 2,
    ...     "task": ["t"] * 3 + ["u"] * 3, "excess_change": [.1, .2, .3, .2, .3, .5]})
    >>> agreement = rank_agreement(frame, unit="model")
    >>> agreement[["n_tasks", "n_pairs", "kendalls_w", "mean_tau"]].values.tolist()
    [[2.0, 3.0, 1.0, 1.0]]
    """
    units = [unit] if isinstance(unit, str) else list(unit)
    rows = []
    for (method, metric), group in changes.groupby(["method", "metric"], sort=False):
        # A task run with several prompt settings ranks once for each. Numbers stand for the
        # names: pivoted, three columns of units would give all triples of their values.
        tasks = ["task", *settings_in(group)]
        numbered = pd.DataFrame(
            {
                "task": group.groupby(tasks, dropna=False).ngroup(),
                "unit": group.groupby(units, dropna=False).ngroup(),
                "value": group[value],
            }
        )
        table = numbered.pivot_table(index="task", columns="unit", values="value", dropna=False)
        table = table.dropna(how="all").dropna(axis=1, how="all")
        complete = table.dropna(axis=1)
        matrix = complete.to_numpy(dtype=float)
        enough = min(matrix.shape) >= 2
        rows.append(
            {
                "method": method,
                "metric": metric,
                "n_tasks": len(table),
                "n_pairs": complete.shape[1],
                "n_dropped": table.shape[1] - complete.shape[1],
                "kendalls_w": kendalls_w(matrix) if enough else np.nan,
                "mean_tau": mean_pairwise_tau(matrix) if enough else np.nan,
                "p_value": _permutation_p(matrix, n_permutations, seed) if enough else np.nan,
            }
        )
    return pd.DataFrame(rows)


def _permutation_p(matrix: npt.NDArray[np.float64], n_permutations: int, seed: int) -> float:
    """Share of random orders whose rank sums vary at least as much, the observed one included.

    Ties do not change under permutation, so W is proportional to the variance of the sums.
    """
    rng = np.random.default_rng(seed)
    ranks = pd.DataFrame(matrix.T).rank().to_numpy().T
    observed = ranks.sum(axis=0).var()
    shuffled = rng.permuted(np.broadcast_to(ranks, (n_permutations, *ranks.shape)), axis=2)
    at_least = int((shuffled.sum(axis=1).var(axis=1) >= observed - 1e-9).sum())
    return (1 + at_least) / (1 + n_permutations)
