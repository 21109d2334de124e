"""Random questions for Hypothesis and for seeded tests."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st


def _as_table(rows: list[tuple[list[int], int]]) -> tuple[np.ndarray, np.ndarray]:
    probs = np.full((len(rows), max(len(weights) for weights, _ in rows)), np.nan)
    for row, (weights, _) in zip(probs, rows, strict=True):
        row[: len(weights)] = np.array(weights) / sum(weights)
    return probs, np.array([gold for _, gold in rows])


@st.composite
def ragged_questions(draw: st.DrawFn, max_size: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Draw (probs, gold) with 2 to 5 choices, full of ties, zeros and values on bin edges."""
    weights = st.lists(st.integers(0, 10), min_size=2, max_size=5).filter(any)
    question = weights.flatmap(lambda w: st.tuples(st.just(w), st.integers(0, len(w) - 1)))
    return _as_table(draw(st.lists(question, min_size=1, max_size=max_size)))


def random_questions(
    rng: np.random.Generator, n: int, *, ragged: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Make n questions of 3 to 5 (or 4) choices without ties; golds follow the probabilities."""
    sizes = rng.integers(3, 6, size=n) if ragged else np.full(n, 4)
    probs = np.full((n, sizes.max()), np.nan)
    gold = np.empty(n, dtype=int)
    for i, size in enumerate(sizes):
        probs[i, :size] = rng.dirichlet(np.full(size, 0.7))
        gold[i] = rng.choice(size, p=probs[i, :size])
    return probs, gold
