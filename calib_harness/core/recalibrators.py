"""Recalibrators: fitted on some questions, applied to others, kept as plain numbers.

A recalibrator maps the scores of a question to probabilities. All but two are fitted on labelled
questions; `batch` needs no labels, and `agreement` the base model's probabilities instead. What
is fitted is a name and a dictionary of numbers, which JSON can hold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize

from calib_harness.core.checks import FloatArray, IntArray, as_floats, check_choice_of, check_count
from calib_harness.core.confidence import softmax_scores
from calib_harness.core.recalibration import (
    LARGEST_INVERSE,
    SMALLEST_INVERSE,
    apply_temperature,
    check_scores,
    fit_temperature,
    fit_temperature_to,
    folds,
)

Params = Mapping[str, Any]

# Weight of a squared bias (or weight minus one) beside the sum of log losses: as much as it takes
# to keep a letter that was never right from becoming impossible.
_RIDGE = 0.05
# Least probability an isotonic map gives: one held-out surprise must not cost everything.
_FLOOR = 1e-4


@dataclass(frozen=True)
class Recalibrator:
    """A fitted map from scores to probabilities.

    Attributes
    ----------
    method : str
        A key of `RECALIBRATORS`.
    params : dict
        What was fitted: floats and lists of floats.
    """

    method: str
    params: Params

    def __post_init__(self) -> None:
        check_choice_of("method", self.method, RECALIBRATORS)
        missing = set(RECALIBRATORS[self.method].params) - set(self.params)
        if missing:
            raise ValueError(f"params of {self.method} must hold {', '.join(sorted(missing))}.")

    def apply(self, scores: npt.ArrayLike) -> FloatArray:
        """Return probabilities, shape (n, K), of scores, NaN where a choice does not exist.

        Raises
        ------
        ValueError
            If there are more choices than the recalibrator was fitted on.
        """
        return RECALIBRATORS[self.method].apply(as_floats("scores", scores, ndim=2), self.params)


@dataclass(frozen=True)
class RecalibrationMethod:
    """One way to recalibrate.

    Attributes
    ----------
    needs : {"gold", "base", ""}
        What it is fitted on besides the scores.
    description : str
    params : tuple of str
        Names of what is fitted.
    fit, apply : callable
    """

    needs: str
    description: str
    params: tuple[str, ...]
    fit: Callable[..., Params]
    apply: Callable[[FloatArray, Params], FloatArray]


def fit_recalibrator(
    method: str,
    scores: npt.ArrayLike,
    gold: npt.ArrayLike | None = None,
    *,
    base: npt.ArrayLike | None = None,
) -> Recalibrator:
    """Fit a recalibrator on questions.

    Parameters
    ----------
    method : str
        - ``temperature``: softmax(s / T) (Guo et al. 2017), T within [0.1, 100].
        - ``letter``: softmax(s / T + b_k), a bias for each position (bias-corrected temperature,
          Alexandari et al. 2020).
        - ``vector``: softmax(w_k log p_k + b_k), a slope and a bias for each position (Platt's
          scaling for several classes; Guo et al. 2017).
        - ``isotonic``: one monotone map of all probabilities, then divided by their sum (Zadrozny
          and Elkan 2002).
        - ``batch``: p_k divided by its mean over the questions, then by their sum (batch
          calibration, Zhou et al. 2024); no labels.
        - ``agreement``: the temperature that brings the model nearest to its base model on the
          questions where both predict the same choice (DACA, Luo et al. 2025); no labels.
    scores : array_like, shape (n, K)
        Log-domain scores, NaN where a choice does not exist.
    gold : array_like, shape (n,), optional
        Index of the right choice; for methods that need labels.
    base : array_like, shape (n, K), optional
        Probabilities of the base model, for ``agreement``.

    Returns
    -------
    Recalibrator

    Raises
    ------
    ValueError
        If the method is unknown, what it needs is not given, or a row cannot be used.

    Examples
    --------
    >>> import numpy as np
    >>> fitted = fit_recalibrator("temperature", np.log([[0.8, 0.2]] * 3), [0, 0, 1])
    >>> round(fitted.params["temperature"], 3), fitted.apply(np.log([[0.8, 0.2]])).round(3).tolist()
    (2.0, [[0.667, 0.333]])
    """
    check_choice_of("method", method, RECALIBRATORS)
    needs = RECALIBRATORS[method].needs
    if needs == "gold" and gold is None:
        raise ValueError(f"gold must be given for method {method!r}; got None.")
    if needs == "base" and base is None:
        raise ValueError(f"base must be given for method {method!r}; got None.")
    fit = RECALIBRATORS[method].fit
    if needs == "gold":
        assert gold is not None
        return Recalibrator(method, fit(*check_scores(scores, gold)))
    s = as_floats("scores", scores, ndim=2)
    return Recalibrator(method, fit(s, base) if needs == "base" else fit(s))


def cross_fit(
    method: str,
    scores: npt.ArrayLike,
    gold: npt.ArrayLike,
    *,
    n_folds: int = 5,
    rng: np.random.Generator | int,
    base: npt.ArrayLike | None = None,
) -> tuple[list[Recalibrator], FloatArray]:
    """Return recalibrators and held-out probabilities: no question recalibrates itself.

    Parameters
    ----------
    method, scores, gold, base
        As for `fit_recalibrator`.
    n_folds : int
        Number of folds, from 2 to n.
    rng : numpy.random.Generator or int
        Source of the folds; with the same seed the same as in `cross_fit_temperature`.

    Returns
    -------
    fitted : list of Recalibrator
        The one applied to each fold, fitted on the others.
    probs : ndarray, shape (n, K)
        Held-out probabilities in the order of `scores`.

    Raises
    ------
    ValueError
        As for `fit_recalibrator`, or if there are fewer questions than folds.
    """
    n_folds = check_count("n_folds", n_folds, least=2)
    s, g = check_scores(scores, gold)
    if len(s) < n_folds:
        raise ValueError(f"scores must have at least n_folds={n_folds} rows; got {len(s)}.")
    fold, probs, fitted = folds(len(s), n_folds, rng), np.empty_like(s), []
    of_base = None if base is None else as_floats("base", base, ndim=2)
    for k in range(n_folds):
        out = fold == k
        beside = None if of_base is None else of_base[~out]
        fitted.append(fit_recalibrator(method, s[~out], g[~out], base=beside))
        probs[out] = fitted[-1].apply(s[out])
    return fitted, probs


def _fit_temperature(scores: FloatArray, gold: IntArray) -> Params:
    return {"temperature": fit_temperature(scores, gold)}


def _fit_agreement(scores: FloatArray, base: npt.ArrayLike) -> Params:
    of_base = as_floats("base", base, ndim=2)
    if of_base.shape != scores.shape:
        raise ValueError(f"base must have the shape {scores.shape} of scores; got {of_base.shape}.")
    usable = np.isfinite(scores).any(axis=1) & ~np.isnan(of_base).all(axis=1)
    scores, of_base = scores[usable], of_base[usable]
    agree = np.nanargmax(scores, axis=1) == np.nanargmax(of_base, axis=1)
    if not agree.any():
        raise ValueError("base must predict the same choice as scores in at least one question.")
    return {"temperature": fit_temperature_to(scores[agree], of_base[agree])}


def _apply_temperature(scores: FloatArray, params: Params) -> FloatArray:
    return apply_temperature(scores, params["temperature"])


def _fit_batch(scores: FloatArray) -> Params:
    probs = softmax_scores(scores)
    n = (~np.isnan(probs)).sum(axis=0)
    mean = np.nansum(probs, axis=0) / np.maximum(n, 1)
    return {"mean": np.maximum(mean, _FLOOR).tolist()}


def _apply_batch(scores: FloatArray, params: Params) -> FloatArray:
    return softmax_scores(scores - np.log(_per_position(params["mean"], scores)))


def _per_position(values: list[float], scores: FloatArray) -> FloatArray:
    """Return what was fitted for each position of these scores."""
    width = scores.shape[1]
    if not np.isnan(scores[:, len(values) :]).all():
        raise ValueError(
            f"scores must have at most {len(values)} choices, on which the recalibrator was "
            f"fitted; got {width}."
        )
    padded = np.ones(max(width, len(values)))
    padded[: len(values)] = values
    return padded[:width]


def _fit_letter(scores: FloatArray, gold: IntArray) -> Params:
    """Fit 1/T and a bias for each position by maximum likelihood with a ridge on the biases."""
    s, present, g = _finite(scores, gold)
    k = s.shape[1]

    def loss(theta: FloatArray) -> tuple[float, FloatArray]:
        logits = np.where(present, theta[0] * s + theta[1:], -np.inf)
        value, residual = _log_loss(logits, g)
        slopes = np.append((residual * s).sum(), residual.sum(axis=0) + 2 * _RIDGE * theta[1:])
        return value + _RIDGE * float((theta[1:] ** 2).sum()), slopes

    bounds = [(SMALLEST_INVERSE, LARGEST_INVERSE)] + [(None, None)] * k
    theta = _least(loss, np.append(1.0, np.zeros(k)), bounds)
    return {"temperature": float(1 / theta[0]), "bias": theta[1:].tolist()}


def _apply_letter(scores: FloatArray, params: Params) -> FloatArray:
    bias = _per_position(params["bias"], scores)
    return softmax_scores(scores / params["temperature"] + bias)


def _fit_vector(scores: FloatArray, gold: IntArray) -> Params:
    """Fit a slope and a bias for each position, with a ridge on both."""
    s, present, g = _finite(_log_probs(scores), gold)
    k = s.shape[1]

    def loss(theta: FloatArray) -> tuple[float, FloatArray]:
        slope, bias = theta[:k], theta[k:]
        value, residual = _log_loss(np.where(present, slope * s + bias, -np.inf), g)
        toward = np.append(slope - 1.0, bias)
        slopes = np.append((residual * s).sum(axis=0), residual.sum(axis=0))
        return value + _RIDGE * float((toward**2).sum()), slopes + 2 * _RIDGE * toward

    bounds = [(SMALLEST_INVERSE, LARGEST_INVERSE)] * k + [(None, None)] * k
    theta = _least(loss, np.append(np.ones(k), np.zeros(k)), bounds)
    return {"slope": theta[:k].tolist(), "bias": theta[k:].tolist()}


def _apply_vector(scores: FloatArray, params: Params) -> FloatArray:
    slope, bias = (_per_position(params[name], scores) for name in ("slope", "bias"))
    return softmax_scores(slope * _log_probs(scores) + bias)


def _log_probs(scores: FloatArray) -> FloatArray:
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(softmax_scores(scores)))


def _finite(scores: FloatArray, gold: IntArray) -> tuple[FloatArray, Any, IntArray]:
    """Return rows whose gold is possible, impossible choices as 0, and which are possible."""
    kept = np.isfinite(scores[np.arange(len(scores)), gold])
    if not kept.any():
        raise ValueError("scores must be finite at gold in at least one row; all are -inf.")
    s = scores[kept]
    present = np.isfinite(s)
    return np.where(present, s, 0.0), present, gold[kept]


def _log_loss(logits: FloatArray, gold: IntArray) -> tuple[float, FloatArray]:
    """Return the sum of log losses and its derivative by the logits, (n, K)."""
    logits = logits - logits.max(axis=1, keepdims=True)
    weights = np.exp(logits)
    total = weights.sum(axis=1, keepdims=True)
    rows = np.arange(len(gold))
    value = float((np.log(total[:, 0]) - logits[rows, gold]).sum())
    residual = weights / total
    residual[rows, gold] -= 1.0
    return value, residual


def _least(loss: Callable[..., Any], start: FloatArray, bounds: list[Any]) -> FloatArray:
    found = optimize.minimize(
        loss,
        start,
        jac=True,
        bounds=bounds,
        method="L-BFGS-B",
        options={"maxiter": 1000, "ftol": 1e-12, "gtol": 1e-8},
    )
    return np.asarray(found.x)


def _fit_isotonic(scores: FloatArray, gold: IntArray) -> Params:
    """Fit one monotone step map of every probability to how often it came true."""
    probs = softmax_scores(scores)
    exists = ~np.isnan(probs)
    x, y = probs[exists], (np.arange(probs.shape[1]) == gold[:, None])[exists].astype(float)
    at, fitted = isotonic_fit(x, y)
    return {"probability": at.tolist(), "frequency": fitted.tolist()}


def isotonic_fit(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the distinct values of x and the monotone least-squares fit of y at them."""
    at, place, size = np.unique(x, return_inverse=True, return_counts=True)
    return at, isotonic_at(place, size, y)


def isotonic_at(place: IntArray, size: IntArray, y: FloatArray) -> FloatArray:
    """Return the fit of `isotonic_fit` given the number of each x's value, and of how many each."""
    means = np.bincount(place, weights=y) / size
    return np.asarray(optimize.isotonic_regression(means, weights=size.astype(np.float64)).x)


def _apply_isotonic(scores: FloatArray, params: Params) -> FloatArray:
    probs = softmax_scores(scores)
    mapped = np.interp(probs, params["probability"], params["frequency"])
    mapped = np.maximum(mapped, _FLOOR)  # NaN stays NaN
    return np.asarray(mapped / np.nansum(mapped, axis=1, keepdims=True))


RECALIBRATORS: dict[str, RecalibrationMethod] = {
    "temperature": RecalibrationMethod(
        "gold", "softmax(s / T)", ("temperature",), _fit_temperature, _apply_temperature
    ),
    "letter": RecalibrationMethod(
        "gold",
        "softmax(s / T + b_k), a bias for each position",
        ("temperature", "bias"),
        _fit_letter,
        _apply_letter,
    ),
    "vector": RecalibrationMethod(
        "gold",
        "softmax(w_k log p_k + b_k), a slope and a bias for each position",
        ("slope", "bias"),
        _fit_vector,
        _apply_vector,
    ),
    "isotonic": RecalibrationMethod(
        "gold",
        "one monotone map of all probabilities",
        ("probability", "frequency"),
        _fit_isotonic,
        _apply_isotonic,
    ),
    "batch": RecalibrationMethod(
        "", "p_k / mean p_k over the questions; no labels", ("mean",), _fit_batch, _apply_batch
    ),
    "agreement": RecalibrationMethod(
        "base",
        "temperature that fits the base model where both agree; no labels",
        ("temperature",),
        _fit_agreement,
        _apply_temperature,
    ),
}
