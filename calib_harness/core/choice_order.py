"""One question under several orders of its choices: what is of the letter, what of the content.

An *order* says which choice stands behind each letter. Log-probabilities come as (orders, letters)
for one question, `shown` of the same shape says which choice each letter stood for.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from calib_harness.core.checks import FloatArray, IntArray


def letter_probs(logprobs: npt.ArrayLike) -> FloatArray:
    """Return the probabilities of the letters under each order, made to add up to 1.

    Parameters
    ----------
    logprobs : array_like, shape (..., R, K)
        Log-probability of each letter under each order; -inf is probability 0.

    Returns
    -------
    ndarray, shape (..., R, K)
        NaN for an order with a NaN, or without any finite log-probability.
    """
    values = np.asarray(logprobs, dtype=np.float64)
    top = values.max(axis=-1, keepdims=True, initial=-np.inf)
    safe = np.where(np.isfinite(top), top, np.nan)
    weights = np.exp(values - safe)
    probs: FloatArray = weights / weights.sum(axis=-1, keepdims=True)
    return probs


def by_content(values: npt.ArrayLike, shown: npt.ArrayLike) -> FloatArray:
    """Sort what is known of letters by the choice that each stood for.

    Parameters
    ----------
    values, shown : array_like, shape (R, K)
        One value per letter and order, and the index of the choice it stood for.

    Returns
    -------
    ndarray, shape (R, K)
        Column k holds the values of choice k.

    Examples
    --------
    >>> by_content([[0.7, 0.3], [0.6, 0.4]], [[0, 1], [1, 0]]).tolist()
    [[0.7, 0.3], [0.4, 0.6]]
    """
    return np.take_along_axis(
        np.asarray(values, dtype=np.float64), np.argsort(np.asarray(shown), axis=-1), axis=-1
    )


def permuted_probs(logprobs: npt.ArrayLike, shown: npt.ArrayLike) -> FloatArray:
    """Return a question's probabilities averaged over the orders of its choices.

    Each order's probabilities are mapped back to the choices, then averaged (the permutation
    baseline of Zheng et al. 2024; Pezeshkpour and Hruschka 2023).

    Parameters
    ----------
    logprobs, shown : array_like, shape (R, K)

    Returns
    -------
    ndarray, shape (K,)
        NaN throughout if an order cannot be used.
    """
    average: FloatArray = by_content(letter_probs(logprobs), shown).mean(axis=-2)
    return average


def letter_effect(logprobs: npt.ArrayLike, shown: npt.ArrayLike) -> FloatArray:
    """Return what one question says of the letters: log prior up to a constant, mean 0.

    The mean over the orders of a letter's log-probability. Where each choice stands behind each
    letter equally often, the choices' parts are the same for all letters and cancel (Zheng et al.
    2024, equation 7).

    Parameters
    ----------
    logprobs, shown : array_like, shape (R, K)

    Returns
    -------
    ndarray, shape (K,)
        NaN throughout if the orders are not balanced in this sense, or a value is not finite.
    """
    values = np.asarray(logprobs, dtype=np.float64)
    if not is_balanced(shown) or not np.isfinite(values).all():
        return np.full(values.shape[-1], np.nan)
    centred = values - values.mean(axis=-1, keepdims=True)
    effect: FloatArray = centred.mean(axis=-2)
    return effect


def is_balanced(shown: npt.ArrayLike) -> bool:
    """Tell whether each choice stands behind each letter equally often, as in cyclic orders.

    Examples
    --------
    >>> is_balanced([[0, 1, 2], [1, 2, 0], [2, 0, 1]]), is_balanced([[0, 1, 2], [2, 1, 0]])
    (True, False)
    """
    orders: IntArray = np.asarray(shown, dtype=np.int64)
    n_orders, n = orders.shape
    counts = np.stack([np.bincount(column, minlength=n) for column in orders.T])
    return bool((counts * n == n_orders).all())


def letter_prior(effects: npt.ArrayLike) -> FloatArray:
    """Return the prior over letters that several questions' effects give.

    Parameters
    ----------
    effects : array_like, shape (n, K)
        One `letter_effect` per question; rows with a NaN are left out.

    Returns
    -------
    ndarray, shape (K,)
        Softmax of the mean; NaN throughout if no row is left.
    """
    values = np.asarray(effects, dtype=np.float64)
    usable = values[~np.isnan(values).any(axis=1)]
    if not len(usable):
        return np.full(values.shape[1], np.nan)
    return letter_probs(usable.mean(axis=0))


def without_prior(logprobs: npt.ArrayLike, prior: npt.ArrayLike) -> FloatArray:
    """Divide a prior over letters out of the probabilities under the given order (PriDe).

    Parameters
    ----------
    logprobs : array_like, shape (..., K)
        Log-probabilities of the letters; letters stand for the choices in order.
    prior : array_like, shape (..., K)

    Returns
    -------
    ndarray, shape (..., K)
        Probabilities of the choices.

    Examples
    --------
    >>> import numpy as np
    >>> without_prior(np.log([0.4, 0.6]), [0.2, 0.8]).round(3).tolist()
    [0.727, 0.273]
    """
    values = np.asarray(logprobs, dtype=np.float64)
    return letter_probs(values - np.log(np.asarray(prior, dtype=np.float64)))


def halves(n: int) -> IntArray:
    """Assign n questions to two halves, fixed by n: each half's prior serves the other.

    A prior that is estimated on a question itself would take part of its answer for bias.
    """
    sides = np.arange(n) % 2
    shuffled: IntArray = np.random.default_rng(0).permutation(sides)
    return shuffled


def prior_free_probs(
    logprobs: npt.ArrayLike, effects: npt.ArrayLike
) -> tuple[FloatArray, FloatArray]:
    """Return the probabilities of questions with K choices each, each freed of the letters' prior.

    Parameters
    ----------
    logprobs : array_like, shape (n, K)
        Log-probabilities of the letters under the order given.
    effects : array_like, shape (n, K)
        One `letter_effect` per question.

    Returns
    -------
    probs : ndarray, shape (n, K)
        A question's prior is estimated on the half of the questions that it is not in (`halves`).
    prior : ndarray, shape (K,)
        The prior that all questions give together.
    """
    values = np.asarray(logprobs, dtype=np.float64)
    per_question = np.asarray(effects, dtype=np.float64)
    side = halves(len(values))
    probs = np.full(values.shape, np.nan)
    for half in (0, 1):
        prior = letter_prior(per_question[side != half])
        probs[side == half] = without_prior(values[side == half], prior)
    return probs, letter_prior(per_question)
