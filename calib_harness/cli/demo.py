"""`demo`: the whole pipeline on two embedded models."""

from __future__ import annotations

from typing import Annotated

import typer


def demo(
    limit: Annotated[int, typer.Option(min=2, help="Questions per task, of 2,400.")] = 200,
) -> None:
    """Evaluate two embedded models, one calibrated and one not; no network is needed.

    Example: calib-harness demo --limit 300
    """
    import logging

    from rich.console import Console

    from calib_harness.demo import print_demo, run_demo

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    print_demo(run_demo(limit), Console())
