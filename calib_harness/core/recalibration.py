"""Temperature scaling: one number that makes a model less, or more, sure of everything."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np
import numpy.typing as npt
from scipy import optimize

from calib_harness.core.checks import (
    FloatArray,
    IntArray,
    as_floats,
    as_gold,
    check_count,
    check_probs,
)
from calib_harness.core.confidence import softmax_scores, usable_rows

logger = logging.getLogger(__name__)

# 1/T runs between these. Questions that were all answered rightly fit a temperature near 0, at
# which one wrong answer among the next costs nearly everything: ten times as sure is enough.
SMALLEST_INVERSE, LARGEST_INVERSE = 0.01, 10.0
#: Whose temperatures are fitted, and what was said of them; of this thread.
_FITTED: ContextVar[tuple[str, set[str]] | None] = ContextVar("_FITTED", default=None)
_FIRST_STEP = 0.7  # of log(1/T), away from a temperature of 1: half or twice as sure


def apply_temperature(scores: npt.ArrayLike, temperature: float) -> FloatArray:
    """Return the probabilities softmax(scores / temperature).

    Parameters
    ----------
    scores : array_like, shape (n, K)
        Log-domain scores, NaN where a choice does not exist.
    temperature : float
        Above 0; above 1 makes the model less sure.

    Returns
    -------
    ndarray, shape (n, K)
        As from `softmax_scores`.

    Raises
    ------
    ValueError
        If the temperature is not a finite number above 0.

    Examples
    --------
    >>> import numpy as np
    >>> apply_temperature(np.log([[0.8, 0.2]]), 0.5).round(4).tolist()  # .64 : .04
    [[0.9412, 0.0588]]
    """
    if not (np.isfinite(temperature) and temperature > 0):
        raise ValueError(f"temperature must be a finite number above 0; got {temperature!r}.")
    return softmax_scores(as_floats("scores", scores, ndim=2) / temperature)


def fit_temperature(scores: npt.ArrayLike, gold: npt.ArrayLike) -> float:
    """Return the temperature with the least negative log-likelihood (Guo et al. 2017).

    The likelihood is concave in 1/T, so that its maximum is where the gold scores' mean equals
    the mean of the scores expected under softmax(scores / T). If there is no such point (every
    gold choice is the best one, or gold scores are no better than average), the nearest end
    of [0.1, 100] is returned and logged.

    Parameters
    ----------
    scores : array_like, shape (n, K)
        Log-domain scores, NaN where a choice does not exist.
    gold : array_like, shape (n,)
        Index of the right choice.

    Returns
    -------
    float
        The temperature T. Questions whose gold choice has a score of -inf are left out: they
        are impossible at every temperature.

    Raises
    ------
    ValueError
        If a row cannot be used, or none is left.

    Examples
    --------
    Sure to 8 : 2 but right two times out of three, softmax(scores / 2) = 2/3:

    >>> import numpy as np
    >>> scores = np.log([[0.8, 0.2], [0.8, 0.2], [0.8, 0.2]])
    >>> round(fit_temperature(scores, [0, 0, 1]), 6)
    2.0
    """
    s, g = check_scores(scores, gold)
    return _best_temperature(s, s[np.arange(len(s)), g])


def fit_temperature_to(scores: npt.ArrayLike, targets: npt.ArrayLike) -> float:
    """Return the temperature at which softmax(scores / T) comes nearest to given distributions.

    The mean cross-entropy Σ_k t_ik log p_ik is as small as it can be, as is the divergence of
    the targets from the scaled probabilities. With one-hot targets it is `fit_temperature`;
    with the probabilities of a base model, on the questions where both models predict the same
    choice, it is the temperature without labels of Luo et al. 2025 (DACA, arXiv 2505.16690).

    Parameters
    ----------
    scores : array_like, shape (n, K)
        Log-domain scores, NaN where a choice does not exist.
    targets : array_like, shape (n, K)
        Distributions over the same choices.

    Returns
    -------
    float
        Bounded as in `fit_temperature`. Questions are left out where a choice with a score of
        -inf has a target above 0.

    Raises
    ------
    ValueError
        If shapes differ, a row cannot be used, or none is left.

    Examples
    --------
    >>> import numpy as np
    >>> round(fit_temperature_to(np.log([[0.8, 0.2]]), [[2 / 3, 1 / 3]]), 6)
    2.0
    """
    s, t = as_floats("scores", scores, ndim=2), check_probs(targets)
    if s.shape != t.shape or (np.isnan(s) != np.isnan(t)).any():
        raise ValueError(
            "targets must be distributions over the choices of scores; got shapes "
            f"{t.shape} and {s.shape}, or choices that only one of them has."
        )
    with np.errstate(invalid="ignore"):  # 0 × -inf: a choice that neither allows
        at_target = np.nansum(np.where(t > 0, t * s, 0.0), axis=1)
    return _best_temperature(s, at_target)


@contextmanager
def temperatures_of(name: str) -> Iterator[None]:
    """Begin what is said of temperatures inside with a name, and say it once: folds repeat it."""
    token = _FITTED.set((name, set()))
    try:
        yield
    finally:
        _FITTED.reset(token)


def _say(text: str) -> None:
    """Warn, in the name of whose temperatures are fitted."""
    name, said = _FITTED.get() or ("", set())
    if text not in said:
        said.add(text)
        logger.warning("%s%s", f"{name}: " if name else "", text)


def _best_temperature(scores: FloatArray, at_target: FloatArray) -> float:
    """Return T at which the mean score expected under softmax(scores / T) is that at target."""
    possible = np.isfinite(at_target)
    if not possible.any():
        raise ValueError("scores must be finite at gold in at least one row; all are -inf.")
    if not possible.all():
        _say(
            f"{int((~possible).sum())} of {len(scores)} questions have a gold score of -inf and "
            "are left out of the temperature."
        )
    slope = _slope_of(scores[possible], at_target[possible])
    beyond, inside = _around_zero(slope)
    if inside is None:
        temperature = float(np.exp(-beyond))
        _say(f"no temperature in bounds fits best; {temperature:g} is used.")
        return temperature
    return float(np.exp(-optimize.brentq(slope, inside, beyond, xtol=1e-12)))


def _around_zero(slope: Callable[[float], float]) -> tuple[float, float | None]:
    """Return two places, the farther from 0 first, between which a rising function has its zero.

    Looked for outwards from log(1/T) = 0, as most models need little. If there is no zero in
    bounds, the end that is nearest to it, and None.
    """
    upwards = slope(0.0) < 0
    end = np.log(LARGEST_INVERSE if upwards else SMALLEST_INVERSE)
    inside, beyond = 0.0, float(np.copysign(_FIRST_STEP, end))
    while abs(beyond) < abs(end):
        if (slope(beyond) < 0) != upwards:
            return beyond, inside
        inside, beyond = beyond, 2 * beyond
    return (end, inside) if (slope(end) < 0) != upwards else (end, None)


def _slope_of(scores: FloatArray, at_target: FloatArray) -> Callable[[float], float]:
    """Return the derivative of the mean negative log-likelihood by 1/T, at a log(1/T).

    It is asked for a dozen times in each of thousands of fits, so that scores stand choice after
    choice: sums over a question's few choices are then sums of long rows.
    """
    by_choice = np.ascontiguousarray(scores.T)
    possible = np.isfinite(by_choice)
    finite = np.where(possible, by_choice, 0.0)
    # -inf times any 1/T above 0 stays impossible: such choices drop out like absent ones.
    above = np.where(possible, by_choice, -np.inf)
    largest = above.max(axis=0)

    def slope(log_inverse: float) -> float:
        inverse = np.exp(log_inverse)
        weights = np.exp(above * inverse - largest * inverse)
        weights /= weights.sum(axis=0)
        weights *= finite
        return float(np.mean(weights.sum(axis=0) - at_target))

    return slope


def cross_fit_temperature(
    scores: npt.ArrayLike,
    gold: npt.ArrayLike,
    *,
    n_folds: int = 5,
    rng: np.random.Generator | int,
) -> tuple[FloatArray, FloatArray]:
    """Return temperatures and held-out probabilities: no question scales itself.

    Questions are dealt into folds at random; each fold's probabilities use the temperature
    fitted on the others.

    Parameters
    ----------
    scores : array_like, shape (n, K)
        Log-domain scores, NaN where a choice does not exist.
    gold : array_like, shape (n,)
        Index of the right choice.
    n_folds : int
        Number of folds, from 2 to n.
    rng : numpy.random.Generator or int
        Source of the folds.

    Returns
    -------
    temperatures : ndarray, shape (n_folds,)
        The temperature applied to each fold.
    probs : ndarray, shape (n, K)
        Held-out probabilities in the order of `scores`.

    Raises
    ------
    ValueError
        If a row cannot be used, or there are fewer questions than folds.

    Examples
    --------
    >>> import numpy as np
    >>> scores = np.log([[0.8, 0.2]] * 6)
    >>> temperatures, probs = cross_fit_temperature(scores, [0, 0, 0, 0, 1, 1], n_folds=2, rng=1)
    >>> temperatures.shape, probs.shape
    ((2,), (6, 2))
    """
    n_folds = check_count("n_folds", n_folds, least=2)
    s, g = check_scores(scores, gold)
    if len(s) < n_folds:
        raise ValueError(f"scores must have at least n_folds={n_folds} rows; got {len(s)}.")
    fold = folds(len(s), n_folds, rng)
    temperatures, probs = np.empty(n_folds), np.empty_like(s)
    for k in range(n_folds):
        held_out = fold == k
        temperatures[k] = fit_temperature(s[~held_out], g[~held_out])
        probs[held_out] = apply_temperature(s[held_out], temperatures[k])
    return temperatures, probs


def folds(n: int, n_folds: int, rng: np.random.Generator | int) -> IntArray:
    """Return the fold of each question, dealt at random; sizes differ by one at most."""
    return np.random.default_rng(rng).permutation(np.arange(n) % n_folds)


def check_scores(scores: npt.ArrayLike, gold: npt.ArrayLike) -> tuple[FloatArray, IntArray]:
    """Return scores and gold as arrays, or raise ValueError if a row cannot be used."""
    s, g = as_floats("scores", scores, ndim=2), as_gold(gold)
    usable = usable_rows(s, g)
    if s.size == 0 or not usable.all():
        raise ValueError(
            f"scores and gold must be usable in every row; {int((~usable).sum())} of {len(s)} "
            "are not. Leave them out with usable_rows()."
        )
    return s, g
