"""`demo`: the whole pipeline on two embedded models."""

from __future__ import annotations

from typing import Annotated

import typer


def demo(
    limit: Annotated[
        int | None, typer.Option(min=2, help="Questions per task; all 2,400 unless given.")
    ] = None,
) -> None:
    """Evaluate two embedded models, one calibrated and one not; no network is needed.

    Example: calib-harness demo --limit 300
    """
    import logging

    import torch
    from rich.console import Console

    from calib_harness.demo import print_demo, run_demo

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    # Models this small only wait for each other on several threads: twice the CPU time.
    torch.set_num_threads(1)
    print_demo(run_demo(limit), Console())
