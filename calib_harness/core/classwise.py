"""Calibration of every choice, class by class: a class is a position among the choices.

Notation and structure as in `calibration`; n_bk is the number of entries of class k in bin b.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt

from calib_harness.core.answers import Answers, Choices
from calib_harness.core.bin_errors import BinnedError
from calib_harness.core.binning import DEFAULT_N_BINS
from calib_harness.core.calibration import calibration_error
from calib_harness.core.groups import class_groups
from calib_harness.core.options import DEFAULT_THRESHOLD, check_options
from calib_harness.core.registry import binned_metric

_NIXON = "Nixon et al. 2019"


def sce_error(choices: Choices, *, n_bins: int, binning: str = "uniform") -> BinnedError:
    """Bin the probabilities of each class together."""
    return BinnedError(class_groups(choices.probs), n_bins, binning, "l1")


def sce_ova_error(choices: Choices, *, n_bins: int, binning: str = "uniform") -> BinnedError:
    """Bin as SCE does, and let an entry come true by one-vs-all accuracy."""
    groups = class_groups(choices.probs, against=choices.prediction)
    return BinnedError(groups, n_bins, binning, "l1")


def tace_error(
    choices: Choices, *, n_bins: int, threshold: float = DEFAULT_THRESHOLD
) -> BinnedError:
    """Cut the probabilities of each class above a threshold into runs of equal mass."""
    groups = class_groups(choices.probs, threshold=threshold)
    return BinnedError(groups, n_bins, "adaptive", "l1")


@binned_metric(
    "sce", sce_error, formula="Σ_k Σ_b (n_bk/Σ_i K_i) |freq_bk − conf_bk|", source=_NIXON
)
def sce(
    probs: npt.ArrayLike,
    gold: npt.ArrayLike,
    *,
    n_bins: int = DEFAULT_N_BINS,
    binning: str = "uniform",
) -> float:
    """Return the static calibration error (Nixon et al. 2019), also called classwise ECE.

    SCE = Σ_k Σ_b (n_bk / Σ_i K_i) |freq_bk - conf_bk|, where freq_bk is the share of entries
    of class k in bin b whose gold is k. Every (question, choice) entry weighs the same; with
    K choices throughout this is Nixon's (1/K) Σ_k Σ_b (n_bk / N) |...|.

    Arguments, result and errors as for `ece`, without `norm`.

    Examples
    --------
    One bin: class 0 has mean probability .7 and frequency 1/2, class 1 .3 and 1/2.

    >>> round(sce([[0.6, 0.4], [0.8, 0.2]], [0, 1], n_bins=1), 6)
    0.2
    """
    check_options(n_bins=n_bins, binning=binning)
    answers = Answers.of(probs, gold)
    return sce_error(answers, n_bins=n_bins, binning=binning).value(answers.gold)


@binned_metric(
    "sce_ova",
    sce_ova_error,
    formula="sce with the share of [prediction = k] = [gold = k] for freq_bk; no calibration error",
    source="widely copied code",
)
def sce_ova(
    probs: npt.ArrayLike,
    gold: npt.ArrayLike,
    *,
    n_bins: int = DEFAULT_N_BINS,
    binning: str = "uniform",
) -> float:
    """Return SCE with one-vs-all accuracy in place of frequency; no calibration error.

    As `sce`, with freq_bk replaced by the share of entries for which [prediction = k] equals
    [gold = k]. True negatives count as hits, so that a perfect classifier of K choices scores
    1 - 1/K. It is here because published numbers are consistent with it; report it beside
    `sce` only.

    Arguments, result and errors as for `sce`.

    Examples
    --------
    A perfect classifier of two choices:

    >>> sce_ova([[1.0, 0.0], [0.0, 1.0]], [0, 1])
    0.5
    """
    check_options(n_bins=n_bins, binning=binning)
    answers = Answers.of(probs, gold)
    return sce_ova_error(answers, n_bins=n_bins, binning=binning).value(answers.gold)


@binned_metric(
    "ace",
    partial(tace_error, threshold=0.0),
    formula="sce over bins of equal mass, probabilities of 0 left out",
    source=_NIXON,
)
def ace(probs: npt.ArrayLike, gold: npt.ArrayLike, *, n_bins: int = DEFAULT_N_BINS) -> float:
    """Return the adaptive calibration error (Nixon et al. 2019).

    As `sce` over ``"adaptive"`` bins, which is `tace` at threshold 0: as in Google's
    reference, probabilities of exactly 0 are left out.

    Arguments, result and errors as for `ece`, without `binning` and `norm`.

    Examples
    --------
    One run per class: class 0 has mean probability .7 and frequency 1/2, class 1 .3 and 1/2.

    >>> round(ace([[0.6, 0.4], [0.8, 0.2]], [0, 1], n_bins=1), 6)
    0.2
    """
    return tace(probs, gold, n_bins=n_bins, threshold=0.0)


@binned_metric(
    "tace", tace_error, formula="ace over probabilities above a threshold", source=_NIXON
)
def tace(
    probs: npt.ArrayLike,
    gold: npt.ArrayLike,
    *,
    n_bins: int = DEFAULT_N_BINS,
    threshold: float = DEFAULT_THRESHOLD,
) -> float:
    """Return the thresholded adaptive calibration error (Nixon et al. 2019).

    TACE = Σ_k (N_k / Σ_i K_i) Σ_b (n_bk / n_k) |freq_bk - conf_bk| over ``"adaptive"`` bins
    of the entries of class k strictly above the threshold; n_k of the N_k entries of the
    class are. With K choices throughout the first factor is 1/K, as in Google's reference.

    Parameters
    ----------
    probs, gold, n_bins
        As for `ece`.
    threshold : float
        In [0, 1); entries at or below it are left out.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        As for `ece`.

    Examples
    --------
    .2 is left out: class 1 keeps .4 only, whose gold is 0.

    >>> round(tace([[0.6, 0.4], [0.8, 0.2]], [0, 1], n_bins=1, threshold=0.2), 6)
    0.3
    """
    check_options(n_bins=n_bins, threshold=threshold)
    answers = Answers.of(probs, gold)
    return tace_error(answers, n_bins=n_bins, threshold=threshold).value(answers.gold)


def full_ece(
    probs: npt.ArrayLike,
    gold: npt.ArrayLike,
    *,
    n_bins: int = DEFAULT_N_BINS,
    binning: str = "uniform",
) -> float:
    """Return the calibration error of all choices pooled, whatever their position.

    Every (question, choice) entry is binned by its probability and compared with whether the
    choice is gold: `calibration_error` of all of them. Errors of positions that cancel out are
    not seen, which `sce` sees.

    Arguments, result and errors as for `sce`. It is not in the table of metrics.

    Examples
    --------
    Entries .6 and .8 came true once in two, .4 and .2 as well: gaps of .2 in both bins.

    >>> round(full_ece([[0.6, 0.4], [0.8, 0.2]], [0, 1], n_bins=2), 6)
    0.2
    """
    check_options(n_bins=n_bins, binning=binning)
    answers = Answers.of(probs, gold)
    exists = ~np.isnan(answers.probs)
    came_true = np.arange(answers.probs.shape[1]) == answers.gold[:, None]
    return calibration_error(
        answers.probs[exists], came_true[exists], n_bins=n_bins, binning=binning
    )
