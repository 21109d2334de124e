"""One side of a change: what is computed of a run before it is known what it is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from calib_harness.analysis.metrics_frame import SummaryOptions
from calib_harness.core.answers import Choices
from calib_harness.core.inference import bootstrap_draws
from calib_harness.core.loss import FEWEST_QUESTIONS, LOSSES, calibration_losses
from calib_harness.core.metrics import METRICS
from calib_harness.core.nulls import calibrated_null, has_null
from calib_harness.core.options import DEFAULT_N_RESAMPLES
from calib_harness.core.resampling import Draws
from calib_harness.predictions.table import Floats, Ints


@dataclass(frozen=True, eq=False)
class Side:
    """What a run brings to its changes, each of the metrics that have it by name.

    Attributes
    ----------
    draws : dict of str to Draws
        Resamples; empty if they have still to be drawn.
    nulls : dict of str to float
        Of calibration errors, what a calibrated model would show on average.
    losses : dict of str to ndarray, shape (n,)
        Calibration losses of each question; NaN with fewer than 10 questions.
    """

    draws: dict[str, Draws]
    nulls: dict[str, float]
    losses: dict[str, Floats]


#: What is known of both sides of a change.
Sides: TypeAlias = tuple[Side | None, Side | None]


_NOTHING = Side({}, {}, {})


def side_of(probs: Floats, gold: Ints, options: SummaryOptions, known: Side | None = None) -> Side:
    """Compute what one run brings to the changes of ``options.metrics``.

    Parameters
    ----------
    probs : ndarray, shape (n, K)
        Of the questions that both sides can use.
    gold : ndarray, shape (n,)
    options : SummaryOptions
        Without resamples (``n_resamples`` of 0) none are drawn.
    known : Side, optional
        What was computed of these questions before; what is missing there is computed.
    """
    known = known or _NOTHING
    names = [name for name in options.metrics if name not in LOSSES]
    nulls = {
        name: known.nulls[name] if name in known.nulls else null_mean(probs, name, options)
        for name in names
        if has_null(name)
    }
    losses = {
        name: known.losses[name] if name in known.losses else _losses(probs, gold, name)
        for name in options.metrics
        if name in LOSSES
    }
    draws = known.draws
    if names and options.n_resamples and not draws:
        # The same seed draws the same questions for every run of as many.
        draws = bootstrap_draws(names, probs, gold, **options.draws, **options.bins)
    return Side(draws, nulls, losses)


def _losses(probs: Floats, gold: Ints, name: str) -> Floats:
    if len(gold) < FEWEST_QUESTIONS:
        return np.full(len(gold), np.nan)
    return calibration_losses(probs, gold, score=LOSSES[name])


def null_mean(probs: Floats, metric: str, options: SummaryOptions) -> float:
    """Return what a calibrated model with these probabilities would show on average.

    Where the mean has a formula nothing is simulated: that took most of a comparison's time.
    """
    known = METRICS[metric]
    if known.null_mean is not None:
        given = known.complete(known.own(options.bins))
        exact = known.null_mean(Choices.checked(probs), **given)
        if exact is not None:
            return exact
    return calibrated_null(
        probs,
        metric=metric,
        n_resamples=DEFAULT_N_RESAMPLES,
        rng=options.seed,
        **METRICS[metric].own(options.bins),
    ).mean
