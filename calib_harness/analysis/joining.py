"""Put several runs on the same questions, in the same order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from calib_harness.predictions.table import Bools, Floats, Ints, Predictions


@dataclass(frozen=True)
class SharedQuestions:
    """Several runs on the questions that all of them have and can use.

    Attributes
    ----------
    probs : tuple of ndarray, each of shape (n, K_max)
        One per run, questions in the order of the first.
    gold : ndarray, shape (n,)
    doc_hash : ndarray of str objects, shape (n,)
    only : tuple of int
        For each run, how many of its questions some other run lacks.
    only_named : tuple of tuple of int
        For each run, ``doc_id`` of the first few of those.
    n_unusable : int
        Shared questions that some run cannot use (no finite scores, no gold).
    n_changed : int
        Shared questions whose choices differ in number or whose gold differs.
    """

    probs: tuple[Floats, ...]
    gold: Ints
    doc_hash: np.ndarray
    only: tuple[int, ...]
    only_named: tuple[tuple[int, ...], ...]
    n_unusable: int
    n_changed: int

    def __len__(self) -> int:
        return len(self.gold)


def shared_questions(runs: Sequence[Predictions]) -> SharedQuestions:
    """Join runs on ``doc_hash``; a question that occurs twice is joined by its occurrence.

    Parameters
    ----------
    runs : sequence of Predictions
        Of one task and method.
    """
    aligned, left = _aligned(runs)
    width = max(run.scores.shape[1] for run in aligned)
    usable = np.logical_and.reduce([run.usable for run in aligned])
    same = np.ones(len(usable), dtype=bool)
    for run in aligned[1:]:
        same &= run.gold == aligned[0].gold
        same &= _n_choices(run) == _n_choices(aligned[0])
    keep = usable & same
    return SharedQuestions(
        probs=tuple(_widen(run.probs[keep], width) for run in aligned),
        gold=aligned[0].gold[keep],
        doc_hash=aligned[0].doc_hash[keep],
        only=tuple(int(mask.sum()) for mask in left),
        only_named=tuple(
            tuple(int(i) for i in run.doc_id[mask][:5])
            for run, mask in zip(runs, left, strict=True)
        ),
        n_unusable=int((~usable).sum()),
        n_changed=int((usable & ~same).sum()),
    )


def on_shared_questions(runs: Sequence[Predictions]) -> list[Predictions]:
    """Return the runs on the questions that all of them have, in the order of the first."""
    return _aligned(runs)[0]


def _aligned(runs: Sequence[Predictions]) -> tuple[list[Predictions], list[Bools]]:
    """Return the runs on the questions that all have, in the order of the first, and what is left.

    The latter is a mask over the questions of each run.
    """
    first = runs[0].doc_hash
    if all(np.array_equal(first, run.doc_hash) for run in runs[1:]):  # nearly always
        return list(runs), [np.zeros(len(run), dtype=bool) for run in runs]
    rows = _common_rows(runs)
    left = [~np.isin(np.arange(len(run)), row) for run, row in zip(runs, rows, strict=True)]
    return [run.take(row) for run, row in zip(runs, rows, strict=True)], left


def _common_rows(runs: Sequence[Predictions]) -> list[Ints]:
    """Return where each run has the questions that all have, in the order of the first."""
    keys = [_keys(run) for run in runs]
    common = keys[0]
    for other in keys[1:]:
        common = common[common.isin(other)]
    return [np.asarray(key.get_indexer(common)) for key in keys]


def _keys(run: Predictions) -> pd.MultiIndex:
    """Hash and occurrence: datasets do hold the same question twice."""
    hashes = pd.Series(run.doc_hash, dtype=object)
    return pd.MultiIndex.from_arrays([hashes, hashes.groupby(hashes, sort=False).cumcount()])


def _n_choices(run: Predictions) -> Ints:
    return np.asarray((~np.isnan(run.scores)).sum(axis=1))


def _widen(probs: Floats, width: int) -> Floats:
    if probs.shape[1] == width:
        return probs
    return np.pad(probs, ((0, 0), (0, width - probs.shape[1])), constant_values=np.nan)
