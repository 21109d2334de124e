"""What over- and underconfidence contribute to ECE, and to its change."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from calib_harness.analysis.joining import SharedQuestions
from calib_harness.analysis.metrics_frame import SummaryOptions
from calib_harness.core.binning import bin_index
from calib_harness.core.calibration import ECE_PARTS
from calib_harness.core.confidence import top_label
from calib_harness.core.inference import paired_changes
from calib_harness.predictions.table import Floats, Ints


class EceParts(NamedTuple):
    """ECE = over + under; mean confidence − accuracy = over − under.

    Attributes
    ----------
    over, under : float
        Σ_b (n_b/N) |conf_b − acc_b| over the bins whose confidence exceeds their accuracy,
        and over the others.
    confidence, accuracy : float
        Means over all questions.
    """

    over: float
    under: float
    confidence: float
    accuracy: float


def ece_parts(probs: Floats, gold: Ints, *, n_bins: int = 15, binning: str = "uniform") -> EceParts:
    """Split ECE by the sign of each bin's gap.

    Parameters
    ----------
    probs : ndarray, shape (n, K)
    gold : ndarray, shape (n,)
    n_bins, binning
        As for ``ece``.

    Examples
    --------
    >>> probs = np.array([[0.9, 0.1], [0.9, 0.1], [0.55, 0.45], [0.55, 0.45]])
    >>> [round(part, 3) for part in ece_parts(probs, np.array([0, 1, 0, 0]))]
    [0.2, 0.225, 0.725, 0.75]
    """
    confidence, prediction = top_label(probs)
    correct = prediction == gold
    bins = bin_index(confidence, n_bins=n_bins, binning=binning)
    gaps = np.bincount(bins, weights=confidence - correct) / len(gold)
    return EceParts(
        over=float(gaps[gaps > 0].sum()),
        under=float(abs(gaps[gaps < 0].sum())),
        confidence=float(confidence.mean()),
        accuracy=float(correct.mean()),
    )


def decompose(shared: SharedQuestions, options: SummaryOptions) -> dict[str, float]:
    """One row of ``Comparison.decomposition``, without the columns that name the pair.

    The intervals share their resamples with those of the other tables.
    """
    base, aligned = (
        ece_parts(probs, shared.gold, n_bins=options.n_bins, binning=options.binning)
        for probs in shared.probs
    )
    over, under = aligned.over - base.over, aligned.under - base.under
    intervals = paired_changes(
        ECE_PARTS,
        shared.probs[0],
        shared.probs[1],
        shared.gold,
        n_resamples=options.n_resamples,
        rng=options.seed,
        n_bins=options.n_bins,
        binning=options.binning,
    )
    certain, accurate = aligned.confidence - base.confidence, aligned.accuracy - base.accuracy
    return {
        "ece_change": over + under,
        "over_change": over,
        "under_change": under,
        "base_over": base.over,
        "aligned_over": aligned.over,
        "base_under": base.under,
        "aligned_under": aligned.under,
        "overconfidence_change": certain - accurate,
        "confidence_change": certain,
        "accuracy_change": accurate,
        "n": len(shared),
        "over_low": intervals["over"].low,
        "over_high": intervals["over"].high,
        "under_low": intervals["under"].low,
        "under_high": intervals["under"].high,
    }
