"""Calibration of the predicted choice: whether a confidence of 0.8 comes true four times in five.

Each public function checks its arguments and evaluates one error; `ece_error` says what is
binned together and how, once for values, resamples and simulations. Notation of the formulae:
p_ik is the probability of choice k of question i, K_i its number of choices, c_i = max_k p_ik
its confidence, a_i = 1 if argmax_k p_ik (first index on ties) is gold, else 0; n_b is the
number of entries in bin b, N the number of questions; acc_b, conf_b and freq_b are means over
the entries in the bin.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt

from calib_harness.core.answers import Answers, Choices
from calib_harness.core.bin_errors import BinnedError
from calib_harness.core.binning import DEFAULT_N_BINS
from calib_harness.core.checks import BoolArray, FloatArray, IntArray, check_pairs
from calib_harness.core.groups import top_label_groups
from calib_harness.core.options import check_options
from calib_harness.core.registry import Metric, binned_metric, of_bins

_KUMAR = "Kumar et al. 2019"


def ece_error(
    choices: Choices, *, n_bins: int, binning: str = "uniform", norm: str = "l1"
) -> BinnedError:
    """Bin the confidences of all questions together."""
    prediction = choices.prediction

    def outcome(gold: IntArray) -> BoolArray:
        return np.asarray(gold == prediction)

    groups = top_label_groups(choices.confidence, outcome)
    return BinnedError(groups, n_bins, binning, norm)


def pairs_error(
    confidence: FloatArray, *, n_bins: int, binning: str = "uniform", norm: str = "l1"
) -> BinnedError:
    """Bin pairs whose outcomes are 0 or 1 themselves."""
    check_options(n_bins=n_bins, binning=binning)
    groups = top_label_groups(confidence, lambda outcomes: outcomes == 1)
    return BinnedError(groups, n_bins, binning, norm)


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
    kind = "debiased" if debias else norm
    error = pairs_error(conf, n_bins=n_bins, binning=binning, norm=kind)
    return error.value(hit.astype(np.int64))


@binned_metric("ece", ece_error, formula="Σ_b (n_b/N) |acc_b − conf_b|", source="Guo et al. 2017")
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
    answers = Answers.of(probs, gold)
    return ece_error(answers, n_bins=n_bins, binning=binning, norm=norm).value(answers.gold)


@binned_metric(
    "ece_rms",
    partial(ece_error, norm="l2"),
    formula="√ Σ_b (n_b/N) (acc_b − conf_b)²",
    source=_KUMAR,
)
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


@binned_metric(
    "mce",
    partial(ece_error, norm="max"),
    formula="max_b |acc_b − conf_b|",
    source="Naeini et al. 2015",
)
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


@binned_metric(
    "ece_debiased",
    partial(ece_error, norm="debiased"),
    formula="√ max(0, Σ_b (n_b/N) [(acc_b − conf_b)² − acc_b (1 − acc_b)/(n_b − 1)])",
    source=_KUMAR,
)
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
    answers = Answers.of(probs, gold)
    return ece_error(answers, n_bins=n_bins, binning=binning, norm="debiased").value(answers.gold)


def _part(norm: str) -> Metric:
    error = partial(ece_error, norm=norm)

    def function(probs: npt.ArrayLike, gold: npt.ArrayLike, *, n_bins: int, binning: str) -> float:
        answers = Answers.of(probs, gold)
        return error(answers, n_bins=n_bins, binning=binning).value(answers.gold)

    formula = "Σ_b (n_b/N) |acc_b − conf_b| over bins of one sign"
    return Metric(norm, function, "lower", formula, "", **of_bins(error))


#: What bins with conf_b > acc_b, and the others, contribute to ECE; compared, not reported alone.
ECE_PARTS = (_part("over"), _part("under"))
