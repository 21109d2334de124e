"""Models by the names people use for them, and which of their runs can be compared."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from calib_harness.errors import UserError
from calib_harness.predictions.foreign.table_form import CONFIDENCE
from calib_harness.predictions.gold import joint_check
from calib_harness.predictions.table import Predictions
from calib_harness.text import nearest

logger = logging.getLogger(__name__)


#: What names the rows of runs that are compared, and the runs, the base first.
Match: TypeAlias = tuple[dict[str, Any], tuple[Predictions, ...]]


class Models:
    """The models among some predictions, found by the names people use for them."""

    def __init__(self, predictions: Iterable[Predictions]) -> None:
        self._by_label: dict[str, list[Predictions]] = defaultdict(list)
        for p in predictions:
            self._by_label[p.header.label].append(p)

    @property
    def labels(self) -> list[str]:
        """All models, as ``name`` or ``name@revision``."""
        return sorted(self._by_label)

    def find(self, name: str) -> str | None:
        """Return the label meant by `name`: the full one, its last part, or its folder's name.

        Raises
        ------
        UserError
            If several models answer to the name.
        """
        if name in self._by_label:
            return name
        wanted = name.replace("__", "/").strip("/")
        found = [label for label in self._by_label if label.strip("/") == wanted]
        if not found:
            found = [label for label in self._by_label if label.rpartition("/")[2] == wanted]
        if not found:  # the only revision that was run needs no naming
            found = [label for label in self._by_label if _plain(label) in (name, wanted)]
        if len(found) > 1:
            raise UserError(f"model {name!r} may be {' or '.join(sorted(found))}: name it in full.")
        return found[0] if found else None

    def of(self, label: str) -> list[Predictions]:
        """All predictions of a model."""
        return self._by_label[label]

    def unknown(self, name: str) -> str:
        """Sentence saying that there is no such model, and which there are."""
        close = nearest(name, self.labels, n=3, cutoff=0.4)
        offer = f"closest: {', '.join(close)}" if close else f"there are {_some(self.labels)}"
        return f"no log of model {name!r} ({offer})"


def _plain(label: str) -> str:
    return label.partition("@")[0]


def _some(names: list[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def match_pair(models: Models, family: str, base: str, aligned: str) -> list[Match]:
    """Return the comparable runs of a pair; a warning says why there are none."""
    labels = []
    for name in (base, aligned):
        label = models.find(name)
        if label is None:
            why = models.unknown(name)
            logger.warning("pair %s / %s was left out: %s", base, aligned, why)
            return []
        labels.append(label)
    if labels[0] == labels[1]:
        logger.warning("pair %s / %s was left out: both are the model %s", base, aligned, labels[0])
        return []
    names: dict[str, Any] = {"family": family, "base": labels[0], "aligned": labels[1]}
    matched: list[Match] = [
        (names | shared_settings(runs), runs)
        for runs in match_runs([models.of(label) for label in labels])
    ]
    if not matched:
        logger.warning("%s and %s have no task and method in common", *labels)
    return matched


def _with_scores(runs: Sequence[Predictions]) -> list[Predictions]:
    """Leave out runs of which only confidences are known: losses and SCE need every choice."""
    known = [run for run in runs if run.header.method != CONFIDENCE]
    if len(known) < len(runs):
        logger.warning(
            "%s: %d run(s) hold confidence and correctness only and are not compared; give the "
            "choices' scores or probabilities",
            runs[0].header.label,
            len(runs) - len(known),
        )
    return known


def match_runs(groups: Sequence[Sequence[Predictions]]) -> list[tuple[Predictions, ...]]:
    """Put together the runs of several models that can be compared.

    Runs match if task, method, shots, chat template and other settings agree. Where no settings
    agree, runs are matched that are the only ones of their model with their number of shots, or
    the only ones at all, and a warning says what differs: base models are often run without
    the chat template that the aligned ones need. What is left without a partner is named.

    Parameters
    ----------
    groups : sequence of sequences of Predictions
        The predictions of each model.

    Returns
    -------
    list of tuples of Predictions
        One tuple per comparable set, in the models' order.
    """
    tables = [_by_task(_with_scores(group)) for group in groups]
    models = [group[0].header.label for group in groups]
    matched = []
    alone: dict[str, list[str]] = defaultdict(list)
    for key in dict.fromkeys(key for table in tables for key in table):
        candidates = [table.get(key, {}) for table in tables]
        if not all(candidates):
            lacking = [m for m, runs in zip(models, candidates, strict=True) if not runs]
            alone[" and ".join(lacking)].append(f"{key[0]} ({key[1]})")
            continue
        found = _match_settings(candidates)
        for runs in found:
            _warn_about_settings(runs)
        _report_unmatched(f"{key[0]} ({key[1]})", models, candidates, len(found))
        matched += found
    for absent, keys in alone.items():
        logger.warning(
            "%s: not compared between %s, as there is no log of %s",
            _some(keys),
            " and ".join(models),
            absent,
        )
    return matched


_Settings: TypeAlias = tuple[int | None, bool | None, str]  # shots, chat template, others


def _by_task(group: Sequence[Predictions]) -> dict[tuple[str, str], dict[_Settings, Predictions]]:
    """Return a model's newest run of each task, method and settings."""
    table: dict[tuple[str, str], dict[_Settings, Predictions]] = defaultdict(dict)
    for p in sorted(group, key=lambda p: p.header.date):
        h = p.header
        table[h.task, h.method][h.n_shot, h.chat_template, h.settings] = p
    return table


def _match_settings(
    candidates: Sequence[dict[_Settings, Predictions]],
) -> list[tuple[Predictions, ...]]:
    """Match the runs of one task and method: by all settings, by shots, or the only ones."""
    first, *others = candidates
    common = [setting for setting in first if all(setting in other for other in others)]
    if common:
        return [tuple(runs[setting] for runs in candidates) for setting in common]
    if all(len(runs) == 1 for runs in candidates):
        return [tuple(run for runs in candidates for run in runs.values())]
    by_shots = [_only_of_their_shots(runs) for runs in candidates]
    return [
        tuple(runs[shots] for runs in by_shots)
        for shots in by_shots[0]
        if all(shots in runs for runs in by_shots)
    ]


def _only_of_their_shots(runs: dict[_Settings, Predictions]) -> dict[int | None, Predictions]:
    shots = [setting[0] for setting in runs]
    return {setting[0]: run for setting, run in runs.items() if shots.count(setting[0]) == 1}


def _report_unmatched(
    title: str, models: Sequence[str], candidates: Sequence[dict[_Settings, Predictions]], n: int
) -> None:
    if n == 0:
        logger.warning(
            "%s: no runs of %s with the same prompt settings; they are not compared",
            title,
            " and ".join(models),
        )
        return
    left = [f"{len(c) - n} of {m}" for m, c in zip(models, candidates, strict=True) if len(c) > n]
    if left:
        logger.info(
            "%s: %s have no partner with the same prompt settings and are not compared",
            title,
            " and ".join(left),
        )


def _warn_about_settings(chosen: tuple[Predictions, ...]) -> None:
    headers = [p.header for p in chosen]
    for name in ("n_shot", "chat_template", "settings", "task_version"):
        values = [getattr(header, name) for header in headers]
        if len(set(values)) > 1:
            logger.warning(
                "%s: %s differ in %s (%s); they are compared all the same",
                headers[0].task,
                " and ".join(header.label for header in headers),
                name,
                " and ".join(repr(value) for value in values),
            )


def shared_settings(runs: Sequence[Predictions]) -> dict[str, object]:
    """Return the columns that tell apart the rows of runs that were matched, and ``gold``.

    Shots and chat template are None where the runs differ in them.
    """
    h = runs[0].header
    shared: dict[str, object] = {"task": h.task, "method": h.method}
    for name in ("n_shot", "chat_template"):
        values = {getattr(run.header, name) for run in runs}
        shared[name] = getattr(h, name) if len(values) == 1 else None
    shared["gold"] = joint_check(run.header.gold for run in runs)
    return shared
