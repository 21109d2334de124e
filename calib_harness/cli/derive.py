"""`derive`: calibration tasks of lm-eval's own tasks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from calib_harness.errors import UserError


def derive(
    tasks: Annotated[
        list[str], typer.Argument(help="Tasks, groups, tags or patterns, as lm-eval takes them.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the YAMLs.")],
    prompt: Annotated[
        str, typer.Option(help="stock, cloze, choice, or both (a group of the last two).")
    ] = "stock",
    pool: Annotated[
        bool, typer.Option("--pool", help="Of groups: one task over all questions, too.")
    ] = False,
    metadata: Annotated[
        str | None, typer.Option(help='JSON for every YAML, e.g. \'{"orders": "cyclic"}\'.')
    ] = None,
) -> None:
    """Make calibration tasks of lm-eval's own multiple-choice tasks.

    Each becomes NAME_calib, a YAML of three lines; groups become groups. No data
    is loaded: what the data must decide is checked when a task is run, before
    anything is scored. A YAML that is there and says something else is kept.

    For example:

      calib-harness derive winogrande 'truthfulqa*' -o mine
      calib-harness derive mmlu --pool --prompt both -o both
      lm_eval --tasks winogrande_calib --include_path mine ...
    """
    from rich.console import Console

    from calib_harness.derived_names import PROMPTS
    from calib_harness.harness.derive import derive as write

    if prompt not in PROMPTS:
        raise UserError(f"--prompt must be one of {', '.join(PROMPTS)}; got {prompt!r}")
    result = write(tasks, output, prompt=prompt, pool=pool, metadata=_json(metadata))
    console = Console(soft_wrap=True, highlight=False)
    made = sum(map(len, result.tasks.values()))
    console.print(
        f"{made} tasks of {len(result.tasks)} stock tasks, {len(result.refused)} not made, "
        f"{len(result.written) - made} groups and pooled tasks: {output}"
    )
    reasons: dict[str, list[str]] = {}
    for name, reason in result.refused.items():
        reasons.setdefault(reason, []).append(name)
    for reason, names in reasons.items():
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        console.print(f"not made: {', '.join(names[:3])}{more}: {reason}", markup=False)
    if not result.tasks:
        raise UserError("none of these can become a calibration task; nothing was written")


def _json(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"--metadata must be JSON; got {text!r} ({error})") from None
    if not isinstance(value, dict):
        raise UserError(f"--metadata must be a JSON object; got {text!r}")
    return value
