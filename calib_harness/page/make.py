"""From logs to the page."""

from __future__ import annotations

import logging
import platform
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from calib_harness.analysis.metrics_frame import DEFAULT_METRICS, SummaryOptions
from calib_harness.core.checks import check_count
from calib_harness.errors import UserError
from calib_harness.output import make_ready
from calib_harness.page.html import render_page
from calib_harness.page.payload import make_payload
from calib_harness.page.sources import read_sources
from calib_harness.predictions.table import Predictions

logger = logging.getLogger(__name__)

_MANY = 1000  # runs × tasks × methods above which resamples are saved
_RESAMPLED = 600_000_000  # resampled answers of such a page, but for 100 to 200 resamples each
_MANY_ANSWERS = 100_000  # answers above which changes have no more resamples than the rest
_PACKAGES = ("calib-harness", "numpy", "scipy", "pandas")


def make_report(
    logs: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    pairs: Path | None = None,
    chain: Path | None = None,
    metrics: Sequence[str] = DEFAULT_METRICS,
    n_bins: int = 15,
    binning: str = "uniform",
    n_resamples: int | None = None,
    seed: int = 0,
    questions: int | None = None,
    n_jobs: int = 1,
    title: str = "Calibration report",
    command: str = "",
    **reading: Any,
) -> Path:
    """Write the page of some logs.

    Parameters
    ----------
    logs : str, Path or sequence of them
        As for ``load_predictions``; the output folder of a sweep brings its own pairs, chains
        and stages.
    output : str or Path
        The HTML file, its name ending in ``.html`` or ``.htm``.
    pairs, chain : Path, optional
        CSV files as for ``compare`` and ``compare_chain``.
    metrics, n_bins, binning, seed
        As for ``metrics_frame``; the page shows the same numbers.
    n_resamples : int, optional
        Bootstrap resamples of every number and change; 0 leaves errors out. By default 1,000
        (changes: as many as ``compare`` takes, up to 100,000 answers in all); for more than
        1,000 runs × tasks × methods 200, and down to 100 from 3 to 6 million answers.
    questions : int, optional
        Questions of each task whose texts and answers the page carries, the most telling ones;
        0 for none. By default up to 300, fewer of a page of very many runs, and none of a
        benchmark whose authors ask that it not be spread.
    n_jobs : int
        Processes, where there is work for several; the page does not depend on their number. A
        script that asks for more than one needs ``if __name__ == "__main__":``.
    title : str
        Heading of the page.
    command : str
        How to make the page again; shown at its foot.
    **reading
        What to read and how, as for ``load_predictions``.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    UserError
        If an option is wrong, logs or tables cannot be read, or the file cannot be written.
    """
    options = SummaryOptions(
        tuple(metrics), n_bins=n_bins, binning=binning, n_resamples=n_resamples or 0, seed=seed
    )
    if questions is not None:
        check_count("questions", questions, least=0)
    path = make_ready(Path(output), (".html", ".htm"))
    sources = read_sources(logs, pairs, chain, **reading)
    if sources.pairs is not None and n_resamples == 0:
        raise UserError("changes need --resamples of at least 2: leave it or --pairs out.")
    of_changes = n_resamples
    if n_resamples is None:
        options = replace(options, n_resamples=_resamples_for(sources.predictions))
        if sum(map(len, sources.predictions)) > _MANY_ANSWERS:
            of_changes = options.n_resamples
    made: dict[str, Any] = {
        "title": title,
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "command": command,
        "packages": {"python": platform.python_version()}
        | {name: metadata.version(name) for name in _PACKAGES},
    }
    payload = make_payload(
        sources,
        options,
        n_change_resamples=of_changes,
        questions=questions,
        n_jobs=n_jobs,
        made=made,
    )
    page = render_page(payload)
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise UserError(f"-o {path} cannot be written ({error.strerror}).") from error
    return path


def _resamples_for(predictions: Sequence[Predictions]) -> int:
    """Choose the number of resamples; fewer for a page of thousands of entries."""
    if len(predictions) <= _MANY:
        return 1000
    n_resamples = min(max(_RESAMPLED // sum(map(len, predictions)), 100), 200)
    logger.info(
        "%d runs x tasks x methods: errors come from %d resamples instead of 1,000 "
        "(--resamples sets the number)",
        len(predictions),
        n_resamples,
    )
    return n_resamples
