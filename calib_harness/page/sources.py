"""What a page is made from: logs, who belongs to whom, and what is known about every run."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from calib_harness.analysis.matching import Models
from calib_harness.analysis.pairs_file import read_chain, read_pairs
from calib_harness.errors import UserError
from calib_harness.predictions.foreign.table_form import CONFIDENCE
from calib_harness.predictions.headers import Log
from calib_harness.predictions.load import PredictionStream
from calib_harness.predictions.table import DEFAULT_REVISIONS, Predictions
from calib_harness.waiting import shown

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Place:
    """Where a model stands among its relatives.

    Attributes
    ----------
    family, stage : str
        Empty if unknown.
    step : float or None
        Training step.
    """

    family: str = ""
    stage: str = ""
    step: float | None = None


@dataclass(frozen=True)
class Sources:
    """Everything that was read.

    Attributes
    ----------
    predictions : list of Predictions
    logs : dict of str to Log
        By the path or URL of the sample log.
    pairs : DataFrame or None
        Columns ``family``, ``base``, ``aligned``, as they were given.
    chains : DataFrame or None
        Columns ``family``, ``model``, ``stage``, ``position``, as they were given.
    places : dict of str to Place
        By model label.
    """

    predictions: list[Predictions]
    logs: dict[str, Log]
    pairs: pd.DataFrame | None
    chains: pd.DataFrame | None
    places: dict[str, Place] = field(default_factory=dict)


def read_sources(
    logs: str | Path | Sequence[str | Path],
    pairs: Path | None = None,
    chain: Path | None = None,
    **reading: Any,
) -> Sources:
    """Read logs and, from `pairs`, `chain` or a sweep's own tables, who belongs to whom.

    Raises
    ------
    UserError
        As ``load_predictions``, or if `pairs` or `chain` cannot be read.
    """
    folders = [logs] if isinstance(logs, (str, Path)) else list(logs)
    stream = PredictionStream(folders, **reading)
    given_pairs = read_pairs(pairs) if pairs is not None else _tables(folders, "pairs")
    given_chains = _chains(chain, folders)
    reader = stream.find()
    predictions = _with_scores(shown(stream.read(reader), "Reading", "runs"))
    places = _places(Models(predictions), given_pairs, given_chains)
    places.update(_places_of_sweep(_tables(folders, "metrics")))
    return Sources(
        predictions,
        {log.header.source: log for log in reader.logs},
        given_pairs,
        given_chains,
        places,
    )


def _with_scores(found: Iterable[Predictions]) -> list[Predictions]:
    """Leave out runs of which only confidences are known: most of the page needs every choice."""
    runs = list(found)
    known = [run for run in runs if run.header.method != CONFIDENCE]
    if len(known) < len(runs):
        said = (
            f"{len(runs) - len(known)} run(s) hold confidence and correctness only, and the page "
            "needs the scores or probabilities of the choices; `metrics` measures them"
        )
        if not known:
            raise UserError(f"there is nothing for the page: {said}.")
        logger.warning("%s; they are left out", said)
    return known


def _tables(folders: Sequence[str | Path], name: str) -> pd.DataFrame | None:
    """Read a table that a sweep left in ``tables`` under its output, if it did."""
    found = [Path(folder) / "tables" / f"{name}.csv" for folder in folders]
    frames = []
    for path in found:
        if not path.is_file():
            continue
        try:
            frames.append(pd.read_csv(path))
        except (OSError, ValueError) as error:
            raise UserError(
                f"{path} of the sweep cannot be read ({error}); run the sweep again to rewrite "
                "its tables, or delete the file."
            ) from error
    return pd.concat(frames, ignore_index=True) if frames else None


def _chains(chain: Path | None, folders: Sequence[str | Path]) -> pd.DataFrame | None:
    if chain is not None:
        return read_chain(chain)
    frame = _tables(folders, "chain")
    return None if frame is None else read_chain(frame)


def _places(
    models: Models, pairs: pd.DataFrame | None, chains: pd.DataFrame | None
) -> dict[str, Place]:
    places: dict[str, Place] = {}
    if pairs is not None:
        for family, base, aligned in pairs[["family", "base", "aligned"]].itertuples(index=False):
            for name, stage in ((base, "base"), (aligned, "aligned")):
                label = models.find(str(name))
                if label is not None:
                    places.setdefault(label, Place(str(family), stage))
    if chains is not None:
        for row in chains.itertuples(index=False):
            label = models.find(str(row.model))
            if label is not None:
                places[label] = Place(str(row.family), str(row.stage), _number(row.stage))
    return places


def _places_of_sweep(metrics: pd.DataFrame | None) -> dict[str, Place]:
    if metrics is None or not {"model", "family", "stage"} <= set(metrics.columns):
        return {}
    places = {}
    for row in metrics.drop_duplicates(["model", "revision"]).to_dict("records"):
        known = {str(key): value for key, value in row.items() if not pd.isna(value)}
        model, revision = str(known["model"]), known.get("revision")
        step = known.get("step")
        places[model if revision in DEFAULT_REVISIONS else f"{model}@{revision}"] = Place(
            str(known.get("family", "")),
            str(known.get("stage", "")),
            None if step is None else float(step),
        )
    return {label: place for label, place in places.items() if place != Place()}


def _number(stage: object) -> float | None:
    try:
        return float(str(stage))
    except ValueError:
        return None
