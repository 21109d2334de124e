"""Answering only where it is safe to: accuracy against coverage, and sets of choices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calib_harness.core.accuracy import risks
from calib_harness.core.answers import Answers, Choices
from calib_harness.core.checks import (
    BoolArray,
    FloatArray,
    IntArray,
    check_choice_of,
    check_count,
    check_fraction,
)
from calib_harness.core.recalibration import folds

CONFORMAL_SCORES = ("lac", "aps")


def accuracy_at_coverage(probs: npt.ArrayLike, gold: npt.ArrayLike, coverage: float) -> float:
    """Return the accuracy of the most confident share of answers.

    Among equal confidences it is the mean over all orders, as in `aurc`.

    Parameters
    ----------
    probs : array_like, shape (n, K)
        Probabilities of the choices, NaN where a choice does not exist.
    gold : array_like, shape (n,)
        Index of the right choice.
    coverage : float
        The share, above 0 and at most 1; the number of answers is rounded up.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If the coverage lies outside (0, 1], or a row is no distribution or has no gold choice.

    Examples
    --------
    >>> accuracy_at_coverage([[0.9, 0.1], [0.6, 0.4], [0.7, 0.3]], [0, 1, 1], 0.5)
    0.5
    """
    if coverage != 1:
        check_fraction("coverage", coverage)
    answers = Answers.of(probs, gold)
    kept = int(np.ceil(coverage * len(answers) - 1e-9))
    return 1.0 - float(risks(answers.confidence, answers.correct)[kept - 1])


def coverage_at_accuracy(probs: npt.ArrayLike, gold: npt.ArrayLike, accuracy: float) -> float:
    """Return the largest share of the most confident answers that reaches an accuracy.

    Arguments as for `accuracy_at_coverage`; 0 if no share does. Answers of equal confidence are
    all taken or all left: a threshold cannot tell them apart.

    Examples
    --------
    >>> coverage_at_accuracy([[0.9, 0.1], [0.6, 0.4], [0.7, 0.3]], [0, 1, 0], 0.9)
    0.6666666666666666
    """
    check_fraction("accuracy", accuracy)
    answers = Answers.of(probs, gold)
    order = np.argsort(-answers.confidence, kind="stable")
    ordered = answers.confidence[order]
    reached = np.cumsum(answers.correct[order]) / np.arange(1, len(answers) + 1)
    whole = np.append(ordered[1:] != ordered[:-1], True)
    enough = np.flatnonzero(whole & (reached >= accuracy - 1e-12))
    return float(enough[-1] + 1) / len(answers) if enough.size else 0.0


@dataclass(frozen=True, eq=False)
class ConformalSets:
    """Sets of choices that hold gold with a probability of at least `level`.

    Attributes
    ----------
    sets : ndarray of bool, shape (n, K)
        Which choices each question's set holds.
    coverage : float
        Share of questions whose set holds gold.
    size : float
        Mean number of choices in a set.
    """

    sets: BoolArray
    coverage: float
    size: float


def conformal_sets(
    probs: npt.ArrayLike,
    gold: npt.ArrayLike,
    *,
    score: str = "lac",
    level: float = 0.9,
    n_folds: int = 5,
    rng: np.random.Generator | int = 0,
) -> ConformalSets:
    """Return split-conformal sets, each question's threshold from the other folds.

    Parameters
    ----------
    probs : array_like, shape (n, K)
        Probabilities of the choices, NaN where a choice does not exist.
    gold : array_like, shape (n,)
        Index of the right choice.
    score : {"lac", "aps"}
        ``lac``: 1 - p of a choice (Sadinle et al. 2019; the smallest sets). ``aps``: the
        probability of a choice and all likelier ones, a random share of its own taken off
        (Romano et al. 2020; sets that grow with how hard a question is).
    level : float
        Probability that a set holds gold, for exchangeable questions: with folds it is reached
        on average, up to 1 / (questions of the other folds + 1).
    n_folds : int
        Number of folds, from 2 to n.
    rng : numpy.random.Generator or int
        Source of the folds and of the random shares.

    Returns
    -------
    ConformalSets

    Raises
    ------
    ValueError
        If an option is unknown, a row cannot be used, or there are fewer questions than folds.

    Examples
    --------
    >>> found = conformal_sets([[0.6, 0.4]] * 50, [0] * 40 + [1] * 10, level=0.7)
    >>> found.coverage, found.size
    (0.8, 1.0)
    """
    check_choice_of("score", score, CONFORMAL_SCORES)
    check_fraction("level", level)
    check_count("n_folds", n_folds, least=2)
    answers = Answers.of(probs, gold)
    n = len(answers)
    if n < n_folds:
        raise ValueError(f"probs must have at least n_folds={n_folds} rows; got {n}.")
    generator = np.random.default_rng(rng)
    strange = _strangeness(answers, score, generator)
    fold, sets = folds(n, n_folds, generator), np.zeros(answers.probs.shape, dtype=bool)
    at_gold = strange[np.arange(n), answers.gold]
    for k in range(n_folds):
        out = fold == k
        sets[out] = strange[out] <= _threshold(at_gold[~out], level)
    holds = sets[np.arange(n), answers.gold]
    return ConformalSets(sets, float(holds.mean()), float(sets.sum(axis=1).mean()))


def _threshold(scores: FloatArray, level: float) -> float:
    """Return the ⌈(m + 1) level⌉-th smallest of m scores; infinity where there is none."""
    rank = int(np.ceil((scores.size + 1) * level - 1e-9))
    return float(np.sort(scores)[rank - 1]) if rank <= scores.size else np.inf


def _strangeness(choices: Choices, score: str, generator: np.random.Generator) -> FloatArray:
    """Return the score of every choice, shape (n, K): larger ones are stranger; NaN if absent."""
    probs = choices.probs
    if score == "lac":
        return np.asarray(1.0 - probs)
    order: IntArray = np.argsort(-np.nan_to_num(probs, nan=-1.0), axis=1, kind="stable")
    ordered = np.take_along_axis(probs, order, axis=1)
    up_to = np.nancumsum(ordered, axis=1) - generator.random((len(choices), 1)) * ordered
    strange = np.empty_like(probs)
    np.put_along_axis(strange, order, up_to, axis=1)
    return strange
