"""Calibration errors: whether a confidence of 0.8 comes true four times out of five.

Each public function checks its arguments and evaluates one error; the `*_error` functions
beside them say what is binned together and how, once for values, resamples and simulations.
Notation of the formulae: p_ik is the probability of choice k of question i, K_i its number of
choices, c_i = max_k p_ik its confidence, a_i = 1 if argmax_k p_ik (first index on ties) is
gold, else 0; n_b is the number of entries in bin b, N the number of questions; acc_b, conf_b
and freq_b are means over the entries in the bin.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from calib_harness.core.bin_errors import (
    BinnedError,
    Simulation,
    Statistic,
    class_groups,
    point_value,
    top_label_groups,
)
from calib_harness.core.binning import DEFAULT_N_BINS
from calib_harness.core.checks import BoolArray, FloatArray, IntArray, check_pairs, check_rows
from calib_harness.core.confidence import top_label
from calib_harness.core.options import DEFAULT_THRESHOLD, check_options
from calib_harness.core.smece import fixed_point, smece_statistic


def ece_error(
    probs: FloatArray, *, n_bins: int, binning: str = "uniform", norm: str = "l1"
) -> BinnedError:
    """Bin the confidences of all questions together."""
    confidence, prediction = top_label(probs)

    def outcome(gold: IntArray) -> BoolArray:
        return np.asarray(gold == prediction)

    groups = top_label_groups(confidence, outcome)
    return BinnedError(groups, n_bins, binning, norm)


def sce_error(probs: FloatArray, *, n_bins: int, binning: str = "uniform") -> BinnedError:
    """Bin the probabilities of each class together."""
    return BinnedError(class_groups(probs), n_bins, binning, "l1")


def sce_ova_error(probs: FloatArray, *, n_bins: int, binning: str = "uniform") -> BinnedError:
    """Bin as SCE does, and let an entry come true by one-vs-all accuracy."""
    groups = class_groups(probs, against=top_label(probs)[1])
    return BinnedError(groups, n_bins, binning, "l1")


def tace_error(
    probs: FloatArray, *, n_bins: int, threshold: float = DEFAULT_THRESHOLD
) -> BinnedError:
    """Cut the probabilities of each class above a threshold into runs of equal mass."""
    groups = class_groups(probs, threshold=threshold)
    return BinnedError(groups, n_bins, "adaptive", "l1")


def smece_of(probs: FloatArray, gold: IntArray) -> Statistic:
    """Return the resampled SmoothECE of the top label."""
    confidence, prediction = top_label(probs)
    return smece_statistic(confidence, (prediction == gold).astype(np.float64))


def smece_simulation(probs: FloatArray) -> Simulation:
    """Return the SmoothECE of the top label for simulated gold indices."""
    confidence, prediction = top_label(probs)
    f = np.clip(confidence, 0.0, 1.0)

    def evaluate(gold: IntArray) -> FloatArray:
        residuals = f - (gold == prediction)
        return fixed_point(f, residuals, np.ones_like(residuals))[0]

    return evaluate


def calibration_error(
    confidence: npt.ArrayLike,
    correct: npt.ArrayLike,
    *,
    n_bins: int = DEFAULT_N_BINS,
    binning: str = "uniform",
    norm: str = "l1",
    debias: bool = False,
) -> float:
    """Return the calibration error of top-label pairs.

    - ``norm="l1"``: Σ_b (n_b / N) |acc_b - conf_b| (ECE; Guo et al. 2017).
    - ``norm="l2"``: sqrt(Σ_b (n_b / N) (acc_b - conf_b)²).
    - ``norm="max"``: the largest |acc_b - conf_b| over non-empty bins (MCE).
    - ``norm="l2", debias=True``: from each (acc_b - conf_b)² take off acc_b (1 - acc_b) /
      (n_b - 1), then cut the sum at 0 (Kumar et al. 2019). A bin of one question has no such
      estimate and adds 0.

    Parameters
    ----------
    confidence : array_like, shape (n,)
        Probability of the predicted choice.
    correct : array_like, shape (n,)
        1 where the prediction is gold, else 0.
    n_bins, binning
        See `bin_index`.
    norm : {"l1", "l2", "max"}
        How the bins' errors are put together.
    debias : bool
        Take off the bias of the plug-in estimate; only with ``norm="l2"``.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If an option is unknown or the pairs are not probabilities and 0/1.

    Examples
    --------
    Bins (0, .5] and (.5, 1]: the gaps are |1 - .4| and |.5 - .8|, weighted 1/3 and 2/3.

    >>> round(calibration_error([0.4, 0.7, 0.9], [1, 0, 1], n_bins=2), 6)
    0.4
    >>> round(calibration_error([0.4, 0.7, 0.9], [1, 0, 1], n_bins=2, norm="max"), 6)
    0.6
    """
    check_options(n_bins=n_bins, binning=binning, norm=norm)
    if debias and norm != "l2":
        raise ValueError(f"debias=True needs norm='l2'; got norm={norm!r}.")
    conf, hit = check_pairs(confidence, correct)
    groups = top_label_groups(conf, lambda gold: gold == 1)
    kind = "debiased" if debias else norm
    error = BinnedError(groups, n_bins, binning, kind)
    return point_value(error.resampled(hit.astype(np.int64)), conf.size)


def ece(
    probs: npt.ArrayLike,
    gold: npt.ArrayLike,
    *,
    n_bins: int = DEFAULT_N_BINS,
    binning: str = "uniform",
    norm: str = "l1",
) -> float:
    """Return the expected calibration error of the predicted choice.

    ECE = Σ_b (n_b / N) |acc_b - conf_b| (Guo et al. 2017); other norms as in
    `calibration_error`. It is biased upwards: compare at equal N and n_bins only.

    Parameters
    ----------
    probs : array_like, shape (n, K)
        Probabilities of the choices, NaN where a choice does not exist.
    gold : array_like, shape (n,)
        Index of the right choice.
    n_bins, binning
        See `bin_index`.
    norm : {"l1", "l2", "max"}
        How the bins' errors are put together.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If an option is unknown, or a row is no distribution or has no gold choice.

    Examples
    --------
    Confidences .6 (right) and .8 (wrong) fall into one of two bins: |1/2 - .7|.

    >>> round(ece([[0.6, 0.4], [0.8, 0.2]], [0, 1], n_bins=2), 6)
    0.2
    """
    check_options(n_bins=n_bins, binning=binning, norm=norm)
    p, g = check_rows(probs, gold)
    error = ece_error(p, n_bins=n_bins, binning=binning, norm=norm)
    return point_value(error.resampled(g), len(p))


def ece_rms(
    probs: npt.ArrayLike,
    gold: npt.ArrayLike,
    *,
    n_bins: int = DEFAULT_N_BINS,
    binning: str = "uniform",
) -> float:
    """Return the root mean square calibration error, `ece` with ``norm="l2"``.

    Arguments, result and errors as for `ece`.

    Examples
    --------
    One bin holds both: a single gap of |1/2 - .7|.

    >>> round(ece_rms([[0.6, 0.4], [0.8, 0.2]], [0, 1], n_bins=2), 6)
    0.2
    """
    return ece(probs, gold, n_bins=n_bins, binning=binning, norm="l2")


def mce(
    probs: npt.ArrayLike,
    gold: npt.ArrayLike,
    *,
    n_bins: int = DEFAULT_N_BINS,
    binning: str = "uniform",
) -> float:
    """Return the maximum calibration error, `ece` with ``norm="max"``.

    Arguments, result and errors as for `ece`.

    Examples
    --------
    With four bins the gaps are |1 - .6| and |0 - .8|.

    >>> round(mce([[0.6, 0.4], [0.8, 0.2]], [0, 1], n_bins=4), 6)
    0.8
    """
    return ece(probs, gold, n_bins=n_bins, binning=binning, norm="max")


def ece_debiased(
    probs: npt.ArrayLike,
    gold: npt.ArrayLike,
    *,
    n_bins: int = DEFAULT_N_BINS,
    binning: str = "uniform",
) -> float:
    """Return the debiased L2 calibration error of the predicted choice (Kumar et al. 2019).

    See `calibration_error` with ``norm="l2", debias=True``; arguments, result and errors as
    for `ece`.

    Examples
    --------
    One bin of confidences .9, .9, accuracy 1/2: .4² - (1/2)(1/2)/(2 - 1) is negative, cut at 0.

    >>> ece_debiased([[0.9, 0.1], [0.9, 0.1]], [0, 1], n_bins=2)
    0.0
    """
    check_options(n_bins=n_bins, binning=binning)
    p, g = check_rows(probs, gold)
    error = ece_error(p, n_bins=n_bins, binning=binning, norm="debiased")
    return point_value(error.resampled(g), len(p))


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
    p, g = check_rows(probs, gold)
    return point_value(sce_error(p, n_bins=n_bins, binning=binning).resampled(g), len(p))


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
    p, g = check_rows(probs, gold)
    return point_value(sce_ova_error(p, n_bins=n_bins, binning=binning).resampled(g), len(p))


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
    p, g = check_rows(probs, gold)
    return point_value(tace_error(p, n_bins=n_bins, threshold=threshold).resampled(g), len(p))


def smece(probs: npt.ArrayLike, gold: npt.ArrayLike) -> float:
    """Return the SmoothECE of the predicted choice (Błasiok and Nakkiran 2023).

    smECE = ∫ |Σ_i (c_i - a_i) φ_σ(t - c_i)| dt / N with a reflected Gaussian φ_σ, at the
    width σ equal to the error itself; evaluated on the grid of the authors' package relplot.

    Arguments, result and errors as for `ece`, without options.

    Examples
    --------
    >>> smece([[1.0, 0.0], [0.0, 1.0]], [0, 1])
    0.0
    """
    p, g = check_rows(probs, gold)
    return point_value(smece_of(p, g), len(p))
